//! The cost of the proxy, compared with direct connections, in one run on loopback.
//!
//! - `request`: one kept connection, one small GET after the other.
//! - `requests_64`: 64 kept connections at once, time for one request of each.
//! - `setup`: a new connection to the origin and one byte back: a plain dial, CONNECT, SOCKS5.
//! - `bulk`: 8 MiB from the origin: direct, plain HTTP, CONNECT tunnel.
//! - `decider`: `request` and `setup` (CONNECT) through a proxy without a decider, with a decider that never
//!   runs since the list has the host, and with a decider that runs for each request.
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
    Door, Engine, EngineParts, Listening, NetworkDecision, NetworkPolicyDecider,
    NetworkPolicyRequest, Resolve, ResolveError,
};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use futures_util::future::BoxFuture;

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
    _runtime: tokio::runtime::Runtime,
    _doors: [Listening; 2],
}

impl Scene {
    fn new() -> Self {
        Self::deciding("origin.test", None)
    }

    /// With this host on the allow list, and perhaps a decider.
    fn deciding(allowed: &str, decider: Option<Arc<dyn NetworkPolicyDecider>>) -> Self {
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
            decider,
            ..EngineParts::default()
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
            _runtime: runtime,
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
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let _ = stream.set_nodelay(true);
                let bulk = vec![b'x'; BULK];
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

fn connect(scene: &Scene) -> TcpStream {
    let mut stream = open(scene.http);
    let head = format!(
        "CONNECT origin.test:{0} HTTP/1.1\r\nHost: origin.test:{0}\r\n\r\n",
        scene.origin.port()
    );
    get(&mut stream, head.as_bytes());
    stream
}

fn socks5(scene: &Scene) -> TcpStream {
    let mut stream = open(scene.socks5);
    let mut message = b"\x05\x01\x00\x05\x01\x00\x03\x0borigin.test".to_vec();
    message.extend_from_slice(&scene.origin.port().to_be_bytes());
    stream.write_all(&message).expect("an open connection");
    let mut reply = [0; 12];
    stream.read_exact(&mut reply).expect("a reply");
    assert_eq!(reply[3], 0, "refused");
    stream
}

fn ping(mut stream: TcpStream) {
    stream.write_all(b"?").expect("an open connection");
    let mut answer = [0; 1];
    stream.read_exact(&mut answer).expect("an answer");
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
    let mut group = criterion.benchmark_group("setup");
    group.bench_function("direct", |bencher| {
        bencher.iter(|| ping(open(scene.origin)));
    });
    group.bench_function("connect", |bencher| bencher.iter(|| ping(connect(&scene))));
    group.bench_function("socks5", |bencher| bencher.iter(|| ping(socks5(&scene))));
    group.finish();
}

fn deciders(criterion: &mut Criterion) {
    let allows = || -> Option<Arc<dyn NetworkPolicyDecider>> {
        Some(Arc::new(|_: NetworkPolicyRequest| async {
            NetworkDecision::Allow
        }))
    };
    let scenes = [
        ("none", Scene::deciding("origin.test", None)),
        ("never_asked", Scene::deciding("origin.test", allows())),
        ("asked", Scene::deciding("other.test", allows())),
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
            bencher.iter(|| ping(connect(scene)));
        });
    }
    group.finish();
}

fn bulk(criterion: &mut Criterion) {
    let scene = Scene::new();
    let mut group = criterion.benchmark_group("bulk");
    group
        .throughput(Throughput::Bytes(BULK as u64))
        .sample_size(30);
    let ways = [
        ("direct", open(scene.origin), false),
        ("forward", open(scene.http), true),
        ("tunnel", connect(&scene), false),
    ];
    for (name, mut stream, proxied) in ways {
        let request = request_line(&scene, "/bulk", proxied);
        group.bench_function(name, |bencher| bencher.iter(|| get(&mut stream, &request)));
    }
    group.finish();
}

criterion_group!(benches, requests, setups, deciders, bulk);
criterion_main!(benches);
