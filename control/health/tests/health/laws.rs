//! What holds whatever happens, in whatever order.

use std::collections::{BTreeMap, BTreeSet};

use crate::lab::{Lab, fleet};
use health::lifecycle::{Cause, State};
use health::outlier::Signals;
use health::pool::Freeze;
use health::slow_start::SlowStartSettings;
use health::thresholds::Verdict;
use health::{Effective, Event, Id, NodeReport, PoolHealth, Report, Settings, Transition};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Register(usize),
    Drain(usize, u64),
    Undrain(usize),
    Deregister(usize),
    Forget(usize),
    Weight(usize, u32),
    Report(usize, usize, Verdict, Verdict),
    /// All checkers of all backends agree, each backend by its own bit.
    Sweep(u8, u8),
    Node(usize, usize, u64, u64),
    NodeGone(usize),
    /// So many checkers are in the fleet.
    Fleet(usize),
    Tick(u64),
}

const BACKENDS: usize = 8;

fn verdict() -> impl Strategy<Value = Verdict> {
    prop::sample::select(vec![Verdict::Up, Verdict::Down, Verdict::Unknown])
}

fn step() -> impl Strategy<Value = Step> {
    let b = 0..BACKENDS;
    prop_oneof![
        2 => b.clone().prop_map(Step::Register),
        1 => (b.clone(), 0u64..90_000).prop_map(|(b, w)| Step::Drain(b, w)),
        1 => b.clone().prop_map(Step::Undrain),
        1 => b.clone().prop_map(Step::Deregister),
        1 => b.clone().prop_map(Step::Forget),
        1 => (b.clone(), 0u32..3).prop_map(|(b, w)| Step::Weight(b, w * 50)),
        4 => (0usize..6, b.clone(), verdict(), verdict())
            .prop_map(|(c, b, l, r)| Step::Report(c, b, l, r)),
        8 => (any::<u8>(), any::<u8>()).prop_map(|(l, r)| Step::Sweep(l | r, r)),
        4 => (0usize..3, b, 0u64..3, 0u64..200).prop_map(|(n, b, f, r)| Step::Node(n, b, f, r)),
        1 => (0usize..3).prop_map(Step::NodeGone),
        1 => (0usize..=6).prop_map(Step::Fleet),
        10 => prop_oneof![3 => 100u64..2_000, 1 => 2_000u64..40_000].prop_map(Step::Tick),
    ]
}

fn id(prefix: &str, i: usize) -> Id {
    Id::from(format!("{prefix}{i}"))
}

/// A pool under test, and what a registry would hold.
struct World {
    pool: PoolHealth,
    now: u64,
    rows: BTreeMap<Id, State>,
    drained: BTreeSet<Id>,
    views: Vec<Effective>,
    events: Vec<Event>,
}

impl World {
    fn new(settings: Settings) -> Self {
        let mut pool = PoolHealth::new(settings, 3, 0).expect("valid");
        pool.set_fleet(fleet());
        let (rows, drained) = (BTreeMap::new(), BTreeSet::new());
        Self { pool, now: 0, rows, drained, views: Vec::new(), events: Vec::new() }
    }

    fn write(&mut self, transition: Transition) {
        let before = self.rows.insert(transition.backend.clone(), transition.to);
        assert_eq!(before, transition.from, "transitions of a backend join without a gap");
        match transition.to {
            State::Draining => self.drained.insert(transition.backend),
            State::Evicted => {
                let drained = self.drained.remove(&transition.backend);
                assert!(drained || transition.cause == Cause::Deregister, "{transition:?}");
                true
            }
            _ => self.drained.remove(&transition.backend),
        };
    }

    fn report(&mut self, checker: Id, backend: Id, liveness: Verdict, readiness: Verdict) {
        let at = self.now;
        self.pool.report(&Report { checker, backend, liveness, readiness, at });
    }

    fn take(&mut self, step: &Step) {
        let now = self.now;
        let done = match *step {
            Step::Register(b) => self.pool.register(&id("b", b), 100, now),
            Step::Drain(b, window) => self.pool.drain(&id("b", b), Some(window), now),
            Step::Undrain(b) => self.pool.undrain(&id("b", b), now),
            Step::Deregister(b) => self.pool.deregister(&id("b", b), now),
            Step::Forget(b) => {
                if self.pool.forget(&id("b", b)).is_ok() {
                    self.rows.remove(&id("b", b));
                }
                Ok(None)
            }
            Step::Weight(b, weight) => self.pool.set_weight(&id("b", b), weight).map(|_| None),
            Step::Report(c, b, liveness, readiness) => {
                self.report(id("c", c), id("b", b), liveness, readiness);
                Ok(None)
            }
            Step::Sweep(live, ready) => {
                for (c, b) in (0..6).flat_map(|c| (0..BACKENDS).map(move |b| (c, b))) {
                    let is =
                        |bits: u8| if bits >> b & 1 == 1 { Verdict::Up } else { Verdict::Down };
                    self.report(id("c", c), id("b", b), is(live), is(ready));
                }
                Ok(None)
            }
            Step::Node(n, b, flows, client_resets) => {
                let seen = Signals { new_flows: 100, client_resets, syn_retransmits: 0 };
                let (node, backend) = (id("n", n), id("b", b));
                self.pool.node_report(&NodeReport { node, backend, flows, seen, at: now });
                Ok(None)
            }
            Step::NodeGone(n) => {
                self.pool.node_gone(&id("n", n));
                Ok(None)
            }
            Step::Fleet(n) => {
                self.pool.set_fleet(fleet()[..n].to_vec());
                Ok(None)
            }
            Step::Tick(gap) => {
                self.now += gap;
                self.tick();
                Ok(None)
            }
        };
        if let Ok(Some(transition)) = done {
            self.write(transition);
        }
    }

