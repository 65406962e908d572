//! The cost of the proxy, compared with direct connections, in one run on loopback.
//!
//! - `request`: one kept connection, one small GET after the other.
//! - `requests_64`: 64 kept connections at once, time for one request of each.
//! - `setup`: a new connection to the origin and one byte back: a plain dial, CONNECT, SOCKS5.
//! - `setup_32`: the same, 32 at once, time for all of them.
//! - `bulk`: 8 MiB from the origin: direct, plain HTTP, a CONNECT tunnel whose bytes the kernel moves
//!   (`splice`), and a tunnel that copies them. Elsewhere than on Linux, both tunnels copy.
//! - `decider`: `request` and `setup` (CONNECT) through a proxy without a decider, with a decider that never
//!   runs since the list has the host, and with a decider that runs for each request.
//! - `followed`: `request` and `setup` (CONNECT) through a proxy whose decisions no caller follows, one that `proxyctl watch`
//!   follows and reads, and one whose follower has stopped to read.
//!
//! The client is made of blocking sockets, so that it is the same for all. Quote ratios.
#![expect(
    clippy::disallowed_methods,
    reason = "the bench's own client dials as clients do"
)]

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use codex_network_config::{Sources, load};
use codex_network_engine::{
    Audience, BrokenPipeSignal, Door, Engine, EngineParts, Listening, NetworkDecision,
    NetworkPolicyDecider, NetworkPolicyRequest, Resolve, ResolveError,
};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use futures_util::future::BoxFuture;
use tokio::signal::unix::{SignalKind, signal};

const BULK: usize = 8 << 20;

/// Every name is this machine.
struct Here;

impl Resolve for Here {
    fn resolve<'a>(&'a self, _name: &'a str) -> BoxFuture<'a, Result<Vec<IpAddr>, ResolveError>> {
        Box::pin(async { Ok(vec![Ipv4Addr::LOCALHOST.into()]) })
    }
}

struct Scene {
    origin: SocketAddr,
    http: SocketAddr,
    socks5: SocketAddr,
    runtime: tokio::runtime::Runtime,
    engine: Engine,
    _doors: [Listening; 2],
}

impl Scene {
    fn new() -> Self {
        Self::with("origin.test", EngineParts::default())
    }

    /// With this host on the allow list, and an engine of these parts.
    fn with(allowed: &str, parts: EngineParts) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let policy =
            format!("[network]\nallow_local_binding = true\nallowed_domains = [\"{allowed}\"]\n");
        let settings = load(&Sources::none().with_text("bench", policy))
            .expect("a policy")
            .settings;
        let parts = EngineParts {
            resolver: Some(Arc::new(Here)),
            ..parts
        };
        let engine = Engine::new(Arc::new(settings), parts).expect("an engine");
        let (http, socks5) = runtime.block_on(async {
            let open = |door| engine.open(door, listener()).expect("a door");
            (open(Door::Http), open(Door::Socks5))
        });
        Self {
            origin: origin(&runtime),
            http: http.address(),
            socks5: socks5.address(),
            runtime,
            engine,
            _doors: [http, socks5],
        }
    }
}

fn listener() -> TcpListener {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a listener")
}

/// Answers each request head with a small body, or with [`BULK`] bytes for `/bulk`. Echoes the byte
/// `?`.
fn origin(runtime: &tokio::runtime::Runtime) -> SocketAddr {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = listener();
    let address = listener.local_addr().expect("an address");
    listener.set_nonblocking(true).expect("a socket");
    runtime.spawn(async move {
        let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
        // Made once: a new connection would be measured with it.
        let bulk: Arc<[u8]> = vec![b'x'; BULK].into();
        while let Ok((mut stream, _)) = listener.accept().await {
            let bulk = Arc::clone(&bulk);
            tokio::spawn(async move {
                let _ = stream.set_nodelay(true);
                let mut seen = Vec::new();
                let mut buffer = [0; 4096];
                while let Ok(read @ 1..) = stream.read(&mut buffer).await {
                    seen.extend_from_slice(&buffer[..read]);
                    if seen == b"?" {
                        let _ = stream.write_all(b"!").await;
                        seen.clear();
                    } else if seen.ends_with(b"\r\n\r\n") {
                        let body: &[u8] = if seen.starts_with(b"GET /bulk") {
                            &bulk
                        } else {
                            b"hello"
                        };
                        let head =
                            format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
                        let mut answer = head.into_bytes();
                        answer.extend_from_slice(body);
                        if stream.write_all(&answer).await.is_err() {
                            return;
                        }
                        seen.clear();
                    }
                }
            });
        }
    });
    address
}

