//! Does a source address belong to a VIP? It hardly ever does, and every new flow asks: a few bits
//! for each VIP say "no" to all but one address in sixteen, from the first-level cache.
//!
//! Bloom, "Space/Time Trade-offs in Hash Coding with Allowable Errors", 1970, with one hash. VIPs
//! are the operator's; whoever sends from addresses that pass makes each cost a look-up, no more.

/// Bits for each address.
const ROOM: usize = 16;

/// See the module. Never written after it is built.
#[derive(Debug)]
pub(super) struct Sieve {
    words: Box<[u64]>,
    /// Brings the top of a 64-bit product down to a bit number.
    shift: u32,
}

impl Sieve {
    pub(super) fn new<'a>(addresses: impl ExactSizeIterator<Item = &'a u128>) -> Self {
        let bits = (addresses.len() * ROOM).next_power_of_two().max(64);
        let mut sieve =
            Self { words: vec![0; bits / 64].into(), shift: 64 - bits.trailing_zeros() };
        for &address in addresses {
            let bit = sieve.bit(address);
            sieve.words[bit / 64] |= 1 << (bit % 64);
        }
        sieve
    }

    /// `false`: it is none of them.
    #[inline(always)]
    pub(super) fn may_have(&self, address: u128) -> bool {
        let bit = self.bit(address);
        self.words.get(bit / 64).is_some_and(|word| word >> (bit % 64) & 1 != 0)
    }

    /// Multiplicative hashing, of both halves.
    #[inline(always)]
    fn bit(&self, address: u128) -> usize {
        let both = (address >> 64) as u64 ^ address as u64;
        (both.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> self.shift) as usize
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn whoever_is_in_it_is_never_denied(
            addresses in prop::collection::vec(any::<u128>(), 0..200),
        ) {
            let sieve = Sieve::new(addresses.iter());
            prop_assert!(addresses.iter().all(|&address| sieve.may_have(address)));
        }
    }

    #[test]
    fn most_others_are() {
        let mapped = |address: u32| 0xffff_u128 << 32 | u128::from(address);
        let vips: Vec<u128> = (0..1000).map(|number| mapped(0xcb00_7100 + number)).collect();
        let sieve = Sieve::new(vips.iter());
        let passed = (0..100_000).filter(|&number| sieve.may_have(mapped(0x0a00_0000 + number)));
        assert!(passed.count() < 100_000 / 8);
        assert!(!Sieve::new([].iter()).may_have(mapped(1)));
    }
}
