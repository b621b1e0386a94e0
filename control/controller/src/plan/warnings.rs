//! What an operator should read before the change is made: one sentence a promise that it breaks.

use health::pool::Freeze;
use registry::rows::Scheduler;

use super::effect::{Side, What};
use super::tables::{Choice, Moved};

/// Slots of backends that the change does not concern move by at most this share (SPEC section 3).
const COLLATERAL: f64 = 0.02;
/// The rest of a pool that gets so many times its load is told.
const MORE_LOAD: f64 = 1.25;
/// A backend with more than so many times the mean share of the pool stands out.
const TWICE_THE_MEAN: f64 = 2.0;

/// What warnings are drawn from.
pub(super) struct Facts<'a> {
    pub(super) before: &'a Side,
    pub(super) after: &'a Side,
    /// Who is chosen before ...
    pub(super) was: &'a Choice,
    /// ... and after.
    pub(super) is: &'a Choice,
    pub(super) moved: &'a Moved,
    pub(super) what: &'a What,
    /// Flows of a backend, over all nodes.
    pub(super) flows: &'a dyn Fn(&str) -> u64,
}

/// In the order of their weight.
pub(super) fn all(facts: &Facts<'_>) -> Vec<String> {
    let mut warnings = Vec::new();
    eligible(facts, &mut warnings);
    panic(facts, &mut warnings);
    existing_flows(facts, &mut warnings);
    checkers(facts, &mut warnings);
    table(facts, &mut warnings);
    load(facts, &mut warnings);
    warnings
}

fn eligible(facts: &Facts<'_>, warnings: &mut Vec<String>) {
    let (was, is) = (facts.was.weights.len(), facts.is.weights.len());
    match (was, is) {
        // Nobody before, nobody after: not this change's doing, and still no service.
        (0, 0) => warnings.push("the pool has no eligible backend, before and after".to_owned()),
        // It takes the last one out.
        (_, 0) => warnings.push(
            "no eligible backend would be left: every new flow of the pool would be dropped"
                .to_owned(),
        ),
        // It takes the last but one out.
        (2.., 1) => warnings.push("only one eligible backend would be left".to_owned()),
        _ => {}
    }
}

fn panic(facts: &Facts<'_>, warnings: &mut Vec<String>) {
    let (bad, of) = facts.after.health.bad();
    let percent = facts.after.settings.panic_percent;
    match (facts.before.health.in_panic(), facts.after.health.in_panic()) {
        // Over the threshold by this change.
        (false, true) => warnings.push(format!(
            "the panic threshold would be crossed: {bad} of {of} backends bad, more than \
             {percent} %; all would be served"
        )),
        // Already over it.
        (true, true) => warnings
            .push(format!("the pool is in panic: {bad} of {of} backends bad, and all are served")),
        // Back under it, so the bad ones leave.
        (true, false) => warnings
            .push(format!("panic would end: the {bad} bad backends would be served no more")),
        (false, false) => {}
    }
}

fn existing_flows(facts: &Facts<'_>, warnings: &mut Vec<String>) {
    let on = |backend: &str, fate: &str| {
        let flows = (facts.flows)(backend);
        (flows > 0).then(|| format!("{flows} flows are on {backend}: {fate}"))
    };
    warnings.extend(match facts.what {
        What::Deregister { backend, drain_seconds: None } => {
            on(backend, "they would be reset at once")
        }
        What::Deregister { backend, drain_seconds: Some(seconds) }
        | What::Drain { backend, drain_seconds: seconds } => {
            on(backend, &format!("those left after {seconds} s would be reset"))
        }
        What::Update { backend, address: true, .. } => {
            on(backend, "they would go to the new address, which does not know them")
        }
        What::Register { .. } | What::Undrain { .. } | What::Update { .. } | What::Settings => None,
    });
}

fn checkers(facts: &Facts<'_>, warnings: &mut Vec<String>) {
    let frozen = facts.before.health.freeze() != Freeze::None;
    match facts.what {
        What::Register { backend } if frozen => {
            warnings.push(format!("too few checkers report: {backend} stays PENDING until they do"))
        }
        What::Undrain { backend } if !facts.is.weights.contains_key(backend) => {
            warnings.push(format!("{backend} stays PENDING until its checkers admit it"));
        }
        What::Update { backend, address: true, .. } => warnings.push(format!(
            "{backend} keeps its health until its checkers have probed the new address"
        )),
        _ => {}
    }
}

fn table(facts: &Facts<'_>, warnings: &mut Vec<String>) {
    let Facts { was, is, moved, .. } = facts;
    if was.scheduler != is.scheduler {
        warnings.push("another scheduler: flows that no node tracks may go elsewhere".to_owned());
    }
    if was.secret != is.secret {
        warnings.push(
            "another hash secret: every slot is dealt anew; only tracked flows stay".to_owned(),
        );
    } else if was.table_size != is.table_size && is.scheduler == Scheduler::Maglev {
        warnings.push(
            "another table size: the slots are dealt anew; only tracked flows stay".to_owned(),
        );
    } else if moved.collateral > COLLATERAL {
        warnings.push(format!(
            "{:.1} % of the slots move between backends that do not change, more than {} %",
            moved.collateral * 100.0,
            COLLATERAL * 100.0
        ));
    }
    if is.scheduler == Scheduler::Maglev {
        let grown = is.weights.len() > was.weights.len() || is.table_size < was.table_size;
        let undersized = maglev::undersized(is.weights.len(), is.table_size);
        warnings.extend(undersized.filter(|_| grown).map(|u| u.to_string()));
    }
}

