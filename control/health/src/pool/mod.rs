//! One pool: what goes in.
//!
//! [`PoolHealth`] holds every backend of the pool with its votes, and composes the small machines
//! of this crate. Operators' acts take effect at once and are refused at once. Reports of
//! checkers and nodes are only written down: conclusions are drawn by [`PoolHealth::tick`], so
//! the order of what arrives between two ticks does not matter. Tick every 100 ms or so, and
//! after a report that brings a new verdict; the work is linear in the number of backends.
//!
//! Registry: a controller that must not act on what it cannot write asks
//! [`PoolHealth::would`] first, writes, then calls. Transitions out of a tick are applied here
//! and retried towards the registry by the caller; a new leader starts from the registry's rows
//! with [`PoolHealth::restore`] and hears from the checkers within a probe's interval.

mod operator;
mod tick;
mod view;

use std::collections::{BTreeMap, BTreeSet};

pub use tick::Outcome;
pub use view::Effective;

use crate::assign::{Checker, assign};
use crate::debounce::Debounce;
use crate::drain::{Drain, Progress};
use crate::lifecycle::{Cause, State};
use crate::outlier::{Outliers, Signals};
use crate::panic::Panic;
use crate::quorum::{Opinion, Recorded, Tally, Votes};
use crate::thresholds::Verdict;
use crate::tunnel::Tunnels;
use crate::{Event, Id, Millis, Settings, SettingsError, Transition};

/// The health of one pool.
#[derive(Clone, Debug)]
pub struct PoolHealth {
    settings: Settings,
    seed: u64,
    now: Millis,
    backends: BTreeMap<Id, Backend>,
    fleet: Vec<Checker>,
    nodes: BTreeSet<Id>,
    panic: Panic,
    outliers: Outliers,
    tunnels: Tunnels,
    freeze: Freeze,
    /// Checkers and zones of each backend, when that is less than wanted.
    few_checkers: Option<(usize, usize)>,
    /// Something that nodes must know has changed since the last tick.
    changed: bool,
    /// For the next tick to hand out.
    events: Vec<Event>,
}

/// One checker's report on one backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Who says so. The caller has checked it against the sender's identity.
    pub checker: Id,
    /// About whom.
    pub backend: Id,
    /// Does it answer?
    pub liveness: Verdict,
    /// Does it want load? [`Verdict::Up`] when the backend has no readiness probe.
    pub readiness: Verdict,
    /// When the controller received it, by the controller's clock.
    pub at: Millis,
}

/// One node's report on one backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeReport {
    /// Who says so.
    pub node: Id,
    /// About whom.
    pub backend: Id,
    /// Live flows on the backend.
    pub flows: u64,
    /// What passed since the node's last report.
    pub seen: Signals,
    /// When the controller received it, by the controller's clock.
    pub at: Millis,
}

/// A backend as the registry knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its share of new flows; 0 for none.
    pub weight: u32,
    /// Its state.
    pub state: State,
    /// The last readiness written.
    pub ready: bool,
    /// Of a DRAINING backend, what is left of its window, in milliseconds.
    pub drain_left_ms: Millis,
}

#[derive(Clone, Debug)]
struct Backend {
    weight: u32,
    state: State,
    /// Last known readiness; false until first admitted.
    ready: bool,
    votes: Votes,
    tally: Option<Tally>,
    debounce: Debounce,
    drain: Option<Drain>,
    /// Most nodes do not reach it through the tunnel.
    tunnel_down: bool,
    /// It has been in the table since, for its ramp. `None`: it is not, or was already when this
    /// controller began.
    serves_since: Option<Millis>,
    /// Its share of its weight, in percent; 0 while it is not in the table.
    ramp: u32,
    /// What nodes were last told: weight, whether it is in the table, and the state.
    told: Option<(u32, bool, State)>,
}

/// How much of the pool is frozen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Freeze {
    /// Every backend has its quorum.
    #[default]
    None,
    /// Some backends have none.
    Some,
    /// No backend has one: the pool stays as last known.
    All,
}

impl PoolHealth {
    /// An empty pool. `seed` is the same for all pools and controllers of a fleet: it spreads
    /// backends over checkers.
    ///
    /// # Errors
    /// The first setting that cannot be.
    pub fn new(settings: Settings, seed: u64, now: Millis) -> Result<Self, SettingsError> {
        settings.validate()?;
        Ok(Self {
            settings,
            seed,
            now,
            backends: BTreeMap::new(),
            fleet: Vec::new(),
            nodes: BTreeSet::new(),
            panic: Panic::default(),
            outliers: Outliers::new(now),
            tunnels: Tunnels::default(),
            freeze: Freeze::None,
            few_checkers: None,
            changed: false,
            events: Vec::new(),
        })
    }

    /// New settings, in force from the next tick on. Nothing changes on an error.
    ///
    /// # Errors
    /// The first setting that cannot be.
    pub fn configure(&mut self, settings: Settings) -> Result<(), SettingsError> {
        settings.validate()?;
        self.settings = settings;
        self.reassign();
        Ok(())
    }

