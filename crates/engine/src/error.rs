//! What can fail between a permit and an answer, whose fault it is, and the words for it.

use std::error::Error;

use crate::attempt::Refusal;
use crate::connect_error::ConnectError;
use crate::incoming::BodyError;
use crate::outcome::{Ending, Outcome, Told};
use crate::resolve::ResolveError;
use crate::socket_file::SocketError;
use crate::tls::TlsError;
use crate::upstream::{Answerer, BrokenAnswer, ProxyError};

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
    /// This proxy, or the machine it runs on.
    Proxy,
}

/// Why a permitted request did not reach its origin or got no answer from it. The text is for the
/// client and the log. It holds no detail of the resolver or the system (SPEC H7); the sources do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
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
    /// The client's request body broke off.
    #[error("the request's body broke off")]
    RequestBody(#[source] BodyError),
    /// There is no answer, or it is unusable.
    #[error(transparent)]
    Answer(#[from] BrokenAnswer),
    /// The origin said that it did not process the request: each time it was sent, or when it could
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

impl Fault {
    /// The word in the log.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Upstream => "host",
            Self::UpstreamProxy => "upstream proxy",
            Self::UnixSocket => "unix socket",
            Self::Proxy => "proxy",
        }
    }
}

impl Failure {
    pub(crate) fn fault(&self) -> Fault {
        if let Some(ConnectError::ExhaustedDescriptors) = self.connect_error() {
            return Fault::Proxy;
        }
        match self {
            Self::NoInterception => Fault::Proxy,
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
            | Self::NotProcessed(_) => Fault::Upstream,
        }
    }

    /// The end of a permitted attempt that failed. One that was refused after all has a record of
    /// its own (SPEC R2).
    pub(crate) fn ending(&self) -> Ending {
        let (outcome, told) = match self {
            Self::Refused(_) => (Outcome::Forbidden, Told::InARecord),
            Self::NoInterception => (Outcome::Forbidden, Told::Nowhere),
            Self::Resolve(_) => (Outcome::DnsFailed, Told::Nowhere),
            Self::RequestBody(_) => (Outcome::ClientGone, Told::Nowhere),
            Self::Connect(_)
            | Self::UnixSocket(_)
            | Self::Tls(_)
            | Self::UpstreamProxy(_)
            | Self::Answer(_)
            | Self::NotProcessed(_) => (Outcome::UpstreamFailed, Told::Nowhere),
        };
        Ending {
            outcome,
            fault: Some(self.fault().as_str()),
            reason: match self {
                Self::Refused(refusal) => Some(refusal.decision.reason()),
                _ => None,
            },
            cause: Some(self.to_string().into()),
            detail: detail(self),
            told,
        }
    }

    /// Why a connection could not be opened: to the host, the upstream proxy or the unix socket.
    pub(crate) fn connect_error(&self) -> Option<&ConnectError> {
        match self {
            Self::Connect(error)
            | Self::UpstreamProxy(ProxyError::Connect(error))
            | Self::UnixSocket(SocketError::Connect(error)) => Some(error),
            _ => None,
        }
    }
}

/// Bytes of [`detail`] at most. A certificate can make rustls say a quarter of a MiB.
const MAX_DETAIL: usize = 300;

/// What the sources of an error add to its own text, for the log only.
fn detail(error: &dyn Error) -> Option<String> {
    let words = error.to_string();
    let mut said = Vec::new();
    let mut source = error.source();
    while let Some(error) = source {
        said.push(error.to_string());
        source = error.source();
    }
    said.retain(|said| !words.contains(said));
    let mut said = said.join(": ");
    let end = (0..=MAX_DETAIL)
        .rev()
        .find(|end| said.is_char_boundary(*end));
    said.truncate(end.unwrap_or_default());
    (!said.is_empty()).then_some(said)
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(Box::new(refusal))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("it failed")]
    struct Outer(#[source] Inner);

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Inner(String);

    #[test]
    fn r2_what_an_origin_makes_a_library_say_is_cut() {
        let long = Outer(Inner("\u{e9}".repeat(100_000)));
        let said = detail(&long).expect("a detail");
        assert_eq!(said.len(), MAX_DETAIL);
        let short = Outer(Inner("why".to_owned()));
        assert_eq!(detail(&short).as_deref(), Some("why"));
        assert_eq!(detail(&Outer(Inner(String::new()))), None);
    }
}
