//! The sockets that the proxy itself listens on. No request may reach them (SPEC P6).

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::host::Host;
use crate::local_addresses::LocalAddresses;

/// How a request travels to its host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// In a TCP connection.
    Tcp,
    /// In a UDP datagram.
    Udp,
}

/// Knows the sockets that the proxy itself listens on.
pub trait ProxyListeners: fmt::Debug + Send + Sync {
    /// The address of the proxy's listener that traffic to this address and port would reach, if it
    /// is the proxy's. An IPv4-mapped address means the IPv4 address.
    ///
    /// A datagram to a TCP listener would reach nothing. It counts all the same: a destination gets
    /// the same verdict at every door (SPEC P9).
    fn reached_by(&self, transport: Transport, address: IpAddr, port: u16) -> Option<SocketAddr>;

    /// Whether a request to this host and port names the collector of the proxy's audit events, which counts
    /// as one of its listeners (SPEC O2). Nothing is looked up.
    fn is_collector(&self, _host: &Host, _port: u16) -> bool {
        false
    }
}

/// No listener belongs to the proxy: for a policy that is read and not enforced, and for open
/// connections, which were checked when they were made.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoProxyListeners;

impl ProxyListeners for NoProxyListeners {
    fn reached_by(&self, _: Transport, _: IpAddr, _: u16) -> Option<SocketAddr> {
        None
    }
}

/// Whether a listener bound to `listener` receives what is sent to `address`, if the ports are the
/// same. `machine` knows the addresses that an unspecified listener (`0.0.0.0`, `::`) takes.
pub fn listener_receives(listener: IpAddr, address: IpAddr, machine: &dyn LocalAddresses) -> bool {
    let (listener, address) = (listener.to_canonical(), address.to_canonical());
    if listener == address {
        return true;
    }
    // A connection to the unspecified address goes to loopback.
    if address.is_unspecified() {
        return listener.is_loopback() || listener.is_unspecified();
    }
    listener.is_unspecified() && (address.is_loopback() || machine.contains(address))
}

/// The proxy's listener that a host leads to, found without a lookup.
pub(crate) fn reached_by_host(
    listeners: &dyn ProxyListeners,
    transport: Transport,
    host: &Host,
    port: u16,
) -> Option<SocketAddr> {
    let reached = |address: IpAddr| listeners.reached_by(transport, address, port);
    match host.ip() {
        Some(address) => reached(address),
        None if host.is_localhost() => {
            reached(Ipv4Addr::LOCALHOST.into()).or_else(|| reached(Ipv6Addr::LOCALHOST.into()))
        }
        None => None,
    }
}
