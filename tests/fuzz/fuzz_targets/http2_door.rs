//! HTTP/2 through the whole proxy: a client and an origin that send any frames end their own connections
//! at most, and the injected secret never reaches the client (SPEC M6, M9).
//!
//! Two bytes are the length of the client's part; the origin's follows it. Both sides of TLS are real.
#![no_main]

#[expect(dead_code, reason = "the engine's tests use the rest")]
#[path = "../../../crates/engine/tests/it"]
mod it {
    pub(crate) mod kit;
    pub(crate) mod interception {
        pub(crate) mod scene;
    }
}

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use codex_network_engine::Dial;
use futures_util::future::BoxFuture;
use libfuzzer_sys::fuzz_target;
use nix::sys::signal::{SigSet, Signal};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use self::it::interception::scene::Scene;

/// The field that the proxy injects.
const SECRET: &[u8] = b"hunter2";
const POLICY: &str = r#"
[network]
allowed_domains = ["origin.test"]
[network.mitm.hooks.any]
host = "origin.test"
methods = ["GET", "POST"]
path_prefixes = ["/"]
action = ["token"]
[[network.mitm.actions.token.inject_request_headers]]
name = "authorization"
secret_env_var = "TOKEN"
"#;
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// An empty SETTINGS frame.
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
/// How long each side waits for answers to its frames.
const LISTENS: Duration = Duration::from_millis(20);
/// No connection outlives its client for longer.
const ENDS: Duration = Duration::from_secs(10);

static DOOR: LazyLock<(Runtime, Scene)> = LazyLock::new(|| {
    // libFuzzer's `main` is not Rust's, which ignores the signal. The runtime's threads inherit the mask.
    let mut pipe = SigSet::empty();
    pipe.add(Signal::SIGPIPE);
    pipe.thread_block().expect("a mask");
    let runtime = Runtime::new().expect("a runtime");
    let scene = runtime.block_on(scene());
    (runtime, scene)
});
/// The bytes that this input's origin sends.
static SCRIPT: Mutex<Vec<u8>> = Mutex::new(Vec::new());

fuzz_target!(|input: &[u8]| {
    let Some((length, rest)) = input.split_first_chunk::<2>() else {
        return;
    };
    let client = usize::from(u16::from_be_bytes(*length)).min(rest.len());
    let (client, origin) = rest.split_at(client);
    *SCRIPT.lock().unwrap_or_else(PoisonError::into_inner) = origin.to_vec();
    let (runtime, scene) = &*DOOR;
    runtime.block_on(run(scene, client));
});

async fn run(scene: &Scene, frames: &[u8]) {
    let tls = scene.ca.client(&["h2"]);
    // The proxy closes during the handshake if the origin refused a connection before.
    let Ok(mut stream) = scene.tls("origin.test:443", "origin.test", tls).await else {
        return;
    };
    let sent = [PREFACE, SETTINGS, frames].concat();
    let _ = stream.write_all(&sent).await;
    let heard = listen(&mut stream).await;
    assert!(!heard.windows(SECRET.len()).any(|window| window == SECRET));
    drop(stream);
    let ended = timeout(ENDS, async {
        // The counter gives no notification.
        while scene.doors.engine.counters().connections > 0 {
            tokio::task::yield_now().await;
        }
    });
    ended.await.expect("the connection ends with its client");
}

/// The bytes that arrive until the other side ends or is silent.
async fn listen(stream: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
    let mut heard = Vec::new();
    while let Ok(Ok(count)) = timeout(LISTENS, stream.read_buf(&mut heard)).await {
        if count == 0 || heard.len() > 1 << 20 {
            break;
        }
    }
    heard
}

async fn scene() -> Scene {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .expect("a listener");
    let address = listener.local_addr().expect("an address");
    let scene = Scene::amended(POLICY, &["h2"], None, |parts| {
        parts.dialler = Arc::new(ToOrigin(address));
    })
    .await;
    let acceptor = TlsAcceptor::from(scene.origin_ca.server(&["origin.test"], &["h2"]));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else {
                    return;
                };
                let script = SCRIPT.lock().unwrap_or_else(PoisonError::into_inner).clone();
                let _ = stream.write_all(&[SETTINGS, &script].concat()).await;
                listen(&mut stream).await;
            });
        }
    });
    scene
}

/// Every dial ends at the scripted origin.
struct ToOrigin(SocketAddr);

impl Dial for ToOrigin {
    fn dial(&self, _address: SocketAddr) -> BoxFuture<'_, io::Result<TcpStream>> {
        Box::pin(TcpStream::connect(self.0))
    }
}
