//! Why an answer cannot be used. Each cause has one text, for the client and the log (SPEC H7, H8).

use std::error::Error;
use std::time::Duration;
use std::{fmt, io};

use h2::Reason;
use rustls::AlertDescription;

use super::MAX_FIELDS;
use super::evidence::{Evidence, MAX_HEAD, ObservedAnswer};
use crate::incoming::BodyError;
use crate::stream_end::StreamEnd;

/// The error of an answer. In messages, the name of the answerer precedes this text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AnswerError {
    /// The connection ended before the first byte of an answer.
    #[error("closed the connection without an answer")]
    Closed,
    /// The connection ended within the answer.
    #[error("closed the connection before its answer was complete")]
    Incomplete,
    /// The connection ended with a reset.
    #[error("reset the connection")]
    Reset,
    /// The connection ended in another way, such as by a TCP timeout.
    #[error("no longer answers on the connection")]
    Broken,
    /// RFC 8446 section 4.4.2.4: some servers end the session with an alert, others just close it.
    #[error(
        "asked for a client certificate, which this proxy does not have, and ended the connection; such a host \
         works only where TLS is not intercepted"
    )]
    ClientCertificate,
    /// The TLS session ended with an alert.
    #[error("ended the TLS session with the alert {0:?}")]
    Alert(AlertDescription),
    /// The TLS session ended because the peer broke the protocol.
    #[error("broke the rules of TLS")]
    Tls,
    /// The content of the answer has a coding that the request did not accept, and may have the real value of a
    /// credential (SPEC B12).
    #[error(
        "encoded its answer, which the request did not accept, so real credentials cannot be looked for"
    )]
    ContentCoding,
    /// The content cannot be decoded within the bounds, to look for real values in it (SPEC B12).
    #[error("sent encoded content, unasked, that cannot be decoded")]
    Undecodable,
    /// The answer has a part of content, where the request asked for the whole. A part of a real value would not be
    /// found in it (SPEC B12).
    #[error(
        "sent a part of its content, where the whole was asked for, so real credentials cannot be looked for"
    )]
    UnaskedPart,
    /// The answer is not HTTP.
    #[error("did not answer in HTTP")]
    NotHttp,
    /// HTTP/1.0 and HTTP/1.1 are accepted, and HTTP/2 only if TLS agreed on it.
    #[error("answered in a version of HTTP that was not agreed on")]
    Version,
    /// The status is not three digits, or the reason phrase has a forbidden byte.
    #[error("answered with an invalid status line")]
    StatusLine,
    /// A field line is malformed, or a field that frames the content is invalid.
    #[error("answered with an invalid header field")]
    Field,
    /// There are more than [`MAX_FIELDS`].
    #[error("answered with too many header fields")]
    TooManyFields,
    /// The head is larger than [`MAX_HEAD`].
    #[error("answered with a header section that is too large")]
    HeadTooLarge,
    /// The transfer codings are ambiguous, the client does not speak HTTP/1.1, the only version that can name
    /// them, or real values cannot be looked for in them (SPEC B12).
    #[error("used transfer codings that cannot be passed on")]
    TransferCoding,
    /// The connection changed to a protocol that the request did not offer.
    #[error("switched protocols unasked")]
    UnaskedUpgrade,
    /// There were more interim answers than the proxy accepts.
    #[error("sent interim answers without end")]
    InterimFlood,
    /// The answer did not begin within this time.
    #[error("did not answer in time")]
    Silent(Duration),
    /// The chunked framing of the content is invalid.
    #[error("sent a malformed chunk in its answer")]
    Chunk,
    /// RFC 9113 section 6.8.
    #[error("ended the HTTP/2 connection (GOAWAY, {0:?})")]
    GoAway(Reason),
    /// RFC 9113 section 6.4.
    #[error("reset the HTTP/2 stream (RST_STREAM, {0:?})")]
    StreamReset(Reason),
    /// h2 detected the fault (RFC 9113 section 5.4).
    #[error("broke the rules of HTTP/2 ({0:?})")]
    Http2(Reason),
}

/// The peer that answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answerer {
    Host,
    UpstreamProxy,
    /// The program behind a unix socket.
    Program,
}

/// An answer that cannot be used. If hyper or h2 found the fault, its error is the source, for the log.
#[derive(Debug, thiserror::Error)]
#[error("{by} {cause}")]
pub(crate) struct BrokenAnswer {
    pub(crate) by: Answerer,
    pub(crate) cause: AnswerError,
    #[source]
    pub(super) error: Option<BodyError>,
}

