//! The addresses that stand for names inside a jail (SPEC T1, T2).
//!
//! Policy DNS answers with a synthetic address, and looks no name up. When a connection to that address
//! arrives, the name is known again, and the policy judges the name.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};

use codex_network_policy::{Host, Name};
use parking_lot::Mutex;

/// The first address of 198.18.0.0/15 (RFC 2544), which no host on the Internet has.
const FIRST: u32 = u32::from_be_bytes([198, 18, 0, 0]);
/// Most names of one session. A name takes about 150 bytes.
pub(crate) const MAX_SYNTHETIC_NAMES: usize = 8192;

/// The names of one session, each with its address. An address stands for the same name until the session
/// ends, since a program may keep it as long as it likes.
#[derive(Debug, Default)]
pub(crate) struct SyntheticNames(Mutex<Assigned>);

#[derive(Debug, Default)]
struct Assigned {
    /// In the order of their addresses.
    names: Vec<Name>,
    /// The places of the names in `names`.
    places: HashMap<Name, u16>,
}

impl SyntheticNames {
    /// The address of a name. `None`: the session has [`MAX_SYNTHETIC_NAMES`] names already.
    pub(crate) fn address_of(&self, name: &Name) -> Option<Ipv4Addr> {
        let mut assigned = self.0.lock();
        if let Some(place) = assigned.places.get(name) {
            return Some(address(*place));
        }
        if assigned.names.len() >= MAX_SYNTHETIC_NAMES {
            return None;
        }
        let place = u16::try_from(assigned.names.len()).ok()?;
        assigned.names.push(name.clone());
        assigned.places.insert(name.clone(), place);
        Some(address(place))
    }

    /// The host that an address stands for: the name of a synthetic address, or the address itself.
    pub(crate) fn host_at(&self, address: IpAddr) -> Host {
        let address = address.to_canonical();
        let name = match address {
            IpAddr::V4(v4) => self.name_at(v4),
            IpAddr::V6(_) => None,
        };
        name.map_or_else(|| Host::from(address), Host::Name)
    }

    fn name_at(&self, address: Ipv4Addr) -> Option<Name> {
        // The first address of the range stands for nothing.
        let place = u32::from(address).checked_sub(FIRST + 1)?;
        let place = usize::try_from(place).ok()?;
        self.0.lock().names.get(place).cloned()
    }
}

fn address(place: u16) -> Ipv4Addr {
    Ipv4Addr::from(FIRST + 1 + u32::from(place))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        match Host::parse(text).expect("a host") {
            Host::Name(name) => name,
            host => panic!("{host} is not a name"),
        }
    }

    #[test]
    fn t1_a_name_keeps_its_address_and_an_address_its_name() {
        let names = SyntheticNames::default();
        let first = names.address_of(&name("a.test")).expect("an address");
        let second = names.address_of(&name("b.test")).expect("an address");
        assert_eq!(first, Ipv4Addr::new(198, 18, 0, 1));
        assert_eq!(second, Ipv4Addr::new(198, 18, 0, 2));
        assert_eq!(names.address_of(&name("A.test.")), Some(first));
        assert_eq!(names.host_at(first.into()).to_string(), "a.test");
        let mapped = second.to_ipv6_mapped();
        assert_eq!(names.host_at(mapped.into()).to_string(), "b.test");
    }

    #[test]
    fn t2_an_address_without_a_name_is_a_literal() {
        let names = SyntheticNames::default();
        names.address_of(&name("a.test"));
        for literal in [
            "198.18.0.0",
            "198.18.0.2",
            "198.17.255.255",
            "198.19.255.255",
            "0.0.0.0",
            "255.255.255.255",
            "192.0.2.7",
            "2001:db8::7",
        ] {
            let address: IpAddr = literal.parse().expect("an address");
            assert_eq!(names.host_at(address), Host::from(address), "{literal}");
        }
    }

    #[test]
    fn t1_the_names_of_a_session_are_bounded_and_those_it_has_stay() {
        let names = SyntheticNames::default();
        let mut addresses = std::collections::HashSet::new();
        for number in 0..MAX_SYNTHETIC_NAMES {
            let address = names.address_of(&name(&format!("n{number}.test")));
            let address = address.expect("an address");
            assert!(addresses.insert(address), "{address} twice");
            assert_eq!(address.octets()[0], 198);
            assert!((18..20).contains(&address.octets()[1]), "{address}");
        }
        assert_eq!(names.address_of(&name("more.test")), None);
        let kept = names.address_of(&name("n7.test")).expect("an address");
        assert_eq!(names.host_at(kept.into()).to_string(), "n7.test");
    }
}
