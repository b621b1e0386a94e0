//! What a worker does when no packet came.

use std::time::Duration;

/// The policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idle {
    /// Polls on: least latency, a whole core.
    Spin,
    /// Pauses, then sleeps briefly, and longer while nothing comes.
    Backoff,
}

/// Empty rounds before the first sleep: some tens of microseconds.
const SPIN_ROUNDS: u32 = 256;
/// The first sleep.
const FIRST_SLEEP: Duration = Duration::from_micros(20);
/// The longest sleep: what an idle node adds to the first packet's latency.
const LONGEST_SLEEP: Duration = Duration::from_micros(250);

/// How long nothing has come, and what follows from it.
#[derive(Debug)]
pub(super) struct Backoff {
    policy: Idle,
    rounds: u32,
    sleep: Duration,
}

impl Backoff {
    pub(super) fn new(policy: Idle) -> Self {
        Self { policy, rounds: 0, sleep: FIRST_SLEEP }
    }

    /// A packet came.
    #[inline]
    pub(super) fn reset(&mut self) {
        self.rounds = 0;
        self.sleep = FIRST_SLEEP;
    }

    /// Whether the next [`Self::wait`] sleeps.
    #[inline]
    pub(super) fn is_about_to_sleep(&self) -> bool {
        self.policy == Idle::Backoff && self.rounds >= SPIN_ROUNDS
    }

    /// No packet came: pause, or sleep.
    #[inline]
    pub(super) fn wait(&mut self) {
        if !self.is_about_to_sleep() {
            self.rounds = self.rounds.saturating_add(1);
            std::hint::spin_loop();
            return;
        }
        std::thread::sleep(self.sleep);
        self.sleep = (self.sleep * 2).min(LONGEST_SLEEP);
    }
}
