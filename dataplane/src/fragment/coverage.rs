//! Which bytes of a datagram have come, exactly: one bit for each 8 bytes, and one where a
//! fragment begins, so that an overlap is told from a copy whatever the order and the number of
//! fragments.
//!
//! ```text
//!  covered  1 1 1 1 1 1 . . 1 1 1     fragments 0..3, 3..6 and 8..11
//!  starts   1 . . 1 . . . . 1 . .
//! ```

use super::Piece;

/// Words of one bit set: 65,536 bytes in units of 8, 64 units a word.
const WORDS: usize = 128;
/// 64-bit words of both bit sets.
pub const BITMAP: usize = 2 * WORDS;

/// The two bit sets of one datagram, in memory of the table's.
pub type Bitmap = [u64; BITMAP];

/// What is known of a datagram's length.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    /// Bytes that have come.
    received: u32,
    /// The end of the farthest fragment, in bytes.
    reach: u32,
    /// The end of the last fragment, once it has come.
    total: Option<u32>,
    /// Fragments that have come, copies not counted.
    pieces: u16,
}

/// What a fragment adds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Added {
    /// Bytes that were missing.
    New,
    /// Nothing: the very same fragment was here.
    Copy,
    /// It contradicts what was here: bytes twice, two ends, or bytes beyond the end.
    Overlap,
}

impl Coverage {
    /// Takes note of a piece, which ends at 65,535 at most, and unless it is the last at a
    /// multiple of 8.
    pub fn add(&mut self, bitmap: &mut Bitmap, piece: &Piece) -> Added {
        let (covered, starts) = bitmap.split_at_mut(WORDS);
        let end = piece.end();
        let first = piece.offset / 8;
        let units = first..end.div_ceil(8);
        let last = self.total.is_some_and(|total| total.div_ceil(8) == units.end);
        if has_any(covered, units.clone()) {
            let same = has_all(covered, units.clone())
                && has_any(starts, first..first + 1)
                && !has_any(starts, first + 1..units.end)
                && (!has_any(covered, units.end..units.end + 1)
                    || has_any(starts, units.end..units.end + 1))
                && piece.more != last
                && (piece.more || self.total == Some(end));
            return if same { Added::Copy } else { Added::Overlap };
        }
        let contradicts = match (piece.more, self.total) {
            (true, Some(total)) => end > total,
            (false, Some(_)) => true,
            (true, None) => false,
            (false, None) => self.reach > end,
        };
        if contradicts {
            return Added::Overlap;
        }
        set(covered, units);
        set(starts, first..first + 1);
        self.received += piece.length;
        self.reach = self.reach.max(end);
        self.pieces = self.pieces.saturating_add(1);
        if !piece.more {
            self.total = Some(end);
        }
        Added::New
    }

    /// Whether all of the datagram has come.
    pub fn is_complete(&self) -> bool {
        self.total == Some(self.received)
    }

    /// Fragments that have come.
    pub fn pieces(&self) -> u16 {
        self.pieces
    }
}

/// The words that the bits of `units` lie in, each with the mask of those bits.
fn words(units: std::ops::Range<u32>) -> impl Iterator<Item = (usize, u64)> {
    let end = if units.is_empty() { units.start / 64 } else { units.end.div_ceil(64) };
    (units.start / 64..end).map(move |word| {
        let from = units.start.max(word * 64) - word * 64;
        let to = units.end.min(word * 64 + 64) - word * 64;
        (word as usize, (u64::MAX << from) & (u64::MAX >> (64 - to)))
    })
}

fn has_any(bits: &[u64], units: std::ops::Range<u32>) -> bool {
    words(units).any(|(word, mask)| bits.get(word).is_some_and(|bits| bits & mask != 0))
}

fn has_all(bits: &[u64], units: std::ops::Range<u32>) -> bool {
    words(units).all(|(word, mask)| bits.get(word).is_some_and(|bits| bits & mask == mask))
}

