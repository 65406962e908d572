//! Sends content over HTTP/2 to a stream of h2. Both sides use it: the server inside intercepted
//! TLS, and connections to origins.
//!
//! We use h2 without hyper: hyper has no interim answers over HTTP/2, and does not show a service its
//! stream.

mod send;

use tokio_util::sync::CancellationToken;

pub(crate) use send::{SendError, reason, send};

/// Goes with a request over HTTP/2 to the origin, and is cancelled when the client has given the request
/// up.
#[derive(Clone, Debug)]
pub(crate) struct GivenUp(pub(crate) CancellationToken);
