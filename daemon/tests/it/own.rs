//! An embedded proxy cannot be reached through itself, from the moment its listeners are reserved
//! to its end (SPEC P6, L10).

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use codex_network_proxy::{NetworkProxy, NetworkProxyBuilder};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const ANYWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// A proxy that permits everything, with `more` in `[network]`.
fn permissive(more: &str) -> String {
    format!(
        "[network]\nallow_upstream_proxy = false\nallow_local_binding = true\nallowed_domains = [\"*\"]\n\
         denied_domains = [\"192.0.2.1\"]\n{more}\n[daemon.limits]\ndrain_timeout = \"30s\"\n"
    )
}

fn builder() -> NetworkProxyBuilder {
    NetworkProxy::builder().config_toml(permissive(""))
}

/// Requests `/health` of the admin API at `target` through a door. The connection stays open.
async fn ask(door: SocketAddr, target: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(door).await.expect("the door");
    let head = format!("GET http://{target}/health HTTP/1.1\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await.expect("a request");
    stream
}

async fn is_refused_as_a_loop(mut stream: TcpStream) {
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    assert!(answer.contains("loop_detected"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn p6_requests_that_wait_for_the_proxy_to_run_do_not_reach_the_listeners_that_open_last() {
    let proxy = builder().admin_addr(ANYWHERE).build().await;
    let proxy = proxy.expect("a proxy");
    let (http, admin) = (proxy.http_addr(), proxy.admin_addr());
    let (http, admin) = (http.expect("a door"), admin.expect("an API"));
    let mut waiting = Vec::new();
    for _ in 0..100 {
        waiting.push(ask(http, admin).await);
    }
    let handle = proxy.run().await.expect("it runs");
    for stream in waiting {
        is_refused_as_a_loop(stream).await;
    }
    handle.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p6_a_draining_proxy_does_not_reach_the_next_process_at_its_address() {
    let proxy = builder().admin_addr(ANYWHERE).build().await;
    let handle = proxy.expect("a proxy").run().await.expect("it runs");
    let (http, admin) = (handle.http_addr(), handle.admin_addr());
    let (http, admin) = (http.expect("a door"), admin.expect("an API"));
    let mut under_way = TcpStream::connect(http).await.expect("the door");
    under_way.write_all(b"GET ").await.expect("a beginning");
    // It has been accepted when this one, which came after it, is answered.
    let denied = SocketAddr::from(([192, 0, 2, 1], 1));
    let mut later = ask(http, denied).await;
    later.read_u8().await.expect("an answer");
    tokio::join!(handle.shutdown(), async {
        while TcpStream::connect(admin).await.is_ok() {
            tokio::task::yield_now().await;
        }
        let _next = TcpListener::bind(admin).expect("the place is free");
        let rest = format!("http://{admin}/health HTTP/1.1\r\nConnection: close\r\n\r\n");
        under_way
            .write_all(rest.as_bytes())
            .await
            .expect("the rest");
        is_refused_as_a_loop(under_way).await;
    });
}

/// Each instance knows its own listeners, even those of a coming reload.
#[tokio::test(flavor = "multi_thread")]
async fn p6_no_request_gets_into_the_queue_of_a_listener_that_new_settings_open() {
    let text = |enabled: bool| permissive(&format!("enable_socks5 = {enabled}"));
    let proxy = NetworkProxy::builder()
        .config_toml(text(false))
        .build()
        .await;
    let handle = proxy.expect("a proxy").run().await.expect("it runs");
    let http = handle.http_addr().expect("a door");
    for _ in 0..20 {
        handle.replace_toml(text(true)).await.expect("new settings");
        let socks = handle.socks_addr().expect("a door");
        is_refused_as_a_loop(ask(http, socks).await).await;
        handle
            .replace_toml(text(false))
            .await
            .expect("new settings");
    }
    handle.shutdown().await;
}
