//! How many ICMP errors a worker sends, and how many it delivers.
//!
//! An error of the node's own is a packet sent at a stranger's wish, perhaps to a third party
//! whose address the stranger wrote down as its own. So there are two limits: a share for each
//! source prefix (/24, /56: what one site has), and a budget over all. The shares live in a table
//! of fixed size, found by a keyed hash: nobody can choose a source that lies in the same place
//! as another's, and nothing is allocated. Two prefixes may share a place; they then share its
//! tokens, and a prefix that is refused takes nothing from the budget.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use conntrack::{FlowKey, KeyHasher};

use crate::tables::IcmpOptions;

/// Places for source prefixes; a power of two. 48 KiB a worker.
const PLACES: usize = 4096;
/// Bits of an IPv4 source that count.
pub const PREFIX_V4: u32 = 24;
/// Bits of an IPv6 source that count: what a site is given (RFC 6177).
pub const PREFIX_V6: u32 = 56;

/// The limits of one worker.
#[derive(Debug)]
pub struct IcmpLimits {
    delivered: Tokens,
    sent: Tokens,
    prefixes: Box<[Tokens]>,
    hasher: KeyHasher,
}

/// A token bucket whose rate is said at each use, because a reload may change it: so many a
/// second, and as many at once.
#[derive(Clone, Copy, Debug)]
struct Tokens {
    left: u32,
    /// Of the next token, in thousandths: what is asked for every millisecond would else never
    /// earn it.
    begun: u16,
    refilled_ms: u32,
}

impl Tokens {
    /// Full, whatever the rate.
    const FULL: Self = Self { left: u32::MAX, begun: 0, refilled_ms: 0 };

    /// Takes one, if there is one. Time is the worker's wrapping milliseconds.
    fn take(&mut self, per_second: u32, now_ms: u32) -> bool {
        let elapsed = now_ms.wrapping_sub(self.refilled_ms);
        let earned = u64::from(elapsed) * u64::from(per_second) + u64::from(self.begun);
        self.left = u64::from(self.left).saturating_add(earned / 1000).min(u32::MAX.into()) as u32;
        self.begun = (earned % 1000) as u16;
        self.refilled_ms = now_ms;
        self.left = self.left.min(per_second);
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                true
            }
            None => false,
        }
    }
}

impl IcmpLimits {
    /// All buckets full. `seed` is the worker's secret.
    pub fn new(seed: [u64; 4]) -> Self {
        // Not the flow table's hash: what one gives away must not help against the other.
        let seed = seed.map(|word| word.rotate_left(23) ^ 0x1c3d_5e7f_90ab_cdef);
        Self {
            delivered: Tokens::FULL,
            sent: Tokens::FULL,
            prefixes: vec![Tokens::FULL; PLACES].into_boxed_slice(),
            hasher: KeyHasher::new(seed),
        }
    }

    /// Whether one more error may be handed to a backend.
    pub fn may_deliver(&mut self, options: &IcmpOptions, now_ms: u32) -> bool {
        self.delivered.take(options.delivered_per_second, now_ms)
    }

    /// Whether one more error may be sent to `client`.
    pub fn may_send(&mut self, client: IpAddr, options: &IcmpOptions, now_ms: u32) -> bool {
        let place = self.hasher.hash(&prefix(client)) as usize % PLACES;
        let Some(share) = self.prefixes.get_mut(place) else { return false };
        share.take(options.sent_per_prefix, now_ms)
            && self.sent.take(options.sent_per_second, now_ms)
    }
}

/// What of a source counts, as a key to hash.
fn prefix(client: IpAddr) -> FlowKey {
    match client {
        IpAddr::V4(client) => {
            let site = Ipv4Addr::from(u32::from(client) >> (32 - PREFIX_V4));
            FlowKey::v4(site, Ipv4Addr::UNSPECIFIED, 0, 0, 0)
        }
        IpAddr::V6(client) => {
            let site = Ipv6Addr::from(u128::from(client) >> (128 - PREFIX_V6));
            FlowKey::v6(site, Ipv6Addr::UNSPECIFIED, 0, 0, 0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPTIONS: IcmpOptions = IcmpOptions {
        delivered_per_second: 50,
        sent_per_second: 100,
        sent_per_prefix: 10,
        port_unreachable: false,
        gue_port: 6080,
    };

    fn sent(limits: &mut IcmpLimits, client: &str, now_ms: u32) -> usize {
        let client = client.parse().unwrap();
        (0..1000).filter(|_| limits.may_send(client, &OPTIONS, now_ms)).count()
    }

    #[test]
    fn a_prefix_has_its_share_and_no_more() {
        let mut limits = IcmpLimits::new([1, 2, 3, 4]);
        assert_eq!(sent(&mut limits, "198.51.100.1", 0), 10);
        assert_eq!(sent(&mut limits, "198.51.100.200", 0), 0, "the same /24");
        assert_eq!(sent(&mut limits, "198.51.101.1", 0), 10);
        assert_eq!(sent(&mut limits, "2001:db8:0:100::1", 0), 10);
        assert_eq!(sent(&mut limits, "2001:db8:0:1ff::2", 0), 0, "the same /56");
        assert_eq!(sent(&mut limits, "2001:db8:0:200::1", 0), 10);
        assert_eq!(sent(&mut limits, "198.51.100.1", 500), 5);
    }

    #[test]
    fn all_prefixes_together_have_the_budget() {
        let mut limits = IcmpLimits::new([1, 2, 3, 4]);
        let total: usize = (0..200).map(|net| sent(&mut limits, &format!("10.0.{net}.1"), 1)).sum();
        assert_eq!(total, 100);
        assert_eq!(sent(&mut limits, "10.1.0.1", 1), 0);
        assert!(sent(&mut limits, "10.2.0.1", 1001) > 0);
    }

    #[test]
    fn a_flood_from_one_prefix_leaves_the_budget_to_the_others() {
        let mut limits = IcmpLimits::new([1, 2, 3, 4]);
        for now_ms in 0..1000 {
            sent(&mut limits, "198.51.100.1", now_ms);
        }
        assert_eq!(sent(&mut limits, "192.0.2.1", 1000), 10);
    }

    #[test]
    fn a_rate_that_is_no_multiple_of_a_thousand_is_kept_under_a_flood() {
        for rate in [1, 7, 400, 700, 999, 1_001, 1_500, 1_999, 10_000] {
            let mut tokens = Tokens::FULL;
            while tokens.take(rate, 0) {}
            let mut taken = 0;
            for now_ms in 1..=10_000 {
                while tokens.take(rate, now_ms) {
                    taken += 1;
                }
            }
            assert_eq!(taken, rate * 10);
        }
    }

    #[test]
    fn a_new_rate_holds_at_once_and_nought_is_never() {
        let mut limits = IcmpLimits::new([1, 2, 3, 4]);
        let never = IcmpOptions { delivered_per_second: 0, ..OPTIONS };
        assert!(!limits.may_deliver(&never, 5));
        assert!((0..1000).filter(|_| limits.may_deliver(&OPTIONS, 2000)).count() == 50);
        assert!(!limits.may_deliver(&OPTIONS, 2000));
    }
}
