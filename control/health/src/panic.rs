//! When most of a pool is bad, serve it as if all were healthy.
//!
//! A pool that loses more than half of its backends at once has most likely lost something they
//! share: a database, a switch, the readiness endpoint itself. To crowd all clients onto the rest
//! would finish those off too. So beyond the threshold every backend that is HEALTHY or UNHEALTHY
//! serves, and nobody is evicted. Overload rather than outage.
//!
//! Hysteresis: panic begins above 50 %. It ends at once at 40 % or less, or when the share has
//! been at 50 % or less for 10 s without a break; the second way out is for small pools, in which
//! one backend is more than the space between the two marks.

use crate::{Millis, SettingsError};

/// When a pool panics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PanicSettings {
    /// Panic begins when more than this share of the pool is bad, in percent. 100 switches it
    /// off.
    pub enter_percent: u32,
    /// Panic ends at once when no more than this share is bad, in percent.
    pub leave_percent: u32,
    /// Panic also ends when the share has been at `enter_percent` or less for so long, in
    /// milliseconds.
    pub settle_ms: Millis,
}

/// Is a pool in panic?
#[derive(Clone, Debug, Default)]
pub struct Panic {
    active: bool,
    below_since: Option<Millis>,
}

/// Panic began or ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PanicChange {
    /// All are served from now on.
    Entered,
    /// Only good ones are served from now on.
    Left,
}

impl PanicSettings {
    /// # Errors
    /// When the marks are not percentages in order.
    pub fn validate(&self) -> Result<(), SettingsError> {
        let rule = SettingsError::unless;
        rule(self.enter_percent <= 100, "panic.enter_percent", "at most 100")?;
        rule(
            self.leave_percent <= self.enter_percent,
            "panic.leave_percent",
            "at most panic.enter_percent",
        )
    }

    /// Is more than the threshold's share bad?
    #[must_use]
    pub fn exceeded(&self, bad: usize, of: usize) -> bool {
        above(bad, of, self.enter_percent)
    }
}

impl Default for PanicSettings {
    fn default() -> Self {
        Self { enter_percent: 50, leave_percent: 40, settle_ms: 10_000 }
    }
}

impl Panic {
    /// Is the pool served as if all were healthy?
    #[must_use]
    pub fn active(&self) -> bool {
        self.active
    }

    /// `bad` of the `of` backends that count are UNHEALTHY or not ready. With `hold` (nobody
    /// knows what the backends are) panic may begin but not end.
    pub fn update(
        &mut self,
        settings: &PanicSettings,
        bad: usize,
        of: usize,
        hold: bool,
        now: Millis,
    ) -> Option<PanicChange> {
        let over = settings.exceeded(bad, of);
        let low = !above(bad, of, settings.leave_percent);
        let settled = !over && {
            let since = *self.below_since.get_or_insert(now);
            now.saturating_sub(since) >= settings.settle_ms
        };
        if over || !self.active {
            self.below_since = None;
        }
        let change = match (self.active, over) {
            // Too many fell.
            (false, true) => Some(PanicChange::Entered),
            // As last known; the checkers are gone.
            (true, false) if hold => None,
            // Enough came back, or just enough and for long enough.
            (true, false) if low || settled => Some(PanicChange::Left),
            // Just enough came back, not for long enough yet; or nothing new.
            (true, false) | (true, true) | (false, false) => None,
        };
        if change.is_some() {
            self.active = !self.active;
            self.below_since = None;
        }
        change
    }
}

fn above(bad: usize, of: usize, percent: u32) -> bool {
    bad as u128 * 100 > of as u128 * u128::from(percent)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_pool_of_ten() {
        let settings = PanicSettings::default();
        let mut panic = Panic::default();
        for (at, bad, story) in [
            (0, 5, "exactly half is bad"),
            (1_000, 6, "more than half"),
            (2_000, 5, "one came back"),
            (11_999, 5, "not for ten seconds yet"),
            (12_000, 5, "for ten seconds"),
            (13_000, 10, "all fell"),
            (14_000, 4, "six came back"),
            (15_000, 6, "fell again"),
            (16_000, 5, "one came back again"),
            (25_000, 6, "and fell: the ten seconds begin anew"),
            (26_000, 5, "and came back"),
            (27_000, 5, "still"),
        ] {
            let expected = match story {
                "more than half" | "all fell" | "fell again" => Some(PanicChange::Entered),
                "for ten seconds" | "six came back" => Some(PanicChange::Left),
                _ => None,
            };
            assert_eq!(panic.update(&settings, bad, 10, false, at), expected, "{story}");
        }
    }

    #[test]
    fn in_a_pool_of_two_the_dead_one_is_not_served_for_ever() {
        let settings = PanicSettings::default();
        let mut panic = Panic::default();
        assert_eq!(panic.update(&settings, 1, 2, false, 0), None);
        assert_eq!(panic.update(&settings, 2, 2, false, 0), Some(PanicChange::Entered));
        assert_eq!(panic.update(&settings, 1, 2, false, 1_000), None);
        assert_eq!(panic.update(&settings, 1, 2, false, 11_000), Some(PanicChange::Left));
    }

    #[test]
    fn with_the_checkers_gone_panic_does_not_end() {
        let settings = PanicSettings::default();
        let mut panic = Panic::default();
        panic.update(&settings, 3, 4, false, 0);
        assert_eq!(panic.update(&settings, 0, 4, true, 99_000), None);
        assert_eq!(panic.update(&settings, 0, 4, false, 99_001), Some(PanicChange::Left));
    }

    #[test]
    fn an_empty_pool_does_not_panic_and_a_hundred_percent_is_off() {
        let off = PanicSettings { enter_percent: 100, ..PanicSettings::default() };
        assert_eq!(Panic::default().update(&PanicSettings::default(), 0, 0, false, 0), None);
        assert_eq!(Panic::default().update(&off, 9, 9, false, 0), None);
    }

    proptest! {
        #[test]
        fn above_the_mark_always_and_below_the_lower_one_never(
            steps in prop::collection::vec((0usize..=20, 0u64..15_000), 1..60),
        ) {
            let settings = PanicSettings::default();
            let mut panic = Panic::default();
            let mut now = 0;
            for (bad, gap) in steps {
                now += gap;
                let before = panic.active();
                let change = panic.update(&settings, bad, 20, false, now);
                prop_assert_eq!(change.is_some(), before != panic.active());
                prop_assert!(bad <= 10 || panic.active());
                prop_assert!(bad > 8 || !panic.active());
            }
        }
    }
}
