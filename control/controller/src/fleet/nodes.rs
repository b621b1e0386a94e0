//! The nodes: what each one runs and carries, as it reports itself.
//!
//! A report is the node's whole picture and replaces the one before. Its counters run from the
//! node's start, so what passed since the last report is a difference; the first report of a
//! backend is only a base to count from (after a change of the leader it may hold days), and a
//! counter that went back says that the node started anew.
//!
//! At most [`MAX_NODES`]; what one report may hold is in `report.rs`. A node without a stream stays listed for [`FORGOTTEN_AFTER_MS`], then it is gone: drains wait for it
//! no longer. Its last counts of flows are in the sums until then, as it may still be forwarding:
//! nodes outlive their controllers.

use std::collections::{BTreeMap, HashMap};

use health::{Id, Millis};
use proto::v1;

use super::report::{Applied, Heard, Refusal, check, take};

/// Nodes that a fleet may have.
pub(crate) const MAX_NODES: usize = 1024;
/// A node without a stream for so long is forgotten.
pub(crate) const FORGOTTEN_AFTER_MS: Millis = 600_000;
/// All nodes heard of. Times are passed in and never go back.
#[derive(Clone, Debug, Default)]
pub(crate) struct Nodes {
    known: BTreeMap<Id, Known>,
    /// Of each backend the flows over all nodes, kept with every report: it is asked for often.
    flows: HashMap<Id, u128>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    pub(super) zone: String,
    pub(super) version: String,
    pub(super) store_id: String,
    pub(super) pools: BTreeMap<Id, Applied>,
    last_seen_ns: u64,
    pub(super) streams: usize,
    silent_since: Millis,
}

/// What a report brings.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct News {
    /// Pools the node serves; by id, with what is to be told to each one's health.
    pub(crate) pools: Vec<(Id, Vec<Heard>)>,
    /// Pools it served until the last report, and does not any more.
    pub(crate) left: Vec<Id>,
    /// Refusals that are new: pool, version it keeps, and why.
    pub(crate) refusals: Vec<(Id, u64, String)>,
}

impl Nodes {
    /// A stream of `id` opens.
    ///
    /// # Errors
    /// [`Refusal::Full`] when all places are taken by nodes that are connected: of the others
    /// the one that is silent longest makes room, and is returned as gone, with its pools.
    pub(crate) fn opened(&mut self, id: &Id, now: Millis) -> Result<Option<Gone>, Refusal> {
        let mut gone = None;
        if !self.known.contains_key(id) && self.known.len() >= MAX_NODES {
            let silent = self.known.iter().filter(|(_, k)| k.streams == 0);
            let oldest = silent.min_by_key(|(_, k)| k.silent_since).map(|(id, _)| id.clone());
            gone = oldest.and_then(|id| self.forget(&id));
            if gone.is_none() {
                return Err(Refusal::Full);
            }
        }
        let known = self.known.entry(id.clone()).or_default();
        known.streams += 1;
        known.silent_since = now;
        Ok(gone)
    }

    /// A stream of `id` has ended.
    pub(crate) fn closed(&mut self, id: &str, now: Millis) {
        let Some(known) = self.known.get_mut(id) else { return };
        known.streams = known.streams.saturating_sub(1);
        known.silent_since = now;
    }

    /// Those that are silent for [`FORGOTTEN_AFTER_MS`] are gone.
    pub(crate) fn expire(&mut self, now: Millis) -> Vec<Gone> {
        let over =
            |k: &Known| k.streams == 0 && now.saturating_sub(k.silent_since) >= FORGOTTEN_AFTER_MS;
        let ids: Vec<Id> =
            self.known.iter().filter(|(_, k)| over(k)).map(|(id, _)| id.clone()).collect();
        ids.iter().filter_map(|id| self.forget(id)).collect()
    }

    fn forget(&mut self, id: &Id) -> Option<Gone> {
        let known = self.known.remove(id)?;
        for applied in known.pools.values() {
            subtract(&mut self.flows, applied);
        }
        Some(Gone { node: id.clone(), pools: known.pools.into_keys().collect() })
    }

    /// Takes the report of a node with an open stream; of another one it is dropped. `now_ns` is
    /// the wall clock, for display.
    ///
    /// # Errors
    /// A [`Refusal`] when it is out of bounds.
    pub(crate) fn report(
        &mut self,
        id: &Id,
        report: v1::NodeReport,
        now: Millis,
        now_ns: u64,
    ) -> Result<News, Refusal> {
        check(&report)?;
        let Some(known) = self.known.get_mut(id) else { return Ok(News::default()) };
        known.last_seen_ns = now_ns;
        known.silent_since = now;
        (known.zone, known.version) = (report.zone, report.version);
        let mut before = std::mem::take(&mut known.pools);
        if known.store_id != report.store_id {
            // Its versions are of another life; its counters are not.
            known.store_id = report.store_id;
        }
        let mut news = News::default();
        for pool in report.pools {
            let pool_id = Id::from(pool.pool_id.as_str());
            let old = before.remove(&pool_id).unwrap_or_default();
            let (applied, reports) = take(id, pool, &old, now);
            subtract(&mut self.flows, &old);
            add(&mut self.flows, &applied);
            if !applied.refused.is_empty() && applied.refused != old.refused {
                let refusal = (pool_id.clone(), applied.version, applied.refused.clone());
                news.refusals.push(refusal);
            }
            news.pools.push((pool_id.clone(), reports));
            // Named twice in one report: the second one counts.
            if let Some(first) = known.pools.insert(pool_id, applied) {
                subtract(&mut self.flows, &first);
            }
        }
        for applied in before.values() {
            subtract(&mut self.flows, applied);
        }
        news.left = before.into_keys().collect();
        Ok(news)
    }

