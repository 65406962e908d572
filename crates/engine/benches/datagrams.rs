//! The cost of a UDP association, compared with direct datagrams, in one run on loopback.
//!
//! - `datagram`: one small datagram there and back, one after the other.
//! - `datagrams_32`: 32 on their way at once, time for all of them there and back.
//! - Printed before: the memory of an idle association that has sent nothing, and of one that has.
//!
//! The client is made of blocking sockets, so that it is the same for both. Quote ratios.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use codex_network_config::{Sources, load};
use codex_network_engine::{Door, Engine, EngineParts, Listening, Resolve, ResolveError};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use futures_util::future::BoxFuture;

const IDLE: usize = 1000;
const WINDOW: usize = 32;

/// A resolver that resolves every name to this machine.
struct Here;

impl Resolve for Here {
    fn resolve<'a>(&'a self, _name: &'a str) -> BoxFuture<'a, Result<Vec<IpAddr>, ResolveError>> {
        Box::pin(async { Ok(vec![Ipv4Addr::LOCALHOST.into()]) })
    }
}

struct Scene {
    origin: SocketAddr,
    socks5: Listening,
    _runtime: tokio::runtime::Runtime,
}

/// A socket that sends to one address, and the control connection that keeps the association open.
struct Client {
    socket: UdpSocket,
    to: SocketAddr,
    /// The header before the data.
    header: Vec<u8>,
    _control: Option<TcpStream>,
}

impl Scene {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let policy = "[network]\nallow_local_binding = true\nallowed_domains = [\"origin.test\"]\n";
        let settings = load(&Sources::none().with_text("bench", policy))
            .expect("a policy")
            .settings;
        let parts = EngineParts {
            resolver: Some(Arc::new(Here)),
            ..EngineParts::default()
        };
        let engine = Engine::new(Arc::new(settings), parts).expect("an engine");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a listener");
        let socks5 = runtime.block_on(async { engine.open(Door::Socks5, listener) });
        Self {
            origin: origin(),
            socks5: socks5.expect("a door"),
            _runtime: runtime,
        }
    }

    fn direct(&self) -> Client {
        Client::new(self.origin, Vec::new(), None)
    }

    fn associated(&self) -> Client {
        #[expect(
            clippy::disallowed_methods,
            reason = "the bench's own client dials as clients do"
        )]
        let mut control = TcpStream::connect(self.socks5.address()).expect("a connection");
        let request = b"\x05\x01\x00\x05\x03\x00\x01\0\0\0\0\0\0";
        control.write_all(request).expect("an open connection");
        let mut reply = [0; 12];
        control.read_exact(&mut reply).expect("a reply");
        assert_eq!(reply[3], 0, "refused");
        let port = u16::from_be_bytes([reply[10], reply[11]]);
        let mut header = b"\0\0\0\x03\x0borigin.test".to_vec();
        header.extend_from_slice(&self.origin.port().to_be_bytes());
        let relay = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Client::new(relay, header, Some(control))
    }
}

impl Client {
    fn new(to: SocketAddr, header: Vec<u8>, control: Option<TcpStream>) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
        let patience = Some(Duration::from_secs(10));
        socket.set_read_timeout(patience).expect("a socket");
        Self {
            socket,
            to,
            header,
            _control: control,
        }
    }

    fn send(&self, data: &[u8]) {
        let datagram = [&self.header, data].concat();
        self.socket.send_to(&datagram, self.to).expect("a datagram");
    }

    fn receive(&self) -> usize {
        let mut buffer = [0; 2048];
        self.socket.recv(&mut buffer).expect("an answer")
    }
}

/// Sends everything back.
fn origin() -> SocketAddr {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
    let address = socket.local_addr().expect("an address");
    std::thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(&buffer[..length], from);
        }
    });
    address
}

/// This process's memory in KiB, of which the sockets' is not a part.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.unwrap_or(0)
}

/// Opens many associations, and prints the memory of each.
#[expect(clippy::print_stdout, reason = "the output of the bench")]
fn memory(scene: &Scene) {
    let per_association = |before: u64| (resident().saturating_sub(before) * 1024) / IDLE as u64;
    // The memory that does not depend on the number of associations.
    drop(scene.associated());
    let before = resident();
    let clients: Vec<Client> = (0..IDLE).map(|_| scene.associated()).collect();
    println!(
        "an association without traffic: {} bytes",
        per_association(before)
    );
    for client in &clients {
        client.send(b"hello");
        client.receive();
    }
    println!(
        "an association with one destination, idle: {} bytes",
        per_association(before)
    );
}

fn datagrams(criterion: &mut Criterion) {
    let scene = Scene::new();
    memory(&scene);
    let ways = [
        ("direct", scene.direct()),
        ("associated", scene.associated()),
    ];
    let mut group = criterion.benchmark_group("datagram");
    group.throughput(Throughput::Elements(1));
    for (name, client) in &ways {
        group.bench_function(*name, |bencher| {
            bencher.iter(|| {
                client.send(&[7; 64]);
                client.receive()
            });
        });
    }
    group.finish();
    let mut group = criterion.benchmark_group("datagrams_32");
    group.throughput(Throughput::Elements(WINDOW as u64));
    for (name, client) in &ways {
        group.bench_function(*name, |bencher| {
            bencher.iter(|| {
                (0..WINDOW).for_each(|_| client.send(&[7; 1200]));
                (0..WINDOW).map(|_| client.receive()).sum::<usize>()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, datagrams);
criterion_main!(benches);
