//! The client's side of SOCKS5 (RFC 1928, RFC 1929), byte for byte.

use std::net::{IpAddr, SocketAddr};

use super::Connection;

/// The destination of a SOCKS5 request, in each of the forms of RFC 1928 section 5.
#[derive(Clone, Debug)]
pub enum Socks5Target {
    /// ATYP 0x01 or 0x04.
    Address(SocketAddr),
    /// ATYP 0x03: a name for the proxy to resolve.
    Name(String, u16),
}

/// A SOCKS5 reply: RFC 1928 section 6.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound {
    /// The reply code; 0x00 is success.
    pub reply: u8,
    /// BND.ADDR and BND.PORT.
    pub addr: SocketAddr,
}

impl Socks5Target {
    /// A name and a port.
    pub fn name(name: &str, port: u16) -> Self {
        Self::Name(name.to_owned(), port)
    }

    /// The request for this target, with any command.
    pub fn request(&self, command: u8) -> Vec<u8> {
        self.after([5, command, 0])
    }

    /// A datagram of an association to this target (RFC 1928 section 7).
    pub fn datagram(&self, data: &[u8]) -> Vec<u8> {
        [self.after([0, 0, 0]), data.to_vec()].concat()
    }

    /// The address in its SOCKS5 form, after three bytes.
    fn after(&self, beginning: [u8; 3]) -> Vec<u8> {
        let mut bytes = beginning.to_vec();
        let port = match self {
            Self::Address(addr) => {
                match addr.ip() {
                    IpAddr::V4(ip) => {
                        bytes.push(1);
                        bytes.extend(ip.octets());
                    }
                    IpAddr::V6(ip) => {
                        bytes.push(4);
                        bytes.extend(ip.octets());
                    }
                }
                addr.port()
            }
            Self::Name(name, port) => {
                let length = u8::try_from(name.len()).expect("a name of at most 255 bytes");
                bytes.extend([3, length]);
                bytes.extend(name.bytes());
                *port
            }
        };
        bytes.extend(port.to_be_bytes());
        bytes
    }
}

impl Connection {
    /// Offers authentication methods and returns the chosen one.
    pub fn socks5_greet(&mut self, methods: &[u8]) -> u8 {
        let count = u8::try_from(methods.len()).expect("at most 255 methods");
        self.send([&[5, count], methods].concat());
        let answer = self.read_exact(2);
        assert_eq!(answer[0], 5, "the version of a method selection");
        answer[1]
    }

    /// Sends a user name and password (RFC 1929) and gives the status; 0 is success.
    pub fn socks5_authenticate(&mut self, user: &str, password: &str) -> u8 {
        let mut bytes = vec![1];
        for part in [user, password] {
            bytes.push(u8::try_from(part.len()).expect("at most 255 bytes"));
            bytes.extend(part.bytes());
        }
        self.send(bytes);
        let answer = self.read_exact(2);
        assert_eq!(answer[0], 1, "the version of RFC 1929");
        answer[1]
    }

    /// Sends a request with any command and reads the reply.
    pub fn socks5_request(&mut self, command: u8, target: &Socks5Target) -> Bound {
        self.send(target.request(command));
        self.socks5_reply()
    }

    /// Greets without authentication and asks for a connection.
    pub fn socks5_connect(&mut self, target: &Socks5Target) -> Bound {
        assert_eq!(self.socks5_greet(&[0]), 0, "no authentication is accepted");
        self.socks5_request(1, target)
    }

    /// Reads a reply.
    pub fn socks5_reply(&mut self) -> Bound {
        let head = self.read_exact(4);
        assert_eq!([head[0], head[2]], [5, 0], "version and reserved byte");
        let ip = match head[3] {
            1 => IpAddr::from(<[u8; 4]>::try_from(self.read_exact(4)).expect("four bytes")),
            4 => IpAddr::from(<[u8; 16]>::try_from(self.read_exact(16)).expect("sixteen bytes")),
            other => panic!("a reply with address type {other}"),
        };
        let port = self.read_exact(2);
        Bound {
            reply: head[1],
            addr: SocketAddr::new(ip, u16::from_be_bytes([port[0], port[1]])),
        }
    }
}
