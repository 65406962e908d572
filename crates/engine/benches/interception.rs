//! The cost of interception, compared with TLS to the origin itself, in one run on loopback.
//!
//! - `handshake`: a new connection and one byte of HTTP: direct, through an opaque tunnel,
//!   intercepted with the leaf in the cache, intercepted with a leaf to be issued.
//! - `session`: a new connection and one small GET, direct and intercepted, with a full handshake and with
//!   a resumed one.
//! - `request`: one kept connection, one small GET after the other, in HTTP/1.1 and HTTP/2.
//!
//! It ends with the resident memory of 500 idle intercepted connections, client and origin of this
//! same process included, beside that of 500 idle opaque ones. Quote ratios.

#[path = "../tests/it"]
#[expect(dead_code, reason = "the tests use more of it")]
mod it {
    pub(crate) mod kit;
    pub(crate) mod interception {
        pub(crate) mod scene;
    }
}

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use bytes::Bytes;
use codex_network_policy::Mode;
use criterion::{Criterion, criterion_group, criterion_main};
use http::Request;
use http_body_util::Empty;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::client::Resumption;
use rustls::{ClientConfig, HandshakeKind};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio_rustls::client::TlsStream;

use self::it::interception::scene::{Scene, whole};

const POLICY: &str = "[network]\nallowed_domains = [\"**.test\"]\n";
const IDLE: usize = 500;

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a runtime")
}

/// Disables resumption, so that every handshake is a full one.
fn anew(config: &Arc<ClientConfig>) -> Arc<ClientConfig> {
    let mut config = ClientConfig::clone(config);
    config.resumption = Resumption::disabled();
    Arc::new(config)
}

fn handshakes(c: &mut Criterion) {
    let runtime = runtime();
    let scene = runtime.block_on(Scene::new(POLICY, &["http/1.1"]));
    let of_origin = anew(&scene.origin_ca.client(&["http/1.1"]));
    let of_proxy = anew(&scene.ca.client(&["http/1.1"]));
    let mut group = c.benchmark_group("handshake");
    group.bench_function("direct", |b| {
        b.to_async(&runtime)
            .iter(|| async { scene.direct(Arc::clone(&of_origin)).await });
    });
    group.bench_function("tunnel", |b| {
        scene
            .doors
            .engine
            .set_mode(Mode::Full)
            .expect("no requirements");
        let client = &of_origin;
        b.to_async(&runtime)
            .iter(|| tls(&scene, "origin.test", Arc::clone(client)));
    });
    group.bench_function("intercepted", |b| {
        scene
            .doors
            .engine
            .set_mode(Mode::Limited)
            .expect("no requirements");
        b.to_async(&runtime)
            .iter(|| tls(&scene, "origin.test", Arc::clone(&of_proxy)));
    });
    group.bench_function("intercepted_with_a_new_leaf", |b| {
        scene
            .doors
            .engine
            .set_mode(Mode::Limited)
            .expect("no requirements");
        let number = AtomicUsize::new(0);
        b.to_async(&runtime).iter(|| {
            let name = format!("h{}.many.test", number.fetch_add(1, Ordering::Relaxed));
            let (scene, client) = (&scene, Arc::clone(&of_proxy));
            async move { tls(scene, &name, client).await }
        });
    });
    group.finish();
}

async fn tls(scene: &Scene, name: &str, client: Arc<ClientConfig>) -> TlsStream<TcpStream> {
    scene
        .tls(&format!("{name}:443"), name, client)
        .await
        .expect("a session")
}

/// A connection that is kept.
enum Kept {
    Http1(http1::SendRequest<Empty<Bytes>>),
    Http2(http2::SendRequest<Empty<Bytes>>),
}

impl Kept {
    async fn of(stream: TlsStream<TcpStream>) -> Self {
        if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
            let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                .await
                .expect("HTTP/2");
            tokio::spawn(connection);
            Self::Http2(sender)
        } else {
            let (sender, connection) = http1::handshake(TokioIo::new(stream))
                .await
                .expect("HTTP/1.1");
            tokio::spawn(connection);
            Self::Http1(sender)
        }
    }

    async fn get(&mut self) {
        let uri = match self {
            Self::Http1(_) => "/path",
            Self::Http2(_) => "https://origin.test/path",
        };
        let request = Request::get(uri)
            .header("host", "origin.test")
            .body(Empty::new())
            .expect("a request");
        let answer = match self {
            Self::Http1(sender) => {
                sender.ready().await.expect("it is kept");
                sender.send_request(request).await
            }
            Self::Http2(sender) => sender.send_request(request).await,
        };
        let answer = whole(answer.expect("an answer")).await;
        assert_eq!(answer.status(), 200);
    }
}