    fn tick(&mut self) {
        let before = self.rows.clone();
        let was_in_panic = self.pool.in_panic();
        let outcome = self.pool.tick(self.now);
        for transition in &outcome.transitions {
            assert!(outcome.events.contains(&Event::Changed(transition.clone())));
            self.write(transition.clone());
        }
        let views = self.pool.effective();
        let states: BTreeMap<Id, State> = views.iter().map(|v| (v.id.clone(), v.state)).collect();
        assert_eq!(states, self.rows, "the registry holds what the pool is");

        let (bad, of) = self.pool.bad();
        let panic = self.pool.in_panic();
        assert!(bad * 2 <= of || panic, "{bad} of {of} are bad");
        assert!(bad * 5 > of * 2 || !panic || self.pool.freeze() == Freeze::All);
        for view in &views {
            let may_serve = match view.state {
                State::Healthy => panic || view.ready,
                State::Unhealthy => panic,
                // Not admitted, or out by an operator's will: not even in panic.
                State::Pending | State::Draining | State::Evicted => false,
            };
            assert!(may_serve || !view.eligible, "{view:?}");
            let counts = matches!(view.state, State::Healthy | State::Unhealthy) && view.weight > 0;
            assert!(!panic || !counts || view.eligible, "in panic all serve: {view:?}");
            assert!(!view.eligible || view.weight > 0);
            assert!(!view.reason.is_empty());
            if !view.frozen {
                continue;
            }
            assert_eq!(before.get(&view.id), Some(&view.state), "frozen, and changed");
        }
        if self.pool.freeze() == Freeze::All {
            assert!(outcome.transitions.iter().all(|t| t.from == Some(State::Draining)));
            let outliers = |e: &Event| matches!(e, Event::OutlierEjected { .. });
            assert!(!outcome.events.iter().any(outliers));
        }
        assert_eq!(
            outcome
                .events
                .iter()
                .any(|e| matches!(e, Event::PanicEntered { .. } | Event::PanicLeft { .. })),
            was_in_panic != panic,
        );
        let told = |views: &[Effective]| {
            views.iter().map(|v| (v.id.clone(), v.weight, v.eligible, v.state)).collect::<Vec<_>>()
        };
        assert!(outcome.changed || told(&views) == told(&self.views), "nodes have to be told");
        self.views = views;
        self.events.extend(outcome.events);
    }
}

fn settings() -> Settings {
    let slow_start = SlowStartSettings { duration_ms: 20_000, ..SlowStartSettings::default() };
    Settings { slow_start, ..Settings::default() }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// All assertions of [`World`], after every tick of any story.
    #[test]
    fn the_laws_hold_after_any_story(steps in prop::collection::vec(step(), 1..150)) {
        let mut world = World::new(settings());
        for b in 0..BACKENDS {
            world.take(&Step::Register(b));
        }
        world.take(&Step::Sweep(0xff, 0xff));
        world.take(&Step::Tick(100));
        prop_assert!(world.views.iter().all(|v| v.eligible));
        for step in &steps {
            world.take(step);
        }
        world.take(&Step::Tick(100));
    }

    #[test]
    fn the_order_of_reports_between_two_ticks_does_not_matter(
        rounds in prop::collection::vec(
            (prop::collection::vec(
                (0usize..6, 0..BACKENDS, verdict(), verdict(), 0u64..3, 0u64..200), 0..30,
            ), 100u64..8_000), 1..8,
        ),
    ) {
        let story = |turned: bool| {
            let mut world = World::new(settings());
            for b in 0..BACKENDS {
                world.take(&Step::Register(b));
            }
            world.take(&Step::Sweep(0xff, 0xff));
            world.take(&Step::Drain(0, 60_000));
            world.take(&Step::Tick(100));
            for (reports, gap) in &rounds {
                let mut reports = reports.clone();
                if turned {
                    reports.reverse();
                }
                for (c, b, liveness, readiness, flows, resets) in reports {
                    world.take(&Step::Report(c, b, liveness, readiness));
                    world.take(&Step::Node(c % 3, b, flows, resets));
                }
                world.take(&Step::Tick(*gap));
            }
            (world.views, world.events)
        };
        prop_assert_eq!(story(false), story(true));
    }

    /// One checker of the fleet says anything at any time; the others are honest, or a second
    /// one is silent. The backends neither fall nor rise by it.
    #[test]
    fn one_lying_checker_neither_ejects_nor_admits(
        liar in 0usize..6, silent in prop::option::of(0usize..6),
        lies in prop::collection::vec((0usize..BACKENDS, verdict(), verdict()), 60),
        dead in any::<u8>(),
    ) {
        prop_assume!(silent != Some(liar));
        let mut lab = Lab::new(BACKENDS, Settings::default());
        let dead: Vec<usize> = (0..BACKENDS).filter(|b| dead >> b & 1 == 1).collect();
        lab.set(dead, crate::lab::DEAD);
        lab.second();
        let states = |lab: &Lab| -> Vec<(State, bool)> {
            lab.pool.effective().into_iter().map(|e| (e.state, e.ready)).collect()
        };
        let before = states(&lab);
        lab.silent.extend(silent.map(|s| id("c", s)));
        for (b, liveness, readiness) in lies {
            // The liar's word comes last in its second, so that it is the newest.
            lab.silent.insert(id("c", liar));
            let at = lab.now + 999;
            let (checker, backend) = (id("c", liar), id("b", b));
            lab.pool.report(&Report { checker, backend, liveness, readiness, at });
            lab.second();
            prop_assert_eq!(&states(&lab), &before);
        }
    }
}
