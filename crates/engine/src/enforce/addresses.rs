//! The addresses that enforcement has permitted: those that may be dialled, and those that a
//! connection may lead to. Only this folder makes them.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use codex_network_policy::{Authority, Decision, Host};
use tokio::time::Instant;

use crate::approvals::Grant;

/// The only addresses that may be dialled, and the source of the permission.
#[derive(Debug)]
pub(crate) struct VettedAddrs(Vec<SocketAddr>, AllowedBy);

/// The source of the permission for an attempt. It matters when the attempt is judged again.
#[derive(Clone, Debug)]
pub(crate) enum AllowedBy {
    /// The lists of the policy.
    Lists,
    /// The decider, for a host on neither list (SPEC P8).
    Decider,
    /// A person, for a host on neither list (SPEC Q3).
    Grant(Arc<Grant>),
}

/// The addresses that a connection may lead to, for when it is judged again: the dialled one, or
/// all vetted ones where an upstream proxy chose.
#[derive(Clone, Debug)]
pub(crate) struct LeadsTo(Arc<[IpAddr]>);

impl VettedAddrs {
    pub(super) fn of(authority: &Authority, addresses: &[IpAddr], allowed: AllowedBy) -> Self {
        let (port, scope) = (authority.port, scope_id(&authority.host));
        let addresses = addresses.iter().map(|address| match address {
            IpAddr::V4(address) => SocketAddr::from((*address, port)),
            IpAddr::V6(address) => std::net::SocketAddrV6::new(*address, port, 0, scope).into(),
        });
        Self(addresses.collect(), allowed)
    }

    /// The source of the permission for these addresses.
    pub(crate) fn allowed(&self) -> &AllowedBy {
        &self.1
    }

    /// Forgets all but the first `most`.
    pub(crate) fn cut(&mut self, most: usize) {
        self.0.truncate(most);
        self.0.shrink_to_fit();
    }

    /// The addresses to which a connection through an upstream proxy may lead.
    pub(crate) fn all(&self) -> LeadsTo {
        LeadsTo(self.0.iter().map(SocketAddr::ip).collect())
    }

    pub(crate) fn as_slice(&self) -> &[SocketAddr] {
        &self.0
    }

    /// A value for tests of tables that hold addresses and never send.
    #[cfg(test)]
    pub(crate) fn none_for_tests() -> Self {
        Self(Vec::new(), AllowedBy::Lists)
    }

    /// The addresses without their port, to be vetted again.
    pub(crate) fn ips(&self) -> Vec<IpAddr> {
        self.0.iter().map(SocketAddr::ip).collect()
    }
}

impl LeadsTo {
    /// The value for a unix socket, which has no address.
    pub(crate) fn nowhere() -> Self {
        Self(Arc::default())
    }

    /// The address that was dialled; unknown only if the socket is gone already.
    pub(crate) fn peer(peer: Option<SocketAddr>) -> Self {
        Self(peer.iter().map(SocketAddr::ip).collect())
    }

    pub(crate) fn addresses(&self) -> &[IpAddr] {
        &self.0
    }
}

impl AllowedBy {
    pub(super) fn of(decision: Decision, grant: Option<&Arc<Grant>>) -> Self {
        match grant {
            Some(grant) => Self::Grant(Arc::clone(grant)),
            None if decision.is_overruled() => Self::Decider,
            None => Self::Lists,
        }
    }

    /// Whether a grant permitted it that has ended.
    pub(super) fn has_lapsed(&self) -> bool {
        self.grant()
            .is_some_and(|grant| !grant.is_live(Instant::now()))
    }

    /// The grant that permitted it.
    pub(super) fn grant(&self) -> Option<&Arc<Grant>> {
        match self {
            Self::Grant(grant) => Some(grant),
            Self::Lists | Self::Decider => None,
        }
    }
}

/// The index of the interface that the host's zone identifier names. It is 0 ("any") if the host
/// has no zone identifier or the interface does not exist; connecting then fails, as it should.
fn scope_id(host: &Host) -> u32 {
    let Host::V6(host) = host else { return 0 };
    host.scope().map_or(0, |scope| {
        scope
            .parse()
            .or_else(|_| nix::net::if_::if_nametoindex(scope))
            .unwrap_or(0)
    })
}
