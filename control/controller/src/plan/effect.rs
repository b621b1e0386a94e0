//! The effect of a change on one pool: pure, from what the pool is and what it would be.
//!
//! Both sides are real [`PoolHealth`]s, the second one a copy on which the change was made, and
//! both have ticked at the same moment: so panic, freeze and eligibility are not guessed at, they
//! are what the controller itself would do. Weights are those after every slow start is over.
//!
//! Flows come from nodes' reports, per backend. Which slots they are on nodes do not say, so a
//! backend's flows are spread evenly over its slots. Flows on moved slots are those that would
//! move **without** conntrack; with it, they stay where they are.

use std::collections::{BTreeMap, BTreeSet};

use health::{Id, PoolHealth};
use proto::v1::PlanResp;
use registry::rows::PoolSettings;

use super::tables::{Choice, compare};
use super::warnings;

/// One pool, before or after the change.
#[derive(Clone, Debug)]
pub(crate) struct Side {
    pub(crate) settings: PoolSettings,
    /// Ticked.
    pub(crate) health: PoolHealth,
}

/// The change in the words that warnings need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// A backend comes; it is shown as it will be once its checkers have admitted it.
    Register { backend: String },
    /// A backend goes, after its drain or at once.
    Deregister { backend: String, drain_seconds: Option<u32> },
    /// A backend is drained.
    Drain { backend: String, drain_seconds: u32 },
    /// A drain is taken back.
    Undrain { backend: String },
    /// A backend gets another weight, address or the like.
    Update { backend: String, address: bool },
    /// The pool gets other settings.
    Settings,
}

/// What the change would do. `flows`: of each backend of the pool, over all nodes.
///
/// Builds two tables: some milliseconds, or tens for big ones.
pub(crate) fn effect(
    pool: &str,
    before: &Side,
    after: &Side,
    what: &What,
    flows: &BTreeMap<Id, u64>,
) -> PlanResp {
    let (was, is) = (before.choice(), after.choice());
    let (had, has): (BTreeSet<&String>, BTreeSet<&String>) =
        (was.weights.keys().collect(), is.weights.keys().collect());
    let (moved, mut warnings) = match compare(&was, &is) {
        Ok(moved) => (moved, Vec::new()),
        Err(error) => (Default::default(), vec![format!("cannot be applied: {error}")]),
    };
    let flows_of = |id: &str| flows.get(id).copied().unwrap_or(0);
    let estimate: f64 = moved.shares.iter().map(|(id, share)| flows_of(id) as f64 * share).sum();
    warnings.extend(warnings::all(&warnings::Facts {
        before,
        after,
        was: &was,
        is: &is,
        moved: &moved,
        what,
        flows: &flows_of,
    }));
    PlanResp {
        pool_id: pool.to_owned(),
        backends_in: has.difference(&had).map(ToString::to_string).collect(),
        backends_out: had.difference(&has).map(ToString::to_string).collect(),
        slots: moved.slots,
        slots_moved: moved.slots_moved,
        flows: flows.values().fold(0, |sum, &flows| sum.saturating_add(flows)),
        flows_on_moved_slots: estimate.round() as u64,
        warnings,
    }
}

