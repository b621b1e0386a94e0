//! Whether the nodes reach a backend the way clients do: at its VIP, through the tunnel.
//!
//! Checkers probe a backend at its own address. One whose VIP or tunnel is gone passes those
//! probes and swallows its clients' packets, and only a node can see that (SPEC section 7). Each
//! node has a verdict of its own, by the same runs of failures and passes as a checker's
//! ([`crate::thresholds`]); here they are counted:
//!
//! | reporting nodes | down when |
//! |---|---|
//! | 1 | it says so |
//! | 2 | both say so |
//! | 3 | 2 say so |
//! | n | more than n / 2 say so |
//!
//! - A node without a verdict, or whose last word is too old, is no reporting node: one that is
//!   cut off takes its opinion with it.
//! - When all of them are silent the last decision stands, as everything does that nobody knows.
//! - When nodes report, and none of them has had a verdict for as long as it takes a word to be too
//!   old, nobody probes the backend any more (its pool has no VIP that can be): it is not down. A
//!   node that has just started is without a verdict for seconds only.
//! - Down means no new flows, like "not ready": the state in the registry stays, nothing is reset,
//!   and it counts for the panic threshold. So an only node whose own return path is broken, which
//!   misses all backends at once, empties no pool.
//! - Nothing of this is in the registry: a new leader waits for the nodes' next reports.

use std::collections::BTreeMap;

use crate::thresholds::Verdict;
use crate::{Id, Millis};

/// What all nodes said last, about all backends of a pool.
#[derive(Clone, Debug, Default)]
pub struct Tunnels {
    said: BTreeMap<Id, BTreeMap<Id, Word>>,
}

/// What a node says about a backend.
#[derive(Clone, Copy, Debug)]
struct Word {
    verdict: Verdict,
    /// When it was said last.
    at: Millis,
    /// Since when it has been said without a pause in which it would have been too old.
    since: Millis,
}

/// How many nodes have which verdict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Nodes that the backend answers.
    pub up: usize,
    /// Nodes that it does not answer.
    pub down: usize,
    /// Nodes without a verdict that may still come to one.
    pub undecided: usize,
    /// Nodes that have had none for so long that they do not probe it.
    pub not_probing: usize,
}

impl Tunnels {
    /// What `node` says about `backend`, in place of what it said before. After `stale_ms` of
    /// silence it begins anew.
    pub fn record(
        &mut self,
        node: &Id,
        backend: &Id,
        verdict: Verdict,
        stale_ms: Millis,
        at: Millis,
    ) {
        let said = self.said.entry(backend.clone()).or_default();
        let goes_on = said
            .get(node)
            .filter(|word| word.verdict == verdict && at.saturating_sub(word.at) < stale_ms);
        let since = goes_on.map_or(at, |word| word.since);
        said.insert(node.clone(), Word { verdict, at, since });
    }

    /// Forgets all about `backend`.
    pub fn forget(&mut self, backend: &str) {
        self.said.remove(backend);
    }

    /// Forgets what `node` said: it has left the fleet.
    pub fn node_gone(&mut self, node: &str) {
        for said in self.said.values_mut() {
            said.remove(node);
        }
        self.said.retain(|_, said| !said.is_empty());
    }

    /// Counts the words on `backend` that are younger than `stale_ms`.
    #[must_use]
    pub fn count(&self, backend: &str, stale_ms: Millis, now: Millis) -> Count {
        let mut count = Count::default();
        for word in self.said.get(backend).into_iter().flat_map(BTreeMap::values) {
            match word.verdict {
                _ if now.saturating_sub(word.at) >= stale_ms => {}
                Verdict::Up => count.up += 1,
                Verdict::Down => count.down += 1,
                Verdict::Unknown if now.saturating_sub(word.since) < stale_ms => {
                    count.undecided += 1;
                }
                Verdict::Unknown => count.not_probing += 1,
            }
        }
        count
    }
}

