//! The bleed-out of a draining backend: how long its flows may go on.
//!
//! A drain ends when its window is over, or earlier when no node has a flow left. The early end
//! must not be fooled: a node that has not yet applied the snapshot of the drain still gives the
//! backend new flows, so a zero counts only when it was reported a settling time after the drain
//! began, and it counts only once **every** node known has reported one. A silent node therefore
//! leaves the drain to its window, never shortens it. A new leader knows no node yet, and the last
//! one to find it may be the one with the flows: it gives all of them the time to come.

use std::collections::BTreeMap;

use crate::lifecycle::Cause;
use crate::{Id, Millis, SettingsError};

/// How drains end. All times in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DrainSettings {
    /// The bleed-out window, when the drain itself names none.
    pub window_ms: Millis,
    /// Flow counts from this long after the start do not count yet: the time in which every node
    /// applies the snapshot that takes the backend out of the table.
    pub settle_ms: Millis,
    /// The same for a drain that another leader began: the time in which every node notices that
    /// its controller is gone (two keep-alives, 10 s), finds the leader, and reports to it.
    pub takeover_ms: Millis,
}

/// One drain under way.
#[derive(Clone, Debug)]
pub struct Drain {
    since: Millis,
    window: Millis,
    taken_over: bool,
    flows: BTreeMap<Id, Count>,
}

/// How far a drain is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It goes on.
    Waiting {
        /// Milliseconds until the window is over.
        left_ms: Millis,
        /// Flows left on the nodes that have reported since the drain began; `None` before the
        /// first report.
        flows: Option<u64>,
    },
    /// It is over, for this cause.
    Ended(Cause),
}

#[derive(Clone, Copy, Debug)]
struct Count {
    at: Millis,
    flows: u64,
}

impl DrainSettings {
    /// # Errors
    /// When a window would not end within a day: such a drain is a mistyped unit.
    pub fn validate(&self) -> Result<(), SettingsError> {
        SettingsError::unless(
            self.window_ms <= 86_400_000,
            "drain.window_ms",
            "at most 86400000 (a day)",
        )
    }
}

impl Default for DrainSettings {
    fn default() -> Self {
        Self { window_ms: 60_000, settle_ms: 5_000, takeover_ms: 30_000 }
    }
}

impl Drain {
    /// A drain that began at `now` and lasts at most `window` ms. A window of 0 ends at once.
    #[must_use]
    pub fn new(now: Millis, window: Millis) -> Self {
        Self { since: now, window, taken_over: false, flows: BTreeMap::new() }
    }

    /// A drain that another leader began, and of whose window `left` ms are left at `now`.
    #[must_use]
    pub fn taken_over(now: Millis, left: Millis) -> Self {
        Self { taken_over: true, ..Self::new(now, left) }
    }

    /// Node `node` has `flows` live flows on the backend, as of `at`. Older counts are dropped;
    /// of two of one time the greater stands.
    pub fn count(&mut self, node: &Id, flows: u64, at: Millis) {
        if at < self.since {
            return;
        }
        let count = self.flows.entry(node.clone()).or_insert(Count { at, flows });
        if at > count.at {
            *count = Count { at, flows };
        } else if at == count.at {
            count.flows = count.flows.max(flows);
        }
    }

