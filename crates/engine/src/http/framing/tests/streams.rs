//! The tables of sound and of flawed streams that the tests of framing share.

use super::super::FramingError;

/// Complete messages that leave the connection ready for the next one.
pub(super) const SOUND: &[&str] = &[
    "GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n",
    "GET http://a.test/ HTTP/1.1\r\n\r\n",
    "GET / HTTP/1.0\r\n\r\n",
    "OPTIONS * HTTP/1.1\r\nHost: a.test\r\n\r\n",
    "!#$%&'*+-.^_`|~09azAZ http://a.test/?q={}|\\^` HTTP/1.1\r\n\r\n",
    // Methods are case-sensitive, so `connect` is not CONNECT. `CONNECTED` is another method too.
    "connect a.test:443 HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc",
    "CONNECTED a.test:443 HTTP/1.1\r\n\r\n",
    // Field values: empty, white space at both ends, HTAB, obs-text.
    "GET / HTTP/1.1\r\nA:\r\nB: \t x\ty \t \r\nC:d:e\r\nD: \u{e9}\u{ff}\r\n\r\n",
    "GET / HTTP/1.1\r\nX-Content-Length: 9\r\nContent-Lengths: 9\r\nTransfer-Encoding2: x\r\n\r\n",
    // Not a framing error: two Host fields are refused elsewhere.
    "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    // Content-Length, with any method and in both versions.
    "POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello",
    "POST / HTTP/1.0\r\ncontent-LENGTH:\t5 \t\r\n\r\nhello",
    "GET / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello",
    "POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
    "POST / HTTP/1.1\r\nContent-Length: 000000000000000000000000000003\r\n\r\nabc",
    "POST / HTTP/1.1\r\nContent-Length:30\r\n\r\nGET http://evil/ HTTP/1.1\r\n\r\n\0",
    // chunked.
    "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\ntransfer-encoding:CHUNKED\t \r\n\r\n000\r\n\r\n",
    "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n\r\n\r\nA\r\n0\r\n\r\n\n\n\n\n\n\r\n\
     0\r\n\r\n",
    "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n\
     5;a;b=\"c\\\"d\";\te f\r\nhello\r\n000000000000000F\r\n0123456789abcde\r\n0;last\r\n\r\n",
    "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n\
     1\r\nx\r\n0\r\nX: 1\r\nY:\r\nHosts: z\r\n\r\n",
    // Empty lines first.
    "\r\n\r\n\r\n\r\nGET / HTTP/1.1\r\n\r\n",
];

