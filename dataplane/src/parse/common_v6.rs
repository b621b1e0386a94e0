//! The short way of IPv6: what nearly all of its packets are, found to be so in one go.
//!
//! Untagged, no extension header, TCP, nothing wrong. As [`common`](super::common) does for IPv4:
//! fields that have one right value are compared eight bytes at a time, and all answers meet in
//! one branch. Everything else takes [`parse_any`], and where this way says anything, that one says
//! the same: see the tests.
//!
//! Addresses are asked less than they are there: one whose first half is zero is not common, so
//! that the unspecified, the loopback and the IPv4-mapped ones ([`martian`]) need no question each.
//!
//! [`martian`]: crate::wire::martian
//! [`parse_any`]: super::parse_any

use conntrack::FlowKey;
use zerocopy::byteorder::little_endian as little;
use zerocopy::byteorder::network_endian::{U16, U64};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use super::common::{SEGMENT, STATION_MASK};
use super::{Kind, Parsed, Station};
use crate::buffer::Buffer;
use crate::wire::{EthernetHeader, IpProtocol, Ipv6Header, TcpHeader};

/// Bytes in which the common packet has all its headers: Ethernet, IPv6, TCP.
const COMMON: usize = EthernetHeader::LENGTH + Ipv6Header::LENGTH + TcpHeader::LENGTH;

/// Bytes 8 to 15 of the frame: EtherType, and version.
const TYPE_MASK: u64 = u64::from_le_bytes([0, 0, 0, 0, 0xff, 0xff, 0xf0, 0]);
const TYPE: u64 = u64::from_le_bytes([0, 0, 0, 0, 0x86, 0xdd, 0x60, 0]);

/// First halves of addresses that nobody has to ask about: not 0, and no group's (ff00::/8).
const FIRST_GROUP: u64 = 0xff00_0000_0000_0000;

/// Parses the common packet; `None` for everything else, whatever it is.
#[inline(always)]
pub(crate) fn parse_common_v6<B: Buffer>(buffer: &B, station: &Station) -> Option<Parsed> {
    let data = buffer.data();
    let frame: &[u8; COMMON] = data.first_chunk()?;
    let front = Front::ref_from_bytes(frame).ok()?;
    let payload_length = u32::from(front.payload_length.get());
    let tcp_length = u32::from(front.data_offset >> 2) & 0x3c;
    // A frame of more than 16 bits' length, which no device has, is asked for what is left of it:
    // that is shorter, and what is found to fit has a length that fits 16 bits, too.
    let frame_length = u32::from(data.len() as u16);
    let wrong = ((front.station.get() & STATION_MASK) ^ station.bits())
        | ((front.kind.get() & TYPE_MASK) ^ TYPE)
        | u64::from(front.next_header ^ IpProtocol::TCP.0);
    let half = |address: &[u8; 16]| {
        U64::read_from_prefix(address).map_or(0, |(half, _)| half.get().wrapping_sub(1))
    };
    let common = (wrong == 0)
        & (tcp_length >= TcpHeader::LENGTH as u32)
        & (payload_length >= tcp_length)
        & (payload_length + (EthernetHeader::LENGTH + Ipv6Header::LENGTH) as u32 <= frame_length)
        & (half(&front.source) < FIRST_GROUP - 1)
        & (half(&front.destination) < FIRST_GROUP - 1)
        & (u128::from_ne_bytes(front.source) != u128::from_ne_bytes(front.destination))
        & !buffer.is_segmented();
    if !common {
        return None;
    }
    Some(Parsed {
        kind: Kind::Flow,
        segment: SEGMENT[usize::from(front.flags)],
        link_length: EthernetHeader::LENGTH as u8,
        header_length: Ipv6Header::LENGTH as u16,
        ip_length: payload_length as u16 + Ipv6Header::LENGTH as u16,
        key: FlowKey::v6_as_sent(front.source, front.destination, front.ports, IpProtocol::TCP.0),
    })
}

/// The front of a frame, in the pieces that it is looked at in. Little endian are those that are
/// compared as they lie, whatever the order of their bytes.
#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Front {
    /// Bytes 0 to 7: destination, and the beginning of the source.
    station: little::U64,
    /// Bytes 8 to 15: up to the EtherType, and the first two of the IPv6 header.
    kind: little::U64,
    flow_label: U16,
    payload_length: U16,
    next_header: u8,
    hop_limit: u8,
    source: [u8; 16],
    destination: [u8; 16],
    ports: [u8; 4],
    sequence: [u8; 8],
    data_offset: u8,
    flags: u8,
    rest: [u8; 6],
}

