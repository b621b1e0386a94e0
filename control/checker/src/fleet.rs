//! What this checker has to probe, when, and what it has found: without clock and network.
//!
//! Each backend has up to two questions, liveness and readiness, each with a time at which it is
//! next to be asked. One ordered map over all of them is the whole schedule: its first entry is
//! what is due next. The times of a new list are spread evenly over the interval, and each next
//! time is a jittered interval after the one before **as planned**, so that a late start does
//! not push the others.
//!
//! What holds:
//! - A question is asked once at a time; when it is due while it is still being asked, it is
//!   asked again as soon as the answer is there.
//! - An answer to a question that has changed meanwhile counts for nothing.
//! - After a stall (of more than an interval) nothing is made up for: all is spread anew.
//! - A verdict is reported as such only while probes really are made: after [`backend::SILENCE`] without
//!   any it is UNKNOWN, whatever it was before.
//! - Every backend is reported at least every [`HEARTBEAT`], as long as [`Fleet::overdue`] is
//!   asked often enough.

mod backend;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use health::Id;
use health::thresholds::Verdict;
use proto::v1::HealthReport;

use self::backend::Backend;
use crate::probe::{Finding, Probe};
use crate::target::Target;

/// Time since the start of the checker.
pub(crate) type Moment = Duration;

/// A report of each backend goes out at least so often; the controller forgets after 15 s.
pub(crate) const HEARTBEAT: Duration = Duration::from_millis(4500);

/// Which question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Role {
    Liveness,
    Readiness,
}

/// A probe to be made now.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) backend: Id,
    pub(crate) role: Role,
    pub(crate) probe: Arc<Probe>,
    pub(crate) timeout: Duration,
    /// When it should start.
    pub(crate) planned: Moment,
    ticket: u64,
}

/// What came of a job.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) finding: Finding,
    pub(crate) latency: Duration,
    /// Of its start, wall clock, since 1970, in nanoseconds.
    pub(crate) checked_at_ns: u64,
}

/// All backends of this checker.
pub(crate) struct Fleet {
    checker_id: String,
    backends: HashMap<Id, Backend>,
    due: BTreeMap<(Moment, u64), (Id, Role)>,
    tickets: u64,
    /// Questions that had to be spread anew after a stall.
    pub(crate) respread: u64,
    random: Rng,
}

impl Fleet {
    pub(crate) fn new(checker_id: String, random: Rng) -> Self {
        let (backends, due) = (HashMap::new(), BTreeMap::new());
        Self { checker_id, backends, due, tickets: 0, respread: 0, random }
    }

    /// Takes the full list of what is to be probed. What stays the same goes on undisturbed.
    pub(crate) fn assign(&mut self, targets: Vec<Target>, now: Moment) {
        let wanted: HashSet<Id> = targets.iter().map(|target| target.id.clone()).collect();
        let gone: Vec<Id> =
            self.backends.keys().filter(|id| !wanted.contains(*id)).cloned().collect();
        for id in gone {
            self.remove(&id);
        }
        let mut fresh = Vec::new();
        for target in targets {
            let id = target.id.clone();
            let roles = target.roles();
            match self.backends.get_mut(&id) {
                Some(known) if known.target.probes_alike(&target) => {
                    let paced = known.target.settings.interval_ms == target.settings.interval_ms;
                    known.target = target;
                    if paced {
                        continue;
                    }
                }
                _ => {
                    self.remove(&id);
                    self.backends.insert(id.clone(), Backend::new(target, now));
                }
            }
            fresh.extend(roles.map(|role| (id.clone(), role)));
        }
        self.spread(fresh, now);
    }

    /// When the next question is due.
    pub(crate) fn next_due(&self) -> Option<Moment> {
        self.due.first_key_value().map(|((at, _), _)| *at)
    }

    /// The next question that is due now, if any; its following one is scheduled.
    pub(crate) fn take_due(&mut self, now: Moment) -> Option<Job> {
        loop {
            let entry = self.due.first_entry()?;
            let planned = entry.key().0;
            if planned > now {
                return None;
            }
            let (id, role) = entry.remove();
            let Some(backend) = self.backends.get_mut(&id) else { continue };
            let (interval, timeout) = (backend.target.interval(), backend.target.timeout());
            let jitter =
                interval.mul_f64(f64::from(backend.target.settings.jitter_percent) / 100.0);
            let Some(question) = backend.question(role) else { continue };
            question.due = None;
            if question.asking.is_some() {
                question.waiting = Some(planned);
                continue;
            }
            if now.saturating_sub(planned) > interval {
                self.respread += 1;
                let at = now + interval.mul_f64(self.random.f64());
                self.schedule(id, role, at);
                continue;
            }
            let Some(probe) = question.probe.clone() else { continue };
            self.tickets += 1;
            question.asking = Some(self.tickets);
            let ticket = self.tickets;
            let next = planned + interval + jitter.mul_f64(self.random.f64());
            self.schedule(id.clone(), role, next);
            return Some(Job { backend: id, role, probe, timeout, planned, ticket });
        }
    }

