//! `zstd` (RFC 8878).
//!
//! The decoder gets whole blocks. It keeps the last bytes of a frame, as many as its window has, until the frame
//! ends, so content of long frames is late. They leave it in pieces of a bounded size too.

use std::io::Read as _;

use bytes::{Buf as _, Bytes, BytesMut};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

use super::{CodingError, MAX_WINDOW_BYTES, Step};

const MAGIC: u32 = 0xfd2f_b528;
/// The first of sixteen.
const SKIPPABLE_MAGIC: u32 = 0x184d_2a50;
/// RFC 8878 section 3.1.1.2.4.
const MAX_BLOCK_BYTES: usize = 128 << 10;
const BLOCK_HEADER_BYTES: usize = 3;
const CHECKSUM_BYTES: usize = 4;
/// Most bytes that a step gives.
const PIECE_BYTES: usize = 16 << 10;

/// Decodes `zstd`, also several frames.
pub(super) struct Zstd {
    decoder: FrameDecoder,
    /// The bytes of a header or block that is incomplete.
    buffer: BytesMut,
    place: Place,
    has_checksum: bool,
}

/// The place in the content.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    BetweenFrames,
    /// In a frame to skip, of which so many bytes remain.
    Skipped(usize),
    Frame,
    /// Behind the last block of a frame, whose last bytes are still in the decoder.
    EndOfFrame,
}

/// The header of a frame (RFC 8878 section 3.1.1.1).
struct FrameHeader {
    length: usize,
    window: u64,
    has_checksum: bool,
}

impl Zstd {
    pub(super) fn new() -> Self {
        Self {
            decoder: FrameDecoder::new(),
            buffer: BytesMut::new(),
            place: Place::BetweenFrames,
            has_checksum: false,
        }
    }

    /// Decodes one element at most: the header of a frame, a block, or a frame to skip. Or it gives a piece of what is
    /// decoded.
    pub(super) fn step(&mut self, pending: &mut Bytes) -> Result<Step, CodingError> {
        if self.decoder.can_collect() > 0 {
            return self.piece().map(Step::from);
        }
        // Only as many as an element needs.
        loop {
            let wanted = match self.place {
                Place::BetweenFrames => {
                    let wanted = self.begin_frame()?;
                    if self.place == Place::Frame {
                        return Ok(element());
                    }
                    wanted
                }
                Place::Skipped(left) => {
                    let skipped = left.min(self.buffer.len());
                    self.buffer.advance(skipped);
                    let more = (left - skipped).min(pending.len());
                    pending.advance(more);
                    return match left - skipped - more {
                        0 => {
                            self.place = Place::BetweenFrames;
                            Ok(element())
                        }
                        left => {
                            self.place = Place::Skipped(left);
                            Ok(Step::default())
                        }
                    };
                }
                Place::Frame => {
                    let wanted = self.block_bytes()?;
                    if self.buffer.len() >= wanted {
                        self.block(wanted)?;
                        return Ok(Step {
                            piece: self.piece()?,
                            elements: 1,
                            kept: MAX_BLOCK_BYTES,
                        });
                    }
                    wanted
                }
                Place::EndOfFrame => return Ok(Step::default()),
            };
            let missing = wanted.saturating_sub(self.buffer.len());
            if missing == 0 {
                continue;
            }
            if pending.is_empty() {
                return Ok(Step::default());
            }
            let more = pending.split_to(missing.min(pending.len()));
            self.buffer.extend_from_slice(&more);
        }
    }

    pub(super) fn finish(&self) -> Result<(), CodingError> {
        let is_complete = self.place == Place::BetweenFrames && self.buffer.is_empty();
        is_complete.then_some(()).ok_or(CodingError::Incomplete)
    }

    /// Reads the header of a frame. Gives the bytes that are needed for a step further.
    fn begin_frame(&mut self) -> Result<usize, CodingError> {
        let Some((magic, rest)) = self.buffer.split_first_chunk::<4>() else {
            return Ok(4);
        };
        let magic = u32::from_le_bytes(*magic);
        if magic & 0xffff_fff0 == SKIPPABLE_MAGIC {
            let Some((length, _)) = rest.split_first_chunk::<4>() else {
                return Ok(8);
            };
            let length = u32::from_le_bytes(*length);
            self.buffer.advance(8);
            self.place = Place::Skipped(usize::try_from(length).unwrap_or(usize::MAX));
            return Ok(0);
        }
        if magic != MAGIC {
            return Err(CodingError::Malformed);
        }
        let Some(&descriptor) = rest.first() else {
            return Ok(5);
        };
        let length = FrameHeader::length(descriptor);
        if self.buffer.len() < length {
            return Ok(length);
        }
        let header = FrameHeader::read(&self.buffer[..length]);
        if header.window > MAX_WINDOW_BYTES {
            return Err(CodingError::Window);
        }
        let bytes = self.buffer.split_to(header.length);
        // A new one, since it keeps its memory.
        self.decoder = FrameDecoder::new();
        self.decoder
            .init(&bytes[..])
            .map_err(|_| CodingError::Malformed)?;
        self.has_checksum = header.has_checksum;
        self.place = Place::Frame;
        Ok(0)
    }

