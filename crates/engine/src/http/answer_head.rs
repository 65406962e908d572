//! The transfer codings and the keep-alive time in the head of an origin's answer (RFC 9112 sections
//! 6.1, 7 and 9).
//!
//! hyper removes the framing: it decodes `chunked`, and reads to the end of the connection where
//! another coding is the last. This module decides whether the other codings may go on, and how
//! they are named.

use std::time::Duration;

use http::header::{CONTENT_LENGTH, HeaderName, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue};

use super::headers::elements;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");

/// The transfer codings of an answer, other than `chunked`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Codings {
    /// Only `chunked`, which hyper decodes, or no coding.
    Plain,
    /// Only `identity` (RFC 2616 section 3.6), which changes nothing. hyper reads to the end of the
    /// connection (RFC 9112 section 6.3); curl and browsers go by this length, if there is one.
    Identity(Option<u64>),
    /// Other codings. They are still applied to the content and must be named with it.
    Others(HeaderValue),
}

/// The codings of an answer are ambiguous, and so is its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AmbiguousCodings;

impl Codings {
    /// Reads the codings of an answer. `chunked` must be the last one and occur once; each element
    /// must be a token.
    pub(super) fn of(fields: &HeaderMap) -> Result<Self, AmbiguousCodings> {
        let mut others = Vec::new();
        let (mut is_chunked, mut is_identity) = (false, false);
        for coding in elements(fields, &TRANSFER_ENCODING) {
            if is_chunked || !is_coding(coding) {
                return Err(AmbiguousCodings);
            }
            if coding.eq_ignore_ascii_case(b"chunked") {
                is_chunked = true;
            } else if coding.eq_ignore_ascii_case(b"identity") {
                is_identity = true;
            } else {
                others.push(coding);
            }
        }
        if others.is_empty() {
            return if is_identity && !is_chunked {
                length(fields).map(Self::Identity)
            } else {
                Ok(Self::Plain)
            };
        }
        HeaderValue::from_bytes(&others.join(&b", "[..]))
            .map(Self::Others)
            .map_err(|_| AmbiguousCodings)
    }
}

/// The one length that an answer states, if it states any.
fn length(fields: &HeaderMap) -> Result<Option<u64>, AmbiguousCodings> {
    let mut lengths = fields.get_all(CONTENT_LENGTH).iter();
    let Some(length) = lengths.next() else {
        return Ok(None);
    };
    let digits = length.to_str().unwrap_or_default();
    if lengths.next().is_some() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(AmbiguousCodings);
    }
    digits.parse().map(Some).map_err(|_| AmbiguousCodings)
}

/// Whether this is the name of a coding, without parameters: no registered coding has any.
fn is_coding(name: &[u8]) -> bool {
    !name.is_empty() && HeaderName::from_bytes(name).is_ok()
}

/// The time for which the origin says that it keeps an unused connection: `Keep-Alive: timeout=N`
/// (RFC 2068 section 19.7.1.1). If it gives several times, the shortest counts.
pub(super) fn keep_alive(fields: &HeaderMap) -> Option<Duration> {
    let seconds = |parameter: &[u8]| -> Option<u64> {
        let (name, value) = std::str::from_utf8(parameter).ok()?.split_once('=')?;
        let is_timeout = name.trim().eq_ignore_ascii_case("timeout");
        let value = value.trim().trim_matches('"');
        is_timeout.then(|| value.parse().ok())?
    };
    elements(fields, &KEEP_ALIVE)
        .filter_map(seconds)
        .min()
        .map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(name: &'static str, values: &[&'static str]) -> HeaderMap {
        let mut fields = HeaderMap::new();
        for value in values {
            fields.append(name, HeaderValue::from_static(value));
        }
        fields
    }

    #[test]
    fn h4_codings_go_on_by_their_names_and_ambiguous_ones_do_not() {
        let plain = Ok(Codings::Plain);
        let others = |names| Ok(Codings::Others(HeaderValue::from_static(names)));
        let ambiguous = Err(AmbiguousCodings);
        for (values, wanted) in [
            (&[][..], plain.clone()),
            (&["Chunked"], plain.clone()),
            (&["identity"], Ok(Codings::Identity(None))),
            (&["identity, chunked"], plain),
            (&["gzip"], others("gzip")),
            (&["gzip, chunked"], others("gzip")),
            (&["gzip", "chunked"], others("gzip")),
            (&["deflate,\tx-gzip ,CHUNKED"], others("deflate, x-gzip")),
            (&["chunked, chunked"], ambiguous.clone()),
            (&["chunked", "chunked"], ambiguous.clone()),
            (&["chunked, gzip"], ambiguous.clone()),
            (&["chunked, identity"], ambiguous.clone()),
            (&[""], ambiguous.clone()),
            (&["chunked,"], ambiguous.clone()),
            (&[", chunked"], ambiguous.clone()),
            (&["chun ked"], ambiguous.clone()),
            (&["\"chunked\""], ambiguous.clone()),
            (&["chunked;q=1"], ambiguous),
        ] {
            let codings = Codings::of(&fields("transfer-encoding", values));
            assert_eq!(codings, wanted, "{values:?}");
        }
    }

    #[test]
    fn h4_beside_identity_a_length_counts() {
        for (lengths, wanted) in [
            (&[][..], Ok(Codings::Identity(None))),
            (&["5"], Ok(Codings::Identity(Some(5)))),
            (&["5", "5"], Err(AmbiguousCodings)),
            (&["+5"], Err(AmbiguousCodings)),
            (&[""], Err(AmbiguousCodings)),
            (&["99999999999999999999"], Err(AmbiguousCodings)),
        ] {
            let mut fields = fields("content-length", lengths);
            fields.insert(TRANSFER_ENCODING, HeaderValue::from_static("identity"));
            assert_eq!(Codings::of(&fields), wanted, "{lengths:?}");
        }
    }

    #[test]
    fn h1_an_origin_says_how_long_it_keeps_a_connection() {
        for (values, wanted) in [
            (&[][..], None),
            (&["timeout=5"], Some(5)),
            (&["timeout=5, max=100"], Some(5)),
            (&["max=100,Timeout = \"7\""], Some(7)),
            (&["timeout=9", "timeout=4"], Some(4)),
            (&["timeout=0"], Some(0)),
            (&["timeout"], None),
            (&["timeout=-1"], None),
            (&["timeout=five, max=5"], None),
            (&["5"], None),
        ] {
            let hint = keep_alive(&fields("keep-alive", values));
            assert_eq!(hint, wanted.map(Duration::from_secs), "{values:?}");
        }
    }
}
