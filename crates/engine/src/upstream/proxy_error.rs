//! Why there is no way through an upstream proxy (SPEC H7, H12).

use std::io;

use super::connect_answer::ConnectAnswerError;
use crate::connect_error::ConnectError;
use crate::resolve::ResolveError;
use crate::tls::TlsError;

/// Why there is no way through an upstream proxy. The text is for the client and the log. It names
/// no proxy: which one the operator uses is not for clients (SPEC H7).
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProxyError {
    /// Its name does not resolve.
    #[error("the name of the upstream proxy could not be looked up")]
    Resolve(#[source] ResolveError),
    /// It cannot be connected to.
    #[error("{}", connecting(.0))]
    Connect(#[source] ConnectError),
    /// There is no TLS session with it.
    #[error("no TLS session with the upstream proxy: {0}")]
    Tls(#[source] TlsError),
    /// The upstream proxy did not answer in time.
    #[error("the upstream proxy did not answer in time")]
    Timeout,
    /// It closed the connection before its answer was complete.
    #[error("the upstream proxy closed the connection before it had answered")]
    HungUp,
    /// The connection broke.
    #[error("the connection to the upstream proxy broke before it had answered")]
    Io(#[source] io::Error),
    /// Its answer is not valid.
    #[error("the upstream proxy did not answer as an HTTP proxy does: {0}")]
    NotAProxy(#[from] ConnectAnswerError),
    /// It wants other credentials than it was sent.
    #[error("the upstream proxy wants other credentials")]
    Credentials,
    /// It refused to connect.
    #[error("the upstream proxy answered with status {0}")]
    Status(u16),
    /// The destination cannot be written in a URL.
    #[error("the upstream proxy cannot be asked for this host")]
    NoForm,
}

fn connecting(error: &ConnectError) -> &'static str {
    match error {
        ConnectError::Timeout => "the connection to the upstream proxy timed out",
        ConnectError::Refused => "the upstream proxy refused the connection",
        ConnectError::Unreachable => "the upstream proxy is unreachable",
        ConnectError::ExhaustedDescriptors => "the proxy has no file descriptors left",
        ConnectError::Other(_) => "the connection to the upstream proxy failed",
    }
}
