//! HTTPS through a program that intercepts it: requests on kept connections, and new connections.

use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use h2::client::SendRequest;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::Tally;
use crate::dial::{self, HOST, Route};

/// The windows of an HTTP/2 client, as large as those of browsers.
const WINDOW_BYTES: u32 = 4 << 20;

/// The way to the origin's HTTPS, and what is requested there.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) route: Route,
    pub(crate) port: u16,
    /// The length of the body.
    pub(crate) body: usize,
    /// Further lines of the head of a request over HTTP/1.1.
    pub(crate) fields: String,
    pub(crate) tls: Arc<ClientConfig>,
}

/// A client that repeats a request over HTTP/1.1 on a kept connection.
pub(crate) async fn repeat(target: Target, client: u8, tally: Rc<Tally>) {
    let mut kept = None;
    while let Some(since) = tally.turn().await {
        let result = async {
            let mut stream = match kept.take() {
                Some(stream) => stream,
                None => connect(&target, client).await?,
            };
            get(&mut stream, &target).await?;
            kept = Some(stream);
            Ok(())
        };
        tally.count(since, result.await);
    }
}

/// A client that makes a new connection for each request.
pub(crate) async fn reconnect(target: Target, client: u8, tally: Rc<Tally>) {
    while let Some(since) = tally.turn().await {
        let result = async {
            let mut stream = connect(&target, client).await?;
            get(&mut stream, &target).await
        };
        tally.count(since, result.await);
    }
}

/// A client with one HTTP/2 connection, and this many requests on it at once.
pub(crate) async fn multiplex(target: Target, streams: usize, client: u8, tally: Rc<Tally>) {
    let sender = async {
        let stream = connect(&target, client).await?;
        if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
            return Err(io::Error::other("it does not choose HTTP/2"));
        }
        let (sender, connection) = h2::client::Builder::new()
            .initial_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            .enable_push(false)
            .handshake::<_, Bytes>(stream)
            .await
            .map_err(io::Error::other)?;
        // It ends with the last sender.
        tokio::task::spawn_local(connection);
        Ok(sender)
    };
    match sender.await {
        Ok(sender) => {
            let streams: Vec<_> = (0..streams)
                .map(|_| {
                    tokio::task::spawn_local(one_stream(
                        target.port,
                        target.body,
                        sender.clone(),
                        tally.clone(),
                    ))
                })
                .collect();
            for stream in streams {
                // A stream counts its own failures.
                let _ = stream.await;
            }
        }
        Err(error) => tally.count(Instant::now(), Err(error)),
    }
}

async fn one_stream(port: u16, body: usize, mut sender: SendRequest<Bytes>, tally: Rc<Tally>) {
    while let Some(since) = tally.turn().await {
        let result = get_over_http2(port, body, &mut sender).await;
        let failed = result.is_err();
        tally.count(since, result);
        if failed {
            return;
        }
    }
}

async fn get_over_http2(port: u16, body: usize, sender: &mut SendRequest<Bytes>) -> io::Result<()> {
    let request = http::Request::get(format!("https://{HOST}:{port}/{body}"))
        .version(http::Version::HTTP_2)
        .body(())
        .map_err(io::Error::other)?;
    poll_fn(|context| sender.poll_ready(context))
        .await
        .map_err(io::Error::other)?;
    let (response, _) = sender
        .send_request(request, true)
        .map_err(io::Error::other)?;
    let response = response.await.map_err(io::Error::other)?;
    if response.status() != 200 {
        return Err(io::Error::other(format!("status {}", response.status())));
    }
    let mut received = 0;
    let mut parts = response.into_body();
    while let Some(part) = parts.data().await {
        let length = part.map_err(io::Error::other)?.len();
        received += length;
        parts
            .flow_control()
            .release_capacity(length)
            .map_err(io::Error::other)?;
    }
    if received == body {
        Ok(())
    } else {
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}

/// A TLS connection in a tunnel.
pub(crate) async fn connect(target: &Target, client: u8) -> io::Result<TlsStream<TcpStream>> {
    let tunnel = dial::tunnel(target.route, target.port, client).await?;
    let name = ServerName::try_from(HOST).map_err(io::Error::other)?;
    TlsConnector::from(target.tls.clone())
        .connect(name, tunnel)
        .await
}

/// A request over HTTP/1.1, and its whole response.
pub(crate) async fn get(stream: &mut TlsStream<TcpStream>, target: &Target) -> io::Result<()> {
    let request = format!(
        "GET /{} HTTP/1.1\r\nHost: {HOST}:{}\r\n{}\r\n",
        target.body, target.port, target.fields
    );
    stream.write_all(request.as_bytes()).await?;
    stream.flush().await?;
    let mut buffer = Vec::with_capacity(16 << 10);
    let head = dial::head(stream, &mut buffer).await?;
    if head.status != 200 {
        return Err(io::Error::other(format!("status {}", head.status)));
    }
    while buffer.len() < head.content_length {
        if stream.read_buf(&mut buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(())
}
