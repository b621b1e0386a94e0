//! Which sizes a table can have, and which it should have.
//!
//! A permutation steps through the table by a skip; only in a table of prime size does every
//! skip reach every slot.

use core::fmt;

use crate::table::MAX_SLOTS;

/// Whether `n` is prime. Trial division: at most 2,048 steps for a table size.
pub const fn is_prime(n: u32) -> bool {
    if n < 4 {
        return n >= 2;
    }
    if n.is_multiple_of(2) {
        return false;
    }
    let n = n as u64;
    let mut divisor = 3;
    while divisor * divisor <= n {
        if n.is_multiple_of(divisor) {
            return false;
        }
        divisor += 2;
    }
    true
}

/// The greatest prime up to `n` and the least from `n` on that a table can have as its size.
/// `None` where there is none: below 2, and above [`MAX_SLOTS`].
pub fn nearest_primes(n: u32) -> (Option<u32>, Option<u32>) {
    let below = (2..=n.min(MAX_SLOTS)).rev().find(|&candidate| is_prime(candidate));
    let above = (n..=MAX_SLOTS).find(|&candidate| is_prime(candidate));
    (below, above)
}

/// A table with fewer than 100 slots a backend, so that slots are spread less evenly than 1 %.
/// It works; an operator should be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Undersized {
    /// Backends with a weight.
    pub members: usize,
    /// Slots of the table.
    pub size: u32,
    /// The least prime that has 100 slots a backend; `None` when that is above [`MAX_SLOTS`].
    pub recommended: Option<u32>,
}

/// Whether a table of `size` slots is below the recommended 100 slots for each of `members`.
pub fn undersized(members: usize, size: u32) -> Option<Undersized> {
    let wanted = members.saturating_mul(100);
    if size as usize >= wanted {
        return None;
    }
    let recommended = u32::try_from(wanted).ok().and_then(|wanted| nearest_primes(wanted).1);
    Some(Undersized { members, size, recommended })
}

impl fmt::Display for Undersized {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} slots for {} backends are fewer than 100 each, so shares can differ by more than 1 %",
            self.size, self.members
        )?;
        match self.recommended {
            Some(size) => write!(f, "; a table of {size} slots would do"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_a_sieve() {
        let limit = 100_000;
        let mut composite = vec![false; limit + 1];
        for n in 2..=limit {
            assert_eq!(is_prime(n as u32), !composite[n], "{n}");
            if !composite[n] {
                (2 * n..=limit).step_by(n).for_each(|multiple| composite[multiple] = true);
            }
        }
        assert!(!is_prime(0) && !is_prime(1));
        assert!(is_prime(u32::MAX - 4) && !is_prime(u32::MAX));
    }

    #[test]
    fn names_the_neighbours_of_a_composite() {
        assert_eq!(nearest_primes(65_536), (Some(65_521), Some(65_537)));
        assert_eq!(nearest_primes(65_537), (Some(65_537), Some(65_537)));
        assert_eq!(nearest_primes(0), (None, Some(2)));
        assert_eq!(nearest_primes(u32::MAX), (Some(MAX_SLOTS), None));
        assert!(is_prime(MAX_SLOTS) && nearest_primes(MAX_SLOTS + 1).1.is_none());
    }

    #[test]
    fn a_table_below_100_slots_a_backend_is_undersized() {
        assert_eq!(undersized(655, 65_537), None);
        assert_eq!(undersized(0, 2), None);
        let warning = undersized(750, 65_537).expect("75,000 is more");
        assert_eq!(warning.recommended, Some(75_011));
        assert_eq!(
            warning.to_string(),
            "65537 slots for 750 backends are fewer than 100 each, so shares can differ by more \
             than 1 %; a table of 75011 slots would do"
        );
        assert_eq!(undersized(usize::MAX, 65_537).expect("more").recommended, None);
    }
}