fn open(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("a connection");
    stream.set_nodelay(true).expect("a socket");
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .expect("a socket");
    stream
}

/// Sends a GET and reads its answer to the end.
fn get(stream: &mut TcpStream, request: &[u8]) -> usize {
    stream.write_all(request).expect("an open connection");
    read_answer(stream)
}

fn read_answer(stream: &mut TcpStream) -> usize {
    let mut seen = Vec::with_capacity(64 * 1024);
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = stream.read(&mut buffer).expect("an answer");
        assert_ne!(read, 0, "the answer broke off");
        seen.extend_from_slice(&buffer[..read]);
        let Some(end) = seen.windows(4).position(|window| window == b"\r\n\r\n") else {
            continue;
        };
        let head = String::from_utf8_lossy(&seen[..end]).to_lowercase();
        assert!(head.starts_with("http/1.1 200"), "{head}");
        let length: usize = head
            .split("content-length: ")
            .nth(1)
            .and_then(|rest| rest.split("\r\n").next())
            .and_then(|digits| digits.parse().ok())
            .unwrap_or(0);
        let mut left = (end + 4 + length) - seen.len();
        while left > 0 {
            let read = stream.read(&mut buffer).expect("a body");
            assert_ne!(read, 0, "the body broke off");
            left -= read;
        }
        return length;
    }
}

fn request_line(scene: &Scene, path: &str, proxied: bool) -> Vec<u8> {
    let host = format!("origin.test:{}", scene.origin.port());
    let target = if proxied {
        format!("http://{host}{path}")
    } else {
        path.to_owned()
    };
    format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n")
        .into_bytes()
}

/// A way to the origin: begins a connection, and waits for the proxy's reply.
type Way = (fn(&Scene) -> TcpStream, fn(&mut TcpStream));

const DIRECT: Way = (|scene| open(scene.origin), |_| ());
const CONNECT: Way = (begin_connect, |stream| {
    read_answer(stream);
});
const SOCKS5: Way = (begin_socks5, read_socks5);

fn begin_connect(scene: &Scene) -> TcpStream {
    let mut stream = open(scene.http);
    let head = format!(
        "CONNECT origin.test:{0} HTTP/1.1\r\nHost: origin.test:{0}\r\n\r\n",
        scene.origin.port()
    );
    stream
        .write_all(head.as_bytes())
        .expect("an open connection");
    stream
}

fn begin_socks5(scene: &Scene) -> TcpStream {
    let mut stream = open(scene.socks5);
    let mut message = b"\x05\x01\x00\x05\x01\x00\x03\x0borigin.test".to_vec();
    message.extend_from_slice(&scene.origin.port().to_be_bytes());
    stream.write_all(&message).expect("an open connection");
    stream
}

fn read_socks5(stream: &mut TcpStream) {
    let mut reply = [0; 12];
    stream.read_exact(&mut reply).expect("a reply");
    assert_eq!(reply[3], 0, "refused");
}

/// Sets up this many connections at once, until each has one byte back from the origin.
fn set_up(scene: &Scene, (begin, read_reply): Way, at_once: usize) {
    let mut streams: Vec<TcpStream> = (0..at_once).map(|_| begin(scene)).collect();
    for stream in &mut streams {
        read_reply(stream);
        stream.write_all(b"?").expect("an open connection");
    }
    for stream in &mut streams {
        stream.read_exact(&mut [0; 1]).expect("an answer");
    }
}

/// An open tunnel.
fn tunnel(scene: &Scene) -> TcpStream {
    let mut stream = begin_connect(scene);
    read_answer(&mut stream);
    stream
}

fn requests(criterion: &mut Criterion) {
    let scene = Scene::new();
    let ways = [
        ("direct", scene.origin, false),
        ("proxied", scene.http, true),
    ];
    let mut group = criterion.benchmark_group("request");
    for (name, address, proxied) in ways {
        let request = request_line(&scene, "/", proxied);
        let mut stream = open(address);
        group.bench_function(name, |bencher| bencher.iter(|| get(&mut stream, &request)));
    }
    group.finish();
    let mut group = criterion.benchmark_group("requests_64");
    group.throughput(Throughput::Elements(64));
    for (name, address, proxied) in ways {
        let request = request_line(&scene, "/", proxied);
        let mut streams: Vec<TcpStream> = (0..64).map(|_| open(address)).collect();
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                for stream in &mut streams {
                    stream.write_all(&request).expect("an open connection");
                }
                streams.iter_mut().map(read_answer).sum::<usize>()
            });
        });
    }
    group.finish();
}

