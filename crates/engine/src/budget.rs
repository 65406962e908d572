//! Token buckets, one for each holder: a burst, and a rate per second.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::shares::Holder;

/// Most holders with a bucket of their own. A full bucket carries no information, so it is dropped.
const MAX_HOLDERS: usize = 4096;

/// How much a holder may use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rate {
    /// The amount that a full bucket permits at once.
    pub(crate) burst: u32,
    /// Tokens that are added each second.
    pub(crate) per_second: u32,
}

/// The buckets.
#[derive(Debug)]
pub(crate) struct Budgets {
    rate: Rate,
    buckets: HashMap<Holder, Bucket>,
    /// The bucket that all holders without a bucket of their own share.
    rest: Bucket,
}

/// One bucket.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket {
    tokens: u32,
    refilled: Instant,
}

impl Budgets {
    pub(crate) fn new(rate: Rate) -> Self {
        Self {
            rate,
            buckets: HashMap::new(),
            rest: Bucket::full(rate, Instant::now()),
        }
    }

    /// Takes a token of this holder. Returns whether it had one.
    pub(crate) fn take(&mut self, holder: Holder, now: Instant) -> bool {
        let rate = self.rate;
        if self.buckets.len() >= MAX_HOLDERS && !self.buckets.contains_key(&holder) {
            self.buckets.retain(|_, bucket| {
                bucket.refill(rate, now);
                bucket.tokens < rate.burst
            });
            if self.buckets.len() >= MAX_HOLDERS {
                return self.rest.take(rate, now);
            }
        }
        let bucket = self.buckets.entry(holder);
        bucket
            .or_insert_with(|| Bucket::full(rate, now))
            .take(rate, now)
    }
}

impl Bucket {
    pub(crate) fn full(rate: Rate, now: Instant) -> Self {
        Self {
            tokens: rate.burst,
            refilled: now,
        }
    }

    /// Takes a token. Returns whether there was one.
    pub(crate) fn take(&mut self, rate: Rate, now: Instant) -> bool {
        self.refill(rate, now);
        let has_one = self.tokens > 0;
        self.tokens -= u32::from(has_one);
        has_one
    }

    fn refill(&mut self, rate: Rate, now: Instant) {
        let every = Duration::from_secs(1) / rate.per_second.max(1);
        let elapsed = now.saturating_duration_since(self.refilled);
        let due = u32::try_from(elapsed.as_nanos() / every.as_nanos().max(1)).unwrap_or(u32::MAX);
        if due >= rate.burst {
            (self.tokens, self.refilled) = (rate.burst, now);
        } else {
            self.tokens = (self.tokens + due).min(rate.burst);
            // The rest of the time counts towards the next token.
            self.refilled += every * due;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate {
        burst: 10,
        per_second: 5,
    };

    fn taken(budgets: &mut Budgets, uid: u32, now: Instant) -> usize {
        std::iter::from_fn(|| budgets.take(Holder::User(uid), now).then_some(())).count()
    }

    #[test]
    fn c5_each_holder_has_a_burst_and_a_rate_of_its_own() {
        let mut budgets = Budgets::new(RATE);
        let start = Instant::now();
        assert_eq!(taken(&mut budgets, 1, start), 10);
        assert_eq!(taken(&mut budgets, 2, start), 10);
        let second = start + Duration::from_secs(1);
        assert_eq!(taken(&mut budgets, 1, second), 5);
        // Frequent requests gain as much credit as rare ones.
        let often = (1..=1000).map(|step| second + Duration::from_millis(step));
        let issued = often
            .filter(|now| budgets.take(Holder::User(1), *now))
            .count();
        assert_eq!(issued, 5);
        assert_eq!(taken(&mut budgets, 1, start + Duration::from_secs(99)), 10);
    }

    #[test]
    fn c5_holders_beyond_the_bound_share_and_the_memory_is_bounded() {
        let mut budgets = Budgets::new(RATE);
        let start = Instant::now();
        let many = u32::try_from(MAX_HOLDERS).expect("a small number");
        for uid in 0..many {
            assert!(budgets.take(Holder::User(uid), start));
        }
        let beyond: usize = (many..many + 10)
            .map(|uid| taken(&mut budgets, uid, start))
            .sum();
        assert_eq!(beyond, 10);
        assert_eq!(budgets.buckets.len(), MAX_HOLDERS);
        // Full buckets make room.
        let later = start + Duration::from_secs(9);
        assert_eq!(taken(&mut budgets, many, later), 10);
        assert_eq!(budgets.buckets.len(), 1);
    }
}
