//! HTTP/2 frame by frame (RFC 9113 section 6), for frames that no library would send.

use std::io;

use e2e::client::Connection;
use e2e::setup::TlsSetup;

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(super) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A connection on which a test writes and reads single frames.
pub(super) struct FrameConnection {
    connection: Connection,
    /// `host:port`, for request headers.
    authority: String,
}

/// One frame that came.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(crate) stream: u32,
    pub(super) payload: Vec<u8>,
}

/// A frame as bytes.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short payload");
    let mut bytes = length.to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A frame without its payload, and the payload's length.
pub(super) fn header(bytes: [u8; 9]) -> (Frame, usize) {
    let number = |bytes: &[u8]| {
        bytes
            .iter()
            .fold(0, |number, byte| number << 8 | u32::from(*byte))
    };
    let frame = Frame {
        kind: bytes[3],
        flags: bytes[4],
        stream: number(&bytes[5..]),
        payload: Vec::new(),
    };
    (frame, number(&bytes[..3]) as usize)
}

/// A field that is in no table and never will be (RFC 7541 section 6.2.2).
pub(crate) fn field(name: &str, value: &str) -> Vec<u8> {
    let mut bytes = vec![0];
    for text in [name, value] {
        integer(&mut bytes, text.len(), 0x7f);
        bytes.extend(text.bytes());
    }
    bytes
}

/// An integer with a prefix of seven bits (RFC 7541 section 5.1).
fn integer(bytes: &mut Vec<u8>, mut number: usize, most: usize) {
    let byte = |number: usize| u8::try_from(number).expect("seven bits and a flag");
    if number < most {
        return bytes.push(byte(number));
    }
    bytes.push(byte(most));
    number -= most;
    while number >= 0x80 {
        bytes.push(byte(number % 0x80 + 0x80));
        number /= 0x80;
    }
    bytes.push(byte(number));
}

impl FrameConnection {
    /// HTTP/2 inside intercepted TLS, with these settings (identifiers and values).
    pub(super) fn open(setup: &TlsSetup, host: &str, settings: &[(u16, u32)]) -> Self {
        let client = setup.client(&["h2"]);
        let (mut connection, session) = setup.tunnel(host).secure(&client, host);
        assert_eq!(session.alpn.as_deref(), Some("h2"));
        let settings: Vec<u8> = settings
            .iter()
            .flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat())
            .collect();
        connection.send([PREFACE, &frame(SETTINGS, 0, 0, &settings)].concat());
        Self {
            connection,
            authority: setup.authority(host),
        }
    }

    pub(super) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.connection.send(bytes);
    }

    pub(super) fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.connection.try_send(bytes)
    }

    /// The header block of a request.
    pub(super) fn request(&self, method: &str, path: &str, fields: &[(&str, &str)]) -> Vec<u8> {
        let pseudo = [
            (":method", method),
            (":scheme", "https"),
            (":authority", &*self.authority),
            (":path", path),
        ];
        let all = pseudo.iter().chain(fields);
        all.flat_map(|(name, value)| field(name, value)).collect()
    }

    /// The next frame; `None` at any end of the connection.
    pub(super) fn next(&mut self) -> Option<Frame> {
        let mut read = |length| self.connection.try_read_exact(length).ok();
        let (frame, length) = header(read(9)?.try_into().ok()?);
        Some(Frame {
            payload: read(length)?,
            ..frame
        })
    }

    /// Reads until a frame matches.
    pub(super) fn until(&mut self, look: impl Fn(&Frame) -> bool) -> Option<Frame> {
        std::iter::from_fn(|| self.next()).find(|frame| look(frame))
    }
}
