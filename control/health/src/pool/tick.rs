//! One pool: what follows from it.
//!
//! A tick goes through the backends once, in the order of their ids, then looks at the pool as a
//! whole: freeze, tunnels, outliers, panic, and last what nodes have to be told.

use crate::assign::assign;
use crate::drain::{Drain, Progress};
use crate::lifecycle::{Cause, State, step};
use crate::outlier::{Member, OutlierChange};
use crate::panic::PanicChange;
use crate::pool::{Backend, Freeze, PoolHealth};
use crate::quorum::Standing;
use crate::{Event, Id, Millis, Settings, Transition};

/// What a tick led to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// To be written to the registry. Operators' acts are not among them: those calls returned
    /// theirs.
    pub transitions: Vec<Transition>,
    /// For operators, in the order in which things happened since the last tick; changes of
    /// state, operators' own among them, are [`Event::Changed`].
    pub events: Vec<Event>,
    /// Nodes need a new snapshot: who is in the table, a weight or a state has changed.
    pub changed: bool,
}

impl PoolHealth {
    /// Draws all conclusions at `now`.
    pub fn tick(&mut self, now: Millis) -> Outcome {
        self.now = self.now.max(now);
        let now = self.now;
        let mut transitions = Vec::new();
        let mut events = std::mem::take(&mut self.events);
        for (id, backend) in &mut self.backends {
            let tally = backend.votes.tally(&self.settings.quorum, now);
            backend.tally = Some(tally);
            let served = backend.serves();
            let transition = match backend.state {
                State::Draining => {
                    let new = || Drain::new(now, self.settings.drain.window_ms);
                    let drain = backend.drain.get_or_insert_with(new);
                    match drain.progress(&self.settings.drain, &self.nodes, now) {
                        Progress::Ended(cause) => Some(cause),
                        Progress::Waiting { .. } => None,
                    }
                    .and_then(|cause| backend.follow(id, cause, now))
                }
                _ => backend.finding(now).and_then(|(cause, ready)| {
                    backend.ready = ready;
                    backend.follow(id, cause, now)
                }),
            };
            let Some(transition) = transition else { continue };
            events.push(Event::Changed(transition.clone()));
            transitions.push(transition);
            if served && !backend.serves() {
                self.outliers.forget(id);
                let hold = backend.debounce.fell(&self.settings.debounce, now);
                events.extend(hold.map(|for_ms| Event::Held { backend: id.clone(), for_ms }));
            }
        }
        self.look_at_fleet(&mut events);
        self.look_at_freeze(&mut events);
        self.look_at_tunnels(&mut events);
        self.look_for_outliers(&mut events);
        let (bad, of) = self.bad();
        let hold = self.freeze == Freeze::All;
        match self.panic.update(&self.settings.panic, bad, of, hold, now) {
            Some(PanicChange::Entered) => events.push(Event::PanicEntered { bad, of }),
            Some(PanicChange::Left) => events.push(Event::PanicLeft { bad, of }),
            None => {}
        }
        let changed = self.tell() | std::mem::take(&mut self.changed);
        Outcome { transitions, events, changed }
    }

    /// How many backends are bad, of those that count for the panic threshold: HEALTHY and
    /// UNHEALTHY ones of some weight. One that nodes do not reach is as bad as one not ready. PENDING ones have never served, and DRAINING and EVICTED
    /// ones are out by an operator's will.
    #[must_use]
    pub fn bad(&self) -> (usize, usize) {
        let counted = || self.backends.values().filter(|b| b.counts());
        (counted().filter(|b| !b.serves()).count(), counted().count())
    }

    /// Says so when the fleet has come to have too few checkers or zones. What holds for one
    /// backend holds for all.
    fn look_at_fleet(&mut self, events: &mut Vec<Event>) {
        let wanted = self.settings.quorum.checkers;
        let has = self.backends.keys().next().map(|id| {
            let assignment = assign(id, &self.fleet, wanted, self.seed);
            (assignment.checkers.len(), assignment.zones)
        });
        let few = has.filter(|&(checkers, zones)| checkers < wanted || zones < wanted);
        if few != self.few_checkers {
            let event = |(checkers, zones)| Event::FewCheckers { checkers, wanted, zones };
            events.extend(few.map(event));
            self.few_checkers = few;
        }
    }

    fn look_at_freeze(&mut self, events: &mut Vec<Event>) {
        let checked = || self.backends.values().filter(|b| b.state.checked());
        let of = checked().count();
        let backends = checked().filter(|b| b.frozen()).count();
        let freeze = match backends {
            // Every backend has its quorum, or there is none to have one.
            0 => Freeze::None,
            // The fleet is gone.
            n if n == of => Freeze::All,
            // Some checkers are gone, and these backends had too many of them.
            _ => Freeze::Some,
        };
        if freeze != self.freeze {
            self.freeze = freeze;
            events.push(match freeze {
                Freeze::None => Event::Thawed,
                Freeze::Some | Freeze::All => Event::Frozen { backends, of },
            });
        }
    }