    /// All nodes, in the order of their ids.
    pub(crate) fn list(&self) -> Vec<v1::Node> {
        let node = |(id, known): (&Id, &Known)| v1::Node {
            node_id: id.to_string(),
            zone: known.zone.clone(),
            version: known.version.clone(),
            last_seen_ns: known.last_seen_ns,
            connected: known.streams > 0,
            pools: known.pools.iter().map(|(pool, applied)| applied.to_wire(pool)).collect(),
        };
        self.known.iter().map(node).collect()
    }

    /// The flows on a backend, over all nodes.
    pub(crate) fn flows(&self, backend: &str) -> u64 {
        let sum = self.flows.get(backend).copied().unwrap_or(0);
        u64::try_from(sum).unwrap_or(u64::MAX)
    }

    /// Whether every connected node that serves `pool` runs `version` of it, or a later one of the
    /// same store. A node that has not reported yet may serve it.
    pub(crate) fn applied(&self, store_id: &str, pool: &str, version: u64) -> bool {
        self.known.values().filter(|k| k.streams > 0).all(|k| {
            let current = |a: &Applied| k.store_id == store_id && a.version >= version;
            k.last_seen_ns > 0 && k.pools.get(pool).is_none_or(current)
        })
    }

    /// How many have a stream open.
    pub(crate) fn connected(&self) -> usize {
        self.known.values().filter(|k| k.streams > 0).count()
    }

    pub(super) fn known(&self) -> impl Iterator<Item = (&Id, &Known)> {
        self.known.iter()
    }
}

/// A node that left the fleet, and the pools it served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Gone {
    pub(crate) node: Id,
    pub(crate) pools: Vec<Id>,
}

fn add(sums: &mut HashMap<Id, u128>, applied: &Applied) {
    for (backend, traffic) in applied.traffic.iter().filter(|(_, t)| t.active_flows > 0) {
        let sum = sums.entry(backend.clone()).or_default();
        *sum += u128::from(traffic.active_flows);
    }
}

fn subtract(sums: &mut HashMap<Id, u128>, applied: &Applied) {
    for (backend, traffic) in &applied.traffic {
        let Some(sum) = sums.get_mut(backend) else { continue };
        *sum = sum.saturating_sub(u128::from(traffic.active_flows));
        if *sum == 0 {
            sums.remove(backend);
        }
    }
}

#[cfg(test)]
mod tests {
    use health::outlier::Signals;
    use health::thresholds::Verdict;
    use proto::v1::{AppliedPool, BackendTraffic, Health};

    use super::super::report::MAX_REASON;
    use super::*;

    fn traffic(backend: &str, flows: u64, new: u64, resets: u64, again: u64) -> BackendTraffic {
        BackendTraffic {
            backend_id: backend.into(),
            active_flows: flows,
            new_flows: new,
            client_resets: resets,
            syn_retransmits: again,
            ..BackendTraffic::default()
        }
    }

    fn report(pool: &str, backends: Vec<BackendTraffic>) -> v1::NodeReport {
        let pool = AppliedPool { pool_id: pool.into(), version: 1, backends, ..Default::default() };
        v1::NodeReport { store_id: "s".into(), pools: vec![pool], ..Default::default() }
    }

    fn id(id: &str) -> Id {
        Id::from(id)
    }

    #[test]
    fn what_passed_is_the_difference_of_two_reports() {
        let mut nodes = Nodes::default();
        nodes.opened(&id("n"), 0).expect("room");
        let signals = |new_flows, client_resets, syn_retransmits| Signals {
            new_flows,
            client_resets,
            syn_retransmits,
        };
        for (at, now, seen, story) in [
            (1, traffic("b", 9, 1_000, 50, 5), signals(0, 0, 0), "the first is a base"),
            (2, traffic("b", 7, 1_010, 53, 5), signals(10, 3, 0), "the second a difference"),
            (3, traffic("b", 7, 1_010, 53, 5), signals(0, 0, 0), "nothing happened"),
            (4, traffic("b", 1, 4, 0, 1), signals(4, 0, 1), "the node started anew"),
        ] {
            let flows = now.active_flows;
            let news = nodes.report(&id("n"), report("web", vec![now]), at, 0).expect(story);
            let report = health::NodeReport { node: id("n"), backend: id("b"), flows, seen, at };
            let heard = Heard { report, tunnel: Verdict::Unknown };
            assert_eq!(news.pools, [(id("web"), vec![heard])], "{story}");
        }
    }