    /// The length of the next block with its header, and after the last one with the checksum (RFC 8878 section
    /// 3.1.1.2).
    fn block_bytes(&self) -> Result<usize, CodingError> {
        let &[low, middle, high, ..] = &self.buffer[..] else {
            return Ok(BLOCK_HEADER_BYTES);
        };
        let header = u32::from_le_bytes([low, middle, high, 0]);
        let size = usize::try_from(header >> 3).unwrap_or(usize::MAX);
        let content = match header >> 1 & 3 {
            _ if size > MAX_BLOCK_BYTES => return Err(CodingError::Malformed),
            0 | 2 => size,
            1 => 1,
            _ => return Err(CodingError::Malformed),
        };
        let is_last = header & 1 == 1;
        let checksum = if is_last && self.has_checksum {
            CHECKSUM_BYTES
        } else {
            0
        };
        Ok(BLOCK_HEADER_BYTES + content + checksum)
    }

    /// Decodes a whole block.
    fn block(&mut self, length: usize) -> Result<(), CodingError> {
        let block = self.buffer.split_to(length);
        let strategy = BlockDecodingStrategy::UptoBlocks(1);
        let has_ended = self
            .decoder
            .decode_blocks(&block[..], strategy)
            .map_err(|_| CodingError::Malformed)?;
        if has_ended {
            self.place = Place::EndOfFrame;
        }
        Ok(())
    }

    /// Takes decoded bytes out of the decoder. The last ones end the frame.
    fn piece(&mut self) -> Result<Bytes, CodingError> {
        let mut piece = vec![0; self.decoder.can_collect().min(PIECE_BYTES)];
        let given = self.decoder.read(&mut piece);
        piece.truncate(given.map_err(|_| CodingError::Malformed)?);
        if self.place == Place::EndOfFrame && self.decoder.can_collect() == 0 {
            self.end_frame()?;
        }
        Ok(piece.into())
    }

    /// Checks a frame whose bytes have all left the decoder, since it computes the checksum of these.
    fn end_frame(&mut self) -> Result<(), CodingError> {
        let stated = self.decoder.get_checksum_from_data();
        if stated.is_some() && stated != self.decoder.get_calculated_checksum() {
            return Err(CodingError::Malformed);
        }
        self.place = Place::BetweenFrames;
        self.decoder = FrameDecoder::new();
        Ok(())
    }
}

/// A step over an element without content.
fn element() -> Step {
    Step {
        elements: 1,
        ..Step::default()
    }
}

impl FrameHeader {
    /// The bytes of each part behind the descriptor: window, dictionary, content size.
    fn parts(descriptor: u8) -> [usize; 3] {
        let is_single = descriptor >> 5 & 1 == 1;
        let size = match descriptor >> 6 {
            0 => usize::from(is_single),
            1 => 2,
            2 => 4,
            _ => 8,
        };
        let dictionary = [0, 1, 2, 4][usize::from(descriptor & 3)];
        [usize::from(!is_single), dictionary, size]
    }

    fn length(descriptor: u8) -> usize {
        5 + Self::parts(descriptor).iter().sum::<usize>()
    }

    /// Reads a whole header.
    fn read(bytes: &[u8]) -> Self {
        let descriptor = bytes[4];
        let [window, dictionary, size] = Self::parts(descriptor);
        let window = if window == 1 {
            let exponent = u32::from(bytes[5] >> 3);
            let base = 1u64 << (10 + exponent);
            base + base / 8 * u64::from(bytes[5] & 7)
        } else {
            let mut content = [0; 8];
            content[..size].copy_from_slice(&bytes[5 + dictionary..][..size]);
            u64::from_le_bytes(content) + if size == 2 { 256 } else { 0 }
        };
        Self {
            length: bytes.len(),
            window,
            has_checksum: descriptor >> 2 & 1 == 1,
        }
    }
}
