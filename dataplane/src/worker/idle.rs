//! What a worker does when no packet came.

use std::num::NonZeroU64;
use std::time::Duration;

/// The policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idle {
    /// Polls on: least latency, a whole core.
    Spin,
    /// Pauses, then sleeps briefly, and longer while nothing comes.
    Backoff,
}

/// Empty rounds before the first sleep, after little traffic: ten microseconds or so.
const SPIN_ROUNDS: u32 = 256;
/// Each round with packets since the last sleep adds so many: whoever pauses amid much traffic comes
/// back soon, and a worker that sleeps then has a full ring when it wakes.
const SPIN_ROUNDS_FOR_TRAFFIC: u32 = 16;
/// The most: some hundred microseconds.
const MOST_SPIN_ROUNDS: u32 = 8192;
/// The first sleep.
const FIRST_SLEEP: Duration = Duration::from_micros(20);
/// The longest sleep: what an idle node adds to the first packet's latency.
const LONGEST_SLEEP: Duration = Duration::from_micros(250);

/// Has the kernel end the calling thread's sleeps when they are over. By default it lets them last
/// up to 50 us longer, so that timers of several threads go off together: more than the first sleep.
pub(super) fn sleep_precisely() {
    // A kernel that refuses sleeps as long as it likes.
    let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
}

/// How long nothing has come, and what follows from it.
#[derive(Debug)]
pub(super) struct Backoff {
    policy: Idle,
    /// Empty rounds since the last packet, and how many there are before a sleep.
    rounds: u32,
    spin_rounds: u32,
    sleep: Duration,
}

impl Backoff {
    pub(super) fn new(policy: Idle) -> Self {
        Self { policy, rounds: 0, spin_rounds: SPIN_ROUNDS, sleep: FIRST_SLEEP }
    }

    /// A packet came.
    #[inline]
    pub(super) fn reset(&mut self) {
        self.rounds = 0;
        self.spin_rounds = (self.spin_rounds + SPIN_ROUNDS_FOR_TRAFFIC).min(MOST_SPIN_ROUNDS);
        self.sleep = FIRST_SLEEP;
    }

    /// Whether the next [`Self::wait`] sleeps.
    #[inline]
    pub(super) fn is_about_to_sleep(&self) -> bool {
        self.policy == Idle::Backoff && self.rounds >= self.spin_rounds
    }

    /// No packet came: pause, or sleep.
    #[inline]
    pub(super) fn wait(&mut self) {
        if !self.is_about_to_sleep() {
            self.rounds = self.rounds.saturating_add(1);
            std::hint::spin_loop();
            return;
        }
        self.spin_rounds = SPIN_ROUNDS;
        // Asleep until a packet comes: no pauses between two sleeps.
        self.rounds = SPIN_ROUNDS;
        std::thread::sleep(self.sleep);
        self.sleep = (self.sleep * 2).min(LONGEST_SLEEP);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Empty rounds until the next would sleep.
    fn empty_rounds_before_sleep(idle: &mut Backoff) -> u32 {
        let mut rounds = 0;
        while !idle.is_about_to_sleep() && rounds < 1_000_000 {
            idle.wait();
            rounds += 1;
        }
        rounds
    }

    #[test]
    fn one_that_spins_never_sleeps() {
        assert_eq!(empty_rounds_before_sleep(&mut Backoff::new(Idle::Spin)), 1_000_000);
    }

    #[test]
    fn the_more_traffic_there_was_the_longer_it_looks_before_it_sleeps() {
        let mut idle = Backoff::new(Idle::Backoff);
        assert_eq!(empty_rounds_before_sleep(&mut idle), SPIN_ROUNDS);
        idle.reset();
        assert_eq!(empty_rounds_before_sleep(&mut idle), SPIN_ROUNDS + SPIN_ROUNDS_FOR_TRAFFIC);
        (0..100_000).for_each(|_| idle.reset());
        assert_eq!(empty_rounds_before_sleep(&mut idle), MOST_SPIN_ROUNDS);
    }

    #[test]
    fn asleep_it_looks_once_between_sleeps_and_they_grow_until_a_packet_comes() {
        let mut idle = Backoff::new(Idle::Backoff);
        (0..1000).for_each(|_| idle.reset());
        empty_rounds_before_sleep(&mut idle);
        for sleep in [20, 40, 80, 160, 250, 250] {
            assert!(idle.is_about_to_sleep());
            assert_eq!(idle.sleep, Duration::from_micros(sleep));
            idle.wait();
        }
        idle.reset();
        assert_eq!(idle.sleep, FIRST_SLEEP);
        assert_eq!(empty_rounds_before_sleep(&mut idle), SPIN_ROUNDS + SPIN_ROUNDS_FOR_TRAFFIC);
    }
}
