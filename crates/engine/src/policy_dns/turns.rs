//! Limits the lookups of one session (SPEC J13).

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::budget::{Bucket, Rate};

/// The messages of one session that are answered.
pub(super) const RATE: Rate = Rate {
    burst: 4000,
    per_second: 2000,
};
/// How long a door rests when there are more.
pub(super) const REST_INTERVAL: Duration = Duration::from_millis(10);

/// The messages that may be answered now. The bucket is made with the first one.
#[derive(Debug, Default)]
pub(super) struct Turns(Mutex<Option<Bucket>>);

impl Turns {
    /// Takes a turn. Returns whether there was one.
    pub(super) fn take(&self) -> bool {
        let now = Instant::now();
        let mut bucket = self.0.lock();
        bucket
            .get_or_insert_with(|| Bucket::full(RATE, now))
            .take(RATE, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn j13_a_session_has_a_burst_and_a_rate_of_lookups() {
        let turns = Turns::default();
        let taken = || std::iter::from_fn(|| turns.take().then_some(())).count();
        assert_eq!(taken(), 4000);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(taken(), 2000);
    }
}
