//! Many embedded proxies in one process (SPEC L10). The test has a process of its own, since it counts
//! descriptors.

#![expect(
    clippy::disallowed_methods,
    reason = "a client of the proxy dials as clients do"
)]

use std::net::Ipv4Addr;

use codex_network_proxy::{NetworkProxy, NetworkProxyBuilder};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

const PROXIES: usize = 500;
const AT_ONCE: usize = 16;

/// A port for a proxy that no other program gets: bound, and not listening.
fn reserved() -> TcpSocket {
    let socket = TcpSocket::new_v4().expect("a TCP socket");
    socket.set_reuseaddr(true).expect("a fresh socket");
    let any = (Ipv4Addr::LOCALHOST, 0).into();
    socket.bind(any).expect("a free port");
    socket
}

fn descriptors() -> usize {
    let listed = std::fs::read_dir("/dev/fd").expect("the open descriptors");
    // The directory itself is one of them.
    listed.count() - 1
}

/// Builds a proxy, connects while it is not running yet, runs it, and has it answer and end.
async fn one(builder: NetworkProxyBuilder) {
    let proxy = builder
        .config_toml(
            "[network]\nallow_upstream_proxy = false\n[daemon.limits]\ndrain_timeout = \"0s\"",
        )
        .build()
        .await
        .expect("no EADDRINUSE, nor anything else");
    let (http, socks) = (proxy.http_addr(), proxy.socks_addr());
    let mut early = TcpStream::connect(http.expect("a door"))
        .await
        .expect("it is reserved");
    early
        .write_all(
            b"GET http://missing.test/ HTTP/1.1\r\nHost: missing.test\r\nConnection: close\r\n\r\n",
        )
        .await
        .expect("a request");
    let handle = proxy.run().await.expect("the same sockets");
    assert_eq!((handle.http_addr(), handle.socks_addr()), (http, socks));
    let mut answer = String::new();
    early.read_to_string(&mut answer).await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    let mut socks = TcpStream::connect(socks.expect("a door"))
        .await
        .expect("it listens");
    socks.write_all(&[5, 1, 0]).await.expect("a greeting");
    let mut method = [0; 2];
    socks.read_exact(&mut method).await.expect("an answer");
    assert_eq!(method, [5, 0]);
    handle.shutdown().await;
    handle.wait().await;
    assert_eq!(handle.tasks(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn l10_five_hundred_proxies_come_and_go_in_parallel_and_leave_nothing() {
    // The first proxy makes the runtime open what it needs for itself, which does not count.
    let places = [reserved(), reserved()];
    let [http, socks] = places
        .each_ref()
        .map(|place| place.local_addr().expect("a bound socket"));
    let builder = NetworkProxy::builder().managed_by_codex(false);
    one(builder.http_addr(http).socks_addr(socks)).await;
    for door in [http, socks] {
        assert!(TcpStream::connect(door).await.is_err(), "{door} is closed");
    }
    let before = descriptors();
    let mut running = JoinSet::new();
    for _ in 0..PROXIES {
        if running.len() >= AT_ONCE {
            running.join_next().await.expect("one").expect("no panic");
        }
        running.spawn(one(NetworkProxy::builder()));
    }
    while let Some(ended) = running.join_next().await {
        ended.expect("no panic");
    }
    assert_eq!(descriptors(), before);
}
