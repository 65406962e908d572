//! The client's side of a UDP association (RFC 1928 section 7), byte for byte.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};

use super::{Connection, Socks5Target};
use crate::wait::TIMEOUT;

/// An open association: its control connection, and a socket of its own.
pub struct Association {
    /// The connection that asked for it, and that ends it.
    pub control: Connection,
    /// The socket that the client sends datagrams from.
    pub socket: UdpSocket,
    /// The address that it sends them to.
    pub relay: SocketAddr,
}

impl Association {
    /// Asks for an association as most clients do, without saying where datagrams will come from.
    pub fn open(listener: SocketAddr) -> Self {
        let mut control = Connection::open(listener);
        assert_eq!(
            control.socks5_greet(&[0]),
            0,
            "no authentication is accepted"
        );
        let any = SocketAddr::from(([0, 0, 0, 0], 0));
        Self::ask(control, &Socks5Target::Address(any))
    }

    /// Asks on a connection that has completed the greeting, with any address in the request.
    pub fn ask(mut control: Connection, from: &Socks5Target) -> Self {
        let bound = control.socks5_request(3, from);
        assert_eq!(bound.reply, 0, "the association is granted");
        Self {
            socket: socket(control.local_addr()),
            relay: bound.addr,
            control,
        }
    }

    /// The client's address for the daemon.
    pub fn client(&self) -> String {
        self.control.local_addr().to_string()
    }

    /// Sends one datagram to the target.
    pub fn send(&self, target: &Socks5Target, data: impl AsRef<[u8]>) {
        self.send_bytes(target.datagram(data.as_ref()));
    }

    /// Sends these raw bytes to the relay.
    pub fn send_bytes(&self, bytes: impl AsRef<[u8]>) {
        let sent = self.socket.send_to(bytes.as_ref(), self.relay);
        sent.expect("a datagram to loopback");
    }

    /// Waits for one datagram. Returns the sender in its header, and its data.
    pub fn receive(&self) -> (SocketAddr, Vec<u8>) {
        let mut buffer = vec![0; 65536];
        let (length, from) = self.socket.recv_from(&mut buffer).expect("a datagram");
        assert_eq!(from, self.relay, "it comes from the relay");
        assert_eq!(buffer[..3], [0; 3], "reserved bytes and fragment");
        let (sender, header) = match buffer[3] {
            1 => {
                let octets = <[u8; 4]>::try_from(&buffer[4..8]).expect("four bytes");
                (octets.into(), 8)
            }
            4 => {
                let octets = <[u8; 16]>::try_from(&buffer[4..20]).expect("sixteen bytes");
                (octets.into(), 20)
            }
            other => panic!("a datagram with address type {other}"),
        };
        let port = u16::from_be_bytes([buffer[header], buffer[header + 1]]);
        let data = buffer[header + 2..length].to_vec();
        (SocketAddr::new(sender, port), data)
    }

    /// Waits until the relay's address no longer listens.
    pub fn expect_gone(&self) {
        let probe = socket(self.control.local_addr());
        probe.connect(self.relay).expect("a route on loopback");
        let gone = crate::wait::poll(TIMEOUT, || {
            // No socket receives the first datagram. The kernel reports that to the second call.
            let reported = |result: std::io::Result<usize>| {
                result.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
            };
            (reported(probe.send(b"")) || reported(probe.send(b""))).then_some(())
        });
        assert!(gone.is_some(), "the relay is still there");
    }
}

/// A socket on another one's address, with the tests' time limit.
fn socket(beside: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind((beside.ip(), 0)).expect("a free port");
    socket
        .set_read_timeout(Some(TIMEOUT))
        .expect("a fresh socket takes options");
    socket
}
