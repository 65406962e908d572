//! Tunnels whose bytes the kernel moves behave like tunnels that copy: one table of cases, on each path.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use bytes::Bytes;
use codex_network_config::{Sources, load};
use codex_network_policy::{Authority, Reason, RequestKind};
use futures_util::future::join;
use socket2::SockRef;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, yield_now};

use super::sockets::MAX_TURN;
use super::*;
use crate::attempt::Attempt;
use crate::client::Client;
use crate::doors;
use crate::server::{Engine, EngineParts};

/// Long enough for everything that must happen.
const TIMEOUT: Duration = Duration::from_secs(60);
/// More than all buffers on the way, so that every path moves pieces of all sizes.
const HUGE: usize = 24 << 20;

/// The size of the buffers of each socket.
const BUFFER: usize = 256 * 1024;

/// The sizes that the futures of an idle tunnel may have.
const MAX_TUNNEL_BYTES: usize = 976;
const MAX_SERVED_BYTES: usize = 64;

/// A tunnel between two sockets of the test.
struct Scene {
    client: TcpStream,
    origin: TcpStream,
    flow: Flow,
    forbid: oneshot::Sender<Reason>,
    tunnel: JoinHandle<RelayEnd>,
}

/// The result of a case: the end of the tunnel, and the bytes that it counted.
#[derive(Debug, PartialEq, Eq)]
struct Report {
    end: Ending,
    sent: u64,
    received: u64,
}

/// How a tunnel begins.
#[derive(Clone, Copy)]
struct Beginning {
    early: &'static [u8],
    behind: &'static [u8],
    limit: Duration,
}

const PLAIN: Beginning = Beginning {
    early: b"",
    behind: b"",
    limit: TIMEOUT,
};

/// Two connected sockets.
async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
    let address = listener.local_addr().expect("an address");
    let socket = TcpSocket::new_v4().expect("a socket");
    let (near, far) = join(socket.connect(address), listener.accept()).await;
    let ends = (near.expect("an open port"), far.expect("a client").0);
    for end in [&ends.0, &ends.1] {
        let end = SockRef::from(end);
        // The kernel would let them grow to many megabytes.
        end.set_recv_buffer_size(BUFFER).expect("a socket");
        end.set_send_buffer_size(BUFFER).expect("a socket");
    }
    ends
}

async fn in_time<F: Future>(future: F) -> F::Output {
    let done = tokio::time::timeout(TIMEOUT, future).await;
    done.expect("it happens in time")
}

impl Scene {
    async fn start(pipes: &PipePool, beginning: Beginning) -> Self {
        let (client, near) = pair().await;
        let (far, origin) = pair().await;
        let (early, behind) = (beginning.early.into(), beginning.behind.into());
        let mut relay = SocketRelay::new(near, far, early, behind);
        let (pipes, flow) = (pipes.clone(), Flow::for_tests());
        let (forbid, forbidden) = oneshot::channel();
        let counted = flow.clone();
        let tunnel = tokio::spawn(async move {
            let local = ([127, 0, 0, 1], 1).into();
            let connection = ConnectionHandle::new(local, local);
            let activity = connection.activity();
            let moved = pin!(poll_fn(|cx| relay.poll(cx, &pipes, activity, &counted)));
            let forbidden = pin!(async {
                match forbidden.await {
                    Ok(reason) => reason,
                    Err(_) => std::future::pending().await,
                }
            });
            let end = RelayEnd::of(moved, &connection, beginning.limit, forbidden).await;
            if end.must_reset() {
                relay.reset();
            }
            end
        });
        Self {
            client,
            origin,
            flow,
            forbid,
            tunnel,
        }
    }

    /// Waits for the end of the tunnel. Both sides are open until then.
    async fn report(self) -> Report {
        let end = in_time(self.tunnel).await.expect("the tunnel's task");
        let (sent, received) = self.flow.moved();
        Report {
            end: end.ending(),
            sent,
            received,
        }
    }
}

impl Report {
    fn new(outcome: FlowOutcome, sent: usize, received: usize) -> Self {
        Self {
            end: Ending::plain(outcome),
            sent: sent as u64,
            received: received as u64,
        }
    }
}

/// Bytes without a pattern.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

async fn send(stream: &mut TcpStream, bytes: &[u8]) {
    in_time(stream.write_all(bytes)).await.expect("a reader");
}

async fn finish(stream: &mut TcpStream) {
    stream.shutdown().await.expect("an open connection");
}

async fn read_to_end(stream: &mut TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    let read = in_time(stream.read_to_end(&mut all)).await;
    read.expect("an orderly end");
    all
}

/// The pools of the paths: the kernel moves the bytes, one pipe for both directions, and no pipe.
const POOLS: [usize; 3] = [4, 1, 0];

