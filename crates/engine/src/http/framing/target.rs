//! Checks that hyper can read the request-target. hyper answers a target that is not a valid URI by
//! itself, without an explanation. So the target is parsed here first, and hyper gets only valid targets.

use std::net::Ipv6Addr;

use http::Uri;

use super::FramingError;

/// Longest request-target that hyper accepts.
const MAX_TARGET: usize = u16::MAX as usize - 1;
/// Largest buffer that is kept for the connection's next target.
const MAX_KEPT: usize = 1024;

/// The bytes of a request-target that have arrived so far.
#[derive(Debug, Default)]
pub(super) struct RawTarget {
    bytes: Vec<u8>,
    /// So far the target is a path and a query of bytes that every parser accepts. Then it needs no
    /// further check.
    is_plain: bool,
}

impl RawTarget {
    /// Begins with a visible byte.
    pub(super) fn begin(&mut self, byte: u8) {
        self.bytes.push(byte);
        self.is_plain = byte == b'/';
    }

    /// Takes a visible byte.
    pub(super) fn push(&mut self, byte: u8) {
        self.bytes.push(byte);
        self.is_plain &= is_path_or_query(byte);
    }

    /// Takes bytes that are visible, and [`is_path_or_query`] as long as the target is plain.
    pub(super) fn extend(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    pub(super) fn is_plain(&self) -> bool {
        self.is_plain
    }

    /// Forgets the target of a request, and makes room for the next one.
    pub(super) fn cleared(mut self) -> Self {
        if self.bytes.capacity() > MAX_KEPT {
            return Self::default();
        }
        self.bytes.clear();
        self
    }

    /// Whether hyper can read it.
    pub(super) fn check(&self) -> Result<(), FramingError> {
        if self.bytes.len() > MAX_TARGET {
            return Err(FramingError::TargetTooLong);
        }
        if self.is_plain || Uri::try_from(&*self.bytes).is_ok() {
            return Ok(());
        }
        Err(match self.authority().map(is_bare_ipv6) {
            Some(true) => FramingError::BareIpv6,
            _ => FramingError::Target,
        })
    }

    /// Whether it is a URL with neither a path nor a query (RFC 9112 section 3.2.4).
    pub(super) fn has_empty_path(&self) -> bool {
        if self.bytes.first() == Some(&b'/') {
            return false;
        }
        let scheme = self.bytes.windows(3).position(|bytes| bytes == b"://");
        scheme.is_some_and(|end| {
            !self.bytes[end + 3..]
                .iter()
                .any(|byte| b"/?".contains(byte))
        })
    }

    /// The host and port of a URL, or the whole target if it consists of them alone.
    fn authority(&self) -> Option<&str> {
        let text = std::str::from_utf8(&self.bytes).ok()?;
        let text = text.split_once("://").map_or(text, |(_, rest)| rest);
        text.split(['/', '?', '#']).next()
    }
}

/// The characters of a path and a query (RFC 3986 sections 3.3 and 3.4).
pub(super) fn is_path_or_query(byte: u8) -> bool {
    matches!(byte,
        b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'/' | b'?' | b'%' | b'-' | b'.' | b'_' | b'~'
        | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=' | b':' | b'@')
}

/// Whether a text is an IPv6 address without brackets, with or without a port.
fn is_bare_ipv6(text: &str) -> bool {
    let is_address = |text: &str| {
        let address = text.split_once('%').map_or(text, |(address, _)| address);
        address.parse::<Ipv6Addr>().is_ok()
    };
    is_address(text)
        || text
            .rsplit_once(':')
            .is_some_and(|(address, _)| is_address(address))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(text: &str) -> RawTarget {
        let mut target = RawTarget::default();
        for (at, byte) in text.bytes().enumerate() {
            match at {
                0 => target.begin(byte),
                _ => target.push(byte),
            }
        }
        target
    }

    #[test]
    fn h4_hyper_gets_no_target_that_it_would_answer_without_a_word() {
        for (text, wanted) in [
            ("/", Ok(())),
            ("*", Ok(())),
            ("http://a.test", Ok(())),
            ("a.test:443", Ok(())),
            ("[::1]:443", Ok(())),
            ("http://[::1]/", Ok(())),
            ("http://[fe80::1%25eth0]/", Ok(())),
            ("/a/%20b;c=d?e=f&g", Ok(())),
            ("/a|b", Ok(())),
            ("/<x>", Err(FramingError::Target)),
            ("/a?<x>", Err(FramingError::Target)),
            ("http://a.test/<x>", Err(FramingError::Target)),
            ("http://a.test:1:2/", Err(FramingError::Target)),
            ("::1", Err(FramingError::BareIpv6)),
            ("::1:443", Err(FramingError::BareIpv6)),
            ("2001:db8::1:443", Err(FramingError::BareIpv6)),
            ("1:2:3:4:5:6:7:8:443", Err(FramingError::BareIpv6)),
            ("fe80::1%eth0:443", Err(FramingError::BareIpv6)),
            ("http://::1/", Err(FramingError::BareIpv6)),
            ("http://2001:db8::1:8080/a?b", Err(FramingError::BareIpv6)),
        ] {
            assert_eq!(target(text).check(), wanted, "{text}");
        }
        let longest = format!("/{}", "x".repeat(MAX_TARGET - 1));
        assert_eq!(target(&longest).check(), Ok(()));
        let longer = longest + "x";
        assert_eq!(target(&longer).check(), Err(FramingError::TargetTooLong));
    }

    #[test]
    fn h4_hyper_reads_every_plain_target() {
        for byte in (0..=u8::MAX).filter(|byte| is_path_or_query(*byte)) {
            for text in [format!("/{}", byte as char), format!("/?{}", byte as char)] {
                let target = target(&text);
                assert!(target.is_plain(), "{text}");
                let uri = Uri::try_from(text.as_str()).expect("a target");
                assert_eq!(uri.to_string(), text);
            }
        }
        for text in [
            "*",
            "http://a.test/",
            "a.test:443",
            "/a|b",
            "/a#b",
            "/\u{e9}",
        ] {
            assert!(!target(text).is_plain(), "{text}");
        }
    }

    #[test]
    fn h1_an_empty_path_differs_from_a_slash() {
        for (text, wanted) in [
            ("http://a.test", true),
            ("http://a.test:81", true),
            ("http://a.test/", false),
            ("http://a.test?q", false),
            ("http://a.test?http://x", false),
            ("/http://a.test", false),
            ("*", false),
            ("a.test:443", false),
        ] {
            assert_eq!(target(text).has_empty_path(), wanted, "{text}");
        }
    }
}
