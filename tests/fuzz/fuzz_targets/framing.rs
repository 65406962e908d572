//! The bytes of a client are framed in the same way however they are split, and a strict reader
//! reads every whole head that passes in the same way (SPEC H4).
#![no_main]

// Private to the engine, so compiled here; formatted there.
#[rustfmt::skip]
#[path = "../../../crates/engine/src/http"]
mod http {
    #[expect(dead_code, reason = "the proxy shows the error; the target does not")]
    pub(crate) mod framing;
}

#[rustfmt::skip]
#[path = "../../../crates/engine/src/http_bytes.rs"]
mod http_bytes;

#[rustfmt::skip]
#[path = "../../../crates/engine/src/client_protocol.rs"]
mod client_protocol;

use self::http::framing::{Framing, FramingError, Position};
use libfuzzer_sys::fuzz_target;

const MAX_HEAD_BYTES: usize = 512;

fuzz_target!(|input: &[u8]| {
    let Some((&cut, stream)) = input.split_first() else {
        return;
    };
    let (whole, position) = scan(stream, stream.len().max(1));
    assert_eq!((whole, position), scan(stream, usize::from(cut).max(1)));
    let (accepted, error) = whole;
    // The accepted bytes are sound by themselves, and the next byte is not.
    assert_eq!(scan(&stream[..accepted], 1).0, (accepted, None));
    if error.is_some() {
        assert!(accepted < stream.len());
        assert_eq!(scan(&stream[..=accepted], 1).0, (accepted, error));
    }
    // Heads have lines that end in CR LF, and no bare CR or LF, before any content.
    let head = stream[..accepted].windows(4).position(|end| end == b"\r\n\r\n");
    if let Some(end) = head {
        let head = &stream[..end + 4];
        let (ends, bare) = (count(head, b"\r\n"), head.iter().filter(|byte| **byte == b'\n'));
        assert_eq!(ends, bare.count());
        assert_eq!(ends, head.iter().filter(|byte| **byte == b'\r').count());
    } else {
        assert!(matches!(position, Position::InHead | Position::BetweenMessages));
    }
    resumes_only_behind_a_connect(stream);
});

/// After the refusal of a CONNECT the next request begins directly behind its head, or not at all. It is
/// checked as the first one of a connection is.
fn resumes_only_behind_a_connect(stream: &[u8]) {
    let mut framing = Framing::new(MAX_HEAD_BYTES);
    for (at, byte) in stream.iter().enumerate() {
        if framing.scan(&[*byte]).is_err() {
            return;
        }
        if framing.is_at_connect_end() {
            assert_eq!(framing.position(), Position::Opaque);
            assert!(stream[..=at].ends_with(b"\r\n\r\n"));
            let behind = &stream[at + 1..];
            let mut late = Framing::new(MAX_HEAD_BYTES);
            assert_eq!(late.scan(stream), Ok(()));
            assert_eq!(late.resume(), behind.is_empty());
            assert!(framing.resume());
            assert_eq!(framing.scan(behind), Framing::new(MAX_HEAD_BYTES).scan(behind));
            return;
        }
        assert!(!framing.resume());
    }
}

/// The accepted bytes of a stream in parts of this size, the parse error after them, and the position of
/// the stream.
fn scan(stream: &[u8], part: usize) -> ((usize, Option<FramingError>), Position) {
    let mut framing = Framing::new(MAX_HEAD_BYTES);
    let mut accepted = 0;
    for part in stream.chunks(part) {
        match framing.scan(part) {
            Ok(()) => accepted += part.len(),
            Err(rejected) => {
                accepted += rejected.accepted;
                return ((accepted, Some(rejected.error)), framing.position());
            }
        }
    }
    ((accepted, None), framing.position())
}

fn count(bytes: &[u8], of: &[u8]) -> usize {
    bytes.windows(of.len()).filter(|window| *window == of).count()
}
