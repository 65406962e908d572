//! A client that its door has connected to a permitted destination.

use bytes::Bytes;
use tokio::net::TcpStream;

use crate::enforce::Permit;
use crate::upstream::Connection;

/// Both ends of a permitted connection. The door does not read what the client sends from now on.
#[derive(Debug)]
pub(crate) struct ConnectedClient<U = Connection> {
    pub(crate) permit: Permit,
    pub(crate) client: TcpStream,
    /// The bytes that the client sent before it was answered.
    pub(crate) early: Bytes,
    pub(crate) upstream: U,
}
