//! First stage: what kind of packet is this, and is it sound?
//!
//! Each packet is read once, from the view on its buffer, and every length is checked before it
//! is used. The longest header stack accepted is Ethernet, two tags ([`MAX_TAGS`]), an IPv4 header
//! of 60 bytes or an IPv6 header with a bounded chain of extension headers ([`ipv6_extensions`]),
//! and the transport's own fixed header; what lies behind is never looked at. Nothing a packet
//! contains can panic here: there is no index and no unwrap.
//!
//! [`ipv6_extensions`]: crate::wire::ipv6_extensions

mod common;
mod common_v6;
#[cfg(test)]
mod differential;
#[cfg(test)]
mod differential_ipv4;
mod fragment;
mod front;
mod ipv6;
mod transport;

use std::net::Ipv4Addr;

use arrayvec::ArrayVec;
use conntrack::{FlowKey, Segment};

use crate::buffer::{Buffer, ChecksumHint};
use crate::tables::PortTable;
use crate::verdict::DropReason;
use crate::wire::ipv4::{OptionsVerdict, inspect_options};
use crate::wire::{
    ArpPacket, EtherType, EthernetHeader, IcmpHeader, IpProtocol, Ipv4Header, LinkTags, VlanTag,
    checksum, martian,
};

pub(crate) use common::{Common, Station, if_common, parse_common};
pub(crate) use common_v6::{common_v6, parse_common_v6, parsed_v6, sent_v6};
use transport::{Transport, transport};

/// Tags a frame may carry: 802.1Q inside 802.1ad.
pub const MAX_TAGS: usize = 2;

/// What a packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Belongs to a flow: TCP, UDP, or a protocol without ports (ports are 0).
    Flow,
    /// A part of a datagram; only the first has ports. [`Piece`](crate::fragment::Piece) says which.
    Fragment,
    /// An ICMP or ICMPv6 message, checksum verified.
    Icmp,
    /// A message of neighbour discovery, checksum verified, not yet validated.
    Ndp,
    /// An ARP packet, not yet validated.
    Arp,
    /// Unsound, or nothing the node has to do with.
    Drop(DropReason),
}

/// What the first look found.
#[derive(Clone, Copy, Debug)]
pub struct Parsed {
    /// What kind of packet.
    pub kind: Kind,
    /// What it means for its flow's state.
    pub segment: Segment,
    /// Bytes before the IP (or ARP) header.
    pub link_length: u8,
    /// Bytes of the IP header with its options, or with the extension headers behind it.
    pub header_length: u16,
    /// Bytes of the IP packet; what follows is padding.
    pub ip_length: u16,
    /// Addresses, ports, protocol.
    pub key: FlowKey,
}

impl Parsed {
    pub(crate) const fn dropped(reason: DropReason) -> Self {
        Self::of(Kind::Drop(reason), 0)
    }

    const fn of(kind: Kind, link_length: u8) -> Self {
        Self {
            kind,
            segment: Segment::Datagram,
            link_length,
            header_length: 0,
            ip_length: 0,
            key: FlowKey::v4(Ipv4Addr::UNSPECIFIED, Ipv4Addr::UNSPECIFIED, 0, 0, 0),
        }
    }
}

/// Parses one packet that came in at `port`.
#[inline]
pub fn parse<B: Buffer>(buffer: &B, port: &PortTable) -> Parsed {
    let station = Station::of(port);
    let common = parse_common(buffer, &station).map(|common| common.parsed());
    common.or_else(|| parse_common_v6(buffer, &station)).unwrap_or_else(|| parse_any(buffer, port))
}

/// Parses any packet.
#[inline(never)]
pub(crate) fn parse_any<B: Buffer>(buffer: &B, port: &PortTable) -> Parsed {
    match try_parse(buffer, port) {
        Ok(parsed) => parsed,
        Err(reason) => Parsed::dropped(reason),
    }
}

#[inline(always)]
fn try_parse<B: Buffer>(buffer: &B, port: &PortTable) -> Result<Parsed, DropReason> {
    if buffer.is_segmented() {
        return Err(DropReason::Segmented);
    }
    let frame = buffer.data();
    let (ethernet, mut rest) = EthernetHeader::parse(frame).ok_or(DropReason::FrameTooShort)?;
    let mut ethertype = ethernet.ethertype;
    if ethertype.is_vlan() {
        (ethertype, rest) = untag(ethertype, rest, port.vlan)?;
    }
    let mut group = false;
    if ethernet.destination != port.mac || ethernet.source.is_multicast() {
        group = check_stations(ethernet, ethertype, port)?;
    }
    let link_length = (frame.len() - rest.len()) as u8;
    match ethertype {
        EtherType::IPV4 => parse_ipv4(rest, link_length, buffer.checksum_hint()),
        EtherType::ARP => match ArpPacket::parse(rest) {
            Some(_) => Ok(Parsed::of(Kind::Arp, link_length)),
            None => Err(DropReason::BadArp),
        },
        EtherType::IPV6 => ipv6::parse(rest, link_length, group),
        _ => Err(DropReason::UnknownEthertype),
    }
}

