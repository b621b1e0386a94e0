//! A flow over IPv6 as it lies in a packet: asked where it is, and not copied.
//!
//! A key of IPv6 is 38 bytes. To put one together for each packet, only to compare it with the one
//! in the flow's entry, costs more than the comparison: what was just written in pieces is waited
//! for when it is read in others.
//!
//! Law: says the same as the [`FlowKey`](crate::FlowKey) that is made of it, in hash and comparison.

use crate::key::Family;

/// Addresses, ports and protocol of a packet over IPv6.
#[derive(Clone, Copy, Debug)]
pub struct V6AsSent<'p> {
    /// Source address.
    pub source: &'p [u8; 16],
    /// Destination address.
    pub destination: &'p [u8; 16],
    /// Source port as it is sent; 0 of protocols without.
    pub source_port: [u8; 2],
    /// Destination port likewise.
    pub destination_port: [u8; 2],
    /// IP protocol number.
    pub protocol: u8,
}

impl V6AsSent<'_> {
    /// Destination port, its first byte the lowest, protocol, family.
    #[inline(always)]
    pub(crate) const fn kind(self) -> u32 {
        (Family::V6 as u32) << 24
            | (self.protocol as u32) << 16
            | u16::from_le_bytes(self.destination_port) as u32
    }

    /// Source (2), destination (2), and the word of ports, protocol and family.
    #[inline(always)]
    pub(crate) const fn words(self) -> [u64; 5] {
        let source = u128::from_le_bytes(*self.source);
        let destination = u128::from_le_bytes(*self.destination);
        [
            source as u64,
            (source >> 64) as u64,
            destination as u64,
            (destination >> 64) as u64,
            u16::from_le_bytes(self.source_port) as u64 | (self.kind() as u64) << 16,
        ]
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use core::net::Ipv6Addr;

    use super::*;
    use crate::{FlowKey, KeyHasher};

    /// A packet's 37 bytes: addresses, ports, protocol.
    pub(crate) fn sent(bytes: &[u8; 37]) -> V6AsSent<'_> {
        V6AsSent {
            source: bytes[..16].try_into().unwrap(),
            destination: bytes[16..32].try_into().unwrap(),
            source_port: bytes[32..34].try_into().unwrap(),
            destination_port: bytes[34..36].try_into().unwrap(),
            protocol: bytes[36],
        }
    }

    fn bytes(source: &str, destination: &str) -> [u8; 37] {
        let octets = |text: &str| text.parse::<Ipv6Addr>().unwrap().octets();
        let mut bytes = [0; 37];
        bytes[..16].copy_from_slice(&octets(source));
        bytes[16..32].copy_from_slice(&octets(destination));
        bytes[32..].copy_from_slice(&[0x9c, 0x40, 0x01, 0xbb, 17]);
        bytes
    }

    #[test]
    fn a_packet_names_the_flow_that_its_key_names() {
        let hasher = KeyHasher::new([0x243f_6a88, 0x1319_8a2e, 0xa409_3822, 0x082e_fa98]);
        let bytes = bytes("2001:db8::7", "2001:db8:1::1");
        let source = "2001:db8::7".parse().unwrap();
        let key = FlowKey::v6(source, "2001:db8:1::1".parse().unwrap(), 40000, 443, 17);
        assert_eq!(FlowKey::from_v6_as_sent(sent(&bytes)), key);
        assert!(key.is_v6_as_sent(sent(&bytes)));
        for bit in 0..37 * 8 {
            let mut other = bytes;
            other[bit / 8] ^= 1 << (bit % 8);
            let other = sent(&other);
            let its = FlowKey::from_v6_as_sent(other);
            assert!(!key.is_v6_as_sent(other) && its.is_v6_as_sent(other) && its != key, "{bit}");
            assert_eq!(hasher.hash_v6(other), hasher.hash(&its), "{bit}");
            assert_ne!(hasher.hash_v6(other), hasher.hash(&key), "{bit}");
        }
    }

    #[test]
    fn a_flow_over_ipv4_is_no_packet_s_over_ipv6() {
        let (source, destination) = ([192, 0, 2, 7].into(), [203, 0, 113, 1].into());
        let key = FlowKey::v4(source, destination, 40000, 443, 17);
        let bytes = bytes("::ffff:192.0.2.7", "::ffff:203.0.113.1");
        assert!(!key.is_v6_as_sent(sent(&bytes)));
        assert_ne!(FlowKey::from_v6_as_sent(sent(&bytes)), key);
    }
}
