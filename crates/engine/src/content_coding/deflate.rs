//! `gzip` (RFC 1952) and `deflate`, which is zlib (RFC 1950) or, from some servers, the bare data of RFC 1951.

use std::io::Write as _;

use bytes::{Buf as _, Bytes, BytesMut};
use flate2::write::MultiGzDecoder;
use flate2::{Decompress, FlushDecompress, Status};

use super::{CodingError, MAX_STEP_BYTES, Step};

/// The bytes that are taken at once. They become at most a thousand times as many.
const PART_BYTES: usize = 256;
/// Most bytes that a step gives.
const PIECE_BYTES: usize = 16 << 10;

/// Decodes `gzip`, also several members.
pub(super) struct Gzip(MultiGzDecoder<Vec<u8>>);

impl Gzip {
    pub(super) fn new() -> Self {
        Self(MultiGzDecoder::new(Vec::new()))
    }

    pub(super) fn step(&mut self, pending: &mut Bytes) -> Result<Step, CodingError> {
        let (mut taken, mut elements) = (0, 0);
        while !pending.is_empty() && taken < MAX_STEP_BYTES && self.0.get_ref().len() < PIECE_BYTES
        {
            let part = &pending[..pending.len().min(PART_BYTES)];
            let written = self.0.write(part).map_err(|_| CodingError::Malformed)?;
            self.0.flush().map_err(|_| CodingError::Malformed)?;
            if written == 0 {
                return Err(CodingError::Malformed);
            }
            // The decoder stops behind the header and behind the end of a member.
            elements += u64::from(written < part.len());
            pending.advance(written);
            taken += written;
        }
        Ok(Step {
            piece: std::mem::take(self.0.get_mut()).into(),
            elements,
        })
    }

    pub(super) fn finish(&mut self) -> Result<(), CodingError> {
        self.0.try_finish().map_err(|_| CodingError::Incomplete)?;
        match self.0.get_ref().as_slice() {
            [] => Ok(()),
            _ => Err(CodingError::Malformed),
        }
    }
}

/// Decodes `deflate`.
pub(super) struct Deflate {
    /// The first bytes, until the form is known.
    begun: BytesMut,
    decoder: Option<Decompress>,
    has_ended: bool,
}

impl Deflate {
    pub(super) fn new() -> Self {
        Self {
            begun: BytesMut::new(),
            decoder: None,
            has_ended: false,
        }
    }

    pub(super) fn step(&mut self, pending: &mut Bytes) -> Result<Bytes, CodingError> {
        if self.decoder.is_none() {
            self.begun
                .extend_from_slice(&pending.split_to(pending.len().min(2)));
            let &[method, flags, ..] = &self.begun[..] else {
                return Ok(Bytes::new());
            };
            // RFC 1950 section 2.2.
            let is_zlib = method & 0x0f == 8 && u16::from_be_bytes([method, flags]) % 31 == 0;
            self.decoder = Some(Decompress::new(is_zlib));
            self.begun.extend_from_slice(pending);
            *pending = self.begun.split().freeze();
        }
        let Some(decoder) = self.decoder.as_mut().filter(|_| !self.has_ended) else {
            return Ok(Bytes::new());
        };
        let mut piece = Vec::with_capacity(PIECE_BYTES);
        let before = decoder.total_in();
        let part = &pending[..pending.len().min(MAX_STEP_BYTES)];
        let status = decoder
            .decompress_vec(part, &mut piece, FlushDecompress::None)
            .map_err(|_| CodingError::Malformed)?;
        self.has_ended = status == Status::StreamEnd;
        let taken = usize::try_from(decoder.total_in() - before).unwrap_or(pending.len());
        pending.advance(taken);
        Ok(piece.into())
    }

    pub(super) fn finish(&self) -> Result<(), CodingError> {
        self.has_ended.then_some(()).ok_or(CodingError::Incomplete)
    }
}