/// Runs a case on each path.
async fn on_each_path(case: impl AsyncFn(&PipePool)) {
    for limit in POOLS {
        let pipes = PipePool::with_limit(limit);
        case(&pipes).await;
        #[cfg(target_os = "linux")]
        assert_eq!(pipes.in_use(), 0, "with {limit} pipes");
    }
}

/// Counts how often a task is woken.
#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Otherwise a download would hold up every other connection of its thread.
#[tokio::test]
async fn h8_a_tunnel_with_more_to_move_continues_after_the_sockets_that_are_ready() {
    on_each_path(async |pipes| {
        let (client, near) = pair().await;
        let (far, mut origin) = pair().await;
        send(&mut origin, &noise(1, 2 * MAX_TURN)).await;
        in_time(far.readable()).await.expect("bytes");
        let mut relay = SocketRelay::new(near, far, Bytes::new(), Bytes::new());
        let local = ([127, 0, 0, 1], 1).into();
        let connection = ConnectionHandle::new(local, local);
        let (flow, wakes) = (Flow::for_tests(), Arc::new(Wakes::default()));
        let waker = Waker::from(Arc::clone(&wakes));
        let mut cx = Context::from_waker(&waker);
        let moved = relay.poll(&mut cx, pipes, connection.activity(), &flow);
        assert!(moved.is_pending());
        assert!(flow.moved().1 >= MAX_TURN as u64, "a whole turn");
        assert_eq!(wakes.0.load(Ordering::Relaxed), 0, "at once");
        yield_now().await;
        assert_eq!(wakes.0.load(Ordering::Relaxed), 1, "later");
        drop((relay, client));
    })
    .await;
}

#[tokio::test]
async fn h8_bytes_of_any_number_pass_unchanged_and_are_counted() {
    on_each_path(async |pipes| {
        for length in [1, 1000, 32 * 1024, 32 * 1024 + 1, 100_000, 3 << 20] {
            let mut scene = Scene::start(pipes, PLAIN).await;
            let (there, back) = (noise(1, length), noise(2, length));
            let (client, origin) = (&mut scene.client, &mut scene.origin);
            let (mut at_origin, mut at_client) = (vec![0; length], vec![0; length]);
            let ((), read) = join(send(client, &there), origin.read_exact(&mut at_origin)).await;
            read.expect("all bytes");
            let ((), read) = join(send(origin, &back), client.read_exact(&mut at_client)).await;
            read.expect("all bytes");
            assert!(at_origin == there && at_client == back, "{length} bytes");
            finish(client).await;
            finish(origin).await;
            let report = scene.report().await;
            assert_eq!(report, Report::new(FlowOutcome::Completed, length, length));
        }
    })
    .await;
}

#[tokio::test]
async fn h8_huge_transfers_go_both_ways_at_once() {
    on_each_path(async |pipes| {
        let mut scene = Scene::start(pipes, PLAIN).await;
        let exchange = |stream: TcpStream, seed| async move {
            let (mut reader, mut writer) = stream.into_split();
            let sender = tokio::spawn(async move {
                let sent = writer.write_all(&noise(seed, HUGE)).await;
                sent.expect("a reader");
                // Dropping the half closes it.
            });
            let mut received = Vec::new();
            in_time(reader.read_to_end(&mut received))
                .await
                .expect("an orderly end");
            sender.await.expect("the sender");
            received
        };
        let (spare, _other) = pair().await;
        let (spare2, _other2) = pair().await;
        let client = std::mem::replace(&mut scene.client, spare);
        let origin = std::mem::replace(&mut scene.origin, spare2);
        let (at_client, at_origin) = join(exchange(client, 1), exchange(origin, 2)).await;
        assert!(
            at_client == noise(2, HUGE),
            "the client received other bytes"
        );
        assert!(
            at_origin == noise(1, HUGE),
            "the origin received other bytes"
        );
        let report = scene.report().await;
        assert_eq!(report, Report::new(FlowOutcome::Completed, HUGE, HUGE));
    })
    .await;
}

