//! Errors of the node's own: what a client is told about a packet that cannot go on.
//!
//! Each is made in the buffer of the packet that it is about, which it quotes, and goes back the
//! way that came. It is never sent about a packet that is itself an ICMP error (only packets of
//! flows get here), about a later fragment, or to a source that is no single host's
//! (RFC 1122 section 3.2.2, RFC 4443 section 2.4 (e)).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use zerocopy::IntoBytes;
use zerocopy::byteorder::network_endian::U16;

use crate::buffer::Buffer;
use crate::parse::Parsed;
use crate::tables::{PortTable, Tables};
use crate::verdict::DropReason;
use crate::vip::address_bits;
use crate::wire::ipv6_extensions::{FragmentHeader, walk};
use crate::wire::{
    EthernetHeader, IcmpHeader, IcmpType, Icmpv6Header, Icmpv6Type, IpProtocol, Ipv4Header,
    Ipv6Header, checksum, martian,
};

/// What is wrong with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// Too big once encapsulated; IP packets up to `mtu` bytes fit.
    TooBig {
        /// Bytes of the longest IP packet that fits.
        mtu: u16,
    },
    /// Its time to live, or hop limit, is used up.
    TimeExceeded,
    /// Nobody listens at its port.
    PortUnreachable,
}

/// Longest ICMP error over IPv4, its header included (RFC 1812 section 4.3.2.3).
pub const LONGEST_V4: usize = 576;
/// The least MTU of IPv6, which an error must not exceed (RFC 4443 section 2.4 (c)).
pub const LONGEST_V6: usize = 1280;
/// Ethernet and two tags.
const LONGEST_LINK_HEADER: usize = 22;

impl Report {
    /// RFC 792; RFC 1191 section 4 puts the MTU into the last two bytes.
    fn header_v4(self) -> IcmpHeader {
        let (message_type, code, mtu) = match self {
            Self::TooBig { mtu } => (IcmpType::DESTINATION_UNREACHABLE, 4, mtu),
            Self::TimeExceeded => (IcmpType::TIME_EXCEEDED, 0, 0),
            Self::PortUnreachable => (IcmpType::DESTINATION_UNREACHABLE, 3, 0),
        };
        let [high, low] = mtu.to_be_bytes();
        let rest_of_header = [0, 0, high, low];
        IcmpHeader { message_type, code, checksum: U16::new(0), rest_of_header }
    }

    /// RFC 4443 section 3.
    fn header_v6(self) -> Icmpv6Header {
        let (message_type, code, mtu) = match self {
            // Section 3.2. No link may ask for less than 1280 bytes (RFC 8200 section 5).
            Self::TooBig { mtu } => (Icmpv6Type::PACKET_TOO_BIG, 0, mtu.max(LONGEST_V6 as u16)),
            Self::TimeExceeded => (Icmpv6Type::TIME_EXCEEDED, 0, 0),
            Self::PortUnreachable => (Icmpv6Type::DESTINATION_UNREACHABLE, 4, 0),
        };
        let rest_of_header = u32::from(mtu).to_be_bytes();
        Icmpv6Header { message_type, code, checksum: U16::new(0), rest_of_header }
    }
}

/// Whether anybody may be told about this packet of a flow: see the module.
pub fn may_be_told(frame: &[u8], parsed: &Parsed, port: &PortTable, tables: &Tables) -> bool {
    let client = parsed.key.source();
    let lone = match client {
        IpAddr::V4(client) => {
            !martian::is_martian_source_v4(client)
                && !port.addresses.iter().any(|(own, length)| is_broadcast(*own, *length, client))
        }
        IpAddr::V6(client) => !martian::is_martian_source_v6(client),
    };
    let ours = tables.owns(client) || tables.lookup.contains_address(address_bits(client));
    lone && !ours && !is_later_fragment(frame, parsed)
}

/// The directed broadcast address of the subnet around `own` (RFC 1812 section 4.2.3.1).
fn is_broadcast(own: IpAddr, length: u8, address: Ipv4Addr) -> bool {
    let IpAddr::V4(own) = own else { return false };
    let hosts = u32::MAX.checked_shr(u32::from(length)).unwrap_or(0);
    // A /31 has no broadcast address (RFC 3021), and neither has a /32.
    hosts > 1 && u32::from(own) | hosts == u32::from(address)
}

