//! The answer of an upstream proxy to CONNECT, read without I/O (RFC 9112 section 4, RFC 9110
//! section 9.3.6).
//!
//! A [`ConnectAnswerReader`] is fed all bytes so far, again and again, and reports a whole or an unusable answer
//! as early as it can. It is as strict with a proxy as the HTTP door is with clients: CRLF ends a
//! line, a field is a name, a colon and a value, and a head has a largest size. Field values count
//! only where they show that the answer does not open a tunnel.
//!
//! hyper's client is not as strict: it takes a bare LF as the end of a line, and empty lines before the
//! status line, and it ignores content that a 2xx answer announces. Its errors do not tell these faults
//! apart, so no one would learn why the proxy cannot be used (SPEC H8).

use crate::http_bytes::{is_field_text, is_token};

/// Largest head, including interim answers before it.
const MAX_LENGTH: usize = 64 * 1024;

/// The state of the bytes so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parsed {
    /// A whole head. The bytes after it belong to the tunnel, if the status opens one.
    Complete(ConnectAnswer),
    /// The beginning of a head.
    Incomplete,
}

/// The head of a final answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ConnectAnswer {
    /// 200 to 999.
    pub(crate) status: u16,
    /// Its length in bytes.
    pub(crate) length: usize,
}

/// Why bytes are not an answer to CONNECT.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ConnectAnswerError {
    /// The status line is not one of HTTP/1.
    #[error("its answer does not begin with an HTTP/1 status line")]
    StatusLine,
    /// A line ends in something other than CRLF.
    #[error("a line of its answer does not end in CRLF")]
    LineEnd,
    /// A malformed field line.
    #[error("its answer has a malformed field")]
    Field,
    /// The head is larger than the limit.
    #[error("the head of its answer is too large")]
    TooLarge,
    /// It changes protocols, which the request did not offer.
    #[error("it switches protocols unasked")]
    Switch,
    /// A 2xx status with announced content. A proxy must not send that (RFC 9110 section 9.3.6),
    /// and a client may ignore it. But a web server that misunderstands CONNECT answers like this,
    /// and its page is not tunnel traffic.
    #[error("it answers with content where a tunnel should begin")]
    Content,
}

/// Reads an answer piece by piece; no byte is parsed twice.
#[derive(Debug, Default)]
pub(crate) struct ConnectAnswerReader {
    /// Where the incomplete line begins.
    line: usize,
    /// How many of its bytes were searched for a line end.
    seen: usize,
    /// The status, once its line is complete.
    status: Option<u16>,
    announces_content: bool,
}

impl ConnectAnswerReader {
    /// Looks at all bytes so far, including those of earlier calls.
    ///
    /// # Errors
    ///
    /// Returns an error if no further byte can make them an answer to CONNECT.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Result<Parsed, ConnectAnswerError> {
        loop {
            let fresh = bytes.get(self.line + self.seen..).unwrap_or_default();
            let Some(end) = fresh.iter().position(|byte| *byte == b'\n') else {
                self.seen += fresh.len();
                let begun = bytes.get(self.line..).unwrap_or_default();
                return self.check_beginning(begun, bytes.len());
            };
            let end = self.line + self.seen + end;
            if end >= MAX_LENGTH {
                return Err(ConnectAnswerError::TooLarge);
            }
            self.check_start(&bytes[self.line..end])?;
            let line = bytes[self.line..end]
                .strip_suffix(b"\r")
                .ok_or(ConnectAnswerError::LineEnd)?;
            (self.line, self.seen) = (end + 1, 0);
            if let Some(status) = self.take(line)? {
                let length = self.line;
                return Ok(Parsed::Complete(ConnectAnswer { status, length }));
            }
        }
    }

    /// Takes a whole line. Returns the status at the end of a final head.
    fn take(&mut self, line: &[u8]) -> Result<Option<u16>, ConnectAnswerError> {
        let Some(status) = self.status else {
            self.status = Some(status_line(line).ok_or(ConnectAnswerError::StatusLine)?);
            return Ok(None);
        };
        if !line.is_empty() {
            self.announces_content |=
                announces_content(field(line).ok_or(ConnectAnswerError::Field)?);
            return Ok(None);
        }
        match status {
            101 => Err(ConnectAnswerError::Switch),
            // RFC 9110 section 15.2: another head follows.
            100..200 => {
                (self.status, self.announces_content) = (None, false);
                Ok(None)
            }
            200..300 if self.announces_content => Err(ConnectAnswerError::Content),
            _ => Ok(Some(status)),
        }
    }

    /// Checks the beginning of an incomplete line.
    fn check_beginning(&self, line: &[u8], length: usize) -> Result<Parsed, ConnectAnswerError> {
        if length >= MAX_LENGTH {
            return Err(ConnectAnswerError::TooLarge);
        }
        self.check_start(line)?;
        Ok(Parsed::Incomplete)
    }

    /// The first bytes decide whether a line is a status line.
    fn check_start(&self, line: &[u8]) -> Result<(), ConnectAnswerError> {
        const START: &[u8] = b"HTTP/1.";
        let compared = line.len().min(START.len());
        if self.status.is_none() && line[..compared] != START[..compared] {
            return Err(ConnectAnswerError::StatusLine);
        }
        Ok(())
    }
}

