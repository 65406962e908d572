//! Entry points for the fuzz targets in `tests/fuzz`: the parsers of this crate that have no public face.
//!
//! Compiled only by `cargo fuzz`, which sets `cfg(fuzzing)`. Each function checks the properties that hold
//! for any bytes, and panics where one does not hold.

use crate::http::framing::{Framing, Position};
use crate::socks5::handshake::{Flaw, Parsed, greeting, request, user_name};

/// What the framing scanner says about a stream (SPEC H4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scanned {
    /// How many leading bytes it releases.
    pub accepted: usize,
    /// Whether it found a flaw in the byte after them.
    pub is_flawed: bool,
    /// Whether a whole head has been released.
    pub has_had_head: bool,
    /// Whether the stream may end here without loss.
    pub is_between_messages: bool,
}

/// Scans a stream in pieces of this length.
///
/// # Panics
///
/// When bytes are accepted after a flaw, or when the pieces change the verdict.
pub fn scan_framing(stream: &[u8], piece: usize, max_head_bytes: usize) -> Scanned {
    let whole = scan_pieces(std::iter::once(stream), max_head_bytes);
    let pieces = scan_pieces(stream.chunks(piece.max(1)), max_head_bytes);
    assert_eq!(whole, pieces, "in pieces of {piece}");
    whole
}

fn scan_pieces<'a>(pieces: impl Iterator<Item = &'a [u8]>, max_head_bytes: usize) -> Scanned {
    let mut framing = Framing::new(max_head_bytes);
    let mut accepted = 0;
    let mut flaw = None;
    for piece in pieces {
        match framing.scan(piece) {
            Ok(()) => {
                assert!(flaw.is_none(), "accepted after a flaw");
                accepted += piece.len();
            }
            Err(cut) if flaw.is_none() => {
                assert!(cut.accepted < piece.len(), "{cut:?}");
                accepted += cut.accepted;
                flaw = Some(cut.flaw);
            }
            Err(cut) => assert_eq!((cut.accepted, Some(cut.flaw)), (0, flaw)),
        }
    }
    Scanned {
        accepted,
        is_flawed: flaw.is_some(),
        has_had_head: framing.has_had_head(),
        is_between_messages: framing.position() == Position::BetweenMessages,
    }
}

/// Reads bytes as each of the three messages of a SOCKS5 client (SPEC S1).
///
/// # Panics
///
/// When a prefix of a whole message is not incomplete, or when what follows a message changes it.
pub fn read_socks5(bytes: &[u8]) {
    read_message(greeting, bytes);
    read_message(user_name, bytes);
    read_message(request, bytes);
}

fn read_message<T>(parse: fn(&[u8]) -> Result<Parsed<T>, Flaw>, bytes: &[u8])
where
    T: std::fmt::Debug + PartialEq,
{
    match parse(bytes) {
        Ok(Parsed::Complete(message, length)) => {
            for end in 0..length {
                assert_eq!(parse(&bytes[..end]), Ok(Parsed::Incomplete), "up to {end}");
            }
            let alone = parse(&bytes[..length]);
            assert_eq!(alone, Ok(Parsed::Complete(message, length)));
        }
        // A message has at most 262 bytes.
        Ok(Parsed::Incomplete) => assert!(bytes.len() < 262),
        Err(flaw) => {
            let mut longer = bytes.to_vec();
            longer.push(0);
            assert_eq!(parse(&longer).err(), Some(flaw), "what follows is not looked at");
        }
    }
}
