//! An engine with an upstream proxy in its environment, an origin, and a proxy that the test
//! scripts. Names are scripted too, and every dial ends on loopback.

use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use codex_network_config::{Settings, Supplied, UpstreamProxies};
use codex_network_engine::{Dial, EngineParts, OwnListener, Resolve};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::kit::doors::{self, Doors};
use crate::kit::network::{Names, Redirect};
use crate::kit::server::{answer, serve};
use crate::kit::stream::next_head;

pub(crate) const POLICY: &str = "[network]\nallowed_domains = [\"**.test\", \"127.0.0.1\", \"93.184.216.9\"]\n\
     [daemon.limits]\nconnect_timeout = \"1s\"\n";

/// How the proxy answers the heads that it reads.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Script {
    /// Answers CONNECT with these bytes and tunnels to the origin; answers anything else itself.
    Tunnel(&'static str),
    /// Writes this and closes.
    Close(&'static str),
    /// Writes nothing, and waits.
    Silent,
}

/// `origin.test` is public, `local.test` is not, `proxy.test` is a private address.
fn address_of(name: &str) -> Vec<IpAddr> {
    let address = match name {
        "origin.test" | "other.test" => [93, 184, 216, 34],
        "local.test" => [127, 0, 0, 1],
        "proxy.test" => [10, 0, 0, 9],
        _ => return Vec::new(),
    };
    vec![IpAddr::from(address)]
}

pub(crate) struct Scene {
    pub(crate) doors: Doors,
    dialler: Arc<Redirect>,
    heads: Heads,
}

/// The heads that arrived at a listener.
#[derive(Clone, Default)]
struct Heads(Arc<Mutex<Vec<String>>>);

impl Heads {
    fn add(&self, head: String) {
        self.0.lock().expect("not poisoned").push(head);
    }
}

impl Scene {
    /// With these variables in the environment.
    pub(crate) async fn new(variables: &[(&str, &str)], script: Script) -> Self {
        Self::with(settings(POLICY, variables), script).await
    }

    pub(crate) async fn with(given: (Settings, Supplied), script: Script) -> Self {
        let (settings, supplied) = given;
        let heads = Heads::default();
        let origin = listen(Heads::default(), Script::Tunnel(""), None).await;
        let proxy = listen(heads.clone(), script, Some(origin)).await;
        let dialler = Redirect::new(move |address| {
            Some(match address.port() {
                3128 => proxy,
                _ => origin,
            })
        });
        let parts = EngineParts {
            supplied,
            resolver: Some(Names::new(address_of) as Arc<dyn Resolve>),
            dialler: Arc::clone(&dialler) as Arc<dyn Dial>,
            ..EngineParts::default()
        };
        Self {
            doors: Doors::open(settings, parts),
            dialler,
            heads,
        }
    }

    /// Puts other settings and proxies in force.
    pub(crate) fn replace(&self, (settings, supplied): (Settings, Supplied)) {
        let engine = &self.doors.engine;
        let replaced = engine.replace_all(&Arc::new(settings), &supplied);
        replaced.expect("settings");
    }

    /// Makes this address one of our own listeners.
    pub(crate) fn own(&self, address: &str) -> OwnListener {
        let address = address.parse().expect("an address");
        self.doors.engine.own_listeners().add(address)
    }

    /// Another connection to the HTTP door.
    pub(crate) async fn client(&self) -> TcpStream {
        self.doors.client().await
    }

    /// One request on a connection of its own: the whole answer.
    pub(crate) async fn ask(&self, request: &str) -> String {
        let request = format!("{request}Connection: close\r\n\r\n");
        self.doors.exchange(request.as_bytes()).await
    }

    pub(crate) async fn get(&self, url: &str) -> String {
        self.ask(&format!("GET {url} HTTP/1.1\r\n")).await
    }

    /// A tunnel, or the answer that refuses it.
    pub(crate) async fn connect(&self, authority: &str) -> Result<TcpStream, String> {
        self.doors.tunnel(authority).await
    }

    /// The SOCKS5 reply for a domain name.
    pub(crate) async fn socks5(&self, name: &str, port: u16) -> u8 {
        self.doors.socks5_tunnel(name, port).await.1
    }

    /// The addresses dialled since the last call.
    pub(crate) fn dialled(&self) -> Vec<String> {
        self.dialler.dialled()
    }

    /// The heads that the proxy saw since the last call.
    pub(crate) fn heads(&self) -> Vec<String> {
        std::mem::take(&mut *self.heads.0.lock().expect("not poisoned"))
    }
}

/// The settings of a text, and the proxies of an environment.
pub(crate) fn settings(policy: &str, variables: &[(&str, &str)]) -> (Settings, Supplied) {
    let settings = crate::kit::settings(policy);
    let proxies = UpstreamProxies::from_environment(|name| {
        let mut found = variables.iter().filter(|(known, _)| *known == name);
        found.next().map(|(_, value)| OsString::from(value))
    });
    let supplied = Supplied {
        upstream_proxies: Arc::new(proxies.expect("usable variables")),
        ..Supplied::default()
    };
    (settings, supplied)
}

/// A listener that reads heads and follows a script. Without an origin behind it, it is itself the
/// origin.
async fn listen(heads: Heads, script: Script, origin: Option<SocketAddr>) -> SocketAddr {
    serve(move |stream| follow(stream, heads.clone(), script, origin)).await
}

async fn follow(mut stream: TcpStream, heads: Heads, script: Script, origin: Option<SocketAddr>) {
    let server = if origin.is_some() { "proxy" } else { "origin" };
    while let Some(head) = next_head(&mut stream).await {
        heads.add(head.clone());
        let established = match script {
            Script::Tunnel(established) => established,
            Script::Close(text) => {
                let _ = stream.write_all(text.as_bytes()).await;
                return;
            }
            Script::Silent => std::future::pending().await,
        };
        if let Some(origin) = origin.filter(|_| head.starts_with("CONNECT ")) {
            return tunnel(stream, established, origin).await;
        }
        let bytes = if head.contains("websocket") {
            b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nframes"
                .to_vec()
        } else {
            answer(server.as_bytes())
        };
        if stream.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

async fn tunnel(mut client: TcpStream, established: &str, origin: SocketAddr) {
    let mut origin = doors::connect(origin).await;
    let _ = client.write_all(established.as_bytes()).await;
    let _ = tokio::io::copy_bidirectional(&mut client, &mut origin).await;
}
