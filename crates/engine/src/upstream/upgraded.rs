//! The stream of a connection that has changed protocols, without the layers that HTTP needed.

use bytes::Bytes;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::connection::{Connection, Stream};
use super::cut::Cuttable;
use super::evidence::Evidence;
use crate::observed::Observed;
use crate::prefixed::Prefixed;

/// The upstream end of a connection that has changed protocols.
pub(crate) enum UpgradedStream {
    /// A socket, and the bytes that were already read from it.
    Socket(TcpStream, Bytes),
    /// TLS with an upstream proxy.
    Tls(Box<Prefixed<Stream>>),
    /// Any other stream.
    Other(Upgraded),
}

impl UpgradedStream {
    pub(crate) fn new(upgraded: Upgraded) -> Self {
        type Layers = TokioIo<Cuttable<Observed<Connection, Evidence>>>;
        let parts = match upgraded.downcast::<Layers>() {
            Ok(parts) => parts,
            Err(upgraded) => return Self::Other(upgraded),
        };
        let connection = parts.io.into_inner().into_inner().into_inner();
        let (unread, stream) = connection.into_parts();
        // hyper has read `read_buf` first.
        let behind = if unread.is_empty() {
            parts.read_buf
        } else {
            [parts.read_buf, unread].concat().into()
        };
        match stream {
            Stream::Tcp(socket) => Self::Socket(socket, behind),
            tls @ Stream::Tls(_) => Self::Tls(Box::new(Prefixed::new(behind, tls))),
        }
    }
}
