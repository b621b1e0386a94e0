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
use crate::sent_v6::V6AsSent;

/// An IPv4-mapped address (`::ffff:a.b.c.d`), moved to its place as the one word it is: byte by
/// byte it would be put together byte by byte.
const fn mapped(address: Ipv4Addr) -> [u8; 16] {
    mapped_word(u32::from_le_bytes(address.octets()))
}

/// As [`mapped`]; the octets of the address are the bytes of `word`, the lowest first.
const fn mapped_word(word: u32) -> [u8; 16] {
    ((word as u128) << 96 | 0xffff << 80).to_le_bytes()
}

/// All there is to say of a flow over IPv4, in words that are cheap to make of a packet. Little end
/// first, whatever the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct V4Words {
    /// Source address (4 bytes as they are sent), source port (2, likewise), 0.
    pub client: u64,
    /// Destination address and port likewise, protocol, family: [`Service::word`].
    pub service: u64,
}

impl V4Words {
    /// Those of a packet: source and destination address, source and destination port, each as
    /// they are sent.
    #[inline(always)]
    pub const fn as_sent(
        source: [u8; 4],
        destination: [u8; 4],
        (source_port, destination_port): ([u8; 2], [u8; 2]),
        protocol: u8,
    ) -> V4Words {
        let kind = (Family::V4 as u32) << 24
            | (protocol as u32) << 16
            | u16::from_le_bytes(destination_port) as u32;
        V4Words {
            client: u32::from_le_bytes(source) as u64
                | (u16::from_le_bytes(source_port) as u64) << 32,
            service: u32::from_le_bytes(destination) as u64 | (kind as u64) << 32,
        }
    }
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

/// What a client dialled: address, port and protocol, in 20 bytes without padding.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Service {
    address: [u8; 16],
    /// Port (network order), protocol, family, from the lowest byte up: one word, because they are
    /// read as one, and what was just written in pieces would be waited for.
    kind: [u8; 4],
}

impl Service {
    /// What no packet is for.
    pub const NONE: Service = Service { address: [0; 16], kind: [0; 4] };

    /// The IPv4 service at `address`; `port` in host order.
    #[inline]
    pub const fn v4(address: Ipv4Addr, port: u16, protocol: u8) -> Service {
        let [high, low] = port.to_be_bytes();
        Service { address: mapped(address), kind: [high, low, protocol, Family::V4 as u8] }
    }

    /// The IPv6 service at `address`; `port` in host order.
    #[inline]
    pub const fn v6(address: Ipv6Addr, port: u16, protocol: u8) -> Service {
        let [high, low] = port.to_be_bytes();
        Service { address: address.octets(), kind: [high, low, protocol, Family::V6 as u8] }
    }

    /// All there is to say of a service over IPv4; over IPv6 the last 32 bits of its address stand
    /// for all. Never the same for one of each.
    #[inline(always)]
    pub const fn word(&self) -> u64 {
        let [.., a, b, c, d] = self.address;
        let [e, f, g, h] = self.kind;
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    }

    #[inline(always)]
    const fn kind(&self) -> u32 {
        u32::from_le_bytes(self.kind)
    }

    #[inline(always)]
    const fn address(&self) -> u128 {
        u128::from_le_bytes(self.address)
    }
}

impl PartialEq for Service {
    #[inline(always)]
    fn eq(&self, other: &Service) -> bool {
        (self.kind() == other.kind()) & (self.address() == other.address())
    }
}

impl Eq for Service {}