impl Count {
    /// Nodes that have a verdict.
    #[must_use]
    pub fn of(self) -> usize {
        self.up + self.down
    }

    /// Whether the backend counts as down, when it was `before`.
    #[must_use]
    pub fn decide(self, before: bool) -> bool {
        match self.of() {
            // All nodes say that they do not probe it.
            0 if self.not_probing > 0 && self.undecided == 0 => false,
            // Nobody knows.
            0 => before,
            of => self.down * 2 > of,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_half_of_the_reporting_nodes_decide() {
        // Up, down, expected.
        let cases = [
            (1, 0, false),
            (0, 1, true),
            (1, 1, false),
            (0, 2, true),
            (2, 1, false),
            (1, 2, true),
            (2, 2, false),
            (1, 3, true),
            (6, 6, false),
            (5, 7, true),
        ];
        for (up, down, expected) in cases {
            for before in [false, true] {
                // Who has no verdict has no say.
                for (undecided, not_probing) in [(0, 0), (9, 0), (0, 9)] {
                    let count = Count { up, down, undecided, not_probing };
                    assert_eq!(count.decide(before), expected, "{count:?}");
                }
            }
        }
    }

    #[test]
    fn without_a_verdict_the_last_decision_stands_unless_nobody_probes() {
        // Undecided, not probing, what becomes of a backend that was down.
        let cases = [(0, 0, true), (2, 0, true), (1, 2, true), (0, 1, false), (0, 3, false)];
        for (undecided, not_probing, expected) in cases {
            let count = Count { undecided, not_probing, ..Count::default() };
            assert_eq!(count.decide(true), expected, "{count:?}");
            assert!(!count.decide(false), "{count:?}");
        }
    }

    #[test]
    fn a_node_does_not_probe_when_it_has_had_no_verdict_for_long_and_was_heard_all_the_while() {
        let mut tunnels = Tunnels::default();
        let (node, backend) = (Id::from("a"), Id::from("b0"));
        let mut say = |verdict, at| {
            tunnels.record(&node, &backend, verdict, 15_000, at);
            let count = tunnels.count("b0", 15_000, at);
            (count.up, count.undecided, count.not_probing)
        };
        for (at, expected) in [(0, (0, 1, 0)), (14_000, (0, 1, 0)), (15_000, (0, 0, 1))] {
            assert_eq!(say(Verdict::Unknown, at), expected, "at {at}");
        }
        assert_eq!(say(Verdict::Up, 16_000), (1, 0, 0));
        assert_eq!(say(Verdict::Unknown, 17_000), (0, 1, 0), "it begins anew");
        assert_eq!(say(Verdict::Unknown, 31_999), (0, 1, 0));
        assert_eq!(say(Verdict::Unknown, 47_000), (0, 1, 0), "it was silent for too long");
    }

    #[test]
    fn only_fresh_verdicts_count_and_a_node_has_one() {
        let mut tunnels = Tunnels::default();
        let (a, b, backend) = (Id::from("a"), Id::from("b"), Id::from("b0"));
        tunnels.record(&a, &backend, Verdict::Down, 15_000, 0);
        tunnels.record(&a, &backend, Verdict::Down, 15_000, 1_000);
        tunnels.record(&b, &backend, Verdict::Unknown, 15_000, 1_000);
        let count = |tunnels: &Tunnels, now| {
            let count = tunnels.count("b0", 15_000, now);
            (count.up, count.down)
        };
        assert_eq!(count(&tunnels, 1_000), (0, 1));
        assert_eq!(count(&tunnels, 15_999), (0, 1));
        assert_eq!(tunnels.count("b0", 15_000, 16_000), Count::default());
        tunnels.record(&b, &backend, Verdict::Up, 15_000, 2_000);
        assert_eq!(count(&tunnels, 2_000), (1, 1));
        tunnels.node_gone("a");
        assert_eq!(count(&tunnels, 2_000), (1, 0));
        tunnels.forget("b0");
        assert_eq!(count(&tunnels, 2_000), (0, 0));
    }
}