/// Walks over the tags, of either kind each. A port without tags of its own takes any; what one
/// with tags takes says [`LinkTags::take`].
#[cold]
fn untag(
    mut ethertype: EtherType,
    mut rest: &[u8],
    expected: Option<LinkTags>,
) -> Result<(EtherType, &[u8]), DropReason> {
    let mut identifiers = ArrayVec::<u16, MAX_TAGS>::new();
    while ethertype.is_vlan() {
        if identifiers.is_full() {
            return Err(DropReason::UnknownEthertype);
        }
        let (tag, behind) = VlanTag::parse(rest).ok_or(DropReason::FrameTooShort)?;
        let _ = identifiers.try_push(tag.identifier());
        (ethertype, rest) = (tag.ethertype, behind);
    }
    match expected {
        Some(tags) if !tags.take(&identifiers) => Err(DropReason::OtherVlan),
        _ => Ok((ethertype, rest)),
    }
}

/// A frame that is not from one station to the port's own address. No station sends from a group
/// address (IEEE 802.3 section 3.2.3), and answers would go to it. ARP may be broadcast, IP may
/// not (RFC 1122 section 3.3.6), and another station's frames are flooding by a switch. IPv6 asks
/// for neighbours by multicast (RFC 2464 section 7): `true` for a frame that may hold such a
/// question, and must not hold anything else.
#[cold]
fn check_stations(
    ethernet: &EthernetHeader,
    ethertype: EtherType,
    port: &PortTable,
) -> Result<bool, DropReason> {
    if ethernet.source.is_multicast() {
        return Err(DropReason::MulticastSourceMac);
    }
    if ethernet.destination.is_broadcast() && ethertype == EtherType::ARP {
        return Ok(false);
    }
    if ethertype == EtherType::IPV6 && ethernet.destination.0.starts_with(&[0x33, 0x33]) {
        return Ok(true);
    }
    if ethernet.destination.is_multicast() {
        return Err(DropReason::LinkBroadcast);
    }
    if port.any_mac { Ok(false) } else { Err(DropReason::OtherHostMac) }
}

#[inline(always)]
fn parse_ipv4(bytes: &[u8], link_length: u8, hint: ChecksumHint) -> Result<Parsed, DropReason> {
    let (header, _) = Ipv4Header::parse(bytes).ok_or(DropReason::BadIpLength)?;
    if header.version_and_header_length != 0x45 {
        check_long_header(header, bytes)?;
    }
    let header_length = header.header_length();
    let ip_length = header.total_length.get();
    // RFC 791: total length counts the header; what the frame has beyond it is padding.
    let packet = bytes.get(..usize::from(ip_length)).ok_or(DropReason::BadIpLength)?;
    let (header_bytes, payload) =
        packet.split_at_checked(header_length).ok_or(DropReason::BadIpLength)?;
    if !is_vouched_for(hint, header.protocol) && !checksum::verify(header_bytes) {
        return Err(DropReason::BadIpChecksum);
    }
    let source = header.source_address();
    let destination = header.destination_address();
    if martian::is_martian_source_v4(source) {
        return Err(DropReason::MartianSource);
    }
    if martian::is_martian_source_v4(destination) {
        return Err(DropReason::MartianDestination);
    }
    if martian::is_land_attack(source, destination) {
        return Err(DropReason::Land);
    }
    if header.is_fragment() {
        return fragment::parse_v4(header, payload, link_length);
    }
    let mut kind = Kind::Flow;
    let found = match header.protocol {
        IpProtocol::ICMP => {
            if payload.len() < IcmpHeader::LENGTH || !checksum::verify(payload) {
                return Err(DropReason::BadIcmp);
            }
            kind = Kind::Icmp;
            Transport::WITHOUT_PORTS
        }
        protocol => transport(protocol, payload)?,
    };
    let Transport { segment, source_port, destination_port } = found;
    Ok(Parsed {
        kind,
        segment,
        link_length,
        header_length: header_length as u16,
        ip_length,
        key: FlowKey::v4(source, destination, source_port, destination_port, header.protocol.0),
    })
}

/// Whether the device's word on the header checksum is enough. Of a packet that it takes for a
/// tunnel it speaks of the header inside (`rte_mbuf_core.h`: the outer one has flags of its own),
/// and any UDP port may be a tunnel's to it: so it is believed for TCP only. That it found a
/// checksum wrong is never taken for granted; such packets are few, and a second look costs little.
fn is_vouched_for(hint: ChecksumHint, protocol: IpProtocol) -> bool {
    hint == ChecksumHint::Good && protocol == IpProtocol::TCP
}

