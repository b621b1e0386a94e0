//! Moving flows within a run of used slots: what insertion, eviction and removal do to it.
//!
//! Invariant kept by each public step here: within a run homes never decrease, every tag
//! tells its entry's true distance, and nothing moves behind the reaper's cursor unmet.

use crate::entry::Entry;
use crate::marks::mark;
use crate::table::Table;
use crate::tags::{self, NEARER};

/// The longest run of entries that one insertion moves up (256 KiB). At 90 % load a run is
/// longer once in 10^9; the flow then goes through eviction like one that finds no slot.
const MAX_SHIFT: usize = 4096;

impl Table {
    /// The first empty slot from `from` on, if everything before it can move up by one.
    pub(crate) fn gap(&self, from: usize) -> Option<usize> {
        for (index, &tag) in self.tags[from..].iter().take(MAX_SHIFT).enumerate() {
            if tag == 0 {
                return Some(from + index);
            }
            if tags::is_farthest(tag) {
                return None;
            }
        }
        None
    }

    pub(crate) fn put(&mut self, slot: usize, home: usize, hash: u64, entry: Entry) {
        self.tags[slot] = tags::tag(slot - home, hash as u8);
        self.marks[slot] = mark(&entry);
        self.entries[slot] = entry;
    }

    /// Puts a new flow, which belongs at `point`, in the place of the one at `victim`. Both
    /// lie in `home..home + MAX_PROBE` or at its end; where the home is free, `victim` is anywhere.
    pub(crate) fn replace(
        &mut self,
        victim: usize,
        point: usize,
        home: usize,
        hash: u64,
        entry: Entry,
    ) {
        if victim < home {
            // The home is free, or it would not come to this: what moves down ends before it.
            self.vacate(victim);
            self.put(point, home, hash, entry);
            return;
        }
        if victim < point {
            // What lies between has its home at or before ours, so it is away from home.
            self.shift_down(victim + 1, point);
            self.put(point - 1, home, hash, entry);
            return;
        }
        match self.tags[point..victim].iter().position(|&tag| tag == 0) {
            None => self.shift_up(point, victim),
            Some(index) => {
                self.vacate(victim);
                self.shift_up(point, point + index);
            }
        }
        self.put(point, home, hash, entry);
    }

    /// Empties a slot; the run behind it moves down.
    pub(crate) fn remove(&mut self, slot: usize) {
        self.vacate(slot);
        self.len -= 1;
    }

    fn vacate(&mut self, slot: usize) {
        let run = self.tags[slot + 1..].iter().position(|&tag| tags::is_home_or_empty(tag));
        // Zero tags lie behind the last slot, so there is always an end to the run.
        let end = slot + 1 + run.unwrap_or(0);
        self.shift_down(slot + 1, end);
        self.tags[end - 1] = 0;
        self.marks[end - 1] = 0;
        // What is left there is no flow's entry, and must not be taken for one.
        self.entries[end - 1].clear();
    }

    /// Moves `from..to` one slot up, over the slot `to`.
    #[inline]
    pub(crate) fn shift_up(&mut self, from: usize, to: usize) {
        if from < to {
            self.move_up(from, to);
        }
    }

    fn move_up(&mut self, from: usize, to: usize) {
        self.tags.copy_within(from..to, from + 1);
        for tag in &mut self.tags[from + 1..to + 1] {
            *tag += NEARER;
        }
        self.marks.copy_within(from..to, from + 1);
        self.entries.copy_within(from..to, from + 1);
    }

    /// Moves `from..to` one slot down, over the slot `from - 1`.
    #[inline]
    fn shift_down(&mut self, from: usize, to: usize) {
        if from < to {
            self.move_down(from, to);
        }
    }

    fn move_down(&mut self, from: usize, to: usize) {
        self.tags.copy_within(from..to, from - 1);
        for tag in &mut self.tags[from - 1..to - 1] {
            *tag -= NEARER;
        }
        self.marks.copy_within(from..to, from - 1);
        self.entries.copy_within(from..to, from - 1);
        // The entry that the reaper would have met next has moved behind it: it steps back.
        if (from..to).contains(&self.cursor) {
            self.cursor -= 1;
        }
    }
}
