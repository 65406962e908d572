//! Checks how a client frames its HTTP/1.x requests, byte by byte, before hyper sees them.
//!
//! hyper and httparse tolerate much: a bare LF as a line end, a repeated Content-Length, a Content-Length
//! beside a Transfer-Encoding, `gzip, chunked`. Two recipients that tolerate different things disagree
//! about where a request ends. This is request smuggling, and SPEC H4 refuses every such request. So this
//! scanner stands in front of hyper. It passes bytes on as they arrive, and stops at the first byte that
//! no valid request could have there. It rejects a malformed head before the head is complete, so hyper
//! never gets such a head. It rejects malformed content before hyper can mistake it for the end of the
//! message.
//!
//! It does no I/O. It keeps no copy of the stream, except the request-target until that is complete.
//! Other modules decide what the request-target means, whether `Host` agrees with it, and which fields go
//! upstream. The scanner also rejects every request that hyper would refuse without an explanation, so
//! that every refusal has one.

mod error;
mod grammar;
mod target;
#[cfg(test)]
mod tests;

pub(crate) use error::FramingError;
use grammar::{TokenCopy, chunk_size, error_at};

use self::target::{RawTarget, is_path_or_query};
use crate::http_bytes::{is_ascii_text, is_field_text, is_token, is_visible};

/// Most empty lines before a request line. RFC 9112 section 2.2 asks for "at least one". A client that
/// sends only empty lines must not occupy a connection for ever.
const MAX_EMPTY_LINES: u8 = 4;

/// Most fields in one header or trailer section: hyper's default limit.
const MAX_FIELDS: usize = 100;

/// The largest `Content-Length` that hyper accepts.
const MAX_LENGTH: u64 = u64::MAX - 2;

/// Most bytes of a field name: hyper's limit.
const MAX_NAME: usize = u16::MAX as usize;

/// Most bytes of a chunk-size line, with its extensions and its CR LF.
const MAX_CHUNK_LINE: usize = 1024;

/// Most hexadecimal digits of a chunk size: as many as a `u64` has.
const MAX_CHUNK_DIGITS: u8 = 16;

/// The position of the scanner in the stream. When a client pipelines, it may be ahead of the request
/// that hyper serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Position {
    /// Before a request line, perhaps after some empty lines. A stream that ends here is complete.
    BetweenMessages,
    /// In a request line or a header section.
    InHead,
    /// In content, its chunk framing, or its trailer section.
    InBody,
    /// After the head of a CONNECT request. The following bytes belong to the tunnel, and the scanner does
    /// not check them. If the CONNECT is refused, either the connection ends after the answer, or
    /// [`Framing::resume`] begins the next request.
    Opaque,
}

/// The byte at which the scanner stopped, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ScanError {
    /// The number of valid bytes before it.
    pub(crate) accepted: usize,
    /// Why the byte is invalid.
    pub(crate) error: FramingError,
}

/// The scanner of one client connection.
#[derive(Debug)]
pub(crate) struct Framing {
    max_head_bytes: usize,
    state: ScanState,
    section: MessagePart,
    /// The number of bytes that the current section or chunk line may still have.
    room: usize,
    /// The number of fields that have begun in this section.
    fields: usize,
    /// The bytes of the method or field name so far.
    token: TokenCopy,
    target: RawTarget,
    /// For each request line until it is taken: whether it is `OPTIONS` for a URL without a path, which
    /// `Uri` reads as "/".
    pathless: Vec<bool>,
    method: MethodKind,
    version: Version,
    content: BodyLength,
    /// Whether a complete head has arrived on this connection.
    had_head: bool,
    /// The first error. It is never cleared.
    error: Option<FramingError>,
}

/// The part of a message that the next byte belongs to.
#[derive(Debug, Clone, Copy)]
enum ScanState {
    /// Before a request line, after this many empty lines.
    Start(u8),
    MethodKind,
    TargetStart,
    Target,
    /// After this many bytes of `HTTP/1.x`.
    Version(usize),
    VersionEnd,
    /// The first byte of a line in a header or trailer section.
    LineStart,
    Name,
    /// The value of a field that does not concern framing.
    Value,
    LengthStart,
    Length(u64),
    /// After this many bytes of `chunked`.
    Coding(usize),
    /// After the value of a framing field. Only white space may follow; any other byte is this error.
    ValueEnd(FramingError),
    BodyLength(u64),
    ChunkSize {
        digits: u8,
        size: u64,
    },
    ChunkExtension(u64),
    ChunkData(u64),
    ChunkEnd,
    /// The LF that must follow a CR.
    Lf(LineEnd),
    /// Directly after the head of a CONNECT.
    ConnectEnd,
    /// Behind a CONNECT, after at least one byte that belongs to the tunnel.
    Opaque,
}

