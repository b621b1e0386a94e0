//! Primes, for the sizes of Maglev tables.
//!
//! A Maglev permutation steps through the table by a skip; only when the size is prime does
//! every skip reach every slot. Sizes stay below 2^24, so trial division is at most 2,048
//! steps.

/// Whether `n` is prime.
pub(crate) fn is_prime(n: u32) -> bool {
    match n {
        0 | 1 => false,
        2 | 3 => true,
        _ if n.is_multiple_of(2) => false,
        _ => (3..).step_by(2).take_while(|d| d * d <= n).all(|d| !n.is_multiple_of(d)),
    }
}

/// The greatest prime up to `n` and the least from `n` on, both within 2 to `max`.
/// `max` must itself be below 2^31, so that squares of divisors fit.
pub(crate) fn nearest_primes(n: u32, max: u32) -> (Option<u32>, Option<u32>) {
    let below = (2..=n.min(max)).rev().find(|&candidate| is_prime(candidate));
    let above = (n..=max).find(|&candidate| is_prime(candidate));
    (below, above)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_a_sieve_up_to_100_000() {
        let mut composite = vec![false; 100_001];
        for n in 2..=100_000u32 {
            assert_eq!(is_prime(n), !composite[n as usize], "{n}");
            if !composite[n as usize] {
                for multiple in (2 * n..=100_000).step_by(n as usize) {
                    composite[multiple as usize] = true;
                }
            }
        }
        assert!(!is_prime(0) && !is_prime(1));
    }

    #[test]
    fn knows_the_sizes_operators_use() {
        assert!(is_prime(65_537) && is_prime(655_373) && is_prime(16_777_213));
        assert_eq!(nearest_primes(65_536, 16_777_213), (Some(65_521), Some(65_537)));
        assert_eq!(nearest_primes(16_777_214, 16_777_213), (Some(16_777_213), None));
        assert_eq!(nearest_primes(0, 10), (None, Some(2)));
    }
}
