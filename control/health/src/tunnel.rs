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
//! - Without any reporting node the last decision stands, as everything does that nobody knows.
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
    said: BTreeMap<Id, BTreeMap<Id, (Verdict, Millis)>>,
}

/// How many nodes have which verdict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Nodes that the backend answers.
    pub up: usize,
    /// Nodes that it does not answer.
    pub down: usize,
}

impl Tunnels {
    /// What `node` says about `backend`, in place of what it said before.
    pub fn record(&mut self, node: &Id, backend: &Id, verdict: Verdict, at: Millis) {
        self.said.entry(backend.clone()).or_default().insert(node.clone(), (verdict, at));
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

    /// Counts the verdicts on `backend` that are younger than `stale_ms`.
    #[must_use]
    pub fn count(&self, backend: &str, stale_ms: Millis, now: Millis) -> Count {
        let mut count = Count::default();
        for (verdict, at) in self.said.get(backend).into_iter().flat_map(BTreeMap::values) {
            match verdict {
                _ if now.saturating_sub(*at) >= stale_ms => {}
                Verdict::Up => count.up += 1,
                Verdict::Down => count.down += 1,
                Verdict::Unknown => {}
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
                assert_eq!(Count { up, down }.decide(before), expected, "{up} up, {down} down");
            }
        }
        assert!(Count::default().decide(true) && !Count::default().decide(false));
    }

    #[test]
    fn only_fresh_verdicts_count_and_a_node_has_one() {
        let mut tunnels = Tunnels::default();
        let (a, b, backend) = (Id::from("a"), Id::from("b"), Id::from("b0"));
        tunnels.record(&a, &backend, Verdict::Down, 0);
        tunnels.record(&a, &backend, Verdict::Down, 1_000);
        tunnels.record(&b, &backend, Verdict::Unknown, 1_000);
        let count = |tunnels: &Tunnels, now| tunnels.count("b0", 15_000, now);
        assert_eq!(count(&tunnels, 1_000), Count { up: 0, down: 1 });
        assert_eq!(count(&tunnels, 15_999), Count { up: 0, down: 1 });
        assert_eq!(count(&tunnels, 16_000), Count::default());
        tunnels.record(&b, &backend, Verdict::Up, 2_000);
        assert_eq!(count(&tunnels, 2_000), Count { up: 1, down: 1 });
        tunnels.node_gone("a");
        assert_eq!(count(&tunnels, 2_000), Count { up: 1, down: 0 });
        tunnels.forget("b0");
        assert_eq!(count(&tunnels, 2_000), Count::default());
    }
}
