//! One pool: what comes out, with reasons in words.

use crate::drain::Progress;
use crate::lifecycle::{ExistingFlows, State};
use crate::pool::{Backend, Freeze, PoolHealth};
use crate::quorum::Standing;
use crate::slow_start::share;
use crate::{Id, Millis};

/// A backend as nodes are to treat it, and as operators see it, as of the last tick.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effective {
    /// Its id.
    pub id: Id,
    /// Its weight in the table, after slow start; what it would be when not eligible.
    pub weight: u32,
    /// It is in the table: it gets new flows.
    pub eligible: bool,
    /// Its state in the registry.
    pub state: State,
    /// Its last known readiness.
    pub ready: bool,
    /// Too few of its checkers report: it stays as last known.
    pub frozen: bool,
    /// What happens to the flows it has.
    pub existing_flows: ExistingFlows,
    /// Why all this, for people.
    pub reason: String,
}

impl PoolHealth {
    /// All backends in the order of their ids, as of the last tick.
    #[must_use]
    pub fn effective(&self) -> Vec<Effective> {
        let panic = self.panic.active();
        let view = |(id, backend): (&Id, &Backend)| {
            let (weight, eligible, _) = backend.told.unwrap_or((0, false, backend.state));
            // Served in panic, its flows are as good as anyone's.
            let existing_flows = match backend.state.existing_flows() {
                ExistingFlows::TcpStays if eligible => ExistingFlows::Stay,
                flows => flows,
            };
            let out = self.outliers.ejected(id, self.now);
            let mut reason = self.reason(backend, out);
            if panic && backend.counts() && !(backend.serves() && out.is_none()) {
                reason.push_str("; served because the pool is in panic");
            }
            if backend.frozen() {
                reason.push_str("; frozen: too few checkers report");
            }
            Effective {
                id: id.clone(),
                weight,
                eligible,
                state: backend.state,
                ready: backend.ready,
                frozen: backend.frozen(),
                existing_flows,
                reason,
            }
        };
        self.backends.iter().map(view).collect()
    }

    /// Is the pool served as if all were healthy?
    #[must_use]
    pub fn in_panic(&self) -> bool {
        self.panic.active()
    }

    /// How much of the pool is frozen.
    #[must_use]
    pub fn freeze(&self) -> Freeze {
        self.freeze
    }

    /// The state of a backend.
    #[must_use]
    pub fn state(&self, backend: &str) -> Option<State> {
        self.backends.get(backend).map(|b| b.state)
    }

    fn reason(&self, backend: &Backend, out: Option<Millis>) -> String {
        let (up, down, of, ready) = match backend.tally {
            Some(tally) => (tally.up, tally.down, tally.assigned, tally.readiness),
            None => (0, 0, 0, Standing::Unknown),
        };
        let held = backend.debounce.held(self.now);
        match backend.state {
            State::Pending if up < self.settings.quorum.needed => {
                format!("waits for its first checks: {up} of {of} checkers say it answers")
            }
            State::Pending if ready != Standing::Up => "answers, not ready yet".to_owned(),
            State::Pending | State::Unhealthy if held.is_some() => {
                format!("flaps: held down for {} s more", seconds(held.unwrap_or(0)))
            }
            State::Pending => "live and ready".to_owned(),
            State::Healthy if !backend.ready && held.is_some() && ready == Standing::Up => {
                format!("flaps: held down for {} s more", seconds(held.unwrap_or(0)))
            }
            State::Healthy if !backend.ready => "says that it is not ready".to_owned(),
            State::Healthy if backend.tunnel_down => {
                "does not answer to its VIP: most nodes miss its tunnel".to_owned()
            }
            State::Healthy if out.is_some() => {
                format!("fails clients: out for {} s more", seconds(out.unwrap_or(0)))
            }
            State::Healthy if backend.weight == 0 => "weight 0".to_owned(),
            State::Healthy if (1..100).contains(&backend.ramp) => {
                format!("slow start: {} % of its weight", backend.ramp)
            }
            State::Healthy => format!("{up} of {of} checkers say it answers"),
            State::Unhealthy if up >= self.settings.quorum.needed => {
                "answers again, not ready yet".to_owned()
            }
            State::Unhealthy => format!("{down} of {of} checkers say it is dead"),
            State::Draining => self.draining_reason(backend),
            State::Evicted => "taken out by an operator".to_owned(),
        }
    }

    fn draining_reason(&self, backend: &Backend) -> String {
        let drain = backend.drain.as_ref();
        match drain.map(|d| d.progress(&self.settings.drain, &self.nodes, self.now)) {
            Some(Progress::Waiting { left_ms, flows: Some(flows) }) => {
                format!("drained by an operator: {flows} flows, {} s left", seconds(left_ms))
            }
            Some(Progress::Waiting { left_ms, flows: None }) => {
                format!("drained by an operator: {} s left", seconds(left_ms))
            }
            Some(Progress::Ended(_)) | None => "drained by an operator".to_owned(),
        }
    }
}

impl Backend {
    /// Its weight in the table. In panic there is no ramp.
    pub(super) fn weight_now(&self, panic: bool) -> u32 {
        if panic || !self.serves() { self.weight } else { share(self.weight, self.ramp.max(1)) }
    }
}

fn seconds(ms: Millis) -> Millis {
    ms.div_ceil(1_000)
}
