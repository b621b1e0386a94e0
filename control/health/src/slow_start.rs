//! A backend that starts to serve takes its share in steps.
//!
//! Cold caches and just-in-time compilers do badly under a full share at once. The weight ramps
//! from a tenth to the whole over the duration, in a few steps, since every step is a rebuild of
//! the table on every node. Off by default. Because tables honour weights in proportion, a pool
//! whose backends all ramp together spreads evenly all the while.

use crate::{Millis, SettingsError};

/// How the weight of a backend grows once it serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlowStartSettings {
    /// From the first packet to the full weight, in milliseconds. 0 switches slow start off.
    pub duration_ms: Millis,
    /// The weight changes so many times on the way.
    pub steps: u32,
    /// What it starts with, in percent of the weight.
    pub first_percent: u32,
}

impl SlowStartSettings {
    /// # Errors
    /// When there is no step, or the start is not from 1 to 100 percent.
    pub fn validate(&self) -> Result<(), SettingsError> {
        let rule = SettingsError::unless;
        rule(self.duration_ms <= 86_400_000, "slow_start.duration_ms", "at most 86400000 (a day)")?;
        rule((1..=100).contains(&self.steps), "slow_start.steps", "from 1 to 100")?;
        rule((1..=100).contains(&self.first_percent), "slow_start.first_percent", "from 1 to 100")
    }

    /// The share of its weight, in percent from 1 to 100, that a backend has at `now` when it
    /// has served since `since`.
    #[must_use]
    pub fn percent(&self, since: Millis, now: Millis) -> u32 {
        let elapsed = now.saturating_sub(since);
        if elapsed >= self.duration_ms || self.steps == 0 {
            return 100;
        }
        let steps = u128::from(self.steps);
        let step = u128::from(elapsed) * steps / u128::from(self.duration_ms); // below `steps`
        let first = self.first_percent.clamp(1, 100);
        let grown = u128::from(100 - first) * step / steps;
        first + u32::try_from(grown).unwrap_or(100 - first)
    }
}

impl Default for SlowStartSettings {
    fn default() -> Self {
        Self { duration_ms: 0, steps: 10, first_percent: 10 }
    }
}

/// `percent` of `weight`, rounded up: a weight that is not 0 never becomes 0.
#[must_use]
pub fn share(weight: u32, percent: u32) -> u32 {
    let share = (u64::from(weight) * u64::from(percent.min(100))).div_ceil(100);
    u32::try_from(share).unwrap_or(weight)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const MINUTE: SlowStartSettings =
        SlowStartSettings { duration_ms: 60_000, steps: 10, first_percent: 10 };

    #[test]
    fn a_minute_in_ten_steps() {
        for at in [0, 5_999, 6_000, 30_000, 59_999, 60_000, 600_000] {
            let expected = match at {
                0..6_000 => 10,       // the first step
                6_000..12_000 => 19,  // the second
                30_000..36_000 => 55, // half way
                54_000..60_000 => 91, // the last
                _ => 100,             // warm
            };
            assert_eq!(MINUTE.percent(1_000, 1_000 + at), expected, "after {at} ms");
        }
    }

    #[test]
    fn off_by_default() {
        assert_eq!(SlowStartSettings::default().percent(5, 5), 100);
    }

    #[test]
    fn no_weight_is_lost_to_rounding() {
        assert_eq!((share(1, 10), share(0, 10), share(u32::MAX, 100)), (1, 0, u32::MAX));
    }

    proptest! {
        #[test]
        fn it_never_shrinks_ends_full_and_takes_no_more_steps_than_set(
            duration_ms in 1u64..10_000, steps in 1u32..=100, first_percent in 1u32..=100,
            weight in 1u32..,
        ) {
            let settings = SlowStartSettings { duration_ms, steps, first_percent };
            let weights: Vec<u32> = (0..=duration_ms.div_ceil(7))
                .map(|i| share(weight, settings.percent(3, 3 + i * 7)))
                .collect();
            prop_assert!(weights.is_sorted());
            prop_assert!(weights.iter().all(|&w| (1..=weight).contains(&w)));
            prop_assert_eq!(weights.last(), Some(&weight));
            let different: BTreeSet<u32> = weights.iter().copied().collect();
            prop_assert!(different.len() <= steps as usize + 1);
        }
    }
}
