//! Reads HTTP/1.1 messages from a byte stream, for both the test origin and the test client.
//!
//! Deliberately naive, and deliberately not the code under test: it accepts only what RFC 9112
//! permits and fails on anything else, so that it detects a message that the proxy has damaged, and
//! does not repair it.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use rustls::{ClientConnection, StreamOwned};

/// The byte stream of both sides: a TCP connection, or TLS on one.
pub trait Stream: Read + Write + Send {
    /// Announces the end of sending, in the protocol's own way.
    ///
    /// # Errors
    /// The peer is gone.
    fn finish(&mut self) -> io::Result<()>;
}

impl Stream for SharedSocket {
    fn finish(&mut self) -> io::Result<()> {
        self.0.shutdown(Shutdown::Write)
    }
}

impl Stream for Box<dyn Stream> {
    fn finish(&mut self) -> io::Result<()> {
        (**self).finish()
    }
}

impl<S: Stream> Stream for StreamOwned<ClientConnection, S> {
    fn finish(&mut self) -> io::Result<()> {
        self.conn.send_close_notify();
        self.flush()
    }
}

/// A TCP connection with several owners and one descriptor. `TcpStream::try_clone` takes a descriptor
/// for each owner, and a process may have no more than 1024.
#[derive(Clone, Debug)]
pub struct SharedSocket(Arc<TcpStream>);

impl SharedSocket {
    /// The first owner.
    pub fn new(socket: TcpStream) -> Self {
        Self(Arc::new(socket))
    }
}

impl Deref for SharedSocket {
    type Target = TcpStream;

    fn deref(&self) -> &TcpStream {
        &self.0
    }
}

impl Read for SharedSocket {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        (&*self.0).read(into)
    }
}

impl Write for SharedSocket {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        (&*self.0).write(from)
    }

    fn flush(&mut self) -> io::Result<()> {
        (&*self.0).flush()
    }
}

/// Header or trailer fields in their original order and spelling.
///
/// A byte above 0x7F appears as the Latin-1 character, so nothing is lost.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields(Vec<(String, String)>);

impl Fields {
    /// Fields that did not arrive as lines.
    pub(crate) fn from_pairs(pairs: Vec<(String, String)>) -> Self {
        Self(pairs)
    }

    /// The first value of `name`, ignoring case.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.all(name).first().copied()
    }

    /// Every value of `name`, ignoring case, in order.
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.0
            .iter()
            .filter(|(given, _)| given.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
            .collect()
    }

    /// Every field, unchanged.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// How many fields there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no field at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn says(&self, name: &str, token: &str) -> bool {
        self.all(name)
            .iter()
            .flat_map(|value| value.split(','))
            .any(|item| item.trim().eq_ignore_ascii_case(token))
    }

    /// Whether the body is framed by chunks (RFC 9112 section 7.1).
    pub fn is_chunked(&self) -> bool {
        self.says("transfer-encoding", "chunked")
    }

    /// Whether there is `Connection: close`.
    pub fn closes(&self) -> bool {
        self.says("connection", "close")
    }

    /// The length that `Content-Length` states.
    ///
    /// # Errors
    /// It is repeated, or not a number.
    pub fn content_length(&self) -> io::Result<Option<usize>> {
        match self.all("content-length")[..] {
            [] => Ok(None),
            [one] => one
                .parse()
                .map(Some)
                .map_err(|_| malformed(format!("content-length {one:?}"))),
            ref many => Err(malformed(format!("content-length {many:?}"))),
        }
    }
}

/// The start line and the fields of one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The request line or status line, without its CRLF.
    pub start: String,
    /// The fields below it.
    pub fields: Fields,
    /// Exactly the received bytes, up to and including the empty line.
    pub raw: Vec<u8>,
}

/// A byte stream, and the bytes read from it but not yet used.
pub struct Wire<S> {
    stream: S,
    /// Bytes of an earlier read: the next message if requests are pipelined.
    ahead: Vec<u8>,
}

impl<S: Read> Wire<S> {
    /// Starts reading `stream`.
    pub fn new(stream: S) -> Self {
        Self {
            stream,
            ahead: Vec::new(),
        }
    }

    /// The stream, to write to.
    pub fn stream(&mut self) -> &mut S {
        &mut self.stream
    }

    /// The stream and the bytes read ahead of it, to speak another protocol on.
    pub fn into_parts(self) -> (S, Vec<u8>) {
        (self.stream, self.ahead)
    }

    /// Reads a start line and fields; `None` when the peer closed before a byte.
    ///
    /// # Errors
    /// The connection failed or closed inside the head, or the head is not RFC 9112.
    pub fn read_head(&mut self) -> io::Result<Option<Head>> {
        let mut searched = 0;
        let end = loop {
            if let Some(at) = find(&self.ahead[searched..], b"\r\n\r\n") {
                break searched + at + 4;
            }
            searched = self.ahead.len().saturating_sub(3);
            if self.fill()? == 0 {
                return if self.ahead.is_empty() {
                    Ok(None)
                } else {
                    Err(truncated("inside a head"))
                };
            }
        };
        let raw: Vec<u8> = self.ahead.drain(..end).collect();
        let text = latin1(&raw[..end - 4]);
        let mut lines = text.split("\r\n");
        let start = lines.next().unwrap_or_default().to_owned();
        let fields = lines.map(parse_field).collect::<io::Result<_>>()?;
        Ok(Some(Head {
            start,
            fields: Fields(fields),
            raw,
        }))
    }

