//! The reader beside rustls' `Acceptor`: a name that both read is the same name, and a hello that
//! the reader takes apart differently arrived no differently.

use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use rustls::server::{Accepted, Acceptor};

use super::build::{Hello, alpn, extension, record, records, server_name, signature_algorithms};
use super::{Alpn, FirstBytes, captured, read, rustls_hello, trickle};

/// Ways to get past the first checks.
const BEGINNINGS: &[&[u8]] = &[
    b"",
    b"\x16\x03",
    b"\x16\x03\x01\x00\x20\x01\x00\x00\x40\x03\x03",
];

/// The hello that rustls reads; `None` if it refuses the bytes or needs more.
fn accept(mut stream: &[u8]) -> Option<Accepted> {
    let mut acceptor = Acceptor::default();
    while !stream.is_empty() {
        acceptor.read_tls(&mut stream).ok()?;
        if let Some(accepted) = acceptor.accept().ok()? {
            return Some(accepted);
        }
    }
    None
}

/// Both read the same, wherever both read.
fn compare(stream: &[u8]) -> Result<(), TestCaseError> {
    let FirstBytes::ClientHello(ours) = read(stream) else {
        return Ok(());
    };
    let Some(accepted) = accept(stream) else {
        return Ok(());
    };
    let theirs = accepted.client_hello();
    let name = theirs
        .server_name()
        .map(|name| name.strip_suffix('.').unwrap_or(name).to_owned());
    prop_assert_eq!(ours.server_name.map(|host| host.to_string()), name);
    let mut alpn = Alpn::default();
    for protocol in theirs.alpn().into_iter().flatten() {
        match protocol {
            b"h2" => alpn.h2 = true,
            b"http/1.1" => alpn.http11 = true,
            [first, second] if first == second && first & 0x0f == 0x0a => {}
            _ => alpn.other = true,
        }
    }
    prop_assert_eq!(ours.alpn, alpn);
    Ok(())
}

/// A hello that is often sound.
fn hello() -> impl Strategy<Value = Vec<u8>> {
    let name = prop_oneof![
        "[a-zA-Z0-9_-]{1,8}(\\.[a-z0-9]{1,5}){0,3}\\.?".prop_map(String::into_bytes),
        vec(any::<u8>(), 0..12),
    ];
    let extensions = prop_oneof![
        4 => name.prop_map(|name| server_name(&name)),
        2 => vec(vec(any::<u8>(), 1..9), 1..4).prop_map(|names| {
            alpn(&names.iter().map(Vec::as_slice).collect::<Vec<_>>())
        }),
        1 => Just(alpn(&[b"\x2a\x2a", b"http/1.1", b"h2"])),
        2 => (select(&[0_u16, 16, 21, 0x2a2a, 0xfe0d, 9999][..]), vec(any::<u8>(), 0..9))
            .prop_map(|(kind, content)| extension(kind, &content)),
    ];
    vec(extensions, 0..4).prop_map(|mut extensions| {
        // rustls refuses a hello without these, and then there is nothing to compare.
        extensions.push(signature_algorithms());
        Hello::new(&extensions).message()
    })
}

fn real() -> impl Strategy<Value = Vec<u8>> {
    let tls13 = &rustls::version::TLS13;
    let real: Vec<Vec<u8>> = [
        captured::openssl_tls12(),
        captured::curl(),
        captured::git_gnutls(),
        rustls_hello(tls13, "a.test", &[b"h2"]),
    ]
    .into_iter()
    .map(|stream| stream[5..].to_vec())
    .collect();
    select(real)
}

/// Messages, some bytes of which are others, in records of any lengths.
fn streams() -> impl Strategy<Value = Vec<u8>> {
    let message = prop_oneof![hello(), real()];
    let edits = vec((any::<Index>(), any::<u8>()), 0..3);
    let cuts = vec(any::<Index>(), 0..4);
    (message, edits, cuts).prop_map(|(mut message, edits, cuts)| {
        for (at, byte) in edits {
            let at = at.index(message.len());
            message[at] = byte;
        }
        let cuts: BTreeSet<usize> = cuts.iter().map(|cut| cut.index(message.len())).collect();
        let (mut stream, mut begin) = (Vec::new(), 0);
        for end in cuts.into_iter().filter(|cut| *cut > 0) {
            stream.extend(record(&message[begin..end]));
            begin = end;
        }
        stream.extend(record(&message[begin..]));
        stream
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn m2_rustls_reads_the_same_name(stream in streams()) {
        compare(&stream)?;
        prop_assert_eq!(trickle(&stream).0, read(&stream));
    }

    #[test]
    fn m2_no_bytes_panic(
        mut bytes in vec(any::<u8>(), 0..300),
        begin in select(BEGINNINGS),
    ) {
        bytes.splice(..0, begin.iter().copied());
        prop_assert_eq!(trickle(&bytes).0, read(&bytes));
        compare(&bytes)?;
    }
}

#[test]
fn m2_rustls_accepts_the_real_hellos_that_the_reader_accepts() {
    for stream in [
        captured::openssl_tls12(),
        captured::curl(),
        captured::git_gnutls(),
    ] {
        compare(&stream).expect("the same");
        for size in [1, 100] {
            let cut = records(&stream[5..], size);
            let accepted = accept(&cut).expect("rustls joins records");
            assert!(accepted.client_hello().server_name().is_some());
            compare(&cut).expect("the same");
        }
    }
}