    /// How far the drain is at `now`, with `nodes` the nodes that may hold flows.
    #[must_use]
    pub fn progress<'a>(
        &self,
        settings: &DrainSettings,
        nodes: impl IntoIterator<Item = &'a Id>,
        now: Millis,
    ) -> Progress {
        if now.saturating_sub(self.since) >= self.window {
            return Progress::Ended(Cause::WindowOver);
        }
        let settle_ms = if self.taken_over { settings.takeover_ms } else { settings.settle_ms };
        let settled = self.since.saturating_add(settle_ms);
        let gone = |node: &Id| self.flows.get(node).is_some_and(|c| c.flows == 0 && c.at > settled);
        let mut nodes = nodes.into_iter().peekable();
        if nodes.peek().is_some() && nodes.all(gone) {
            return Progress::Ended(Cause::FlowsGone);
        }
        let left_ms = self.window - now.saturating_sub(self.since);
        let sum = self.flows.values().fold(0u64, |sum, c| sum.saturating_add(c.flows));
        Progress::Waiting { left_ms, flows: (!self.flows.is_empty()).then_some(sum) }
    }

    /// Forgets the counts of a node that is gone from the fleet.
    pub fn node_gone(&mut self, node: &Id) {
        self.flows.remove(node);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn nodes(n: usize) -> Vec<Id> {
        (0..n).map(|i| Id::from(format!("lb-{i}"))).collect()
    }

    #[test]
    fn a_drain_ends_when_it_should() {
        // (counts as (node, flows, at), now) for a drain from 1,000 over 60,000 with two nodes.
        type Case = (&'static str, &'static [(usize, u64, Millis)], Millis);
        let cases: [Case; 9] = [
            ("nobody has reported", &[], 30_000),
            ("nobody has reported until the window is over", &[], 61_000),
            ("one millisecond before the end", &[(0, 9, 60_000)], 60_999),
            ("both nodes are empty", &[(0, 0, 9_000), (1, 0, 9_500)], 10_000),
            ("one node still has a flow", &[(0, 0, 9_000), (1, 1, 9_000)], 10_000),
            ("one node is silent", &[(0, 0, 9_000)], 10_000),
            (
                "the zeros are from before the drain was applied",
                &[(0, 0, 2_000), (1, 0, 2_000)],
                10_000,
            ),
            ("the zeros are from before the drain", &[(0, 0, 500), (1, 0, 500)], 10_000),
            ("an old count comes late", &[(0, 0, 9_000), (1, 0, 9_000), (1, 5, 8_000)], 10_000),
        ];
        for (name, counts, now) in cases {
            let mut drain = Drain::new(1_000, 60_000);
            let nodes = nodes(2);
            for &(node, flows, at) in counts {
                drain.count(&nodes[node], flows, at);
            }
            let got = drain.progress(&DrainSettings::default(), &nodes, now);
            let waiting = |left_ms, flows| Progress::Waiting { left_ms, flows };
            let expected = match name {
                "nobody has reported until the window is over" => {
                    Progress::Ended(Cause::WindowOver)
                }
                "both nodes are empty" | "an old count comes late" => {
                    Progress::Ended(Cause::FlowsGone)
                }
                "one millisecond before the end" => waiting(1, Some(9)),
                "one node still has a flow" => waiting(51_000, Some(1)),
                "nobody has reported" => waiting(31_000, None),
                "the zeros are from before the drain" => waiting(51_000, None),
                _ => waiting(51_000, Some(0)),
            };
            assert_eq!(got, expected, "{name}");
        }
    }

    #[test]
    fn without_nodes_the_window_decides() {
        let drain = Drain::new(0, 60_000);
        let settings = DrainSettings::default();
        let waiting = Progress::Waiting { left_ms: 1, flows: None };
        assert_eq!(drain.progress(&settings, &[], 59_999), waiting);
        assert_eq!(drain.progress(&settings, &[], 60_000), Progress::Ended(Cause::WindowOver));
    }

    #[test]
    fn a_new_leader_waits_for_the_node_that_finds_it_last() {
        let settings = DrainSettings::default();
        let mut drain = Drain::taken_over(0, 60_000);
        let nodes = nodes(2);
        drain.count(&nodes[0], 0, 11_000);
        let waiting = Progress::Waiting { left_ms: 49_000, flows: Some(0) };
        assert_eq!(drain.progress(&settings, &nodes[..1], 11_000), waiting, "one is here");
        drain.count(&nodes[1], 3, 14_000);
        drain.count(&nodes[0], 0, 31_000);
        let waiting = Progress::Waiting { left_ms: 29_000, flows: Some(3) };
        assert_eq!(drain.progress(&settings, &nodes, 31_000), waiting, "the other has flows");
        drain.count(&nodes[1], 0, 32_000);
        let ended = Progress::Ended(Cause::FlowsGone);
        assert_eq!(drain.progress(&settings, &nodes, 32_000), ended, "both are empty");
        let over = Drain::taken_over(0, 7).progress(&settings, &nodes, 7);
        assert_eq!(over, Progress::Ended(Cause::WindowOver), "the window stands");
    }

    #[test]
    fn a_window_of_zero_ends_at_once() {
        let ended = Drain::new(7, 0).progress(&DrainSettings::default(), &nodes(1), 7);
        assert_eq!(ended, Progress::Ended(Cause::WindowOver));
    }

    proptest! {
        #[test]
        fn never_later_than_the_window_and_never_early_with_a_flow_left(
            counts in prop::collection::vec((0usize..3, 0u64..3, 0u64..70_000), 0..40),
            now in 0u64..70_000,
        ) {
            let nodes = nodes(3);
            let mut drain = Drain::new(0, 60_000);
            let mut last = [None; 3];
            for (node, flows, at) in counts {
                drain.count(&nodes[node], flows, at);
                last[node] = last[node].max(Some((at, flows)));
            }
            match drain.progress(&DrainSettings::default(), &nodes, now) {
                Progress::Waiting { .. } => prop_assert!(now < 60_000),
                Progress::Ended(Cause::WindowOver) => prop_assert!(now >= 60_000),
                Progress::Ended(_) => {
                    prop_assert!(last.iter().all(|l| l.is_some_and(|(at, f)| f == 0 && at > 5_000)));
                }
            }
        }
    }
}
