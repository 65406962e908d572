//! The number from which each worker counts refusals (SPEC R1).
//!
//! A client that polls `?since=SEQUENCE` or follows must get every newer entry, also from a
//! replacement worker, so numbers never go back. The base is a time in milliseconds times 1024, which a
//! worker would exceed only by refusing a thousand requests in every millisecond of its life. The
//! loader says which time the service begins with (see `sequence`). From then on it is measured by a
//! monotonic clock, so the base rises even when the system's clock is set back.

use std::time::Instant;

use crate::sequence::{PER_MILLISECOND, milliseconds};

/// Computes bases.
#[derive(Debug)]
pub(super) struct Numbering {
    /// Milliseconds since 1970 at the monitor's start.
    started: u64,
    since: Instant,
}

impl Numbering {
    /// Call it once, at the monitor's start.
    pub(super) fn from(started: u64) -> Self {
        Self {
            started,
            since: Instant::now(),
        }
    }

    /// The base for a worker that starts now.
    pub(super) fn base(&self) -> u64 {
        self.started
            .saturating_add(milliseconds(self.since.elapsed()))
            .saturating_mul(PER_MILLISECOND)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    use super::*;

    fn now() -> u64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        milliseconds(now.expect("a clock after 1970"))
    }

    #[test]
    fn r1_a_later_worker_counts_from_a_higher_number() {
        let numbering = Numbering::from(now());
        let later = Numbering {
            since: numbering
                .since
                .checked_sub(Duration::from_secs(1))
                .expect("a machine that is up"),
            ..numbering
        };
        assert!(later.base() >= numbering.base() + 900 * PER_MILLISECOND);
    }

    #[test]
    fn r1_numbers_are_whole_in_floating_point_for_a_century() {
        let numbering = Numbering::from(now());
        let century = 100 * 366 * 24 * 60 * 60 * 1000 * PER_MILLISECOND;
        assert!(numbering.base() + century < 1 << 53);
    }
}
