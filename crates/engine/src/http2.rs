//! Content over HTTP/2, to and from a stream of h2. It is the same for both sides: the door inside
//! intercepted TLS, and connections to origins.
//!
//! h2 is used without hyper, which knows no interim answers over HTTP/2 and tells a service nothing of
//! its stream.

mod received;
mod send;

pub(crate) use received::Received;
pub(crate) use send::{SendError, reason, send};
