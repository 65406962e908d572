//! The two ends of an attempt, as events show them. They become text only when an event is written.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use codex_network_policy::Host;

use crate::shares::Holder;

/// The destination of an attempt: `server.address`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerAddress {
    /// A host in canonical form.
    Host(Host),
    /// A request to a unix socket. Its path is in no record.
    UnixSocket,
    /// The escaped text that is not a valid host, or a host as text.
    Text(Arc<str>),
}

/// The client of an attempt: `client.address`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAddress {
    /// The client's end of the connection.
    Connection(SocketAddr),
    /// The user of this machine, for an event that stands for several decisions.
    User(u32),
    /// The IPv4 address or the /64 network of clients, for an event that stands for several decisions.
    Network(IpAddr),
}

impl ServerAddress {
    /// The text of a request to a unix socket.
    pub(crate) const UNIX_SOCKET: &'static str = "unix-socket";

    /// Its text. Only an IP address is formatted.
    pub fn text(&self) -> Cow<'_, str> {
        match self {
            Self::Host(Host::Name(name)) => Cow::Borrowed(name.as_str()),
            Self::Host(host) => Cow::Owned(host.to_string()),
            Self::UnixSocket => Cow::Borrowed(Self::UNIX_SOCKET),
            Self::Text(text) => Cow::Borrowed(text),
        }
    }
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(host) => host.fmt(f),
            Self::UnixSocket => f.write_str(Self::UNIX_SOCKET),
            Self::Text(text) => f.write_str(text),
        }
    }
}

impl From<Holder> for ClientAddress {
    fn from(holder: Holder) -> Self {
        match holder {
            Holder::User(uid) => Self::User(uid),
            Holder::Address(address) => Self::Network(address),
        }
    }
}

impl fmt::Display for ClientAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connection(address) => address.fmt(f),
            Self::User(uid) => Holder::User(*uid).fmt(f),
            Self::Network(address) => Holder::Address(*address).fmt(f),
        }
    }
}
