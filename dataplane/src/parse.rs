//! First stage: what kind of packet is this, and is it sound?
//!
//! Each packet is read once, from the view on its buffer, and every length is checked before it
//! is used. The longest header stack accepted is Ethernet, two tags ([`MAX_TAGS`]), an IPv4
//! header of 60 bytes and the transport's own fixed header; what lies behind is never looked at.
//! Nothing a packet contains can panic here: there is no index and no unwrap.

use conntrack::{FlowKey, Segment};

use crate::buffer::{Buffer, ChecksumHint};
use crate::tables::PortTable;
use crate::verdict::DropReason;
use crate::wire::ipv4::{OptionsVerdict, inspect_options};
use crate::wire::{
    ArpPacket, EtherType, EthernetHeader, IcmpHeader, IpProtocol, Ipv4Header, TcpHeader, UdpHeader,
    VlanTag, checksum, martian,
};

/// Tags a frame may carry: 802.1Q inside 802.1ad.
pub const MAX_TAGS: usize = 2;

/// What a packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Belongs to a flow: TCP, UDP, or a protocol without ports (ports are 0).
    Flow,
    /// An ICMP message, checksum verified.
    Icmp,
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
    /// Bytes of the IP header with its options.
    pub header_length: u8,
    /// Bytes of the IP packet; what follows is padding.
    pub ip_length: u16,
    /// Addresses, ports, protocol.
    pub key: FlowKey,
}

impl Parsed {
    const fn dropped(reason: DropReason) -> Self {
        Self::of(Kind::Drop(reason), 0)
    }

    const fn of(kind: Kind, link_length: u8) -> Self {
        Self {
            kind,
            segment: Segment::Datagram,
            link_length,
            header_length: 0,
            ip_length: 0,
            key: FlowKey::v4(
                std::net::Ipv4Addr::UNSPECIFIED,
                std::net::Ipv4Addr::UNSPECIFIED,
                0,
                0,
                0,
            ),
        }
    }
}

/// Parses one packet that came in at `port`.
#[inline]
pub fn parse<B: Buffer>(buffer: &B, port: &PortTable) -> Parsed {
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
    if ethernet.destination != port.mac || ethernet.source.is_multicast() {
        check_stations(ethernet, ethertype, port)?;
    }
    let link_length = (frame.len() - rest.len()) as u8;
    match ethertype {
        EtherType::IPV4 => parse_ipv4(rest, link_length, buffer.checksum_hint()),
        EtherType::ARP => match ArpPacket::parse(rest) {
            Some(_) => Ok(Parsed::of(Kind::Arp, link_length)),
            None => Err(DropReason::BadArp),
        },
        EtherType::IPV6 => Err(DropReason::Ipv6Unsupported),
        _ => Err(DropReason::UnknownEthertype),
    }
}

/// Walks over the tags. A port without a tag of its own takes any; one with a tag takes frames
/// whose innermost identifier is that, and those without: no tag, or one for the priority only
/// (identifier 0, IEEE 802.1Q section 9.6).
#[cold]
fn untag(
    mut ethertype: EtherType,
    mut rest: &[u8],
    expected: Option<u16>,
) -> Result<(EtherType, &[u8]), DropReason> {
    let mut identifier = 0;
    let mut tags = 0;
    while ethertype.is_vlan() {
        if tags == MAX_TAGS {
            return Err(DropReason::UnknownEthertype);
        }
        let (tag, behind) = VlanTag::parse(rest).ok_or(DropReason::FrameTooShort)?;
        identifier = tag.identifier();
        ethertype = tag.ethertype;
        rest = behind;
        tags += 1;
    }
    match expected {
        Some(expected) if identifier != 0 && identifier != expected => Err(DropReason::OtherVlan),
        _ => Ok((ethertype, rest)),
    }
}

/// A frame that is not from one station to the port's own address. No station sends from a group
/// address (IEEE 802.3 section 3.2.3), and answers would go to it. ARP may be broadcast, IP may
/// not (RFC 1122 section 3.3.6), and another station's frames are flooding by a switch.
#[cold]
fn check_stations(
    ethernet: &EthernetHeader,
    ethertype: EtherType,
    port: &PortTable,
) -> Result<(), DropReason> {
    if ethernet.source.is_multicast() {
        return Err(DropReason::MulticastSourceMac);
    }
    if ethernet.destination.is_broadcast() && ethertype == EtherType::ARP {
        return Ok(());
    }
    if ethernet.destination.is_multicast() {
        return Err(DropReason::LinkBroadcast);
    }
    if port.any_mac { Ok(()) } else { Err(DropReason::OtherHostMac) }
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
    match hint {
        ChecksumHint::Good => {}
        ChecksumHint::Unverified if checksum::verify(header_bytes) => {}
        ChecksumHint::Unverified | ChecksumHint::Bad => return Err(DropReason::BadIpChecksum),
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
        return Err(DropReason::Fragment);
    }
    let mut kind = Kind::Flow;
    let mut segment = Segment::Datagram;
    let (source_port, destination_port) = match header.protocol {
        IpProtocol::TCP => {
            let (tcp, _) = TcpHeader::parse(payload).ok_or(DropReason::BadTcpHeader)?;
            if tcp.data_offset() < 5 || tcp.header_length() > payload.len() {
                return Err(DropReason::BadTcpHeader);
            }
            segment = Segment::from_tcp_flags(tcp.flags.0);
            (tcp.source_port.get(), tcp.destination_port.get())
        }
        IpProtocol::UDP => {
            let (udp, _) = UdpHeader::parse(payload).ok_or(DropReason::BadUdpHeader)?;
            let length = usize::from(udp.length.get());
            if length < UdpHeader::LENGTH || length > payload.len() {
                return Err(DropReason::BadUdpLength);
            }
            (udp.source_port.get(), udp.destination_port.get())
        }
        IpProtocol::ICMP => {
            if payload.len() < IcmpHeader::LENGTH || !checksum::verify(payload) {
                return Err(DropReason::BadIcmp);
            }
            kind = Kind::Icmp;
            (0, 0)
        }
        _ => (0, 0),
    };
    Ok(Parsed {
        kind,
        segment,
        link_length,
        header_length: header_length as u8,
        ip_length,
        key: FlowKey::v4(source, destination, source_port, destination_port, header.protocol.0),
    })
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
