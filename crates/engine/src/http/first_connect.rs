//! The first request of a connection, if it is a plain CONNECT.
//!
//! Most connections carry one CONNECT and then a tunnel. To set up hyper's connection for that costs more
//! than everything else that the proxy does for the request, and the tunnel would keep its memory. So this
//! module answers such a request, if all of it arrives at once and nothing about it is unusual. hyper serves
//! every other connection, from the first byte on.
//!
//! Both paths check the bytes with [`Framing`], with httparse, which is hyper's parser, and with `target`.
//! Both make the decision and the connection with `connect::open`.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use codex_network_policy::{Authority, RequestKind};
use http::{HeaderMap, Uri};
use httparse::Status;
use tokio::io::{AsyncWriteExt as _, Interest};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};

use super::framing::{Framing, Position};
use super::{Shared, connect, target};
use crate::arrived;
use crate::attempt::Attempt;
use crate::client::{AttemptId, Client};
use crate::connected::ConnectedClient;
use crate::linger::linger;
use crate::outcome::Ending;
use crate::owner::ConnectionHandle;
use crate::prefixed::Prefixed;
use crate::respond;
use crate::upstream::Reached;

/// Most bytes of the head and of those behind it that are read here. A longer head goes to hyper.
const MAX_BYTES: usize = 2048;
/// Most fields of the head. Clients send about four.
const MAX_FIELDS: usize = 16;

/// The course of a connection after its first bytes.
pub(super) enum FirstRequest {
    /// The CONNECT was answered with 200.
    Connected(ConnectedClient<Reached>),
    /// The connection has ended.
    Ended,
    /// hyper serves the connection: from its first byte, or from the request after a refused CONNECT, which
    /// may have named an attempt.
    Http(Prefixed<TcpStream>, Framing, Option<AttemptId>),
}

/// A CONNECT in the usual form.
#[derive(Debug)]
struct PlainConnect {
    authority: Authority,
    attempt: Option<AttemptId>,
    /// The bytes behind the head.
    early: Bytes,
    /// The scanner, behind the head.
    framing: Framing,
}

/// The first bytes of a connection.
enum FirstBytes {
    Connect(Box<PlainConnect>),
    /// Any other bytes, or no bytes.
    Other(Bytes),
}

/// Reads the first bytes, which must arrive before the deadline, and serves a plain CONNECT.
pub(super) async fn serve(
    shared: &Arc<Shared>,
    mut stream: TcpStream,
    address: SocketAddr,
    connection: &ConnectionHandle,
    max_head_bytes: usize,
    deadline: Instant,
) -> FirstRequest {
    let other = |stream, bytes| {
        let framing = Framing::new(max_head_bytes);
        FirstRequest::Http(Prefixed::new(bytes, stream), framing, None)
    };
    // A decision may need minutes. hyper notices a client that goes away meanwhile.
    if shared.enforcer.may_wait() {
        return other(stream, Bytes::new());
    }
    let parse = |bytes: &[u8]| match PlainConnect::parse(bytes, max_head_bytes, connection.local())
    {
        Some(connect) => FirstBytes::Connect(Box::new(connect)),
        None => FirstBytes::Other(Bytes::copy_from_slice(bytes)),
    };
    let connect = match first_bytes(shared, &stream, deadline, parse).await {
        FirstBytes::Connect(connect) => connect,
        FirstBytes::Other(bytes) => return other(stream, bytes),
    };
    let PlainConnect {
        authority,
        attempt: named,
        early,
        mut framing,
    } = *connect;
    let busy = connection.busy();
    let attempt = Attempt {
        client: Client {
            address,
            attempt: named.clone(),
            connection: connection.clone(),
        },
        kind: RequestKind::HttpConnect,
    };
    let generation = shared.live().current();
    let opened = tokio::select! {
        biased;
        opened = connect::open(shared, generation, attempt, authority) => opened,
        // The client has reset the connection.
        _ = stream.ready(Interest::ERROR) => return FirstRequest::Ended,
        () = connection.gives_way() => {
            connection.end(Ending::gives_way());
            let _ = stream.set_zero_linger();
            return FirstRequest::Ended;
        }
    };
    let answer = match opened {
        Ok((permit, upstream)) => {
            if stream.write_all(&respond::CONNECTED).await.is_err() {
                return FirstRequest::Ended;
            }
            return FirstRequest::Connected(ConnectedClient {
                permit,
                client: stream,
                early,
                upstream,
            });
        }
        Err(answer) => answer,
    };
    // Bytes behind a refused CONNECT were meant for the tunnel (RFC 9931).
    let goes_on = !arrived::has_bytes(&stream) && framing.resume();
    let answer = if goes_on {
        answer
    } else {
        respond::closing(answer)
    };
    if stream.write_all(&respond::message(&answer)).await.is_err() {
        return FirstRequest::Ended;
    }
    drop(busy);
    if goes_on {
        return FirstRequest::Http(Prefixed::new(Bytes::new(), stream), framing, named);
    }
    linger(stream).await;
    FirstRequest::Ended
}

/// The first bytes of a connection; none if the client ends it or sends nothing before the deadline, and
/// when a drain begins.
async fn first_bytes(
    shared: &Shared,
    stream: &TcpStream,
    deadline: Instant,
    parse: impl Fn(&[u8]) -> FirstBytes,
) -> FirstBytes {
    // Usually they are there when the connection is accepted.
    if let Some(bytes) = received(|buffer| arrived::read(stream, buffer), &parse) {
        return bytes;
    }
    let arrive = async {
        loop {
            if stream.readable().await.is_err() {
                return FirstBytes::Other(Bytes::new());
            }
            if let Some(bytes) = received(|buffer| stream.try_read(buffer), &parse) {
                return bytes;
            }
        }
    };
    tokio::select! {
        biased;
        bytes = arrive => bytes,
        () = shared.drain.begun() => FirstBytes::Other(Bytes::new()),
        () = sleep_until(deadline) => FirstBytes::Other(Bytes::new()),
    }
}