impl Side {
    fn choice(&self) -> Choice {
        let eligible = self.health.effective().into_iter().filter(|b| b.eligible && b.weight > 0);
        Choice {
            scheduler: self.settings.scheduler,
            table_size: self.settings.table_size,
            secret: self.settings.hash_secret.0,
            weights: eligible.map(|b| (b.id.to_string(), b.weight)).collect(),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use health::lifecycle::State;
    use health::{Row, Settings};
    use registry::rows::{Forwarding, HashSecret, ProbeKind, ProbeSettings, Scheduler};

    use super::*;

    pub(crate) fn settings() -> PoolSettings {
        PoolSettings {
            scheduler: Scheduler::Maglev,
            table_size: 65_537,
            forwarding: Forwarding::Ipip,
            hash_secret: HashSecret([3; 16]),
            drain_seconds: 60,
            reselect: false,
            probe: ProbeSettings {
                liveness: ProbeKind::Tcp,
                interval_ms: 1_000,
                timeout_ms: 1_000,
                failures_to_down: 3,
                passes_to_up: 2,
                jitter_percent: 20,
                http_expected_status: 200,
                udp_payload: Vec::new(),
                command: String::new(),
                unknown: Default::default(),
            },
            quorum_checkers: 3,
            quorum_down: 2,
            panic_percent: 50,
            slow_start_seconds: 0,
            gue_variant_0: false,
            second_chance: false,
            quic: Vec::new(),
            unknown: Default::default(),
        }
    }

    /// A pool of `states`, the backends b0, b1, ..., ticked at 1.
    pub(in crate::plan) fn side(states: &[State]) -> Side {
        let mut health = PoolHealth::new(Settings::default(), 0, 0).expect("valid");
        for (n, &state) in states.iter().enumerate() {
            let row = Row { weight: 100, state, ready: true, drain_left_ms: 60_000 };
            health.restore(&format!("b{n}"), row, 0);
        }
        health.tick(1);
        Side { settings: settings(), health }
    }

    pub(in crate::plan) fn changed(side: &Side, change: impl FnOnce(&mut PoolHealth)) -> Side {
        let mut after = side.clone();
        change(&mut after.health);
        after.health.tick(1);
        after
    }

    #[test]
    fn a_drain_of_one_of_four() {
        let before = side(&[State::Healthy; 4]);
        let after = changed(&before, |h| drop(h.drain("b2", None, 1).expect("drains")));
        let what = What::Drain { backend: "b2".into(), drain_seconds: 60 };
        let flows = (0..4).map(|n| (Id::from(format!("b{n}")), 1_000)).collect();
        let plan = effect("web", &before, &after, &what, &flows);
        assert_eq!(plan.pool_id, "web");
        assert_eq!((plan.backends_in.len(), &plan.backends_out[..]), (0, &["b2".to_owned()][..]));
        assert_eq!((plan.slots, plan.flows), (65_537, 4_000));
        let quarter = 65_537 / 4;
        let bounds = quarter - 200..=quarter + 65_537 / 50;
        assert!(bounds.contains(&plan.slots_moved), "{}", plan.slots_moved);
        assert!((1_000..=1_100).contains(&plan.flows_on_moved_slots), "{plan:?}");
    }

    #[test]
    fn a_backend_that_is_not_served_moves_nothing_when_it_goes() {
        let before = side(&[State::Healthy, State::Healthy, State::Healthy, State::Unhealthy]);
        let after = changed(&before, |h| drop(h.deregister("b3", 1).expect("goes")));
        let what = What::Deregister { backend: "b3".into(), drain_seconds: None };
        let flows = BTreeMap::from([(Id::from("b3"), 5)]);
        let plan = effect("web", &before, &after, &what, &flows);
        assert_eq!((plan.slots_moved, plan.flows, plan.flows_on_moved_slots), (0, 5, 0));
        assert!(plan.backends_out.is_empty());
    }

    #[test]
    fn a_drain_that_leads_to_panic_brings_the_bad_ones_in() {
        use State::{Healthy, Unhealthy};
        let before = side(&[Healthy, Healthy, Unhealthy, Unhealthy]);
        let after = changed(&before, |h| drop(h.drain("b0", None, 1).expect("drains")));
        let what = What::Drain { backend: "b0".into(), drain_seconds: 60 };
        let plan = effect("web", &before, &after, &what, &BTreeMap::new());
        assert_eq!(plan.backends_in, ["b2", "b3"]);
        assert_eq!(plan.backends_out, ["b0"]);
        assert!(plan.warnings.iter().any(|w| w.contains("panic")), "{:?}", plan.warnings);
    }

    #[test]
    fn a_table_size_that_cannot_be_is_said() {
        let before = side(&[State::Healthy; 2]);
        let mut after = before.clone();
        after.settings.table_size = 65_536;
        let plan = effect("web", &before, &after, &What::Settings, &BTreeMap::new());
        assert!(plan.warnings[0].starts_with("cannot be applied: table size 65536"), "{plan:?}");
    }
}
