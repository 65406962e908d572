//! The memory that HTTP/2 connections can be made to hold by a peer that sends and does not take: the
//! windows that this side opens, and answers that wait in streams.
//!
//! Each connection takes a share of what is left, so that all of them together stay bounded, however
//! many there are. The first ones get all that they can use. When much is taken, further ones get
//! smaller windows and fewer streams; they are slower, and are served all the same.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// What all shares beyond the smallest ones add up to at most, in KiB.
const TOTAL: u32 = 512 * 1024;
/// A connection gets at most this part of what is left.
const DIVISOR: u32 = 8;
/// The whole of a share, for [`Share::of`].
const WHOLE: u64 = 1024;

/// What a connection needs to be as fast as it can be, in KiB.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Need(u32);

/// With a client: a window of 1 MiB, and in each of 128 streams 64 KiB and a frame.
pub(crate) const SERVER: Need = Need(11 * 1024);
/// With an origin: a window of 5 MiB.
pub(crate) const CLIENT: Need = Need(5 * 1024);

/// The memory of all connections.
#[derive(Debug, Default)]
pub(crate) struct Http2Memory {
    /// KiB.
    taken: AtomicU32,
}

/// The share of one connection, until it is dropped.
#[derive(Debug)]
pub(crate) struct Share {
    of: Arc<Http2Memory>,
    taken: u32,
    need: Need,
}

impl Http2Memory {
    /// Takes a share.
    pub(crate) fn take(self: &Arc<Self>, need: Need) -> Share {
        let share = |taken: u32| need.0.min(TOTAL.saturating_sub(taken) / DIVISOR);
        let add = |taken: u32| Some(taken + share(taken));
        let before = self
            .taken
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, add)
            .unwrap_or_else(|taken| taken);
        Share {
            of: Arc::clone(self),
            taken: share(before),
            need,
        }
    }
}

impl Share {
    /// What the share allows of something that is `least` without a share and `most` with a whole one.
    pub(crate) fn of(&self, least: u32, most: u32) -> u32 {
        let part = u64::from(self.taken) * WHOLE / u64::from(self.need.0);
        let more = u64::from(most.saturating_sub(least)) * part / WHOLE;
        least.saturating_add(u32::try_from(more).unwrap_or(u32::MAX))
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.of.taken.fetch_sub(self.taken, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn m6_the_memory_of_all_http2_connections_is_bounded() {
        let memory = Arc::new(Http2Memory::default());
        let mut shares = Vec::new();
        for number in 0..10_000 {
            let need = if number % 2 == 0 { SERVER } else { CLIENT };
            shares.push(memory.take(need));
        }
        let granted = |share: &Share| share.of(64, 1024);
        assert!(shares[..24].iter().all(|share| granted(share) == 1024));
        assert!(
            shares
                .windows(3)
                .all(|three| granted(&three[0]) >= granted(&three[2]))
        );
        assert_eq!(granted(&shares[9_999]), 64);
        assert!(memory.taken.load(Ordering::Relaxed) <= TOTAL);
        drop(shares);
        assert_eq!(memory.taken.load(Ordering::Relaxed), 0);
        assert_eq!(granted(&memory.take(SERVER)), 1024);
    }
}