impl fmt::Display for Answerer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Host => "the host",
            Self::UpstreamProxy => "the upstream proxy",
            Self::Program => "the program",
        })
    }
}

impl AnswerError {
    /// Whether the connection was lost without a known fault in an answer.
    pub(crate) fn is_lost_connection(self) -> bool {
        matches!(
            self,
            Self::Closed
                | Self::Incomplete
                | Self::Reset
                | Self::Broken
                | Self::Alert(_)
                | Self::GoAway(_)
        )
    }

    /// Why no usable head arrived.
    pub(super) fn of_head(error: &(dyn Error + 'static), evidence: &Evidence) -> Self {
        let observed = evidence.lock();
        if observed.has_frames && observed.bytes > 4 && observed.begins_with(b"HTTP/") {
            // h2 reads an HTTP/1 answer as a frame.
            return Self::Version;
        }
        if let Some(error) = find(error) {
            return Self::of_http2(error, &observed);
        }
        let Some(error) = find::<hyper::Error>(error) else {
            return Self::of_end(&observed);
        };
        if error.is_parse_too_large() {
            return match &*observed {
                observed if observed.lines > MAX_FIELDS => Self::TooManyFields,
                observed if observed.bytes >= MAX_HEAD => Self::HeadTooLarge,
                // A `Content-Length` that is too large for a number.
                _ => Self::Field,
            };
        }
        if error.is_timeout() {
            return Self::Broken;
        }
        if error.is_parse() {
            return match &*observed {
                observed if !observed.begins_with(b"HTTP/") => Self::NotHttp,
                observed if !observed.begins_with(b"HTTP/1.") => Self::Version,
                _ if error.is_parse_status() => Self::StatusLine,
                _ => Self::Field,
            };
        }
        Self::of_end(&observed)
    }

    /// Why the content after a head is incomplete.
    pub(super) fn of_body(error: &(dyn Error + 'static), evidence: &Evidence) -> Self {
        let observed = evidence.lock();
        if let Some(error) = find(error) {
            return Self::of_http2(error, &observed);
        }
        match observed.end {
            Some(end) => Self::of_break(end).unwrap_or(Self::Incomplete),
            None if find::<io::Error>(error).is_some() => Self::Chunk,
            None => Self::Incomplete,
        }
    }

    fn of_http2(error: &h2::Error, observed: &ObservedAnswer) -> Self {
        match error.reason() {
            Some(reason) if error.is_library() => Self::Http2(reason),
            Some(reason) if error.is_go_away() => Self::GoAway(reason),
            Some(reason) if error.is_reset() => Self::StreamReset(reason),
            _ => Self::of_end(observed),
        }
    }

    fn of_end(observed: &ObservedAnswer) -> Self {
        if observed.end.is_some() && observed.requested_certificate && !observed.has_answered {
            return Self::ClientCertificate;
        }
        match observed.end.map(Self::of_break) {
            Some(Some(broke)) => broke,
            Some(None) if observed.bytes == 0 || observed.has_frames => Self::Closed,
            None if observed.bytes == 0 || observed.has_frames => Self::Broken,
            _ if observed.begins_with(b"HTTP/") => Self::Incomplete,
            // The bytes may have arrived before the request was sent.
            _ => Self::NotHttp,
        }
    }

    /// The error for an end other than an orderly one.
    fn of_break(end: StreamEnd) -> Option<Self> {
        Some(match end {
            StreamEnd::Alert(AlertDescription::CertificateRequired) => Self::ClientCertificate,
            StreamEnd::Alert(alert) => Self::Alert(alert),
            StreamEnd::BadTls => Self::Tls,
            StreamEnd::Reset => Self::Reset,
            StreamEnd::Broken => Self::Broken,
            StreamEnd::Closed => return None,
        })
    }
}

/// The same error without the debug data of a GOAWAY frame. They are bytes of the origin's choice (RFC 9113 section
/// 6.8), so the log must not have them.
pub(super) fn without_debug_data(error: h2::Error) -> h2::Error {
    match error.reason() {
        Some(reason) if error.is_go_away() => reason.into(),
        _ => error,
    }
}

/// The same for an error that may have one of h2 as its source.
pub(super) fn loggable(error: BodyError) -> BodyError {
    match find::<h2::Error>(error.as_ref()) {
        Some(found) if found.is_go_away() => match found.reason() {
            Some(reason) => h2::Error::from(reason).into(),
            None => "the host ended the HTTP/2 connection".into(),
        },
        _ => error,
    }
}

/// Finds an error of this type in the chain of sources.
fn find<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<E>() {
            return Some(found);
        }
        next = error.source();
    }
    None
}
