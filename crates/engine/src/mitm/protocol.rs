//! The protocols of HTTP for an intercepted client and its origin (RFC 7301).

use crate::client_hello::Alpn;
use crate::interceptor::OfferedAlpn;
use crate::tls::{Offer, Wire};

/// The protocols to offer the origin: those that the client offers, so that the client can get the
/// protocol that the origin chooses.
pub(super) fn offer(alpn: Alpn) -> Offer {
    match (alpn.h2, alpn.http11) {
        (true, true) => Offer::Either,
        (true, false) => Offer::Http2,
        (false, _) => Offer::Http1,
    }
}

/// The protocol with a client, if it is known before the origin chooses one: the client offers only one, or
/// the origin chose between both before.
pub(super) fn known(alpn: Alpn, chosen: impl FnOnce() -> Option<Wire>) -> Option<Wire> {
    match offer(alpn) {
        Offer::Http1 => Some(Wire::TlsHttp1),
        Offer::Http2 => Some(Wire::TlsHttp2),
        Offer::Either => chosen(),
    }
}

/// The protocol with a client whose origin has this protocol.
pub(super) fn for_client(alpn: Alpn, origin: Wire) -> Wire {
    match offer(alpn) {
        Offer::Either => origin,
        Offer::Http2 => Wire::TlsHttp2,
        Offer::Http1 => Wire::TlsHttp1,
    }
}

/// The protocol with a client whose origin could not be reached.
pub(super) fn preferred(offer: Offer) -> Wire {
    match offer {
        Offer::Http1 => Wire::TlsHttp1,
        Offer::Http2 | Offer::Either => Wire::TlsHttp2,
    }
}

/// The protocol to offer the client.
pub(super) fn offered(alpn: Alpn, wire: Wire) -> OfferedAlpn {
    match wire {
        Wire::TlsHttp2 => OfferedAlpn::Http2,
        Wire::TlsHttp1 | Wire::Plain if alpn == Alpn::default() => OfferedAlpn::None,
        Wire::TlsHttp1 | Wire::Plain => OfferedAlpn::Http1,
    }
}
