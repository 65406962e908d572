//! The addresses of the collector of audit events. The administrator named it, so they may be private, and no list
//! judges it (SPEC O2). They may not be those of this proxy: its own connection would be a client, whose
//! audit events would go to itself.

use std::net::IpAddr;

use codex_network_config::OtlpCollector;

use super::addresses::AllowedBy;
use super::{Enforcer, VettedAddrs};

/// The collector is the proxy itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LoopingCollector;

impl Enforcer {
    /// Vets the addresses of the collector, which no client can reach from now on.
    pub(crate) fn vet_collector(
        &self,
        collector: &OtlpCollector,
        addresses: &[IpAddr],
    ) -> Result<VettedAddrs, LoopingCollector> {
        let authority = &collector.authority;
        let mut all = addresses.iter();
        if all.any(|address| self.own.listeners.are_reached_by(*address, authority.port)) {
            return Err(LoopingCollector);
        }
        self.own.collector.resolved(authority, addresses);
        Ok(VettedAddrs::of(authority, addresses, AllowedBy::Lists))
    }
}
