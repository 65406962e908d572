//! `br` (RFC 7932).

use brotli_decompressor::{BrotliDecompressStream, BrotliResult, BrotliState, StandardAlloc};
use bytes::{Buf as _, Bytes};

use super::{CodingError, MAX_STEP_BYTES};

/// Most bytes that a step gives.
const PIECE_BYTES: usize = 16 << 10;
/// The first four bits of content whose window has more than 4 MiB (RFC 7932 section 9.1). Encoders use them only
/// when they are told to.
const LARGE_WINDOWS: [u8; 2] = [0x0d, 0x0f];

type State = BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>;

/// Decodes `br`.
pub(super) struct Brotli {
    state: Box<State>,
    has_begun: bool,
    has_ended: bool,
}

impl Brotli {
    pub(super) fn new() -> Self {
        let alloc = StandardAlloc::default;
        Self {
            state: Box::new(BrotliState::new_strict(alloc(), alloc(), alloc())),
            has_begun: false,
            has_ended: false,
        }
    }

    pub(super) fn step(&mut self, pending: &mut Bytes) -> Result<Bytes, CodingError> {
        if let (false, Some(first)) = (self.has_begun, pending.first()) {
            self.has_begun = true;
            if LARGE_WINDOWS.contains(&(first & 0x0f)) {
                return Err(CodingError::Window);
            }
        }
        if self.has_ended {
            return Ok(Bytes::new());
        }
        let mut piece = vec![0; PIECE_BYTES];
        let (mut available, mut taken) = (pending.len().min(MAX_STEP_BYTES), 0);
        let (mut room, mut given, mut total) = (piece.len(), 0, 0);
        let result = BrotliDecompressStream(
            &mut available,
            &mut taken,
            pending,
            &mut room,
            &mut given,
            &mut piece,
            &mut total,
            &mut self.state,
        );
        match result {
            BrotliResult::ResultFailure => return Err(CodingError::Malformed),
            BrotliResult::ResultSuccess => self.has_ended = true,
            BrotliResult::NeedsMoreInput | BrotliResult::NeedsMoreOutput => {}
        }
        pending.advance(taken);
        piece.truncate(given);
        Ok(piece.into())
    }

    pub(super) fn finish(&self) -> Result<(), CodingError> {
        self.has_ended.then_some(()).ok_or(CodingError::Incomplete)
    }
}
