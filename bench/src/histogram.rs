//! Counts of durations, in buckets that are fine where durations are short: log-linear, as High
//! Dynamic Range histograms are, in fixed memory.
//!
//! Each power of two has [`FINE`] buckets, so that a figure read back is too high by less than
//! 1.6 %, from one nanosecond to five centuries. Counting one is a shift, an addition and a store,
//! which a crate for it (`hdrhistogram`, with its limits and its resizing) takes several times as
//! long for, and here that would be taken from the rate.

/// Buckets of a power of two.
pub const FINE: usize = 64;
const FINE_BITS: usize = FINE.ilog2() as usize;
const BUCKETS: usize = (65 - FINE_BITS) * FINE;

/// How often which duration was seen, in nanoseconds or whatever else is counted.
#[derive(Clone, Debug)]
pub struct Histogram {
    counts: Box<[u64; BUCKETS]>,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: Box::new([0; BUCKETS]) }
    }
}

impl Histogram {
    /// Counts `value`.
    #[inline]
    pub fn record(&mut self, value: u64) {
        if let Some(count) = self.counts.get_mut(bucket(value)) {
            *count += 1;
        }
    }

    /// Adds what another has counted.
    pub fn add(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(other.counts.iter()) {
            *count += more;
        }
    }

    /// Values counted.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The largest value of each bucket that something is in, smallest first, and how many.
    pub fn buckets(&self) -> impl Iterator<Item = (u64, u64)> {
        let counts = self.counts.iter().enumerate().filter(|(_, count)| **count > 0);
        counts.map(|(bucket, count)| (upper(bucket), *count))
    }

    /// The smallest value that at least `millionths` millionths of all are not above; 0 when there
    /// are none.
    pub fn quantile(&self, millionths: u64) -> u64 {
        self.quantile_by(millionths, |_, count| count.into())
    }

    /// The same where a bucket of the given value and count has the weight that `weight` says.
    pub fn quantile_by(&self, millionths: u64, weight: impl Fn(u64, u64) -> u128) -> u64 {
        let total: u128 = self.buckets().map(|(value, count)| weight(value, count)).sum();
        let mut sum = 0;
        let mut found = self.buckets().skip_while(|(value, count)| {
            sum += weight(*value, *count);
            sum * 1_000_000 < total * u128::from(millionths)
        });
        found.next().map_or(0, |(value, _)| value)
    }

    /// The largest value; 0 when there are none.
    pub fn max(&self) -> u64 {
        self.buckets().last().map_or(0, |(value, _)| value)
    }
}

/// The bucket of a value: exact below [`FINE`].
#[inline]
fn bucket(value: u64) -> usize {
    if value < FINE as u64 {
        return value as usize;
    }
    let power = value.ilog2() as usize;
    let fraction = (value >> (power - FINE_BITS)) as usize & (FINE - 1);
    (power - FINE_BITS + 1) * FINE + fraction
}

/// The largest value of a bucket.
fn upper(bucket: usize) -> u64 {
    if bucket < FINE {
        return bucket as u64;
    }
    let (power, fraction) = (bucket / FINE + FINE_BITS - 1, (bucket % FINE) as u128);
    let next = (FINE as u128 + fraction + 1) << (power - FINE_BITS);
    u64::try_from(next - 1).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_in_order_and_narrow() {
        let mut last = None;
        for value in (0..5000).chain((13..64).flat_map(|power| [(1 << power) - 1, 1 << power])) {
            let found = bucket(value);
            assert!(last.is_none_or(|last| last <= found), "{value}");
            last = Some(found);
            assert!(upper(found) >= value, "{value}");
            assert!(upper(found) - value <= value / FINE as u64, "{value}");
        }
        assert_eq!(upper(bucket(u64::MAX)), u64::MAX);
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_are_of_values_and_not_of_buckets() {
        let mut histogram = Histogram::default();
        (0..990).for_each(|_| histogram.record(5));
        (0..9).for_each(|_| histogram.record(50));
        histogram.record(60);
        assert_eq!(histogram.count(), 1000);
        let at = |millionths| histogram.quantile(millionths);
        assert_eq!([at(500_000), at(990_000), at(990_001), at(999_000)], [5, 5, 50, 50]);
        assert_eq!((at(999_001), at(1_000_000), histogram.max()), (60, 60, 60));
        assert_eq!((Histogram::default().quantile(500_000), Histogram::default().max()), (0, 0));
        // By weight of the values, half is above 5.
        assert_eq!(histogram.quantile_by(950_000, |value, count| (value * count).into()), 50);
    }

    #[test]
    fn two_histograms_add_up() {
        let mut sum = Histogram::default();
        for value in [1, 1000, u64::MAX] {
            let mut one = Histogram::default();
            one.record(value);
            sum.add(&one);
        }
        assert_eq!((sum.count(), sum.quantile(1), sum.max()), (3, 1, u64::MAX));
    }
}