#[tokio::test]
async fn h8_each_end_may_close_its_direction_first() {
    on_each_path(async |pipes| {
        for length in [5, 1 << 20] {
            let question = noise(3, length);
            let mut scene = Scene::start(pipes, PLAIN).await;
            let (client, origin) = (&mut scene.client, &mut scene.origin);
            let asked = async {
                send(client, &question).await;
                finish(client).await;
            };
            let ((), received) = join(asked, read_to_end(origin)).await;
            assert!(received == question);
            send(origin, b"answer").await;
            finish(origin).await;
            assert_eq!(read_to_end(client).await, b"answer");
            let report = scene.report().await;
            assert_eq!(report, Report::new(FlowOutcome::Completed, length, 6));

            let mut scene = Scene::start(pipes, PLAIN).await;
            let (client, origin) = (&mut scene.client, &mut scene.origin);
            let told = async {
                send(origin, &question).await;
                finish(origin).await;
            };
            let ((), received) = join(told, read_to_end(client)).await;
            assert!(received == question);
            send(client, b"thanks").await;
            finish(client).await;
            assert_eq!(read_to_end(origin).await, b"thanks");
            let report = scene.report().await;
            assert_eq!(report, Report::new(FlowOutcome::Completed, 6, length));
        }
    })
    .await;
}

#[tokio::test]
async fn h8_bytes_that_were_read_before_go_first() {
    on_each_path(async |pipes| {
        let beginning = Beginning {
            early: b"early ",
            behind: b"behind ",
            ..PLAIN
        };
        let mut scene = Scene::start(pipes, beginning).await;
        let bulk = noise(4, 1 << 20);
        let (client, origin) = (&mut scene.client, &mut scene.origin);
        let there = async {
            send(client, &bulk).await;
            finish(client).await;
        };
        let ((), at_origin) = join(there, read_to_end(origin)).await;
        assert!(at_origin == [b"early ", bulk.as_slice()].concat());
        finish(origin).await;
        assert_eq!(read_to_end(client).await, b"behind ");
        let report = scene.report().await;
        let sent = bulk.len() + 6;
        assert_eq!(report, Report::new(FlowOutcome::Completed, sent, 7));
    })
    .await;
}

#[tokio::test]
async fn h8_urgent_data_does_not_stop_the_bytes_behind_it() {
    on_each_path(async |pipes| {
        let mut scene = Scene::start(pipes, PLAIN).await;
        let (client, origin) = (&mut scene.client, &mut scene.origin);
        let bulk = noise(5, 1 << 20);
        let there = async {
            send(client, &bulk).await;
            // The byte is dropped, as before: it is no part of the stream.
            let sent = client
                .async_io(Interest::WRITABLE, || {
                    SockRef::from(&*client).send_out_of_band(b"!")
                })
                .await;
            assert_eq!(sent.expect("an open connection"), 1);
            send(client, &bulk).await;
            finish(client).await;
        };
        let ((), at_origin) = join(there, read_to_end(origin)).await;
        assert!(at_origin == [bulk.as_slice(), &bulk].concat());
        finish(origin).await;
        scene.report().await;
    })
    .await;
}

#[tokio::test]
async fn h8_a_slow_reader_gets_every_byte_and_holds_no_more_than_a_pipe() {
    on_each_path(async |pipes| {
        let mut scene = Scene::start(pipes, PLAIN).await;
        let bulk = noise(6, HUGE);
        let stuck = fill(&mut scene.origin, &bulk).await;
        let (client, origin) = (&mut scene.client, &mut scene.origin);
        let rest = async {
            send(origin, &bulk[stuck..]).await;
            finish(origin).await;
        };
        let slowly = async {
            let mut all = vec![0; 512];
            for byte in &mut all {
                *byte = in_time(client.read_u8()).await.expect("a byte");
            }
            all.extend(read_to_end(client).await);
            all
        };
        let ((), received) = join(rest, slowly).await;
        assert!(received == bulk);
        finish(client).await;
        let report = scene.report().await;
        assert_eq!(report, Report::new(FlowOutcome::Completed, 0, HUGE));
    })
    .await;
}

/// Writes until the buffers on the way are full, and returns how many bytes they took.
async fn fill(stream: &mut TcpStream, bytes: &[u8]) -> usize {
    let mut written = 0;
    loop {
        // The test is about time: for so long, the tunnel moves nothing.
        let writable = tokio::time::timeout(Duration::from_millis(100), stream.writable());
        if writable.await.is_err() {
            return written;
        }
        if let Ok(taken) = stream.try_write(&bytes[written..]) {
            written += taken;
        }
        assert!(written < bytes.len(), "the buffers hold everything");
    }
}