/// A sound beginning, the rest whose first byte is invalid, and the error.
#[rustfmt::skip] // One row, one line.
pub(super) const MALFORMED: &[(&str, &str, FramingError)] = &[
    // Request line.
    ("", " GET / HTTP/1.1\r\n\r\n", FramingError::RequestLine),
    ("", "\nGET / HTTP/1.1\r\n\r\n", FramingError::BareLf),
    ("\r", "GET / HTTP/1.1\r\n\r\n", FramingError::BareCr),
    ("\r\n\r\n\r\n\r\n", "\r\nGET / HTTP/1.1\r\n\r\n", FramingError::EmptyLines),
    ("", "\x16\x03\x01\x02", FramingError::Tls),
    ("", "\x05\x01\0", FramingError::Socks5),
    ("", "\x04\x01\0\x50", FramingError::Socks4),
    ("", "\0", FramingError::RequestLine),
    ("GET /<x>", " HTTP/1.1\r\n\r\n", FramingError::Target),
    ("GET http://a.test:1:2/", " HTTP/1.1\r\n\r\n", FramingError::Target),
    ("CONNECT ::1:443", " HTTP/1.1\r\n\r\n", FramingError::BareIpv6),
    ("GET", "\t/ HTTP/1.1\r\n\r\n", FramingError::RequestLine),
    ("G", "(T / HTTP/1.1\r\n\r\n", FramingError::RequestLine),
    ("GET ", " / HTTP/1.1\r\n\r\n", FramingError::RequestLine),
    ("GET / ", " HTTP/1.1\r\n\r\n", FramingError::RequestLine),
    ("GET /", "\tHTTP/1.1\r\n\r\n", FramingError::RequestLine),
    ("GET /a ", "b HTTP/1.1\r\n\r\n", FramingError::RequestLine),
    ("GET /", "\0 HTTP/1.1\r\n\r\n", FramingError::RequestLine),
    ("GET /", "\x7f HTTP/1.1\r\n\r\n", FramingError::RequestLine),
    ("GET /", "\u{e9} HTTP/1.1\r\n\r\n", FramingError::RequestLine),
    ("GET /", "\r\n\r\n", FramingError::RequestLine), // HTTP/0.9
    ("GET /", "\n\n", FramingError::BareLf),
    ("GET / HTTP/1.1", " \r\n\r\n", FramingError::RequestLine),
    ("GET / HTTP/1.1", "1\r\n\r\n", FramingError::RequestLine),
    ("GET / HTTP/1.1", "\n\n", FramingError::BareLf),
    ("GET / HTTP/1.1\r", "X", FramingError::BareCr),
    ("GET / ", "http/1.1\r\n\r\n", FramingError::RequestLine),
    ("GET / HTT", "X/1.1\r\n\r\n", FramingError::RequestLine),
    ("GET / HTTP/1", "\r\n\r\n", FramingError::RequestLine),
    ("GET / HTTP/1.", "x\r\n\r\n", FramingError::RequestLine),
    ("GET / HTTP/1.", "2\r\n\r\n", FramingError::Version),
    ("GET / HTTP/", "0.9\r\n\r\n", FramingError::Version),
    ("GET / HTTP/", "3\r\n\r\n", FramingError::Version),
    ("PRI * HTTP/", "2.0\r\n\r\nSM\r\n\r\n", FramingError::Version),
    // Field lines.
    ("GET / HTTP/1.1\r\n", " X: 1\r\n\r\n", FramingError::Folded),
    ("GET / HTTP/1.1\r\nX: 1\r\n", "\ty\r\n\r\n", FramingError::Folded),
    ("GET / HTTP/1.1\r\nX: 1\r\n", " \r\n\r\n", FramingError::Folded),
    ("GET / HTTP/1.1\r\n", ": 1\r\n\r\n", FramingError::FieldName),
    ("GET / HTTP/1.1\r\nX", "\r\n\r\n", FramingError::FieldName),
    ("GET / HTTP/1.1\r\nX", "\0: 1\r\n\r\n", FramingError::FieldName),
    ("GET / HTTP/1.1\r\nX", "\u{e9}: 1\r\n\r\n", FramingError::FieldName),
    ("GET / HTTP/1.1\r\nX", " : 1\r\n\r\n", FramingError::SpaceBeforeColon),
    ("GET / HTTP/1.1\r\nX", "\n: 1\r\n\r\n", FramingError::BareLf),
    ("GET / HTTP/1.1\r\n", "\n", FramingError::BareLf),
    ("GET / HTTP/1.1\r\nX: 1", "\n\r\n", FramingError::BareLf),
    ("GET / HTTP/1.1\r\nX: 1\r", "Y: 2\r\n\r\n", FramingError::BareCr),
    ("GET / HTTP/1.1\r\nX: 1\r", "\r\n\r\n", FramingError::BareCr),
    ("GET / HTTP/1.1\r\nX: 1\r\n\r", "\r\n", FramingError::BareCr),
    ("GET / HTTP/1.1\r\nX: a", "\0b\r\n\r\n", FramingError::FieldValue),
    ("GET / HTTP/1.1\r\nX: a", "\x0bb\r\n\r\n", FramingError::FieldValue),
    ("GET / HTTP/1.1\r\nX: a", "\x7f\r\n\r\n", FramingError::FieldValue),
    // Content-Length.
    ("POST / HTTP/1.1\r\nContent-Length:", "\r\n\r\n", FramingError::Length),
    ("POST / HTTP/1.1\r\nContent-Length: ", "\r\n 5\r\n\r\nhello", FramingError::Length),
    ("POST / HTTP/1.1\r\nContent-Length: ", "+5\r\n\r\nhello", FramingError::Length),
    ("POST / HTTP/1.1\r\nContent-Length: ", "-5\r\n\r\nhello", FramingError::Length),
    ("POST / HTTP/1.1\r\nContent-Length: 5", "a\r\n\r\nhello", FramingError::Length),
    ("POST / HTTP/1.1\r\nContent-Length: 0", "x5\r\n\r\nhello", FramingError::Length),
    ("POST / HTTP/1.1\r\nContent-Length: 5", ", 5\r\n\r\nhello", FramingError::Length),
    ("POST / HTTP/1.1\r\nContent-Length: 5 ", "5\r\n\r\nhello", FramingError::Length),
    ("POST / HTTP/1.1\r\nContent-Length: 5", "\x0b\r\n\r\nhello", FramingError::Length),
    ("POST / HTTP/1.1\r\nContent-Length: 5", "\n\r\nhello", FramingError::BareLf),
    ("POST / HTTP/1.1\r\nContent-Length: 1844674407370955161", "6\r\n\r\n", FramingError::Length),
    ("POST / HTTP/1.1\r\nContent-Length: 1844674407370955161", "5\r\n\r\n", FramingError::Length),
    ("POST / HTTP/1.1\r\nContent-Length: 18446744073709551613", "0\r\n\r\n", FramingError::Length),
    ("POST / HTTP/1.1\r\nContent-Length", " : 5\r\n\r\nhello", FramingError::SpaceBeforeColon),
    ("POST / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length", ": 5\r\n\r\nhello", FramingError::RepeatedLength),
    ("POST / HTTP/1.1\r\nContent-Length: 0\r\nX: 1\r\nCONTENT-LENGTH", ": 6\r\n\r\nhello!", FramingError::RepeatedLength),
    // CL.TE and TE.CL, also where either would be harmless.
    ("POST / HTTP/1.1\r\nContent-Length: 6\r\nTransfer-Encoding", ": chunked\r\n\r\n0\r\n\r\nG", FramingError::LengthAndCoding),
    ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nX: y\r\nContent-length", ": 4\r\n\r\n5c\r\n", FramingError::LengthAndCoding),
    ("POST / HTTP/1.1\r\nContent-Length: 0\r\nTransfer-Encoding", ": identity\r\n\r\n", FramingError::LengthAndCoding),
    // TE.TE: every coding that is not a single `chunked`.
    ("POST / HTTP/1.1\r\nTransfer-Encoding: ", "xchunked\r\n\r\n", FramingError::Coding),
    ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked", "x\r\n\r\n", FramingError::Coding),
    ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked", ", identity\r\n\r\n", FramingError::Coding),
    ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked", ",chunked\r\n\r\n", FramingError::Coding),
    ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked", ";q=1\r\n\r\n", FramingError::Coding),
    ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked ", "chunked\r\n\r\n", FramingError::Coding),
    ("POST / HTTP/1.1\r\nTransfer-Encoding: ", ",chunked\r\n\r\n", FramingError::Coding),
    ("POST / HTTP/1.1\r\nTransfer-Encoding: ", "\"chunked\"\r\n\r\n", FramingError::Coding),
    ("POST / HTTP/1.1\r\nTransfer-Encoding: ", "gzip, chunked\r\n\r\n", FramingError::Coding),
    ("POST / HTTP/1.1\r\nTransfer-Encoding: ", "identity\r\n\r\n", FramingError::Coding),
    ("POST / HTTP/1.1\r\nTransfer-Encoding: ", "\x0bchunked\r\n\r\n", FramingError::Coding),
    ("POST / HTTP/1.1\r\nTransfer-Encoding: ", "\0chunked\r\n\r\n", FramingError::Coding),
    ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked", "\0\r\n\r\n", FramingError::Coding),
    ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked", "\u{a0}\r\n\r\n", FramingError::Coding),
    ("POST / HTTP/1.1\r\nTransfer-Encoding: chun", " ked\r\n\r\n", FramingError::Coding),
    ("POST / HTTP/1.1\r\nTransfer-Encoding: chunke", "\r\n\r\n", FramingError::Coding),
    ("POST / HTTP/1.1\r\nTransfer-Encoding:", "\r\n chunked\r\n\r\n", FramingError::Coding),
    ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked", "\n\r\n", FramingError::BareLf),
    ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n", " , x\r\n\r\n", FramingError::Folded),
    ("POST / HTTP/1.1\r\nTransfer-Encoding", "\n: chunked\r\n\r\n", FramingError::BareLf),
    ("POST / HTTP/1.1\r\nTransfer-Encoding", " : chunked\r\n\r\n", FramingError::SpaceBeforeColon),
    ("POST / HTTP/1.1\r\nTransfer-Encoding", "\t: chunked\r\n\r\n", FramingError::SpaceBeforeColon),
    ("POST / HTTP/1.1\r\nTransfer-Encoding", "\0: chunked\r\n\r\n", FramingError::FieldName),
    ("POST / HTTP/1.1\r\n", " Transfer-Encoding: chunked\r\n\r\n", FramingError::Folded),
    ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-encoding", ": chunked\r\n\r\n", FramingError::Coding),
    ("POST / HTTP/1.0\r\nTransfer-Encoding", ": chunked\r\n\r\n", FramingError::CodingInHttp10),
    ("CONNECT a:443 HTTP/1.1\r\nContent-Length: 5", "\r\n\r\n", FramingError::ConnectContent),
    ("CONNECT a:443 HTTP/1.1\r\nTransfer-Encoding", ": chunked\r\n\r\n", FramingError::ConnectContent),
];