fn sessions(c: &mut Criterion) {
    let runtime = runtime();
    let scene = runtime.block_on(Scene::new(POLICY, &["http/1.1"]));
    let engine = &scene.doors.engine;
    engine.set_mode(Mode::Limited).expect("no requirements");
    let session = async |way: &str, client: &Arc<ClientConfig>| {
        let client = Arc::clone(client);
        let stream = match way {
            "direct" => scene.direct(client).await,
            _ => tls(&scene, "origin.test", client).await,
        };
        let handshake = stream.get_ref().1.handshake_kind();
        // The tickets for the next session come before the answer.
        Kept::of(stream).await.get().await;
        handshake
    };
    let mut group = c.benchmark_group("session");
    for (way, ca) in [("direct", &scene.origin_ca), ("intercepted", &scene.ca)] {
        let resuming = ca.client(&["http/1.1"]);
        for (name, client, wanted) in [
            ("full", anew(&resuming), HandshakeKind::Full),
            ("resumed", resuming, HandshakeKind::Resumed),
        ] {
            // The first connection gets the first ticket.
            runtime.block_on(session(way, &client));
            group.bench_function(format!("{way}/{name}"), |b| {
                b.to_async(&runtime).iter(|| async {
                    assert_eq!(session(way, &client).await, Some(wanted));
                });
            });
        }
    }
    group.finish();
}

fn requests(c: &mut Criterion) {
    let runtime = runtime();
    let mut group = c.benchmark_group("request");
    for protocol in ["http/1.1", "h2"] {
        let scene = runtime.block_on(Scene::new(POLICY, &[protocol]));
        scene
            .doors
            .engine
            .set_mode(Mode::Limited)
            .expect("no requirements");
        for way in ["direct", "intercepted"] {
            let mut kept = runtime.block_on(async {
                let stream = if way == "direct" {
                    let client = scene.origin_ca.client(&[protocol]);
                    scene.direct(client).await
                } else {
                    tls(&scene, "origin.test", scene.ca.client(&[protocol])).await
                };
                Kept::of(stream).await
            });
            group.bench_function(format!("{protocol}/{way}"), |b| {
                b.iter_custom(|times| {
                    let start = Instant::now();
                    runtime.block_on(async {
                        for _ in 0..times {
                            kept.get().await;
                        }
                    });
                    start.elapsed()
                });
            });
        }
    }
    group.finish();
}

/// Measures memory instead of time: idle connections with both of their ends in this process.
#[expect(clippy::print_stdout, reason = "criterion cannot report this figure")]
fn memory(_: &mut Criterion) {
    let runtime = runtime();
    for protocol in ["http/1.1", "h2"] {
        let scene = runtime.block_on(Scene::new(POLICY, &[protocol]));
        for (way, mode) in [("opaque", Mode::Full), ("intercepted", Mode::Limited)] {
            scene.doors.engine.set_mode(mode).expect("no requirements");
            let ca = match mode {
                Mode::Full => &scene.origin_ca,
                Mode::Limited => &scene.ca,
            };
            let client = ca.client(&[protocol]);
            let before = resident();
            let kept: Vec<Kept> = runtime.block_on(async {
                let mut kept = Vec::new();
                for _ in 0..IDLE {
                    let stream = tls(&scene, "origin.test", Arc::clone(&client)).await;
                    let mut one = Kept::of(stream).await;
                    one.get().await;
                    kept.push(one);
                }
                kept
            });
            let each = (resident() - before) / IDLE as u64;
            println!("memory/{protocol}/{way}: {each} KiB for each of {IDLE} idle connections");
            drop(kept);
        }
    }
}

/// KiB that this process has in memory.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .unwrap_or_default()
}

criterion_group!(benches, handshakes, sessions, requests, memory);
criterion_main!(benches);
