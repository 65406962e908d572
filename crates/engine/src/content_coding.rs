//! Undoes the content codings of an answer (RFC 9110 section 8.4.1), so that real values of credentials can be
//! looked for in it (SPEC B12).
//!
//! The content comes in pieces and goes in pieces of a bounded size, which are decoded when they are wanted. The
//! memory is bounded too: by the windows of the codings, and by the number of answers whose coding has a large one.
//! Content that grows without measure ends the answer, also if it grows only between two codings. Other tasks run
//! after each [`MAX_TURN`].

mod brotli;
mod deflate;
mod windows;

use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, header};

use self::brotli::Brotli;
use self::deflate::{Deflate, Gzip};
pub(crate) use self::windows::UserWindows;
use self::windows::Window;
use crate::poll_later::poll_later;

/// Most codings of one answer.
const MAX_CODINGS: usize = 3;
/// The output of each coding may grow to this size by any factor, and beyond it by [`MAX_FACTOR`]. Both bound the
/// work of the next coding too.
const MAX_FREE_BYTES: u64 = 4 << 20;
const MAX_FACTOR: u64 = 100;
/// The elements of a coding grow like content of this size each, since even empty ones cost time. Two of them have
/// twenty bytes or more, so content of one coding never has too many.
const ELEMENT_BYTES: u64 = 256;
/// Most bytes that are decoded before other tasks run, but for the last step. The output of each coding counts.
const MAX_TURN: u64 = 256 << 10;
/// Most bytes that a step takes.
const MAX_STEP_BYTES: usize = 16 << 10;
/// A step counts as so many bytes of a turn, beside the bytes that it takes and gives.
const STEP_COST: u64 = 256;
/// Content that a coding took and that became nothing grows like so many bytes for each: blocks without content have
/// tables that cost time. No encoder writes many of them.
const FRUITLESS_FACTOR: u64 = 64;

/// A content coding. `zstd` is not among them: no well-kept decoder in Rust bounds what one block becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    Gzip,
    Deflate,
    Brotli,
}

/// The codings of an answer, in the order in which they were applied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ContentCodings(Vec<Coding>);

/// Why content cannot be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CodingError {
    #[error("the content is not in the coding that the answer names")]
    Malformed,
    #[error("the content ends within its coding")]
    Incomplete,
    #[error("the content grows without measure when it is decoded")]
    Unbounded,
    #[error("the coding of the content needs too much memory")]
    Window,
}

/// Decodes the content of one answer.
pub(crate) struct Decoder {
    /// The coding that was applied last comes first.
    stages: Vec<Stage>,
    /// The bytes that arrived.
    taken: u64,
    /// The bytes of this turn.
    turn: u64,
}

/// The result of some decoding.
#[derive(Debug, PartialEq, Eq)]
enum Pulled {
    Piece(Bytes),
    /// All content that arrived is decoded.
    NeedsMore,
    /// The turn has ended.
    Paused,
}

struct Stage {
    decoder: StageDecoder,
    /// Content that was not decoded yet.
    pending: Bytes,
    /// The bytes that it gave.
    given: u64,
    /// The bytes that it took.
    taken: u64,
    /// The most bytes that it took and had not given.
    fruitless: u64,
    /// The elements that it decoded.
    elements: u64,
    _window: Option<Window>,
}

enum StageDecoder {
    Gzip(Gzip),
    Deflate(Deflate),
    Brotli(Brotli),
}

/// The result of one step of a coding.
#[derive(Default)]
struct Step {
    piece: Bytes,
    /// The headers and ends of members that the step passed, where the coding has such elements.
    elements: u64,
}

impl ContentCodings {
    /// Reads the codings of an answer; `None` if one is unknown, or if there are too many.
    pub(crate) fn of(fields: &HeaderMap) -> Option<Self> {
        let mut codings = Vec::new();
        for value in fields.get_all(header::CONTENT_ENCODING) {
            for name in value.as_bytes().split(|&byte| byte == b',') {
                let name = name.trim_ascii().to_ascii_lowercase();
                codings.push(match &name[..] {
                    b"" | b"identity" => continue,
                    b"gzip" | b"x-gzip" => Coding::Gzip,
                    b"deflate" => Coding::Deflate,
                    b"br" => Coding::Brotli,
                    _ => return None,
                });
            }
        }
        (codings.len() <= MAX_CODINGS).then_some(Self(codings))
    }

    /// Whether the content is as it is.
    pub(crate) fn is_identity(&self) -> bool {
        self.0.is_empty()
    }
}

impl Decoder {
    /// Content that has not begun.
    ///
    /// # Errors
    ///
    /// [`CodingError::Window`] if too many answers have such a coding now, of all sessions or of this one.
    pub(crate) fn new(
        codings: &ContentCodings,
        windows: &UserWindows,
    ) -> Result<Self, CodingError> {
        let stages = codings.0.iter().rev();
        let stages = stages.map(|coding| Stage::new(*coding, windows));
        Ok(Self {
            stages: stages.collect::<Result<_, _>>()?,
            taken: 0,
            turn: 0,
        })
    }

