//! Classifies the first bytes of a connection: a TLS `ClientHello`, or something else (SPEC M2). It
//! does no I/O, keeps no copy of the bytes, and sends no answer.
//!
//! The caller keeps all bytes in one buffer from the first one on, and afterwards passes the same bytes to
//! rustls or to the tunnel: nothing is consumed here. Every byte is read a bounded number of times, however
//! the bytes arrive. The message is assembled and parsed once, when its last byte has arrived.
//!
//! # Why not rustls' own `Acceptor`
//!
//! It reads the same message later. But `Acceptor` reads a record only when it is complete, reports every
//! other protocol as an error, reads an IP literal as "no name", skips unknown name types, and does not
//! return the bytes that a tunnel needs. Policy decides between tunnel and refusal, so strict and fuzzed
//! code reads the message first. The tests compare it with rustls: whenever both read a name, it is the
//! same name. rustls buffers 65 535 bytes of records for a handshake message, headers included, so it may
//! refuse a hello near the limit that passes here. The client is then refused, which is safe.
//!
//! # What the name means
//!
//! The server name is the one that the client sent in clear. With `encrypted_client_hello` it is the outer
//! name; the inner one is not read. In both cases the caller compares it with the authority that the client
//! requested (SPEC M7) and answers with a certificate for that authority.
//!
//! # What `NotTls` does not mean
//!
//! It does not mean that every origin rejects the bytes as TLS: old servers still accept a hello in the
//! form of SSL 2, whose first byte differs from that of a record. Where SPEC M1 requires interception,
//! `NotTls` is never tunnelled: it is served as HTTP or refused. Bytes that begin like a record never
//! become `NotTls`, because servers tolerate different oddities of a record.

use std::borrow::Cow;
use std::collections::HashSet;

use codex_network_policy::Host;

/// Longest `ClientHello` that is read, without its four bytes of handshake header. Real ones have
/// 200 to 2000 bytes.
const MAX_MESSAGE: usize = 64 * 1024;
/// Longest fragment of a plaintext record (RFC 8446 section 5.1).
const MAX_FRAGMENT: usize = 1 << 14;
/// Type, version and length of a record (RFC 8446 section 5.1).
const RECORD_HEADER: usize = 5;
/// Type and length of a handshake message (RFC 8446 section 4).
const MESSAGE_HEADER: usize = 4;

/// The content type of a record that carries handshake messages.
const HANDSHAKE: u8 = 22;
/// The type of the handshake message `ClientHello`.
const CLIENT_HELLO: u8 = 1;
/// The extension types that are parsed (RFC 6066 section 3, RFC 7301 section 3.1).
const SERVER_NAME: u16 = 0;
const ALPN: u16 = 16;

/// The classification of the first bytes of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FirstBytes {
    /// Too few bytes to decide; more may come.
    Undecided,
    /// A whole, well-formed `ClientHello`.
    ClientHello(ClientHello),
    /// The first byte is not that of a TLS handshake record.
    NotTls,
    /// The beginning of a TLS record, but not of an acceptable `ClientHello`.
    Malformed(ClientHelloError),
}

/// The parts of a `ClientHello` that the proxy uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClientHello {
    /// The requested host; always a name, never an address (RFC 6066 section 3).
    pub(crate) server_name: Option<Host>,
    /// The protocols that the client offers.
    pub(crate) alpn: Alpn,
}

/// The offered application protocols (RFC 7301). All false: the client does not negotiate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Alpn {
    /// HTTP/2 over TLS.
    pub(crate) h2: bool,
    /// HTTP/1.1.
    pub(crate) http11: bool,
    /// Anything else, except GREASE values (RFC 8701).
    pub(crate) other: bool,
}

/// Why a TLS record does not begin an acceptable `ClientHello`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ClientHelloError {
    /// Another record type between two fragments of the message.
    #[error("the records of the TLS ClientHello are interrupted by another type")]
    Interrupted,
    /// A record version outside SSL 3.0 to TLS 1.3.
    #[error("the TLS record version does not exist")]
    RecordVersion,
    /// A fragment of no bytes, or of more than RFC 8446 section 5.1 allows.
    #[error("a TLS record of the ClientHello is empty or too long")]
    RecordLength,
    /// Another handshake message.
    #[error("the first TLS handshake message is not a ClientHello")]
    NotClientHello,
    /// Longer than [`MAX_MESSAGE`].
    #[error("the TLS ClientHello is longer than 65536 bytes")]
    TooLong,
    /// Bytes after the message in its last record: nothing may follow before an answer.
    #[error("bytes follow the TLS ClientHello in its record")]
    Trailing,
    /// The version in the message is not one of SSL 3.0 to TLS 1.3.
    #[error("the legacy version of the TLS ClientHello does not exist")]
    Version,
    /// A length that does not fit its content.
    #[error("a length in the TLS ClientHello does not fit")]
    Length,
    /// The list of compression methods lacks "null".
    #[error("the TLS ClientHello does not offer to go uncompressed")]
    Compression,
    /// An extension that occurs twice (RFC 8446 section 4.2).
    #[error("the TLS ClientHello has an extension twice")]
    RepeatedExtension,
    /// Not exactly one entry of type `host_name`.
    #[error("the server name list of the TLS ClientHello has not exactly one host name")]
    NameList,
    /// An IP literal, or no host name at all.
    #[error("the server name of the TLS ClientHello is not a host name")]
    InvalidName,
    /// An empty list, or an empty entry.
    #[error("the application protocols of the TLS ClientHello are malformed")]
    Alpn,
}