/// The status of `HTTP/1.1 200 Reason`. Some proxies omit the space before an empty reason.
fn status_line(line: &[u8]) -> Option<u16> {
    let rest = line
        .strip_prefix(b"HTTP/1.1 ")
        .or_else(|| line.strip_prefix(b"HTTP/1.0 "))?;
    let (digits, reason) = rest.split_at_checked(3)?;
    let is_sound = reason.iter().all(|byte| is_field_text(*byte));
    if !matches!(reason.first(), None | Some(b' ')) || !is_sound {
        return None;
    }
    let status = digits.iter().try_fold(0, |status: u16, digit| {
        digit
            .is_ascii_digit()
            .then(|| status * 10 + u16::from(digit - b'0'))
    })?;
    (status >= 100).then_some(status)
}

/// The name and the value of a field line.
fn field(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    let is_sound = !name.is_empty()
        && name.iter().all(|byte| is_token(*byte))
        && value.iter().all(|byte| is_field_text(*byte));
    // Only after the check: a CR is white space, and no part of a field.
    is_sound.then_some((name, value.trim_ascii()))
}

fn announces_content((name, value): (&[u8], &[u8])) -> bool {
    name.eq_ignore_ascii_case(b"transfer-encoding")
        // Some proxies send a length of 0, which is harmless.
        || (name.eq_ignore_ascii_case(b"content-length") && value != b"0")
}

