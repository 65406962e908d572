//! Which addresses belong to this machine. Only the kernel knows them, so the caller provides them.
//! `decide.rs` makes the decisions that depend on them (SPEC P3, P4).

use core::fmt;
use core::net::IpAddr;

use crate::address::{AddressClass, embedded_v4};

/// Knows the addresses of this machine.
pub trait LocalAddresses: fmt::Debug + Send + Sync {
    /// Whether packets to this address are delivered on this machine. An IPv4-mapped address is
    /// passed as IPv4. An implementation that cannot find out returns true.
    ///
    /// The rules for local addresses ask for public addresses only: all others are local by
    /// themselves. [`listener_receives`](crate::listener_receives) asks for any address.
    fn contains(&self, address: IpAddr) -> bool;
}

/// No address belongs to this machine: for a policy that is read and not enforced.
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
