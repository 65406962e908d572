//! The header of each datagram between a client and the relay (RFC 1928 section 7), without I/O:
//! two reserved bytes, a fragment number, an address, and then the data.
//!
//! Fragments are dropped, as RFC 1928 section 7 requires of an implementation that does not support
//! them. A datagram arrives whole, so no result is "incomplete".

use std::net::SocketAddr;

use codex_network_policy::Host;

use crate::socks5::address::{self, Address, AddressError, InvalidHost};

/// Length of the longest header that [`write_before`] writes.
pub(crate) const MAX_WRITTEN: usize = 3 + address::MAX_WRITTEN;

/// A datagram that a client wants sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Datagram<'a> {
    /// The destination host, or the bytes that are not a valid host.
    pub(crate) host: Result<Host, InvalidHost>,
    /// The destination port, 1 to 65535.
    pub(crate) port: u16,
    /// The data to send, which may be empty.
    pub(crate) data: &'a [u8],
}

/// Why a datagram is dropped without a decision. The text is for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UdpHeaderError {
    /// It ends inside its header.
    #[error("the datagram ends inside its header")]
    Truncated,
    /// The reserved bytes are not zero.
    #[error("the reserved bytes of the datagram are not zero")]
    Reserved,
    /// It is a fragment.
    #[error("the datagram is fragment {0:#04x}, and fragments are not supported")]
    Fragment(u8),
    /// An address type that does not exist.
    #[error("the datagram's address type {0:#04x} does not exist")]
    AddressType(u8),
    /// An empty domain name.
    #[error("the datagram's domain name is empty")]
    EmptyName,
    /// Nothing can be sent to port 0.
    #[error("the datagram is for port 0")]
    NoPort,
}

/// Reads a datagram.
pub(crate) fn read(bytes: &[u8]) -> Result<Datagram<'_>, UdpHeaderError> {
    let &[first, second, fragment, ref rest @ ..] = bytes else {
        return Err(UdpHeaderError::Truncated);
    };
    if [first, second] != [0, 0] {
        return Err(UdpHeaderError::Reserved);
    }
    if fragment != 0 {
        return Err(UdpHeaderError::Fragment(fragment));
    }
    match address::read(rest) {
        Ok(Some((Address { port: 0, .. }, _))) => Err(UdpHeaderError::NoPort),
        Ok(Some((Address { host, port }, data))) => Ok(Datagram { host, port, data }),
        Ok(None) => Err(UdpHeaderError::Truncated),
        Err(AddressError::Type(found)) => Err(UdpHeaderError::AddressType(found)),
        Err(AddressError::EmptyName) => Err(UdpHeaderError::EmptyName),
    }
}

/// Writes the header of an answer in front of its data. `buffer` is [`MAX_WRITTEN`] free bytes and then
/// the data. Returns the whole datagram, which begins within the free bytes.
pub(crate) fn write_before(buffer: &mut [u8], from: SocketAddr) -> &[u8] {
    let mut header = Vec::with_capacity(MAX_WRITTEN);
    header.extend_from_slice(&[0, 0, 0]);
    address::write(from, &mut header);
    let start = MAX_WRITTEN - header.len();
    buffer[start..MAX_WRITTEN].copy_from_slice(&header);
    &buffer[start..]
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::*;

    fn datagram(address: &[u8], data: &[u8]) -> Vec<u8> {
        [&[0, 0, 0], address, &[0, 53], data].concat()
    }

    /// Reads a header with nothing behind it; every shorter prefix of it is truncated.
    fn whole(address: &[u8]) -> Result<Host, InvalidHost> {
        let bytes = datagram(address, b"");
        for end in 0..bytes.len() {
            let prefix = read(&bytes[..end]);
            assert_eq!(prefix, Err(UdpHeaderError::Truncated), "prefix of {end}");
        }
        let longer = datagram(address, b"data");
        let read = read(&longer).expect("a whole datagram");
        assert_eq!((read.port, read.data), (53, &b"data"[..]));
        read.host
    }

    fn host(text: &str) -> Host {
        Host::parse(text).expect("a host")
    }

    #[test]
    fn s3_the_three_address_types_and_every_prefix_of_them() {
        assert_eq!(whole(&[1, 192, 0, 2, 1]), Ok(host("192.0.2.1")));
        assert_eq!(whole(b"\x03\x0bEXAMPLE.com"), Ok(host("example.com")));
        let v6 = [&[4][..], &Ipv6Addr::LOCALHOST.octets()].concat();
        assert_eq!(whole(&v6), Ok(host("::1")));
        let mapped = [&[4][..], &Ipv4Addr::LOCALHOST.to_ipv6_mapped().octets()].concat();
        assert_eq!(whole(&mapped), Ok(host("127.0.0.1")));
        assert_eq!(
            whole(b"\x03\x04a..b").map_err(|invalid| invalid.text),
            Err(b"a..b".to_vec())
        );
    }

    #[test]
    fn s3_a_datagram_may_be_empty() {
        let bytes = datagram(&[1, 192, 0, 2, 1], b"");
        assert_eq!(read(&bytes).map(|datagram| datagram.data), Ok(&b""[..]));
    }

    #[test]
    fn s3_malformed_datagrams_are_dropped() {
        let good = datagram(&[1, 192, 0, 2, 1], b"data");
        let with = |at: usize, value: u8| {
            let mut bytes = good.clone();
            bytes[at] = value;
            read(&bytes).map(|_| ())
        };
        assert_eq!(with(0, 1), Err(UdpHeaderError::Reserved));
        assert_eq!(with(1, 1), Err(UdpHeaderError::Reserved));
        assert_eq!(with(2, 1), Err(UdpHeaderError::Fragment(1)));
        assert_eq!(with(2, 0x80), Err(UdpHeaderError::Fragment(0x80)));
        assert_eq!(with(3, 2), Err(UdpHeaderError::AddressType(2)));
        assert_eq!(with(9, 0), Err(UdpHeaderError::NoPort));
        assert_eq!(read(b"\0\0\0\x03\0\0\x35"), Err(UdpHeaderError::EmptyName));
        assert_eq!(read(b""), Err(UdpHeaderError::Truncated));
    }

    #[test]
    fn s3_an_answer_names_its_sender_and_is_read_back() {
        for from in [
            SocketAddr::from((Ipv4Addr::new(192, 0, 2, 1), 53)),
            SocketAddr::from((Ipv6Addr::LOCALHOST, 65535)),
        ] {
            let mut buffer = vec![0xff; MAX_WRITTEN];
            buffer.extend_from_slice(b"answer");
            let written = write_before(&mut buffer, from);
            let read = read(written).expect("a datagram");
            assert_eq!(read.host, Ok(Host::from(from.ip())));
            assert_eq!((read.port, read.data), (from.port(), &b"answer"[..]));
        }
    }

    proptest! {
        #[test]
        fn s3_no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(datagram) = read(&bytes) {
                prop_assert!(bytes.ends_with(datagram.data));
                prop_assert!(datagram.port != 0);
            }
        }
    }
}