/// Source and destination address and port, and protocol, of one direction of a flow.
///
/// ```text
///  0               16            18              34           36  37  38
///  | source        | source port | destination   | its port   | p | f |
///              | client, IPv4    |           | service, IPv4        |
/// ```
///
/// So that over IPv4, where all other bytes are the same in all keys, two words say everything.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct FlowKey {
    source: [u8; 16],
    /// Network order.
    source_port: [u8; 2],
    service: Service,
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
            service: Service::v4(destination, destination_port, protocol),
            source_port: source_port.to_be_bytes(),
        }
    }

    /// The flow over IPv4 that has these [`FlowKey::v4_words`].
    #[inline]
    pub const fn from_v4_words(words: V4Words) -> FlowKey {
        let V4Words { client, service } = words;
        let kind = (service >> 32) as u32;
        FlowKey {
            source: mapped_word(client as u32),
            source_port: ((client >> 32) as u16).to_le_bytes(),
            service: Service { address: mapped_word(service as u32), kind: kind.to_le_bytes() },
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
            service: Service::v6(destination, destination_port, protocol),
            source_port: source_port.to_be_bytes(),
        }
    }

    /// The flow over IPv6 of a packet.
    #[inline(always)]
    pub const fn from_v6_as_sent(sent: V6AsSent<'_>) -> FlowKey {
        let kind = sent.kind();
        FlowKey {
            source: *sent.source,
            service: Service { address: *sent.destination, kind: kind.to_le_bytes() },
            source_port: sent.source_port,
        }
    }

    /// Whether this is the flow of a packet over IPv6.
    #[inline(always)]
    pub const fn is_v6_as_sent(&self, sent: V6AsSent<'_>) -> bool {
        let (source, destination) = (self.source, self.service.address);
        let port = u16::from_le_bytes(self.source_port);
        (u128::from_le_bytes(source) == u128::from_le_bytes(*sent.source))
            & (u128::from_le_bytes(destination) == u128::from_le_bytes(*sent.destination))
            & (self.service.kind() == sent.kind())
            & (port == u16::from_le_bytes(sent.source_port))
    }

    /// What the client dialled.
    #[inline(always)]
    pub const fn service(&self) -> &Service {
        &self.service
    }

    /// The family of both addresses.
    #[inline]
    pub const fn family(&self) -> Family {
        let [.., family] = self.service.kind;
        if family == Family::V4 as u8 { Family::V4 } else { Family::V6 }
    }

    /// The client's address.
    #[inline]
    pub fn source(&self) -> IpAddr {
        self.address(self.source)
    }

    /// The address the client dialled.
    #[inline]
    pub fn destination(&self) -> IpAddr {
        self.address(self.service.address)
    }

    /// The address the client dialled as one number, IPv4 IPv4-mapped: what VIPs are filed by.
    #[inline]
    pub const fn destination_bits(&self) -> u128 {
        u128::from_be_bytes(self.service.address)
    }

    /// The same as octets, in the order of the wire.
    #[inline]
    pub const fn destination_octets(&self) -> [u8; 16] {
        self.service.address
    }

    /// The same for a flow over IPv4, as its 32-bit address; `None` over IPv6.
    #[inline]
    pub const fn destination_v4_bits(&self) -> Option<u32> {
        let [.., a, b, c, d] = self.service.address;
        match self.family() {
            Family::V4 => Some(u32::from_be_bytes([a, b, c, d])),
            Family::V6 => None,
        }
    }

    /// The client's port, host order.
    #[inline]
    pub const fn source_port(&self) -> u16 {
        u16::from_be_bytes(self.source_port)
    }

    /// The port the client dialled, host order.
    #[inline]
    pub const fn destination_port(&self) -> u16 {
        (self.service.kind() as u16).swap_bytes()
    }

    /// IP protocol number.
    #[inline]
    pub const fn protocol(&self) -> u8 {
        let [_, _, protocol, _] = self.service.kind;
        protocol
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
                bytes[4..8].copy_from_slice(&self.service.address[12..16]);
                13
            }
            Family::V6 => {
                bytes[0..16].copy_from_slice(&self.source);
                bytes[16..32].copy_from_slice(&self.service.address);
                37
            }
        };
        bytes[length - 5..length - 3].copy_from_slice(&self.source_port().to_be_bytes());
        bytes[length - 3..length - 1].copy_from_slice(&self.destination_port().to_be_bytes());
        bytes[length - 1] = self.protocol();
        (bytes, length)
    }

    /// [`FlowKey::canonical_bytes`] of a flow over IPv4; `None` over IPv6.
    #[inline]
    pub fn canonical_v4(&self) -> Option<[u8; 13]> {
        // In words, not byte by byte: a whole that was just written in pieces is waited for.
        let V4Words { client, service } = self.v4_words();
        let addresses = client & 0xffff_ffff | service << 32;
        // The family, which the service has last, is cut off.
        let ports = client >> 32 | service >> 32 << 16;
        let bytes = (addresses as u128 | (ports as u128) << 64).to_le_bytes();
        bytes.first_chunk().copied().filter(|_| self.family() == Family::V4)
    }

    /// [`FlowKey::canonical_bytes`] of a flow over IPv6; `None` over IPv4.
    #[inline]
    pub fn canonical_v6(&self) -> Option<[u8; 37]> {
        let (bytes, length) = self.canonical_bytes();
        (length == 37).then_some(bytes)
    }

    /// The words that hold all of an IPv4 key. Of an IPv6 key they are a part, and never those of an
    /// IPv4 key.
    #[inline(always)]
    pub fn v4_words(&self) -> V4Words {
        let bytes: &[u8; 38] = zerocopy::transmute_ref!(self);
        let word = |at: usize| {
            let word = bytes.get(at..).and_then(|bytes| bytes.first_chunk());
            u64::from_le_bytes(word.copied().unwrap_or_default())
        };
        V4Words { client: word(12), service: word(30) }
    }

    /// Source (2), destination (2), and the word of ports and protocol.
    #[inline(always)]
    pub(crate) fn v6_words(&self) -> [u64; 5] {
        let source = u128::from_le_bytes(self.source);
        let destination = self.service.address();
        [
            source as u64,
            (source >> 64) as u64,
            destination as u64,
            (destination >> 64) as u64,
            self.port_word(),
        ]
    }

    #[inline(always)]
    fn port_word(&self) -> u64 {
        (self.service.kind() as u64) << 16 | u16::from_le_bytes(self.source_port) as u64
    }

    fn address(&self, octets: [u8; 16]) -> IpAddr {
        match self.family() {
            Family::V4 => Ipv4Addr::from_bits(u128::from_be_bytes(octets) as u32).into(),
            Family::V6 => Ipv6Addr::from(octets).into(),
        }
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = u128::from_be_bytes(self.address);
        let [high, low, protocol, _] = self.kind;
        let port = u16::from_be_bytes([high, low]);
        write!(f, "{protocol} {}:{port}", core::net::Ipv6Addr::from_bits(address).to_canonical())
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
        match self.protocol() {
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
        assert_eq!((v6().canonical_v6(), v6().canonical_v4()), (Some(bytes), None));
        let (bytes, length) = v4().canonical_bytes();
        assert_eq!(v4().canonical_v4().as_ref().map(|bytes| &bytes[..]), Some(&bytes[..length]));
        assert_eq!(v4().canonical_v6(), None);
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
    fn a_key_of_what_lies_in_a_packet_is_the_same_key() {
        let v4 = FlowKey::v4([198, 51, 100, 7].into(), [203, 0, 113, 1].into(), 40000, 443, 17);
        let (source, destination) = ([198, 51, 100, 7], [203, 0, 113, 1]);
        let words = V4Words::as_sent(source, destination, ([0x9c, 0x40], [0x01, 0xbb]), 17);
        assert_eq!(FlowKey::from_v4_words(words), v4);
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
