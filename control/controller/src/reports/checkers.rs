//! The fleet of checkers: who counts as one, and until when.
//!
//! A checker counts while it has a stream open, of assignments or of reports, and for a grace
//! after its last one ended, so that a restart moves no backend. When the grace is over and
//! others are there, it leaves the fleet and its backends go to them.
//!
//! While **no** checker has a stream, nobody leaves: what is broken then is more likely the
//! controller's own network than every checker, and the first one to come back must not be handed
//! the whole fleet's work. When one comes back, the grace of the others begins anew.

use std::collections::BTreeMap;

use health::assign::Checker;
use health::{Id, Millis};

/// Checkers that a fleet may have.
pub(crate) const MAX_CHECKERS: usize = 256;

/// All checkers heard of. Times are passed in and never go back.
#[derive(Clone, Debug)]
pub(crate) struct Checkers {
    grace_ms: Millis,
    known: BTreeMap<Id, Known>,
}

#[derive(Clone, Debug, Default)]
struct Known {
    /// `None` until it has asked for its assignments: then it is not of the fleet yet.
    zone: Option<Id>,
    streams: usize,
    /// Its last stream ended then.
    silent_since: Millis,
}

/// There are [`MAX_CHECKERS`] already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full;

impl Checkers {
    /// Nobody yet. `grace_ms`: how long a checker without a stream stays.
    pub(crate) fn new(grace_ms: Millis) -> Self {
        Self { grace_ms, known: BTreeMap::new() }
    }

    /// A stream of `id` opens; `zone` is known when it is one of assignments. True when the
    /// fleet changed.
    ///
    /// # Errors
    /// [`Full`]; nothing changed.
    pub(crate) fn opened(&mut self, id: &Id, zone: Option<&Id>, now: Millis) -> Result<bool, Full> {
        if !self.known.contains_key(id) && self.known.len() >= MAX_CHECKERS {
            return Err(Full);
        }
        if self.connected() == 0 {
            for known in self.known.values_mut() {
                known.silent_since = now;
            }
        }
        let known = self.known.entry(id.clone()).or_default();
        known.streams += 1;
        let changed = zone.is_some() && known.zone.as_ref() != zone;
        if changed {
            known.zone = zone.cloned();
        }
        Ok(changed)
    }

    /// A stream of `id` has ended.
    pub(crate) fn closed(&mut self, id: &str, now: Millis) {
        let Some(known) = self.known.get_mut(id) else { return };
        known.streams = known.streams.saturating_sub(1);
        known.silent_since = now;
    }

    /// Lets those go whose grace is over, and says who of the fleet they were.
    pub(crate) fn expire(&mut self, now: Millis) -> Vec<Id> {
        if self.connected() == 0 {
            return Vec::new();
        }
        let grace = self.grace_ms;
        let over = |k: &Known| k.streams == 0 && now.saturating_sub(k.silent_since) >= grace;
        let left: Vec<Id> =
            self.known.iter().filter(|(_, k)| over(k)).map(|(id, _)| id.clone()).collect();
        let of_the_fleet = |id: &Id| self.known.remove(id).is_some_and(|k| k.zone.is_some());
        left.into_iter().filter(of_the_fleet).collect()
    }

    /// Those who probe, in the order of their ids.
    pub(crate) fn fleet(&self) -> Vec<Checker> {
        let checker = |(id, known): (&Id, &Known)| {
            Some(Checker { id: id.clone(), zone: known.zone.clone()? })
        };
        self.known.iter().filter_map(checker).collect()
    }

    /// How many have a stream open.
    pub(crate) fn connected(&self) -> usize {
        self.known.values().filter(|k| k.streams > 0).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(checkers: &Checkers) -> Vec<String> {
        checkers.fleet().iter().map(|c| format!("{}@{}", c.id, c.zone)).collect()
    }

    fn of(now: Millis, ids: &[&str]) -> Checkers {
        let mut checkers = Checkers::new(15_000);
        for &id in ids {
            assert_eq!(checkers.opened(&Id::from(id), Some(&Id::from("z")), now), Ok(true));
        }
        checkers
    }

    #[test]
    fn a_checker_that_restarts_within_the_grace_never_left() {
        let mut checkers = of(0, &["a", "b"]);
        checkers.closed("a", 1_000);
        assert!(checkers.expire(15_999).is_empty());
        assert_eq!(checkers.opened(&Id::from("a"), Some(&Id::from("z")), 15_999), Ok(false));
        assert!(checkers.expire(99_000).is_empty());
        assert_eq!(ids(&checkers), ["a@z", "b@z"]);
    }

    #[test]
    fn a_checker_that_stays_away_leaves() {
        let mut checkers = of(0, &["a", "b"]);
        checkers.closed("a", 1_000);
        assert_eq!(checkers.expire(16_000), [Id::from("a")]);
        assert_eq!(ids(&checkers), ["b@z"]);
    }

    #[test]
    fn one_stream_of_two_is_enough() {
        let mut checkers = of(0, &["a", "b"]);
        assert_eq!(checkers.opened(&Id::from("a"), None, 10), Ok(false));
        checkers.closed("a", 1_000);
        assert!(checkers.expire(99_000).is_empty());
        checkers.closed("a", 99_000);
        assert_eq!(checkers.expire(114_000), [Id::from("a")]);
    }

    #[test]
    fn a_silent_fleet_stays_and_the_first_one_back_does_not_inherit_it() {
        let mut checkers = of(0, &["a", "b", "c"]);
        for id in ["a", "b", "c"] {
            checkers.closed(id, 1_000);
        }
        assert!(checkers.expire(3_600_000).is_empty());
        assert_eq!(checkers.opened(&Id::from("b"), None, 3_600_000), Ok(false));
        assert!(checkers.expire(3_614_999).is_empty(), "the others have their grace again");
        assert_eq!(checkers.expire(3_615_000).len(), 2);
        assert_eq!(ids(&checkers), ["b@z"]);
    }

    #[test]
    fn who_only_reports_is_not_of_the_fleet_until_it_names_its_zone() {
        let mut checkers = Checkers::new(15_000);
        assert_eq!(checkers.opened(&Id::from("a"), None, 0), Ok(false));
        assert_eq!((checkers.fleet().len(), checkers.connected()), (0, 1));
        assert_eq!(checkers.opened(&Id::from("a"), Some(&Id::from("z1")), 0), Ok(true));
        assert_eq!(checkers.opened(&Id::from("a"), Some(&Id::from("z2")), 0), Ok(true));
        assert_eq!(ids(&checkers), ["a@z2"], "it moved");
    }

    #[test]
    fn the_fleet_is_bounded() {
        let mut checkers = Checkers::new(15_000);
        for n in 0..MAX_CHECKERS {
            assert!(checkers.opened(&Id::from(format!("c{n}")), None, 0).is_ok());
        }
        assert_eq!(checkers.opened(&Id::from("one-more"), None, 0), Err(Full));
        assert_eq!(checkers.opened(&Id::from("c0"), None, 0), Ok(false));
    }
}
