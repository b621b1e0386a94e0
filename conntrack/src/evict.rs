//! Who makes room for a new flow when there is none.
//!
//! The choice is made among the 8 slots from the new flow's home on, by their marks
//! ([`crate::marks`]): unconfirmed entries whose time is over, then closing ones and tombstones, then
//! unconfirmed ones; in each class the longest idle, and of those that are equally long the one
//! right before the newcomer's place, because what lies between has to move. If all are confirmed
//! and open, those go whose time is over; if none is, the next 8 are asked, and so on for 32 slots.
//! A confirmed live flow is never chosen, so a flood of SYNs or of stray ACKs can push out nothing
//! but its own kind.
//!
//! Each entry looked at is a cache line to fetch, for every packet of a flood; eight marks are 16
//! bytes.
//!
//! Where the newcomer's home is free, it needs nobody's place, only that somebody goes: then whoever is
//! near may, on either side, for 256 slots. Without that, free slots would move on by and by, as each
//! eviction behind one fills it and leaves another, and gather where newcomers find nobody to evict.
//!
//! Of eight, the longest idle is on average older than 8/9 of its kind.
//!
//! The window begins at the home, wherever the newcomer will lie, for a reason. Slots in use stay in
//! use while one entry replaces another, so how far flows lie from home is a matter of who goes: with
//! victims at most 7 slots from the newcomer's home the distance of all settles below that. A window
//! around the newcomer's place would let it grow without end.

use crate::entry::{Cause, Entry};
use crate::marks::{self, WINDOW, weakest, weakest_unconfirmed};
use crate::prefetch::prefetch;
use crate::table::Table;
use crate::tags;

/// Such windows that are gone through before the flow is refused.
const WINDOWS: usize = 4;
/// The same on each side of a home that is free.
const WINDOWS_AROUND: usize = 32;

/// Where room can be made.
pub(crate) enum Room {
    /// The entry in this slot may go.
    Taken(usize, Cause),
    /// All in reach are confirmed and live.
    None,
}

impl Table {
    /// Stage 2, after [`Table::prefetch_insert`] and once its line is there: starts loading the
    /// entry that most probably makes room for a new flow, when the table [`Table::is_full`], and
    /// those that will have to move.
    #[inline]
    pub fn prefetch_room(&self, hash: u64, now: u32) {
        let home = self.home(hash);
        let point = tags::insertion_point(&self.tags, home);
        if let Some(window) = self.window(home)
            && let Some(lane) = weakest(window, now, point - home)
        {
            let victim = home + lane;
            // What lies between the victim and the newcomer's place moves; of victims before that
            // place, the last needs none to.
            let (from, to) = if victim < point { (victim, point - 1) } else { (point, victim) };
            for slot in from..=to {
                prefetch(&self.entries, slot);
            }
        }
    }

    /// Chooses the entry that makes room for a flow of this home, which belongs at `point`.
    ///
    /// Any slot in reach will do. If the victim lies behind the newcomer's place, what is
    /// between them moves up by one, and can: from that place on distances are smaller than
    /// the newcomer's would be, here less than 32. Where the home is free, nothing moves for the
    /// newcomer, and any slot will do.
    #[inline]
    pub(crate) fn room(
        &self,
        home: usize,
        point: usize,
        now: u32,
        idle_limit: impl Fn(&Entry) -> u32,
    ) -> Room {
        match self.window(home).and_then(|window| weakest(window, now, point - home)) {
            Some(lane) => self.taken(home, lane, now, idle_limit),
            None => self.room_farther(home, now, idle_limit),
        }
    }

    #[cold]
    #[inline(never)]
    fn room_farther(&self, home: usize, now: u32, idle_limit: impl Fn(&Entry) -> u32) -> Room {
        for from in (home..home + WINDOWS * WINDOW).step_by(WINDOW) {
            if let Some(lane) = self.window(from).and_then(|window| weakest(window, now, 0)) {
                return self.taken(from, lane, now, idle_limit);
            }
            let over = (from..from + WINDOW)
                .filter(|&slot| self.tags[slot] != 0 && self.is_over(slot, now, &idle_limit))
                .max_by_key(|&slot| self.entries[slot].idle(now));
            if let Some(slot) = over {
                return Room::Taken(slot, Cause::Expired);
            }
        }
        if self.tags[home] != 0 {
            return Room::None;
        }
        let around = (1..=WINDOWS_AROUND).map(|number| number * WINDOW);
        for from in around.flat_map(|far| [home.checked_sub(far), Some(home + far)]).flatten() {
            if let Some(lane) = self.window(from).and_then(|window| weakest(window, now, 0)) {
                return self.taken(from, lane, now, idle_limit);
            }
        }
        Room::None
    }

    /// The weakest of the window that begins at `from`, or another of it whose time is over.
    #[inline]
    fn taken(
        &self,
        from: usize,
        lane: usize,
        now: u32,
        idle_limit: impl Fn(&Entry) -> u32,
    ) -> Room {
        let slot = from + lane;
        if self.is_over(slot, now, &idle_limit) {
            return Room::Taken(slot, Cause::Expired);
        }
        if !marks::is_closing(self.marks[slot]) {
            return Room::Taken(slot, Cause::Unconfirmed);
        }
        match self.window(from).and_then(|window| weakest_unconfirmed(window, now)) {
            Some(lane) if self.is_over(from + lane, now, &idle_limit) => {
                Room::Taken(from + lane, Cause::Expired)
            }
            _ => Room::Taken(slot, Cause::Closing),
        }
    }

    #[inline]
    fn is_over(&self, slot: usize, now: u32, idle_limit: &impl Fn(&Entry) -> u32) -> bool {
        let entry = &self.entries[slot];
        entry.expired(now, idle_limit(entry))
    }

    #[inline]
    fn window(&self, from: usize) -> Option<&[u16; WINDOW]> {
        self.marks.get(from..)?.first_chunk()
    }
}