/// The same for the bytes after the head of a chunked request.
#[rustfmt::skip] // One row, one line.
pub(super) const MALFORMED_CHUNKS: &[(&str, &str, FramingError)] = &[
    ("", "\r\n", FramingError::ChunkSize),
    ("", " 5\r\nhello\r\n", FramingError::ChunkSize),
    ("", "+5\r\nhello\r\n", FramingError::ChunkSize),
    ("", "-5\r\nhello\r\n", FramingError::ChunkSize),
    ("", ";x\r\n", FramingError::ChunkSize),
    ("", "g\r\n", FramingError::ChunkSize),
    ("0", "x5\r\nhello\r\n", FramingError::ChunkSize),
    ("5", " \r\nhello\r\n", FramingError::ChunkSize),
    ("5", " ;x\r\nhello\r\n", FramingError::ChunkSize),
    ("5", "\t\r\nhello\r\n", FramingError::ChunkSize),
    ("5", "\0\r\nhello\r\n", FramingError::ChunkSize),
    ("5", "_0\r\nhello\r\n", FramingError::ChunkSize),
    ("0000000000000000", "5\r\nhello\r\n", FramingError::ChunkSize),
    ("1000000000000000", "5\r\nhello\r\n", FramingError::ChunkSize),
    ("5", "\nhello\r\n", FramingError::BareLf),
    ("5\r", "hello\r\n", FramingError::BareCr),
    ("5;a", "\nhello\r\n", FramingError::BareLf),
    ("5;a\r", "b\r\nhello\r\n", FramingError::BareCr),
    ("5;a", "\0\r\nhello\r\n", FramingError::ChunkExtension),
    ("5;a", "\u{e9}\r\nhello\r\n", FramingError::ChunkExtension),
    ("5\r\nhello", "0\r\n\r\n", FramingError::ChunkEnd),
    ("5\r\nhello", "!\r\n0\r\n\r\n", FramingError::ChunkEnd),
    ("5\r\nhello", "\n0\r\n\r\n", FramingError::ChunkEnd),
    ("5\r\nhel\r\n", "0\r\n\r\n", FramingError::ChunkEnd),
    ("5\r\nhello\r", "0\r\n\r\n", FramingError::BareCr),
    ("5\r\nhello\r\n", "\r\n", FramingError::ChunkSize),
    // The last chunk and the trailer section.
    ("0", "\n\r\n", FramingError::BareLf),
    ("0\r\n", "\n", FramingError::BareLf),
    ("0\r\n\r", "G", FramingError::BareCr),
    ("0\r\n", " X: 1\r\n\r\n", FramingError::Folded),
    ("0\r\nX: 1\r\n", "\t2\r\n\r\n", FramingError::Folded),
    ("0\r\nX: 1", "\n\r\n", FramingError::BareLf),
    ("0\r\nX", " : 1\r\n\r\n", FramingError::SpaceBeforeColon),
    ("0\r\nX: ", "\x01\r\n\r\n", FramingError::FieldValue),
    ("0\r\nGET", " / HTTP/1.1\r\n\r\n", FramingError::SpaceBeforeColon),
    ("0\r\nContent-Length", ": 5\r\n\r\n", FramingError::Trailer),
    ("0\r\nX: 1\r\nTRANSFER-encoding", ": chunked\r\n\r\n", FramingError::Trailer),
    ("0\r\nhost", ": a\r\n\r\n", FramingError::Trailer),
];

pub(super) const CHUNKED_HEAD: &str = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";

/// The strings are Unicode to be readable; on the wire each character is one byte.
pub(super) fn latin1(text: &str) -> Vec<u8> {
    text.chars()
        .map(|char| u8::try_from(u32::from(char)).unwrap())
        .collect()
}

pub(super) fn flawed_streams() -> impl Iterator<Item = (Vec<u8>, usize, FramingError)> {
    let chunks = MALFORMED_CHUNKS
        .iter()
        .map(|(sound, rest, error)| (format!("{CHUNKED_HEAD}{sound}"), *rest, *error));
    MALFORMED
        .iter()
        .map(|(sound, rest, error)| ((*sound).to_owned(), *rest, *error))
        .chain(chunks)
        .map(|(sound, rest, error)| {
            let stream = latin1(&(sound.clone() + rest));
            (stream, latin1(&sound).len(), error)
        })
}
