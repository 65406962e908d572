//! Durations, counted in buckets.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The upper bounds of the buckets, in microseconds. A further bucket has the rest.
const BOUNDS: [u64; 14] = [
    500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 5_000_000, 10_000_000,
];

/// Counts durations.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    buckets: [AtomicU64; BOUNDS.len() + 1],
    micros: AtomicU64,
}

/// The counts of a histogram at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct HistogramCounts {
    /// The sum of all durations, in seconds.
    pub sum: f64,
    /// The upper bound of each bucket in seconds, and the durations in this bucket alone. The last bound is infinite.
    pub buckets: Vec<(f64, u64)>,
}

impl Histogram {
    pub(crate) fn observe(&self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS.partition_point(|bound| *bound < micros);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.micros.fetch_add(micros, Ordering::Relaxed);
    }

    pub(crate) fn counts(&self) -> HistogramCounts {
        let bounds = BOUNDS.iter().map(|micros| seconds(*micros));
        let counts = self.buckets.iter();
        let counts = counts.map(|count| count.load(Ordering::Relaxed));
        HistogramCounts {
            sum: seconds(self.micros.load(Ordering::Relaxed)),
            buckets: bounds
                .chain(std::iter::once(f64::INFINITY))
                .zip(counts)
                .collect(),
        }
    }
}

impl HistogramCounts {
    /// The number of all durations.
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|(_, count)| count).sum()
    }
}

fn seconds(micros: u64) -> f64 {
    Duration::from_micros(micros).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn o1_a_duration_is_in_the_first_bucket_whose_bound_it_does_not_exceed() {
        let histogram = Histogram::default();
        for micros in [0, 500, 501, 10_000_000, 10_000_001] {
            histogram.observe(Duration::from_micros(micros));
        }
        let counts = histogram.counts();
        let filled: Vec<_> = counts.buckets.iter().filter(|(_, n)| *n > 0).collect();
        assert_eq!(
            filled,
            [&(0.0005, 2), &(0.001, 1), &(10.0, 1), &(f64::INFINITY, 1)]
        );
        assert_eq!(counts.count(), 5);
        assert!((counts.sum - 20.001_002).abs() < 1e-9, "{}", counts.sum);
    }
}
