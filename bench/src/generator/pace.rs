//! When the next packet is due: a rate in packets a second over a clock in nanoseconds.
//!
//! Packet `n` is due `n / rate` seconds after the start. That is computed from the start each time,
//! in 64 binary digits behind the point, so that nothing adds up: after any time exactly so many
//! packets have been due as the rate says. What a generator that was held up owes is sent as soon as
//! it can be, up to a limit; beyond it, packets are skipped, and counted, as a burst of all of them
//! would measure the generator and not what it feeds.

/// The most packets a second that can be asked for.
pub const FASTEST: u64 = 500_000_000;
/// Nanoseconds.
const SECOND: u64 = 1_000_000_000;

/// A rate, kept.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    start: u64,
    /// Packets a nanosecond, in units of 2^-64.
    step: u64,
    most_owed: u64,
    taken: u64,
    skipped: u64,
}

impl Pace {
    /// `rate` packets a second, 1 to [`FASTEST`] (clamped to it), from `start` on; of those that
    /// were due and not taken, at most `most_owed` are kept.
    pub fn new(rate: u64, start: u64, most_owed: u64) -> Self {
        let rate = u128::from(rate.clamp(1, FASTEST));
        // Rounded up, or a whole number of packets would be due a moment late. Below 2^63.
        let step = (rate << 64).div_ceil(u128::from(SECOND)) as u64;
        Self { start, step, most_owed, taken: 0, skipped: 0 }
    }

    /// How many packets are due at `now`, at most `most`. They count as taken.
    #[inline]
    pub fn take(&mut self, now: u64, most: u64) -> u64 {
        let elapsed = u128::from(now.saturating_sub(self.start));
        let due = ((elapsed * u128::from(self.step)) >> 64) as u64;
        let mut owed = due - self.taken.min(due);
        if owed > self.most_owed {
            self.skipped += owed - self.most_owed;
            self.taken += owed - self.most_owed;
            owed = self.most_owed;
        }
        let taken = owed.min(most);
        self.taken += taken;
        taken
    }

    /// Packets that were due and are not sent any more.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_any_time_exactly_as_many_were_due_as_the_rate_says() {
        for rate in [1, 3, 7, 999, 1_000_000, 14_880_952, 123_456_789, FASTEST] {
            let mut pace = Pace::new(rate, 77, u64::MAX);
            let mut taken = 0;
            // Steps without a common divisor with anything, then a long one.
            for now in (77..).step_by(1_234_567).take(1000).chain([77 + 86_400 * SECOND]) {
                taken += pace.take(now, u64::MAX);
                let exact = u128::from(now - 77) * u128::from(rate) / u128::from(SECOND);
                assert!(u128::from(taken).abs_diff(exact) <= 1, "{rate} a second, {now}: {taken}");
            }
            assert_eq!(taken, rate * 86_400, "{rate}");
            assert_eq!(pace.skipped(), 0);
        }
    }

    #[test]
    fn packets_of_one_second_lie_evenly() {
        let mut pace = Pace::new(1_000_000, 0, u64::MAX);
        let moments: Vec<u64> = (0..1_000_000).filter(|now| pace.take(*now, 9) == 1).collect();
        assert_eq!(moments.len(), 999);
        assert!(moments.windows(2).all(|pair| pair[1] - pair[0] == 1000), "{moments:?}");
    }

    #[test]
    fn a_generator_that_was_away_owes_up_to_the_limit() {
        let mut pace = Pace::new(1_000_000, 0, 64);
        assert_eq!(pace.take(10_000, 64), 10);
        // Away for 10 ms: 10,000 were due.
        assert_eq!(pace.take(10_010_000, 40), 40);
        assert_eq!(pace.skipped(), 10_000 - 64);
        assert_eq!(pace.take(10_010_000, 40), 24);
        assert_eq!(pace.take(10_010_000, 40), 0);
        assert_eq!(pace.take(10_020_000, 40), 10);
        assert_eq!(pace.skipped(), 10_000 - 64);
    }

    #[test]
    fn a_clock_that_steps_back_owes_nothing() {
        let mut pace = Pace::new(1_000, 5 * SECOND, 10);
        assert_eq!(pace.take(SECOND, 10), 0);
        assert_eq!(pace.take(5 * SECOND + 2_000_000, 10), 2);
        assert_eq!(pace.take(5 * SECOND, 10), 0);
    }
}
