//! The name of a flow: its 5-tuple, in one layout for both address families.
//!
//! IPv4 addresses are held IPv4-mapped (`::ffff:a.b.c.d`, RFC 4291 section 2.5.5.2), so one
//! entry layout and one comparison serve both. The family is part of the key: a native IPv6
//! packet that carries mapped addresses is a different flow.
//!
//! Invariant: 38 bytes without padding, so two keys are equal exactly when their bytes are.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::lanes;

/// An IPv4-mapped address (`::ffff:a.b.c.d`), moved to its place as the one word it is: byte by
/// byte it would be put together byte by byte.
const fn mapped(address: Ipv4Addr) -> [u8; 16] {
    let octets = u32::from_le_bytes(address.octets()) as u128;
    (octets << 96 | 0xffff << 80).to_le_bytes()
}

/// Address family of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Family {
    /// IPv4.
    V4 = 4,
    /// IPv6.
    V6 = 6,
}

/// Source and destination address and port, and protocol, of one direction of a flow.
///
/// ```text
///  0               16              32              36  37  38
///  | source        | destination   | ports         | p | f |
/// ```
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct FlowKey {
    source: [u8; 16],
    destination: [u8; 16],
    /// Destination in the upper half, source in the lower; one word, because ports are read
    /// together: two halves just written would be waited for.
    ports: [u8; 4],
    protocol: u8,
    family: u8,
}

const fn both(source_port: u16, destination_port: u16) -> [u8; 4] {
    ((destination_port as u32) << 16 | source_port as u32).to_ne_bytes()
}

const _: () = assert!(size_of::<FlowKey>() == 38);

impl FlowKey {
    /// A flow over IPv4. Ports are in host order; protocols without ports pass 0.
    #[inline]
    pub const fn v4(
        source: Ipv4Addr,
        destination: Ipv4Addr,
        source_port: u16,
        destination_port: u16,
        protocol: u8,
    ) -> FlowKey {
        FlowKey {
            source: mapped(source),
            destination: mapped(destination),
            ports: both(source_port, destination_port),
            protocol,
            family: Family::V4 as u8,
        }
    }

    /// A flow over IPv6. Ports are in host order; protocols without ports pass 0.
    #[inline]
    pub const fn v6(
        source: Ipv6Addr,
        destination: Ipv6Addr,
        source_port: u16,
        destination_port: u16,
        protocol: u8,
    ) -> FlowKey {
        FlowKey {
            source: source.octets(),
            destination: destination.octets(),
            ports: both(source_port, destination_port),
            protocol,
            family: Family::V6 as u8,
        }
    }

    /// The family of both addresses.
    #[inline]
    pub const fn family(&self) -> Family {
        if self.family == Family::V4 as u8 { Family::V4 } else { Family::V6 }
    }

    /// The client's address.
    #[inline]
    pub fn source(&self) -> IpAddr {
        self.address(self.source)
    }

    /// The address the client dialled.
    #[inline]
    pub fn destination(&self) -> IpAddr {
        self.address(self.destination)
    }

    /// The address the client dialled as one number, IPv4 IPv4-mapped: what VIPs are filed by.
    #[inline]
    pub const fn destination_bits(&self) -> u128 {
        u128::from_be_bytes(self.destination)
    }

    /// The same as octets, in the order of the wire.
    #[inline]
    pub const fn destination_octets(&self) -> [u8; 16] {
        self.destination
    }

    /// The same for a flow over IPv4, as its 32-bit address; `None` over IPv6.
    #[inline]
    pub const fn destination_v4_bits(&self) -> Option<u32> {
        let [.., a, b, c, d] = self.destination;
        match self.family() {
            Family::V4 => Some(u32::from_be_bytes([a, b, c, d])),
            Family::V6 => None,
        }
    }

    /// The client's port, host order.
    #[inline]
    pub const fn source_port(&self) -> u16 {
        u32::from_ne_bytes(self.ports) as u16
    }

    /// The port the client dialled, host order.
    #[inline]
    pub const fn destination_port(&self) -> u16 {
        (u32::from_ne_bytes(self.ports) >> 16) as u16
    }

    /// IP protocol number.
    #[inline]
    pub const fn protocol(&self) -> u8 {
        self.protocol
    }

    /// The bytes that a flow hash is computed over, and how many of them count: source,
    /// destination, source port, destination port (network order), protocol. 13 bytes for
    /// IPv4, 37 for IPv6, the same on every architecture.
    #[inline]
    pub fn canonical_bytes(&self) -> ([u8; 37], usize) {
        let mut bytes = [0; 37];
        let length = match self.family() {
            Family::V4 => {
                bytes[0..4].copy_from_slice(&self.source[12..16]);
                bytes[4..8].copy_from_slice(&self.destination[12..16]);
                13
            }
            Family::V6 => {
                bytes[0..16].copy_from_slice(&self.source);
                bytes[16..32].copy_from_slice(&self.destination);
                37
            }
        };
        bytes[length - 5..length - 3].copy_from_slice(&self.source_port().to_be_bytes());
        bytes[length - 3..length - 1].copy_from_slice(&self.destination_port().to_be_bytes());
        bytes[length - 1] = self.protocol;
        (bytes, length)
    }

