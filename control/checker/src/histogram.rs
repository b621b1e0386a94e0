//! A histogram with fixed buckets, filled without a lock.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Upper bounds of the buckets, in microseconds; above the last there is one more.
pub(crate) const BOUNDS_US: [u64; 14] = [
    500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000, 1_000_000,
    2_000_000, 5_000_000, 10_000_000,
];

/// Counts of durations.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    buckets: [AtomicU64; BOUNDS_US.len() + 1],
    sum_us: AtomicU64,
    largest_us: AtomicU64,
}

impl Histogram {
    pub(crate) fn record(&self, duration: Duration) {
        let us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let index = BOUNDS_US.partition_point(|&bound| bound < us);
        if let Some(bucket) = self.buckets.get(index) {
            bucket.fetch_add(1, Relaxed);
        }
        self.sum_us.fetch_add(us, Relaxed);
        self.largest_us.fetch_max(us, Relaxed);
    }

    /// How many were at most each of [`BOUNDS_US`], and at the end how many there were.
    pub(crate) fn cumulative(&self) -> Vec<u64> {
        let counts = self.buckets.iter().map(|bucket| bucket.load(Relaxed));
        counts
            .scan(0, |sum, count| {
                *sum += count;
                Some(*sum)
            })
            .collect()
    }

    pub(crate) fn sum(&self) -> Duration {
        Duration::from_micros(self.sum_us.load(Relaxed))
    }

    /// Since the start.
    pub(crate) fn largest(&self) -> Duration {
        Duration::from_micros(self.largest_us.load(Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_belongs_to_the_bucket_it_ends() {
        let histogram = Histogram::default();
        for us in [0, 500, 501, 1_000, 10_000_000, 10_000_001, u64::MAX] {
            histogram.record(Duration::from_micros(us));
        }
        let counts = histogram.cumulative();
        assert_eq!(counts.first_chunk(), Some(&[2, 4, 4]));
        assert_eq!(counts.last_chunk(), Some(&[5, 7]));
        assert_eq!(histogram.largest(), Duration::from_micros(u64::MAX));
    }
}
