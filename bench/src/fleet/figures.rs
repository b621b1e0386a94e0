//! Distributions, and how they are shown.

use std::time::Duration;

use serde::Serialize;

/// Of some durations, in milliseconds.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Distribution {
    /// How many.
    pub(super) count: usize,
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
    pub(super) max_ms: f64,
}

impl Distribution {
    /// Percentiles are values that occurred (nearest rank).
    pub(super) fn of(durations: impl IntoIterator<Item = Duration>) -> Self {
        let mut sorted: Vec<Duration> = durations.into_iter().collect();
        sorted.sort();
        let at = |percent: usize| {
            let rank = (sorted.len() * percent).div_ceil(100).max(1);
            sorted.get(rank - 1).map_or(0.0, |found| milliseconds(*found))
        };
        Self { count: sorted.len(), p50_ms: at(50), p99_ms: at(99), max_ms: at(100) }
    }

    /// The head of a table of these.
    pub(super) fn head(what: &str) -> String {
        format!("{what:<34}{:>7}{:>11}{:>11}{:>11}", "count", "p50 ms", "p99 ms", "max ms")
    }

    /// A line of it.
    pub(super) fn line(&self, what: &str) -> String {
        let Self { count, p50_ms, p99_ms, max_ms } = self;
        format!("{what:<34}{count:>7}{p50_ms:>11.1}{p99_ms:>11.1}{max_ms:>11.1}")
    }
}

/// With one decimal's worth of sense.
fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 10_000.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_occurred() {
        let of = |range: std::ops::RangeInclusive<u64>| {
            Distribution::of(range.map(Duration::from_millis))
        };
        let hundred = of(1..=100);
        assert_eq!((hundred.p50_ms, hundred.p99_ms, hundred.max_ms), (50.0, 99.0, 100.0));
        let one = of(7..=7);
        assert_eq!((one.count, one.p50_ms, one.p99_ms, one.max_ms), (1, 7.0, 7.0, 7.0));
        assert_eq!(Distribution::of([]).max_ms, 0.0);
    }
}
