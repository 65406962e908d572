//! Whether the worker still answers: which pings are due, and how many answers it owes.

use std::time::{Duration, Instant};

use crate::notify;

/// Interval of pings to a worker, unless the service manager wants a shorter one.
const PING_INTERVAL: Duration = Duration::from_secs(5);
/// A worker that owes this many answers is replaced when another ping is due.
const MAX_OWED: u32 = 3;

/// The pings of the current worker.
pub(super) struct Ping {
    every: Duration,
    next: Instant,
    /// Pings sent and not answered.
    owed: u32,
}

impl Ping {
    pub(super) fn new() -> Self {
        // A stuck worker must be replaced in half the watchdog's time, or the service manager would
        // end the monitor first.
        let every = notify::watchdog().map_or(PING_INTERVAL, |watchdog| {
            (watchdog / (2 * (MAX_OWED + 1))).min(PING_INTERVAL)
        });
        Self::every(every)
    }

    fn every(every: Duration) -> Self {
        Self {
            every,
            next: Instant::now() + every,
            owed: 0,
        }
    }

    /// When the next ping is due.
    pub(super) fn next(&self) -> Instant {
        self.next
    }

    /// A ping is due. Returns whether to send it: a worker that owes too many answers is stuck.
    pub(super) fn ask(&mut self) -> bool {
        self.next = Instant::now() + self.every;
        let sound = self.owed < MAX_OWED;
        if sound {
            self.owed += 1;
        }
        sound
    }

    /// Whether the worker owes an answer.
    pub(super) fn is_owed(&self) -> bool {
        self.owed > 0
    }

    /// The worker answered a ping. A slow worker may owe more, and answers each.
    pub(super) fn answered(&mut self) {
        self.owed = self.owed.saturating_sub(1);
    }

    /// The worker is gone. The next one owes nothing.
    pub(super) fn forget(&mut self) {
        self.owed = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn l5_a_slow_worker_answers_each_ping_and_none_of_the_answers_is_out_of_phase() {
        let mut ping = Ping::every(PING_INTERVAL);
        assert!(!ping.is_owed());
        assert!(ping.ask() && ping.ask());
        for _ in 0..2 {
            assert!(ping.is_owed());
            ping.answered();
        }
        assert!(!ping.is_owed(), "one more would be an answer to nothing");
    }

    #[test]
    fn l5_a_worker_that_owes_three_answers_is_stuck_and_the_next_one_owes_none() {
        let mut ping = Ping::every(PING_INTERVAL);
        assert!((0..3).all(|_| ping.ask()));
        assert!(!ping.ask());
        ping.forget();
        assert!(ping.ask());
    }
}
