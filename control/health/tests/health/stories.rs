//! What happens to a pool, as an operator would tell it.

use crate::lab::{DEAD, Lab, NOT_READY, UP, said};
use health::lifecycle::{Cause, ExistingFlows, Refusal, State};
use health::outlier::Signals;
use health::pool::Freeze;
use health::slow_start::SlowStartSettings;
use health::thresholds::Verdict;
use health::{Event, Id, NodeReport, PoolHealth, Row, Settings};

fn lab(backends: usize) -> Lab {
    Lab::new(backends, Settings::default())
}

fn flows(lab: &mut Lab, node: &str, backend: &str, flows: u64) {
    let (node, backend) = (Id::from(node), Id::from(backend));
    let at = lab.now;
    lab.pool.node_report(&NodeReport { node, backend, flows, seen: Signals::default(), at });
}

#[test]
fn a_new_backend_serves_once_it_is_live_and_ready() {
    let mut lab = lab(3);
    let transition = lab.pool.register("b9", 50, lab.now).expect("new").expect("a transition");
    assert_eq!((transition.from, transition.to), (None, State::Pending));
    assert_eq!(lab.pool.register("b9", 50, lab.now), Ok(None));
    assert_eq!(lab.pool.register("b9", 51, lab.now), Err(Refusal::AlreadyRegistered));
    for (found, state, reason) in [
        (DEAD, State::Pending, "waits for its first checks: 0 of 3 checkers say it answers"),
        (NOT_READY, State::Pending, "answers, not ready yet"),
        (UP, State::Healthy, "3 of 3 checkers say it answers"),
    ] {
        lab.set([9], found);
        let outcome = lab.second();
        let view = lab.view("b9");
        assert_eq!((view.state, view.reason.as_str()), (state, reason));
        assert_eq!(view.eligible, state == State::Healthy);
        assert_eq!(outcome.transitions.len(), usize::from(view.eligible));
    }
    assert_eq!(lab.view("b9").weight, 50);
}

#[test]
fn a_dead_backend_is_ejected_and_comes_back() {
    let mut lab = lab(4);
    lab.set([1], DEAD);
    let outcome = lab.second();
    assert!(outcome.changed);
    assert_eq!(
        said(&outcome.events),
        ["b1: HEALTHY -> UNHEALTHY (a quorum of checkers finds it dead)"]
    );
    assert_eq!(lab.table(), ["b0", "b2", "b3"]);
    let view = lab.view("b1");
    assert_eq!(view.existing_flows, ExistingFlows::TcpStays);
    assert_eq!(view.reason, "3 of 3 checkers say it is dead");
    assert!(!lab.second().changed);
    lab.set([1], NOT_READY);
    assert_eq!(lab.seconds(3), [], "liveness alone does not admit");
    lab.set([1], UP);
    assert_eq!(lab.second().transitions[0].cause, Cause::Admitted);
    assert_eq!(lab.table().len(), 4);
}

#[test]
fn not_ready_keeps_its_state_and_gets_no_new_flows() {
    let mut lab = lab(4);
    lab.set([2], NOT_READY);
    let outcome = lab.second();
    let written = &outcome.transitions[0];
    assert_eq!((written.from, written.to), (Some(State::Healthy), State::Healthy));
    assert!(!written.ready, "the row keeps it for the next leader");
    let view = lab.view("b2");
    assert_eq!((view.state, view.eligible), (State::Healthy, false));
    assert_eq!(view.existing_flows, ExistingFlows::Stay);
    assert_eq!(view.reason, "says that it is not ready");
    lab.set([2], UP);
    assert_eq!(
        said(&lab.second().events),
        ["b2: ready again (a quorum of checkers changed its mind on readiness)"]
    );
    assert!(lab.view("b2").eligible);
}

#[test]
fn a_failing_shared_dependency_evicts_nobody_and_all_serve_on() {
    let mut lab = lab(10);
    lab.set(0..10, NOT_READY);
    let events = lab.seconds(600);
    assert_eq!(events.len(), 11, "ten changes of readiness and one panic");
    assert_eq!(events[10], Event::PanicEntered { bad: 10, of: 10 });
    assert_eq!(lab.table().len(), 10);
    let reason = lab.view("b0").reason;
    assert_eq!(reason, "says that it is not ready; served because the pool is in panic");
    lab.set(0..10, UP);
    let events = lab.seconds(1);
    assert_eq!(events.last(), Some(&Event::PanicLeft { bad: 0, of: 10 }));
}

