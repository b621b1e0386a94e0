//! The tags of the table: two bytes a slot that say where a flow can be.
//!
//! ```text
//!   15        8 7         0
//!  | distance+1 | finger-  |     0: the slot is empty
//!  |            | print    |
//! ```
//!
//! The high byte is the slot's distance from its flow's home plus one, the low byte eight
//! bits of the hash. Distance and position give the home, so a tag that matches at distance
//! `i` belongs to a flow of the very same home and fingerprint: a false match is a matter of
//! 1 in 300 at a full table.
//!
//! Invariant (robin hood, Celis 1986): within a run of used slots, homes never decrease. So a
//! tag's distance is at most its left neighbour's plus one, and once a scan passes a slot
//! nearer to its home than the scan is to its own, every later slot is nearer as well: the
//! last tag of a chunk says for the whole chunk whether to go on.
//!
//! Scans go by chunks of 16 tags, compared at once ([`crate::lanes`]).

use crate::lanes::{self, LANES};

/// Slots a flow can lie away from its home, counting the home itself. At 90 % load the
/// chance to need more falls as e^(-0.207 n) (the queue M/D/1): 1 in 10^11 for one flow.
pub const MAX_PROBE: usize = 128;

/// One step of distance.
pub(crate) const NEARER: u16 = 1 << 8;

/// The tag of a flow at the farthest allowed slot is at least this.
const FARTHEST: u16 = (MAX_PROBE as u16) << 8;

/// The tag of a flow with this fingerprint, `distance` slots from home.
#[inline]
pub(crate) fn tag(distance: usize, fingerprint: u8) -> u16 {
    (distance as u16 + 1) << 8 | fingerprint as u16
}

/// Whether the flow with this tag cannot be moved farther from its home.
#[inline]
pub(crate) fn is_farthest(tag: u16) -> bool {
    tag >= FARTHEST
}

/// Whether a slot is empty or holds a flow at home: what ends a backward shift.
#[inline]
pub(crate) fn is_home_or_empty(tag: u16) -> bool {
    tag < 2 * NEARER
}

/// The slot of the next flow with this home and fingerprint, from `distance` on.
#[inline]
pub(crate) fn next_match(
    tags: &[u16],
    home: usize,
    mut distance: usize,
    fingerprint: u8,
) -> Option<usize> {
    while distance < MAX_PROBE {
        let chunk = chunk_at(tags, home + distance)?;
        let matches = lanes::equal(chunk, tag(distance, fingerprint));
        if matches != 0 {
            return Some(home + distance + matches.trailing_zeros() as usize);
        }
        distance += LANES;
        if chunk[LANES - 1] < tag(distance - 1, 0) {
            return None;
        }
    }
    None
}

/// As [`next_match`] from distance 0: nearly all flows lie within the first chunk.
#[inline(always)]
pub(crate) fn first_match(tags: &[u16], home: usize, fingerprint: u8) -> Option<usize> {
    let chunk = chunk_at(tags, home)?;
    let matches = lanes::equal(chunk, tag(0, fingerprint));
    if matches != 0 {
        return Some(home + matches.trailing_zeros() as usize);
    }
    match chunk[LANES - 1] < tag(LANES - 1, 0) {
        true => None,
        false => farther_match(tags, home, fingerprint),
    }
}

#[cold]
#[inline(never)]
fn farther_match(tags: &[u16], home: usize, fingerprint: u8) -> Option<usize> {
    next_match(tags, home, LANES, fingerprint)
}

/// Where a new flow of this home belongs: the first slot that is empty or nearer to its own
/// home than the new flow would be there. At most `home + MAX_PROBE`, which is too far.
#[inline]
pub(crate) fn insertion_point(tags: &[u16], home: usize) -> usize {
    let mut distance = 0;
    while distance < MAX_PROBE {
        let Some(chunk) = chunk_at(tags, home + distance) else { break };
        let farther = lanes::reaching(chunk, tag(distance, 0)).trailing_ones() as usize;
        distance += farther;
        if farther < LANES {
            break;
        }
    }
    home + distance.min(MAX_PROBE)
}

#[inline(always)]
fn chunk_at(tags: &[u16], slot: usize) -> Option<&[u16; LANES]> {
    // One comparison: a slot has no more than 32 bits.
    tags.get(slot..slot + LANES)?.first_chunk()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn scalar_match(tags: &[u16], home: usize, distance: usize, fingerprint: u8) -> Option<usize> {
        for i in distance..MAX_PROBE {
            if tags[home + i] == tag(i, fingerprint) {
                return Some(home + i);
            }
            if tags[home + i] < tag(i, 0) {
                return None;
            }
        }
        None
    }

    fn scalar_insertion_point(tags: &[u16], home: usize) -> usize {
        (0..MAX_PROBE).find(|&i| tags[home + i] < tag(i, 0)).unwrap_or(MAX_PROBE) + home
    }

    /// Tags that keep the invariant: each distance at most one above its left neighbour's.
    fn runs() -> impl Strategy<Value = Vec<u16>> {
        prop::collection::vec((0u16..20, 0u8..3), 40..300).prop_map(|slots| {
            let mut previous = 0u16;
            let mut tags: Vec<u16> = slots
                .into_iter()
                .map(|(step, fingerprint)| {
                    let distance = match step {
                        0 => 0,
                        1..=3 => previous,
                        4..=5 => previous.div_ceil(2),
                        _ => previous + 1,
                    };
                    previous = distance.min(MAX_PROBE as u16);
                    if previous == 0 { 0 } else { previous << 8 | fingerprint as u16 }
                })
                .collect();
            tags.resize(tags.len() + MAX_PROBE + LANES, 0);
            tags
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 256 }))]

        #[test]
        fn chunked_scans_answer_as_the_scalar_ones(tags in runs(), distance in 0usize..40) {
            for home in 0..tags.len() - MAX_PROBE - LANES {
                prop_assert_eq!(insertion_point(&tags, home), scalar_insertion_point(&tags, home));
                for fingerprint in 0..3 {
                    // From a distance that a scan can reach: no stop before it.
                    if distance <= insertion_point(&tags, home) - home {
                        prop_assert_eq!(
                            next_match(&tags, home, distance, fingerprint),
                            scalar_match(&tags, home, distance, fingerprint)
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn scans_at_the_end_of_memory_find_nothing_and_do_not_panic() {
        let tags = [0x0100u16; LANES];
        assert_eq!(next_match(&tags, 1, 0, 7), None);
        assert_eq!(insertion_point(&tags, 1), 1);
    }
}
