//! Flapping backends are held down, for longer each time.
//!
//! Every time a backend stops and starts serving, slots of the table move. One that does so
//! again and again is kept out: after its third fall within two minutes it stays down for 10 s,
//! after the next for 20 s, then 40 s, up to five minutes. A backend that behaves for the window
//! after its hold is over starts from nothing.
//!
//! **A fall is never delayed.** To hold a dying backend up would cost the detection time that
//! was promised; so only the way up waits. (RFC 2439 damps routes the same way.)

use std::collections::VecDeque;

use crate::{Millis, SettingsError};

/// When a backend counts as flapping. All times in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DebounceSettings {
    /// So many falls within the window start a hold. 0 switches debouncing off.
    pub falls: u32,
    /// See `falls`.
    pub window_ms: Millis,
    /// The first hold. Each further fall doubles it.
    pub hold_ms: Millis,
    /// No hold is longer.
    pub max_hold_ms: Millis,
}

/// The falls of one backend.
#[derive(Clone, Debug, Default)]
pub struct Debounce {
    /// At most `falls` of them, oldest first.
    falls: VecDeque<Millis>,
    /// 0: not flapping.
    level: u32,
    held_until: Millis,
}

impl DebounceSettings {
    /// # Errors
    /// When the longest hold is shorter than the first, or the number of falls is absurd.
    pub fn validate(&self) -> Result<(), SettingsError> {
        let rule = SettingsError::unless;
        rule(self.falls <= 100, "debounce.falls", "at most 100")?;
        rule(self.hold_ms >= 1, "debounce.hold_ms", "at least 1")?;
        rule(
            (self.hold_ms..=86_400_000).contains(&self.max_hold_ms),
            "debounce.max_hold_ms",
            "from debounce.hold_ms to 86400000 (a day)",
        )
    }
}

impl Default for DebounceSettings {
    fn default() -> Self {
        Self { falls: 3, window_ms: 120_000, hold_ms: 10_000, max_hold_ms: 300_000 }
    }
}

impl Debounce {
    /// The backend stopped serving because of what checkers say. Returns the length of the hold
    /// that this starts, if any, in milliseconds.
    pub fn fell(&mut self, settings: &DebounceSettings, now: Millis) -> Option<Millis> {
        if settings.falls == 0 {
            return None;
        }
        while self.falls.front().is_some_and(|&at| now.saturating_sub(at) > settings.window_ms) {
            self.falls.pop_front();
        }
        self.falls.push_back(now);
        let excess = self.falls.len().saturating_sub(settings.falls as usize);
        self.falls.drain(..excess);
        self.level = match self.level {
            // It fell again, during its hold or soon after.
            1.. if now <= self.held_until.saturating_add(settings.window_ms) => {
                self.level.saturating_add(1)
            }
            // The first fall too many.
            _ if self.falls.len() >= settings.falls as usize => 1,
            // It has behaved for long enough, or it is the first fall for a while.
            _ => 0,
        };
        let doublings = self.level.checked_sub(1)?.min(63);
        let hold = settings.hold_ms.saturating_mul(1 << doublings).min(settings.max_hold_ms);
        self.held_until = now.saturating_add(hold);
        Some(hold)
    }

    /// How much longer the backend is held down, in milliseconds. `None`: it may come back.
    #[must_use]
    pub fn held(&self, now: Millis) -> Option<Millis> {
        self.held_until.checked_sub(now).filter(|&left| left > 0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_hold_grows_is_bounded_and_is_forgotten() {
        let settings = DebounceSettings::default();
        let mut debounce = Debounce::default();
        let mut at = 0;
        for (after_seconds, story) in [
            (0, "the first fall"),
            (20, "the second"),
            (20, "the third within two minutes"),
            (15, "fell again after its hold of 10 s"),
            (25, "and again"),
            (45, "and again"),
            (85, "and again"),
            (165, "and again"),
            (305, "and again"),
            (421, "has behaved for two minutes after its hold"),
        ] {
            at += after_seconds * 1_000;
            let hold = debounce.fell(&settings, at).map(|ms| ms / 1_000);
            let expected = match (after_seconds, story) {
                (_, "the first fall" | "the second") => None,
                (_, "the third within two minutes") => Some(10),
                (15, _) => Some(20),
                (25, _) => Some(40),
                (45, _) => Some(80),
                (85, _) => Some(160),
                (165 | 305, _) => Some(300), // not 320, not 640
                (_, "has behaved for two minutes after its hold") => None,
                _ => unreachable!("every step has an arm"),
            };
            assert_eq!(hold, expected, "{story}");
        }
    }

    #[test]
    fn falls_far_apart_are_not_flapping() {
        let mut debounce = Debounce::default();
        for i in 0..20 {
            assert_eq!(debounce.fell(&DebounceSettings::default(), i * 61_000), None);
        }
    }

    #[test]
    fn a_hold_ends_to_the_millisecond() {
        let mut debounce = Debounce::default();
        for at in [0, 1, 2] {
            debounce.fell(&DebounceSettings::default(), at);
        }
        assert_eq!(debounce.held(10_001), Some(1));
        assert_eq!(debounce.held(10_002), None);
    }

    #[test]
    fn it_can_be_switched_off() {
        let settings = DebounceSettings { falls: 0, ..DebounceSettings::default() };
        let mut debounce = Debounce::default();
        for at in 0..10 {
            assert_eq!(debounce.fell(&settings, at), None);
        }
    }

    proptest! {
        #[test]
        fn no_hold_is_longer_than_the_bound_and_memory_is_bounded(
            gaps in prop::collection::vec(0u64..400_000, 0..60), falls in 1u32..6,
        ) {
            let settings = DebounceSettings { falls, ..DebounceSettings::default() };
            let mut debounce = Debounce::default();
            let (mut now, mut count) = (0, 0);
            for gap in gaps {
                now += gap;
                count += 1;
                let hold = debounce.fell(&settings, now);
                prop_assert!(hold.is_none() || count >= falls);
                prop_assert!(hold.is_none_or(|h| (10_000..=300_000).contains(&h)));
                prop_assert_eq!(debounce.held(now), hold.or(debounce.held(now)));
                prop_assert!(debounce.falls.len() <= falls as usize);
            }
        }
    }
}
