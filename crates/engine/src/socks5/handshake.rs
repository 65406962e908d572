//! The SOCKS5 messages that a client sends, read without I/O (RFC 1928, RFC 1929).
//!
//! Each parser takes the bytes so far. They are a whole message, the beginning of one, or malformed. It
//! reads one message only; one-byte lengths limit a message to 262 bytes.

use codex_network_policy::Host;

use super::address::{self, Address, AddressError, InvalidHost, counted};
use crate::client_protocol::ClientProtocol;
use crate::respond::Reply;

/// The version byte of SOCKS5.
pub(crate) const VERSION: u8 = 5;
/// The version byte of the user name and password negotiation (RFC 1929 section 2).
pub(crate) const AUTH_VERSION: u8 = 1;

/// The result of parsing the bytes so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ParsedMessage<T> {
    /// A whole message, and its length in bytes.
    Complete(T, usize),
    /// The beginning of a message.
    Incomplete,
}

/// The authentication method that the proxy chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum AuthMethod {
    NoAuthentication = 0x00,
    UserName = 0x02,
    NoneAcceptable = 0xff,
}

/// A SOCKS5 request. Only CONNECT and UDP ASSOCIATE are served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SocksRequest {
    pub(crate) command: Command,
    /// The host, or the bytes that are not a valid host.
    pub(crate) host: Result<Host, InvalidHost>,
    pub(crate) port: u16,
}

/// The requested command (RFC 1928 section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Connect,
    Bind,
    UdpAssociate,
    Unknown(u8),
}

/// Why bytes are not a SOCKS5 message of a client. The text is for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HandshakeError {
    /// Another protocol, or another version.
    #[error("the client does not speak SOCKS5 (version byte {0:#04x})")]
    Version(u8),
    /// SOCKS4, which has neither IPv6 nor names that the proxy resolves.
    #[error(
        "the client speaks SOCKS4, and this port speaks SOCKS5; the URL of the proxy begins with socks5h://"
    )]
    Socks4,
    /// An HTTP request, which this door serves too.
    #[error("the client speaks HTTP")]
    Http,
    /// A TLS handshake, usually of a client whose proxy setting begins with `https://`.
    #[error(
        "the client speaks TLS, and this port speaks SOCKS5; the URL of the proxy begins with socks5h://"
    )]
    Tls,
    /// Another version of the authentication negotiation.
    #[error("the authentication message has version {0:#04x}, not 0x01")]
    AuthVersion(u8),
    /// No method at all.
    #[error("the client offers no authentication method")]
    NoMethods,
    /// The reserved byte is not zero.
    #[error("the reserved byte of the request is not zero")]
    Reserved,
    /// An address type that does not exist.
    #[error("the request's address type {0:#04x} does not exist")]
    AddressType(u8),
    /// An empty domain name.
    #[error("the request's domain name is empty")]
    EmptyName,
}

impl From<AddressError> for HandshakeError {
    fn from(error: AddressError) -> Self {
        match error {
            AddressError::Type(found) => Self::AddressType(found),
            AddressError::EmptyName => Self::EmptyName,
        }
    }
}

impl HandshakeError {
    /// The reply to the client, if it has sent a request and so expects one.
    pub(crate) fn reply(self) -> Option<Reply> {
        match self {
            Self::AddressType(_) => Some(Reply::AddressTypeNotSupported),
            Self::Reserved | Self::EmptyName => Some(Reply::GeneralFailure),
            Self::Version(_)
            | Self::Socks4
            | Self::Http
            | Self::Tls
            | Self::AuthVersion(_)
            | Self::NoMethods => None,
        }
    }

    /// The error for a first byte other than the version of SOCKS5.
    fn of_first_byte(byte: u8) -> Self {
        match ClientProtocol::of_first_byte(byte) {
            Some(ClientProtocol::Socks4) => Self::Socks4,
            Some(ClientProtocol::Tls) => Self::Tls,
            Some(ClientProtocol::Http) => Self::Http,
            Some(ClientProtocol::Socks5) | None => Self::Version(byte),
        }
    }
}

