//! The Internet checksum (RFC 1071), in full and by increments (RFC 1624).
//!
//! The checksum is the one's complement of the one's complement sum of 16-bit words. That
//! sum does not care for byte order (RFC 1071, section 2 (B)): the bytes are added as
//! machine words in the order they lie, four at a time into 64 bits, and only the folded
//! result is swapped. 2^32 such words fit before the accumulator could overflow.
//!
//! Zero has two representations. A sum of nonzero data is never 0x0000, so its checksum is
//! never 0xffff, in full and by increments alike: equation 3 of RFC 1624 keeps that, where
//! the older equation of RFC 1141 did not. The two differ only for data that becomes all
//! zeroes, which no IP or transport header can be. UDP's own rule about zero is in `udp.rs`.
//!
//! All values are in host order, as `U16::get` gives them.

use core::net::{Ipv4Addr, Ipv6Addr};

use super::protocol::IpProtocol;

/// The checksum field's value for `bytes`, in which the field itself is zero.
#[inline]
pub fn checksum(bytes: &[u8]) -> u16 {
    Sum::new().add_bytes(bytes).checksum()
}

/// Is the checksum within `bytes` right?
#[inline]
pub fn verify(bytes: &[u8]) -> bool {
    Sum::new().add_bytes(bytes).is_valid()
}

/// The checksum after one 16-bit word of the data changed from `old` to `new`.
///
/// RFC 1624, section 3, equation 3: `HC' = ~(~HC + ~m + m')`.
#[inline]
pub const fn update_u16(checksum: u16, old: u16, new: u16) -> u16 {
    !fold(!checksum as u64 + !old as u64 + new as u64)
}

/// The checksum after two adjacent words, at an even offset, changed from `old` to `new`:
/// an IPv4 address, or a sequence number.
#[inline]
pub const fn update_u32(checksum: u16, old: u32, new: u32) -> u16 {
    // 2^16 is 1 in one's complement: a 32-bit value is the sum of its halves.
    !fold(!checksum as u64 + !old as u64 + new as u64)
}

/// The sum of TCP's and UDP's IPv4 pseudo-header (RFC 9293, section 3.1). `length` counts
/// the transport header and its payload.
#[inline]
pub fn pseudo_header_v4(
    source: Ipv4Addr,
    destination: Ipv4Addr,
    protocol: IpProtocol,
    length: u16,
) -> Sum {
    Sum::new()
        .add_bytes(&source.octets())
        .add_bytes(&destination.octets())
        .add_u16(u16::from(protocol.0))
        .add_u16(length)
}

/// The sum of the IPv6 pseudo-header (RFC 8200, section 8.1). `protocol` is the transport's,
/// whatever extension headers are in between; `length` counts its header and payload.
#[inline]
pub fn pseudo_header_v6(
    source: Ipv6Addr,
    destination: Ipv6Addr,
    protocol: IpProtocol,
    length: u32,
) -> Sum {
    Sum::new()
        .add_bytes(&source.octets())
        .add_bytes(&destination.octets())
        .add_u16((length >> 16) as u16)
        .add_u16(length as u16)
        .add_u16(u16::from(protocol.0))
}

/// A one's complement sum under way, for data that lies in several places.
#[derive(Clone, Copy, Debug, Default)]
#[must_use]
pub struct Sum(
    /// Words in memory order, not yet folded.
    u64,
);

impl Sum {
    /// Nothing added yet.
    #[inline]
    pub const fn new() -> Self {
        Self(0)
    }

    /// Adds `bytes`. If their number is odd, a zero byte is added behind them; so only the
    /// last slice may be odd.
    #[inline]
    pub fn add_bytes(self, bytes: &[u8]) -> Self {
        let (words, rest) = bytes.as_chunks::<4>();
        let mut sum = 0;
        for word in words {
            sum += u64::from(u32::from_ne_bytes(*word));
        }
        let mut last = [0; 4];
        for (to, from) in last.iter_mut().zip(rest) {
            *to = *from;
        }
        sum += u64::from(u32::from_ne_bytes(last));
        self.add_folded(sum)
    }

