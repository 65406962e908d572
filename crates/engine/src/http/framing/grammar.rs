//! The grammar of each line that frames a request, byte by byte: the request line, the fields, the
//! chunk-size line. Every other byte is a flaw; nothing is repaired.

use super::{
    Content, Flaw, Framing, Line, MAX_CHUNK_DIGITS, MAX_EMPTY_LINES, MAX_FIELDS, MAX_LENGTH,
    MAX_NAME, Method, Section, State, Version,
};
use crate::http_bytes::{is_token, is_visible};
use crate::spoken::SpokenProtocol;

/// A copy of the current word, bounded by the longest word that matters, `transfer-encoding`.
#[derive(Debug, Default)]
pub(super) struct Word {
    bytes: [u8; 17],
    /// Its full length, which may exceed the copy.
    len: usize,
}

impl Framing {
    pub(super) fn request_line(&mut self, byte: u8) -> Result<State, Flaw> {
        match (self.state, byte) {
            (State::Start(MAX_EMPTY_LINES..), b'\r') => Err(Flaw::EmptyLines),
            (State::Start(empty_lines), b'\r') => Ok(State::Lf(Line::Empty(empty_lines + 1))),
            (State::Start(_), _) if is_token(byte) => {
                self.word = Word::starting_with(byte);
                Ok(State::Method)
            }
            (State::Start(_), _) => Err(match SpokenProtocol::of_first_byte(byte) {
                Some(SpokenProtocol::Tls) => Flaw::Tls,
                Some(SpokenProtocol::Socks5) => Flaw::Socks5,
                Some(SpokenProtocol::Socks4) => Flaw::Socks4,
                Some(SpokenProtocol::Http) | None => flaw_at(byte, Flaw::RequestLine),
            }),
            (State::Method, b' ') => {
                // Methods are case-sensitive (RFC 9110 section 9.1).
                self.method = match self.word.seen() {
                    b"CONNECT" => Method::Connect,
                    b"OPTIONS" => Method::Options,
                    _ => Method::Other,
                };
                Ok(State::TargetStart)
            }
            (State::TargetStart, _) if is_visible(byte) => {
                self.target.begin(byte);
                Ok(State::Target)
            }
            (State::Target, _) if is_visible(byte) => {
                self.target.push(byte);
                Ok(State::Target)
            }
            (State::Target, b' ') => {
                self.target.check()?;
                let is_pathless = self.method == Method::Options && self.target.has_empty_path();
                self.pathless.push(is_pathless);
                Ok(State::Version(0))
            }
            (State::Version(matched), _) => self.version(matched, byte),
            (State::VersionEnd, b'\r') => Ok(State::Lf(Line::Head)),
            _ => Err(flaw_at(byte, Flaw::RequestLine)),
        }
    }

    /// RFC 9112 section 2.3. The name of the protocol is case-sensitive.
    fn version(&mut self, matched: usize, byte: u8) -> Result<State, Flaw> {
        match (matched, byte) {
            (7, b'0') => self.version = Version::Http10,
            (7, b'1') => self.version = Version::Http11,
            (0..7, byte) if byte == b"HTTP/1."[matched] => return Ok(State::Version(matched + 1)),
            (5 | 7, b'0'..=b'9') => return Err(Flaw::Version),
            _ => return Err(flaw_at(byte, Flaw::RequestLine)),
        }
        Ok(State::VersionEnd)
    }

    pub(super) fn field_name(&mut self, byte: u8) -> Result<State, Flaw> {
        match (self.state, byte) {
            (State::LineStart, b'\r') => Ok(State::Lf(Line::Section)),
            (State::LineStart, b' ' | b'\t') => Err(Flaw::Folded),
            (State::LineStart, _) if is_token(byte) => {
                if self.fields == MAX_FIELDS {
                    return Err(Flaw::TooManyFields);
                }
                self.fields += 1;
                self.word = Word::starting_with(byte);
                Ok(State::Name)
            }
            (State::Name, b':') => self.field(),
            (State::Name, b' ' | b'\t') => Err(Flaw::SpaceBeforeColon),
            _ => Err(flaw_at(byte, Flaw::FieldName)),
        }
    }