/// The bytes that have arrived; `None` if nothing has arrived. The buffer lives only here, and not in the
/// future of the connection.
fn received(
    read: impl FnOnce(&mut [u8]) -> io::Result<usize>,
    parse: impl Fn(&[u8]) -> FirstBytes,
) -> Option<FirstBytes> {
    let mut buffer = [0; MAX_BYTES];
    match read(&mut buffer) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
        read => Some(parse(&buffer[..read.unwrap_or(0)])),
    }
}

impl PlainConnect {
    /// Reads a CONNECT in HTTP/1.1 whose head is complete. `None` for everything else: `Host`, if there
    /// is one, must repeat the request-target to the letter, and no field may say anything about content,
    /// an upgrade, or the end of the connection.
    fn parse(bytes: &[u8], max_head_bytes: usize, proxy: SocketAddr) -> Option<Self> {
        if !bytes.starts_with(b"CONNECT ") {
            return None;
        }
        let mut framing = Framing::new(max_head_bytes);
        framing.scan(bytes).ok()?;
        if framing.position() != Position::Opaque {
            return None;
        }
        drop(framing.take_pathless());
        let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
        let mut request = httparse::Request::new(&mut fields);
        let Ok(Status::Complete(length)) = request.parse(bytes) else {
            return None;
        };
        let (Some("CONNECT"), Some(1)) = (request.method, request.version) else {
            return None;
        };
        let target = request.path?;
        let (mut host, mut credentials) = (None, None);
        for field in request.headers {
            let is = |name: &str| field.name.eq_ignore_ascii_case(name);
            if is("host") {
                if host.is_some() || field.value != target.as_bytes() {
                    return None;
                }
                host = Some(field.value);
            } else if is("proxy-authorization") {
                // hyper's way reads the first of several.
                credentials = credentials.or(Some(field.value));
            } else if is("connection") {
                if !field.value.eq_ignore_ascii_case(b"keep-alive") {
                    return None;
                }
            } else if ["content-length", "transfer-encoding", "upgrade", "expect"]
                .into_iter()
                .any(is)
            {
                return None;
            }
        }
        // The `Host` field was compared above.
        let uri = Uri::try_from(target).ok()?;
        let authority = target::connect(&uri, &HeaderMap::new(), proxy).ok()?;
        Some(Self {
            authority,
            attempt: credentials.and_then(AttemptId::from_credentials),
            early: Bytes::copy_from_slice(&bytes[length..]),
            framing,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(head: &str) -> Option<PlainConnect> {
        let proxy = SocketAddr::from(([127, 0, 0, 1], 3128));
        PlainConnect::parse(head.as_bytes(), 4096, proxy)
    }

    #[test]
    fn h8_a_connect_as_clients_send_it_needs_no_hyper() {
        let connect = parse(
            "CONNECT Example.com:443 HTTP/1.1\r\nHost: Example.com:443\r\nUser-Agent: x\r\n\
             Proxy-Connection: Keep-Alive\r\nConnection: keep-alive\r\n\
             Proxy-Authorization: Basic Y29kZXgtbmV0LWF0dGVtcHQtYTE6\r\n\r\nearly",
        )
        .expect("a plain CONNECT");
        assert_eq!(connect.authority.to_string(), "example.com:443");
        assert_eq!(connect.attempt, AttemptId::new("a1"));
        assert_eq!(connect.early, "early");
        assert!(parse("CONNECT [2001:db8::1]:443 HTTP/1.1\r\n\r\n").is_some());
    }

    #[test]
    fn h8_everything_else_goes_to_hyper() {
        for fields in [
            "HTTP/1.0\r\n\r\n",
            "HTTP/1.1\r\n",
            "HTTP/1.1\r\nHost: a.test:443\n\r\n",
            "HTTP/1.1\r\nHost: a.test\r\n\r\n",
            "HTTP/1.1\r\nHost: b.test:443\r\n\r\n",
            "HTTP/1.1\r\nHost: a.test:443\r\nhost: a.test:443\r\n\r\n",
            "HTTP/1.1\r\nConnection: close\r\n\r\n",
            "HTTP/1.1\r\nConnection: keep-alive, upgrade\r\n\r\n",
            "HTTP/1.1\r\nUpgrade: x\r\n\r\n",
            "HTTP/1.1\r\nExpect: 100-continue\r\n\r\n",
            "HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
        ] {
            let head = format!("CONNECT a.test:443 {fields}");
            assert!(parse(&head).is_none(), "{head:?}");
        }
        for head in [
            "",
            "GET http://a.test/ HTTP/1.1\r\n\r\n",
            "\r\nCONNECT a.test:443 HTTP/1.1\r\n\r\n",
            "connect a.test:443 HTTP/1.1\r\n\r\n",
            "CONNECT a.test HTTP/1.1\r\n\r\n",
            "CONNECT http://a.test:443 HTTP/1.1\r\n\r\n",
            "CONNECT user@a.test:443 HTTP/1.1\r\n\r\n",
            "CONNECT a..test:443 HTTP/1.1\r\n\r\n",
        ] {
            assert!(parse(head).is_none(), "{head:?}");
        }
        let long =
            "CONNECT a.test:443 HTTP/1.1\r\n".to_owned() + &"A: b\r\n".repeat(MAX_FIELDS + 1);
        assert!(parse(&(long + "\r\n")).is_none());
    }
}
