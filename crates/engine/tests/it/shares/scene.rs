//! An engine, an origin that echoes or answers, and clients of several users.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use codex_network_engine::{ClientOwner, EngineParts, Listening, SocketPair};
use futures_util::future::BoxFuture;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::kit::doors::{Doors, listener, status};
use crate::kit::server::{echo, serve};
use crate::kit::settings;
use crate::kit::stream::{in_time, next_head, read_head};

/// Reports users by the client's port.
#[derive(Default)]
struct Kernel {
    users: Mutex<HashMap<u16, u32>>,
    lookups: AtomicUsize,
}

impl ClientOwner for Kernel {
    fn owners<'a>(&'a self, connections: &'a [SocketPair]) -> BoxFuture<'a, Vec<Option<u32>>> {
        self.lookups.fetch_add(connections.len(), Ordering::Relaxed);
        let users = self.users.lock().unwrap();
        let answer = connections
            .iter()
            .map(|ends| users.get(&ends.client.port()).copied())
            .collect();
        Box::pin(async move { answer })
    }
}

/// The requests for `/slow` that have arrived, and permits to answer one.
struct SlowRequests {
    arrived: Semaphore,
    may_answer: Semaphore,
}

pub(crate) struct Scene {
    pub(crate) doors: Doors,
    beside: Mutex<Vec<Listening>>,
    kernel: Arc<Kernel>,
    echo: SocketAddr,
    origin: SocketAddr,
    slow: Arc<SlowRequests>,
}

/// A client's end.
pub(crate) struct Client(TcpStream);

impl Scene {
    /// With this many slots, and connections that are idle after this time.
    pub(crate) async fn new(slots: usize, idle: &str) -> Self {
        let kernel = Arc::new(Kernel::default());
        let owner = Some(Arc::<Kernel>::clone(&kernel) as Arc<dyn ClientOwner>);
        Self::with(slots, idle, kernel, owner).await
    }

    /// Without a source of users.
    pub(crate) async fn by_address(slots: usize, idle: &str) -> Self {
        Self::with(slots, idle, Arc::default(), None).await
    }

    async fn with(
        slots: usize,
        idle: &str,
        kernel: Arc<Kernel>,
        owner: Option<Arc<dyn ClientOwner>>,
    ) -> Self {
        let policy = format!(
            "[network]\nallow_local_binding = true\nallowed_domains = [\"127.0.0.1\"]\n\
             [daemon.limits]\nmax_connections = {slots}\nheader_timeout = \"{idle}\"\n"
        );
        let parts = EngineParts {
            client_owner: owner,
            ..EngineParts::default()
        };
        let slow = Arc::new(SlowRequests {
            arrived: Semaphore::new(0),
            may_answer: Semaphore::new(0),
        });
        Self {
            doors: Doors::open(settings(&policy), parts),
            beside: Mutex::default(),
            kernel,
            echo: serve(echo).await,
            origin: origin(Arc::clone(&slow)).await,
            slow,
        }
    }

    /// How many connections the kernel was queried for.
    pub(crate) fn lookups(&self) -> usize {
        self.kernel.lookups.load(Ordering::Relaxed)
    }

    /// A connection of a user to the HTTP door.
    pub(crate) async fn open(&self, uid: u32) -> Client {
        self.open_at(self.doors.http(), uid).await
    }

    pub(crate) async fn open_at(&self, door: SocketAddr, uid: u32) -> Client {
        let socket = bound(Ipv4Addr::LOCALHOST.into()).expect("a socket");
        let port = socket.local_addr().expect("an address").port();
        self.kernel.users.lock().unwrap().insert(port, uid);
        Client(socket.connect(door).await.expect("an open door"))
    }

    pub(crate) async fn open_from(&self, address: &str) -> io::Result<Client> {
        let socket = bound(address.parse().expect("an address"))?;
        Ok(Client(socket.connect(self.doors.http()).await?))
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
        let arrived = in_time(self.slow.arrived.acquire()).await;
        arrived.expect("open").forget();
    }

    pub(crate) fn answer_slow_request(&self) {
        self.slow.may_answer.add_permits(1);
    }

    /// A UDP association of a user: its control connection.
    pub(crate) async fn associate(&self, uid: u32) -> Client {
        let mut client = self.open_at(self.doors.socks5(), uid).await;
        let request = [5, 1, 0, 5, 3, 0, 1, 0, 0, 0, 0, 0, 0];
        client.0.write_all(&request).await.expect("an open door");
        let mut reply = [0; 12];
        in_time(client.0.read_exact(&mut reply))
            .await
            .expect("a reply");
        assert_eq!(reply[3], 0);
        client
    }

    /// A listener of the owner's own that echoes and marks nothing as busy.
    pub(crate) fn open_beside(&self, slots: usize) -> SocketAddr {
        let serve = |stream, _, _| echo(stream);
        let listening = self
            .doors
            .engine
            .open_beside("beside", listener(), slots, serve);
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
        status(&read_head(&mut self.0).await.expect("an answer"))
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
            && in_time(self.0.read_exact(&mut answer)).await.is_ok()
    }

    /// Waits for the end. Returns whether it was a reset.
    pub(crate) async fn was_reset(&mut self) -> bool {
        let mut rest = Vec::new();
        in_time(self.0.read_to_end(&mut rest)).await.is_err()
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

/// Answers every request, one for `/slow` when it may, and changes protocols for `/upgrade`.
async fn origin(slow: Arc<SlowRequests>) -> SocketAddr {
    serve(move |mut stream| {
        let slow = Arc::clone(&slow);
        async move {
            while let Some(head) = next_head(&mut stream).await {
                if head.starts_with("GET /slow ") {
                    slow.arrived.add_permits(1);
                    slow.may_answer.acquire().await.expect("open").forget();
                }
                let answer: &[u8] = if head.starts_with("GET /upgrade ") {
                    b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: tcp\r\n\r\n"
                } else {
                    b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
                };
                let _ = stream.write_all(answer).await;
            }
        }
    })
    .await
}
