//! A pool with its checkers, told second by second.

use std::collections::{BTreeMap, BTreeSet};

use health::assign::Checker;
use health::lifecycle::State;
use health::thresholds::Verdict;
use health::{Effective, Event, Id, Outcome, PoolHealth, Report, Row, Settings};

/// Six checkers in three zones, `c0` to `c5`, and backends `b0`, `b1`, ...
pub(crate) struct Lab {
    pub(crate) pool: PoolHealth,
    pub(crate) fleet: Vec<Checker>,
    /// Milliseconds.
    pub(crate) now: u64,
    /// Does it answer, is it ready: what an honest checker finds.
    pub(crate) world: BTreeMap<Id, (Verdict, Verdict)>,
    /// Checkers that say nothing to the controller.
    pub(crate) silent: BTreeSet<Id>,
    /// Checkers that reach no backend, and say so.
    pub(crate) cut_off: BTreeSet<Id>,
}

pub(crate) const UP: (Verdict, Verdict) = (Verdict::Up, Verdict::Up);
pub(crate) const DEAD: (Verdict, Verdict) = (Verdict::Down, Verdict::Down);
pub(crate) const NOT_READY: (Verdict, Verdict) = (Verdict::Up, Verdict::Down);

pub(crate) fn fleet() -> Vec<Checker> {
    let checker = |i: usize| Checker {
        id: Id::from(format!("c{i}")),
        zone: Id::from(["az-a", "az-b", "az-c"][i % 3]),
    };
    (0..6).map(checker).collect()
}

impl Lab {
    /// A pool of HEALTHY backends of weight 100, all up.
    pub(crate) fn new(backends: usize, settings: Settings) -> Self {
        let mut pool = PoolHealth::new(settings, 1, 0).expect("valid settings");
        pool.set_fleet(fleet());
        let mut world = BTreeMap::new();
        for i in 0..backends {
            let id = Id::from(format!("b{i}"));
            let row = Row { weight: 100, state: State::Healthy, ready: true, drain_left_ms: 0 };
            pool.restore(&id, row, 0);
            world.insert(id, UP);
        }
        let (silent, cut_off) = (BTreeSet::new(), BTreeSet::new());
        let mut lab = Self { pool, fleet: fleet(), now: 0, world, silent, cut_off };
        lab.second();
        lab
    }

    /// A second passes: every assigned checker reports what it finds, then comes a tick.
    pub(crate) fn second(&mut self) -> Outcome {
        self.now += 1_000;
        for checker in &self.fleet {
            if self.silent.contains(&checker.id) {
                continue;
            }
            let probed: Vec<Id> = self.pool.probes_of(&checker.id).cloned().collect();
            for backend in probed {
                let found = self.world.get(&backend).copied().unwrap_or(DEAD);
                let (liveness, readiness) =
                    if self.cut_off.contains(&checker.id) { DEAD } else { found };
                let checker = checker.id.clone();
                self.pool.report(&Report { checker, backend, liveness, readiness, at: self.now });
            }
        }
        self.pool.tick(self.now)
    }

    /// Several seconds; everything said meanwhile, in order.
    pub(crate) fn seconds(&mut self, n: usize) -> Vec<Event> {
        (0..n).flat_map(|_| self.second().events).collect()
    }

    pub(crate) fn set(
        &mut self,
        backends: impl IntoIterator<Item = usize>,
        found: (Verdict, Verdict),
    ) {
        for i in backends {
            self.world.insert(Id::from(format!("b{i}")), found);
        }
    }

    pub(crate) fn view(&self, backend: &str) -> Effective {
        let views = self.pool.effective();
        views.into_iter().find(|e| &*e.id == backend).expect("a backend of the pool")
    }

    /// Ids of those in the table.
    pub(crate) fn table(&self) -> Vec<String> {
        let views = self.pool.effective().into_iter();
        views.filter(|e| e.eligible).map(|e| e.id.to_string()).collect()
    }
}

/// Events as sentences.
pub(crate) fn said(events: &[Event]) -> Vec<String> {
    events.iter().map(ToString::to_string).collect()
}
