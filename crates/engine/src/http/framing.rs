//! Checks how a client frames its HTTP/1.x requests, byte by byte, before hyper sees them.
//!
//! hyper and httparse forgive much: a bare LF as a line end, one Content-Length said twice, a
//! Content-Length beside a Transfer-Encoding, `gzip, chunked`. Two parties that forgive differently
//! disagree about where a request ends, and that is request smuggling; SPEC H4 wants every such
//! request refused. So this scanner stands in front: it releases bytes as they come and stops at
//! the first one that no sound request could hold there. A flaw of the head is always found before
//! the head is complete, so hyper never gets a complete bad one; a flaw of the content is found
//! before hyper can take it for the end of the message.
//!
//! It does no I/O and keeps no copy of the stream but for the request-target, until that is complete.
//! It does not parse: what the request-target means, whether `Host` agrees with it, and which fields go
//! upstream are decided elsewhere. What hyper would answer itself, without a word, is a flaw here: so
//! every answer has words.

mod flaw;
mod grammar;
mod target;
#[cfg(test)]
mod tests;

pub(crate) use flaw::Flaw;

use self::target::{RawTarget, is_path_or_query};
use grammar::{Word, chunk_size, flaw_at, is_ascii_text};
pub(crate) use grammar::{is_field_text, is_token, is_visible};

/// Empty lines tolerated before a request line. RFC 9112 section 2.2 asks for "at least one"; a
/// client that sends nothing else must not keep a connection in use for ever.
const MAX_EMPTY_LINES: u8 = 4;

/// Fields in one header or trailer section: as many as hyper takes by default.
const MAX_FIELDS: usize = 100;

/// The largest `Content-Length` that hyper takes for one.
const MAX_LENGTH: u64 = u64::MAX - 2;

/// Bytes of a field name that hyper takes.
const MAX_NAME: usize = u16::MAX as usize;

/// Bytes of one chunk-size line, with its extensions and its CR LF.
const MAX_CHUNK_LINE: usize = 1024;

/// Hexadecimal digits of a chunk size: those of a `u64`.
const MAX_CHUNK_DIGITS: u8 = 16;

/// Where the stream stands between two bytes.
///
/// This is where the scanner stands, which may be ahead of the request that hyper is serving when a
/// client pipelines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Position {
    /// Before a request line (perhaps after some empty lines): the stream may end here without
    /// loss.
    BetweenMessages,
    /// In a request line or a header section.
    InHead,
    /// In content, its chunk framing, or its trailer section.
    InBody,
    /// After the head of a CONNECT request: the bytes belong to the tunnel and are not looked at
    /// any more. When the CONNECT is refused, the connection must be closed after the answer: what
    /// follows has not been checked.
    Opaque,
}

/// The end of what may be passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cut {
    /// How many leading bytes of those given are sound.
    pub(crate) accepted: usize,
    /// What is wrong with the byte after them.
    pub(crate) flaw: Flaw,
}

/// The scanner of one client connection.
#[derive(Debug)]
pub(crate) struct Framing {
    max_head_bytes: usize,
    state: State,
    section: Section,
    /// Bytes that the section or chunk line in progress may still have.
    room: usize,
    /// Fields begun in this section.
    fields: usize,
    /// The method or field name in progress.
    word: Word,
    target: RawTarget,
    /// For each request line, until it is taken: whether it is one of `OPTIONS` for a URL without a
    /// path, which `Uri` reads as "/".
    pathless: Vec<bool>,
    method: Method,
    version: Version,
    content: Content,
    /// Whether a whole head has ever come on this connection.
    had_head: bool,
    /// Set for good by the first flaw.
    flaw: Option<Flaw>,
}

