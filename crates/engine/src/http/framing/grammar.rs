//! The grammar of each line that frames a request, byte by byte: the request line, the fields, the
//! chunk-size line. Every other byte is an error; nothing is repaired.

use super::{
    BodyLength, Framing, FramingError, LineEnd, MAX_CHUNK_DIGITS, MAX_EMPTY_LINES, MAX_FIELDS,
    MAX_LENGTH, MAX_NAME, MessagePart, MethodKind, ScanState, Version,
};
use crate::client_protocol::ClientProtocol;
use crate::http_bytes::{is_token, is_visible};

/// A copy of the current token, bounded by the longest one that is compared, `transfer-encoding`.
#[derive(Debug, Default)]
pub(super) struct TokenCopy {
    bytes: [u8; 17],
    /// The full length of the token, which may exceed the copy.
    len: usize,
}

impl Framing {
    pub(super) fn request_line(&mut self, byte: u8) -> Result<ScanState, FramingError> {
        match (self.state, byte) {
            (ScanState::Start(MAX_EMPTY_LINES..), b'\r') => Err(FramingError::EmptyLines),
            (ScanState::Start(empty_lines), b'\r') => {
                Ok(ScanState::Lf(LineEnd::Empty(empty_lines + 1)))
            }
            (ScanState::Start(_), _) if is_token(byte) => {
                self.token = TokenCopy::starting_with(byte);
                Ok(ScanState::MethodKind)
            }
            (ScanState::Start(_), _) => Err(match ClientProtocol::of_first_byte(byte) {
                Some(ClientProtocol::Tls) => FramingError::Tls,
                Some(ClientProtocol::Socks5) => FramingError::Socks5,
                Some(ClientProtocol::Socks4) => FramingError::Socks4,
                Some(ClientProtocol::Http) | None => error_at(byte, FramingError::RequestLine),
            }),
            (ScanState::MethodKind, b' ') => {
                // Methods are case-sensitive (RFC 9110 section 9.1).
                self.method = match self.token.compared() {
                    b"CONNECT" => MethodKind::Connect,
                    b"OPTIONS" => MethodKind::Options,
                    _ => MethodKind::Other,
                };
                Ok(ScanState::TargetStart)
            }
            (ScanState::TargetStart, _) if is_visible(byte) => {
                self.target.begin(byte);
                Ok(ScanState::Target)
            }
            (ScanState::Target, _) if is_visible(byte) => {
                self.target.push(byte);
                Ok(ScanState::Target)
            }
            (ScanState::Target, b' ') => {
                self.target.check()?;
                let is_pathless =
                    self.method == MethodKind::Options && self.target.has_empty_path();
                self.pathless.push(is_pathless);
                Ok(ScanState::Version(0))
            }
            (ScanState::Version(matched), _) => self.version(matched, byte),
            (ScanState::VersionEnd, b'\r') => Ok(ScanState::Lf(LineEnd::Head)),
            _ => Err(error_at(byte, FramingError::RequestLine)),
        }
    }

    /// RFC 9112 section 2.3. The name of the protocol is case-sensitive.
    fn version(&mut self, matched: usize, byte: u8) -> Result<ScanState, FramingError> {
        match (matched, byte) {
            (7, b'0') => self.version = Version::Http10,
            (7, b'1') => self.version = Version::Http11,
            (0..7, byte) if byte == b"HTTP/1."[matched] => {
                return Ok(ScanState::Version(matched + 1));
            }
            (5 | 7, b'0'..=b'9') => return Err(FramingError::Version),
            _ => return Err(error_at(byte, FramingError::RequestLine)),
        }
        Ok(ScanState::VersionEnd)
    }

    pub(super) fn field_name(&mut self, byte: u8) -> Result<ScanState, FramingError> {
        match (self.state, byte) {
            (ScanState::LineStart, b'\r') => Ok(ScanState::Lf(LineEnd::MessagePart)),
            (ScanState::LineStart, b' ' | b'\t') => Err(FramingError::Folded),
            (ScanState::LineStart, _) if is_token(byte) => {
                if self.fields == MAX_FIELDS {
                    return Err(FramingError::TooManyFields);
                }
                self.fields += 1;
                self.token = TokenCopy::starting_with(byte);
                Ok(ScanState::Name)
            }
            (ScanState::Name, b':') => self.field(),
            (ScanState::Name, b' ' | b'\t') => Err(FramingError::SpaceBeforeColon),
            _ => Err(error_at(byte, FramingError::FieldName)),
        }
    }