/// The result for all bytes at once. Checks that the bytes one by one give the same.
#[cfg(any(test, fuzzing))]
pub(crate) fn read_every_way(bytes: &[u8]) -> Result<Parsed, ConnectAnswerError> {
    let whole = ConnectAnswerReader::default().feed(bytes);
    let mut reader = ConnectAnswerReader::default();
    let trickled = (0..=bytes.len())
        .map(|end| reader.feed(&bytes[..end]))
        .find(|parsed| *parsed != Ok(Parsed::Incomplete))
        .unwrap_or(Ok(Parsed::Incomplete));
    assert_eq!(whole, trickled, "{:?}", bytes.escape_ascii().to_string());
    whole
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn complete(status: u16, length: usize) -> Parsed {
        Parsed::Complete(ConnectAnswer { status, length })
    }

    #[test]
    fn h12_answers_of_real_proxies_are_understood() {
        for (text, status) in [
            ("HTTP/1.1 200 Connection established\r\n\r\n", 200),
            (
                "HTTP/1.0 200 Connection established\r\nProxy-agent: tinyproxy/1.11.1\r\n\r\n",
                200,
            ),
            ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200),
            ("HTTP/1.1 200\r\n\r\n", 200),
            ("HTTP/1.1 200 \r\nVia:\r\n\r\n", 200),
            ("HTTP/1.1 204 No\tContent \u{e9}\r\n\r\n", 204),
            (
                "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=\"x\"\r\nContent-Length: 9\r\n\r\n",
                407,
            ),
            ("HTTP/1.1 503 Service Unavailable\r\n\r\n", 503),
            ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", 200),
        ] {
            assert_eq!(
                read_every_way(text.as_bytes()),
                Ok(complete(status, text.len())),
                "{text}"
            );
            for end in 0..text.len() {
                assert_eq!(
                    read_every_way(&text.as_bytes()[..end]),
                    Ok(Parsed::Incomplete)
                );
            }
        }
    }

    #[test]
    fn h12_what_follows_the_head_is_left_to_the_tunnel() {
        let head = "HTTP/1.1 200 OK\r\n\r\n";
        for behind in ["\r\n", "SSH-2.0-x\r\n", "HTTP/1.1 500 No\r\n\r\n", "\0\n"] {
            let bytes = format!("{head}{behind}");
            assert_eq!(
                read_every_way(bytes.as_bytes()),
                Ok(complete(200, head.len()))
            );
        }
    }

    #[test]
    fn h12_what_is_no_answer_is_known_as_early_as_it_can_be() {
        for (text, error) in [
            ("S", ConnectAnswerError::StatusLine),
            ("SSH-2.0-OpenSSH\r\n", ConnectAnswerError::StatusLine),
            ("http/1.1 200 OK\r\n", ConnectAnswerError::StatusLine),
            ("HTTP/2", ConnectAnswerError::StatusLine),
            ("HTTP/1.2 200 OK\r\n", ConnectAnswerError::StatusLine),
            ("HTTP/1.1  200 OK\r\n", ConnectAnswerError::StatusLine),
            ("HTTP/1.1 20 OK\r\n", ConnectAnswerError::StatusLine),
            ("HTTP/1.1 2000\r\n", ConnectAnswerError::StatusLine),
            ("HTTP/1.1 099 OK\r\n", ConnectAnswerError::StatusLine),
            ("HTTP/1.1 +20 OK\r\n", ConnectAnswerError::StatusLine),
            ("HTTP/1.1 200 O\0K\r\n", ConnectAnswerError::StatusLine),
            ("HTTP/1.1 200 O\rK\r\n", ConnectAnswerError::StatusLine),
            ("\r\nHTTP/1.1 200 OK\r\n", ConnectAnswerError::StatusLine),
            ("\n", ConnectAnswerError::LineEnd),
            ("HTTP/1.1 200 OK\n", ConnectAnswerError::LineEnd),
            ("HTTP/1.1 200 OK\r\na: b\n", ConnectAnswerError::LineEnd),
            ("HTTP/1.1 200 OK\r\nno colon\r\n", ConnectAnswerError::Field),
            ("HTTP/1.1 200 OK\r\n: b\r\n", ConnectAnswerError::Field),
            ("HTTP/1.1 200 OK\r\na : b\r\n", ConnectAnswerError::Field),
            (
                "HTTP/1.1 200 OK\r\na: b\r\n folded\r\n",
                ConnectAnswerError::Field,
            ),
            ("HTTP/1.1 200 OK\r\na: \0\r\n", ConnectAnswerError::Field),
            ("HTTP/1.1 200 OK\r\na:\rb\r\n", ConnectAnswerError::Field),
            ("HTTP/1.1 200 OK\r\na: b\r\r\n", ConnectAnswerError::Field),
            (
                "HTTP/1.1 101 Switching Protocols\r\n\r\n",
                ConnectAnswerError::Switch,
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
                ConnectAnswerError::Content,
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
                ConnectAnswerError::Content,
            ),
        ] {
            assert_eq!(read_every_way(text.as_bytes()), Err(error), "{text:?}");
        }
    }

    #[test]
    fn h12_a_head_has_a_largest_size() {
        let endless = b"HTTP/1.1 200 OK\r\na: ".iter().copied();
        let endless: Vec<u8> = endless
            .chain(std::iter::repeat_n(b'x', MAX_LENGTH))
            .collect();
        let mut reader = ConnectAnswerReader::default();
        assert_eq!(
            reader.feed(&endless[..MAX_LENGTH - 1]),
            Ok(Parsed::Incomplete)
        );
        assert_eq!(
            reader.feed(&endless[..MAX_LENGTH]),
            Err(ConnectAnswerError::TooLarge)
        );
        let many = b"HTTP/1.1 100 Continue\r\n\r\n".repeat(MAX_LENGTH / 20);
        assert_eq!(
            ConnectAnswerReader::default().feed(&many),
            Err(ConnectAnswerError::TooLarge)
        );
    }

    proptest! {
        /// If this parser accepts bytes as an answer, httparse reads the same answer.
        #[test]
        fn h12_httparse_reads_the_same(bytes in prop::collection::vec(
            prop::sample::select(vec![
                &b"HTTP/1.1 200 OK\r\n"[..], b"HTTP/1.0 407 ", b"HTTP/1.1 ", b"200", b"\r\n", b"\r", b"\n", b" ",
                b"a: b\r\n", b"Content-Length: 0", b"x", b":", b"\t", b"\0", b"\x80", b"503 No\r\n\r\n",
            ]),
            0..12,
        )) {
            let bytes = bytes.concat();
            if let Ok(Parsed::Complete(answer)) = read_every_way(&bytes) {
                let mut fields = [httparse::EMPTY_HEADER; 16];
                let mut twin = httparse::Response::new(&mut fields);
                prop_assert_eq!(twin.parse(&bytes), Ok(httparse::Status::Complete(answer.length)));
                prop_assert_eq!(twin.code, Some(answer.status));
            }
        }
    }
}
