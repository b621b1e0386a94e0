//! Sweeping up timed-out entries: lazily, a little between bursts, on the worker itself.
//!
//! The reaper only gives memory back; no answer of the table depends on it. Its cursor lives
//! in the table, and steps back when a removal elsewhere moves the entry it would have met
//! next: every entry that is there for a whole turn is met in that turn.

use crate::entry::{Cause, Entry, Removed};
use crate::table::Table;

/// Ticks in which the whole table is visited once.
pub const TICKS_A_TURN: u32 = 256;
/// The longest tick, and the shortest, in milliseconds: a turn of 25.6 s, and of 2.56 s.
const TICKS: (u32, u32) = (100, 10);

/// What one call of the reaper did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Swept {
    /// Slots the cursor went past.
    pub visited: usize,
    /// Entries removed.
    pub removed: usize,
}

impl Table {
    /// Visits `budget` slots from the cursor on, wrapping at the end, and removes what has
    /// timed out, at most `budget` entries. `idle_limit` gives an entry's timeout in
    /// milliseconds; `removed` hears of each entry that went. An empty slot costs two bytes
    /// of reading; a removal moves the run behind it.
    pub fn reap(
        &mut self,
        now: u32,
        budget: usize,
        idle_limit: impl Fn(&Entry) -> u32,
        mut removed: impl FnMut(Removed),
    ) -> Swept {
        let mut swept = Swept { visited: 0, removed: 0 };
        while swept.visited < budget && swept.removed < budget {
            if self.cursor >= self.span() {
                self.cursor = 0;
            }
            let slot = self.cursor;
            let entry = &self.entries[slot];
            if self.tags[slot] != 0 && entry.expired(now, idle_limit(entry)) {
                removed(Removed::new(entry, Cause::Expired));
                // The cursor stays: the next entry of the run moves into this slot.
                self.remove(slot);
                swept.removed += 1;
            } else {
                self.cursor += 1;
                swept.visited += 1;
            }
        }
        swept
    }

    /// Shows the entries in up to `slots` slots from `cursor` (0 at first), timed-out ones
    /// included, and returns the cursor to go on with, or none at the end. A walk in pieces
    /// misses or repeats an entry that moves between the pieces.
    pub fn walk(
        &self,
        cursor: usize,
        slots: usize,
        mut visit: impl FnMut(&Entry),
    ) -> Option<usize> {
        let end = cursor.saturating_add(slots).min(self.span());
        for slot in cursor..end {
            if self.tags[slot] != 0 {
                visit(&self.entries[slot]);
            }
        }
        (end < self.span()).then_some(end)
    }
}

/// Paces [`Table::reap`]: 1/256 of the table a tick, in small slices between bursts.
#[derive(Clone, Debug)]
pub struct Reaper {
    tick: u32,
    slice: usize,
    last: u32,
    /// Slots owed, times the milliseconds of a turn.
    owed: u64,
}

impl Reaper {
    /// A tick lasts `tick` milliseconds (at least 1), so a turn lasts 256 times that; one
    /// call visits at most `slice` slots (at least 1). The clock starts at `now`.
    pub fn new(tick: u32, slice: usize, now: u32) -> Reaper {
        Reaper { tick: tick.max(1), slice: slice.max(1), last: now, owed: 0 }
    }

    /// The tick, in milliseconds, for flows that may be idle for `shortest_idle` milliseconds: a
    /// turn takes no longer than that, within bounds. Entries that are over fill as many slots
    /// as come in a turn; of many one-shot flows that is what counts.
    pub fn tick_for(shortest_idle: u32) -> u32 {
        let (longest, shortest) = TICKS;
        (shortest_idle / TICKS_A_TURN).clamp(shortest, longest)
    }

    /// From now on a tick lasts `tick` milliseconds (at least 1); slots that are owed stay so.
    pub fn set_tick(&mut self, tick: u32) {
        let slots = self.owed / self.turn();
        self.tick = tick.max(1);
        self.owed = slots * self.turn();
    }

    /// How many slots of a table with `span` slots are to be visited now. What exceeds the
    /// slice stays owed, up to one turn.
    #[inline]
    fn due(&mut self, now: u32, span: usize) -> usize {
        let turn = self.turn();
        let elapsed = now.wrapping_sub(self.last) as u64;
        if elapsed > 0 {
            self.last = now;
            let owed = elapsed.min(turn) * span as u64;
            self.owed = (self.owed + owed).min(turn * span as u64);
        }
        if self.owed < turn {
            return 0;
        }
        let slots = (self.owed / turn).min(self.slice as u64);
        self.owed -= slots * turn;
        slots as usize
    }

    /// One slice of [`Table::reap`], if one is due. Returns how many entries went.
    #[inline]
    pub fn run(
        &mut self,
        table: &mut Table,
        now: u32,
        idle_limit: impl Fn(&Entry) -> u32,
        removed: impl FnMut(Removed),
    ) -> usize {
        let slots = self.due(now, table.span());
        if slots == 0 {
            return 0;
        }
        let swept = table.reap(now, slots, idle_limit, removed);
        // Where much is over at once, removals use up the slice before its slots are done.
        self.owed += (slots - swept.visited) as u64 * self.turn();
        swept.removed
    }

    /// Milliseconds of a turn.
    fn turn(&self) -> u64 {
        self.tick as u64 * TICKS_A_TURN as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tick_visits_one_part_in_256_of_the_table() {
        let mut reaper = Reaper::new(100, usize::MAX, 0);
        let span = 256 * 50;
        for tick in 1..=512 {
            assert_eq!(reaper.due(tick * 100, span), 50);
        }
    }

    #[test]
    fn slices_bound_a_call_and_lose_nothing() {
        let mut reaper = Reaper::new(100, 16, u32::MAX - 1000);
        let span = 256 * 1000;
        let mut visited = 0;
        let mut now = u32::MAX - 1000;
        for _ in 0..2560 {
            now = now.wrapping_add(10);
            for _ in 0..10 {
                let slots = reaper.due(now, span);
                assert!(slots <= 16);
                visited += slots;
            }
        }
        assert_eq!(visited, span, "one turn in 256 ticks, across the wrap of the clock");
    }

    #[test]
    fn the_shortest_idle_time_sets_the_pace_within_bounds() {
        let ticks = [0, 2_000, 5_000, 20_000, 30_000, 300_000].map(Reaper::tick_for);
        assert_eq!(ticks, [10, 10, 19, 78, 100, 100]);
    }

    #[test]
    fn another_tick_keeps_what_is_owed() {
        let span = 256 * 50;
        let mut reaper = Reaper::new(100, 20, 0);
        assert_eq!(reaper.due(100, span), 20);
        reaper.set_tick(10);
        assert_eq!(
            [reaper.due(100, span), reaper.due(100, span), reaper.due(100, span)],
            [20, 10, 0]
        );
        let rest: usize = (101..=110).map(|now| reaper.due(now, span)).sum();
        assert_eq!(rest, 50, "a tick of ten milliseconds");
    }

    #[test]
    fn a_long_pause_owes_one_turn_at_most() {
        let mut reaper = Reaper::new(100, usize::MAX, 0);
        assert_eq!(reaper.due(3_000_000_000, 5000), 5000);
        assert_eq!(reaper.due(3_000_000_000, 5000), 0);
    }
}
