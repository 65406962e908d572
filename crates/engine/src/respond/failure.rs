//! Answers to requests that policy allowed but that failed (SPEC H8, S2). The text is that of the
//! failure, so that the client and the log read the same.

use std::fmt::Display;

use bytes::Bytes;
use http::{Response, StatusCode};

use super::{RefusalFormat, Reply, refusal, text};
use crate::error::{Failure, FailureKind};
use crate::outcome::Fault;
use crate::upstream::UpstreamError;

/// The answer to a permitted request for `whom` that was refused after all or that failed.
pub(crate) fn failure(
    error: &UpstreamError,
    whom: &dyn Display,
    format: RefusalFormat,
) -> Response<Bytes> {
    if let UpstreamError::Refused(refused) = error {
        return refusal(refused, format);
    }
    let failure = error.failure();
    let whose = match failure.fault {
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
    let line = format!("{whom}: {}. {whose}.", failure.text);
    text(status(&failure), &line)
}

fn status(failure: &Failure) -> StatusCode {
    match (failure.kind, failure.fault) {
        (FailureKind::Timeout, _) => StatusCode::GATEWAY_TIMEOUT,
        (_, Fault::Client) => StatusCode::BAD_REQUEST,
        (_, Fault::Proxy) => StatusCode::SERVICE_UNAVAILABLE,
        (_, Fault::Upstream | Fault::UpstreamProxy | Fault::UnixSocket) => StatusCode::BAD_GATEWAY,
    }
}

/// The SOCKS5 reply to a permitted request that was refused after all or that failed.
pub(crate) fn socks_failure(error: &UpstreamError) -> Reply {
    if let UpstreamError::Refused(_) = error {
        return Reply::NotAllowed;
    }
    match error.failure().kind {
        FailureKind::Timeout => Reply::TtlExpired,
        FailureKind::NotResolved | FailureKind::Unreachable => Reply::HostUnreachable,
        FailureKind::ConnectionRefused => Reply::ConnectionRefused,
        FailureKind::Other => Reply::GeneralFailure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connect_error::ConnectError;
    use crate::socket_file::SocketError;
    use crate::upstream::ProxyError;

    #[test]
    fn h8_connections_that_cannot_be_opened_have_one_status_for_each_cause() {
        let ways: [fn(ConnectError) -> UpstreamError; 3] = [
            UpstreamError::Connect,
            |error| ProxyError::Connect(error).into(),
            |error| UpstreamError::UnixSocket(SocketError::Connect(error)),
        ];
        for way in ways {
            for (error, wanted) in [
                (ConnectError::Timeout, 504),
                (ConnectError::Refused, 502),
                (ConnectError::Unreachable, 502),
                (ConnectError::ExhaustedDescriptors, 503),
            ] {
                let failure = way(error).failure();
                assert_eq!(status(&failure).as_u16(), wanted, "{failure:?}");
            }
        }
    }
}
