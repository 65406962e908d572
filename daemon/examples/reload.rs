//! Changes the settings of a running proxy. All of the new settings come into force, or none.
//!
//! `cargo run -p codex-network-proxy --example reload`

#![expect(clippy::print_stdout, reason = "an example shows what happens")]
#![expect(
    clippy::disallowed_methods,
    reason = "the example plays the client too"
)]

use std::net::SocketAddr;

use codex_network_proxy::{NetworkMode, NetworkProxy};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

#[tokio::main]
pub(crate) async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let origin = TcpListener::bind("127.0.0.1:0").await?;
    let authority = origin.local_addr()?.to_string();
    // Without a configuration everything is refused.
    let handle = NetworkProxy::builder().build().await?.run().await?;
    let door = handle.http_addr().ok_or("the proxy has no HTTP door")?;
    let (_, before) = connect(door, &authority).await?;
    println!("at first: {before}");
    assert!(before.starts_with("HTTP/1.1 403"));

    // A configuration with an error changes nothing. The error has every problem.
    let broken = handle
        .replace_toml("[network]\nmode = \"sometimes\"\n")
        .await;
    let problems = broken.err().ok_or("the configuration was accepted")?;
    println!("{problems}");

    let permissive = "[network]\nallowed_domains = [\"127.0.0.1\"]\nallow_local_binding = true\n";
    handle.replace_toml(permissive).await?;
    let (mut tunnel, after) = connect(door, &authority).await?;
    println!("after the change: {after}");
    assert!(after.starts_with("HTTP/1.1 200"));

    // Settings that forbid an open tunnel end it.
    handle.replace_toml("[network]\n").await?;
    let ended = tunnel.read(&mut [0; 1]).await;
    assert!(matches!(ended, Ok(0) | Err(_)));
    println!("the open tunnel has ended");

    // Limited mode stays until the program sets full mode.
    handle.set_mode(NetworkMode::Limited)?;
    println!("the mode is {}", handle.settings().policy.mode().as_str());

    handle.shutdown().await;
    Ok(())
}

/// Requests a tunnel from a proxy. Returns it, and the status line of the answer.
async fn connect(proxy: SocketAddr, authority: &str) -> std::io::Result<(TcpStream, String)> {
    let mut stream = TcpStream::connect(proxy).await?;
    let request = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = [0; 1024];
    let length = stream.read(&mut answer).await?;
    let answer = String::from_utf8_lossy(&answer[..length]);
    let line = answer.lines().next().unwrap_or_default().to_owned();
    Ok((stream, line))
}
