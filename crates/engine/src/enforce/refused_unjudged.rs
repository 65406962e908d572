//! Refusals of attempts for which there is no destination to judge. They are recorded like any refusal.

use std::net::SocketAddr;

use codex_network_policy::Authority;

use super::detail::AUTHORITY_MISMATCH;
use super::{Enforcer, escape};
use crate::attempt::{Attempt, DestinationKind, Refusal};
use crate::live_policy::Generation;

impl Enforcer {
    /// Refuses a connection that a program made to the listener for redirected connections itself, and
    /// records it (SPEC T2).
    pub(crate) fn refuse_direct(
        &self,
        generation: &Generation,
        attempt: &Attempt,
        listener: SocketAddr,
    ) -> Refusal {
        let refusal = Refusal {
            decision: generation.policy().decide_direct(),
            destination: DestinationKind::Host,
            protocol: attempt.kind.protocol(),
            host: listener.ip().to_canonical().to_string(),
            port: listener.port(),
            detail: None,
            decider_reason: None,
            credential: None,
            approval: None,
        };
        self.recorder.refused(generation, attempt, &refusal);
        refusal
    }

    /// Refuses a request inside intercepted TLS whose authority is not that of the connection. The
    /// record names the connection's authority, since that is where the client is connected.
    pub(crate) fn refuse_misdirected(
        &self,
        generation: &Generation,
        attempt: &Attempt,
        authority: &Authority,
    ) -> Refusal {
        let refusal = Refusal {
            decision: generation.policy().decide_misdirected(),
            destination: DestinationKind::Host,
            protocol: attempt.kind.protocol(),
            host: authority.host.to_string(),
            port: authority.port,
            detail: Some(AUTHORITY_MISMATCH),
            decider_reason: None,
            credential: None,
            approval: None,
        };
        self.recorder.refused(generation, attempt, &refusal);
        refusal
    }

    /// Refuses a UDP association of which every datagram would be refused, and records it. An
    /// association names no destination. `host` and `port` are the client's own end, which the
    /// request names instead (RFC 1928 section 6). The detail of the record shows that.
    pub(crate) fn refuse_association(
        &self,
        generation: &Generation,
        attempt: &Attempt,
        host: &[u8],
        port: u16,
    ) -> Option<Refusal> {
        let refusal = Refusal {
            decision: generation.policy().refuses_datagrams()?,
            destination: DestinationKind::Host,
            protocol: attempt.kind.protocol(),
            host: escape(host),
            port,
            detail: Some("udp_associate"),
            decider_reason: None,
            credential: None,
            approval: None,
        };
        self.recorder.refused(generation, attempt, &refusal);
        Some(refusal)
    }
}
