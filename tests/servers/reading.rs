//! How a server reads the bytes that it gets.

use std::io::{self, Write as _};
use std::net::{SocketAddr, TcpStream};

use e2e::wait::TIMEOUT;
use e2e::wire::{Wire, prepare};
use serde_json::Value;

/// A final answer.
#[derive(Clone, Debug)]
pub(crate) struct Reading {
    pub(crate) status: u16,
    /// Whether the server says that it closes the connection.
    pub(crate) closes: bool,
    body: Vec<u8>,
}

/// Sends a request and returns the answer; `None` if the server closes without one.
pub(crate) fn one(addr: SocketAddr, request: &[u8]) -> io::Result<Option<Reading>> {
    ask(&mut open(addr)?, request)
}

/// Sends a request and, when it is answered, a last one on the same connection. Returns all answers
/// until the server closes.
pub(crate) fn all(addr: SocketAddr, request: &[u8], last: &[u8]) -> io::Result<Vec<Reading>> {
    let mut wire = open(addr)?;
    let mut answer = ask(&mut wire, request)?;
    let mut all = Vec::new();
    if answer.as_ref().is_some_and(|answer| !answer.closes) {
        all.extend(answer);
        answer = ask(&mut wire, last)?;
    }
    while let Some(one) = answer {
        all.push(one);
        answer = next(&mut wire)?;
    }
    Ok(all)
}

#[expect(
    clippy::disallowed_methods,
    reason = "a test is the client, which dials as it pleases; only the proxy may not"
)]
fn open(addr: SocketAddr) -> io::Result<Wire<TcpStream>> {
    let stream = TcpStream::connect(addr)?;
    prepare(&stream, TIMEOUT)?;
    Ok(Wire::new(stream))
}

fn ask(wire: &mut Wire<TcpStream>, request: &[u8]) -> io::Result<Option<Reading>> {
    match wire.stream().write_all(request) {
        // A server may refuse before it has read everything.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe && !is_reset(&error) => Err(error),
        _ => next(wire),
    }
}

fn is_reset(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::ConnectionReset
}

fn next(wire: &mut Wire<TcpStream>) -> io::Result<Option<Reading>> {
    loop {
        let head = match wire.read_head() {
            Ok(Some(head)) => head,
            Ok(None) => return Ok(None),
            // A close with unread bytes.
            Err(error) if is_reset(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        let status = head
            .start
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| io::Error::other(head.start.clone()))?;
        if status < 200 {
            continue;
        }
        let mut body = Vec::new();
        let sink = |part: &[u8]| body.extend_from_slice(part);
        if head.fields.is_chunked() {
            wire.read_chunked(sink)?;
        } else if let Some(length) = head.fields.content_length()? {
            wire.read_sized(length, sink)?;
        } else {
            wire.read_to_end(sink)?;
        }
        return Ok(Some(Reading {
            status,
            closes: head.fields.closes(),
            body,
        }));
    }
}

impl Reading {
    /// The report of the program behind the server; `None` if the request did not get there.
    pub(crate) fn report(&self) -> Option<Value> {
        (self.status == 200).then(|| {
            let text = String::from_utf8_lossy(&self.body);
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
        })
    }
}