    /// Adds one word.
    #[inline]
    pub fn add_u16(self, word: u16) -> Self {
        self.add_folded(u64::from(word.to_be()))
    }

    /// The checksum field's value, in host order.
    #[inline]
    pub const fn checksum(self) -> u16 {
        !u16::from_be(fold(self.0))
    }

    /// Was the data, its checksum included, received as sent?
    #[inline]
    pub const fn is_valid(self) -> bool {
        fold(self.0) == 0xffff
    }

    /// Folds on the way, so that any number of slices can be added.
    #[inline]
    const fn add_folded(self, sum: u64) -> Self {
        Self(self.0 + fold(sum) as u64)
    }
}

/// Adds the carries back in until 16 bits are left. Zero comes out only of zero.
#[inline]
const fn fold(sum: u64) -> u16 {
    let sum = (sum >> 32) + (sum & 0xffff_ffff); // at most 33 bits
    let sum = (sum >> 16) + (sum & 0xffff); // 18
    let sum = (sum >> 16) + (sum & 0xffff); // 17
    ((sum >> 16) + (sum & 0xffff)) as u16
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::tests::proptest_config;

    /// RFC 1071, section 4.1, word by word.
    fn oracle(bytes: &[u8]) -> u16 {
        let mut sum = 0u32;
        for pair in bytes.chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }

    #[test]
    fn the_example_of_rfc_1071() {
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(checksum(&bytes), !0xddf2);
    }

    #[test]
    fn a_real_ipv4_header() {
        let mut header = [
            0x45, 0x00, 0x00, 0x73, 0x00, 0x00, 0x40, 0x00, 0x40, 0x11, 0, 0, 0xc0, 0xa8, 0x00,
            0x01, 0xc0, 0xa8, 0x00, 0xc7,
        ];
        assert_eq!(checksum(&header), 0xb861);
        header[10..12].copy_from_slice(&[0xb8, 0x61]);
        assert!(verify(&header));
        header[19] ^= 0x10;
        assert!(!verify(&header));
    }

    #[test]
    fn the_example_of_rfc_1624() {
        // Section 4: a field goes from 0x5555 to 0x3285 and the checksum becomes 0x0000,
        // where the equation of RFC 1141 gave 0xffff.
        assert_eq!(update_u16(0xdd2f, 0x5555, 0x3285), 0x0000);
    }

    #[test]
    fn the_two_zeroes() {
        assert_eq!(checksum(&[]), 0xffff);
        assert_eq!(checksum(&[0; 20]), 0xffff);
        assert_eq!(checksum(&[0xff, 0xff]), 0x0000);
        assert_eq!(checksum(&[0xff; 20]), 0x0000);
        assert!(!verify(&[0; 20]), "all zeroes is no data with a checksum");
        assert!(verify(&[0x12, 0x34, 0xed, 0xcb]));
        // No change changes nothing, whichever way the word looks.
        for word in [0x0000, 0x0001, 0x8000, 0xffff] {
            assert_eq!(update_u16(0x0000, word, word), 0x0000);
            assert_eq!(update_u16(0x1234, word, word), 0x1234);
        }
        // 0x0000 and 0xffff are the same number: swapping them leaves the checksum.
        assert_eq!(update_u16(0x1234, 0x0000, 0xffff), 0x1234);
        assert_eq!(update_u16(0x1234, 0xffff, 0x0000), 0x1234);
    }

    #[test]
    fn a_long_run_of_ones_does_not_overflow() {
        let bytes = vec![0xff; if cfg!(miri) { 2_000 } else { 1 << 20 }];
        assert_eq!(checksum(&bytes), 0x0000);
    }

    #[test]
    fn a_udp_datagram_over_ipv4_and_ipv6() {
        // 192.0.2.1:1 -> 192.0.2.2:2, "ab"; worked by hand:
        // c000 + 0201 + c000 + 0202 + 0011 + 000a + 0001 + 0002 + 000a + 6162 = 1e58d -> e58e
        let datagram = [0x00, 0x01, 0x00, 0x02, 0x00, 0x0a, 0x00, 0x00, 0x61, 0x62];
        let sum = pseudo_header_v4(
            Ipv4Addr::new(192, 0, 2, 1),
            Ipv4Addr::new(192, 0, 2, 2),
            IpProtocol::UDP,
            10,
        );
        assert_eq!(sum.add_bytes(&datagram).checksum(), !0xe58e);
        // 2001:db8::1 -> 2001:db8::2:
        // 2 * (2001 + 0db8) + 1 + 2 + 0011 + 000a + (1 + 2 + a + 6162) = bcff
        let sum = pseudo_header_v6(
            "2001:db8::1".parse().unwrap(),
            "2001:db8::2".parse().unwrap(),
            IpProtocol::UDP,
            10,
        );
        assert_eq!(sum.add_bytes(&datagram).checksum(), !0xbcff);
    }

    proptest! {
        #![proptest_config(proptest_config())]

        #[test]
        fn the_fast_sum_is_the_plain_one(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(checksum(&bytes), oracle(&bytes));
        }

        #[test]
        fn slices_may_be_added_one_after_the_other(
            bytes in proptest::collection::vec(any::<u8>(), 0..100),
            cut in 0usize..50,
        ) {
            let (head, tail) = bytes.split_at((cut * 2).min(bytes.len()));
            let parts = Sum::new().add_bytes(head).add_bytes(tail);
            prop_assume!(head.len() % 2 == 0);
            prop_assert_eq!(parts.checksum(), checksum(&bytes));
        }

        #[test]
        fn a_filled_in_checksum_verifies(mut bytes in proptest::collection::vec(any::<u8>(), 4..100)) {
            bytes[2..4].fill(0);
            prop_assume!(bytes.iter().any(|&byte| byte != 0));
            let value = checksum(&bytes);
            bytes[2..4].copy_from_slice(&value.to_be_bytes());
            prop_assert!(verify(&bytes));
        }

        #[test]
        fn increments_equal_the_full_sum(
            mut bytes in proptest::collection::vec(prop_oneof![Just(0u8), Just(0xffu8), any::<u8>()], 12..13),
            new_word in prop_oneof![Just(0u16), Just(0xffff), any::<u16>()],
            new_double in prop_oneof![Just(0u32), Just(u32::MAX), Just(0xffff_0000), any::<u32>()],
        ) {
            bytes[0] = 0x45; // some word is never zero, as in every header
            let full = checksum(&bytes);
            let old_word = u16::from_be_bytes([bytes[2], bytes[3]]);
            bytes[2..4].copy_from_slice(&new_word.to_be_bytes());
            let after_word = update_u16(full, old_word, new_word);
            prop_assert_eq!(after_word, checksum(&bytes));

            let old_double = u32::from_be_bytes([bytes[6], bytes[7], bytes[8], bytes[9]]);
            bytes[6..10].copy_from_slice(&new_double.to_be_bytes());
            prop_assert_eq!(update_u32(after_word, old_double, new_double), checksum(&bytes));
        }
    }

    #[test]
    fn every_checksum_survives_every_kind_of_word_change() {
        // All 65,536 states of the rest of the data, and the words where carries happen.
        let words: [u16; 6] = [0x0000, 0x0001, 0x7fff, 0x8000, 0xfffe, 0xffff];
        let step = if cfg!(miri) { 4099 } else { 1 };
        for rest in (1..=u16::MAX).step_by(step) {
            for old in words {
                for new in words {
                    let before = [rest.to_be_bytes(), old.to_be_bytes()].concat();
                    let after = [rest.to_be_bytes(), new.to_be_bytes()].concat();
                    assert_eq!(update_u16(oracle(&before), old, new), oracle(&after));
                }
            }
        }
    }
}
