//! Requests on kept connections: HTTP/1.1, plain, allowed or refused.

use std::io;
use std::rc::Rc;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::Tally;
use crate::dial;

/// A request that every client repeats, and the status that it must get.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) text: String,
    pub(crate) status: u16,
}

impl Request {
    /// A GET through the proxy (RFC 9112, section 3.2.2).
    pub(crate) fn get(host: &str, port: u16, path: &str, status: u16) -> Self {
        let text =
            format!("GET http://{host}:{port}{path} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n");
        Self { text, status }
    }

    pub(crate) fn connect(host: &str, port: u16, status: u16) -> Self {
        let text = format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n");
        Self { text, status }
    }
}

/// A connection to the program, and the bytes that were read ahead.
type Connection = (TcpStream, Vec<u8>);

/// A client that repeats a request. It connects anew where the program closed the connection, as clients do.
pub(crate) async fn repeat(door: u16, request: Request, client: u8, tally: Rc<Tally>) {
    let mut kept = None;
    while let Some(since) = tally.turn().await {
        let was_kept = kept.is_some();
        let mut result = once(door, &request, client, &mut kept).await;
        // A kept connection may close at any time (RFC 9112, section 9.3.1).
        if result.is_err() && was_kept {
            result = once(door, &request, client, &mut kept).await;
        }
        tally.count(since, result);
    }
}

/// One request. The connection is kept where the response allows it.
async fn once(
    door: u16,
    request: &Request,
    client: u8,
    kept: &mut Option<Connection>,
) -> io::Result<()> {
    let (mut stream, mut buffer) = match kept.take() {
        Some(connection) => connection,
        None => (dial::connect(door, client).await?, Vec::with_capacity(4096)),
    };
    stream.write_all(request.text.as_bytes()).await?;
    let head = dial::head(&mut stream, &mut buffer).await?;
    if head.status != request.status {
        return Err(io::Error::other(format!("status {}", head.status)));
    }
    let read_ahead = buffer.len().min(head.content_length);
    buffer.drain(..read_ahead);
    let mut left = head.content_length - read_ahead;
    while left > 0 {
        match dial::discard(&stream, left).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            taken => left -= taken,
        }
    }
    if !head.closes {
        *kept = Some((stream, buffer));
    }
    Ok(())
}
