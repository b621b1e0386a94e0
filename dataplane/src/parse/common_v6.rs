//! The short way of IPv6: what nearly all of its packets are, found to be so in one go.
//!
//! Untagged, no extension header, TCP, a hop left, nothing wrong: what [`common`](super::common) asks
//! of IPv4, in branches that are never mispredicted. Everything else takes [`parse_any`], and where
//! this way says anything, that one says the same: see the tests.
//!
//! What it finds is written down in a few bytes ([`Common`]): addresses and ports stay where they are,
//! and are read there again ([`sent_v6`]) when they are compared with those of a flow.
//!
//! Addresses are asked less than they are there: one whose first half is zero is not common, so
//! that the unspecified, the loopback and the IPv4-mapped ones ([`martian`]) need no question each.
//!
//! [`martian`]: crate::wire::martian
//! [`parse_any`]: super::parse_any

use conntrack::{FlowKey, Segment, V6AsSent};
use zerocopy::byteorder::little_endian as little;
use zerocopy::byteorder::network_endian::U16;
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use super::common::{Common, SEGMENT, STATION_MASK};
use super::{Kind, Parsed, Station};
use crate::buffer::Buffer;
use crate::wire::{EthernetHeader, IpProtocol, Ipv6Header, TcpHeader};

/// Bytes in which the common packet has all its headers: Ethernet, IPv6, TCP.
const COMMON: usize = EthernetHeader::LENGTH + Ipv6Header::LENGTH + TcpHeader::LENGTH;

/// Bytes 12 to 15 of the frame: EtherType, and version.
const TYPE_MASK: u32 = u32::from_le_bytes([0xff, 0xff, 0xf0, 0]);
const TYPE: u32 = u32::from_le_bytes([0x86, 0xdd, 0x60, 0]);

/// What a group's address begins with (ff00::/8).
const GROUP: u8 = 0xff;

/// The least payload of an IPv6 packet without extension headers, by the octet of its TCP header that
/// has the data offset; of a header that is too short, more than a frame can hold.
static SHORTEST: [u16; 256] = {
    let mut shortest = [u16::MAX; 256];
    let mut octet = (TcpHeader::LENGTH / 4) << 4;
    while octet < 256 {
        shortest[octet] = (octet as u16 >> 4) * 4;
        octet += 1;
    }
    shortest
};

/// Parses the common packet; `None` for everything else, whatever it is.
pub(crate) fn parse_common_v6<B: Buffer>(buffer: &B, station: &Station) -> Option<Parsed> {
    let (Common { segment, ip_length, .. }, _) = common_v6(buffer, station)?;
    parsed_v6(buffer, segment, ip_length)
}

/// The common packet and its flow; `None` for everything else.
#[inline(always)]
pub(crate) fn common_v6<'b, B: Buffer>(
    buffer: &'b B,
    station: &Station,
) -> Option<(Common, V6AsSent<'b>)> {
    let data = buffer.data();
    let front = Front::of(data)?;
    let payload_length = front.payload_length.get();
    // A frame of more than 16 bits' length, which no device has, is asked for what is left of it:
    // that is shorter, and what is found to fit has a length that fits 16 bits, too.
    let frame_length = u32::from(data.len() as u16);
    let [source, source_rest] = front.source.map(little::U64::get);
    let [destination, destination_rest] = front.destination.map(little::U64::get);
    let common = (front.station.get() & STATION_MASK == station.bits())
        && (front.kind.get() & TYPE_MASK == TYPE)
        && front.next_header == IpProtocol::TCP.0
        && front.hop_limit > 1
        && payload_length >= SHORTEST[usize::from(front.data_offset)]
        && u32::from(payload_length) + (EthernetHeader::LENGTH + Ipv6Header::LENGTH) as u32
            <= frame_length
        && (source != 0) & (source as u8 != GROUP)
        && (destination != 0) & (destination as u8 != GROUP)
        && (source ^ destination) | (source_rest ^ destination_rest) != 0
        && !buffer.is_segmented();
    if !common {
        return None;
    }
    let ip_length = payload_length + Ipv6Header::LENGTH as u16;
    Some((Common::v6(ip_length, SEGMENT[usize::from(front.flags)]), front.sent()))
}

/// The flow of a common packet, where it lies in the packet. `None` for what is too short for one.
#[inline(always)]
pub(crate) fn sent_v6<B: Buffer>(buffer: &B) -> Option<V6AsSent<'_>> {
    Front::of(buffer.data()).map(Front::sent)
}

/// What is known of a common packet, at length. `None` for what is too short for one.
#[inline]
pub(crate) fn parsed_v6<B: Buffer>(buffer: &B, segment: Segment, ip_length: u16) -> Option<Parsed> {
    Some(Parsed {
        kind: Kind::Flow,
        segment,
        link_length: EthernetHeader::LENGTH as u8,
        header_length: Ipv6Header::LENGTH as u16,
        ip_length,
        key: FlowKey::from_v6_as_sent(sent_v6(buffer)?),
    })
}

/// The front of a frame, in the pieces that it is looked at in. Little endian are those that are
/// compared as they lie, whatever the order of their bytes.
#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Front {
    /// Bytes 0 to 7: destination, and the beginning of the source.
    station: little::U64,
    source_mac: [u8; 4],
    /// Bytes 12 to 15: the EtherType, and the first two of the IPv6 header.
    kind: little::U32,
    flow_label: U16,
    payload_length: U16,
    next_header: u8,
    hop_limit: u8,
    /// Each half for itself.
    source: [little::U64; 2],
    destination: [little::U64; 2],
    source_port: [u8; 2],
    destination_port: [u8; 2],
    sequence: [u8; 8],
    data_offset: u8,
    flags: u8,
    rest: [u8; 6],
}

const _: () = assert!(size_of::<Front>() == COMMON);

impl Front {
    #[inline(always)]
    fn of(data: &[u8]) -> Option<&Self> {
        let frame: &[u8; COMMON] = data.first_chunk()?;
        Self::ref_from_bytes(frame).ok()
    }

    /// The flow, if this is the front of a common packet.
    #[inline(always)]
    fn sent(&self) -> V6AsSent<'_> {
        let Self { source, destination, source_port, destination_port, .. } = self;
        V6AsSent {
            source: zerocopy::transmute_ref!(source),
            destination: zerocopy::transmute_ref!(destination),
            source_port: *source_port,
            destination_port: *destination_port,
            protocol: IpProtocol::TCP.0,
        }
    }
}

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
    fn a_packet_without_a_hop_left_is_not_common() {
        for (hops, common) in [(0, false), (1, false), (2, true), (255, true)] {
            let mut bytes = sound(0);
            bytes[SOURCE - 1] = hops;
            assert_eq!(is_common(&Frame::new(&bytes), &port(None)), common, "{hops}");
        }
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
