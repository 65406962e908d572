//! An engine, an origin that echoes or answers, and clients of several users.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use codex_network_config::{Sources, load};
use codex_network_engine::{ClientOwner, Door, Engine, EngineParts, Listening, SocketPair};
use futures_util::future::BoxFuture;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// Time limit for everything that must happen.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(60);

/// Reports users by the client's port.
#[derive(Default)]
struct Kernel {
    users: Mutex<HashMap<u16, u32>>,
    asked: AtomicUsize,
}

impl ClientOwner for Kernel {
    fn owners<'a>(&'a self, connections: &'a [SocketPair]) -> BoxFuture<'a, Vec<Option<u32>>> {
        self.asked.fetch_add(connections.len(), Ordering::Relaxed);
        let users = self.users.lock().unwrap();
        let answer = connections
            .iter()
            .map(|ends| users.get(&ends.client.port()).copied())
            .collect();
        Box::pin(async move { answer })
    }
}

/// The requests for `/slow` that have arrived, and permission to answer one.
struct Slow {
    came: Semaphore,
    go: Semaphore,
}

pub(crate) struct Scene {
    pub(crate) engine: Engine,
    http: Listening,
    socks5: Listening,
    beside: Mutex<Vec<Listening>>,
    kernel: Arc<Kernel>,
    echo: SocketAddr,
    origin: SocketAddr,
    slow: Arc<Slow>,
}

/// A client's end.
pub(crate) struct Client(TcpStream);

impl Scene {
    /// With this many places, and connections that are idle after this time.
    pub(crate) async fn new(places: usize, idle: &str) -> Self {
        let kernel = Arc::new(Kernel::default());
        let owner = Some(Arc::<Kernel>::clone(&kernel) as Arc<dyn ClientOwner>);
        Self::with(places, idle, kernel, owner).await
    }

    /// Without a source of users.
    pub(crate) async fn by_address(places: usize, idle: &str) -> Self {
        Self::with(places, idle, Arc::default(), None).await
    }

    async fn with(
        places: usize,
        idle: &str,
        kernel: Arc<Kernel>,
        owner: Option<Arc<dyn ClientOwner>>,
    ) -> Self {
        let policy = format!(
            "[network]\nallow_local_binding = true\nallowed_domains = [\"127.0.0.1\"]\n\
             [daemon.limits]\nmax_connections = {places}\nheader_timeout = \"{idle}\"\n"
        );
        let settings = load(&Sources::none().with_text("test", &policy))
            .expect("a policy")
            .settings;
        let parts = EngineParts {
            client_owner: owner,
            ..EngineParts::default()
        };
        let engine = Engine::new(Arc::new(settings), parts).expect("an engine");
        let open = |door| {
            let listener = engine.open(door, listener());
            listener.expect("a door")
        };
        let (http, socks5) = (open(Door::Http), open(Door::Socks5));
        let slow = Arc::new(Slow {
            came: Semaphore::new(0),
            go: Semaphore::new(0),
        });
        Self {
            engine,
            http,
            socks5,
            beside: Mutex::default(),
            kernel,
            echo: echo().await,
            origin: origin(Arc::clone(&slow)).await,
            slow,
        }
    }

    /// How many connections the kernel was asked about.
    pub(crate) fn asked(&self) -> usize {
        self.kernel.asked.load(Ordering::Relaxed)
    }

    /// A connection of a user to the HTTP door.
    pub(crate) async fn open(&self, uid: u32) -> Client {
        self.open_at(self.http.address(), uid).await
    }

    pub(crate) async fn open_at(&self, door: SocketAddr, uid: u32) -> Client {
        let socket = bound(Ipv4Addr::LOCALHOST.into()).expect("a socket");
        let port = socket.local_addr().expect("an address").port();
        self.kernel.users.lock().unwrap().insert(port, uid);
        Client(socket.connect(door).await.expect("an open door"))
    }

    pub(crate) async fn open_from(&self, address: &str) -> io::Result<Client> {
        let socket = bound(address.parse().expect("an address"))?;
        Ok(Client(socket.connect(self.http.address()).await?))
    }

    /// A tunnel of a user to the origin that echoes.
    pub(crate) async fn tunnel(&self, uid: u32) -> Client {
        self.connect(self.open(uid).await).await
    }

    pub(crate) async fn tunnel_from(&self, address: &str) -> Client {
        self.try_tunnel_from(address).await.expect("a tunnel")
    }

    pub(crate) async fn try_tunnel_from(&self, address: &str) -> Option<Client> {
        let client = self.open_from(address).await.ok()?;
        Some(self.connect(client).await)
    }

    async fn connect(&self, mut client: Client) -> Client {
        client.send(self.connect_request()).await;
        assert_eq!(client.status().await, 200);
        client
    }