#[tokio::test]
async fn h8_a_reset_of_either_end_is_a_reset_for_the_other() {
    on_each_path(async |pipes| {
        for length in [6, 1 << 20] {
            let bulk = noise(7, length);
            for client_resets in [true, false] {
                let mut scene = Scene::start(pipes, PLAIN).await;
                let (spare, _other) = pair().await;
                let (near, far) = if client_resets {
                    (&mut scene.client, &mut scene.origin)
                } else {
                    (&mut scene.origin, &mut scene.client)
                };
                let mut received = vec![0; length];
                let ((), read) = join(send(near, &bulk), far.read_exact(&mut received)).await;
                read.expect("all bytes");
                near.set_zero_linger().expect("a socket");
                drop(std::mem::replace(near, spare));
                let error = in_time(far.read_u8()).await.expect_err("a reset");
                assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
                let report = scene.report().await;
                let (sent, received, outcome) = if client_resets {
                    (length, 0, FlowOutcome::ClientGone)
                } else {
                    (0, length, FlowOutcome::UpstreamFailed)
                };
                assert_eq!(report.end.outcome, outcome);
                assert_eq!(
                    (report.sent, report.received),
                    (sent as u64, received as u64)
                );
                let detail = report.end.detail.unwrap_or_default();
                assert!(detail.contains("reset"), "{detail}");
            }
        }
    })
    .await;
}

#[tokio::test]
async fn h8_a_write_to_an_end_that_is_gone_ends_the_tunnel() {
    on_each_path(async |pipes| {
        let mut scene = Scene::start(pipes, PLAIN).await;
        let bulk = noise(8, HUGE);
        let stuck = fill(&mut scene.origin, &bulk).await;
        assert!(stuck > 0);
        let (spare, _other) = pair().await;
        scene.client.set_zero_linger().expect("a socket");
        drop(std::mem::replace(&mut scene.client, spare));
        let report = scene.report().await;
        assert_eq!(report.end.outcome, FlowOutcome::ClientGone);
    })
    .await;
}

#[tokio::test]
async fn p11_a_tunnel_that_becomes_forbidden_is_reset_though_its_reader_is_slow() {
    on_each_path(async |pipes| {
        for stuck in [false, true] {
            let mut scene = Scene::start(pipes, PLAIN).await;
            if stuck {
                fill(&mut scene.origin, &noise(9, HUGE)).await;
            }
            let (forbid, _) = oneshot::channel();
            let forbid = std::mem::replace(&mut scene.forbid, forbid);
            forbid.send(Reason::Denied).expect("a tunnel");
            let (spare, _) = pair().await;
            let mut client = std::mem::replace(&mut scene.client, spare);
            let report = scene.report().await;
            assert_eq!(report.end, Ending::forbidden(Reason::Denied));
            // An orderly close would say that everything has arrived.
            let end = in_time(client.read_to_end(&mut Vec::new())).await;
            assert_eq!(
                end.map_err(|error| error.kind()),
                Err(io::ErrorKind::ConnectionReset)
            );
        }
    })
    .await;
}

#[tokio::test]
async fn c5_a_tunnel_that_moves_nothing_ends_though_bytes_wait_in_it() {
    on_each_path(async |pipes| {
        for stuck in [false, true] {
            let limit = Duration::from_millis(500);
            let mut scene = Scene::start(pipes, Beginning { limit, ..PLAIN }).await;
            if stuck {
                fill(&mut scene.origin, &noise(10, HUGE)).await;
            }
            let report = scene.report().await;
            assert_eq!(report.end, Ending::idle(limit));
        }
    })
    .await;
}

/// An idle tunnel is one task with this future in it, so each byte counts once for each tunnel.
#[tokio::test]
async fn h8_the_future_of_an_idle_tunnel_stays_small() {
    let policy = "[network]\nallow_local_binding = true\nallowed_domains = [\"127.0.0.1\"]\n";
    let loaded = load(&Sources::none().with_text("test", policy)).expect("a policy");
    let engine = Engine::new(Arc::new(loaded.settings), EngineParts::default());
    let engine = engine.expect("an engine");
    let shared = engine.shared();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
    let address = listener.local_addr().expect("an address");
    let attempt = Attempt {
        client: Client::unconnected(),
        kind: RequestKind::HttpConnect,
    };
    let authority = Authority::parse(&address.to_string(), None).expect("an authority");
    let permit = shared
        .enforcer
        .authorize(shared.live().current(), attempt, authority);
    let permit = permit.await.expect("a permit");
    let upstream = shared.upstream.open(&permit).await;
    let connected = ConnectedClient {
        permit,
        client: pair().await.0,
        early: Bytes::new(),
        upstream: upstream.expect("a connection"),
    };
    let tunnel = run(Arc::clone(shared), doors::tunnel_parts, connected);
    let size = size_of_val(&*tunnel);
    assert!(size <= MAX_TUNNEL_BYTES, "the tunnel has {size} bytes");
    let local = ([127, 0, 0, 1], 1).into();
    let connection = ConnectionHandle::new(local, local);
    let served = doors::serve_http(Arc::clone(shared), pair().await.0, local, connection);
    let size = size_of_val(&served);
    assert!(
        size <= MAX_SERVED_BYTES,
        "the served connection has {size} bytes"
    );
}
