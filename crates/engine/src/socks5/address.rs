//! An address in SOCKS5: type, host, port (RFC 1928 section 5), without I/O.
//!
//! Requests on a connection and the headers of datagrams share this parser, so the same bytes mean
//! the same host in both.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use codex_network_policy::{Host, HostError};

/// Length of the longest address that [`write()`] appends: IPv6.
pub(crate) const MAX_WRITTEN: usize = 1 + 16 + 2;

const IPV4: u8 = 0x01;
const DOMAINNAME: u8 = 0x03;
const IPV6: u8 = 0x04;

/// An address: a host and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    /// The host, or the bytes that are not a valid host.
    pub(crate) host: Result<Host, InvalidHost>,
    pub(crate) port: u16,
}

/// Bytes of a DOMAINNAME that are not a valid host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct InvalidHost {
    pub(crate) text: Vec<u8>,
    pub(crate) error: HostError,
}

/// Why bytes are not an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AddressError {
    /// The address type does not exist.
    Type(u8),
    /// The domain name is empty.
    EmptyName,
}

/// Reads an address that begins with its type byte, and returns the bytes after it. `None`: the
/// address is incomplete.
pub(crate) fn read(bytes: &[u8]) -> Result<Option<(Address, &[u8])>, AddressError> {
    let Some((&address_type, rest)) = bytes.split_first() else {
        return Ok(None);
    };
    let found = match address_type {
        IPV4 => rest.split_first_chunk::<4>().map(|(address, rest)| {
            let address = IpAddr::V4(Ipv4Addr::from(*address));
            (Ok(Host::from(address)), rest)
        }),
        IPV6 => rest.split_first_chunk::<16>().map(|(address, rest)| {
            let address = IpAddr::V6(Ipv6Addr::from(*address));
            (Ok(Host::from(address)), rest)
        }),
        DOMAINNAME => match counted(rest) {
            Some(([], _)) => return Err(AddressError::EmptyName),
            Some((name, rest)) => {
                let host = Host::parse_bytes(name).map_err(|error| InvalidHost {
                    text: name.to_vec(),
                    error,
                });
                Some((host, rest))
            }
            None => None,
        },
        other => return Err(AddressError::Type(other)),
    };
    let Some((host, rest)) = found else {
        return Ok(None);
    };
    let Some((port, rest)) = rest.split_first_chunk::<2>() else {
        return Ok(None);
    };
    let port = u16::from_be_bytes(*port);
    Ok(Some((Address { host, port }, rest)))
}

/// Appends an address. An IPv4-mapped address is written as IPv4.
pub(crate) fn write(address: SocketAddr, into: &mut Vec<u8>) {
    match address.ip().to_canonical() {
        IpAddr::V4(address) => {
            into.push(IPV4);
            into.extend_from_slice(&address.octets());
        }
        IpAddr::V6(address) => {
            into.push(IPV6);
            into.extend_from_slice(&address.octets());
        }
    }
    into.extend_from_slice(&address.port().to_be_bytes());
}

/// A one-byte length and that many bytes.
pub(crate) fn counted(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&length, rest) = bytes.split_first()?;
    rest.split_at_checked(usize::from(length))
}
