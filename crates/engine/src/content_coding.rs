//! Undoes the content codings of an answer (RFC 9110 section 8.4.1), so that real values of credentials can be
//! looked for in it (SPEC B12).
//!
//! The content comes in pieces and goes in pieces of a bounded size, which are decoded when they are wanted. The
//! memory is bounded too: by the windows of the codings, and by the number of answers whose coding has a large one.
//! Content that grows without measure ends the answer.

mod brotli;
mod deflate;
mod zstd;

use bytes::Bytes;
use http::{HeaderMap, header};
use tokio::sync::{Semaphore, SemaphorePermit};

use self::brotli::Brotli;
use self::deflate::{Deflate, Gzip};
use self::zstd::Zstd;

/// Most codings of one answer.
const MAX_CODINGS: usize = 3;
/// Content may grow to this size by any factor, and beyond it by [`MAX_FACTOR`].
const MAX_FREE_BYTES: u64 = 4 << 20;
const MAX_FACTOR: u64 = 100;
/// The largest window of a coding, in bytes (RFC 8878 section 3.1.1.1.2, RFC 9659).
const MAX_WINDOW_BYTES: u64 = 8 << 20;
/// Most answers at the same time whose coding may have a window of more than 32 KiB.
const MAX_LARGE_WINDOWS: usize = 16;

static LARGE_WINDOWS: Semaphore = Semaphore::const_new(MAX_LARGE_WINDOWS);

/// A content coding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    Gzip,
    Deflate,
    Brotli,
    Zstd,
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
    taken: u64,
    given: u64,
}

struct Stage {
    decoder: StageDecoder,
    /// Content that was not decoded yet.
    pending: Bytes,
    has_begun: bool,
    _window: Option<SemaphorePermit<'static>>,
}

enum StageDecoder {
    Gzip(Gzip),
    Deflate(Deflate),
    Brotli(Brotli),
    Zstd(Box<Zstd>),
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
                    b"zstd" => Coding::Zstd,
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
    /// [`CodingError::Window`] if too many answers have such a coding now.
    pub(crate) fn new(codings: &ContentCodings) -> Result<Self, CodingError> {
        let stages = codings.0.iter().rev().map(|coding| Stage::new(*coding));
        Ok(Self {
            stages: stages.collect::<Result<_, _>>()?,
            taken: 0,
            given: 0,
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

    /// The next decoded piece; `None` if more content is needed.
    ///
    /// # Errors
    ///
    /// A [`CodingError`] for content that cannot be used.
    pub(crate) fn pull(&mut self) -> Result<Option<Bytes>, CodingError> {
        let piece = pull(&mut self.stages)?;
        if let Some(piece) = &piece {
            self.given += piece.len() as u64;
            if self.given > MAX_FREE_BYTES && self.given / MAX_FACTOR > self.taken {
                return Err(CodingError::Unbounded);
            }
        }
        Ok(piece)
    }

    /// Checks that the content is complete. Content of no bytes is.
    ///
    /// # Errors
    ///
    /// [`CodingError::Incomplete`] if it is not.
    pub(crate) fn finish(&mut self) -> Result<(), CodingError> {
        let mut begun = self.stages.iter_mut().filter(|stage| stage.has_begun);
        begun.try_for_each(|stage| match &mut stage.decoder {
            StageDecoder::Gzip(gzip) => gzip.finish(),
            StageDecoder::Deflate(deflate) => deflate.finish(),
            StageDecoder::Brotli(brotli) => brotli.finish(),
            StageDecoder::Zstd(zstd) => zstd.finish(),
        })
    }
}

/// The next piece that the last of these stages gives.
fn pull(stages: &mut [Stage]) -> Result<Option<Bytes>, CodingError> {
    let Some((last, earlier)) = stages.split_last_mut() else {
        return Ok(None);
    };
    loop {
        let piece = last.step()?;
        if !piece.is_empty() {
            return Ok(Some(piece));
        }
        if last.pending.is_empty() {
            let Some(piece) = pull(earlier)? else {
                return Ok(None);
            };
            last.pending = piece;
        }
    }
}

impl Stage {
    fn new(coding: Coding) -> Result<Self, CodingError> {
        let window = match coding {
            Coding::Gzip | Coding::Deflate => None,
            Coding::Brotli | Coding::Zstd => {
                let permit = LARGE_WINDOWS.try_acquire();
                Some(permit.map_err(|_| CodingError::Window)?)
            }
        };
        Ok(Self {
            decoder: match coding {
                Coding::Gzip => StageDecoder::Gzip(Gzip::new()),
                Coding::Deflate => StageDecoder::Deflate(Deflate::new()),
                Coding::Brotli => StageDecoder::Brotli(Brotli::new()),
                Coding::Zstd => StageDecoder::Zstd(Box::new(Zstd::new())),
            },
            pending: Bytes::new(),
            has_begun: false,
            _window: window,
        })
    }

    /// Decodes some of the pending content. Gives nothing only if all of it is taken.
    fn step(&mut self) -> Result<Bytes, CodingError> {
        loop {
            let before = self.pending.len();
            self.has_begun |= before > 0;
            let piece = match &mut self.decoder {
                StageDecoder::Gzip(gzip) => gzip.step(&mut self.pending),
                StageDecoder::Deflate(deflate) => deflate.step(&mut self.pending),
                StageDecoder::Brotli(brotli) => brotli.step(&mut self.pending),
                StageDecoder::Zstd(zstd) => zstd.step(&mut self.pending),
            }?;
            if !piece.is_empty() || self.pending.is_empty() {
                return Ok(piece);
            }
            if self.pending.len() == before {
                return Err(CodingError::Malformed);
            }
        }
    }
}

#[cfg(test)]
mod tests;
