//! A client that its door has connected to a permitted destination.

use bytes::Bytes;
use tokio::net::TcpStream;

use crate::enforce::{LeadsTo, Permit};
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

/// The way to the destination of a permitted connection.
#[derive(Debug)]
pub(crate) enum Reached {
    /// A connection that was opened for this client.
    Connection(Connection),
    /// Connections to the same authority that are kept for intercepted requests. They lead to these
    /// addresses.
    Kept(LeadsTo),
}

impl Reached {
    /// The addresses that requests of the client may lead to.
    pub(crate) fn leads_to(&self) -> &LeadsTo {
        match self {
            Self::Connection(connection) => connection.leads_to(),
            Self::Kept(leads_to) => leads_to,
        }
    }
}