/// Reads the beginning of one connection.
#[derive(Debug, Default)]
pub(crate) struct ClientHelloReader {
    /// Where the first incomplete record begins.
    record: usize,
    /// The number of bytes of the message in the records before it.
    before: usize,
    /// The first bytes of the message's header. It may be fragmented too.
    header: [u8; MESSAGE_HEADER],
    /// The number of records that were read in all calls. The work is proportional to it.
    #[cfg(test)]
    pub(super) records_read: usize,
}

impl ClientHelloReader {
    /// A reader that has read nothing yet.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Classifies `stream`: all bytes of this connection, those of earlier calls included. The caller
    /// keeps them for later. It never needs more than six times [`MAX_MESSAGE`], which is a hello in
    /// records of one byte.
    ///
    /// Every result but [`FirstBytes::Undecided`] is final.
    pub(crate) fn feed(&mut self, stream: &[u8]) -> FirstBytes {
        match stream.first() {
            None => FirstBytes::Undecided,
            Some(&HANDSHAKE) => match self.advance(stream) {
                Ok(None) => FirstBytes::Undecided,
                Ok(Some(hello)) => FirstBytes::ClientHello(hello),
                Err(error) => FirstBytes::Malformed(error),
            },
            Some(_) => FirstBytes::NotTls,
        }
    }

    /// Continues at the record that was incomplete.
    fn advance(&mut self, stream: &[u8]) -> Result<Option<ClientHello>, ClientHelloError> {
        while let Some(rest) = stream.get(self.record..)
            && let Some(length) = fragment_length(rest)?
        {
            #[cfg(test)]
            {
                self.records_read += 1;
            }
            let arrived = &rest[RECORD_HEADER..rest.len().min(RECORD_HEADER + length)];
            if let Some(message) = self.message_length(arrived)? {
                let end = self.before + length;
                if end > message {
                    return Err(ClientHelloError::Trailing);
                }
                if end == message && arrived.len() == length {
                    return parse(&self.message(stream, arrived)).map(Some);
                }
            }
            if arrived.len() < length {
                break;
            }
            self.record += RECORD_HEADER + length;
            self.before += length;
        }
        Ok(None)
    }

    /// The length of the message with its header, if it is known yet.
    fn message_length(&mut self, arrived: &[u8]) -> Result<Option<usize>, ClientHelloError> {
        for (at, byte) in (self.before..MESSAGE_HEADER).zip(arrived) {
            self.header[at] = *byte;
        }
        let known = self.before + arrived.len();
        let [kind, length @ ..] = self.header;
        if known >= 1 && kind != CLIENT_HELLO {
            return Err(ClientHelloError::NotClientHello);
        }
        if known < MESSAGE_HEADER {
            return Ok(None);
        }
        let length = length
            .into_iter()
            .fold(0, |length, byte| length << 8 | usize::from(byte));
        if length > MAX_MESSAGE {
            return Err(ClientHelloError::TooLong);
        }
        Ok(Some(MESSAGE_HEADER + length))
    }

    /// The body of the message, whose last fragment is `last`; every record was checked before.
    fn message<'a>(&self, stream: &[u8], last: &'a [u8]) -> Cow<'a, [u8]> {
        if self.before == 0 {
            return Cow::Borrowed(&last[MESSAGE_HEADER..]);
        }
        let mut message = Vec::with_capacity(self.before + last.len());
        let mut records = &stream[..self.record];
        while let Some((header, rest)) = records.split_first_chunk::<RECORD_HEADER>() {
            let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
            let (fragment, rest) = rest.split_at(length);
            message.extend_from_slice(fragment);
            records = rest;
        }
        message.extend_from_slice(last);
        message.drain(..MESSAGE_HEADER);
        Cow::Owned(message)
    }
}

/// Checks the bytes of a record's header that have arrived. Returns the length of its fragment when
/// the header is complete.
fn fragment_length(record: &[u8]) -> Result<Option<usize>, ClientHelloError> {
    if record.first().is_some_and(|kind| *kind != HANDSHAKE) {
        return Err(ClientHelloError::Interrupted);
    }
    if !is_version(record.get(1), record.get(2)) {
        return Err(ClientHelloError::RecordVersion);
    }
    let Some(header) = record.first_chunk::<RECORD_HEADER>() else {
        return Ok(None);
    };
    let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
    if (1..=MAX_FRAGMENT).contains(&length) {
        Ok(Some(length))
    } else {
        Err(ClientHelloError::RecordLength)
    }
}