/// What the next byte belongs to.
#[derive(Debug, Clone, Copy)]
enum State {
    /// Before a request line, after so many empty lines.
    Start(u8),
    Method,
    TargetStart,
    Target,
    /// So many bytes of `HTTP/1.x` are behind.
    Version(usize),
    VersionEnd,
    /// The first byte of a line in a header or trailer section.
    LineStart,
    Name,
    /// The value of a field that has no part in framing.
    Value,
    LengthStart,
    Length(u64),
    /// So many bytes of `chunked` are behind.
    Coding(usize),
    /// After the value of a framing field: only white space is left, anything else is the given
    /// flaw.
    ValueEnd(Flaw),
    Content(u64),
    ChunkSize {
        digits: u8,
        size: u64,
    },
    ChunkExtension(u64),
    ChunkData(u64),
    ChunkEnd,
    /// The LF that completes a CR.
    Lf(Line),
    Opaque,
}

/// Which line a CR LF ends.
#[derive(Debug, Clone, Copy)]
enum Line {
    /// One before the request line; how many there are with it.
    Empty(u8),
    /// The request line, or a field.
    Head,
    /// The empty one that ends a header or trailer section.
    Section,
    ChunkSize(u64),
    ChunkData,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Section {
    Head,
    /// Content, chunks, and trailers.
    Body,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Method {
    Connect,
    Options,
    Other,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    Http10,
    Http11,
}

/// What the header section has said about content so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Content {
    Unsaid,
    Length(u64),
    Chunked,
}

impl Framing {
    /// A scanner at the start of a connection. `max_head_bytes` bounds a request line with its
    /// header section, line ends included, and also each trailer section.
    pub(crate) fn new(max_head_bytes: usize) -> Self {
        Self {
            max_head_bytes,
            state: State::Start(0),
            section: Section::Head,
            room: max_head_bytes,
            fields: 0,
            word: Word::default(),
            target: RawTarget::default(),
            pathless: Vec::new(),
            method: Method::Other,
            version: Version::Http11,
            content: Content::Unsaid,
            had_head: false,
            flaw: None,
        }
    }

    /// Looks at the next bytes of the stream, which may be any number. How the stream is cut into
    /// calls makes no difference to the verdict.
    ///
    /// # Errors
    ///
    /// The first byte that no sound request could have there. From then on nothing is accepted.
    pub(crate) fn scan(&mut self, bytes: &[u8]) -> Result<(), Cut> {
        if let Some(flaw) = self.flaw {
            return Err(Cut { accepted: 0, flaw });
        }
        let mut accepted = 0;
        loop {
            accepted += self.skip(&bytes[accepted..]);
            let Some(&byte) = bytes.get(accepted) else {
                return Ok(());
            };
            match self.step(byte) {
                Ok(state) => self.state = state,
                Err(flaw) => {
                    self.flaw = Some(flaw);
                    return Err(Cut { accepted, flaw });
                }
            }
            accepted += 1;
        }
    }

    /// Where the stream stands after what was accepted.
    pub(crate) fn position(&self) -> Position {
        match (self.state, self.section) {
            (State::Start(_) | State::Lf(Line::Empty(_)), _) => Position::BetweenMessages,
            (State::Opaque, _) => Position::Opaque,
            (_, Section::Head) => Position::InHead,
            (_, Section::Body) => Position::InBody,
        }
    }

    /// Whether the connection has ever brought a whole head. Empty lines are none.
    pub(crate) fn has_had_head(&self) -> bool {
        self.had_head
    }

    /// For each request line that has come since the last call, whether it is one of `OPTIONS` for a URL
    /// without a path (RFC 9112 section 3.2.4).
    pub(crate) fn take_pathless(&mut self) -> impl Iterator<Item = bool> {
        self.pathless.drain(..)
    }

