//! Limits the work that the peer of an HTTP/2 connection can cause at no cost to itself (RFC 9113 section
//! 10.5).
//!
//! Frames that carry no part of a message are cheap to send, and this side must read, apply and
//! often answer them: `PING`, `SETTINGS`, `WINDOW_UPDATE`, `PRIORITY`, `RST_STREAM`, unknown ones,
//! header sections without an end, interim answers without end. A peer pays for them with credit.
//! It earns credit with time and with the messages that this side sends. h2 bounds the memory that
//! such frames can occupy; this module bounds their number.

mod meter;
mod scanner;

use std::time::Instant;

pub(crate) use meter::{FrameMeter, Side};
use scanner::FrameHead;

/// Largest credit of a peer, and its credit at the start.
const MAX_CREDIT: u32 = 10_000;
/// Credit per second. With [`RESET_COST`] it is 33 resets, the default of nghttp2.
const CREDIT_PER_SECOND: u32 = 330;
/// Cost of a reset. The request that it ends may already be on its way upstream.
const RESET_COST: u32 = 10;
/// Credit for each header section that this side sends. The peer may answer it with several frames:
/// interim answers, trailers, priorities, windows.
const HEADERS_GAIN: u32 = 16;
/// Credit for each DATA frame that this side sends, and for each KiB of it: the peer opens its
/// windows again, and measures the path with PING.
const DATA_GAIN: u32 = 4;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;

/// The peer has no credit left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many HTTP/2 frames that carry no part of a message")]
pub(crate) struct Flood;

/// The credit of one peer.
#[derive(Debug)]
struct Credit {
    left: u32,
    /// When credit was last added for time.
    credited: Instant,
}

impl Credit {
    fn new(now: Instant) -> Self {
        Self {
            left: MAX_CREDIT,
            credited: now,
        }
    }

    /// Charges the peer for a frame that was read. `now` is called only when the credit is used up.
    fn read(&mut self, frame: FrameHead, now: impl FnOnce() -> Instant) -> Result<(), Flood> {
        let cost = match frame.kind {
            // h2 itself limits small ones.
            DATA if frame.length > 0 => return Ok(()),
            DATA | HEADERS => 1,
            RST_STREAM => RESET_COST,
            _ => 1 + frame.length / 1024,
        };
        if self.left < cost {
            let now = now();
            let passed = now.saturating_duration_since(self.credited).as_millis();
            let gain = passed.saturating_mul(u128::from(CREDIT_PER_SECOND)) / 1000;
            self.credited = now;
            self.gain(u32::try_from(gain).unwrap_or(u32::MAX));
        }
        self.left = self.left.checked_sub(cost).ok_or(Flood)?;
        Ok(())
    }

    /// Credits the peer for a frame that was sent to it.
    fn written(&mut self, frame: FrameHead) {
        match frame.kind {
            DATA if frame.length > 0 => self.gain(DATA_GAIN + frame.length / 1024),
            HEADERS => self.gain(HEADERS_GAIN),
            _ => {}
        }
    }

    fn gain(&mut self, gain: u32) {
        self.left = self.left.saturating_add(gain).min(MAX_CREDIT);
    }
}

/// Whether a frame carries a part of a message.
fn carries_message(frame: FrameHead) -> bool {
    frame.kind == HEADERS || (frame.kind == DATA && frame.length > 0)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn frame(kind: u8, length: u32) -> FrameHead {
        FrameHead {
            kind,
            length,
            stream: 1,
        }
    }

    /// How many of these frames a peer may send at once.
    fn most(credit: &mut Credit, frame: FrameHead, now: Instant) -> usize {
        (0..1_000_000)
            .take_while(|_| credit.read(frame, || now).is_ok())
            .count()
    }

    #[test]
    fn m6_frames_that_carry_nothing_are_bounded_and_time_gives_some_again() {
        for (kind, length, wanted, later) in [
            (6, 8, 10_000, 330),
            (4, 0, 10_000, 330),
            (4, 6000, 1666, 55),
            (8, 4, 10_000, 330),
            (2, 5, 10_000, 330),
            (0xbe, 16_384, 588, 19),
            (RST_STREAM, 4, 1000, 33),
            (DATA, 0, 10_000, 330),
            (9, 0, 10_000, 330),
        ] {
            let start = Instant::now();
            let mut credit = Credit::new(start);
            let frame = frame(kind, length);
            assert_eq!(most(&mut credit, frame, start), wanted, "{kind}");
            credit.left = 0;
            let now = start + Duration::from_secs(1);
            assert_eq!(most(&mut credit, frame, now), later, "{kind}");
        }
    }

    #[test]
    fn m6_the_frames_of_a_message_are_free() {
        let now = Instant::now();
        let mut credit = Credit::new(now);
        for _ in 0..100_000 {
            // A request, its answer, and the client's frames for them.
            for (kind, length) in [(HEADERS, 50), (DATA, 0), (8, 4), (8, 4), (6, 8), (2, 5)] {
                assert_eq!(credit.read(frame(kind, length), || now), Ok(()));
            }
            credit.written(frame(HEADERS, 20));
            credit.written(frame(DATA, 16_384));
        }
        for _ in 0..100_000 {
            assert_eq!(
                credit.read(frame(DATA, 16_384), || now),
                Ok(()),
                "an upload"
            );
        }
    }

    #[test]
    fn m6_requests_that_are_reset_before_their_answer_are_bounded() {
        let now = Instant::now();
        let mut credit = Credit::new(now);
        let pairs = (0..1_000_000).take_while(|_| {
            let begun = credit.read(frame(HEADERS, 50), || now);
            begun.and_then(|()| credit.read(frame(RST_STREAM, 4), || now)) == Ok(())
        });
        assert_eq!(pairs.count(), 909);
    }
}