    /// The two words that hold all of an IPv4 key.
    #[inline]
    pub(crate) fn v4_words(&self) -> [u64; 2] {
        let low = |address: &[u8; 16]| {
            u32::from_ne_bytes([address[12], address[13], address[14], address[15]]) as u64
        };
        [low(&self.source) << 32 | low(&self.destination), self.port_word()]
    }

    /// Source (2), destination (2), and the word of ports and protocol.
    #[inline]
    pub(crate) fn v6_words(&self) -> [u64; 5] {
        let source = u128::from_ne_bytes(self.source);
        let destination = u128::from_ne_bytes(self.destination);
        [
            source as u64,
            (source >> 64) as u64,
            destination as u64,
            (destination >> 64) as u64,
            self.port_word(),
        ]
    }

    #[inline]
    fn port_word(&self) -> u64 {
        let ports = u32::from_ne_bytes(self.ports) as u64;
        (self.family as u64) << 40 | (self.protocol as u64) << 32 | ports
    }

    fn address(&self, octets: [u8; 16]) -> IpAddr {
        match self.family() {
            Family::V4 => Ipv4Addr::from_bits(u128::from_be_bytes(octets) as u32).into(),
            Family::V6 => Ipv6Addr::from(octets).into(),
        }
    }
}

impl PartialEq for FlowKey {
    #[inline(always)]
    fn eq(&self, other: &FlowKey) -> bool {
        lanes::same(zerocopy::transmute_ref!(self), zerocopy::transmute_ref!(other))
    }
}

impl Eq for FlowKey {}

impl core::hash::Hash for FlowKey {
    fn hash<H: core::hash::Hasher>(&self, state: &mut H) {
        state.write(self.as_bytes());
    }
}

impl fmt::Display for FlowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.protocol {
            1 => f.write_str("icmp")?,
            6 => f.write_str("tcp")?,
            17 => f.write_str("udp")?,
            58 => f.write_str("icmpv6")?,
            132 => f.write_str("sctp")?,
            other => write!(f, "proto-{other}")?,
        }
        let source = core::net::SocketAddr::new(self.source(), self.source_port());
        let destination = core::net::SocketAddr::new(self.destination(), self.destination_port());
        write!(f, " {source} -> {destination}")
    }
}

impl fmt::Debug for FlowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4() -> FlowKey {
        FlowKey::v4(Ipv4Addr::new(198, 51, 100, 7), Ipv4Addr::new(203, 0, 113, 1), 40000, 80, 6)
    }

    fn v6() -> FlowKey {
        let source = "2001:db8::7".parse().unwrap();
        FlowKey::v6(source, "2001:db8:1::1".parse().unwrap(), 40000, 443, 17)
    }

    #[test]
    fn keys_read_as_an_operator_writes_them() {
        assert_eq!(v4().to_string(), "tcp 198.51.100.7:40000 -> 203.0.113.1:80");
        assert_eq!(v6().to_string(), "udp [2001:db8::7]:40000 -> [2001:db8:1::1]:443");
        let other = FlowKey::v4(Ipv4Addr::LOCALHOST, Ipv4Addr::LOCALHOST, 0, 0, 47);
        assert_eq!(other.to_string(), "proto-47 127.0.0.1:0 -> 127.0.0.1:0");
    }

    #[test]
    fn canonical_bytes_are_network_order_and_as_long_as_the_family_needs() {
        let (bytes, length) = v4().canonical_bytes();
        assert_eq!(
            bytes[..length],
            [198, 51, 100, 7, 203, 0, 113, 1, 40000u16.to_be_bytes()[0], 64, 0, 80, 6]
        );
        let (bytes, length) = v6().canonical_bytes();
        assert_eq!(length, 37);
        assert_eq!(bytes[..2], [0x20, 0x01]);
        assert_eq!(bytes[32..], [0x9c, 0x40, 0x01, 0xbb, 17]);
    }

    #[test]
    fn every_field_is_part_of_equality() {
        let (a, b) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2));
        let base = FlowKey::v4(a, b, 1, 2, 6);
        assert_eq!(base, FlowKey::v4(a, b, 1, 2, 6));
        for other in [
            FlowKey::v4(b, b, 1, 2, 6),
            FlowKey::v4(a, a, 1, 2, 6),
            FlowKey::v4(a, b, 2, 2, 6),
            FlowKey::v4(a, b, 1, 1, 6),
            FlowKey::v4(a, b, 1, 2, 17),
            FlowKey::v6(a.to_ipv6_mapped(), b.to_ipv6_mapped(), 1, 2, 6),
        ] {
            assert_ne!(base, other);
        }
    }

    #[test]
    fn accessors_give_back_what_was_put_in() {
        let key = v6();
        assert_eq!(key.family(), Family::V6);
        assert_eq!(key.source(), "2001:db8::7".parse::<IpAddr>().unwrap());
        assert_eq!((key.source_port(), key.destination_port(), key.protocol()), (40000, 443, 17));
        assert_eq!(v4().destination(), "203.0.113.1".parse::<IpAddr>().unwrap());
    }
}