const _: () = assert!(size_of::<Front>() == COMMON);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::buffer::Frame;
    use crate::parse::parse_any;
    use crate::tables::PortTable;
    use crate::wire::{LinkTags, MacAddress};

    const MAC: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);
    /// Where the addresses lie.
    const SOURCE: usize = 22;
    const DESTINATION: usize = 38;

    /// A sound TCP frame of 74 bytes, and `padding`.
    fn sound(padding: usize) -> Vec<u8> {
        let mut frame = [&MAC.0[..], &[2, 0, 0, 0, 0, 9, 0x86, 0xdd]].concat();
        let address = |text: &str| text.parse().unwrap();
        let (source, destination) = (address("2001:db8::7"), address("2001:db8:cafe::1"));
        let header = Ipv6Header::build(source, destination, IpProtocol::TCP, 20);
        frame.extend_from_slice(zerocopy::IntoBytes::as_bytes(&header));
        frame.extend([0x9c, 0x40, 0, 80, 0, 0, 0, 1, 0, 0, 0, 2, 0x50, 0x10, 1, 0, 0, 0, 0, 0]);
        frame.resize(frame.len() + padding, 0xee);
        frame
    }

    fn port(vlan: Option<LinkTags>) -> PortTable {
        PortTable { mac: MAC, any_mac: false, vlan, mtu: 1500, addresses: Vec::new() }
    }

    /// Whether the short way is taken, which must then lead where the long one does.
    fn is_common(frame: &Frame, port: &PortTable) -> bool {
        let common = parse_common_v6(frame, &Station::of(port));
        if let Some(common) = common {
            assert_eq!(format!("{common:?}"), format!("{:?}", parse_any(frame, port)));
        }
        common.is_some()
    }

    #[test]
    fn the_common_packet_is_taken_the_short_way() {
        for padding in [0, 1, 100] {
            assert!(is_common(&Frame::new(&sound(padding)), &port(None)));
        }
        assert!(!is_common(&Frame::new(&sound(0)), &port(Some(LinkTags::single(7)))));
        assert!(!is_common(&Frame::segmented(&sound(0)), &port(None)));
        assert!(!is_common(&Frame::new(&sound(0)[..73]), &port(None)));
    }

    #[test]
    fn addresses_that_nobody_has_are_not_common() {
        let sources = [
            ("2001:db8::1", true),
            ("64:ff9b::192.0.2.1", true),
            ("fe80::1", true),
            ("feff::1", true),
            ("::", false),
            ("::1", false),
            ("::ffff:192.0.2.1", false),
            ("::192.0.2.1", false),
            ("ff00::", false),
            ("ff02::1", false),
            ("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", false),
            // The destination's own.
            ("2001:db8:cafe::1", false),
        ];
        for (text, common) in sources {
            let address: std::net::Ipv6Addr = text.parse().unwrap();
            for at in [SOURCE, DESTINATION] {
                let mut bytes = sound(0);
                bytes[at..at + 16].copy_from_slice(&address.octets());
                if text == "2001:db8:cafe::1" {
                    bytes[SOURCE..DESTINATION].copy_from_slice(&address.octets());
                }
                assert_eq!(is_common(&Frame::new(&bytes), &port(None)), common, "{text} at {at}");
            }
        }
    }

    #[test]
    fn a_length_is_common_as_long_as_a_frame_can_hold_it() {
        let mut bytes = sound(0);
        for frame_length in [65_535, 65_550, 65_610, 80_000] {
            bytes.resize(frame_length, 0);
            for length in [19, 20, 1_000, 65_481, 65_482, 65_495, 65_496, u16::MAX] {
                bytes[18..20].copy_from_slice(&length.to_be_bytes());
                let common = (20..=65_481).contains(&length);
                let taken = is_common(&Frame::new(&bytes), &port(None));
                assert!(!taken || common, "{length} of {frame_length}");
                assert!(taken == common || frame_length > 65_535, "{length} of {frame_length}");
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: if cfg!(miri) { 50 } else { 20_000 },
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        /// Changed in up to three bytes, with padding or cut short.
        #[test]
        fn the_short_way_says_what_the_long_way_says(
            changes in prop::collection::vec((0usize..74, any::<u8>()), 0..4),
            padding in 0usize..12,
            keep in prop::option::weighted(0.2, 60usize..86),
        ) {
            let mut bytes = sound(padding);
            for (at, value) in changes {
                bytes[at] = value;
            }
            bytes.truncate(keep.unwrap_or(bytes.len()));
            is_common(&Frame::new(&bytes), &port(None));
        }
    }
}