    /// A field name is complete. Decides whether the field may be here, and how its value is read.
    fn field(&self) -> Result<State, Flaw> {
        if self.word.len > MAX_NAME {
            return Err(Flaw::SectionTooLong);
        }
        let name = self.word.seen();
        let length = name.eq_ignore_ascii_case(b"content-length");
        let coding = name.eq_ignore_ascii_case(b"transfer-encoding");
        if self.section == Section::Body {
            let forbidden = length || coding || name.eq_ignore_ascii_case(b"host");
            return if forbidden {
                Err(Flaw::Trailer)
            } else {
                Ok(State::Value)
            };
        }
        if !length && !coding {
            return Ok(State::Value);
        }
        if coding && self.method == Method::Connect {
            return Err(Flaw::ConnectContent);
        }
        if coding && self.version == Version::Http10 {
            return Err(Flaw::CodingInHttp10);
        }
        match self.content {
            Content::Unsaid if length => Ok(State::LengthStart),
            Content::Unsaid => Ok(State::Coding(0)),
            Content::Length(_) if length => Err(Flaw::RepeatedLength),
            Content::Chunked if coding => Err(Flaw::Coding),
            Content::Length(_) | Content::Chunked => Err(Flaw::LengthAndCoding),
        }
    }

    pub(super) fn field_value(&mut self, byte: u8) -> Result<State, Flaw> {
        match (self.state, byte) {
            (State::LengthStart | State::Coding(0), b' ' | b'\t') => Ok(self.state),
            (State::LengthStart, b'0'..=b'9') => Ok(State::Length(u64::from(byte - b'0'))),
            (State::LengthStart, _) => Err(flaw_at(byte, Flaw::Length)),
            (State::Length(length), b'0'..=b'9') => length
                .checked_mul(10)
                .and_then(|length| length.checked_add(u64::from(byte - b'0')))
                .filter(|length| *length <= MAX_LENGTH)
                .map(State::Length)
                .ok_or(Flaw::Length),
            // Some clients send a CONNECT with `Content-Length: 0`; no other length is allowed.
            (State::Length(1..), _) if self.method == Method::Connect => Err(Flaw::ConnectContent),
            (State::Length(length), _) => {
                self.content = Content::Length(length);
                value_end(byte, Flaw::Length)
            }
            (State::Coding(matched), _) => match b"chunked".get(matched) {
                Some(letter) if byte.eq_ignore_ascii_case(letter) => Ok(State::Coding(matched + 1)),
                Some(_) => Err(flaw_at(byte, Flaw::Coding)),
                None => {
                    self.content = Content::Chunked;
                    value_end(byte, Flaw::Coding)
                }
            },
            (State::ValueEnd(flaw), _) => value_end(byte, flaw),
            _ => value_end(byte, Flaw::FieldValue),
        }
    }
}

impl Word {
    fn starting_with(byte: u8) -> Self {
        let mut word = Self::default();
        word.extend(&[byte]);
        word
    }

    pub(super) fn extend(&mut self, bytes: &[u8]) {
        let place = self.bytes.get_mut(self.len..).unwrap_or_default();
        for (place, byte) in place.iter_mut().zip(bytes) {
            *place = *byte;
        }
        self.len = self.len.saturating_add(bytes.len());
    }

    /// The word, or nothing when it is too long to matter.
    fn seen(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

/// RFC 9112 section 7.1. The white space that its grammar allows before `;` is refused: no sender
/// may generate it (RFC 9110 section 5.6.3), and lenient parsers disagree about it.
pub(super) fn chunk_size(digits: u8, size: u64, byte: u8) -> Result<State, Flaw> {
    let digit = match byte {
        b'0'..=b'9' => byte - b'0',
        b'a'..=b'f' => byte - b'a' + 10,
        b'A'..=b'F' => byte - b'A' + 10,
        b';' if digits > 0 => return Ok(State::ChunkExtension(size)),
        b'\r' if digits > 0 => return Ok(State::Lf(Line::ChunkSize(size))),
        _ => return Err(flaw_at(byte, Flaw::ChunkSize)),
    };
    if digits == MAX_CHUNK_DIGITS {
        return Err(Flaw::ChunkSize);
    }
    Ok(State::ChunkSize {
        digits: digits + 1,
        size: size << 4 | u64::from(digit),
    })
}

/// What may follow a complete field value: white space, and the end of the line.
fn value_end(byte: u8, otherwise: Flaw) -> Result<State, Flaw> {
    match byte {
        b' ' | b'\t' => Ok(State::ValueEnd(otherwise)),
        b'\r' => Ok(State::Lf(Line::Head)),
        _ => Err(flaw_at(byte, otherwise)),
    }
}

/// The flaw of a byte that cannot be there. An LF is always reported as a bare LF.
pub(super) fn flaw_at(byte: u8, otherwise: Flaw) -> Flaw {
    if byte == b'\n' {
        Flaw::BareLf
    } else {
        otherwise
    }
}
