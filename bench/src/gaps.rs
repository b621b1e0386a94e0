//! A port that notes how long it was between two polls: what a packet waits at the most.
//!
//! A worker that polls again after `g` nanoseconds lets a packet that came just after its last
//! poll wait for `g`. Gaps are counted by phase (the driver of a run says which one it is) in a
//! [`Histogram`]. A poll costs a reading of the time stamp counter and an addition more.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dataplane::clock::Clock;
use dataplane::port::{Burst, Port};
use serde::Serialize;

use crate::histogram::Histogram;

/// Phases that are told apart. Gaps in any later one are not counted.
pub const PHASES: usize = 2;

/// The wrapper around a port.
#[derive(Debug)]
pub struct Gaps<P> {
    inner: P,
    clock: Clock,
    /// When it was polled last, and in which phase.
    last: (u64, usize),
    phase: Arc<AtomicUsize>,
    histograms: [Histogram; PHASES],
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
        Self { inner, clock, last: (0, usize::MAX), phase, histograms: Default::default() }
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
            && let Some(histogram) = self.histograms.get_mut(phase)
        {
            histogram.record(now - last);
        }
    }
}

fn figures(histogram: &Histogram) -> GapFigures {
    let time = |gap: u64, count: u64| u128::from(gap) * u128::from(count);
    GapFigures {
        polls: histogram.count(),
        p50_ns: histogram.quantile(500_000),
        p99_ns: histogram.quantile(990_000),
        p999_ns: histogram.quantile(999_000),
        time_p999_ns: histogram.quantile_by(999_000, time),
        max_ns: histogram.max(),
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
    fn one_long_gap_is_the_longest_and_much_of_the_time() {
        let mut histogram = Histogram::default();
        (0..9_999).for_each(|_| histogram.record(1_000));
        histogram.record(50_000_000);
        let found = figures(&histogram);
        let near = |value: u64, is: u64| (value..=value + value / 64).contains(&is);
        assert_eq!(found.polls, 10_000);
        assert!(near(1_000, found.p50_ns) && near(1_000, found.p999_ns), "{found:?}");
        assert!(
            near(50_000_000, found.max_ns) && near(50_000_000, found.time_p999_ns),
            "{found:?}"
        );
        assert_eq!(figures(&Histogram::default()), GapFigures::default());
    }
}