    /// Reads exactly `length` bytes, passing them on as they arrive.
    ///
    /// # Errors
    /// The connection failed or closed before.
    pub fn read_sized(&mut self, length: usize, mut sink: impl FnMut(&[u8])) -> io::Result<()> {
        let mut left = length;
        while left > 0 {
            if self.ahead.is_empty() && self.fill()? == 0 {
                return Err(truncated("inside a body"));
            }
            let part = left.min(self.ahead.len());
            sink(&self.ahead[..part]);
            self.ahead.drain(..part);
            left -= part;
        }
        Ok(())
    }

    /// Reads a chunked body, passing its data on as it arrives; returns the trailers.
    ///
    /// # Errors
    /// The connection failed or closed before the end, or the framing is wrong.
    pub fn read_chunked(&mut self, mut sink: impl FnMut(&[u8])) -> io::Result<Fields> {
        loop {
            let line = self.read_line()?;
            let digits = line.split(';').next().unwrap_or_default();
            let size = usize::from_str_radix(digits, 16)
                .map_err(|_| malformed(format!("chunk size {line:?}")))?;
            if size == 0 {
                break;
            }
            self.read_sized(size, &mut sink)?;
            let end = self.read_line()?;
            if !end.is_empty() {
                return Err(malformed(format!("after a chunk came {end:?}")));
            }
        }
        let mut trailers = Vec::new();
        loop {
            let line = self.read_line()?;
            if line.is_empty() {
                return Ok(Fields(trailers));
            }
            trailers.push(parse_field(&line)?);
        }
    }

    /// Reads until the peer closes, passing the bytes on as they arrive.
    ///
    /// # Errors
    /// The connection failed; a TLS peer that closes without `close_notify` is not a failure.
    pub fn read_to_end(&mut self, mut sink: impl FnMut(&[u8])) -> io::Result<()> {
        loop {
            let part = self.read_some()?;
            if part.is_empty() {
                return Ok(());
            }
            sink(&part);
        }
    }

    /// Reads the next bytes as they arrive; empty when the peer has closed.
    ///
    /// # Errors
    /// The connection failed.
    pub fn read_some(&mut self) -> io::Result<Vec<u8>> {
        if self.ahead.is_empty() {
            self.fill()?;
        }
        Ok(std::mem::take(&mut self.ahead))
    }

    fn read_line(&mut self) -> io::Result<String> {
        loop {
            if let Some(at) = find(&self.ahead, b"\r\n") {
                let line: Vec<u8> = self.ahead.drain(..at + 2).collect();
                return Ok(latin1(&line[..at]));
            }
            if self.fill()? == 0 {
                return Err(truncated("inside a line"));
            }
        }
    }

    fn fill(&mut self) -> io::Result<usize> {
        let mut part = [0; 16 * 1024];
        let read = loop {
            match self.stream.read(&mut part) {
                // A socket with a timeout is interrupted when the process is stopped for a moment
                // (signal(7)).
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read,
            }
        };
        let count = match read {
            // rustls reports TLS that ends without close_notify. RFC 9112 section 9.8: the framing
            // decides whether that is a truncation.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => 0,
            other => other?,
        };
        self.ahead.extend_from_slice(&part[..count]);
        Ok(count)
    }
}

/// Prepares a connection for tests: small writes leave at once, and neither side can hang for ever.
///
/// # Errors
/// The socket is already gone.
pub fn prepare(stream: &TcpStream, timeout: Duration) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))
}

/// This many bytes, the same for the same seed, in a sequence that does not repeat soon.
pub fn noise(seed: u32, length: usize) -> Vec<u8> {
    let mut state = seed;
    std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    })
    .take(length)
    .collect()
}

/// One character per byte.
pub fn latin1(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

fn parse_field(line: &str) -> io::Result<(String, String)> {
    let (name, value) = line
        .split_once(':')
        .filter(|(name, _)| !name.is_empty() && !name.contains([' ', '\t']))
        .ok_or_else(|| malformed(format!("field {line:?}")))?;
    Ok((name.to_owned(), value.trim_matches([' ', '\t']).to_owned()))
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack
        .windows(needle.len())
        .position(|window| window == needle)
}

fn malformed(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn truncated(place: &str) -> io::Error {
    io::Error::other(format!("the peer closed {place}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns one byte per read, like the slowest network.
    struct Trickle<'a>(&'a [u8]);

    impl Read for Trickle<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let Some((first, rest)) = self.0.split_first() else {
                return Ok(0);
            };
            into[0] = *first;
            self.0 = rest;
            Ok(1)
        }
    }

    #[test]
    fn pipelined_messages_are_read_one_by_one() {
        let bytes = b"GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\nx:2\r\n\r\n\
            POST /p HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n\
            3;ext=1\r\nabc\r\n2\r\nde\r\n0\r\nT: end\r\n\r\n";
        let mut wire = Wire::new(Trickle(bytes));
        let first = wire.read_head().expect("well formed").expect("a head");
        assert_eq!(first.start, "GET / HTTP/1.1");
        assert_eq!(first.fields.all("x"), ["1", "2"]);
        let second = wire.read_head().expect("well formed").expect("a head");
        assert!(second.fields.is_chunked());
        let mut body = Vec::new();
        let trailers = wire
            .read_chunked(|part| body.extend_from_slice(part))
            .expect("well formed");
        assert_eq!(body, b"abcde");
        assert_eq!(trailers.get("t"), Some("end"));
        assert!(wire.read_head().expect("a clean end").is_none());
    }

    #[test]
    fn a_message_cut_short_at_any_byte_is_an_error() {
        let bytes = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n";
        for length in 1..bytes.len() {
            let mut wire = Wire::new(Trickle(&bytes[..length]));
            let whole = wire.read_head().and_then(|_| wire.read_chunked(|_| ()));
            assert!(whole.is_err(), "cut after {length} bytes");
        }
    }
}
