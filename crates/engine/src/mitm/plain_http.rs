//! Whether the first bytes of a connection begin a request in HTTP/1 (SPEC M2). This only distinguishes
//! HTTP from other protocols; the HTTP server checks the request.

use crate::http_bytes::{is_token, is_visible};

/// The longest token that counts as a method. Registered methods have at most 17 letters.
const MAX_METHOD: usize = 32;
/// A request line that is longer is left to the HTTP server, which refuses it in HTTP.
const MAX_LINE: usize = 8 * 1024;
/// The beginning of the version. HTTP/2 without TLS begins with a line that names another version (RFC
/// 9113 section 3.4), and is refused.
const VERSION: &[u8] = b"HTTP/1.";

/// Whether the bytes begin a request in HTTP/1. `None`: more bytes are needed.
pub(crate) fn begins(bytes: &[u8]) -> Option<bool> {
    let is_long = bytes.len() > MAX_LINE;
    decide(bytes).or_else(|| is_long.then_some(true))
}

fn decide(mut bytes: &[u8]) -> Option<bool> {
    // RFC 9112 section 2.2: empty lines before the request line mean nothing.
    while let Some(rest) = bytes.strip_prefix(b"\r\n") {
        bytes = rest;
    }
    if matches!(bytes, b"" | b"\r") {
        return None;
    }
    let method = bytes.iter().position(|byte| !is_token(*byte));
    let Some(method) = method else {
        return (bytes.len() > MAX_METHOD).then_some(false);
    };
    if method == 0 || method > MAX_METHOD || bytes[method] != b' ' {
        return Some(false);
    }
    let bytes = &bytes[method + 1..];
    let target = bytes.iter().position(|byte| !is_visible(*byte))?;
    if target == 0 || bytes[target] != b' ' {
        return Some(false);
    }
    let version = &bytes[target + 1..];
    let compared = version.len().min(VERSION.len());
    if version[..compared] != VERSION[..compared] {
        return Some(false);
    }
    (compared == VERSION.len()).then_some(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn m2_a_request_line_is_distinguished_from_other_protocols_at_any_length() {
        for line in [
            "GET / HTTP/1.1\r\n",
            "\r\n\r\nGET / HTTP/1.0\r\n",
            "CONNECT a:443 HTTP/1.1\r\n",
            "M-SEARCH * HTTP/1.1\r\n",
            "POST http://a/b?c=%20 HTTP/1.1\r\n",
        ] {
            let decided = line.find("HTTP/1.").expect("a version") + VERSION.len();
            for length in 0..line.len() {
                let wanted = (length >= decided).then_some(true);
                assert_eq!(
                    begins(&line.as_bytes()[..length]),
                    wanted,
                    "{line:?} {length}"
                );
            }
        }
    }

    #[test]
    fn m2_other_bytes_are_not_mistaken_for_http_1() {
        for bytes in [
            &b"SSH-2.0-OpenSSH_9.9\r\n"[..],
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"EHLO client.test\r\n",
            b"USER anonymous\r\n",
            b"a1 LOGIN a b\r\n",
            b"GET /\r\n",
            b"GET  / HTTP/1.1\r\n",
            b" GET / HTTP/1.1\r\n",
            b"\n",
            b"\r\r",
            b"\0",
            b"\x80.\x01\x03\x01",
            b"\x17\x03\x03\0\x01\0",
            &[b'A'; MAX_METHOD + 1],
            &[0xff; 4096],
            // After any number of bytes.
            &[b"SSH-2.0-x\r\n".as_slice(), &[0xff; 2 * MAX_LINE]].concat(),
        ] {
            assert_eq!(begins(bytes), Some(false), "{bytes:?}");
        }
    }

    #[test]
    fn m2_a_request_line_without_an_end_is_left_to_the_server() {
        let line = format!("GET /{}", "a".repeat(MAX_LINE));
        assert_eq!(begins(line.as_bytes()), Some(true));
    }
}