/// Whether the bytes so far fit a version from SSL 3.0 to TLS 1.3.
fn is_version(major: Option<&u8>, minor: Option<&u8>) -> bool {
    major.is_none_or(|major| *major == 3) && minor.is_none_or(|minor| *minor <= 4)
}

/// Parses the body of a `ClientHello` (RFC 8446 section 4.1.2, RFC 5246 section 7.4.1.2).
fn parse(message: &[u8]) -> Result<ClientHello, ClientHelloError> {
    let mut body = Input(message);
    let version = body.take(2)?;
    if !is_version(version.first(), version.get(1)) {
        return Err(ClientHelloError::Version);
    }
    body.take(32)?; // random
    if body.list8()?.0.len() > 32 {
        return Err(ClientHelloError::Length); // session id
    }
    let cipher_suites = body.list16()?.0.len();
    if cipher_suites == 0 || cipher_suites % 2 != 0 {
        return Err(ClientHelloError::Length);
    }
    if !body.list8()?.0.contains(&0) {
        return Err(ClientHelloError::Compression);
    }
    let mut hello = ClientHello {
        server_name: None,
        alpn: Alpn::default(),
    };
    if body.0.is_empty() {
        return Ok(hello); // TLS 1.2 may go without extensions.
    }
    let mut extensions = body.list16()?;
    body.end()?;
    let mut seen = HashSet::new();
    while !extensions.0.is_empty() {
        let kind = extensions.number16()?;
        let content = extensions.list16()?;
        if !seen.insert(kind) {
            return Err(ClientHelloError::RepeatedExtension);
        }
        match kind {
            SERVER_NAME => hello.server_name = Some(server_name(content)?),
            ALPN => hello.alpn = application_protocols(content)?,
            _ => {} // GREASE among them (RFC 8701).
        }
    }
    Ok(hello)
}

/// Reads the one host name (RFC 6066 section 3).
///
/// The parser of SPEC P1 accepts many spellings. Here the name must already be in canonical form, except
/// for case and a trailing dot.
fn server_name(mut content: Input<'_>) -> Result<Host, ClientHelloError> {
    let mut list = content.list16()?;
    content.end()?;
    let Some((0, rest)) = list.0.split_first() else {
        return Err(ClientHelloError::NameList); // empty, or another type of name
    };
    list = Input(rest);
    let name = list.list16()?.0;
    if !list.0.is_empty() || name.is_empty() {
        return Err(ClientHelloError::NameList);
    }
    let host = Host::parse_bytes(name).map_err(|_| ClientHelloError::InvalidName)?;
    match &host {
        Host::Name(canonical)
            if name
                .strip_suffix(b".")
                .unwrap_or(name)
                .eq_ignore_ascii_case(canonical.as_str().as_bytes()) =>
        {
            Ok(host)
        }
        _ => Err(ClientHelloError::InvalidName),
    }
}

/// Reads the offered protocols (RFC 7301 section 3.1).
fn application_protocols(mut content: Input<'_>) -> Result<Alpn, ClientHelloError> {
    let mut list = content.list16()?;
    content.end()?;
    if list.0.is_empty() {
        return Err(ClientHelloError::Alpn);
    }
    let mut alpn = Alpn::default();
    while !list.0.is_empty() {
        match list.list8()?.0 {
            [] => return Err(ClientHelloError::Alpn),
            b"h2" => alpn.h2 = true,
            b"http/1.1" => alpn.http11 = true,
            [first, second] if first == second && first & 0x0f == 0x0a => {} // GREASE (RFC 8701)
            _ => alpn.other = true,
        }
    }
    Ok(alpn)
}

/// The unread rest of a structure.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], ClientHelloError> {
        let (taken, rest) = self
            .0
            .split_at_checked(count)
            .ok_or(ClientHelloError::Length)?;
        self.0 = rest;
        Ok(taken)
    }

    fn number16(&mut self) -> Result<u16, ClientHelloError> {
        let (number, rest) = self.0.split_first_chunk().ok_or(ClientHelloError::Length)?;
        self.0 = rest;
        Ok(u16::from_be_bytes(*number))
    }

    /// A one-byte length and that many bytes.
    fn list8(&mut self) -> Result<Self, ClientHelloError> {
        let length = self.take(1)?[0];
        self.take(usize::from(length)).map(Input)
    }

    /// A two-byte length and that many bytes.
    fn list16(&mut self) -> Result<Self, ClientHelloError> {
        let length = self.number16()?;
        self.take(usize::from(length)).map(Input)
    }

    /// Fails if bytes are left.
    fn end(&self) -> Result<(), ClientHelloError> {
        self.0
            .is_empty()
            .then_some(())
            .ok_or(ClientHelloError::Length)
    }
}

#[cfg(test)]
mod tests;
