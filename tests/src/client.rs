//! A client at the level of bytes: it sends exactly what the test wrote, so malformed and half-sent
//! requests are as easy as good ones.
//!
//! It follows no redirect, keeps no cookie, adds no field.

mod association;
mod http2;
mod secure;
mod socks5;

use std::io::{self, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};
use serde_json::Value;

pub use self::association::Association;
pub use self::http2::{Exchange, Http2};
pub use self::socks5::{Bound, Socks5Target};
use crate::tls::TestCa;
use crate::wait::TIMEOUT;
use crate::wire::{self, Fields, SharedSocket, Stream, Wire, latin1};

/// One connection of a test's own. Every read gives up after [`TIMEOUT`].
pub struct Connection {
    wire: Wire<Box<dyn Stream>>,
    socket: SharedSocket,
}

/// One response, read to its end.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The status line as it came.
    pub start: String,
    /// The header fields, in their order and spelling.
    pub headers: Fields,
    /// The body without its framing.
    pub body: Vec<u8>,
    /// The fields after a chunked body.
    pub trailers: Fields,
}

impl Response {
    /// The first value of a header field.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)
    }

    /// The body as text; a byte above 0x7F appears as the Latin-1 character.
    pub fn text(&self) -> String {
        latin1(&self.body)
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("not JSON ({error}): {}", self.text()))
    }
}

impl Connection {
    /// Connects over TCP.
    pub fn open(addr: SocketAddr) -> Self {
        Self::try_open(addr).unwrap_or_else(|error| panic!("connect to {addr}: {error}"))
    }

    /// Connects over TCP.
    ///
    /// # Errors
    ///
    /// Returns the error of the connection, for instance the reset by a peer that has no room.
    pub fn try_open(addr: SocketAddr) -> io::Result<Self> {
        let socket = TcpStream::connect_timeout(&addr, TIMEOUT)?;
        wire::prepare(&socket, TIMEOUT).expect("a fresh socket takes options");
        let socket = SharedSocket::new(socket);
        Ok(Self {
            wire: Wire::new(Box::new(socket.clone())),
            socket,
        })
    }

    /// The local address of the connection, which the daemon sees as the client's.
    pub fn local_addr(&self) -> SocketAddr {
        self.socket
            .local_addr()
            .expect("a connected socket has an address")
    }

    /// Starts TLS on what is now a tunnel to `name`, trusting only `ca`.
    #[must_use]
    pub fn start_tls(self, ca: &TestCa, name: &str) -> Self {
        let name = ServerName::try_from(name.to_owned()).expect("a name that TLS can verify");
        let session = ClientConnection::new(ca.client(), name).expect("a TLS session");
        let (stream, ahead) = self.wire.into_parts();
        assert!(ahead.is_empty(), "the server spoke before the client hello");
        Self {
            wire: Wire::new(Box::new(StreamOwned::new(session, stream))),
            socket: self.socket,
        }
    }