    /// Takes the next piece. The last one must have been given as a whole.
    pub(crate) fn push(&mut self, piece: Bytes) {
        self.taken += piece.len() as u64;
        if let Some(first) = self.stages.first_mut() {
            debug_assert!(first.pending.is_empty(), "the last piece is decoded");
            first.pending = piece;
        }
    }

    /// The next decoded piece; `None` if more content is needed. Lets other tasks run after each [`MAX_TURN`].
    ///
    /// # Errors
    ///
    /// A [`CodingError`] for content that cannot be used.
    pub(crate) fn poll_piece(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Bytes>, CodingError>> {
        match self.pull() {
            Ok(Pulled::Piece(piece)) => Poll::Ready(Ok(Some(piece))),
            Ok(Pulled::NeedsMore) => Poll::Ready(Ok(None)),
            Ok(Pulled::Paused) => poll_later(cx),
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    /// Decodes until the last coding gives a piece, content is missing, or the turn ends. A turn goes on after a
    /// piece, since a client that takes small pieces at once makes no pause.
    fn pull(&mut self) -> Result<Pulled, CodingError> {
        let Some(last) = self.stages.len().checked_sub(1) else {
            return Ok(Pulled::NeedsMore);
        };
        // From the last coding back to one with content, and forward with each piece.
        let mut at = last;
        loop {
            if self.turn >= MAX_TURN {
                self.turn = 0;
                return Ok(Pulled::Paused);
            }
            let stage = &mut self.stages[at];
            let (piece, cost) = stage.step(self.taken)?;
            self.turn += cost;
            if !piece.is_empty() {
                if at == last {
                    return Ok(Pulled::Piece(piece));
                }
                at += 1;
                self.stages[at].pending = piece;
            } else if stage.pending.is_empty() {
                let Some(earlier) = at.checked_sub(1) else {
                    return Ok(Pulled::NeedsMore);
                };
                at = earlier;
            }
        }
    }

    /// Checks that the content is complete. Content of no bytes is.
    ///
    /// # Errors
    ///
    /// [`CodingError::Incomplete`] if it is not.
    pub(crate) fn finish(&mut self) -> Result<(), CodingError> {
        let mut begun = self.stages.iter_mut().filter(|stage| stage.taken > 0);
        begun.try_for_each(|stage| match &mut stage.decoder {
            StageDecoder::Gzip(gzip) => gzip.finish(),
            StageDecoder::Deflate(deflate) => deflate.finish(),
            StageDecoder::Brotli(brotli) => brotli.finish(),
        })
    }
}

impl Stage {
    fn new(coding: Coding, windows: &UserWindows) -> Result<Self, CodingError> {
        let window = match coding {
            Coding::Gzip | Coding::Deflate => None,
            Coding::Brotli => Some(windows.acquire().ok_or(CodingError::Window)?),
        };
        Ok(Self {
            decoder: match coding {
                Coding::Gzip => StageDecoder::Gzip(Gzip::new()),
                Coding::Deflate => StageDecoder::Deflate(Deflate::new()),
                Coding::Brotli => StageDecoder::Brotli(Brotli::new()),
            },
            pending: Bytes::new(),
            given: 0,
            taken: 0,
            fruitless: 0,
            elements: 0,
            _window: window,
        })
    }

    /// Decodes some of the pending content. Gives the piece, which may be empty, and the bytes that the step counts
    /// as. So many bytes arrived for the first coding.
    fn step(&mut self, arrived: u64) -> Result<(Bytes, u64), CodingError> {
        let before = self.pending.len();
        let step = match &mut self.decoder {
            StageDecoder::Gzip(gzip) => gzip.step(&mut self.pending),
            StageDecoder::Deflate(deflate) => deflate.step(&mut self.pending).map(Step::from),
            StageDecoder::Brotli(brotli) => brotli.step(&mut self.pending).map(Step::from),
        }?;
        let is_stuck = step.piece.is_empty() && before > 0 && self.pending.len() == before;
        if is_stuck {
            return Err(CodingError::Malformed);
        }
        let taken = before.saturating_sub(self.pending.len()) as u64;
        self.taken += taken;
        self.given += step.piece.len() as u64;
        self.elements += step.elements;
        let before = self.fruitless;
        self.fruitless = before.max(self.taken.saturating_sub(self.given));
        let elements = self.elements.saturating_mul(ELEMENT_BYTES);
        let fruitless = self.fruitless.saturating_mul(FRUITLESS_FACTOR);
        for grown in [self.given, elements, fruitless] {
            if grown > MAX_FREE_BYTES && grown / MAX_FACTOR > arrived {
                return Err(CodingError::Unbounded);
            }
        }
        let bytes = taken + step.piece.len() as u64;
        let fruitless = (self.fruitless - before) * FRUITLESS_FACTOR;
        let cost = STEP_COST + bytes + step.elements * ELEMENT_BYTES + fruitless;
        Ok((step.piece, cost))
    }
}

impl From<Bytes> for Step {
    fn from(piece: Bytes) -> Self {
        Self {
            piece,
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests;
