//! Any bytes are a datagram of an association or not, and a valid one equals what is read back from
//! the header of an answer (SPEC S3).
#![no_main]

// Private to the engine, so compiled here; formatted there.
#[rustfmt::skip]
#[path = "../../../crates/engine/src/socks5"]
mod socks5 {
    pub(crate) mod address;
    #[path = "udp/header.rs"]
    pub(crate) mod header;
}

use std::net::SocketAddr;

use codex_network_policy::Host;
use libfuzzer_sys::fuzz_target;
use socks5::header::{UdpHeaderError, MAX_WRITTEN, read, write_before};

fuzz_target!(|bytes: &[u8]| {
    let Ok(datagram) = read(bytes) else { return };
    assert!(bytes.ends_with(datagram.data));
    assert_ne!(datagram.port, 0);
    // Every prefix of a header is incomplete.
    let header = bytes.len() - datagram.data.len();
    for end in 0..header {
        assert_eq!(read(&bytes[..end]), Err(UdpHeaderError::Truncated));
    }
    let Some(ip) = datagram.host.as_ref().ok().and_then(Host::ip) else { return };
    let mut buffer = vec![0; MAX_WRITTEN];
    buffer.extend_from_slice(datagram.data);
    let written = write_before(&mut buffer, SocketAddr::new(ip, datagram.port)).to_vec();
    let again = read(&written).expect("what is written is well-formed");
    assert_eq!(again.host, Ok(Host::from(ip)));
    assert_eq!((again.port, again.data), (datagram.port, datagram.data));
});
