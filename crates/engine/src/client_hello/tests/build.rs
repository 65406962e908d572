//! Hellos for the tests: built field by field, or by a rustls client.

use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, SupportedProtocolVersion};

/// A `ClientHello`, field by field; lengths are written as they come out.
pub(super) struct Hello {
    pub(super) version: [u8; 2],
    pub(super) session_id: Vec<u8>,
    pub(super) cipher_suites: Vec<u8>,
    pub(super) compression: Vec<u8>,
    pub(super) extensions: Vec<u8>,
    /// Bytes after the extensions.
    pub(super) trailing: Vec<u8>,
}

impl Hello {
    pub(super) fn new(extensions: &[Vec<u8>]) -> Self {
        Self {
            version: [3, 3],
            session_id: Vec::new(),
            cipher_suites: vec![0xc0, 0x2b],
            compression: vec![0],
            extensions: extensions.concat(),
            trailing: Vec::new(),
        }
    }

    /// The handshake message, with its header.
    pub(super) fn message(&self) -> Vec<u8> {
        let body = [
            &self.version[..],
            &[7; 32],
            &counted8(&self.session_id),
            &counted16(&self.cipher_suites),
            &counted8(&self.compression),
            &counted16(&self.extensions),
            &self.trailing,
        ]
        .concat();
        let length = u32::try_from(body.len()).expect("a length");
        [&[1], &length.to_be_bytes()[1..], &body].concat()
    }
}

pub(super) fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &counted16(content)].concat()
}

pub(super) fn server_name(name: &[u8]) -> Vec<u8> {
    extension(0, &counted16(&[&[0], &counted16(name)[..]].concat()))
}

pub(super) fn alpn(names: &[&[u8]]) -> Vec<u8> {
    let list: Vec<u8> = names.iter().flat_map(|name| counted8(name)).collect();
    extension(16, &counted16(&list))
}

/// Signature algorithms, without which rustls refuses a hello.
pub(super) fn signature_algorithms() -> Vec<u8> {
    extension(13, b"\x00\x02\x04\x03")
}

/// One record around one fragment.
pub(super) fn record(fragment: &[u8]) -> Vec<u8> {
    [&[0x16, 3, 1][..], &counted16(fragment)].concat()
}

/// A message in records of `size` bytes.
pub(super) fn records(message: &[u8], size: usize) -> Vec<u8> {
    message.chunks(size).flat_map(record).collect()
}

/// The first bytes of a rustls client.
pub(super) fn rustls_hello(
    version: &'static SupportedProtocolVersion,
    name: &str,
    alpn: &[&[u8]],
) -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .expect("a version that ring knows")
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    let mut client = ClientConnection::new(Arc::new(config), name).expect("a client");
    let mut stream = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut stream).expect("memory takes bytes");
    }
    stream
}

fn counted8(content: &[u8]) -> Vec<u8> {
    let length = u8::try_from(content.len()).expect("at most 255 bytes");
    [&[length], content].concat()
}

fn counted16(content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).expect("at most 65535 bytes");
    [&length.to_be_bytes()[..], content].concat()
}
