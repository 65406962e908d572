//! An engine with an upstream proxy in its environment, an origin, and a proxy that the test
//! scripts. Names are scripted too, and every dial ends on loopback.

use std::ffi::OsString;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use codex_network_config::{Settings, Sources, Supplied, UpstreamProxies, load};
use codex_network_engine::{
    Dial, Door, Engine, EngineParts, Listening, OwnListener, Resolve, ResolveError,
};
use futures_util::future::BoxFuture;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// Time limit for everything in these tests.
const TIMEOUT: Duration = Duration::from_secs(30);

pub(crate) const POLICY: &str = "[network]\nallowed_domains = [\"**.test\", \"127.0.0.1\", \"93.184.216.9\"]\n\
     [daemon.limits]\nconnect_timeout = \"1s\"\n";

/// What the proxy does with a connection after it has read a head.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Plays {
    /// Answers CONNECT with these bytes and carries it to the origin; answers anything else itself.
    Along(&'static str),
    /// Writes this and closes.
    Says(&'static str),
    /// Writes nothing, and waits.
    Silent,
}

/// `origin.test` is public, `local.test` is not, `proxy.test` is a private address.
struct Names;

impl Resolve for Names {
    fn resolve<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Vec<IpAddr>, ResolveError>> {
        let address = match name {
            "origin.test" | "other.test" => Ok([93, 184, 216, 34]),
            "local.test" => Ok([127, 0, 0, 1]),
            "proxy.test" => Ok([10, 0, 0, 9]),
            _ => Err(ResolveError::NotFound),
        };
        Box::pin(async move { address.map(|address| vec![IpAddr::from(address)]) })
    }
}

/// Dials of the proxy's address end at the proxy, all others at the origin.
struct Ends {
    proxy: SocketAddr,
    origin: SocketAddr,
    dialled: Mutex<Vec<String>>,
}

impl Dial for Ends {
    #[expect(
        clippy::disallowed_methods,
        reason = "the scripted dialler ends at the test's own listeners"
    )]
    fn dial(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<TcpStream>> {
        self.dialled
            .lock()
            .expect("not poisoned")
            .push(address.to_string());
        let end = match address.port() {
            3128 => self.proxy,
            _ => self.origin,
        };
        Box::pin(TcpStream::connect(end))
    }
}

pub(crate) struct Scene {
    pub(crate) engine: Engine,
    http: Listening,
    socks5: Listening,
    dialler: Arc<Ends>,
    heads: Heads,
}

/// The heads that arrived at a listener.
#[derive(Clone, Default)]
struct Heads(Arc<Mutex<Vec<String>>>);

impl Heads {
    fn add(&self, head: &[u8]) {
        let head = String::from_utf8_lossy(head).into_owned();
        self.0.lock().expect("not poisoned").push(head);
    }
}

impl Scene {
    /// With these variables in the environment.
    pub(crate) async fn new(variables: &[(&str, &str)], plays: Plays) -> Self {
        Self::with(settings(POLICY, variables), plays).await
    }

    pub(crate) async fn with(given: (Settings, Supplied), plays: Plays) -> Self {
        let (settings, supplied) = given;
        let heads = Heads::default();
        let origin = listen(Heads::default(), Plays::Along(""), None).await;
        let proxy = listen(heads.clone(), plays, Some(origin)).await;
        let dialler = Arc::new(Ends {
            proxy,
            origin,
            dialled: Mutex::default(),
        });
        let parts = EngineParts {
            supplied,
            resolver: Some(Arc::new(Names)),
            dialler: Arc::clone(&dialler) as Arc<dyn Dial>,
            ..EngineParts::default()
        };
        let engine = Engine::new(Arc::new(settings), parts).expect("an engine");
        let open = |door| {
            let listener =
                std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a listener");
            engine.open(door, listener).expect("a door")
        };
        let (http, socks5) = (open(Door::Http), open(Door::Socks5));
        Self {
            engine,
            http,
            socks5,
            dialler,
            heads,
        }
    }

    /// Puts other settings and proxies in force.
    pub(crate) fn replace(&self, (settings, supplied): (Settings, Supplied)) {
        let replaced = self.engine.replace_all(&Arc::new(settings), &supplied);
        replaced.expect("settings");
    }

    /// Makes this address one of our own listeners.
    pub(crate) fn own(&self, address: &str) -> OwnListener {
        let address = address.parse().expect("an address");
        self.engine.own_listeners().add(address)
    }

    /// Another connection to the HTTP door.
    #[expect(clippy::disallowed_methods, reason = "the test's own client")]
    pub(crate) async fn client(&self) -> TcpStream {
        let door = self.http.address();
        TcpStream::connect(door).await.expect("an open door")
    }