    /// What nodes see from their side. A frozen backend stays as it was.
    fn look_at_tunnels(&mut self, events: &mut Vec<Event>) {
        let stale_ms = self.settings.quorum.stale_ms;
        for (id, backend) in self.backends.iter_mut().filter(|(_, b)| !b.frozen()) {
            let count = self.tunnels.count(id, stale_ms, self.now);
            let down = backend.tunnel_down;
            backend.tunnel_down = count.decide(down);
            match (down, backend.tunnel_down) {
                (false, true) => events.push(Event::TunnelLost {
                    backend: id.clone(),
                    down: count.down,
                    of: count.of(),
                }),
                (true, false) if count.of() == 0 => {
                    events.push(Event::TunnelNotProbed { backend: id.clone() });
                }
                (true, false) => events.push(Event::TunnelBack { backend: id.clone() }),
                _ => {}
            }
        }
    }

    fn look_for_outliers(&mut self, events: &mut Vec<Event>) {
        let members: Vec<Member<'_>> = self
            .backends
            .iter()
            .filter(|(_, b)| b.counts() && b.serves())
            .map(|(id, b)| Member { id, frozen: b.frozen() })
            .collect();
        let Settings { outlier, panic, .. } = &self.settings;
        let panics = |bad, of| panic.exceeded(bad, of);
        let changes = self.outliers.look(outlier, &members, self.bad(), panics, self.now);
        for change in changes {
            events.push(match change {
                OutlierChange::Ejected { backend, signal, permille, median, for_ms } => {
                    Event::OutlierEjected { backend, signal, permille, median, for_ms }
                }
                OutlierChange::Returned(backend) => Event::OutlierReturned { backend },
                OutlierChange::Capped(backend) => Event::OutlierCapped { backend },
            });
        }
    }

    /// Works out who is in the table with which weight. True when nodes do not know yet.
    fn tell(&mut self) -> bool {
        let panic = self.panic.active();
        let mut changed = false;
        for (id, backend) in &mut self.backends {
            let out = self.outliers.ejected(id, self.now).is_some();
            if !backend.frozen() {
                backend.ramp_up(&self.settings, out, self.now);
            }
            let told = (backend.weight_now(panic), backend.eligible(out, panic), backend.state);
            changed |= backend.told.replace(told) != Some(told);
        }
        changed
    }
}

impl Backend {
    /// What the checkers' votes mean for the backend: a cause, and its readiness after it.
    fn finding(&self, now: Millis) -> Option<(Cause, bool)> {
        use Standing::{Down, Unknown, Up};
        let tally = self.tally?;
        let may_rise = self.debounce.held(now).is_none();
        match (self.state, tally.liveness, tally.readiness) {
            // An operator has decided; checkers have no say.
            (State::Draining | State::Evicted, ..) => None,
            // Nobody knows whether it answers, so what some say about readiness is no reason.
            (_, Unknown, _) => None,
            // It served and is dead. Nothing delays this.
            (State::Healthy, Down, _) => Some((Cause::Ejected, self.ready)),
            // It is alive and says that it wants no load.
            (State::Healthy, _, Down) if self.ready => Some((Cause::Readiness, false)),
            // It wants load again.
            (State::Healthy, Up, Up) if !self.ready && may_rise => Some((Cause::Readiness, true)),
            // New, or ejected, and now live and ready.
            (State::Pending | State::Unhealthy, Up, Up) if may_rise => {
                Some((Cause::Admitted, true))
            }
            // Held down for flapping; live but not ready; split; or nothing new.
            (State::Pending | State::Unhealthy | State::Healthy, ..) => None,
        }
    }

    fn follow(&mut self, id: &Id, cause: Cause, now: Millis) -> Option<Transition> {
        let to = step(Some(self.state), cause).ok()?;
        if to != State::Draining {
            self.drain = None;
        }
        Some(self.change(id, to, cause, now))
    }

    fn ramp_up(&mut self, settings: &Settings, out: bool, now: Millis) {
        if !self.serves() || out {
            (self.serves_since, self.ramp) = (None, 0);
            return;
        }
        if self.ramp == 0 {
            self.serves_since = Some(now);
        }
        // Without a start it served before this controller did: no ramp.
        self.ramp = self.serves_since.map_or(100, |since| settings.slow_start.percent(since, now));
    }

    /// HEALTHY and ready, and reached by most nodes: in the table as far as probes are concerned.
    pub(super) fn serves(&self) -> bool {
        self.state.eligible() && self.ready && !self.tunnel_down
    }

    /// Does it count for the panic threshold?
    pub(super) fn counts(&self) -> bool {
        matches!(self.state, State::Healthy | State::Unhealthy) && self.weight > 0
    }

    pub(super) fn frozen(&self) -> bool {
        self.state.checked() && self.tally.is_some_and(|tally| tally.frozen)
    }

    pub(super) fn eligible(&self, out: bool, panic: bool) -> bool {
        self.counts() && (panic || self.serves() && !out)
    }
}
