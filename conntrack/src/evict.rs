//! Who makes room for a new flow when there is none.
//!
//! The choice is made among the 8 slots from the new flow's home on, which are neighbours in
//! memory; if all are confirmed and live, among the next 8, and so on for 32 slots. Order
//! within the eight: timed out, closing or tombstone, unconfirmed; in each the longest idle.
//! A confirmed live flow is never chosen, so a flood of SYNs or of stray ACKs can push out
//! nothing but its own kind.
//!
//! Each slot looked at is a cache line to fetch, for every packet of a flood: of eight, the
//! longest idle is on average older than 8/9 of its kind, and sixteen would cost twice that.

use crate::entry::{Cause, Entry};
use crate::prefetch::prefetch;
use crate::table::Table;

/// Slots that are compared with each other.
const WINDOW: usize = 8;
/// Such windows that are gone through before the flow is refused.
const WINDOWS: usize = 4;

/// Where room can be made.
pub(crate) enum Room {
    /// The entry in this slot may go.
    Taken(usize, Cause),
    /// All in reach are confirmed and live.
    None,
}

impl Table {
    #[inline]
    pub(crate) fn prefetch_window(&self, home: usize) {
        for slot in home..home + WINDOW {
            prefetch(&self.entries, slot);
        }
    }

    /// Chooses the entry that makes room for a flow of this home.
    ///
    /// Any slot in reach will do. If the victim lies behind the newcomer's place, what is
    /// between them moves up by one, and can: from that place on distances are smaller than
    /// the newcomer's would be, here less than 32.
    pub(crate) fn room(&self, home: usize, now: u32, idle_limit: impl Fn(&Entry) -> u32) -> Room {
        for window in 0..WINDOWS {
            let from = home + window * WINDOW;
            let mut best = 0;
            let mut victim = from;
            for slot in from..from + WINDOW {
                if self.tags[slot] == 0 {
                    continue;
                }
                let rank = rank(&self.entries[slot], now, &idle_limit);
                if rank > best {
                    (best, victim) = (rank, slot);
                }
            }
            match best >> 32 {
                0 => continue,
                UNCONFIRMED => return Room::Taken(victim, Cause::Unconfirmed),
                CLOSING => return Room::Taken(victim, Cause::Closing),
                _ => return Room::Taken(victim, Cause::Expired),
            }
        }
        Room::None
    }
}

const UNCONFIRMED: u64 = 1;
const CLOSING: u64 = 2;
const EXPIRED: u64 = 3;

/// How readily an entry goes: its class above its idle time. 0 for one that stays.
#[inline]
fn rank(entry: &Entry, now: u32, idle_limit: &impl Fn(&Entry) -> u32) -> u64 {
    let class = if entry.expired(now, idle_limit(entry)) {
        EXPIRED
    } else if entry.state().is_closing() || entry.tombstone() {
        CLOSING
    } else if !entry.confirmed() {
        UNCONFIRMED
    } else {
        return 0;
    };
    class << 32 | entry.idle(now) as u64
}