fn is_later_fragment(frame: &[u8], parsed: &Parsed) -> bool {
    let packet = frame.get(usize::from(parsed.link_length)..).unwrap_or_default();
    if parsed.key.source().is_ipv4() {
        return Ipv4Header::parse(packet).is_none_or(|(ip, _)| ip.fragment_offset() != 0);
    }
    let Some((ip, chain)) = Ipv6Header::parse(packet) else { return true };
    match walk(ip.next_header, chain).map(|end| end.fragment) {
        Ok(None) => false,
        Ok(Some(at)) => chain
            .get(at..)
            .and_then(FragmentHeader::parse)
            .is_none_or(|(header, _)| header.fragment_offset() != 0),
        Err(_) => true,
    }
}

/// Turns the packet into the error about it, from `source` (of the packet's family) to whom the
/// packet came from.
///
/// # Errors
/// [`DropReason::NoHeadroom`]; the packet's bytes are then unspecified.
pub fn write<B: Buffer>(
    packet: &mut B,
    parsed: &Parsed,
    report: Report,
    source: IpAddr,
    port: &PortTable,
) -> Result<(), DropReason> {
    match (source, parsed.key.source()) {
        (IpAddr::V4(source), IpAddr::V4(client)) => {
            let quoted = LONGEST_V4 - Ipv4Header::LENGTH - IcmpHeader::LENGTH;
            let (front, quoted) =
                make_room(packet, parsed, quoted, Ipv4Header::LENGTH + IcmpHeader::LENGTH, port)?;
            let mut icmp = report.header_v4();
            let sum = checksum::Sum::new().add_bytes(icmp.as_bytes()).add_bytes(quoted);
            icmp.checksum = U16::new(sum.checksum());
            let length = (front.len() + quoted.len()) as u16;
            let ip = Ipv4Header::build(source, client, IpProtocol::ICMP, length);
            put(front, ip.as_bytes(), icmp.as_bytes())
        }
        (IpAddr::V6(source), IpAddr::V6(client)) => {
            let quoted = LONGEST_V6 - Ipv6Header::LENGTH - Icmpv6Header::LENGTH;
            let (front, quoted) =
                make_room(packet, parsed, quoted, Ipv6Header::LENGTH + Icmpv6Header::LENGTH, port)?;
            let mut icmp = report.header_v6();
            icmp.checksum = U16::new(checksum_v6(source, client, &icmp, quoted));
            let length = (Icmpv6Header::LENGTH + quoted.len()) as u16;
            let ip = Ipv6Header::build(source, client, IpProtocol::ICMPV6, length);
            put(front, ip.as_bytes(), icmp.as_bytes())
        }
        _ => Err(DropReason::NoHeadroom),
    }
}

fn checksum_v6(source: Ipv6Addr, client: Ipv6Addr, icmp: &Icmpv6Header, quoted: &[u8]) -> u16 {
    let length = (Icmpv6Header::LENGTH + quoted.len()) as u32;
    checksum::pseudo_header_v6(source, client, IpProtocol::ICMPV6, length)
        .add_bytes(icmp.as_bytes())
        .add_bytes(quoted)
        .checksum()
}

/// Cuts the IP packet to `quoted` bytes, opens `room` bytes in front of it, and puts the link
/// header, turned around, before those: the room, and the quote.
fn make_room<'a, B: Buffer>(
    packet: &'a mut B,
    parsed: &Parsed,
    quoted: usize,
    room: usize,
    port: &PortTable,
) -> Result<(&'a mut [u8], &'a [u8]), DropReason> {
    let link_length = usize::from(parsed.link_length);
    packet.truncate(link_length + usize::from(parsed.ip_length).min(quoted));
    let mut link = [0; LONGEST_LINK_HEADER];
    let link = link.get_mut(..link_length).ok_or(DropReason::NoHeadroom)?;
    link.copy_from_slice(packet.data().get(..link_length).ok_or(DropReason::NoHeadroom)?);
    if let Some((ethernet, _)) = EthernetHeader::parse_mut(link) {
        ethernet.destination = ethernet.source;
        ethernet.source = port.mac;
    }
    if !packet.replace_front(link_length, link_length + room) {
        return Err(DropReason::NoHeadroom);
    }
    let frame = packet.data_mut();
    let (front, rest) = frame.split_at_mut_checked(link_length).ok_or(DropReason::NoHeadroom)?;
    front.copy_from_slice(link);
    let (room, quote) = rest.split_at_mut_checked(room).ok_or(DropReason::NoHeadroom)?;
    Ok((room, quote))
}

