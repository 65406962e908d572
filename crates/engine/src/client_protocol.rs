//! Guesses a client's protocol from its first byte, so that a listener can explain to a client which
//! protocol it expects. The parser of the protocol decides whether the bytes are valid.

/// The type of a TLS record that begins a handshake (RFC 8446 section 5.1).
const TLS_HANDSHAKE: u8 = 22;
/// The version bytes of SOCKS.
const SOCKS5: u8 = 5;
const SOCKS4: u8 = 4;

/// A protocol that clients of proxies speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClientProtocol {
    Http,
    Socks4,
    Socks5,
    /// Usually a client whose proxy setting begins with `https://`.
    Tls,
}

impl ClientProtocol {
    /// The protocol that begins with this byte.
    pub(crate) fn of_first_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            // All registered methods are in capitals.
            b'A'..=b'Z' => Self::Http,
            SOCKS4 => Self::Socks4,
            SOCKS5 => Self::Socks5,
            TLS_HANDSHAKE => Self::Tls,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h4_s1_a_client_is_known_by_its_first_byte() {
        for (bytes, wanted) in [
            (&b"GET / HTTP/1.1\r\n"[..], Some(ClientProtocol::Http)),
            (b"\x04\x01", Some(ClientProtocol::Socks4)),
            (b"\x05\x01\0", Some(ClientProtocol::Socks5)),
            (b"\x16\x03\x01", Some(ClientProtocol::Tls)),
            (b"get /", None),
            (b"\x15\x03\x03", None),
            (b"\0", None),
            (b"\xff", None),
        ] {
            assert_eq!(ClientProtocol::of_first_byte(bytes[0]), wanted, "{bytes:?}");
        }
    }
}
