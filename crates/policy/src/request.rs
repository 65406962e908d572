//! The question to the policy: plain data, the same for every door.

use core::fmt;

use crate::hook::Ambiguity;
use crate::host::Host;
use crate::local_addresses::LocalAddresses;
use crate::method::Content;

/// How a request arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// A plain HTTP request in absolute-form.
    Http,
    /// A CONNECT request.
    HttpConnect,
    /// A request inside intercepted TLS.
    Https,
    /// SOCKS5 CONNECT.
    Socks5Tcp,
    /// A datagram of a SOCKS5 association.
    Socks5Udp,
}

/// One question: may this host be reached like this?
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The door and the kind of request.
    pub protocol: Protocol,
    /// The requested host.
    pub host: &'a Host,
    /// The requested port.
    pub port: u16,
    /// The HTTP method, if the proxy can see it.
    pub method: Option<&'a str>,
    /// The protocol that the request offers to change to (RFC 9110 section 7.8), if any.
    pub upgrade: Option<&'a str>,
    /// Whether the request has content, if the proxy can see it.
    pub content: Content,
    /// The verdict of the host's hooks; [`Hooked::Unasked`] outside interception.
    pub hooked: Hooked,
    /// Knows the addresses of the machine that would send the request.
    pub machine: &'a dyn LocalAddresses,
}

/// The verdict of a host's hooks on a request inside intercepted TLS (SPEC M10).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Hooked {
    /// The host has no hooks, or this door does not ask them.
    #[default]
    Unasked,
    /// One of them matches.
    Matched,
    /// The host has hooks, and none matches.
    Unmatched,
    /// As [`Unmatched`](Self::Unmatched), because the request could be read in more than one way.
    Ambiguous(Ambiguity),
}

impl Protocol {
    /// The name in blocked-request entries (SPEC R1). It differs from the [other one](Self::audit_name) since
    /// existing readers of each depend on its words.
    pub fn record_name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::HttpConnect => "http-connect",
            Self::Https => "https",
            Self::Socks5Tcp => "socks5",
            Self::Socks5Udp => "socks5-udp",
        }
    }

    /// The name in answers to clients (SPEC H5) and in audit events (SPEC R3).
    pub fn audit_name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::HttpConnect => "https_connect",
            Self::Https => "https",
            Self::Socks5Tcp => "socks5_tcp",
            Self::Socks5Udp => "socks5_udp",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.audit_name())
    }
}