    /// Takes an answer. `Some` when a verdict has changed: this report is to go out at once.
    pub(crate) fn answer(
        &mut self,
        job: &Job,
        answer: Answer,
        now: Moment,
    ) -> Option<HealthReport> {
        let backend = self.backends.get_mut(&job.backend)?;
        let question = backend.question(job.role)?;
        if question.asking != Some(job.ticket) {
            return None;
        }
        question.asking = None;
        let waiting = question.waiting.take();
        let changed = backend.learn(job.role, answer, now);
        // Once more at once: it has come due meanwhile, and its place was given up.
        if let Some(planned) = waiting {
            self.schedule(job.backend.clone(), job.role, planned);
        }
        if changed { self.report(&job.backend, now) } else { None }
    }

    /// Reports that have to be repeated, lest the controller forget.
    pub(crate) fn overdue(&mut self, now: Moment) -> Vec<HealthReport> {
        let late = |backend: &Backend| now.saturating_sub(backend.reported) >= HEARTBEAT;
        let ids: Vec<Id> =
            self.backends.iter().filter(|(_, b)| late(b)).map(|(id, _)| id.clone()).collect();
        ids.iter().filter_map(|id| self.report(id, now)).collect()
    }

    /// All there is to say, for a controller that knows nothing: every backend with a verdict, or
    /// that was reported before. One that is new here is not: a controller may still have what
    /// this checker said of it before a restart, and UNKNOWN would take that back.
    pub(crate) fn everything(&mut self, now: Moment) -> Vec<HealthReport> {
        let known = |b: &Backend| b.told || b.verdict(Role::Liveness, now) != Verdict::Unknown;
        let ids: Vec<Id> =
            self.backends.iter().filter(|(_, b)| known(b)).map(|(id, _)| id.clone()).collect();
        ids.iter().filter_map(|id| self.report(id, now)).collect()
    }

    /// Backends by verdict on liveness: up, down, unknown.
    pub(crate) fn verdicts(&self, now: Moment) -> [usize; 3] {
        let mut counts = [0; 3];
        for backend in self.backends.values() {
            let index = match backend.verdict(Role::Liveness, now) {
                Verdict::Up => 0,
                Verdict::Down => 1,
                Verdict::Unknown => 2,
            };
            counts[index] += 1;
        }
        counts
    }

    /// Backends, and how many of them have a question that cannot be asked.
    pub(crate) fn sizes(&self) -> (usize, usize) {
        let unusable = |backend: &&Backend| {
            let readiness = backend.readiness.as_ref();
            backend.liveness.probe.is_none() || readiness.is_some_and(|q| q.probe.is_none())
        };
        (self.backends.len(), self.backends.values().filter(unusable).count())
    }

    /// Whether this backend is probed here.
    pub(crate) fn has(&self, id: &str) -> bool {
        self.backends.contains_key(id)
    }

    /// The names that HTTP probes need to have looked up.
    pub(crate) fn hosts(&self) -> HashSet<String> {
        let questions = self.backends.values().filter_map(|backend| backend.readiness.as_ref());
        let probes = questions.filter_map(|question| question.probe.as_deref());
        probes.filter_map(|probe| probe.host().map(str::to_owned)).collect()
    }

    fn report(&mut self, id: &Id, now: Moment) -> Option<HealthReport> {
        Some(self.backends.get_mut(id)?.report(id, &self.checker_id, now))
    }

    fn remove(&mut self, id: &Id) {
        if let Some(backend) = self.backends.remove(id) {
            for question in [Some(backend.liveness), backend.readiness].into_iter().flatten() {
                if let Some(due) = question.due {
                    self.due.remove(&due);
                }
            }
        }
    }

    /// Gives these questions times, spread over their intervals.
    fn spread(&mut self, mut questions: Vec<(Id, Role)>, now: Moment) {
        // Chance decides who comes first, so that checkers with one list are not in step.
        self.random.shuffle(&mut questions);
        let share = 1.0 / questions.len().max(1) as f64;
        for (index, (id, role)) in questions.into_iter().enumerate() {
            let Some(backend) = self.backends.get(&id) else { continue };
            let part = (index as f64 + self.random.f64()) * share;
            let at = now + backend.target.interval().mul_f64(part);
            self.schedule(id, role, at);
        }
    }

    fn schedule(&mut self, id: Id, role: Role, at: Moment) {
        self.tickets += 1;
        let due = (at, self.tickets);
        let Some(backend) = self.backends.get_mut(&id) else { return };
        let Some(question) = backend.question(role) else { return };
        if question.probe.is_none() {
            return;
        }
        if let Some(before) = question.due.replace(due) {
            self.due.remove(&before);
        }
        self.due.insert(due, (id, role));
    }
}