fn put(room: &mut [u8], ip: &[u8], icmp: &[u8]) -> Result<(), DropReason> {
    let (ip_place, icmp_place) =
        room.split_at_mut_checked(ip.len()).ok_or(DropReason::NoHeadroom)?;
    if icmp_place.len() != icmp.len() {
        return Err(DropReason::NoHeadroom);
    }
    ip_place.copy_from_slice(ip);
    icmp_place.copy_from_slice(icmp);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::Frame;
    use crate::parse::parse;
    use crate::wire::MacAddress;

    fn port() -> PortTable {
        let addresses = vec![
            ("192.0.2.2".parse().unwrap(), 24),
            ("198.18.0.2".parse().unwrap(), 31),
            ("2001:db8::2".parse().unwrap(), 64),
        ];
        PortTable {
            mac: MacAddress([2, 0, 0, 0, 0, 1]),
            any_mac: false,
            vlan: None,
            mtu: 1500,
            addresses,
        }
    }

    /// A UDP packet of `length` bytes of IP.
    fn udp(v6: bool, length: usize) -> Vec<u8> {
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 9];
        let header = if v6 { 40 } else { 20 };
        if v6 {
            frame.extend([0x86, 0xdd]);
            let (client, vip) =
                ("2001:db8:7::7".parse().unwrap(), "2001:db8:cafe::1".parse().unwrap());
            let ip = Ipv6Header::build(client, vip, IpProtocol::UDP, (length - 40) as u16);
            frame.extend_from_slice(ip.as_bytes());
        } else {
            frame.extend([8, 0]);
            let (client, vip) = (Ipv4Addr::new(198, 51, 100, 7), Ipv4Addr::new(203, 0, 113, 1));
            let ip = Ipv4Header::build(client, vip, IpProtocol::UDP, length as u16);
            frame.extend_from_slice(ip.as_bytes());
        }
        frame.extend([0x9c, 0x40, 0, 53]);
        frame.extend(((length - header) as u16).to_be_bytes());
        frame.resize(14 + length, 0x5a);
        frame
    }

    #[test]
    fn errors_quote_as_much_as_their_rfc_allows_and_not_more() {
        for (v6, length, longest) in
            [(false, 1500, 576), (false, 100, 128), (true, 1500, 1280), (true, 100, 148)]
        {
            let bytes = udp(v6, length);
            let mut frame = Frame::new(&bytes);
            let parsed = parse(&frame, &port());
            let source = parsed.key.destination();
            write(&mut frame, &parsed, Report::TooBig { mtu: 1400 }, source, &port()).unwrap();
            let out = frame.data();
            assert_eq!(out.len(), 14 + longest);
            assert_eq!(
                out[..14],
                [&[2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 1][..], &bytes[12..14]].concat()
            );
            let head = if v6 { 48 } else { 28 };
            assert_eq!(out[14 + head..], bytes[14..][..longest - head], "the packet as it came");
            let answer = parse(&Frame::new(&[&port().mac.0, &out[6..]].concat()), &port());
            assert_eq!(answer.kind, crate::parse::Kind::Icmp, "sound in every checksum");
            assert_eq!(answer.key.destination(), parsed.key.source());
            let mtu = u16::from_be_bytes([out[14 + head - 2], out[14 + head - 1]]);
            assert_eq!(mtu, 1400);
        }
    }

    #[test]
    fn no_ipv6_host_is_asked_for_less_than_the_least_mtu() {
        assert_eq!(Report::TooBig { mtu: 900 }.header_v6().rest_of_header, [0, 0, 5, 0]);
        assert_eq!(Report::TooBig { mtu: 900 }.header_v4().rest_of_header, [0, 0, 3, 132]);
    }

    #[test]
    fn a_subnet_s_broadcast_address_is_no_host() {
        let own = |text: &str| text.parse::<IpAddr>().unwrap();
        let is = |own, length, address: &str| is_broadcast(own, length, address.parse().unwrap());
        assert!(is(own("192.0.2.2"), 24, "192.0.2.255"));
        assert!(!is(own("192.0.2.2"), 24, "192.0.2.254"));
        assert!(!is(own("198.18.0.2"), 31, "198.18.0.3"));
        assert!(!is(own("198.18.0.2"), 32, "198.18.0.2"));
        assert!(!is(own("2001:db8::2"), 64, "192.0.2.255"));
    }

    #[test]
    fn a_later_fragment_is_not_reported_and_a_first_one_is() {
        let mut bytes = udp(false, 100);
        let parsed = parse(&Frame::new(&bytes), &port());
        assert!(!is_later_fragment(&bytes, &parsed));
        bytes[14 + 6..14 + 8].copy_from_slice(&0x2000u16.to_be_bytes());
        assert!(!is_later_fragment(&bytes, &parsed));
        bytes[14 + 6..14 + 8].copy_from_slice(&0x2001u16.to_be_bytes());
        assert!(is_later_fragment(&bytes, &parsed));
    }
}
