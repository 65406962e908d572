//! The framing scanner gives one verdict however the bytes arrive, and hyper never sees a complete head
//! that is flawed (SPEC H1, H4).
//!
//! The first byte is the length of the pieces in which the rest arrives.
#![no_main]

use codex_network_engine::fuzzing::scan_framing;
use libfuzzer_sys::fuzz_target;

const MAX_HEAD_BYTES: usize = 512;
const MAX_FIELDS: usize = 100;

fuzz_target!(|bytes: &[u8]| {
    let Some((&piece, stream)) = bytes.split_first() else {
        return;
    };
    let scanned = scan_framing(stream, piece.into(), MAX_HEAD_BYTES);
    assert!(scanned.accepted == stream.len() || scanned.is_flawed);
    assert!(!scanned.is_between_messages || scanned.has_had_head || scanned.accepted <= 8);

    // Where the scanner released a head, httparse (which forgives more) reads one too, and where it
    // stopped within the first head, the released bytes are no head for httparse either.
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut request = httparse::Request::new(&mut fields);
    let released = &stream[..scanned.accepted];
    let is_complete = matches!(request.parse(released), Ok(status) if status.is_complete());
    assert_eq!(is_complete, scanned.has_had_head, "{}", released.escape_ascii());
});