    /// Takes the leading bytes that cannot surprise, all at once, and tells how many they are. It
    /// stops where the limit is reached or a byte is not plain; `step` sees to both.
    fn skip(&mut self, bytes: &[u8]) -> usize {
        match self.state {
            State::Opaque => bytes.len(),
            State::Content(left) => {
                let (taken, left) = take(left, bytes);
                self.state = match left {
                    0 => self.next_message(),
                    left => State::Content(left),
                };
                taken
            }
            State::ChunkData(left) => {
                let (taken, left) = take(left, bytes);
                self.state = match left {
                    0 => State::ChunkEnd,
                    left => State::ChunkData(left),
                };
                taken
            }
            State::Method | State::Name => {
                let taken = self.skip_while(bytes, is_token);
                self.word.extend(&bytes[..taken]);
                taken
            }
            State::Target => {
                let taken = if self.target.is_plain() {
                    self.skip_while(bytes, is_path_or_query)
                } else {
                    self.skip_while(bytes, is_visible)
                };
                self.target.extend(&bytes[..taken]);
                taken
            }
            State::Value => self.skip_while(bytes, is_field_text),
            State::ChunkExtension(_) => self.skip_while(bytes, is_ascii_text),
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

    /// The state after one more byte. Where `skip` has a rule, only the byte that ended it arrives
    /// here.
    fn step(&mut self, byte: u8) -> Result<State, Flaw> {
        self.room = self.room.checked_sub(1).ok_or_else(|| self.too_long())?;
        match self.state {
            State::Start(_)
            | State::Method
            | State::TargetStart
            | State::Target
            | State::Version(_)
            | State::VersionEnd => self.request_line(byte),
            State::LineStart | State::Name => self.field_name(byte),
            State::Value
            | State::LengthStart
            | State::Length(_)
            | State::Coding(_)
            | State::ValueEnd(_) => self.field_value(byte),
            State::ChunkSize { digits, size } => chunk_size(digits, size, byte),
            State::ChunkExtension(size) => match byte {
                b'\r' => Ok(State::Lf(Line::ChunkSize(size))),
                _ => Err(flaw_at(byte, Flaw::ChunkExtension)),
            },
            State::ChunkEnd => match byte {
                b'\r' => Ok(State::Lf(Line::ChunkData)),
                _ => Err(Flaw::ChunkEnd),
            },
            State::Lf(line) => match byte {
                b'\n' => Ok(self.next_line(line)),
                _ => Err(Flaw::BareCr),
            },
            // `skip` leaves no byte to these.
            State::Content(_) | State::ChunkData(_) | State::Opaque => Ok(self.state),
        }
    }

    fn next_line(&mut self, ended: Line) -> State {
        match ended {
            Line::Empty(empty_lines) => {
                self.room = self.max_head_bytes;
                State::Start(empty_lines)
            }
            Line::Head => State::LineStart,
            Line::Section => self.section_end(),
            Line::ChunkSize(0) => {
                self.room = self.max_head_bytes;
                self.fields = 0;
                State::LineStart
            }
            Line::ChunkSize(size) => {
                self.room = 2; // The CR LF after the data, which itself is not metered.
                State::ChunkData(size)
            }
            Line::ChunkData => self.next_chunk(),
        }
    }

    fn section_end(&mut self) -> State {
        if self.section == Section::Body {
            return self.next_message();
        }
        self.had_head = true;
        if self.method == Method::Connect {
            return State::Opaque;
        }
        match self.content {
            Content::Unsaid | Content::Length(0) => self.next_message(),
            Content::Length(length) => {
                self.section = Section::Body;
                State::Content(length)
            }
            Content::Chunked => {
                self.section = Section::Body;
                self.next_chunk()
            }
        }
    }

    fn next_chunk(&mut self) -> State {
        self.room = MAX_CHUNK_LINE;
        State::ChunkSize { digits: 0, size: 0 }
    }

    fn next_message(&mut self) -> State {
        *self = Self {
            target: std::mem::take(&mut self.target).cleared(),
            pathless: std::mem::take(&mut self.pathless),
            had_head: self.had_head,
            ..Self::new(self.max_head_bytes)
        };
        self.state
    }

    /// Which limit is reached when there is no room left.
    fn too_long(&self) -> Flaw {
        match self.state {
            State::TargetStart | State::Target => Flaw::TargetTooLong,
            State::ChunkSize { .. } | State::ChunkExtension(_) | State::Lf(Line::ChunkSize(_)) => {
                Flaw::ChunkLineTooLong
            }
            _ => Flaw::SectionTooLong,
        }
    }
}

/// How many of the bytes are among the next `left` of a body, and how many it lacks after them.
fn take(left: u64, bytes: &[u8]) -> (usize, u64) {
    let taken = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
    (taken, left - taken as u64)
}