    /// Takes over a backend from the registry as it stands there, without a transition. What it
    /// was, it stays until a quorum of checkers says otherwise.
    pub fn restore(&mut self, backend: &str, row: Row, now: Millis) {
        self.advance(now);
        let id = Id::from(backend);
        self.outliers.forget(backend);
        self.tunnels.forget(backend);
        let mut votes = Votes::new(self.now);
        votes.assign(
            &assign(backend, &self.fleet, self.settings.quorum.checkers, self.seed).checkers,
        );
        let draining = row.state == State::Draining;
        let restored = Backend {
            weight: row.weight,
            state: row.state,
            ready: row.ready,
            votes,
            tally: None,
            debounce: Debounce::default(),
            drain: draining.then(|| Drain::taken_over(self.now, row.drain_left_ms)),
            tunnel_down: false,
            serves_since: None,
            ramp: if row.state.eligible() && row.ready { 100 } else { 0 },
            told: None,
        };
        self.backends.insert(id, restored);
    }

    /// The checkers of the fleet, of all zones. Call it when one joins or has left for good;
    /// keep silent ones for a while (15 s or more), and all of them while all are silent: a
    /// checker that comes back then finds its backends as it left them.
    pub fn set_fleet(&mut self, fleet: Vec<Checker>) {
        self.fleet = fleet;
        self.reassign();
    }

    /// The backends that `checker` is to probe now. DRAINING ones are probed too, so that a drain
    /// can be taken back without waiting.
    pub fn probes_of<'a>(&'a self, checker: &'a str) -> impl Iterator<Item = &'a Id> {
        let theirs = move |b: &Backend| {
            b.state != State::Evicted && b.votes.checkers().any(|id| &**id == checker)
        };
        self.backends.iter().filter(move |(_, b)| theirs(b)).map(|(id, _)| id)
    }

    /// A checker reports. It counts from the next tick on.
    pub fn report(&mut self, report: &Report) -> Recorded {
        let Some(backend) = self.backends.get_mut(&report.backend) else {
            return Recorded::NoBackend;
        };
        let Report { liveness, readiness, at, .. } = *report;
        backend.votes.record(&report.checker, Opinion { liveness, readiness, at })
    }

    /// A node reports. A node that has reported once is waited for by drains, until
    /// [`PoolHealth::node_gone`].
    pub fn node_report(&mut self, report: &NodeReport) {
        if !self.nodes.contains(&report.node) {
            self.nodes.insert(report.node.clone());
        }
        let Some(backend) = self.backends.get_mut(&report.backend) else { return };
        if let Some(drain) = &mut backend.drain {
            drain.count(&report.node, report.flows, report.at);
        }
        if backend.state == State::Healthy {
            self.outliers.record(&report.node, &report.backend, report.seen);
        }
    }

    /// A node reports what its probe through the tunnel to `backend` says; `at` is when the
    /// controller received it, by the controller's clock. It counts from the next tick on.
    pub fn tunnel_report(&mut self, node: &Id, backend: &Id, verdict: Verdict, at: Millis) {
        if self.backends.contains_key(backend) {
            let stale_ms = self.settings.quorum.stale_ms;
            self.tunnels.record(node, backend, verdict, stale_ms, at);
        }
    }

    /// A node joins: drains wait for its counts from now on.
    pub fn node_joined(&mut self, node: &Id) {
        self.nodes.insert(node.clone());
    }

    /// A node has left the fleet: it has no flows any more.
    pub fn node_gone(&mut self, node: &Id) {
        self.nodes.remove(node);
        self.tunnels.node_gone(node);
        for drain in self.backends.values_mut().filter_map(|b| b.drain.as_mut()) {
            drain.node_gone(node);
        }
    }

    /// How far the drain of a backend is. `None`: it is not draining.
    #[must_use]
    pub fn drain_progress(&self, backend: &str) -> Option<Progress> {
        let drain = self.backends.get(backend)?.drain.as_ref()?;
        Some(drain.progress(&self.settings.drain, &self.nodes, self.now))
    }

    fn advance(&mut self, now: Millis) {
        self.now = self.now.max(now);
    }

    fn reassign(&mut self) {
        let wanted = self.settings.quorum.checkers;
        for (id, backend) in &mut self.backends {
            backend.votes.assign(&assign(id, &self.fleet, wanted, self.seed).checkers);
        }
    }
}

impl Backend {
    /// Makes a transition that [`step`] allows.
    fn change(&mut self, id: &Id, to: State, cause: Cause, at: Millis) -> Transition {
        let from = Some(self.state);
        self.state = to;
        if to != State::Healthy {
            (self.serves_since, self.ramp) = (None, 0);
        }
        Transition { backend: id.clone(), from, to, ready: self.ready, cause, at }
    }
}
