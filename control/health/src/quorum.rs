//! What a backend's checkers say together.
//!
//! Each backend has a few checkers of the fleet (3). A verdict stands only when enough of them
//! (2) hold it, so **one checker that lies, or is cut off, can neither eject nor admit.** A
//! report that is older than 15 s is UNKNOWN: it counts for neither side.
//!
//! When fewer than a quorum of a backend's checkers have a fresh opinion, nobody can say what
//! the backend is: [`Standing::Unknown`]. When that has lasted since the last time a quorum was
//! heard, or for 15 s with checkers that are new to it, the backend is **frozen**: it stays as
//! last known, whatever the remaining minority says. It thaws with the first moment at which a
//! quorum of fresh opinions is there again; checkers bring verdicts, not single probes, so no
//! further waiting is needed.
//!
//! The order in which reports arrive does not matter: of one checker's reports the newest
//! counts, of two with one time the worse.

use crate::thresholds::Verdict;
use crate::{Id, Millis, SettingsError};

/// Who decides about a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuorumSettings {
    /// Checkers of the fleet assigned to each backend.
    pub checkers: usize,
    /// So many of them must agree.
    pub needed: usize,
    /// A report older than this, in milliseconds, is UNKNOWN.
    pub stale_ms: Millis,
}

/// What one checker thinks of one backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opinion {
    /// Does it answer?
    pub liveness: Verdict,
    /// Does it want load? [`Verdict::Up`] for a backend without a readiness probe.
    pub readiness: Verdict,
    /// When the controller received it, by the controller's clock, in milliseconds. A checker's
    /// own clock is not to be trusted with freshness.
    pub at: Millis,
}

/// What became of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recorded {
    /// It counts from the next tick on.
    Counted,
    /// A newer one of this checker is there already.
    Outdated,
    /// This checker has no say about the backend.
    NotAssigned,
    /// No backend of this id.
    NoBackend,
}

/// What the quorum says on one question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Standing {
    /// Enough checkers say up.
    Up,
    /// Enough checkers say down.
    Down,
    /// Enough have an opinion, but too few the same: nothing changes.
    Split,
    /// Too few have an opinion: nothing changes.
    Unknown,
}

/// One count of the votes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tally {
    /// Does it answer?
    pub liveness: Standing,
    /// Does it want load?
    pub readiness: Standing,
    /// Checkers with a fresh opinion on liveness: for, against.
    pub up: usize,
    /// See `up`.
    pub down: usize,
    /// Checkers assigned.
    pub assigned: usize,
    /// Too few opinions for too long: the backend stays as last known.
    pub frozen: bool,
}

/// The votes on one backend.
#[derive(Clone, Debug)]
pub struct Votes {
    slots: Vec<(Id, Option<Opinion>)>,
    /// A quorum was last heard, or could first be expected.
    heard: Millis,
}

impl QuorumSettings {
    /// # Errors
    /// When `needed` is not a majority of `checkers` (two opposite verdicts could both have
    /// it), or more than all, or reports would be stale at once.
    pub fn validate(&self) -> Result<(), SettingsError> {
        let rule = SettingsError::unless;
        rule((1..=16).contains(&self.checkers), "quorum.checkers", "from 1 to 16")?;
        rule(
            self.needed <= self.checkers && self.needed > self.checkers / 2,
            "quorum.needed",
            "a majority of quorum.checkers, and not more than all of them",
        )?;
        rule(self.stale_ms >= 1, "quorum.stale_ms", "at least 1")
    }
}

impl Default for QuorumSettings {
    fn default() -> Self {
        Self { checkers: 3, needed: 2, stale_ms: 15_000 }
    }
}

impl Votes {
    /// Nobody assigned, nothing heard.
    #[must_use]
    pub fn new(now: Millis) -> Self {
        Self { slots: Vec::new(), heard: now }
    }

    /// These checkers have a say from now on. Opinions of those that stay are kept, those of
    /// the others are dropped. True when the assignment changed.
    pub fn assign(&mut self, checkers: &[Id]) -> bool {
        if self.slots.iter().map(|(id, _)| id).eq(checkers) {
            return false;
        }
        let known = |id: &Id| self.slots.iter().find(|(have, _)| have == id).and_then(|s| s.1);
        self.slots = checkers.iter().map(|id| (id.clone(), known(id))).collect();
        true
    }

    /// The checkers that have a say.
    pub fn checkers(&self) -> impl Iterator<Item = &Id> {
        self.slots.iter().map(|(id, _)| id)
    }

    /// Takes a report.
    pub fn record(&mut self, checker: &str, opinion: Opinion) -> Recorded {
        let Some((_, slot)) = self.slots.iter_mut().find(|(id, _)| &**id == checker) else {
            return Recorded::NotAssigned;
        };
        match *slot {
            Some(have) if have.at > opinion.at => return Recorded::Outdated,
            Some(have) if have.at == opinion.at => {
                *slot = Some(Opinion {
                    liveness: worse(have.liveness, opinion.liveness),
                    readiness: worse(have.readiness, opinion.readiness),
                    at: opinion.at,
                });
            }
            _ => *slot = Some(opinion),
        }
        Recorded::Counted
    }

    /// Counts the votes at `now`. Reports said to be from the future count as of `now`.
    pub fn tally(&mut self, settings: &QuorumSettings, now: Millis) -> Tally {
        let (mut live, mut ready) = (Count::default(), Count::default());
        for opinion in self.slots.iter_mut().filter_map(|(_, slot)| slot.as_mut()) {
            opinion.at = opinion.at.min(now);
            if now - opinion.at <= settings.stale_ms {
                live.add(opinion.liveness);
                ready.add(opinion.readiness);
            }
        }
        let liveness = live.standing(settings.needed);
        if let Some(at) = self.quorum_at(settings.needed) {
            self.heard = self.heard.max(at);
        }
        let silent = now.saturating_sub(self.heard) > settings.stale_ms;
        Tally {
            liveness,
            readiness: ready.standing(settings.needed),
            up: live.up,
            down: live.down,
            assigned: self.slots.len(),
            frozen: liveness == Standing::Unknown && silent,
        }
    }

    /// The latest time by which a quorum had given the opinions it now has, stale or not.
    fn quorum_at(&self, needed: usize) -> Option<Millis> {
        let times = || {
            let opinions = self.slots.iter().filter_map(|(_, slot)| *slot);
            opinions.filter(|o| o.liveness != Verdict::Unknown).map(|o| o.at)
        };
        times().filter(|&at| times().filter(|&other| other >= at).count() >= needed).max()
    }
}

#[derive(Default)]
struct Count {
    up: usize,
    down: usize,
}

impl Count {
    fn add(&mut self, verdict: Verdict) {
        match verdict {
            Verdict::Up => self.up += 1,
            Verdict::Down => self.down += 1,
            Verdict::Unknown => {}
        }
    }

    fn standing(&self, needed: usize) -> Standing {
        match self {
            // A majority on either side: there cannot be one on both.
            count if count.down >= needed => Standing::Down,
            count if count.up >= needed => Standing::Up,
            // They are there, and do not agree.
            count if count.up + count.down >= needed => Standing::Split,
            // They are not there.
            _ => Standing::Unknown,
        }
    }
}

fn worse(a: Verdict, b: Verdict) -> Verdict {
    match (a, b) {
        (Verdict::Down, _) | (_, Verdict::Down) => Verdict::Down,
        (Verdict::Unknown, _) | (_, Verdict::Unknown) => Verdict::Unknown,
        (Verdict::Up, Verdict::Up) => Verdict::Up,
    }
}
