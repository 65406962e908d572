//! Any bytes are a `ClientHello` or not, however they are split, and rustls reads the same name
//! (SPEC M2).
#![no_main]

// Private to the engine, so compiled here; formatted there.
#[rustfmt::skip]
#[path = "../../../crates/engine/src/client_hello.rs"]
mod client_hello;

use client_hello::{ClientHelloReader, FirstBytes};
use libfuzzer_sys::fuzz_target;
use rustls::server::Acceptor;

fuzz_target!(|stream: &[u8]| {
    let verdict = ClientHelloReader::new().feed(stream);
    let mut reader = ClientHelloReader::new();
    let trickled = (0..=stream.len())
        .map(|end| reader.feed(&stream[..end]))
        .find(|verdict| *verdict != FirstBytes::Undecided)
        .unwrap_or(FirstBytes::Undecided);
    assert_eq!(verdict, trickled);
    if let FirstBytes::ClientHello(ours) = verdict
        && let Some(name) = name_by_rustls(stream)
    {
        let name = name.map(|name| name.strip_suffix('.').unwrap_or(&name).to_owned());
        assert_eq!(ours.server_name.map(|host| host.to_string()), name);
    }
});

/// The name that rustls reads; `None` if it reads no hello.
fn name_by_rustls(mut stream: &[u8]) -> Option<Option<String>> {
    let mut acceptor = Acceptor::default();
    while !stream.is_empty() {
        acceptor.read_tls(&mut stream).ok()?;
        if let Some(accepted) = acceptor.accept().ok()? {
            return Some(accepted.client_hello().server_name().map(str::to_owned));
        }
    }
    None
}