    /// One request on a connection of its own: the whole answer.
    pub(crate) async fn ask(&self, request: &str) -> String {
        let mut stream = self.client().await;
        let request = format!("{request}Connection: close\r\n\r\n");
        stream
            .write_all(request.as_bytes())
            .await
            .expect("an open connection");
        let mut answer = Vec::new();
        let read = timeout(TIMEOUT, stream.read_to_end(&mut answer));
        read.await.expect("an answer in time").expect("an answer");
        String::from_utf8_lossy(&answer).into_owned()
    }

    pub(crate) async fn get(&self, url: &str) -> String {
        self.ask(&format!("GET {url} HTTP/1.1\r\n")).await
    }

    /// A tunnel, or the head of the answer that refuses it.
    pub(crate) async fn connect(&self, authority: &str) -> Result<TcpStream, String> {
        let mut stream = self.client().await;
        let request = format!("CONNECT {authority} HTTP/1.1\r\n\r\n");
        stream
            .write_all(request.as_bytes())
            .await
            .expect("an open connection");
        let head = head(&mut stream).await.expect("a whole head");
        let head = String::from_utf8_lossy(&head).into_owned();
        if head.starts_with("HTTP/1.1 200") {
            return Ok(stream);
        }
        let mut rest = Vec::new();
        let read = timeout(TIMEOUT, stream.read_to_end(&mut rest));
        read.await.expect("a body in time").expect("a body");
        Err(head + &String::from_utf8_lossy(&rest))
    }

    /// The SOCKS5 reply for a domain name.
    #[expect(clippy::disallowed_methods, reason = "the test's own client")]
    pub(crate) async fn socks5(&self, name: &str, port: u16) -> u8 {
        let mut stream = TcpStream::connect(self.socks5.address())
            .await
            .expect("an open door");
        let length = u8::try_from(name.len()).expect("a short name");
        let mut message = vec![5, 1, 0, 5, 1, 0, 3, length];
        message.extend_from_slice(name.as_bytes());
        message.extend_from_slice(&port.to_be_bytes());
        stream.write_all(&message).await.expect("a connection");
        let mut reply = [0; 12];
        let read = timeout(TIMEOUT, stream.read_exact(&mut reply));
        read.await.expect("a reply in time").expect("a reply");
        reply[3]
    }

    /// The addresses dialled since the last call.
    pub(crate) fn dialled(&self) -> Vec<String> {
        std::mem::take(&mut *self.dialler.dialled.lock().expect("not poisoned"))
    }

    /// The heads that the proxy saw since the last call.
    pub(crate) fn heads(&self) -> Vec<String> {
        std::mem::take(&mut *self.heads.0.lock().expect("not poisoned"))
    }
}

/// The settings of a text, and the proxies of an environment.
pub(crate) fn settings(policy: &str, variables: &[(&str, &str)]) -> (Settings, Supplied) {
    let settings = load(&Sources::none().with_text("test", policy))
        .expect("a policy")
        .settings;
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

/// Reads up to the end of a head; `None` when there is none.
pub(crate) async fn head(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let byte = timeout(TIMEOUT, stream.read_u8());
        head.push(byte.await.expect("a head in time").ok()?);
    }
    Some(head)
}

/// Reads a tunnel up to this text.
pub(crate) async fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let mut text = Vec::new();
    while !text.ends_with(end.as_bytes()) {
        let byte = timeout(TIMEOUT, stream.read_u8());
        text.push(byte.await.expect("bytes in time").expect("bytes"));
    }
    String::from_utf8(text).expect("text")
}

/// A listener that reads heads and follows a script. Without an origin behind it, it is itself the
/// origin.
async fn listen(heads: Heads, plays: Plays, origin: Option<SocketAddr>) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .expect("a listener");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, heads.clone(), plays, origin));
        }
    });
    address
}

async fn serve(mut stream: TcpStream, heads: Heads, plays: Plays, origin: Option<SocketAddr>) {
    let whose = if origin.is_some() { "proxy" } else { "origin" };
    while let Some(head) = head(&mut stream).await {
        heads.add(&head);
        let yes = match plays {
            Plays::Along(yes) => yes,
            Plays::Says(answer) => {
                let _ = stream.write_all(answer.as_bytes()).await;
                return;
            }
            Plays::Silent => std::future::pending().await,
        };
        if let Some(origin) = origin.filter(|_| head.starts_with(b"CONNECT ")) {
            return tunnel(stream, yes, origin).await;
        }
        let answer = if head.windows(9).any(|word| word == b"websocket") {
            "HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nframes"
                .to_owned()
        } else {
            format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{whose}",
                whose.len()
            )
        };
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the test's own proxy")]
async fn tunnel(mut client: TcpStream, yes: &str, origin: SocketAddr) {
    let mut origin = TcpStream::connect(origin).await.expect("the origin");
    let _ = client.write_all(yes.as_bytes()).await;
    let _ = tokio::io::copy_bidirectional(&mut client, &mut origin).await;
}
