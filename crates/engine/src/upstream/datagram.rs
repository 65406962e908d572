//! Sending datagrams: the only place in the workspace that sends one to an upstream
//! (`ARCHITECTURE.md`, "Invariants").
//!
//! Like `connect`, it takes vetted addresses, resolves nothing and decides nothing. It does not
//! know who may answer: the caller that receives must check that the sender was sent to.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::net::UdpSocket;

use crate::enforce::VettedAddrs;
use crate::own::{OwnListener, OwnListeners};

/// Addresses tried at most for one datagram.
pub(crate) const ATTEMPTS_MAX: usize = 16;

/// The sockets of one association towards its upstreams: one for each family, opened when it is
/// first needed, and not connected.
#[derive(Debug)]
pub(crate) struct Outlets {
    own: OwnListeners,
    ipv4: Option<Outlet>,
    ipv6: Option<Outlet>,
}

/// A family of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    Ipv4,
    Ipv6,
}

#[derive(Debug)]
struct Outlet {
    socket: UdpSocket,
    /// Other associations must not reach it (SPEC P6).
    _own: OwnListener,
}

impl Outlets {
    /// No socket yet. Addresses of open sockets go into `own`.
    pub(crate) fn new(own: OwnListeners) -> Self {
        Self {
            own,
            ipv4: None,
            ipv6: None,
        }
    }

    /// Sends one datagram to the first address that has a route, and returns that address.
    ///
    /// It never waits for room: a datagram that the kernel cannot take now is lost, as in any full
    /// queue on its way. The sender's protocol handles the loss.
    ///
    /// # Errors
    ///
    /// The system's error for the last address tried; `WouldBlock` when the socket's queue is full.
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the place that sends; only vetted addresses get here"
    )]
    pub(crate) async fn send(&mut self, to: &VettedAddrs, data: &[u8]) -> io::Result<SocketAddr> {
        let mut failure = io::Error::from(io::ErrorKind::NotFound);
        for address in to.as_slice().iter().take(ATTEMPTS_MAX) {
            let address = canonical(*address);
            let outlet = match self.outlet(Family::of(address)).await {
                Ok(outlet) => outlet,
                Err(error) => {
                    failure = error;
                    continue;
                }
            };
            match outlet.socket.try_send_to(data, address) {
                Ok(_) => return Ok(address),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(error),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    /// Resolves when something may have arrived; never while nothing is open.
    pub(crate) async fn readable(&self) -> Family {
        tokio::select! {
            () = ready(self.ipv4.as_ref()) => Family::Ipv4,
            () = ready(self.ipv6.as_ref()) => Family::Ipv6,
        }
    }

    /// Appends one datagram to the buffer, up to its capacity, and returns the sender. `None`: no
    /// datagram is waiting.
    pub(crate) fn receive(&mut self, family: Family, buffer: &mut Vec<u8>) -> Option<SocketAddr> {
        let slot = self.slot(family);
        let outlet = slot.as_ref()?;
        match outlet.socket.try_recv_buf_from(buffer) {
            Ok((_, from)) => Some(canonical(from)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Err(error) => {
                // The next datagram opens another one.
                tracing::debug!(%error, "a socket for datagrams broke");
                *slot = None;
                None
            }
        }
    }

    async fn outlet(&mut self, family: Family) -> io::Result<&Outlet> {
        let own = self.own.clone();
        let slot = self.slot(family);
        if let Some(outlet) = slot {
            return Ok(outlet);
        }
        let socket = UdpSocket::bind((family.unspecified(), 0)).await?;
        // Sending does not wait for room, so the runtime must know now that there is room.
        socket.writable().await?;
        let own = own.add(socket.local_addr()?);
        Ok(slot.insert(Outlet { socket, _own: own }))
    }

    fn slot(&mut self, family: Family) -> &mut Option<Outlet> {
        match family {
            Family::Ipv4 => &mut self.ipv4,
            Family::Ipv6 => &mut self.ipv6,
        }
    }
}

async fn ready(outlet: Option<&Outlet>) {
    match outlet {
        // An error is received here, too.
        Some(outlet) => drop(outlet.socket.readable().await),
        None => std::future::pending().await,
    }
}

impl Family {
    fn of(address: SocketAddr) -> Self {
        if address.is_ipv4() {
            Self::Ipv4
        } else {
            Self::Ipv6
        }
    }

    fn unspecified(self) -> IpAddr {
        match self {
            Self::Ipv4 => Ipv4Addr::UNSPECIFIED.into(),
            Self::Ipv6 => Ipv6Addr::UNSPECIFIED.into(),
        }
    }
}

/// Turns an IPv4-mapped address into IPv4, so that addresses sent to compare equal to those that
/// answer.
fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => SocketAddr::new(ip.into(), address.port()),
        IpAddr::V6(_) => address,
    }
}