fn load(facts: &Facts<'_>, warnings: &mut Vec<String>) {
    let total = |choice: &Choice| choice.weights.values().map(|&w| u64::from(w)).sum::<u64>();
    let (was, is) = (total(facts.was), total(facts.is));
    if was == 0 || is == 0 {
        return;
    }
    let more = was as f64 / is as f64;
    if more >= MORE_LOAD && matches!(facts.what, What::Drain { .. } | What::Deregister { .. }) {
        warnings.push(format!("the others would each get {:.0} % more", (more - 1.0) * 100.0));
    }
    let (What::Register { backend } | What::Update { backend, .. }) = facts.what else { return };
    let share = |choice: &Choice| {
        let mean = total(choice) as f64 / choice.weights.len().max(1) as f64;
        choice.weights.get(backend).map_or(0.0, |&weight| f64::from(weight) / mean)
    };
    let times = share(facts.is);
    if times > TWICE_THE_MEAN && times > share(facts.was) {
        warnings.push(format!("{backend} would get {times:.1} times the mean share of the pool"));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use health::lifecycle::State::{self, Draining, Healthy, Unhealthy};
    use health::{Id, PoolHealth, Row};

    use super::*;
    use crate::plan::effect::effect;
    use crate::plan::effect::tests::{changed, side};

    fn warnings(
        states: &[State],
        flows: u64,
        what: What,
        change: impl FnOnce(&mut PoolHealth),
    ) -> Vec<String> {
        let before = side(states);
        let after = changed(&before, change);
        let flows = (0..states.len()).map(|n| (Id::from(format!("b{n}")), flows)).collect();
        effect("web", &before, &after, &what, &flows).warnings
    }

    fn drain(states: &[State], flows: u64) -> Vec<String> {
        let what = What::Drain { backend: "b0".into(), drain_seconds: 60 };
        warnings(states, flows, what, |h| drop(h.drain("b0", None, 1).expect("drains")))
    }

    fn some(said: &[String], part: &str) {
        assert!(said.iter().any(|line| line.contains(part)), "{part:?} is not in {said:?}");
    }

    #[test]
    fn what_a_drain_says() {
        assert_eq!(drain(&[Healthy; 10], 0), [""; 0], "a small drain is nothing to talk about");
        some(&drain(&[Healthy; 10], 7), "7 flows are on b0: those left after 60 s would be reset");
        some(&drain(&[Healthy], 0), "no eligible backend would be left");
        some(&drain(&[Healthy; 2], 0), "only one eligible backend would be left");
        some(&drain(&[Healthy; 3], 0), "the others would each get 50 % more");
        some(&drain(&[Healthy, Healthy, Unhealthy, Unhealthy], 0), "panic threshold");
        some(&drain(&[Healthy, Unhealthy, Unhealthy, Unhealthy], 0), "the pool is in panic");
    }

    #[test]
    fn what_the_end_of_a_backend_says() {
        let gone = |seconds| What::Deregister { backend: "b0".into(), drain_seconds: seconds };
        let now = warnings(&[Healthy; 10], 3, gone(None), |h| {
            drop(h.deregister("b0", 1).expect("goes"));
        });
        some(&now, "3 flows are on b0: they would be reset at once");
        let later = warnings(&[Healthy; 10], 3, gone(Some(30)), |h| {
            drop(h.drain("b0", None, 1).expect("drains"));
        });
        some(&later, "those left after 30 s");
        let bad =
            warnings(&[Unhealthy, Unhealthy, Unhealthy, Healthy, Healthy], 0, gone(None), |h| {
                drop(h.deregister("b0", 1).expect("goes"));
            });
        some(&bad, "the pool is in panic");
    }

    #[test]
    fn what_a_new_weight_says() {
        let update = What::Update { backend: "b0".into(), address: false };
        let set = |weight| {
            move |h: &mut PoolHealth| assert!(h.set_weight("b0", weight).expect("registered"))
        };
        some(&warnings(&[Healthy; 10], 0, update.clone(), set(300)), "2.5 times the mean");
        assert_eq!(warnings(&[Healthy; 10], 0, update.clone(), set(110)), [""; 0]);
        some(&warnings(&[Healthy], 0, update, set(0)), "no eligible backend would be left");
    }

    #[test]
    fn what_comings_and_returns_say() {
        let undrain = What::Undrain { backend: "b0".into() };
        let said = warnings(&[Draining, Healthy, Healthy], 0, undrain, |h| {
            drop(h.undrain("b0", 1).expect("returns"));
        });
        some(&said, "b0 stays PENDING until its checkers admit it");
        let register = What::Register { backend: "new".into() };
        let row = Row { weight: 100, state: Healthy, ready: true, drain_left_ms: 0 };
        let said = warnings(&[Healthy; 5], 0, register, |h| h.restore("new", row, 1));
        assert_eq!(said, [""; 0]);
    }

    #[test]
    fn what_new_settings_say() {
        let before = side(&[Healthy; 3]);
        let said = |change: &dyn Fn(&mut Side)| {
            let mut after = before.clone();
            change(&mut after);
            effect("web", &before, &after, &What::Settings, &BTreeMap::new()).warnings
        };
        some(&said(&|s| s.settings.hash_secret.0 = [9; 16]), "another hash secret");
        some(&said(&|s| s.settings.table_size = 655_373), "another table size");
        some(&said(&|s| s.settings.table_size = 251), "251");
        some(&said(&|s| s.settings.scheduler = Scheduler::Ring), "another scheduler");
        assert_eq!(said(&|s| s.settings.drain_seconds = 5), [""; 0]);
    }

    #[test]
    fn another_address_says_where_flows_go() {
        let what = What::Update { backend: "b1".into(), address: true };
        let said = warnings(&[Healthy; 4], 9, what, |_| {});
        some(&said, "9 flows are on b1: they would go to the new address");
        some(&said, "keeps its health until");
    }
}
