//! Any bytes are an upstream proxy's answer to CONNECT or not, however they are split (SPEC H12).
#![no_main]

// Private to the engine, so compiled here; formatted there.
#[rustfmt::skip]
#[path = "../../../crates/engine/src/upstream/connect_answer.rs"]
mod connect_answer;

use connect_answer::{Parsed, Reader};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|stream: &[u8]| {
    let whole = Reader::default().feed(stream);
    let mut reader = Reader::default();
    let trickled = (0..=stream.len())
        .map(|end| reader.feed(&stream[..end]))
        .find(|parsed| *parsed != Ok(Parsed::Incomplete))
        .unwrap_or(Ok(Parsed::Incomplete));
    assert_eq!(whole, trickled);
    if let Ok(Parsed::Complete(answer)) = whole {
        assert!((200..1000).contains(&answer.status));
        assert!(stream[..answer.length].ends_with(b"\r\n\r\n"));
    }
});
