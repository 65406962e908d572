//! A counter for paths that many threads use at once. Each thread adds to a cache line of its own.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// How many threads have a line of their own. Further threads share.
const STRIPES: usize = 16;

/// A counter that only grows.
#[derive(Debug, Default)]
pub(super) struct StripedCounter([Stripe; STRIPES]);

/// Two cache lines, since processors fetch lines in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Stripe(AtomicU64);

impl StripedCounter {
    pub(super) fn add(&self, count: u64) {
        static LAST: AtomicUsize = AtomicUsize::new(0);
        thread_local! {
            static STRIPE: usize = LAST.fetch_add(1, Ordering::Relaxed) % STRIPES;
        }
        // A thread that is ending has no stripe any more.
        let stripe = STRIPE.try_with(|stripe| *stripe).unwrap_or_default();
        self.0[stripe].0.fetch_add(count, Ordering::Relaxed);
    }

    pub(super) fn total(&self) -> u64 {
        let stripes = self.0.iter();
        stripes.map(|stripe| stripe.0.load(Ordering::Relaxed)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn o1_the_total_has_what_every_thread_added() {
        let counter = StripedCounter::default();
        std::thread::scope(|scope| {
            for _ in 0..STRIPES + 4 {
                scope.spawn(|| (0..1000).for_each(|_| counter.add(3)));
            }
        });
        assert_eq!(counter.total(), (STRIPES as u64 + 4) * 3000);
    }
}
