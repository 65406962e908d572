//! The CA's key is in the monitor's memory and nowhere in the worker's (SPEC M4).

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;

use super::{daemon_in, init};

/// The order of the group of P-256, most significant byte first (FIPS 186-4, D.1.2.3).
const ORDER: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0xbc, 0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
];

/// Twice a number, modulo the order.
fn doubled(number: [u8; 32]) -> [u8; 32] {
    let mut twice = [0; 32];
    let mut carry = 0;
    for (twice, byte) in twice.iter_mut().zip(number).rev() {
        *twice = byte << 1 | carry;
        carry = byte >> 7;
    }
    if carry == 0 && twice < ORDER {
        return twice;
    }
    let mut borrow = false;
    for (twice, order) in twice.iter_mut().zip(ORDER).rev() {
        let (difference, first) = twice.overflowing_sub(order);
        let (difference, second) = difference.overflowing_sub(borrow.into());
        *twice = difference;
        borrow = first || second;
    }
    twice
}

/// The forms in which a key may be in memory: the number in both byte orders, the number times
/// 2^256, as arithmetic modulo the order stores it (Montgomery), and the file's text.
fn forms(pem: &str) -> Vec<(&'static str, Vec<u8>)> {
    let key = PrivateKeyDer::from_pem_slice(pem.as_bytes()).expect("a key");
    let der = key.secret_der();
    // RFC 5915: the scalar is the octet string of 32 bytes.
    let at = der
        .windows(2)
        .position(|window| window == [0x04, 0x20])
        .expect("a scalar")
        + 2;
    let scalar: [u8; 32] = der[at..at + 32].try_into().expect("32 bytes");
    let montgomery = (0..256).fold(scalar, |number, _| doubled(number));
    let reversed = |number: [u8; 32]| number.into_iter().rev().collect();
    // The first line holds the algorithm alone; the second has most of the key.
    let line = pem.lines().nth(1).expect("a line");
    vec![
        ("big-endian", scalar.to_vec()),
        ("little-endian", reversed(scalar)),
        ("Montgomery, big-endian", montgomery.to_vec()),
        ("Montgomery, little-endian", reversed(montgomery)),
        ("PEM", line.as_bytes()[40..].to_vec()),
    ]
}

/// Which of the forms are in a process's memory; `None` if the system does not permit reading it.
fn found(pid: u32, forms: &[(&'static str, Vec<u8>)]) -> Option<Vec<&'static str>> {
    let process = PathBuf::from("/proc").join(pid.to_string());
    let memory = match File::open(process.join("mem")) {
        Ok(memory) => memory,
        // Without privilege no process may read one that cannot be dumped, which is correct.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return None,
        Err(error) => panic!("{error}"),
    };
    let maps = std::fs::read_to_string(process.join("maps")).expect("its map");
    let mut found = Vec::new();
    let mut read = 0;
    for line in maps.lines() {
        let mut words = line.split_whitespace();
        let range = words.next().expect("a range");
        if !words.next().is_some_and(|rights| rights.starts_with('r')) {
            continue;
        }
        let (from, to) = range.split_once('-').expect("a range");
        let number = |text: &str| u64::from_str_radix(text, 16).expect("an address");
        let (from, to) = (number(from), number(to));
        let mut bytes = vec![0; usize::try_from(to - from).expect("it fits")];
        // Some ranges of the kernel's own cannot be read.
        if memory.read_exact_at(&mut bytes, from).is_err() {
            continue;
        }
        read += bytes.len();
        for (form, bytes_of_it) in forms {
            let first = bytes_of_it[0];
            let mut rest = &bytes[..];
            while let Some(at) = rest.iter().position(|byte| *byte == first) {
                rest = &rest[at..];
                if rest.starts_with(bytes_of_it) {
                    found.push(*form);
                    break;
                }
                rest = &rest[1..];
            }
        }
    }
    assert!(
        read > 1 << 20,
        "hardly anything was looked at: {read} bytes"
    );
    Some(found)
}

#[test]
fn m4_the_cas_key_is_in_the_monitors_memory_and_not_in_the_workers() {
    let directory = tempfile::tempdir().expect("a directory");
    init(directory.path()).succeeded();
    let pem = std::fs::read_to_string(directory.path().join("ca.key")).expect("the key");
    let forms = forms(&pem);
    let daemon = daemon_in(directory.path());
    // A reload must not leave copies of the key either.
    assert_eq!(daemon.reload().status, 200);
    let monitor = found(daemon.pid(), &forms);
    assert!(
        monitor.as_ref().is_none_or(|found| !found.is_empty()),
        "the scan finds what is there"
    );
    let worker = found(daemon.worker(), &forms);
    assert_eq!(worker.unwrap_or_default(), [""; 0], "monitor: {monitor:?}");
    let monitor = monitor.unwrap_or_default();
    assert!(
        !monitor.contains(&"PEM"),
        "the monitor never sees the file: {monitor:?}"
    );
}
