//! How long to wait before the next attempt: exponential, with full jitter.
//!
//! A controller that comes back after an hour finds a fleet at its door. Were all to wait the
//! same time, they would knock together, again and again. So each waits a time drawn evenly
//! between nothing and a ceiling that doubles with each failure ("full jitter"; Marc Brooker,
//! "Exponential Backoff and Jitter", 2015).

use std::time::Duration;

/// Pauses between attempts. Cheap; each loop has its own.
#[derive(Clone, Debug)]
pub struct Backoff {
    base: Duration,
    cap: Duration,
    failures: u32,
}

impl Backoff {
    /// Ceilings of `base`, twice `base`, four times `base` ... up to `cap`.
    #[must_use]
    pub fn new(base: Duration, cap: Duration) -> Self {
        Self { base, cap, failures: 0 }
    }

    /// The pause before the next attempt.
    #[must_use]
    pub fn pause(&mut self) -> Duration {
        let pause = self.ceiling().mul_f64(fastrand::f64());
        self.failures = self.failures.saturating_add(1);
        pause
    }

    /// It worked: the next pause is short again.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// The longest that the next pause can be.
    #[must_use]
    pub fn ceiling(&self) -> Duration {
        let doubled =
            1u32.checked_shl(self.failures).and_then(|times| self.base.checked_mul(times));
        doubled.unwrap_or(self.cap).min(self.cap)
    }
}

impl Default for Backoff {
    /// From 100 ms to 3 s: an election takes about as long as the leader's lease, 5 s.
    fn default() -> Self {
        Self::new(Duration::from_millis(100), Duration::from_secs(3))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ceilings_double_up_to_the_cap_and_start_anew_after_a_success() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        let ceilings: Vec<u128> = (0..6)
            .map(|_| {
                let ceiling = backoff.ceiling();
                assert!(backoff.pause() <= ceiling);
                ceiling.as_millis()
            })
            .collect();
        assert_eq!(ceilings, [100, 200, 400, 800, 1_000, 1_000]);
        backoff.reset();
        assert_eq!(backoff.ceiling(), Duration::from_millis(100));
    }

    #[test]
    fn a_thousand_failures_do_not_overflow() {
        let mut backoff = Backoff::default();
        for _ in 0..1_000 {
            assert!(backoff.pause() <= Duration::from_secs(3));
        }
    }

    #[test]
    fn pauses_spread_over_the_whole_range() {
        let mut low = 0;
        for _ in 0..1_000 {
            let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(1));
            low += u32::from(backoff.pause() < Duration::from_millis(500));
        }
        assert!((350..650).contains(&low), "{low} of 1000 in the lower half");
    }
}