    #[test]
    fn flows_are_summed_over_nodes_until_a_node_is_forgotten() {
        let mut nodes = Nodes::default();
        for (node, flows) in [("n1", 3), ("n2", 4)] {
            nodes.opened(&id(node), 0).expect("room");
            let report = report("web", vec![traffic("b", flows, 0, 0, 0)]);
            nodes.report(&id(node), report, 0, 0).expect("in bounds");
        }
        assert_eq!((nodes.flows("b"), nodes.flows("other")), (7, 0));
        let again = report("web", vec![traffic("b", 5, 0, 0, 0)]);
        nodes.report(&id("n1"), again, 0, 0).expect("in bounds");
        assert_eq!(nodes.flows("b"), 9, "a report replaces the one before");
        nodes.closed("n2", 1_000);
        assert_eq!(nodes.expire(1_000 + FORGOTTEN_AFTER_MS - 1), []);
        let listed: Vec<bool> = nodes.list().iter().map(|n| n.connected).collect();
        assert_eq!(listed, [true, false]);
        let gone = Gone { node: id("n2"), pools: vec![id("web")] };
        assert_eq!(nodes.expire(1_000 + FORGOTTEN_AFTER_MS), [gone]);
        assert_eq!(nodes.flows("b"), 5);
        nodes.report(&id("n1"), report("dns", vec![]), 0, 0).expect("in bounds");
        assert_eq!((nodes.flows("b"), nodes.flows.len()), (0, 0));
    }

    #[test]
    fn a_pool_that_a_node_stops_serving_is_left() {
        let mut nodes = Nodes::default();
        nodes.opened(&id("n"), 0).expect("room");
        nodes.report(&id("n"), report("web", vec![]), 0, 0).expect("in bounds");
        let news = nodes.report(&id("n"), report("dns", vec![]), 1, 0).expect("in bounds");
        assert_eq!(news.left, [id("web")]);
    }

    #[test]
    fn a_version_is_applied_when_all_who_serve_the_pool_run_it() {
        let mut nodes = Nodes::default();
        assert!(nodes.applied("s", "web", 1), "there is no node");
        for node in ["n1", "n2"] {
            nodes.opened(&id(node), 0).expect("room");
        }
        nodes.report(&id("n1"), report("web", vec![]), 0, 1).expect("in bounds");
        assert!(!nodes.applied("s", "web", 1), "one has not reported");
        nodes.report(&id("n2"), report("dns", vec![]), 0, 1).expect("in bounds");
        assert!(nodes.applied("s", "web", 1));
        assert!(!nodes.applied("s", "web", 2) && !nodes.applied("other", "web", 1));
        nodes.closed("n1", 1);
        assert!(nodes.applied("s", "web", 2), "who is away is not waited for");
    }

    #[test]
    fn what_the_tunnel_probe_says_is_passed_on() {
        let mut nodes = Nodes::default();
        nodes.opened(&id("n"), 0).expect("room");
        for (wire, expected) in [
            (Health::Unknown.into(), Verdict::Unknown),
            (Health::Healthy.into(), Verdict::Up),
            (Health::Unhealthy.into(), Verdict::Down),
            (77, Verdict::Unknown),
        ] {
            let heard = BackendTraffic { tunnel: wire, ..traffic("b", 0, 0, 0, 0) };
            let news = nodes.report(&id("n"), report("web", vec![heard]), 0, 0).expect("in bounds");
            assert_eq!(news.pools[0].1[0].tunnel, expected);
        }
    }

    #[test]
    fn a_refusal_is_news_once_and_is_cut() {
        let mut nodes = Nodes::default();
        nodes.opened(&id("n"), 0).expect("room");
        let mut refusing = report("web", vec![]);
        refusing.pools[0].refused = "é".repeat(9_000);
        let news = nodes.report(&id("n"), refusing.clone(), 0, 0).expect("in bounds");
        assert_eq!(news.refusals, [(id("web"), 1, "é".repeat(MAX_REASON / 2))]);
        let news = nodes.report(&id("n"), refusing, 1, 0).expect("in bounds");
        assert_eq!(news.refusals, []);
    }

    #[test]
    fn the_silent_make_room_for_the_new_and_the_connected_do_not() {
        let mut nodes = Nodes::default();
        for n in 0..MAX_NODES {
            nodes.opened(&id(&format!("n{n}")), 0).expect("room");
        }
        assert_eq!(nodes.opened(&id("new"), 1), Err(Refusal::Full));
        nodes.closed("n7", 2);
        nodes.closed("n5", 1);
        let gone = nodes.opened(&id("new"), 3).expect("room").expect("one went");
        assert_eq!(gone.node, id("n5"));
        assert_eq!(nodes.connected(), MAX_NODES - 1);
    }
}
