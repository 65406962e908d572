//! The client's side of an association: the socket for its datagrams, and the sender that they are
//! accepted from (RFC 1928 sections 6 and 7).
//!
//! A client is identified by the address of its control connection and the port in its request. If the
//! request has no port, as is common, the first well-formed datagram from that address fixes the port.
//! The address in a request is not used: behind a NAT it differs from the address that arrives here.

use std::io;
use std::net::{IpAddr, SocketAddr};

use tokio::net::UdpSocket;

use crate::own::{OwnListener, OwnListeners};

/// The socket of one association for its client.
#[derive(Debug)]
pub(crate) struct Relay {
    socket: UdpSocket,
    address: SocketAddr,
    client: RelayClient,
    /// No association may send to this socket (SPEC P6).
    _own: OwnListener,
}

/// The sender that datagrams are accepted from.
#[derive(Clone, Copy, Debug)]
enum RelayClient {
    /// Its address, and its port if its request names one.
    Expected(IpAddr, Option<u16>),
    /// The address and port that its first datagram came from.
    Pinned(SocketAddr),
}

impl Relay {
    /// Binds a free port of the address that the control connection came in on. `named` is the port
    /// in the request, 0 if it names none.
    pub(crate) async fn bind(
        control: SocketAddr,
        peer: SocketAddr,
        named: u16,
        own: &OwnListeners,
    ) -> io::Result<Self> {
        let mut wanted = control;
        wanted.set_port(0);
        let socket = UdpSocket::bind(wanted).await?;
        // `answer` does not wait for room, so the runtime must know now that there is room.
        socket.writable().await?;
        let address = socket.local_addr()?;
        let named = (named != 0).then_some(named);
        Ok(Self {
            socket,
            address,
            client: RelayClient::Expected(peer.ip().to_canonical(), named),
            _own: own.add(address),
        })
    }

    /// The address of the socket.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Resolves when a datagram may have arrived.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        self.socket.readable().await
    }

    /// Appends one datagram to the buffer, up to its capacity, and returns the sender. `None`: no
    /// datagram is waiting.
    pub(crate) fn receive(&self, buffer: &mut Vec<u8>) -> io::Result<Option<SocketAddr>> {
        match self.socket.try_recv_buf_from(buffer) {
            Ok((_, from)) => Ok(Some(from)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether a datagram from this sender comes from the client.
    pub(crate) fn is_client(&self, from: SocketAddr) -> bool {
        match self.client {
            RelayClient::Expected(ip, port) => {
                from.ip().to_canonical() == ip && port.is_none_or(|port| port == from.port())
            }
            RelayClient::Pinned(client) => client == from,
        }
    }

    /// From now on, only this sender of a well-formed datagram is the client.
    pub(crate) fn pin(&mut self, from: SocketAddr) {
        self.client = RelayClient::Pinned(from);
    }

    /// Sends one datagram to the client, if the client has ever sent one. It does not wait for
    /// room.
    #[expect(
        clippy::disallowed_methods,
        reason = "this answers the client; upstream::datagram sends datagrams to upstreams"
    )]
    pub(crate) fn answer(&self, datagram: &[u8]) -> io::Result<()> {
        let RelayClient::Pinned(client) = self.client else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        self.socket.try_send_to(datagram, client).map(|_| ())
    }
}
