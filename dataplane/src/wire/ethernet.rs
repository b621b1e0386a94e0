//! Ethernet II header (IEEE 802.3, RFC 894), addresses and EtherTypes.
//!
//! ```text
//!  0                   6                   12          14
//! +-------------------+-------------------+-----------+----------
//! |    destination    |      source       | ethertype | payload ...
//! +-------------------+-------------------+-----------+----------
//! ```
//!
//! IEEE 802.3 length/LLC frames (a value below 0x0600 in the EtherType's place) carry
//! nothing that the node understands; they match no constant here.

use core::fmt;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The 14 bytes at the start of every frame.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct EthernetHeader {
    /// Who the frame is for.
    pub destination: MacAddress,
    /// Who sent the frame.
    pub source: MacAddress,
    /// What follows.
    pub ethertype: EtherType,
}

impl EthernetHeader {
    /// Bytes of the header, without tags.
    pub const LENGTH: usize = size_of::<Self>();

    /// A view of the header and the bytes after it; `None` if fewer than [`Self::LENGTH`] are there.
    #[inline]
    pub fn parse(bytes: &[u8]) -> Option<(&Self, &[u8])> {
        Self::ref_from_prefix(bytes).ok()
    }

    /// As [`Self::parse`], to write through.
    #[inline]
    pub fn parse_mut(bytes: &mut [u8]) -> Option<(&mut Self, &mut [u8])> {
        Self::mut_from_prefix(bytes).ok()
    }
}

/// A 48-bit IEEE 802 address, in the order of transmission.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    FromBytes,
    IntoBytes,
    KnownLayout,
    Immutable,
    Unaligned,
)]
#[repr(transparent)]
pub struct MacAddress(pub [u8; 6]);

impl MacAddress {
    /// ff:ff:ff:ff:ff:ff
    pub const BROADCAST: Self = Self([0xff; 6]);
    /// 00:00:00:00:00:00, "not known"; never the address of a station.
    pub const ZERO: Self = Self([0; 6]);

    /// Is the group bit set? True of the broadcast address too.
    #[inline]
    pub const fn is_multicast(self) -> bool {
        self.0[0] & 0x01 != 0
    }

    /// Is it ff:ff:ff:ff:ff:ff?
    #[inline]
    pub fn is_broadcast(self) -> bool {
        self == Self::BROADCAST
    }

    /// Can it be the address of one station: not a group, not all zeroes?
    #[inline]
    pub fn is_station(self) -> bool {
        !self.is_multicast() && self != Self::ZERO
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, f] = self.0;
        write!(formatter, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
    }
}

/// What an Ethernet header or a VLAN tag says comes next. Kept in network order so that it
/// can be a field of a header; the constants can be matched on.
#[derive(
    Clone, Copy, PartialEq, Eq, Hash, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(transparent)]
pub struct EtherType([u8; 2]);

impl EtherType {
    /// IPv4
    pub const IPV4: Self = Self::new(0x0800);
    /// Address Resolution Protocol
    pub const ARP: Self = Self::new(0x0806);
    /// IEEE 802.1Q customer tag
    pub const VLAN: Self = Self::new(0x8100);
    /// IPv6
    pub const IPV6: Self = Self::new(0x86dd);
    /// IEEE 802.1ad service tag, the outer one of QinQ
    pub const QINQ: Self = Self::new(0x88a8);

    /// From the number as the registry prints it.
    #[inline]
    pub const fn new(number: u16) -> Self {
        Self(number.to_be_bytes())
    }

    /// The number as the registry prints it.
    #[inline]
    pub const fn number(self) -> u16 {
        u16::from_be_bytes(self.0)
    }

    /// Does a VLAN tag follow?
    #[inline]
    pub const fn is_vlan(self) -> bool {
        matches!(self, Self::VLAN | Self::QINQ)
    }
}

impl fmt::Debug for EtherType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "EtherType({:#06x})", self.number())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_where_the_standard_puts_them() {
        let frame = [0x02, 0, 0, 0, 0, 1, 0x02, 0, 0, 0, 0, 2, 0x08, 0x00, 0xaa, 0xbb];
        let (header, rest) = EthernetHeader::parse(&frame).unwrap();
        assert_eq!(header.destination, MacAddress([2, 0, 0, 0, 0, 1]));
        assert_eq!(header.source, MacAddress([2, 0, 0, 0, 0, 2]));
        assert_eq!(header.ethertype, EtherType::IPV4);
        assert_eq!(rest, [0xaa, 0xbb]);
        assert_eq!(header.as_bytes(), &frame[..14]);
    }

    #[test]
    fn writing_through_the_view_changes_the_frame() {
        let mut frame = [0u8; 14];
        let (header, _) = EthernetHeader::parse_mut(&mut frame).unwrap();
        header.destination = MacAddress::BROADCAST;
        header.ethertype = EtherType::ARP;
        assert_eq!(frame, [255, 255, 255, 255, 255, 255, 0, 0, 0, 0, 0, 0, 8, 6]);
    }

    #[test]
    fn groups_and_stations_are_told_apart() {
        let unicast = MacAddress([0x02, 0, 0, 0, 0, 1]);
        let multicast = MacAddress([0x01, 0, 0x5e, 0, 0, 1]);
        assert!(!unicast.is_multicast() && !unicast.is_broadcast() && unicast.is_station());
        assert!(multicast.is_multicast() && !multicast.is_broadcast() && !multicast.is_station());
        assert!(MacAddress::BROADCAST.is_multicast() && MacAddress::BROADCAST.is_broadcast());
        assert!(!MacAddress::ZERO.is_station());
        assert_eq!(multicast.to_string(), "01:00:5e:00:00:01");
    }

    #[test]
    fn ethertypes_can_be_matched_on() {
        let name = match EtherType::new(0x88a8) {
            EtherType::VLAN => "vlan",
            EtherType::QINQ => "qinq",
            _ => "other",
        };
        assert_eq!(name, "qinq");
        assert!(
            EtherType::VLAN.is_vlan() && EtherType::QINQ.is_vlan() && !EtherType::IPV4.is_vlan()
        );
        assert_eq!(format!("{:?}", EtherType::IPV6), "EtherType(0x86dd)");
    }
}