/// The line that a CR LF ends.
#[derive(Debug, Clone, Copy)]
enum LineEnd {
    /// An empty line before the request line, and the number of such lines up to this one.
    Empty(u8),
    /// The request line, or a field.
    Head,
    /// The empty line that ends a header or trailer section.
    MessagePart,
    ChunkSize(u64),
    ChunkData,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MessagePart {
    Head,
    /// Content, chunks, and trailers.
    Body,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MethodKind {
    Connect,
    Options,
    Other,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    Http10,
    Http11,
}

/// The length of the content, by the fields read so far (RFC 9112 section 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BodyLength {
    Unspecified,
    Length(u64),
    Chunked,
}

impl Framing {
    /// A scanner for a new connection. `max_head_bytes` limits a request line plus its header section,
    /// line ends included, and also each trailer section.
    pub(crate) fn new(max_head_bytes: usize) -> Self {
        Self {
            max_head_bytes,
            state: ScanState::Start(0),
            section: MessagePart::Head,
            room: max_head_bytes,
            fields: 0,
            token: TokenCopy::default(),
            target: RawTarget::default(),
            pathless: Vec::new(),
            method: MethodKind::Other,
            version: Version::Http11,
            content: BodyLength::Unspecified,
            had_head: false,
            error: None,
        }
    }

    /// Checks the next bytes of the stream, any number of them. The verdict does not depend on how the
    /// stream is divided into calls.
    ///
    /// # Errors
    ///
    /// The first byte that no valid request could have there. After an error nothing more is accepted.
    pub(crate) fn scan(&mut self, bytes: &[u8]) -> Result<(), ScanError> {
        if let Some(error) = self.error {
            return Err(ScanError { accepted: 0, error });
        }
        let mut accepted = 0;
        loop {
            accepted += self.skip(&bytes[accepted..]);
            let Some(&byte) = bytes.get(accepted) else {
                return Ok(());
            };
            match self.step(byte) {
                Ok(state) => self.state = state,
                Err(error) => {
                    self.error = Some(error);
                    return Err(ScanError { accepted, error });
                }
            }
            accepted += 1;
        }
    }

    /// The position of the stream after the accepted bytes.
    pub(crate) fn position(&self) -> Position {
        match (self.state, self.section) {
            (ScanState::Start(_) | ScanState::Lf(LineEnd::Empty(_)), _) => {
                Position::BetweenMessages
            }
            (ScanState::ConnectEnd | ScanState::Opaque, _) => Position::Opaque,
            (_, MessagePart::Head) => Position::InHead,
            (_, MessagePart::Body) => Position::InBody,
        }
    }

    /// Whether a complete head has arrived on the connection. Empty lines do not count.
    pub(crate) fn has_had_head(&self) -> bool {
        self.had_head
    }

    /// Whether a whole request line has arrived since the last call of [`Self::take_pathless`].
    pub(crate) fn has_request_line(&self) -> bool {
        !self.pathless.is_empty()
    }

    /// Whether the head of a CONNECT was the last thing to arrive.
    pub(crate) fn is_at_connect_end(&self) -> bool {
        matches!(self.state, ScanState::ConnectEnd)
    }

    /// Makes the next byte the first one of another request, after the refusal of a CONNECT (RFC 9110
    /// section 9.3.6). Does nothing, and returns false, unless [`Self::is_at_connect_end`]: bytes that
    /// came behind the head were meant for the tunnel.
    pub(crate) fn resume(&mut self) -> bool {
        if !self.is_at_connect_end() {
            return false;
        }
        self.state = self.next_message();
        true
    }

    /// For each request line since the last call: whether it is `OPTIONS` for a URL without a path (RFC
    /// 9112 section 3.2.4).
    pub(crate) fn take_pathless(&mut self) -> impl Iterator<Item = bool> {
        self.pathless.drain(..)
    }

    /// Accepts the leading bytes that do not change the state, and returns their number. It stops at the
    /// limit, and at a byte that may change the state; `step` handles both.
    fn skip(&mut self, bytes: &[u8]) -> usize {
        match self.state {
            ScanState::ConnectEnd | ScanState::Opaque => {
                if !bytes.is_empty() {
                    self.state = ScanState::Opaque;
                }
                bytes.len()
            }
            ScanState::BodyLength(left) => {
                let (taken, left) = take(left, bytes);
                self.state = match left {
                    0 => self.next_message(),
                    left => ScanState::BodyLength(left),
                };
                taken
            }
            ScanState::ChunkData(left) => {
                let (taken, left) = take(left, bytes);
                self.state = match left {
                    0 => ScanState::ChunkEnd,
                    left => ScanState::ChunkData(left),
                };
                taken
            }
            ScanState::MethodKind | ScanState::Name => {
                let taken = self.skip_while(bytes, is_token);
                self.token.extend(&bytes[..taken]);
                taken
            }
            ScanState::Target => {
                let taken = if self.target.is_plain() {
                    self.skip_while(bytes, is_path_or_query)
                } else {
                    self.skip_while(bytes, is_visible)
                };
                self.target.extend(&bytes[..taken]);
                taken
            }
            ScanState::Value => self.skip_while(bytes, is_field_text),
            ScanState::ChunkExtension(_) => self.skip_while(bytes, is_ascii_text),
            _ => 0,
        }
    }