    pub(crate) fn connect_request(&self) -> String {
        format!("CONNECT {0} HTTP/1.1\r\nHost: {0}\r\n\r\n", self.echo)
    }

    pub(crate) fn get_request(&self, path: &str) -> String {
        format!(
            "GET http://{0}{path} HTTP/1.1\r\nHost: {0}\r\n\r\n",
            self.origin
        )
    }

    pub(crate) fn upgrade_request(&self) -> String {
        format!(
            "GET http://{0}/upgrade HTTP/1.1\r\nHost: {0}\r\nConnection: upgrade\r\nUpgrade: tcp\r\n\r\n",
            self.origin
        )
    }

    pub(crate) async fn slow_request_has_come(&self) {
        let came = timeout(TIMEOUT, self.slow.came.acquire()).await;
        came.expect("a request").expect("open").forget();
    }

    pub(crate) fn answer_slow_request(&self) {
        self.slow.go.add_permits(1);
    }

    /// A UDP association of a user: its control connection.
    pub(crate) async fn associate(&self, uid: u32) -> Client {
        let mut client = self.open_at(self.socks5.address(), uid).await;
        let request = [5, 1, 0, 5, 3, 0, 1, 0, 0, 0, 0, 0, 0];
        client.0.write_all(&request).await.expect("an open door");
        let mut reply = [0; 12];
        let read = timeout(TIMEOUT, client.0.read_exact(&mut reply)).await;
        read.expect("a reply").expect("a reply");
        assert_eq!(reply[3], 0);
        client
    }

    /// A listener of the owner's own that echoes and marks nothing as busy.
    pub(crate) fn open_beside(&self, places: usize) -> SocketAddr {
        let serve = |stream, _, _| echo_all(stream);
        let listening = self.engine.open_beside("beside", listener(), places, serve);
        let listening = listening.expect("a listener");
        let address = listening.address();
        self.beside.lock().unwrap().push(listening);
        address
    }
}

impl Client {
    pub(crate) async fn send(&mut self, text: String) {
        let sent = self.0.write_all(text.as_bytes()).await;
        sent.expect("the peer takes what is sent");
    }

    /// The status of the answer, which has no content.
    pub(crate) async fn status(&mut self) -> u16 {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let byte = timeout(TIMEOUT, self.0.read_u8()).await;
            head.push(byte.expect("in time").expect("an answer"));
        }
        let status = std::str::from_utf8(&head[9..12]).expect("ASCII");
        status.parse().expect("a status")
    }

    pub(crate) async fn answers_within(&mut self, limit: Duration) -> bool {
        matches!(timeout(limit, self.0.readable()).await, Ok(Ok(())))
    }

    pub(crate) async fn echo(&mut self) {
        assert!(self.try_echo().await, "the tunnel has ended");
    }

    pub(crate) async fn try_echo(&mut self) -> bool {
        let mut answer = [0; 4];
        self.0.write_all(b"echo").await.is_ok()
            && timeout(TIMEOUT, self.0.read_exact(&mut answer))
                .await
                .expect("an echo in time")
                .is_ok()
    }

    /// Waits for the end. Returns whether it was a reset.
    pub(crate) async fn was_reset(&mut self) -> bool {
        let mut rest = Vec::new();
        let end = timeout(TIMEOUT, self.0.read_to_end(&mut rest)).await;
        end.expect("an end").is_err()
    }

    /// Waits for any end of the connection.
    pub(crate) async fn has_ended(&mut self) -> bool {
        let _ = self.was_reset().await;
        true
    }
}

fn bound(address: IpAddr) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(address, 0))?;
    Ok(socket)
}

fn listener() -> std::net::TcpListener {
    std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a listener")
}

async fn echo_all(mut stream: TcpStream) {
    let (mut from, mut to) = stream.split();
    let _ = tokio::io::copy(&mut from, &mut to).await;
}

async fn echo() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
    let listener = listener.expect("a listener");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(echo_all(stream));
        }
    });
    address
}

/// Answers every request, one for `/slow` when it may, and changes protocols for `/upgrade`.
async fn origin(slow: Arc<Slow>) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
    let listener = listener.expect("a listener");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let slow = Arc::clone(&slow);
            tokio::spawn(async move {
                let mut seen = Vec::new();
                while let Ok(1..) = stream.read_buf(&mut seen).await {
                    if !seen.ends_with(b"\r\n\r\n") {
                        continue;
                    }
                    if seen.starts_with(b"GET /slow ") {
                        slow.came.add_permits(1);
                        slow.go.acquire().await.expect("open").forget();
                    }
                    let answer: &[u8] = if seen.starts_with(b"GET /upgrade ") {
                        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: tcp\r\n\r\n"
                    } else {
                        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
                    };
                    seen.clear();
                    let _ = stream.write_all(answer).await;
                }
            });
        }
    });
    address
}