/// Reads the greeting and chooses a method: user name and password if it is offered, since the name may
/// carry an attempt id (SPEC H11), otherwise no authentication.
pub(crate) fn greeting(bytes: &[u8]) -> Result<ParsedMessage<AuthMethod>, HandshakeError> {
    let Some((&version, rest)) = bytes.split_first() else {
        return Ok(ParsedMessage::Incomplete);
    };
    if version != VERSION {
        return Err(HandshakeError::of_first_byte(version));
    }
    let Some((&count, rest)) = rest.split_first() else {
        return Ok(ParsedMessage::Incomplete);
    };
    if count == 0 {
        return Err(HandshakeError::NoMethods);
    }
    let Some(methods) = rest.get(..usize::from(count)) else {
        return Ok(ParsedMessage::Incomplete);
    };
    let method = if methods.contains(&(AuthMethod::UserName as u8)) {
        AuthMethod::UserName
    } else if methods.contains(&(AuthMethod::NoAuthentication as u8)) {
        AuthMethod::NoAuthentication
    } else {
        AuthMethod::NoneAcceptable
    };
    Ok(ParsedMessage::Complete(method, 2 + methods.len()))
}

/// Reads a user name and a password, and returns the name. The password is ignored.
pub(crate) fn user_name(bytes: &[u8]) -> Result<ParsedMessage<Vec<u8>>, HandshakeError> {
    let Some((&version, rest)) = bytes.split_first() else {
        return Ok(ParsedMessage::Incomplete);
    };
    if version != AUTH_VERSION {
        return Err(HandshakeError::AuthVersion(version));
    }
    let Some((name, rest)) = counted(rest) else {
        return Ok(ParsedMessage::Incomplete);
    };
    let Some((password, _)) = counted(rest) else {
        return Ok(ParsedMessage::Incomplete);
    };
    Ok(ParsedMessage::Complete(
        name.to_vec(),
        3 + name.len() + password.len(),
    ))
}

/// Reads a request.
pub(crate) fn request(bytes: &[u8]) -> Result<ParsedMessage<SocksRequest>, HandshakeError> {
    let Some(&version) = bytes.first() else {
        return Ok(ParsedMessage::Incomplete);
    };
    if version != VERSION {
        return Err(HandshakeError::Version(version));
    }
    let &[_, command, reserved, _, ..] = bytes else {
        return Ok(ParsedMessage::Incomplete);
    };
    if reserved != 0 {
        return Err(HandshakeError::Reserved);
    }
    let Some((Address { host, port }, rest)) = address::read(&bytes[3..])? else {
        return Ok(ParsedMessage::Incomplete);
    };
    let command = match command {
        0x01 => Command::Connect,
        0x02 => Command::Bind,
        0x03 => Command::UdpAssociate,
        other => Command::Unknown(other),
    };
    let request = SocksRequest {
        command,
        host,
        port,
    };
    Ok(ParsedMessage::Complete(request, bytes.len() - rest.len()))
}

/// A reply with the address that the proxy connects from (RFC 1928 section 6).
pub(crate) fn reply(reply: Reply, bound: std::net::SocketAddr) -> Vec<u8> {
    let mut message = vec![VERSION, reply as u8, 0];
    address::write(bound, &mut message);
    message
}

/// The refusal in SOCKS4: "request rejected or failed".
pub(crate) const SOCKS4_REJECTED: [u8; 8] = [0, 91, 0, 0, 0, 0, 0, 0];

#[cfg(test)]
mod tests {
    use std::fmt::Debug;
    use std::net::{Ipv4Addr, Ipv6Addr};

    use codex_network_policy::HostError;
    use proptest::prelude::*;

    use super::*;

    /// Every shorter prefix is incomplete, and trailing bytes are not touched.
    fn whole<T: Debug + PartialEq>(
        parse: fn(&[u8]) -> Result<ParsedMessage<T>, HandshakeError>,
        bytes: &[u8],
    ) -> T {
        for end in 0..bytes.len() {
            assert_eq!(
                parse(&bytes[..end]),
                Ok(ParsedMessage::Incomplete),
                "prefix of {end}"
            );
        }
        let mut longer = bytes.to_vec();
        longer.extend_from_slice(&[5, 1, 0]);
        match parse(&longer) {
            Ok(ParsedMessage::Complete(message, length)) => {
                assert_eq!(length, bytes.len());
                message
            }
            other => panic!("{other:?}"),
        }
    }