    fn skip_while(&mut self, bytes: &[u8], plain: impl Fn(u8) -> bool) -> usize {
        let within = &bytes[..bytes.len().min(self.room)];
        let end = within.iter().position(|&byte| !plain(byte));
        let taken = end.unwrap_or(within.len());
        self.room -= taken;
        taken
    }

    /// The state after one more byte. In the states that `skip` handles, only the byte at which `skip`
    /// stopped arrives here.
    fn step(&mut self, byte: u8) -> Result<ScanState, FramingError> {
        self.room = self.room.checked_sub(1).ok_or_else(|| self.too_long())?;
        match self.state {
            ScanState::Start(_)
            | ScanState::MethodKind
            | ScanState::TargetStart
            | ScanState::Target
            | ScanState::Version(_)
            | ScanState::VersionEnd => self.request_line(byte),
            ScanState::LineStart | ScanState::Name => self.field_name(byte),
            ScanState::Value
            | ScanState::LengthStart
            | ScanState::Length(_)
            | ScanState::Coding(_)
            | ScanState::ValueEnd(_) => self.field_value(byte),
            ScanState::ChunkSize { digits, size } => chunk_size(digits, size, byte),
            ScanState::ChunkExtension(size) => match byte {
                b'\r' => Ok(ScanState::Lf(LineEnd::ChunkSize(size))),
                _ => Err(error_at(byte, FramingError::ChunkExtension)),
            },
            ScanState::ChunkEnd => match byte {
                b'\r' => Ok(ScanState::Lf(LineEnd::ChunkData)),
                _ => Err(FramingError::ChunkEnd),
            },
            ScanState::Lf(line) => match byte {
                b'\n' => Ok(self.next_line(line)),
                _ => Err(FramingError::BareCr),
            },
            // `skip` consumes every byte in these states.
            ScanState::BodyLength(_)
            | ScanState::ChunkData(_)
            | ScanState::ConnectEnd
            | ScanState::Opaque => Ok(self.state),
        }
    }

    fn next_line(&mut self, ended: LineEnd) -> ScanState {
        match ended {
            LineEnd::Empty(empty_lines) => {
                self.room = self.max_head_bytes;
                ScanState::Start(empty_lines)
            }
            LineEnd::Head => ScanState::LineStart,
            LineEnd::MessagePart => self.section_end(),
            LineEnd::ChunkSize(0) => {
                self.room = self.max_head_bytes;
                self.fields = 0;
                ScanState::LineStart
            }
            LineEnd::ChunkSize(size) => {
                self.room = 2; // The CR LF after the data. The data itself does not count.
                ScanState::ChunkData(size)
            }
            LineEnd::ChunkData => self.next_chunk(),
        }
    }

    fn section_end(&mut self) -> ScanState {
        if self.section == MessagePart::Body {
            return self.next_message();
        }
        self.had_head = true;
        if self.method == MethodKind::Connect {
            return ScanState::ConnectEnd;
        }
        match self.content {
            BodyLength::Unspecified | BodyLength::Length(0) => self.next_message(),
            BodyLength::Length(length) => {
                self.section = MessagePart::Body;
                ScanState::BodyLength(length)
            }
            BodyLength::Chunked => {
                self.section = MessagePart::Body;
                self.next_chunk()
            }
        }
    }

    fn next_chunk(&mut self) -> ScanState {
        self.room = MAX_CHUNK_LINE;
        ScanState::ChunkSize { digits: 0, size: 0 }
    }

    fn next_message(&mut self) -> ScanState {
        *self = Self {
            target: std::mem::take(&mut self.target).cleared(),
            pathless: std::mem::take(&mut self.pathless),
            had_head: self.had_head,
            ..Self::new(self.max_head_bytes)
        };
        self.state
    }

    /// The error for the limit that was reached.
    fn too_long(&self) -> FramingError {
        match self.state {
            ScanState::TargetStart | ScanState::Target => FramingError::TargetTooLong,
            ScanState::ChunkSize { .. }
            | ScanState::ChunkExtension(_)
            | ScanState::Lf(LineEnd::ChunkSize(_)) => FramingError::ChunkLineTooLong,
            _ => FramingError::SectionTooLong,
        }
    }
}

/// The number of these bytes that belong to a body with `left` more bytes, and the bytes that are left
/// then.
fn take(left: u64, bytes: &[u8]) -> (usize, u64) {
    let taken = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
    (taken, left - taken as u64)
}
