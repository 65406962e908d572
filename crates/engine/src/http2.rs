//! Sends content over HTTP/2 to a stream of h2. Both sides use it: the server inside intercepted
//! TLS, and connections to origins.
//!
//! h2 is used without hyper. hyper has no interim answers over HTTP/2, and hides the stream from a
//! service.

mod send;

pub(crate) use send::{SendError, reason, send};
use tokio_util::sync::CancellationToken;

/// An extension of a request over HTTP/2 to the origin. It is cancelled when the client has abandoned the
/// request.
#[derive(Clone, Debug)]
pub(crate) struct GivenUp(pub(crate) CancellationToken);
