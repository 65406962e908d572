//! The collector of audit events. The proxy itself connects to it, and no request may (SPEC O2, P6): a client that
//! reached it could forge events.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use codex_network_policy::{Authority, Host, LocalAddresses};

/// Most addresses that are remembered of a name whose addresses change.
const MAX_ADDRESSES: usize = 64;

/// The place of the collector.
#[derive(Clone, Debug)]
pub(crate) struct OwnCollector {
    place: Arc<ArcSwapOption<Place>>,
    /// Knows the addresses of this machine.
    machine: Arc<dyn LocalAddresses>,
}

#[derive(Debug)]
struct Place {
    authority: Authority,
    /// Its addresses that were looked up, the newest first. An address that a name had once stays.
    addresses: Vec<IpAddr>,
}

impl OwnCollector {
    pub(crate) fn new(machine: Arc<dyn LocalAddresses>) -> Self {
        Self {
            place: Arc::default(),
            machine,
        }
    }

    /// The collector of the settings that come into force.
    pub(crate) fn set(&self, authority: Option<&Authority>) {
        self.place.rcu(|old| match (old, authority) {
            (Some(old), Some(new)) if old.authority == *new => Some(Arc::clone(old)),
            (_, new) => new.map(|authority| {
                Arc::new(Place {
                    addresses: authority.host.ip().into_iter().collect(),
                    authority: authority.clone(),
                })
            }),
        });
    }

    /// The name of the collector has these addresses now.
    pub(crate) fn resolved(&self, authority: &Authority, found: &[IpAddr]) {
        self.place.rcu(|old| {
            let old = old.as_ref()?;
            if old.authority != *authority {
                return Some(Arc::clone(old));
            }
            let mut addresses = found.to_vec();
            addresses.extend(old.addresses.iter().filter(|one| !found.contains(one)));
            addresses.truncate(MAX_ADDRESSES);
            Some(Arc::new(Place {
                authority: old.authority.clone(),
                addresses,
            }))
        });
    }

    /// Whether a request to this host and port names it, without a lookup.
    pub(super) fn is_named(&self, host: &Host, port: u16) -> bool {
        let place = self.place.load();
        let named = place.as_ref().map(|place| &place.authority);
        named.is_some_and(|named| named.port == port && named.host == *host)
    }

    /// The address of the collector that traffic to this address and port would reach.
    pub(super) fn reached_by(&self, address: IpAddr, port: u16) -> Option<SocketAddr> {
        let place = self.place.load();
        let place = place.as_ref()?;
        if place.authority.port != port {
            return None;
        }
        let mut addresses = place.addresses.iter();
        let reached = addresses.find(|own| self.is_reached(**own, address));
        reached.map(|own| SocketAddr::new(*own, port))
    }

    /// Its port.
    pub(super) fn port(&self) -> Option<u16> {
        self.place.load().as_ref().map(|place| place.authority.port)
    }

    /// A collector on this machine may listen on every address of it.
    fn is_reached(&self, own: IpAddr, address: IpAddr) -> bool {
        let (own, address) = (own.to_canonical(), address.to_canonical());
        own == address || self.is_here(own) && self.is_here(address)
    }

    fn is_here(&self, address: IpAddr) -> bool {
        address.is_loopback() || address.is_unspecified() || self.machine.contains(address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local_addresses::KernelAddresses;

    fn collector(url: &str) -> (OwnCollector, Authority) {
        let authority = Authority::parse(url, None).expect("an authority");
        let collector = OwnCollector::new(Arc::new(KernelAddresses));
        collector.set(Some(&authority));
        (collector, authority)
    }

    fn covers(collector: &OwnCollector, target: &str) -> bool {
        let target: SocketAddr = target.parse().expect("an address");
        collector.reached_by(target.ip(), target.port()).is_some()
    }

    #[test]
    fn p6_every_way_to_a_collector_on_this_machine_is_covered() {
        let (collector, _) = collector("127.0.0.1:4318");
        for target in [
            "127.0.0.1:4318",
            "127.0.0.9:4318",
            "0.0.0.0:4318",
            "[::]:4318",
            "[::1]:4318",
            "[::ffff:127.0.0.1]:4318",
        ] {
            assert!(covers(&collector, target), "{target}");
        }
        for target in ["127.0.0.1:4319", "192.0.2.1:4318"] {
            assert!(!covers(&collector, target), "{target}");
        }
    }

    #[test]
    fn p6_a_named_collector_is_covered_by_its_name_and_by_every_address_it_had() {
        let (collector, authority) = collector("collector.test:4318");
        assert!(collector.is_named(&authority.host, 4318));
        assert!(!collector.is_named(&authority.host, 4319));
        assert!(!covers(&collector, "192.0.2.1:4318"));
        for last in [1, 2] {
            collector.resolved(&authority, &[[192, 0, 2, last].into()]);
        }
        assert!(covers(&collector, "192.0.2.1:4318"));
        assert!(covers(&collector, "192.0.2.2:4318"));
        assert!(!covers(&collector, "192.0.2.1:443"));
        // A reload with the same collector forgets nothing.
        collector.set(Some(&authority));
        assert!(covers(&collector, "192.0.2.1:4318"));
        collector.set(None);
        collector.resolved(&authority, &[[192, 0, 2, 1].into()]);
        assert!(!covers(&collector, "192.0.2.1:4318"));
        assert!(!collector.is_named(&authority.host, 4318));
    }

    #[test]
    fn p6_the_remembered_addresses_are_bounded() {
        let (collector, authority) = collector("collector.test:4318");
        for last in 0..=255 {
            collector.resolved(&authority, &[[192, 0, 2, last].into()]);
        }
        assert!(covers(&collector, "192.0.2.255:4318"));
        assert!(!covers(&collector, "192.0.2.0:4318"));
    }
}
