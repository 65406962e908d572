//! Whether an address belongs to this machine, by its kernel (SPEC P3, P4, P6).
//!
//! A confined worker has neither netlink nor `/proc`, and addresses change, so there is no list of
//! addresses. Each query uses the kernel's routing table, through a socket that never sends.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use codex_network_policy::LocalAddresses;
use nix::libc;
use socket2::{Domain, SockAddr, Socket, Type};

/// Queries the kernel about the network namespace of this process.
#[derive(Clone, Copy, Debug, Default)]
pub struct KernelAddresses;

/// Reserved addresses that no interface has (RFC 1112 section 4, RFC 4291 section 2.4). If one of
/// them can be bound, every address can.
const UNASSIGNED_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(240, 0, 0, 1));
const UNASSIGNED_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x4000, 0, 0, 0, 0, 0, 0, 1));

impl LocalAddresses for KernelAddresses {
    fn contains(&self, address: IpAddr) -> bool {
        // A kernel with IPv6 off does not know ::1.
        address.is_loopback()
            || is_local(address).unwrap_or_else(|error| {
                tracing::debug!(%error, %address, "cannot determine whether an address belongs to this machine; assuming that it does");
                true
            })
    }
}

/// Whether the kernel delivers packets to this address on this machine.
///
/// Two system calls are needed, because neither is exact by itself:
///
/// - `bind` accepts the addresses of this machine, and for IPv4 every address that a `local` route
///   covers. For IPv6 it rejects those of a `local` route and anycast addresses. With `ip_nonlocal_bind`
///   it accepts every address.
/// - `connect` looks up the route. If the address is local, the source that it picks is the address
///   itself, or the primary one of the subnet for a secondary IPv4 address. The route's MTU
///   distinguishes loopback, which delivers here, from other interfaces, unless an administrator changed
///   loopback's.
///
/// # Errors
///
/// Returns an error if the system has no resources for a socket, or a filter forbids the calls.
fn is_local(address: IpAddr) -> io::Result<bool> {
    let Some(socket) = socket(address)? else {
        return Ok(false);
    };
    if binds(&socket, address)? {
        let unassigned = if address.is_ipv4() {
            UNASSIGNED_V4
        } else {
            UNASSIGNED_V6
        };
        let (Some(control), Some(fresh)) = (self::socket(unassigned)?, self::socket(address)?)
        else {
            return Ok(true);
        };
        return Ok(!binds(&control, unassigned)? || is_routed_here(&fresh, address)?);
    }
    if address.is_ipv4() {
        return Ok(false);
    }
    is_routed_here(&socket, address)
}

/// A datagram socket of the address's family. `None`: the kernel lacks the family, so the address cannot
/// be dialled.
fn socket(address: IpAddr) -> io::Result<Option<Socket>> {
    let domain = Domain::for_address(SocketAddr::new(address, 0));
    match Socket::new(domain, Type::DGRAM, None) {
        Ok(socket) => Ok(Some(socket)),
        Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => Ok(None),
        Err(error) => Err(error),
    }
}

fn binds(socket: &Socket, address: IpAddr) -> io::Result<bool> {
    match socket.bind(&SockAddr::from(SocketAddr::new(address, 0))) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether the route to an address ends on this machine. Connecting a datagram socket sends nothing.
fn is_routed_here(socket: &Socket, address: IpAddr) -> io::Result<bool> {
    const ANY_PORT: u16 = 9;
    if let Err(error) = socket.connect(&SockAddr::from(SocketAddr::new(address, ANY_PORT))) {
        // Without a route, the address cannot be dialled.
        return match error.raw_os_error() {
            Some(
                libc::ENETUNREACH
                | libc::EHOSTUNREACH
                | libc::ENETDOWN
                | libc::EADDRNOTAVAIL
                | libc::EACCES
                | libc::EINVAL,
            ) => Ok(false),
            _ => Err(error),
        };
    }
    let source = socket.local_addr()?.as_socket();
    let is_source = source.is_some_and(|source| source.ip() == address);
    Ok(is_source || is_over_loopback(socket, address)?)
}

/// Whether a connected socket's route is over loopback, whose MTU is larger than that of any other
/// interface. Linux limits other interfaces to 65535, and reports at most 65535 for IPv4 routes.
#[cfg(target_os = "linux")]
fn is_over_loopback(socket: &Socket, address: IpAddr) -> io::Result<bool> {
    use rustix::net::sockopt::{ip_mtu, ipv6_mtu};
    Ok(match address {
        // Another interface may have the same MTU, so the caller also requires `bind`.
        IpAddr::V4(_) => ip_mtu(socket)? >= 65_535,
        IpAddr::V6(_) => ipv6_mtu(socket)? > 65_535,
    })
}

#[cfg(not(target_os = "linux"))]
#[expect(
    clippy::unnecessary_wraps,
    reason = "on Linux it makes system calls, which may fail"
)]
fn is_over_loopback(_socket: &Socket, _address: IpAddr) -> io::Result<bool> {
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p6_loopback_is_this_machines_and_an_unassigned_address_is_not() {
        for local in ["127.0.0.1", "127.9.9.9", "::1"] {
            assert!(
                KernelAddresses.contains(local.parse().expect(local)),
                "{local}"
            );
        }
        for other in [UNASSIGNED_V4, UNASSIGNED_V6] {
            assert!(!KernelAddresses.contains(other), "{other}");
        }
    }
}