fn set(bits: &mut [u64], units: std::ops::Range<u32>) {
    for (word, mask) in words(units) {
        if let Some(bits) = bits.get_mut(word) {
            *bits |= mask;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn piece(offset: u32, length: u32, more: bool) -> Piece {
        Piece { identification: 1, offset, length, more }
    }

    fn add(pieces: &[Piece]) -> (Vec<Added>, Coverage) {
        let mut bitmap = [0; BITMAP];
        let mut coverage = Coverage::default();
        (pieces.iter().map(|piece| coverage.add(&mut bitmap, piece)).collect(), coverage)
    }

    #[test]
    fn overlaps_copies_and_second_ends_are_told_apart() {
        use Added::{Copy, New, Overlap};
        let first = piece(0, 24, true);
        for (second, expected) in [
            (piece(24, 8, true), New),
            (piece(0, 24, true), Copy),
            (piece(0, 24, false), Overlap),
            (piece(0, 16, true), Overlap),
            (piece(8, 16, true), Overlap),
            (piece(8, 8, true), Overlap),
            (piece(16, 16, true), Overlap),
            (piece(0, 32, true), Overlap),
            (piece(24, 5, false), New),
            (piece(64, 8, true), New),
        ] {
            assert_eq!(add(&[first, second]).0, [New, expected], "{second:?}");
        }
        let last = piece(24, 5, false);
        for (third, expected) in [
            (piece(24, 5, false), Copy),
            (piece(24, 4, false), Overlap),
            (piece(24, 8, true), Overlap),
            (piece(32, 8, true), Overlap),
            (piece(32, 3, false), Overlap),
        ] {
            assert_eq!(add(&[last, third]).0, [New, expected], "{third:?}");
        }
        // The end before what has already come; the same start and end as two fragments had.
        assert_eq!(add(&[piece(64, 8, true), piece(8, 8, false)]).0, [New, Overlap]);
        let two = [piece(8, 8, true), piece(16, 8, true), piece(8, 16, true)];
        assert_eq!(add(&two).0, [New, New, Overlap]);
    }

    #[test]
    fn the_longest_datagram_fits() {
        let (added, coverage) = add(&[piece(65_528, 7, false), piece(0, 65_528, true)]);
        assert_eq!(added, [Added::New, Added::New]);
        assert!(coverage.is_complete());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 5 } else { 500 }))]

        /// Against a list of ranges, for any pieces in any order.
        #[test]
        fn coverage_is_that_of_a_list_of_ranges(
            pieces in prop::collection::vec((0u32..60, 1u32..12, any::<bool>(), 0u32..8), 1..40)
        ) {
            let mut bitmap = [0; BITMAP];
            let mut coverage = Coverage::default();
            let mut known: Vec<Piece> = Vec::new();
            for (first, units, more, short) in pieces {
                let short = if more { 0 } else { short };
                let next = piece(first * 8, units * 8 - short, more);
                // In units, as no two fragments share one.
                let meets = |other: &Piece| {
                    other.offset < next.end().next_multiple_of(8)
                        && next.offset < other.end().next_multiple_of(8)
                };
                let end = known.iter().find(|piece| !piece.more).map(Piece::end);
                let beyond = match (next.more, end) {
                    (_, Some(end)) => next.end() > end || !next.more,
                    (true, None) => false,
                    (false, None) => known.iter().any(|other| other.end() > next.end()),
                };
                let expected = if known.contains(&next) {
                    Added::Copy
                } else if known.iter().any(meets) || beyond {
                    Added::Overlap
                } else {
                    known.push(next);
                    Added::New
                };
                prop_assert_eq!(coverage.add(&mut bitmap, &next), expected, "{:?}", next);
                let received: u32 = known.iter().map(|piece| piece.length).sum();
                let total = known.iter().find(|piece| !piece.more).map(Piece::end);
                prop_assert_eq!(coverage.is_complete(), total == Some(received));
            }
        }
    }
}