#[test]
fn mass_death_is_served_with_its_flows() {
    let mut lab = lab(10);
    lab.set(0..5, DEAD);
    lab.second();
    assert_eq!((lab.table().len(), lab.pool.in_panic()), (5, false), "half is not more than half");
    lab.set(0..6, DEAD);
    let outcome = lab.second();
    assert!(outcome.changed);
    assert_eq!((lab.table().len(), lab.pool.in_panic()), (10, true));
    let view = lab.view("b0");
    assert_eq!((view.state, view.existing_flows), (State::Unhealthy, ExistingFlows::Stay));
    // Drained ones do not count: of the 5 left that count, 2 are bad.
    for i in 0..5 {
        if i < 4 {
            lab.pool.drain(&format!("b{i}"), None, lab.now).expect("drains");
        }
    }
    lab.second();
    assert_eq!((lab.pool.bad(), lab.pool.in_panic()), ((2, 6), false));
    assert_eq!(lab.table(), ["b6", "b7", "b8", "b9"]);
}

#[test]
fn pending_backends_neither_start_a_panic_nor_are_served_in_one() {
    let mut lab = lab(3);
    for i in 3..30 {
        lab.pool.register(&format!("b{i}"), 100, lab.now).expect("new");
    }
    lab.set(3..30, DEAD);
    lab.second();
    assert!(!lab.pool.in_panic());
    lab.set(0..3, DEAD);
    lab.second();
    assert_eq!((lab.pool.in_panic(), lab.table().len()), (true, 3));
}

#[test]
fn a_drain_has_two_phases_and_ends_early_when_no_flow_is_left() {
    let mut lab = lab(4);
    for node in ["lb-1", "lb-2"] {
        flows(&mut lab, node, "b0", 40);
    }
    lab.pool.drain("b0", None, lab.now).expect("drains");
    assert_eq!(lab.pool.drain("b0", Some(1), lab.now), Ok(None), "the first window stands");
    assert!(lab.second().changed);
    let view = lab.view("b0");
    assert_eq!((view.eligible, view.existing_flows), (false, ExistingFlows::Stay));
    lab.set([0], DEAD);
    lab.seconds(9);
    assert_eq!(lab.view("b0").state, State::Draining, "checkers have no say any more");
    flows(&mut lab, "lb-1", "b0", 0);
    flows(&mut lab, "lb-2", "b0", 3);
    lab.second();
    assert_eq!(lab.view("b0").reason, "drained by an operator: 3 flows, 49 s left");
    flows(&mut lab, "lb-2", "b0", 0);
    let outcome = lab.second();
    assert_eq!(outcome.transitions[0].cause, Cause::FlowsGone);
    assert_eq!(lab.view("b0").existing_flows, ExistingFlows::Reset);
    assert_eq!(lab.pool.forget("b1"), Err(Refusal::NotEvicted));
    lab.pool.forget("b0").expect("it is evicted");
    assert!(lab.second().changed);
    assert_eq!(lab.pool.effective().len(), 3);
}

#[test]
fn a_drain_ends_with_its_window_and_can_be_taken_back_before() {
    let mut lab = lab(4);
    lab.pool.drain("b0", None, lab.now).expect("drains");
    lab.seconds(59);
    assert_eq!(lab.view("b0").state, State::Draining);
    assert_eq!(lab.pool.register("b0", 100, lab.now), Ok(None), "an agent's call");
    assert_eq!(lab.view("b0").state, State::Draining, "does not undo the drain");
    lab.pool.undrain("b0", lab.now).expect("it is draining");
    lab.set([0], UP);
    assert_eq!(lab.view("b0").state, State::Pending);
    lab.second();
    assert!(lab.view("b0").eligible, "its checkers went on probing it");
    lab.pool.drain("b0", None, lab.now).expect("drains");
    let events = lab.seconds(60);
    assert!(
        said(&events)
            .contains(&"b0: DRAINING -> EVICTED (the bleed-out window is over)".to_owned())
    );
    assert_eq!(lab.pool.drain("b0", None, lab.now), Err(Refusal::IsEvicted));
    let again = lab.pool.register("b0", 70, lab.now).expect("a new life").expect("moves");
    assert_eq!((again.from, again.to), (Some(State::Evicted), State::Pending));
}

