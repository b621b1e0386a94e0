//! The order in which a backend wants the slots.
//!
//! Maglev paper, section 3.4: a permutation is an offset and a skip, and its entry `j` is
//! `(offset + j * skip) mod M`. As M is prime and the skip is from 1 to M - 1, the first M entries
//! are all slots, each once. Both numbers come from the backend's id, so that neither address,
//! position nor the rest of the pool has a say:
//!
//! ```text
//! (a, b)     = SipHash-2-4-128(secret, "weir maglev permutation" 0x00 id)
//! offset     = floor(a * M / 2^64)
//! skip       = 1 + floor(b * (M - 1) / 2^64)
//! precedence = SipHash-2-4(secret, "weir maglev precedence" 0x00 id)
//! ```

use core::hash::Hasher;

use siphasher::sip::SipHasher24;
use siphasher::sip128::{Hasher128, SipHasher24 as SipHasher128};

/// What a backend's id decides, for one secret and table size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permutation {
    /// The first slot, below the table's size.
    pub offset: u32,
    /// The step to the next slot, from 1 to the table's size less 1.
    pub skip: u32,
    /// Among members of equal weight, the lesser goes first in each round of turns.
    pub precedence: u64,
}

impl Permutation {
    /// The permutation of the backend `id` in a table of `size` slots. `size` is prime; for
    /// another number, the slots are not all reached.
    pub fn new(secret: [u8; 16], id: &str, size: u32) -> Permutation {
        let mut hasher = SipHasher128::new_with_key(&secret);
        hasher.write(b"weir maglev permutation\0");
        hasher.write(id.as_bytes());
        let hash = hasher.finish128();
        let mut hasher = SipHasher24::new_with_key(&secret);
        hasher.write(b"weir maglev precedence\0");
        hasher.write(id.as_bytes());
        Permutation {
            offset: scale(hash.h1, size),
            skip: 1 + scale(hash.h2, size.saturating_sub(1)),
            precedence: hasher.finish(),
        }
    }

    /// The slots in order of preference, `size` of them.
    pub fn slots(self, size: u32) -> impl Iterator<Item = u32> {
        let mut slot = self.offset;
        (0..size).map(move |_| {
            let current = slot;
            slot = step(slot, self.skip, size);
            current
        })
    }
}

/// The next slot of a permutation: without a division, as both numbers are below `size`.
#[inline(always)]
pub(crate) fn step(slot: u32, skip: u32, size: u32) -> u32 {
    // Sizes are below 2^24, so the sum does not wrap.
    let next = slot.wrapping_add(skip);
    if next >= size { next.wrapping_sub(size) } else { next }
}

/// `floor(hash * limit / 2^64)`: a number below `limit` (0 for limit 0), as even as the hash is.
#[inline(always)]
pub(crate) const fn scale(hash: u64, limit: u32) -> u32 {
    ((hash as u128 * limit as u128) >> 64) as u32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::prime::is_prime;

    #[test]
    fn the_greatest_hash_stays_below_the_limit() {
        assert_eq!(scale(u64::MAX, 65_537), 65_536);
        assert_eq!(scale(0, 65_537), 0);
        assert_eq!(scale(u64::MAX, 0), 0);
    }

    proptest! {
        #[test]
        fn a_permutation_visits_each_slot_once(
            secret: [u8; 16],
            id in ".{0,40}",
            size in (2u32..70_000).prop_filter("prime", |&size| is_prime(size)),
        ) {
            let permutation = Permutation::new(secret, &id, size);
            prop_assert!(permutation.offset < size);
            prop_assert!((1..size).contains(&permutation.skip));
            let mut seen = vec![false; size as usize];
            for slot in permutation.slots(size) {
                prop_assert!(!seen[slot as usize], "slot {} twice", slot);
                seen[slot as usize] = true;
            }
            prop_assert!(seen.into_iter().all(|seen| seen));
        }
    }
}
