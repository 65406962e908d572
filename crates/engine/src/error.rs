//! What goes wrong between a permit and an answer, and whose fault it is.

use std::time::Duration;

use crate::enforce::Refusal;
use crate::upstream::tls::TlsError;
use crate::upstream::unix_socket::SocketError;
use crate::upstream::{ConnectError, ProxyError, ResolveError};

/// Whose fault a failure is: the first thing an operator asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The client sent something that cannot be served.
    Client,
    /// The origin, or the way to it.
    Upstream,
    /// The proxy that carries what this one allows, or the way to it.
    UpstreamProxy,
    /// A unix socket, or the program that should listen on it.
    UnixSocket,
    /// This proxy, or the machine that it runs on.
    Proxy,
}

/// Why a permitted request did not reach its origin, or got no answer from it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The addresses were refused after all.
    #[error("refused: {}", .0.decision.reason())]
    Refused(Box<Refusal>),
    /// The name did not resolve.
    #[error("the name does not resolve: {0}")]
    Resolve(#[source] ResolveError),
    /// No address could be connected to.
    #[error("{0}")]
    Connect(#[source] ConnectError),
    /// The unix socket could not be connected to.
    #[error("the unix socket: {0}")]
    UnixSocket(#[source] SocketError),
    /// There is no TLS session with the origin.
    #[error("no TLS with the origin: {0}")]
    Tls(#[from] TlsError),
    /// There is no way through the upstream proxy.
    #[error("the upstream proxy: {0}")]
    UpstreamProxy(#[from] ProxyError),
    /// TLS is not intercepted any more.
    #[error("interception was switched off")]
    NoInterception,
    /// The client's request body broke off.
    #[error("the request body broke off")]
    RequestBody(#[source] hyper::Error),
    /// The origin did not speak HTTP, or hung up before its answer was complete.
    #[error("the origin's answer is not usable: {0}")]
    Answer(#[source] hyper::Error),
    /// The origin said that it has not processed the request, time and again, or when the request
    /// could not be sent again.
    #[error("the origin refused the request unprocessed: {0}")]
    NotProcessed(#[source] hyper::Error),
    /// The origin's transfer codings are ambiguous, or the client cannot be told of them: HTTP/1.1
    /// alone can name them.
    #[error("the origin used transfer codings that cannot be passed on")]
    TransferCoding,
    /// The origin wanted to change protocols, though nobody had asked it to.
    #[error("the origin switched protocols unasked")]
    UnaskedUpgrade,
    /// The origin sent interim answers without end.
    #[error("the origin sent too many interim answers")]
    InterimFlood,
    /// The origin did not begin its answer in time.
    #[error("the origin did not answer within {0:?}")]
    AnswerTimeout(Duration),
}

impl Failure {
    pub(crate) fn fault(&self) -> Fault {
        match self {
            Self::Connect(ConnectError::ExhaustedDescriptors)
            | Self::UpstreamProxy(ProxyError::Connect(ConnectError::ExhaustedDescriptors))
            | Self::UnixSocket(SocketError::Connect(ConnectError::ExhaustedDescriptors))
            | Self::NoInterception => Fault::Proxy,
            Self::UnixSocket(_) => Fault::UnixSocket,
            Self::UpstreamProxy(_) => Fault::UpstreamProxy,
            Self::RequestBody(_) => Fault::Client,
            Self::Refused(_)
            | Self::Resolve(_)
            | Self::Connect(_)
            | Self::Tls(_)
            | Self::Answer(_)
            | Self::NotProcessed(_)
            | Self::TransferCoding
            | Self::UnaskedUpgrade
            | Self::InterimFlood
            | Self::AnswerTimeout(_) => Fault::Upstream,
        }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(Box::new(refusal))
    }
}