#[test]
fn the_fleet_gone_freezes_the_pool_and_operators_can_still_act() {
    let mut lab = lab(4);
    lab.set([3], DEAD);
    lab.second();
    lab.silent = lab.fleet.iter().map(|c| c.id.clone()).collect();
    lab.set(0..4, DEAD);
    assert_eq!(lab.seconds(15), [], "the last reports are 15 s old: not too old");
    assert_eq!(lab.seconds(1), [Event::Frozen { backends: 4, of: 4 }]);
    assert_eq!(lab.seconds(3_600), []);
    assert_eq!(
        (lab.pool.freeze(), lab.table()),
        (Freeze::All, vec!["b0".to_owned(), "b1".to_owned(), "b2".to_owned()])
    );
    assert!(lab.view("b0").reason.ends_with("; frozen: too few checkers report"));
    lab.pool.drain("b0", Some(5_000), lab.now).expect("operators are not frozen");
    lab.seconds(5);
    assert_eq!(lab.view("b0").state, State::Evicted);
    // One checker of a backend is no quorum; with the second the truth comes out at once.
    lab.silent.clear();
    let events = lab.second().events;
    assert!(events.contains(&Event::Thawed));
    assert_eq!(lab.pool.bad(), (3, 3));
}

#[test]
fn readiness_alone_does_not_change_a_backend_that_nobody_knows_to_be_alive() {
    let mut lab = lab(4);
    lab.set([2], (Verdict::Unknown, Verdict::Down));
    assert_eq!(lab.seconds(15), []);
    assert_eq!(lab.seconds(60), [Event::Frozen { backends: 1, of: 4 }]);
    assert_eq!(lab.pool.freeze(), Freeze::Some);
    assert!(lab.view("b2").eligible);
}

#[test]
fn the_loss_of_a_zone_leaves_every_backend_its_quorum() {
    let mut lab = lab(20);
    let lost = lab.fleet.iter().filter(|c| &*c.zone == "az-b").map(|c| c.id.clone());
    lab.silent = lost.collect();
    assert_eq!(lab.seconds(60), []);
    lab.set([7], DEAD);
    assert_eq!(lab.second().transitions.len(), 1);
}

#[test]
fn one_checker_cut_off_from_all_backends_ejects_nobody() {
    let mut lab = lab(50);
    for checker in lab.fleet.clone() {
        lab.cut_off = [checker.id].into();
        assert_eq!(lab.seconds(120), []);
        assert_eq!(lab.table().len(), 50);
    }
}

