//! Who holds the places of a listener, and who has to make way when there are none left.
//!
//! The one idea: a connection is worth as much as what it has proved. One whose calls nobody has
//! been recognised by yet is a stranger's: it may stay (probes of health need no name) until
//! somebody else needs its place, and then the one that has been there longest goes. So strangers
//! can take every place and lock nobody out, and no time has to be set after which a probe is rude.
//! After strangers goes the oldest connection of an identity that has more than its share. Where
//! access is open nobody can be told apart, and whoever comes waits.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tokio::sync::oneshot;

use crate::identity::Identity;

/// The connections of one listener. All clones are one.
#[derive(Clone, Debug)]
pub(crate) struct Seats {
    held: Arc<Mutex<Held>>,
    /// Connections that one identity keeps when others need places.
    share: usize,
}

#[derive(Debug, Default)]
struct Held {
    next: u64,
    /// By when they came.
    seats: BTreeMap<u64, Holder>,
}

#[derive(Debug)]
struct Holder {
    whose: Whose,
    out: oneshot::Sender<()>,
}

/// Whose a connection is: told by its first call that is let in.
#[derive(Clone, Debug, Default)]
pub(crate) struct Whose(Arc<OnceLock<Option<String>>>);

/// One connection among them, until it is dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    seats: Seats,
    number: u64,
    pub(crate) whose: Whose,
}

impl Seats {
    /// For a listener of `most` connections.
    pub(crate) fn new(most: usize) -> Self {
        Self { held: Arc::default(), share: (most / 16).max(8) }
    }

    /// A connection that came, and what ends when it has to go.
    pub(crate) fn take(&self) -> (Seat, oneshot::Receiver<()>) {
        let (out, told) = oneshot::channel();
        let whose = Whose::default();
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let number = held.next;
        held.next += 1;
        held.seats.insert(number, Holder { whose: whose.clone(), out });
        (Seat { seats: self.clone(), number, whose }, told)
    }

    /// Tells one connection to go, where there is one that has to.
    pub(crate) fn make_way(&self) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(number) = held.stranger().or_else(|| held.hoarder(self.share)) else { return };
        if let Some(holder) = held.seats.remove(&number) {
            // It may have gone by itself.
            let _gone = holder.out.send(());
        }
    }
}

impl Held {
    fn stranger(&self) -> Option<u64> {
        self.seats.iter().find(|(_, holder)| holder.whose.0.get().is_none()).map(|(n, _)| *n)
    }

    /// The oldest connection of who has the most, if those are more than `share`.
    fn hoarder(&self, share: usize) -> Option<u64> {
        let mut oldest: HashMap<&str, (usize, u64)> = HashMap::new();
        for (number, holder) in &self.seats {
            if let Some(Some(name)) = holder.whose.0.get() {
                oldest.entry(name).or_insert((0, *number)).0 += 1;
            }
        }
        let (count, number) = oldest.into_values().max_by_key(|(count, _)| *count)?;
        (count > share).then_some(number)
    }
}

impl Whose {
    /// A call of `identity` came over this connection; the first one decides.
    pub(crate) fn is(&self, identity: &Identity) {
        self.0.get_or_init(|| (!identity.is_open()).then(|| identity.name().to_owned()));
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut held = self.seats.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.seats.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Role;

    #[test]
    fn the_oldest_stranger_goes_first_then_who_has_too_many() {
        let seats = Seats::new(16);
        let named = |name: &str| {
            let (seat, told) = seats.take();
            seat.whose.is(&Identity::new(name, Role::Viewer));
            (seat, told)
        };
        let mut hoard: Vec<_> = (0..10).map(|_| named("viewer")).collect();
        let mut node = named("lb-a1");
        let (mut first, mut second) = (seats.take(), seats.take());
        let gone = |told: &mut oneshot::Receiver<()>| told.try_recv().is_ok();
        seats.make_way();
        assert!(gone(&mut first.1) && !gone(&mut second.1));
        seats.make_way();
        assert!(gone(&mut second.1) && !gone(&mut hoard[0].1));
        for _ in 0..5 {
            seats.make_way();
        }
        // 8 are its share.
        let went: Vec<bool> = hoard.iter_mut().map(|(_, told)| gone(told)).collect();
        assert_eq!(went, [true, true, false, false, false, false, false, false, false, false]);
        assert!(!gone(&mut node.1));
        drop((hoard, node, first, second));
        assert!(seats.held.lock().unwrap().seats.is_empty());
    }

    #[test]
    fn where_access_is_open_nobody_goes() {
        let seats = Seats::new(1);
        let mut all: Vec<_> = (0..20).map(|_| seats.take()).collect();
        all.iter().for_each(|(seat, _)| seat.whose.is(&Identity::anybody()));
        seats.make_way();
        assert!(all.iter_mut().all(|(_, told)| told.try_recv().is_err()));
    }
}
