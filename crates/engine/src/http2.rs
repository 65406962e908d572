//! Content over HTTP/2, to and from a stream of h2. Both sides use it: the server inside intercepted
//! TLS, and connections to origins.
//!
//! We use h2 without hyper: hyper has no interim answers over HTTP/2, and does not show a service its
//! stream.

mod received;
mod send;

pub(crate) use received::Received;
pub(crate) use send::{SendError, reason, send};
