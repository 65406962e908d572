//! The time of the last transfer on a connection, for idle limits.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// The time of the last transfer, in either direction.
#[derive(Debug)]
pub(crate) struct Activity {
    start: Instant,
    /// Microseconds after `start`. Fine enough to tell which connection has been idle longest.
    last: AtomicU64,
    /// The number of requests in hand. The connection is not idle while there are any.
    busy: AtomicU64,
}

/// A request in hand, until it is dropped.
#[derive(Debug)]
pub struct Busy(Arc<Activity>);

impl Activity {
    /// Begins with a transfer now.
    pub(crate) fn new() -> Self {
        Self {
            start: Instant::now(),
            last: AtomicU64::new(0),
            busy: AtomicU64::new(0),
        }
    }

    /// Keeps the connection from being idle until the value is dropped.
    pub(crate) fn busy(self: &Arc<Self>) -> Busy {
        self.busy.fetch_add(1, Ordering::Relaxed);
        Busy(Arc::clone(self))
    }

    /// Notes a transfer.
    pub(crate) fn note(&self) {
        let elapsed = u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.last.store(elapsed, Ordering::Relaxed);
    }

    /// The time since the last transfer; zero while a request is in hand.
    pub(crate) fn idle(&self) -> Duration {
        if self.busy.load(Ordering::Relaxed) > 0 {
            return Duration::ZERO;
        }
        self.last().elapsed()
    }

    /// Resolves when the connection has been idle for `limit`.
    pub(crate) async fn silence(&self, limit: Duration) {
        // One timer for all rounds, so that the future holds no second one.
        let mut timer = pin!(sleep_until(self.last() + limit));
        loop {
            timer.as_mut().await;
            let now = Instant::now();
            let mut until = self.last() + limit;
            if until <= now {
                if self.busy.load(Ordering::Relaxed) == 0 {
                    return;
                }
                until = now + limit;
            }
            timer.as_mut().reset(until);
        }
    }

    fn last(&self) -> Instant {
        self.start + Duration::from_micros(self.last.load(Ordering::Relaxed))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.note();
        self.0.busy.fetch_sub(1, Ordering::Relaxed);
    }
}
