//! Which controller is asked next: a plain value, without network and clock.
//!
//! A known leader first; else the endpoints in turn. How often one may go on without a pause is
//! counted here, so that neither a list of dead endpoints nor controllers that name each other in
//! a circle make a hot loop: between two pauses each endpoint is left at most once, and at most
//! [`HINTS_IN_A_ROW`] hints are followed.

use crate::Address;

/// So many hints are followed without a pause; more look like a circle.
const HINTS_IN_A_ROW: u32 = 3;

/// When to try again after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// At once: the leader was named, or another controller has not been asked yet.
    Now,
    /// After a pause: all have been asked.
    AfterPause,
}

/// Where to go.
pub(crate) struct Leading {
    /// Never empty.
    endpoints: Vec<Address>,
    /// Index of the endpoint whose turn it is, when no leader is known.
    turn: usize,
    /// Where a follower said that the leader is.
    leader: Option<Address>,
    /// Hints followed since the last success or pause.
    hints: u32,
    /// Endpoints left since the last success or pause.
    left: usize,
}

impl Leading {
    /// `endpoints` must not be empty.
    pub(crate) fn new(endpoints: Vec<Address>) -> Self {
        Self { endpoints, turn: 0, leader: None, hints: 0, left: 0 }
    }

    /// The controller to ask.
    pub(crate) fn target(&self) -> &Address {
        // `turn` is kept below the length, which is not 0.
        self.leader.as_ref().unwrap_or_else(|| &self.endpoints[self.turn])
    }

    /// `address` has failed; `hint` is the leader that it named. Does nothing when somebody else
    /// has left it already.
    pub(crate) fn leave(&mut self, address: &Address, hint: Option<Address>) -> Next {
        if self.target() != address {
            return Next::Now;
        }
        let next = match &hint {
            Some(_) if self.hints < HINTS_IN_A_ROW => {
                self.hints += 1;
                Next::Now
            }
            None if self.left + 1 < self.endpoints.len() => {
                self.left += 1;
                Next::Now
            }
            _ => {
                self.hints = 0;
                self.left = 0;
                Next::AfterPause
            }
        };
        // After a leader outside of the list, whose turn it is stays.
        if let Some(index) = self.endpoints.iter().position(|endpoint| endpoint == address) {
            self.turn = (index + 1) % self.endpoints.len();
        }
        self.leader = hint;
        next
    }

    /// `address` answers.
    pub(crate) fn worked(&mut self, address: &Address) {
        if self.target() == address {
            self.hints = 0;
            self.left = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(n: usize) -> Address {
        Address::parse(&format!("http://127.0.0.1:{}", n + 1)).expect("an address")
    }

    fn leading(endpoints: usize) -> Leading {
        Leading::new((0..endpoints).map(address).collect())
    }

    #[test]
    fn endpoints_are_asked_in_turn_with_a_pause_after_each_round() {
        let mut leading = leading(3);
        let mut story = Vec::new();
        for _ in 0..7 {
            let target = leading.target().clone();
            story.push((target.clone(), leading.leave(&target, None)));
        }
        let pauses: Vec<bool> = story.iter().map(|(_, next)| *next == Next::AfterPause).collect();
        assert_eq!(pauses, [false, false, true, false, false, true, false]);
        let asked: Vec<Address> = story.into_iter().map(|(target, _)| target).collect();
        assert_eq!(asked, [0, 1, 2, 0, 1, 2, 0].map(address));
    }

    #[test]
    fn a_hint_is_followed_and_dropped_when_it_fails() {
        let mut leading = leading(3);
        assert_eq!(leading.leave(&address(0), Some(address(9))), Next::Now);
        assert_eq!(*leading.target(), address(9));
        assert_eq!(leading.leave(&address(9), None), Next::Now);
        assert_eq!(*leading.target(), address(1), "the one after the follower");
    }

    #[test]
    fn latecomers_change_nothing() {
        let mut leading = leading(3);
        leading.leave(&address(0), Some(address(2)));
        for hint in [None, Some(address(1))] {
            assert_eq!(leading.leave(&address(0), hint), Next::Now);
            assert_eq!(*leading.target(), address(2));
        }
    }

    #[test]
    fn whoever_is_named_between_two_pauses_there_are_few_attempts() {
        let mut random = fastrand::Rng::with_seed(3);
        for endpoints in 1..5 {
            let mut leading = leading(endpoints);
            let mut without_pause = 0;
            for _ in 0..10_000 {
                let target = leading.target().clone();
                let hint = random.bool().then(|| address(random.usize(..6)));
                without_pause = match leading.leave(&target, hint) {
                    Next::Now => without_pause + 1,
                    Next::AfterPause => 0,
                };
                assert!(without_pause < 3 + endpoints, "{without_pause} of {endpoints}");
            }
        }
    }
}
