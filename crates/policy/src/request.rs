//! A request as the policy judges it: plain data, the same for every door.

use alloc::borrow::Cow;
use core::fmt;

use crate::hook::HookMatch;
use crate::host::Host;
use crate::local_addresses::LocalAddresses;
use crate::method::{Content, is_read_only};
use crate::proxy_listeners::{ProxyListeners, Transport};

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
    /// A connection that a jail redirects to the proxy (SPEC T2), or that a forwarded port takes (J10).
    Transparent,
    /// A name that a program in a jail looks up (SPEC T1).
    Dns,
}

/// A request to a host, with everything that decides about it.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The requested host.
    pub host: &'a Host,
    /// The requested port.
    pub port: u16,
    /// The protocol, and the part of the request that the proxy sees in it.
    pub kind: &'a RequestKind<'a>,
    /// The state of the proxy and its machine.
    pub facts: Facts<'a>,
}

/// A request by its protocol, with the part that the proxy sees in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestKind<'a> {
    /// A plain HTTP request in absolute-form.
    Http(HttpHead<'a>),
    /// A CONNECT request.
    HttpConnect,
    /// An HTTP request inside an intercepted tunnel, with the verdict of the host's hooks.
    Https(HttpHead<'a>, HookMatch),
    /// SOCKS5 CONNECT.
    Socks5Tcp,
    /// A datagram of a SOCKS5 association.
    Socks5Udp,
    /// A connection that a jail redirects to the proxy, or that a forwarded port takes. Its first bytes say
    /// what it carries.
    Transparent,
    /// The lookup of a name. It has no port: a name is refused here only if it is refused on every port,
    /// with every method (SPEC T1).
    Dns,
}

/// The part of an HTTP request that the mode judges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpHead<'a> {
    /// The method. Methods are case-sensitive (RFC 9110 section 9.1).
    pub method: Cow<'a, str>,
    /// The protocol that the request offers to change to (RFC 9110 section 7.8), if any.
    pub upgrade: Option<Cow<'a, str>>,
    /// Whether the request has content.
    pub content: Content,
}

/// The state of the proxy and its machine that decisions depend on.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// Knows the addresses of this machine.
    pub machine: &'a dyn LocalAddresses,
    /// Knows the sockets that the proxy itself listens on.
    pub listeners: &'a dyn ProxyListeners,
    /// Whether the proxy has the means to intercept TLS.
    pub interception: InterceptionSupport,
    /// The credentials of the client's session for the host and port.
    pub credentials: HostCredentials,
}

/// Whether a session has credentials for a host and port (SPEC M1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HostCredentials {
    /// It has none.
    #[default]
    None,
    /// A request may carry one.
    Usable,
    /// A request must carry one, by some path at least.
    Required,
}

/// Whether the proxy has the means to intercept TLS: an issuer of certificates that its clients
/// trust. The policy says whether it [may](crate::Interception).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum InterceptionSupport {
    /// It has.
    Available,
    /// It has not. Requests that need interception are refused.
    Unavailable,
}

impl RequestKind<'_> {
    /// The protocol.
    pub fn protocol(&self) -> Protocol {
        match self {
            Self::Http(_) => Protocol::Http,
            Self::HttpConnect => Protocol::HttpConnect,
            Self::Https(..) => Protocol::Https,
            Self::Socks5Tcp => Protocol::Socks5Tcp,
            Self::Socks5Udp => Protocol::Socks5Udp,
            Self::Transparent => Protocol::Transparent,
            Self::Dns => Protocol::Dns,
        }
    }

    /// The head of the request that is passed on; `None` for tunnels and datagrams.
    pub fn head(&self) -> Option<&HttpHead<'_>> {
        match self {
            Self::Http(head) | Self::Https(head, _) => Some(head),
            Self::HttpConnect
            | Self::Socks5Tcp
            | Self::Socks5Udp
            | Self::Transparent
            | Self::Dns => None,
        }
    }

    /// The HTTP method, which is `CONNECT` for a CONNECT request.
    pub fn method(&self) -> Option<&str> {
        match self {
            Self::Http(head) | Self::Https(head, _) => Some(&head.method),
            Self::HttpConnect => Some("CONNECT"),
            Self::Socks5Tcp | Self::Socks5Udp | Self::Transparent | Self::Dns => None,
        }
    }

    /// The verdict of the host's hooks; [`HookMatch::NotHooked`] outside interception.
    pub fn hooks(&self) -> HookMatch {
        match self {
            Self::Https(_, hooks) => *hooks,
            _ => HookMatch::NotHooked,
        }
    }

    /// How the request travels to its host.
    pub(crate) fn transport(&self) -> Transport {
        match self {
            Self::Socks5Udp => Transport::Udp,
            _ => Transport::Tcp,
        }
    }
}

impl HttpHead<'_> {
    /// Whether limited mode permits the request (SPEC P7). Bytes after an upgrade have no method to
    /// judge. Nor has content that the origin takes for a request.
    pub(crate) fn only_reads(&self) -> bool {
        self.upgrade.is_none() && !self.has_undefined_content() && is_read_only(&self.method)
    }

    /// Whether the request has content that its method does not define. An origin may take it for
    /// the next request of the connection.
    pub(crate) fn has_undefined_content(&self) -> bool {
        self.content == Content::Present && !crate::method::defines_content(&self.method)
    }
}

impl Protocol {
    /// Every protocol, in the order of the enumeration.
    pub const ALL: [Self; 7] = [
        Self::Http,
        Self::HttpConnect,
        Self::Https,
        Self::Socks5Tcp,
        Self::Socks5Udp,
        Self::Transparent,
        Self::Dns,
    ];

    /// The name in blocked-request entries (SPEC R1). It differs from the
    /// [name in audit events](Self::audit_name), since existing readers depend on both.
    pub fn record_name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::HttpConnect => "http-connect",
            Self::Https => "https",
            Self::Socks5Tcp => "socks5",
            Self::Socks5Udp => "socks5-udp",
            Self::Transparent => "transparent",
            Self::Dns => "dns",
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
            Self::Transparent => "transparent_tcp",
            Self::Dns => "dns",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.audit_name())
    }
}
