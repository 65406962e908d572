//! A decider: the program decides about hosts that are on neither list.
//!
//! `cargo run -p codex-network-proxy --example decider`

#![expect(clippy::print_stdout, reason = "an example shows what happens")]
#![expect(
    clippy::disallowed_methods,
    reason = "the example plays the client too"
)]

use std::net::SocketAddr;

use codex_network_proxy::{BlockedRequest, NetworkDecision, NetworkPolicyRequest, NetworkProxy};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

#[tokio::main]
pub(crate) async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // An origin that only takes connections. Each CONNECT request opens one.
    let origin = TcpListener::bind("127.0.0.1:0").await?;
    let permitted_port = origin.local_addr()?.port();

    let proxy = NetworkProxy::builder()
        .config_toml("[network]\nallow_local_binding = true\n")
        .policy_decider(move |request: NetworkPolicyRequest| async move {
            if request.host == "127.0.0.1" && request.port == permitted_port {
                NetworkDecision::Allow
            } else {
                // The reason is in the answer, in the record and in the log.
                NetworkDecision::deny("not_for_this_task")
            }
        })
        .blocked_request_observer(|refusal: BlockedRequest| async move {
            println!("observed: {} {}", refusal.host, refusal.reason);
        })
        .build()
        .await?;
    let handle = proxy.run().await?;
    let door = handle.http_addr().ok_or("the proxy has no HTTP door")?;

    let permitted = connect(door, &format!("127.0.0.1:{permitted_port}")).await?;
    println!("permitted: {permitted}");
    assert!(permitted.starts_with("HTTP/1.1 200"));

    let refused = connect(door, "example.com:443").await?;
    println!("refused: {refused}");
    assert!(refused.starts_with("HTTP/1.1 403"));
    let reasons: Vec<_> = handle.blocked().into_iter().map(|it| it.reason).collect();
    assert_eq!(reasons, ["not_for_this_task"]);

    handle.shutdown().await;
    Ok(())
}

/// Requests a tunnel from a proxy. Returns the status line.
async fn connect(proxy: SocketAddr, authority: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(proxy).await?;
    let request = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = [0; 1024];
    let length = stream.read(&mut answer).await?;
    let answer = String::from_utf8_lossy(&answer[..length]);
    Ok(answer.lines().next().unwrap_or_default().to_owned())
}
