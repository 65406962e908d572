//! Runs a proxy in this process, and sends one permitted and one refused request through it.
//!
//! `cargo run -p codex-network-proxy --example embed`

#![expect(clippy::print_stdout, reason = "an example shows what happens")]
#![expect(
    clippy::disallowed_methods,
    reason = "the example plays the client too"
)]

use std::collections::HashMap;
use std::net::SocketAddr;

use codex_network_proxy::NetworkProxy;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

#[tokio::main]
pub(crate) async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let origin = origin().await?;
    let proxy = NetworkProxy::builder()
        // The origin is on loopback, which a policy refuses by default.
        .config_toml(
            r#"
            [network]
            allowed_domains = ["127.0.0.1"]
            allow_local_binding = true
            "#,
        )
        .build()
        .await?;
    let handle = proxy.run().await?;
    let door = handle.http_addr().ok_or("the proxy has no HTTP door")?;

    // A child process with these variables uses the proxy.
    let mut environment = HashMap::new();
    handle.apply_to_env(&mut environment);
    println!("HTTP_PROXY={}", environment["HTTP_PROXY"]);

    let permitted = get(door, &format!("http://{origin}/")).await?;
    println!("permitted: {permitted}");
    assert!(permitted.starts_with("HTTP/1.1 200"));

    let refused = get(door, "http://example.com/").await?;
    println!("refused: {refused}");
    assert!(refused.starts_with("HTTP/1.1 403"));
    for refusal in handle.blocked() {
        println!("{}: {}", refusal.host, refusal.reason);
    }

    handle.shutdown().await;
    Ok(())
}

/// An HTTP server on a free port of 127.0.0.1.
async fn origin() -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut request = [0; 1024];
            let _ = client.read(&mut request).await;
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello";
            let _ = client.write_all(answer).await;
        }
    });
    Ok(address)
}

/// Requests a URL from a proxy. Returns the status line.
async fn get(proxy: SocketAddr, url: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(proxy).await?;
    let request = format!("GET {url} HTTP/1.1\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer.lines().next().unwrap_or_default().to_owned())
}
