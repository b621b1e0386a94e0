//! A port that notes how long it was between two polls: what a packet waits at the most.
//!
//! A worker that polls again after `g` nanoseconds lets a packet that came just after its last
//! poll wait for `g`. Gaps are counted by phase (the driver of a run says which one it is) in a
//! histogram with 16 buckets for each power of two, so that a figure is at most 6 % too high. A
//! poll costs a reading of the time stamp counter and an addition more.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dataplane::clock::Clock;
use dataplane::port::{Burst, Port};
use serde::Serialize;

/// Phases that are told apart. Gaps in any later one are not counted.
pub const PHASES: usize = 2;
/// Buckets of a power of two.
const FINE: usize = 16;
const BUCKETS: usize = 64 * FINE;

/// The wrapper around a port.
#[derive(Debug)]
pub struct Gaps<P> {
    inner: P,
    clock: Clock,
    /// When it was polled last, and in which phase.
    last: (u64, usize),
    phase: Arc<AtomicUsize>,
    histograms: Box<[[u64; BUCKETS]; PHASES]>,
}

/// What lay between polls in one phase.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct GapFigures {
    /// Polls.
    pub polls: u64,
    /// Half of the gaps are no longer, nanoseconds.
    pub p50_ns: u64,
    /// 99 in a hundred are no longer.
    pub p99_ns: u64,
    /// 999 in a thousand are no longer.
    pub p999_ns: u64,
    /// Of the time, 999 parts in a thousand are in gaps that are no longer: of packets that come at
    /// any moment, so many wait no longer.
    pub time_p999_ns: u64,
    /// The longest.
    pub max_ns: u64,
}

impl<P: Port> Gaps<P> {
    /// Times the polls of `inner`; `phase` is the one that gaps are counted for.
    pub fn new(inner: P, clock: Clock, phase: Arc<AtomicUsize>) -> Self {
        let histograms = Box::new([[0; BUCKETS]; PHASES]);
        Self { inner, clock, last: (0, usize::MAX), phase, histograms }
    }

    /// The port itself.
    pub fn inner_mut(&mut self) -> &mut P {
        &mut self.inner
    }

    /// What was counted, by phase.
    pub fn figures(&self) -> [GapFigures; PHASES] {
        [figures(&self.histograms[0]), figures(&self.histograms[1])]
    }

    #[inline]
    fn note(&mut self) {
        let now = self.clock.now();
        let phase = self.phase.load(Ordering::Relaxed);
        let (last, before) = self.last;
        self.last = (now, phase);
        // A gap that began in another phase belongs to neither.
        if phase == before
            && let Some(count) =
                self.histograms.get_mut(phase).and_then(|all| all.get_mut(bucket(now - last)))
        {
            *count += 1;
        }
    }
}

/// The bucket of a value: exact below 16, then 16 for each power of two.
#[inline]
fn bucket(value: u64) -> usize {
    if value < FINE as u64 {
        return value as usize;
    }
    let power = value.ilog2() as usize;
    let fraction = (value >> (power - 4)) as usize & (FINE - 1);
    (power - 3) * FINE + fraction
}

/// The largest value of a bucket.
fn upper(bucket: usize) -> u64 {
    if bucket < FINE {
        return bucket as u64;
    }
    let (power, fraction) = (bucket / FINE + 3, (bucket % FINE) as u128);
    let next = (FINE as u128 + fraction + 1) << (power - 4);
    u64::try_from(next - 1).unwrap_or(u64::MAX)
}

fn figures(counts: &[u64; BUCKETS]) -> GapFigures {
    let each = || counts.iter().enumerate().map(|(bucket, count)| (upper(bucket), *count));
    let polls: u64 = counts.iter().sum();
    let time: u128 = each().map(|(gap, count)| u128::from(gap) * u128::from(count)).sum();
    // The smallest gap up to which at least `share` thousandths of the weight lie.
    let quantile = |share: u128, total: u128, weight: fn(u64, u64) -> u128| {
        let mut sum = 0;
        let found = each().filter(|(_, count)| *count > 0).find(|(gap, count)| {
            sum += weight(*gap, *count);
            sum * 1000 >= total * share
        });
        found.map_or(0, |(gap, _)| gap)
    };
    let by_count = |share| quantile(share, polls.into(), |_, count| count.into());
    GapFigures {
        polls,
        p50_ns: by_count(500),
        p99_ns: by_count(990),
        p999_ns: by_count(999),
        time_p999_ns: quantile(999, time, |gap, count| u128::from(gap) * u128::from(count)),
        max_ns: each().filter(|(_, count)| *count > 0).map(|(gap, _)| gap).max().unwrap_or(0),
    }
}

impl<P: Port> Port for Gaps<P> {
    type Buffer = P::Buffer;

    #[inline]
    fn receive(&mut self, burst: &mut Burst<Self::Buffer>) {
        self.note();
        self.inner.receive(burst);
    }

    #[inline]
    fn transmit(&mut self, burst: &mut Burst<Self::Buffer>) {
        self.inner.transmit(burst);
    }

    fn allocate(&mut self) -> Option<Self::Buffer> {
        self.inner.allocate()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_in_order_and_at_most_a_sixteenth_wide() {
        let mut last = None;
        for value in (0..5000).chain((13..64).flat_map(|power| [(1 << power) - 1, 1 << power])) {
            let found = bucket(value);
            assert!(last.is_none_or(|last| last <= found), "{value}");
            last = Some(found);
            assert!(upper(found) >= value, "{value}");
            assert!(upper(found) - value <= value / 16, "{value}");
        }
        assert_eq!(upper(bucket(u64::MAX)), u64::MAX);
    }

    #[test]
    fn one_long_gap_is_the_longest_and_much_of_the_time() {
        let mut counts = [0; BUCKETS];
        counts[bucket(1_000)] = 9_999;
        counts[bucket(50_000_000)] = 1;
        let found = figures(&counts);
        let near = |value: u64, is: u64| (value..=value + value / 16).contains(&is);
        assert_eq!(found.polls, 10_000);
        assert!(near(1_000, found.p50_ns) && near(1_000, found.p999_ns), "{found:?}");
        assert!(
            near(50_000_000, found.max_ns) && near(50_000_000, found.time_p999_ns),
            "{found:?}"
        );
        assert_eq!(figures(&[0; BUCKETS]), GapFigures::default());
    }
}