    fn connect(address: &[u8]) -> Vec<u8> {
        [&[5, 1, 0][..], address, &[0x01, 0xbb]].concat()
    }

    #[test]
    fn s1_the_greeting_chooses_a_method() {
        assert_eq!(whole(greeting, &[5, 1, 0]), AuthMethod::NoAuthentication);
        assert_eq!(whole(greeting, &[5, 2, 0, 2]), AuthMethod::UserName);
        assert_eq!(
            whole(greeting, &[5, 2, 1, 0x80]),
            AuthMethod::NoneAcceptable
        );
        assert_eq!(greeting(&[4, 1]), Err(HandshakeError::Socks4));
        assert_eq!(greeting(b"GET / HTTP/1.1"), Err(HandshakeError::Http));
        assert_eq!(greeting(&[22, 3, 1]), Err(HandshakeError::Tls));
        assert_eq!(greeting(&[0]), Err(HandshakeError::Version(0)));
        assert_eq!(greeting(&[5, 0]), Err(HandshakeError::NoMethods));
    }

    #[test]
    fn h11_the_user_name_is_read_and_the_password_skipped() {
        assert_eq!(whole(user_name, b"\x01\x03bob\x02pw"), b"bob");
        assert_eq!(whole(user_name, b"\x01\x00\x00"), b"");
        assert_eq!(user_name(&[5]), Err(HandshakeError::AuthVersion(5)));
    }

    #[test]
    fn s1_the_three_address_types() {
        let parsed = whole(request, &connect(&[1, 192, 0, 2, 1]));
        assert_eq!(parsed.host, Ok(Host::parse("192.0.2.1").expect("a host")));
        assert_eq!((parsed.command, parsed.port), (Command::Connect, 443));
        let parsed = whole(request, &connect(b"\x03\x0bEXAMPLE.com"));
        assert_eq!(parsed.host, Ok(Host::parse("example.com").expect("a host")));
        let mut v6 = vec![4];
        v6.extend_from_slice(&Ipv6Addr::LOCALHOST.octets());
        assert_eq!(
            whole(request, &connect(&v6)).host,
            Ok(Host::parse("::1").expect("a host"))
        );
    }

    #[test]
    fn p1_an_address_in_any_clothes_is_that_address() {
        let loopback = Host::parse("127.0.0.1").expect("a host");
        let mapped = [&[4][..], &Ipv4Addr::LOCALHOST.to_ipv6_mapped().octets()].concat();
        for address in [
            &b"\x03\x09127.0.0.1"[..],
            b"\x03\x060x7f.1",
            b"\x03\x0a2130706433",
            &mapped,
        ] {
            assert_eq!(whole(request, &connect(address)).host, Ok(loopback.clone()));
        }
    }

    #[test]
    fn s2_malformed_messages_have_their_errors_and_replies() {
        let mut bind = connect(&[1, 127, 0, 0, 1]);
        bind[1] = 2;
        assert_eq!(whole(request, &bind).command, Command::Bind);
        bind[1] = 9;
        assert_eq!(whole(request, &bind).command, Command::Unknown(9));
        assert_eq!(request(&[5, 1, 0, 2]), Err(HandshakeError::AddressType(2)));
        assert_eq!(
            HandshakeError::AddressType(2).reply(),
            Some(Reply::AddressTypeNotSupported)
        );
        assert_eq!(request(&[5, 1, 1, 1]), Err(HandshakeError::Reserved));
        assert_eq!(
            request(b"\x05\x01\x00\x03\x00"),
            Err(HandshakeError::EmptyName)
        );
        let parsed = whole(request, &connect(b"\x03\x04a..b"));
        assert_eq!(
            parsed.host.map_err(|invalid| invalid.error),
            Err(HostError::EmptyLabel)
        );
    }

    proptest! {
        #[test]
        fn s1_no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = (greeting(&bytes), user_name(&bytes), request(&bytes));
        }
    }
}
