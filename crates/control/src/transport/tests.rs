//! No copy of a credential stays in this process's memory after its frame (SPEC B4).

use std::fs::File;
use std::future::poll_fn;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::FileExt as _;

use tokio::net::UnixStream;

use super::*;
use crate::carrier::ControlStream;
use crate::message::{CredentialValue, GivenCredentials, SessionRequest};

/// The length of a value. The values together are longer than a buffer for reading.
const VALUE_BYTES: usize = 400;
const VALUES: usize = 64;

/// A byte of the values of a test. They are nowhere in the program as they are.
fn byte_of_value(seed: usize, index: usize) -> u8 {
    b'a' + u8::try_from((index * index + seed * index + 3) % 26).expect("a letter")
}

fn request(seed: usize) -> ClientMessage<ControlRequest> {
    let value = || {
        let mut value = String::with_capacity(VALUE_BYTES);
        value.extend((0..VALUE_BYTES).map(|index| char::from(byte_of_value(seed, index))));
        CredentialValue::new(value)
    };
    let values = (0..VALUES).map(|number| (format!("KEY_{number}"), value()));
    let request = SessionRequest {
        credentials: GivenCredentials {
            values: values.collect(),
            ..GivenCredentials::default()
        },
        ..SessionRequest::default()
    };
    let message = ControlRequest::OpenSession { request };
    ClientMessage::Request(Request {
        context: tarpc::context::current(),
        id: 1,
        message,
    })
}

/// How often a long part of a value is in the memory of this process that it can write.
fn found_in_memory(seed: usize) -> usize {
    const PART: usize = 64;
    let maps = File::open("/proc/self/maps").expect("the maps");
    let memory = File::open("/proc/self/mem").expect("the memory");
    let (mut found, mut buffer) = (0, vec![0; 1 << 16]);
    for line in BufReader::new(maps).lines() {
        let line = line.expect("a line");
        let (range, rest) = line.split_once(' ').expect("a range");
        if !rest.starts_with("rw") {
            continue;
        }
        let ends = range.split('-');
        let ends = ends.map(|end| u64::from_str_radix(end, 16).expect("an address"));
        let [start, end] = ends.collect::<Vec<_>>()[..] else {
            panic!("{range}");
        };
        let mut at = start;
        while at < end {
            let Ok(read @ 1..) = memory.read_at(&mut buffer, at) else {
                break;
            };
            let windows = buffer[..read].windows(PART);
            let is_part = |window: &[u8]| {
                let mut bytes = window.iter().enumerate();
                // The middle of a value: the allocator may have written over the ends.
                bytes.all(|(index, byte)| *byte == byte_of_value(seed, 100 + index))
            };
            found += windows.filter(|window| is_part(window)).count();
            // The buffer has a copy, which must not be found again.
            buffer.as_mut_slice().zeroize();
            at += read as u64;
        }
    }
    found
}

#[tokio::test]
async fn b4_no_copy_of_a_credential_is_left_in_memory_after_its_frame() {
    let (ours, theirs) = UnixStream::pair().expect("a pair");
    let mut caller = caller_side(ControlStream::from(ours));
    let mut daemon = daemon_side(ControlStream::from(theirs));
    let send = async {
        poll_fn(|cx| Pin::new(&mut caller).poll_ready(cx)).await?;
        Pin::new(&mut caller).start_send(request(7))?;
        poll_fn(|cx| Pin::new(&mut caller).poll_flush(cx)).await
    };
    let receive = poll_fn(|cx| Pin::new(&mut daemon).poll_next(cx));
    let (result, received) = tokio::join!(send, receive);
    result.expect("it is sent");
    let received = received.expect("a message").expect("a message");
    assert!(found_in_memory(7) >= VALUES, "the search finds the message");
    drop(received);
    assert_eq!(found_in_memory(7), 0, "with both connections open");
}

#[tokio::test]
async fn b4_no_copy_of_a_credential_is_left_of_half_a_frame() {
    let (ours, theirs) = UnixStream::pair().expect("a pair");
    let mut caller = caller_side(ControlStream::from(ours));
    Pin::new(&mut caller)
        .start_send(request(9))
        .expect("it is taken");
    assert!(found_in_memory(9) >= VALUES, "the search finds the frame");
    drop((caller, theirs));
    assert_eq!(found_in_memory(9), 0);
}