    /// Handles a complete field name: whether the field is allowed here, and how its value is read.
    fn field(&self) -> Result<ScanState, FramingError> {
        if self.token.len > MAX_NAME {
            return Err(FramingError::SectionTooLong);
        }
        let name = self.token.compared();
        let length = name.eq_ignore_ascii_case(b"content-length");
        let coding = name.eq_ignore_ascii_case(b"transfer-encoding");
        if self.section == MessagePart::Body {
            let forbidden = length || coding || name.eq_ignore_ascii_case(b"host");
            return if forbidden {
                Err(FramingError::Trailer)
            } else {
                Ok(ScanState::Value)
            };
        }
        if !length && !coding {
            return Ok(ScanState::Value);
        }
        if coding && self.method == MethodKind::Connect {
            return Err(FramingError::ConnectContent);
        }
        if coding && self.version == Version::Http10 {
            return Err(FramingError::CodingInHttp10);
        }
        match self.content {
            BodyLength::Unspecified if length => Ok(ScanState::LengthStart),
            BodyLength::Unspecified => Ok(ScanState::Coding(0)),
            BodyLength::Length(_) if length => Err(FramingError::RepeatedLength),
            BodyLength::Chunked if coding => Err(FramingError::Coding),
            BodyLength::Length(_) | BodyLength::Chunked => Err(FramingError::LengthAndCoding),
        }
    }

    pub(super) fn field_value(&mut self, byte: u8) -> Result<ScanState, FramingError> {
        match (self.state, byte) {
            (ScanState::LengthStart | ScanState::Coding(0), b' ' | b'\t') => Ok(self.state),
            (ScanState::LengthStart, b'0'..=b'9') => Ok(ScanState::Length(u64::from(byte - b'0'))),
            (ScanState::LengthStart, _) => Err(error_at(byte, FramingError::Length)),
            (ScanState::Length(length), b'0'..=b'9') => length
                .checked_mul(10)
                .and_then(|length| length.checked_add(u64::from(byte - b'0')))
                .filter(|length| *length <= MAX_LENGTH)
                .map(ScanState::Length)
                .ok_or(FramingError::Length),
            // Some clients send a CONNECT with `Content-Length: 0`; no other length is allowed.
            (ScanState::Length(1..), _) if self.method == MethodKind::Connect => {
                Err(FramingError::ConnectContent)
            }
            (ScanState::Length(length), _) => {
                self.content = BodyLength::Length(length);
                value_end(byte, FramingError::Length)
            }
            (ScanState::Coding(matched), _) => match b"chunked".get(matched) {
                Some(letter) if byte.eq_ignore_ascii_case(letter) => {
                    Ok(ScanState::Coding(matched + 1))
                }
                Some(_) => Err(error_at(byte, FramingError::Coding)),
                None => {
                    self.content = BodyLength::Chunked;
                    value_end(byte, FramingError::Coding)
                }
            },
            (ScanState::ValueEnd(error), _) => value_end(byte, error),
            _ => value_end(byte, FramingError::FieldValue),
        }
    }
}

impl TokenCopy {
    fn starting_with(byte: u8) -> Self {
        let mut token = Self::default();
        token.extend(&[byte]);
        token
    }

    pub(super) fn extend(&mut self, bytes: &[u8]) {
        let room = self.bytes.get_mut(self.len..).unwrap_or_default();
        for (room, byte) in room.iter_mut().zip(bytes) {
            *room = *byte;
        }
        self.len = self.len.saturating_add(bytes.len());
    }

    /// The token, or nothing if it is too long to be compared.
    fn compared(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

/// RFC 9112 section 7.1. The white space that its grammar allows before `;` is refused: no sender
/// may generate it (RFC 9110 section 5.6.3), and lenient parsers disagree about it.
pub(super) fn chunk_size(digits: u8, size: u64, byte: u8) -> Result<ScanState, FramingError> {
    let digit = match byte {
        b'0'..=b'9' => byte - b'0',
        b'a'..=b'f' => byte - b'a' + 10,
        b'A'..=b'F' => byte - b'A' + 10,
        b';' if digits > 0 => return Ok(ScanState::ChunkExtension(size)),
        b'\r' if digits > 0 => return Ok(ScanState::Lf(LineEnd::ChunkSize(size))),
        _ => return Err(error_at(byte, FramingError::ChunkSize)),
    };
    if digits == MAX_CHUNK_DIGITS {
        return Err(FramingError::ChunkSize);
    }
    Ok(ScanState::ChunkSize {
        digits: digits + 1,
        size: size << 4 | u64::from(digit),
    })
}

/// After a complete field value, only white space and the end of the line may follow.
fn value_end(byte: u8, otherwise: FramingError) -> Result<ScanState, FramingError> {
    match byte {
        b' ' | b'\t' => Ok(ScanState::ValueEnd(otherwise)),
        b'\r' => Ok(ScanState::Lf(LineEnd::Head)),
        _ => Err(error_at(byte, otherwise)),
    }
}

/// The error for an invalid byte. An LF is always reported as a bare LF.
pub(super) fn error_at(byte: u8, otherwise: FramingError) -> FramingError {
    if byte == b'\n' {
        FramingError::BareLf
    } else {
        otherwise
    }
}