    /// Sends bytes; the peer must take them.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).expect("the peer takes what is sent");
    }

    /// Sends bytes to a peer that may have closed already.
    ///
    /// # Errors
    /// It has.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.wire.stream().write_all(bytes.as_ref())?;
        self.wire.stream().flush()
    }

    /// Says that nothing more will be sent, and goes on reading.
    pub fn finish_sending(&mut self) {
        self.socket
            .shutdown(Shutdown::Write)
            .expect("the connection is still open");
    }

    /// The same in TLS: `close_notify`, and the socket stays as it is.
    pub fn close_notify(&mut self) {
        let finished = self.wire.stream().finish();
        finished.expect("the connection is still open");
    }

    /// Ends the connection with a reset.
    pub fn reset(self) {
        socket2::SockRef::from(&*self.socket)
            .set_linger(Some(std::time::Duration::ZERO))
            .expect("a socket takes options");
    }

    /// Sends a request without a body and reads the final response.
    pub fn exchange(&mut self, request: &str) -> Response {
        self.send(request);
        if request.starts_with("HEAD ") {
            return self.read_head();
        }
        self.read_final_response()
    }

    /// Asks for a tunnel to `authority`: a `CONNECT` with nothing but `Host`.
    pub fn connect(&mut self, authority: &str) -> Response {
        self.send(format!(
            "CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n"
        ));
        let head = self.read_head();
        if head.status / 100 == 2 {
            return head;
        }
        self.read_body_of(head)
    }

    /// Reads one response, 1xx or final.
    pub fn read_response(&mut self) -> Response {
        let head = self.read_head();
        self.read_body_of(head)
    }

    /// Reads responses until one is not 1xx.
    pub fn read_final_response(&mut self) -> Response {
        loop {
            let response = self.read_response();
            if response.status / 100 != 1 || response.status == 101 {
                return response;
            }
        }
    }

    /// Reads the head of a response that has no body (to HEAD or CONNECT), or whose body
    /// [`Self::read_some`] will read.
    pub fn read_head(&mut self) -> Response {
        let head = self
            .wire
            .read_head()
            .expect("a well-formed response")
            .expect("a response, not a close");
        let mut words = head.start.split(' ');
        let (Some("HTTP/1.1" | "HTTP/1.0"), Some(status)) = (words.next(), words.next()) else {
            panic!("not a status line: {:?}", head.start);
        };
        Response {
            status: status.parse().expect("a numeric status"),
            start: head.start,
            headers: head.fields,
            body: Vec::new(),
            trailers: Fields::default(),
        }
    }

    /// Reads the body that belongs to `head` (RFC 9112 section 6.3).
    pub fn read_body_of(&mut self, mut head: Response) -> Response {
        let mut body = Vec::new();
        let sink = |part: &[u8]| body.extend_from_slice(part);
        if matches!(head.status, 100..=199 | 204 | 304) {
        } else if head.headers.is_chunked() {
            head.trailers = self.wire.read_chunked(sink).expect("a whole chunked body");
        } else if let Some(length) = head.headers.content_length().expect("one length") {
            self.wire.read_sized(length, sink).expect("a whole body");
        } else {
            self.wire.read_to_end(sink).expect("a body up to the close");
        }
        head.body = body;
        head
    }

    /// Reads the next bytes; empty when the peer has closed.
    pub fn read_some(&mut self) -> Vec<u8> {
        self.wire.read_some().expect("bytes or a close")
    }

    /// Reads exactly `length` bytes.
    pub fn read_exact(&mut self, length: usize) -> Vec<u8> {
        self.try_read_exact(length)
            .expect("as many bytes as were expected")
    }

    /// Reads exactly `length` bytes from a peer that may close before.
    ///
    /// # Errors
    /// It has.
    pub fn try_read_exact(&mut self, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.wire
            .read_sized(length, |part| bytes.extend_from_slice(part))?;
        Ok(bytes)
    }

    /// Reads everything up to the close.
    pub fn read_to_end(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.wire
            .read_to_end(|part| bytes.extend_from_slice(part))
            .expect("an orderly close");
        bytes
    }

    /// Waits for the peer to reset the connection.
    pub fn expect_reset(&mut self) {
        match self.wire.read_some() {
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
            other => panic!("a reset was expected, but there was {other:?}"),
        }
    }

    /// Waits for the peer to end the connection, by close or by reset, and fails
    /// if it sends anything else first.
    pub fn expect_closed(&mut self) {
        match self.wire.read_some() {
            Ok(bytes) if bytes.is_empty() => {}
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
            other => panic!("a close was expected, but there was {other:?}"),
        }
    }
}

/// A request to a proxy, in absolute-form, to its empty line; `fields` are whole lines without their
/// ends, and follow `Host`.
pub fn proxy_request(method: &str, authority: &str, path: &str, fields: &[&str]) -> String {
    let mut text = format!("{method} http://{authority}{path} HTTP/1.1\r\nHost: {authority}\r\n");
    for field in fields {
        text.extend([*field, "\r\n"]);
    }
    text + "\r\n"
}

/// One request on a connection of its own: `GET` and the like without a body, or
/// with one that gets curl's content type.
pub fn request(addr: SocketAddr, method: &str, target: &str, body: Option<&str>) -> Response {
    let mut connection = Connection::open(addr);
    let framing = body.map_or_else(String::new, |body| {
        format!(
            "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n",
            body.len()
        )
    });
    connection.exchange(&format!(
        "{method} {target} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n{framing}\r\n{}",
        body.unwrap_or_default()
    ))
}
