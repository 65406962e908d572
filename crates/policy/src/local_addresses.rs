//! Which addresses belong to this machine: a fact that comes from outside, since only the kernel
//! knows it. The decisions that rest on it are in `decide.rs` (SPEC P3, P4).

use core::fmt;
use core::net::IpAddr;

use crate::address::{AddressClass, embedded_v4};

/// Knows the addresses that packets reach this machine under.
pub trait LocalAddresses: fmt::Debug + Send + Sync {
    /// Whether packets to this address are delivered on this machine. An IPv4-mapped address is asked
    /// for as the IPv4 address. An implementation that cannot find out answers yes.
    ///
    /// It is asked for public addresses alone: every other one is local as it stands.
    fn contains(&self, address: IpAddr) -> bool;
}

/// No address belongs to this machine: for a policy that is read where it does not act.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoLocalAddresses;

impl LocalAddresses for NoLocalAddresses {
    fn contains(&self, _address: IpAddr) -> bool {
        false
    }
}

/// Whether an address is local: non-public (SPEC P5), or one of this machine's. An IPv6 address that
/// embeds IPv4 addresses is judged by those too.
pub fn is_local_address(address: IpAddr, machine: &dyn LocalAddresses) -> bool {
    if !AddressClass::of(address).is_public() {
        return true;
    }
    let inside = match address {
        IpAddr::V4(_) => None,
        IpAddr::V6(address) => Some(embedded_v4(address)),
    };
    machine.contains(address.to_canonical())
        || inside
            .into_iter()
            .flatten()
            .any(|address| machine.contains(IpAddr::V4(address)))
}
