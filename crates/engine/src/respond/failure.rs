//! Answers to requests that policy allowed but that failed (SPEC H8, S2). The words are those of
//! the failure (`error.rs`), so that the client and the log read the same.

use std::fmt::Display;

use http::{Response, StatusCode};

use super::{Door, Reply, refusal, text};
use crate::connect_error::ConnectError;
use crate::error::{Failure, Fault};
use crate::http::Answer;
use crate::resolve::ResolveError;
use crate::tls::TlsError;
use crate::upstream::{AnswerError, BrokenAnswer, ProxyError};

/// The answer to a request that failed.
pub(crate) fn failure(failure: &Failure, whom: &dyn Display, door: Door) -> Response<Answer> {
    if let Failure::Refused(refused) = failure {
        return refusal(refused, door);
    }
    let whose = match failure.fault() {
        Fault::Client => "The request is at fault",
        Fault::Upstream => {
            "The proxy allowed the request; the fault lies with the host or the way to it"
        }
        Fault::UpstreamProxy => {
            "The proxy allowed the request; the fault lies with its upstream proxy or the way to it: tell the administrator of that proxy"
        }
        Fault::UnixSocket => {
            "The proxy allowed the request; the fault lies with the socket or the program that should listen on it"
        }
        Fault::Proxy => {
            "The fault lies with the proxy: try again later, and tell its administrator"
        }
    };
    text(status(failure), &format!("{whom}: {failure}. {whose}."))
}

fn status(failure: &Failure) -> StatusCode {
    if is_timeout(failure) {
        return StatusCode::GATEWAY_TIMEOUT;
    }
    match failure.fault() {
        Fault::Client => StatusCode::BAD_REQUEST,
        Fault::Proxy => StatusCode::SERVICE_UNAVAILABLE,
        Fault::Upstream | Fault::UpstreamProxy | Fault::UnixSocket => StatusCode::BAD_GATEWAY,
    }
}

fn is_timeout(failure: &Failure) -> bool {
    if let Some(error) = failure.connect_error() {
        return matches!(error, ConnectError::Timeout);
    }
    matches!(
        failure,
        Failure::Resolve(ResolveError::Timeout)
            | Failure::Tls(TlsError::Timeout)
            | Failure::Answer(BrokenAnswer {
                cause: AnswerError::Silent(_),
                ..
            })
            | Failure::UpstreamProxy(
                ProxyError::Timeout
                    | ProxyError::Resolve(ResolveError::Timeout)
                    | ProxyError::Tls(TlsError::Timeout)
            )
    )
}

/// The SOCKS5 reply to a request that failed.
pub(crate) fn socks_failure(failure: &Failure) -> Reply {
    match failure {
        Failure::Refused(_) => Reply::NotAllowed,
        failure if is_timeout(failure) => Reply::TtlExpired,
        Failure::Resolve(_) | Failure::Connect(ConnectError::Unreachable) => Reply::HostUnreachable,
        Failure::Connect(ConnectError::Refused) => Reply::ConnectionRefused,
        _ => Reply::GeneralFailure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::socket_file::SocketError;

    #[test]
    fn h8_connections_that_cannot_be_opened_have_one_status_for_each_cause() {
        let ways: [fn(ConnectError) -> Failure; 3] = [
            Failure::Connect,
            |error| ProxyError::Connect(error).into(),
            |error| Failure::UnixSocket(SocketError::Connect(error)),
        ];
        for way in ways {
            for (error, wanted) in [
                (ConnectError::Timeout, 504),
                (ConnectError::Refused, 502),
                (ConnectError::Unreachable, 502),
                (ConnectError::ExhaustedDescriptors, 503),
            ] {
                let failure = way(error);
                assert_eq!(status(&failure).as_u16(), wanted, "{failure:?}");
            }
        }
    }
}