#[test]
fn a_new_leader_goes_on_where_the_old_one_was() {
    let settings = Settings::default();
    let mut pool = PoolHealth::new(settings, 1, 0).expect("valid");
    pool.set_fleet(crate::lab::fleet());
    for (id, state, ready) in [
        ("b0", State::Healthy, true),
        ("b1", State::Healthy, false),
        ("b2", State::Unhealthy, true),
        ("b3", State::Draining, true),
        ("b4", State::Healthy, true),
        ("b5", State::Healthy, true),
    ] {
        let drain_left_ms = 20_000;
        pool.restore(id, Row { weight: 100, state, ready, drain_left_ms }, 0);
    }
    let outcome = pool.tick(100);
    assert_eq!((outcome.transitions.len(), outcome.changed), (0, true));
    let table = |pool: &PoolHealth| {
        let views = pool.effective().into_iter().filter(|e| e.eligible);
        views.map(|e| e.id.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(table(&pool), ["b0", "b4", "b5"]);
    assert_eq!(pool.tick(15_000).events, []);
    assert_eq!(pool.tick(15_001).events, [Event::Frozen { backends: 5, of: 5 }]);
    assert_eq!(pool.tick(20_000).transitions[0].cause, Cause::WindowOver);
    assert_eq!(table(&pool), ["b0", "b4", "b5"]);
}

#[test]
fn a_flapping_backend_is_held_down_and_still_ejected_at_once() {
    let mut lab = lab(5);
    let mut held = Vec::new();
    for _ in 0..6 {
        lab.set([0], DEAD);
        let fall = lab.second();
        assert_eq!(fall.transitions[0].to, State::Unhealthy, "a fall is never delayed");
        lab.set([0], UP);
        let mut down = 1;
        held.extend(said(&fall.events).into_iter().skip(1));
        while lab.second().transitions.is_empty() {
            assert!(lab.view("b0").reason.starts_with("flaps: held down for"));
            down += 1;
        }
        assert!(down <= 80);
    }
    assert_eq!(held, [10, 20, 40, 80].map(|s| format!("b0: flaps; held down for {s} s")));
}

#[test]
fn slow_start_takes_few_steps() {
    let slow_start = SlowStartSettings { duration_ms: 60_000, ..SlowStartSettings::default() };
    let mut lab = Lab::new(4, Settings { slow_start, ..Settings::default() });
    assert_eq!(lab.view("b0").weight, 100, "those that served before are not slowed down");
    lab.set([0], DEAD);
    lab.second();
    lab.set([0], UP);
    assert!(lab.second().changed);
    assert_eq!(lab.view("b0").reason, "slow start: 10 % of its weight");
    let rebuilds = (0..120).filter(|_| lab.second().changed).count();
    assert_eq!((rebuilds, lab.view("b0").weight), (10, 100));
}

#[test]
fn an_outlier_is_out_for_a_while_and_stays_healthy() {
    let mut lab = lab(10);
    let interval = |lab: &mut Lab| {
        for node in ["lb-1", "lb-2"] {
            for i in 0..10 {
                let client_resets = if i == 4 { 80 } else { 1 };
                let seen = Signals { new_flows: 100, client_resets, syn_retransmits: 0 };
                let (node, backend) = (Id::from(node), Id::from(format!("b{i}")));
                let at = lab.now;
                lab.pool.node_report(&NodeReport { node, backend, flows: 5, seen, at });
            }
        }
        said(&lab.seconds(10))
    };
    interval(&mut lab);
    let events = [interval(&mut lab), interval(&mut lab)].concat();
    assert_eq!(
        events,
        ["b4: outlier, 800 client RSTs per 1,000 new flows (median 10); out for 30 s"]
    );
    let view = lab.view("b4");
    assert_eq!((view.state, view.eligible), (State::Healthy, false));
    assert!(view.reason.starts_with("fails clients: out for "), "{}", view.reason);
    assert_eq!(said(&lab.seconds(30)), ["b4: outlier returns"]);
    assert!(lab.view("b4").eligible);
}

#[test]
fn weight_zero_is_out_of_the_table_and_out_of_the_count() {
    let mut lab = lab(3);
    assert_eq!(lab.pool.set_weight("b0", 0), Ok(true));
    assert_eq!(lab.pool.set_weight("b7", 0), Err(Refusal::NotRegistered));
    assert!(lab.second().changed);
    assert_eq!(lab.view("b0").reason, "weight 0");
    lab.set(1..3, DEAD);
    lab.second();
    assert_eq!((lab.pool.bad(), lab.table().len()), ((2, 2), 2));
}

#[test]
fn a_small_fleet_is_said_once() {
    let mut lab = lab(2);
    lab.pool.set_fleet(crate::lab::fleet()[..2].to_vec());
    let few = Event::FewCheckers { checkers: 2, wanted: 3, zones: 2 };
    assert_eq!(lab.seconds(3), [few]);
}

#[test]
fn settings_that_cannot_be_change_nothing() {
    let mut lab = lab(2);
    let mut settings = Settings::default();
    settings.quorum.needed = 1;
    assert_eq!(lab.pool.configure(settings).expect_err("no majority").field, "quorum.needed");
    lab.set([0], DEAD);
    assert_eq!(lab.second().transitions.len(), 1);
}