/// Anything but "version 4, no options".
#[cold]
fn check_long_header(header: &Ipv4Header, bytes: &[u8]) -> Result<(), DropReason> {
    if header.version() != 4 {
        return Err(DropReason::BadIpVersion);
    }
    if header.header_length() < Ipv4Header::LENGTH {
        return Err(DropReason::BadIpHeaderLength);
    }
    let options = bytes
        .get(Ipv4Header::LENGTH..header.header_length())
        .ok_or(DropReason::BadIpHeaderLength)?;
    match inspect_options(options) {
        OptionsVerdict::Ordinary => Ok(()),
        OptionsVerdict::SourceRoute => Err(DropReason::SourceRoute),
        OptionsVerdict::Malformed => Err(DropReason::BadIpOptions),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::buffer::Frame;
    use crate::wire::MacAddress;

    const MAC: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);

    /// A sound TCP frame of 60 bytes.
    fn sound() -> Vec<u8> {
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 9, 8, 0];
        let source = Ipv4Addr::new(198, 51, 100, 7);
        let destination = Ipv4Addr::new(203, 0, 113, 1);
        let header = Ipv4Header::build(source, destination, IpProtocol::TCP, 40);
        frame.extend_from_slice(zerocopy::IntoBytes::as_bytes(&header));
        frame.extend([0x9c, 0x40, 0, 80, 0, 0, 0, 1, 0, 0, 0, 2, 0x50, 0x10, 1, 0, 0, 0, 0, 0]);
        frame.resize(60, 0);
        frame
    }

    fn port(vlan: Option<LinkTags>) -> PortTable {
        PortTable { mac: MAC, any_mac: false, vlan, mtu: 1500, addresses: Vec::new() }
    }

    /// A frame with the device's word on its checksum.
    struct Hinted(Frame, ChecksumHint);

    impl Buffer for Hinted {
        fn data(&self) -> &[u8] {
            self.0.data()
        }

        fn data_mut(&mut self) -> &mut [u8] {
            self.0.data_mut()
        }

        fn replace_front(&mut self, before: usize, after: usize) -> bool {
            self.0.replace_front(before, after)
        }

        fn truncate(&mut self, length: usize) {
            self.0.truncate(length);
        }

        fn append(&mut self, bytes: &[u8]) -> bool {
            self.0.append(bytes)
        }

        fn checksum_hint(&self) -> ChecksumHint {
            self.1
        }
    }

    #[test]
    fn a_devices_word_on_a_checksum_never_drops_a_sound_packet_nor_vouches_for_a_tunnel() {
        use ChecksumHint::{Bad, Good, Unverified};
        let drop = Kind::Drop(DropReason::BadIpChecksum);
        // TCP, tagged TCP, IP in IP, UDP; the payload is the same 20 bytes.
        let udp_length = [0, 20];
        for (protocol, tagged) in [(6, false), (6, true), (4, false), (17, false)] {
            let mut right = sound();
            right[23] = protocol;
            if protocol == 17 {
                right[38..40].copy_from_slice(&udp_length);
            }
            right[24..26].fill(0);
            let sum = checksum::checksum(&right[14..34]);
            right[24..26].copy_from_slice(&sum.to_be_bytes());
            let mut wrong = right.clone();
            wrong[24] ^= 1;
            for frame in [&mut right, &mut wrong] {
                if tagged {
                    frame.splice(12..12, [0x81, 0, 0, 7]);
                }
            }
            let kind =
                |bytes: &[u8], hint| parse(&Hinted(Frame::new(bytes), hint), &port(None)).kind;
            for hint in [Unverified, Good, Bad] {
                assert_eq!(kind(&right, hint), Kind::Flow, "{protocol} {hint:?}");
            }
            for hint in [Unverified, Bad] {
                assert_eq!(kind(&wrong, hint), drop, "{protocol} {hint:?}");
            }
            let vouched = if protocol == 6 { Kind::Flow } else { drop };
            assert_eq!(kind(&wrong, Good), vouched, "{protocol}");
        }
    }

    fn assert_same(bytes: &[u8], port: &PortTable) -> bool {
        let frame = Frame::new(bytes);
        let common = parse_common(&frame, &Station::of(port)).map(|common| common.parsed());
        if let Some(common) = common {
            assert_eq!(format!("{common:?}"), format!("{:?}", parse_any(&frame, port)));
        }
        common.is_some()
    }

    #[test]
    fn the_common_packet_is_taken_the_short_way() {
        assert!(assert_same(&sound(), &port(None)));
        assert!(!assert_same(&sound(), &port(Some(LinkTags::single(7)))));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 50 } else { 20_000 }))]

        /// Changed in one or two bytes, cut short, its header checksum mended or not.
        #[test]
        fn the_short_way_says_what_the_long_way_says(
            changes in prop::collection::vec((0usize..60, any::<u8>()), 1..3),
            length in 50usize..=60,
            mend in any::<bool>(),
        ) {
            let mut bytes = sound();
            for (at, value) in changes {
                bytes[at] = value;
            }
            if mend {
                bytes[24..26].fill(0);
                let sum = checksum::checksum(&bytes[14..34]);
                bytes[24..26].copy_from_slice(&sum.to_be_bytes());
            }
            bytes.truncate(length);
            assert_same(&bytes, &port(None));
        }
    }
}
