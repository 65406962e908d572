//! Sends datagrams to upstreams. No other file in the workspace does
//! (`ARCHITECTURE.md`, "Invariants").
//!
//! Like `connect`, it takes vetted addresses, resolves nothing and decides nothing. It does not know which
//! addresses may answer: the caller must check that it has sent to the sender of an answer.

use std::io;
use std::net::{IpAddr, SocketAddr};

use tokio::net::UdpSocket;

use crate::address_family::AddressFamily;
use crate::enforce::VettedAddrs;
use crate::own::{OwnListener, OwnListeners};

/// Most addresses that are tried for one datagram.
pub(crate) const MAX_ATTEMPTS: usize = 16;

/// The sockets of one association for its upstreams: one for each family, opened when it is first needed,
/// and not connected.
#[derive(Debug)]
pub(crate) struct OutboundSockets {
    own: OwnListeners,
    ipv4: Option<OutboundSocket>,
    ipv6: Option<OutboundSocket>,
}

#[derive(Debug)]
struct OutboundSocket {
    socket: UdpSocket,
    /// No association may send to this socket (SPEC P6).
    _own: OwnListener,
}

impl OutboundSockets {
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
    /// It never waits for room. A datagram that the kernel cannot take now is lost, as in any full queue;
    /// the sender's protocol handles the loss.
    ///
    /// # Errors
    ///
    /// The system's error for the last address tried; `WouldBlock` when the socket's queue is full.
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the only function that sends; it takes vetted addresses"
    )]
    pub(crate) async fn send(&mut self, to: &VettedAddrs, data: &[u8]) -> io::Result<SocketAddr> {
        let mut failure = io::Error::from(io::ErrorKind::NotFound);
        for address in to.as_slice().iter().take(MAX_ATTEMPTS) {
            let address = canonical(*address);
            let outlet = match self.outlet(AddressFamily::of(address)).await {
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

    /// Resolves when a datagram may have arrived. It never resolves while no socket is open.
    pub(crate) async fn readable(&self) -> AddressFamily {
        tokio::select! {
            () = ready(self.ipv4.as_ref()) => AddressFamily::Ipv4,
            () = ready(self.ipv6.as_ref()) => AddressFamily::Ipv6,
        }
    }

    /// Appends one datagram to the buffer, up to its capacity, and returns the sender. `None`: no
    /// datagram is waiting.
    pub(crate) fn receive(
        &mut self,
        family: AddressFamily,
        buffer: &mut Vec<u8>,
    ) -> Option<SocketAddr> {
        let slot = self.slot(family);
        let outlet = slot.as_ref()?;
        match outlet.socket.try_recv_buf_from(buffer) {
            Ok((_, from)) => Some(canonical(from)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Err(error) => {
                // The next datagram opens another socket.
                tracing::debug!(%error, "a socket for datagrams broke");
                *slot = None;
                None
            }
        }
    }

    async fn outlet(&mut self, family: AddressFamily) -> io::Result<&OutboundSocket> {
        let own = self.own.clone();
        let slot = self.slot(family);
        if let Some(outlet) = slot {
            return Ok(outlet);
        }
        let socket = UdpSocket::bind((family.unspecified(), 0)).await?;
        // Sending does not wait for room, so the runtime must know now that there is room.
        socket.writable().await?;
        let own = own.add(socket.local_addr()?);
        Ok(slot.insert(OutboundSocket { socket, _own: own }))
    }

    fn slot(&mut self, family: AddressFamily) -> &mut Option<OutboundSocket> {
        match family {
            AddressFamily::Ipv4 => &mut self.ipv4,
            AddressFamily::Ipv6 => &mut self.ipv6,
        }
    }
}

async fn ready(outlet: Option<&OutboundSocket>) {
    match outlet {
        // The socket is also readable if the kernel has an error for it.
        Some(outlet) => drop(outlet.socket.readable().await),
        None => std::future::pending().await,
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
