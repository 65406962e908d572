//! Why a permitted request did not reach its origin, or got no answer from it.

use super::answer_error::{AnswerError, Answerer, BrokenAnswer};
use super::proxy_error::ProxyError;
use crate::attempt::Refusal;
use crate::connect_error::ConnectError;
use crate::error::{Failure, FailureKind};
use crate::incoming::BodyError;
use crate::interceptor::LeafError;
use crate::outcome::{Ending, Fault, FlowOutcome, Logged};
use crate::resolve::ResolveError;
use crate::socket_file::SocketError;
use crate::tls::TlsError;

/// Why a permitted request failed. The text is for the client and the log. It holds no detail of the
/// resolver or the system (SPEC H7); the sources do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UpstreamError {
    /// The addresses were refused after the name was permitted.
    #[error("it was refused ({})", .0.decision.reason())]
    Refused(Box<Refusal>),
    /// The name did not resolve.
    #[error("dns_failure: {}", resolving(.0))]
    Resolve(#[source] ResolveError),
    /// No address could be connected to.
    #[error(transparent)]
    Connect(ConnectError),
    /// The unix socket could not be connected to.
    #[error(transparent)]
    UnixSocket(SocketError),
    /// There is no TLS session with the origin.
    #[error("no TLS session with the host: {0}")]
    Tls(#[from] TlsError),
    /// There is no way through the upstream proxy.
    #[error(transparent)]
    UpstreamProxy(#[from] ProxyError),
    /// TLS is not intercepted any more.
    #[error("TLS interception was switched off")]
    NoInterception,
    /// There is no certificate for the interception.
    #[error("no certificate for the TLS interception: {0}")]
    Leaf(LeafError),
    /// The client's request body broke off.
    #[error("the request's body broke off")]
    RequestBody(#[source] BodyError),
    /// There is no answer, or it is unusable.
    #[error(transparent)]
    Answer(#[from] BrokenAnswer),
    /// The request offers WebSocket, and the origin has only HTTP/2.
    #[error("the host has only HTTP/2, and WebSocket needs HTTP/1.1")]
    NoWebSocket,
    /// The origin reported that it did not process the request: each time it was sent, or when it could
    /// not be sent again.
    #[error("the host refused the request without processing it")]
    NotProcessed(#[source] h2::Error),
}

/// The words for a failed lookup.
fn resolving(error: &ResolveError) -> &'static str {
    match error {
        ResolveError::NotFound => "the name does not exist",
        ResolveError::Timeout => "the name could not be looked up in time",
        ResolveError::Unavailable(_) => "the name could not be looked up",
        ResolveError::NoNameServer(_) => {
            "the name could not be looked up, since the proxy knows no name server"
        }
    }
}

impl UpstreamError {
    /// The failure as clients and the log get it.
    pub(crate) fn failure(&self) -> Failure {
        Failure::of(self, self.fault(), self.outcome(), self.kind())
    }

    /// The end of a permitted attempt that failed. One that was refused after all has a record of
    /// its own (SPEC R2).
    pub(crate) fn ending(&self) -> Ending {
        let ending = self.failure().ending();
        match self {
            Self::Refused(refusal) => Ending {
                reason: Some(refusal.decision.reason()),
                logged: Logged::Already,
                ..ending
            },
            _ => ending,
        }
    }

    fn fault(&self) -> Fault {
        if let Some(ConnectError::ExhaustedDescriptors) = self.connect_error() {
            return Fault::Proxy;
        }
        match self {
            Self::NoInterception | Self::Leaf(_) => Fault::Proxy,
            Self::Answer(BrokenAnswer { by, .. }) => match by {
                Answerer::Host => Fault::Upstream,
                Answerer::UpstreamProxy => Fault::UpstreamProxy,
                Answerer::Program => Fault::UnixSocket,
            },
            Self::UnixSocket(_) => Fault::UnixSocket,
            Self::UpstreamProxy(_) => Fault::UpstreamProxy,
            Self::RequestBody(_) => Fault::Client,
            Self::Refused(_)
            | Self::Resolve(_)
            | Self::Connect(_)
            | Self::Tls(_)
            | Self::NoWebSocket
            | Self::NotProcessed(_) => Fault::Upstream,
        }
    }

    fn outcome(&self) -> FlowOutcome {
        match self {
            Self::Refused(_) | Self::NoInterception => FlowOutcome::Forbidden,
            Self::Resolve(_) => FlowOutcome::DnsFailed,
            Self::RequestBody(_) => FlowOutcome::ClientGone,
            Self::Connect(_)
            | Self::UnixSocket(_)
            | Self::Tls(_)
            | Self::Leaf(_)
            | Self::UpstreamProxy(_)
            | Self::Answer(_)
            | Self::NoWebSocket
            | Self::NotProcessed(_) => FlowOutcome::UpstreamFailed,
        }
    }

    fn kind(&self) -> FailureKind {
        match self {
            _ if self.is_timeout() => FailureKind::Timeout,
            Self::Resolve(_) => FailureKind::NotResolved,
            Self::Connect(ConnectError::Refused) => FailureKind::ConnectionRefused,
            Self::Connect(ConnectError::Unreachable) => FailureKind::Unreachable,
            _ => FailureKind::Other,
        }
    }

    fn is_timeout(&self) -> bool {
        if let Some(error) = self.connect_error() {
            return matches!(error, ConnectError::Timeout);
        }
        matches!(
            self,
            Self::Resolve(ResolveError::Timeout)
                | Self::Tls(TlsError::Timeout)
                | Self::Answer(BrokenAnswer {
                    cause: AnswerError::Silent(_),
                    ..
                })
                | Self::UpstreamProxy(
                    ProxyError::Timeout
                        | ProxyError::Resolve(ResolveError::Timeout)
                        | ProxyError::Tls(TlsError::Timeout)
                )
        )
    }

    /// Why a connection could not be opened: to the host, the upstream proxy or the unix socket.
    fn connect_error(&self) -> Option<&ConnectError> {
        match self {
            Self::Connect(error)
            | Self::UpstreamProxy(ProxyError::Connect(error))
            | Self::UnixSocket(SocketError::Connect(error)) => Some(error),
            _ => None,
        }
    }
}

impl From<Refusal> for UpstreamError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(Box::new(refusal))
    }
}