fn setups(criterion: &mut Criterion) {
    let scene = Scene::new();
    for (group, at_once) in [("setup", 1), ("setup_32", 32)] {
        let mut group = criterion.benchmark_group(group);
        group.throughput(Throughput::Elements(at_once as u64));
        for (name, way) in [("direct", DIRECT), ("connect", CONNECT), ("socks5", SOCKS5)] {
            group.bench_function(name, |bencher| {
                bencher.iter(|| set_up(&scene, way, at_once));
            });
        }
        group.finish();
    }
}

fn deciders(criterion: &mut Criterion) {
    let allows = || -> Option<Arc<dyn NetworkPolicyDecider>> {
        Some(Arc::new(|_: NetworkPolicyRequest| async {
            NetworkDecision::Allow
        }))
    };
    let deciding = |allowed, decider| {
        let parts = EngineParts::default();
        Scene::with(allowed, EngineParts { decider, ..parts })
    };
    let scenes = [
        ("none", deciding("origin.test", None)),
        ("never_asked", deciding("origin.test", allows())),
        ("asked", deciding("other.test", allows())),
    ];
    let mut group = criterion.benchmark_group("decider");
    for (name, scene) in &scenes {
        let request = request_line(scene, "/", true);
        let mut stream = open(scene.http);
        group.bench_function(format!("request/{name}"), |bencher| {
            bencher.iter(|| get(&mut stream, &request));
        });
    }
    for (name, scene) in &scenes {
        group.bench_function(format!("setup/{name}"), |bencher| {
            bencher.iter(|| set_up(scene, CONNECT, 1));
        });
    }
    group.finish();
}

fn followers(criterion: &mut Criterion) {
    let scenes = ["none", "reading", "stalled"].map(|name| (name, Scene::new()));
    let follow = |scene: &Scene| scene.engine.decisions().follow(Audience::All);
    let reading = follow(&scenes[1].1);
    scenes[1].1.runtime.spawn(async move {
        loop {
            reading.arrived().await;
            std::hint::black_box(reading.take());
        }
    });
    let _stalled = follow(&scenes[2].1);
    let mut group = criterion.benchmark_group("followed");
    for (name, scene) in &scenes {
        let request = request_line(scene, "/", true);
        let mut stream = open(scene.http);
        group.bench_function(format!("request/{name}"), |bencher| {
            bencher.iter(|| get(&mut stream, &request));
        });
    }
    for (name, scene) in &scenes {
        group.bench_function(format!("setup/{name}"), |bencher| {
            bencher.iter(|| set_up(scene, CONNECT, 1));
        });
    }
    group.finish();
}

fn bulk(criterion: &mut Criterion) {
    let tunnelling = |broken_pipe_signal| {
        let parts = EngineParts {
            broken_pipe_signal,
            ..EngineParts::default()
        };
        Scene::with("origin.test", parts)
    };
    let scene = tunnelling(BrokenPipeSignal::Ignored);
    // Once the process handles the signal instead of ignoring it, an engine that looks has no pipes.
    let handled = scene.runtime.block_on(async { signal(SignalKind::pipe()) });
    let _handled = handled.expect("a handler of the signal");
    let copying = tunnelling(BrokenPipeSignal::Unknown);
    let mut group = criterion.benchmark_group("bulk");
    group
        .throughput(Throughput::Bytes(BULK as u64))
        .sample_size(30);
    let ways = [
        ("direct", open(scene.origin), false),
        ("forward", open(scene.http), true),
        ("tunnel_spliced", tunnel(&scene), false),
        ("tunnel_copied", tunnel(&copying), false),
    ];
    for (name, mut stream, proxied) in ways {
        let request = request_line(&scene, "/bulk", proxied);
        group.bench_function(name, |bencher| bencher.iter(|| get(&mut stream, &request)));
    }
    group.finish();
}

criterion_group!(benches, requests, setups, deciders, followers, bulk);
criterion_main!(benches);
