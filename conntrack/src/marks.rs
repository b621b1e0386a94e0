//! The marks of the table: two bytes a slot that say how readily its entry makes room.
//!
//! ```text
//!    15      14        13          0
//!  | weak | closing | last seen    |    0: the slot is empty, or its flow confirmed and open
//! ```
//!
//! An entry is weak while its flow is not confirmed, once its client has ended it, and as a
//! tombstone. So a newcomer to a full table learns whose place it may take from one cache line of
//! marks, and fetches that entry alone.
//!
//! Time is counted in units of 32 milliseconds, about what a client takes to answer, and wraps after
//! 524 seconds, longer than weak entries are left by the reaper in any usual configuration; one that
//! is left longer only looks younger. Entries are of one age when they are of one unit.
//!
//! Invariant: the mark of a used slot is [`mark`] of its entry. Packets that find their flow steady
//! do not touch it: such a flow is not weak, and its mark 0 says no time.

use crate::entry::Entry;
use crate::lanes;

/// Marks that are compared with each other, of slots that are neighbours.
pub(crate) const WINDOW: usize = lanes::MARKS;

pub(crate) const WEAK: u16 = 1 << 15;
pub(crate) const CLOSING: u16 = 1 << 14;
/// The bits of the time.
pub(crate) const TIME: u16 = CLOSING - 1;
/// Milliseconds of a unit of time, as a power of two.
const UNIT: u32 = 5;

/// The mark of an entry.
#[inline]
pub(crate) fn mark(entry: &Entry) -> u16 {
    let class = if entry.state().is_closing() || entry.tombstone() {
        WEAK | CLOSING
    } else if !entry.confirmed() {
        WEAK
    } else {
        return 0;
    };
    class | stamp(entry.last_seen())
}

/// Which of eight marks goes first: closing ones before unconfirmed ones, of one class the oldest,
/// of one age the last before lane `near`, or else the first. `None` when none is weak.
#[inline]
pub(crate) fn weakest(marks: &[u16; WINDOW], now: u32, near: usize) -> Option<usize> {
    let lanes = lanes::weakest(marks, stamp(now));
    let before = lanes & ((1 << near.min(WINDOW)) - 1);
    let first = lanes & lanes.wrapping_neg();
    let chosen = if before != 0 { before } else { first };
    chosen.checked_ilog2().map(|lane| lane as usize)
}

/// As [`weakest`], of the unconfirmed ones alone.
pub(crate) fn weakest_unconfirmed(marks: &[u16; WINDOW], now: u32) -> Option<usize> {
    weakest(&marks.map(|mark| if is_closing(mark) { 0 } else { mark }), now, 0)
}

/// Whether a weak mark is that of a closing entry or of a tombstone.
#[inline]
pub(crate) fn is_closing(mark: u16) -> bool {
    mark & CLOSING != 0
}

#[inline]
fn stamp(time: u32) -> u16 {
    (time >> UNIT) as u16 & TIME
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn age_goes_across_the_wrap_of_the_clock() {
        let marks = [0, WEAK | stamp(50), WEAK | stamp(u32::MAX - 100), 0, 0, 0, 0, 0];
        assert_eq!(weakest(&marks, 100, 0), Some(2));
        assert_eq!(weakest_unconfirmed(&marks, 100), Some(2));
        assert_eq!(weakest(&[0; WINDOW], 100, 3), None);
    }

    #[test]
    fn closing_goes_before_unconfirmed_and_of_one_age_the_nearest() {
        let [old, young] = [stamp(1000), stamp(9000)];
        let marks = [0, WEAK | old, WEAK | CLOSING | young, WEAK | CLOSING | young, 0, 0, 0, 0];
        let nearest = [0, 2, 3, 4, 5, 8, 100].map(|near| weakest(&marks, 10_000, near));
        assert_eq!(nearest, [2, 2, 2, 3, 3, 3, 3].map(Some));
        assert_eq!(weakest_unconfirmed(&marks, 10_000), Some(1));
    }
}
