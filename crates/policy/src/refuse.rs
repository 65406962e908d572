//! Refusals for other causes than the requested host: the state of the proxy, and findings that a
//! door makes while it serves a request.

use core::net::{IpAddr, SocketAddr};

use crate::authority::Authority;
use crate::decision::{Decision, Reason, Source};
use crate::method::Mode;
use crate::policy::{Policy, PolicyState};
use crate::proxy_listeners::{Transport, reached_by_host};
use crate::request::Facts;

/// The content of a tunnel that must be intercepted and cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TunnelContent {
    /// Bytes that are neither TLS nor HTTP, so no request can be judged (SPEC M2).
    Opaque,
    /// TLS for another host than the requested one (SPEC M4).
    OtherHost,
}

impl Policy {
    /// The refusal of every request; `None` if the proxy is switched on.
    pub fn refuses_everything(&self) -> Option<Decision> {
        let reason = match self.state {
            PolicyState::On => return None,
            PolicyState::Off => Reason::ProxyDisabled,
            PolicyState::Unusable => Reason::ConfigurationUnusable,
        };
        Some(Decision::deny(Source::ProxyState, reason, None))
    }

    /// The decision that refuses all datagrams, or `None` if each destination is judged (SPEC P7,
    /// L6).
    pub fn refuses_datagrams(&self) -> Option<Decision> {
        let limited = (self.mode == Mode::Limited)
            .then(|| Decision::deny(Source::ModeGuard, Reason::MethodNotAllowed, None));
        self.refuses_everything().or(limited)
    }

    /// The decision on a request whose host is not valid (SPEC P1).
    pub fn decide_invalid_host(&self) -> Decision {
        let invalid = || Decision::deny(Source::BaselinePolicy, Reason::InvalidHost, None);
        self.refuses_everything().unwrap_or_else(invalid)
    }

    /// The decision on a request inside a tunnel that is for another authority than the tunnel
    /// (SPEC M7).
    pub fn decide_misdirected(&self) -> Decision {
        Decision::deny(Source::BaselinePolicy, Reason::PolicyDenied, None)
    }

    /// The decision on a tunnel that must be intercepted and cannot be.
    pub fn decide_content(&self, content: TunnelContent) -> Decision {
        let reason = match content {
            TunnelContent::Opaque => Reason::MitmRequired,
            TunnelContent::OtherHost => Reason::PolicyDenied,
        };
        Decision::deny(Source::ModeGuard, reason, None)
    }

    /// The decision on a request that must not be sent because of a credential (SPEC B8, B11).
    pub fn decide_unbound_credential(&self) -> Decision {
        Decision::deny(Source::Session, Reason::CredentialUnbound, None)
    }

    /// The refusal of a connection that turned out to lead to one of the proxy's own listeners
    /// (SPEC P6). Such a listener may have opened after the request was judged.
    pub fn refuses_peer(&self, peer: SocketAddr, facts: Facts<'_>) -> Option<Decision> {
        let listener = facts
            .listeners
            .reached_by(Transport::Tcp, peer.ip(), peer.port());
        listener.map(|_| Decision::loop_detected())
    }

    /// The decision on a connection that a program made to a listener for redirected connections itself
    /// (SPEC T2, P6): its destination is the proxy.
    pub fn decide_direct(&self) -> Decision {
        self.refuses_everything()
            .unwrap_or_else(Decision::loop_detected)
    }

    /// The refusal of requests that an upstream proxy would carry, if it is this proxy itself
    /// (SPEC H12). `addresses` are those of the upstream proxy; `None` if its name was not looked
    /// up.
    pub fn refuses_upstream_proxy(
        &self,
        proxy: &Authority,
        addresses: Option<&[IpAddr]>,
        facts: Facts<'_>,
    ) -> Option<Decision> {
        let (listeners, port) = (facts.listeners, proxy.port);
        let reached = |address: &IpAddr| listeners.reached_by(Transport::Tcp, *address, port);
        let listener = match addresses {
            Some(addresses) => addresses.iter().find_map(reached),
            None => reached_by_host(listeners, Transport::Tcp, &proxy.host, port),
        };
        listener.map(|_| Decision::loop_detected())
    }
}
