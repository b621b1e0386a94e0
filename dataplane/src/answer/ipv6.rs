//! The answers over IPv6: neighbour advertisements (RFC 4861), echo replies (RFC 4443), resets.
//!
//! Answers carry no extension headers, whatever the question had: a sender's options are for its
//! own packet, and a routing header must not be turned around (RFC 8200 section 4.4).

use std::net::IpAddr;

use zerocopy::IntoBytes;
use zerocopy::byteorder::network_endian::U16;

use super::{AnswerLimits, LinkAnswer, due_reset, is_vip_of_link, turn_around};
use crate::buffer::Buffer;
use crate::neighbour::{Heard, NextHop};
use crate::parse::Parsed;
use crate::tables::{PortTable, Tables};
use crate::verdict::DropReason;
use crate::wire::{
    EthernetHeader, Icmpv6Header, Icmpv6Type, IpProtocol, Ipv6Header, NeighbourMessage,
    NeighbourPacket, TcpHeader, checksum, ndp as wire,
};

/// Answers or notes a message of neighbour discovery that came in at `port_index`. Whom the node
/// answers for is as for ARP; `seen` hears who spoke, and what that is worth.
pub fn ndp<B: Buffer>(
    packet: &mut B,
    parsed: &Parsed,
    tables: &Tables,
    port_index: u8,
    limits: &mut AnswerLimits,
    now_ms: u32,
    seen: impl FnOnce(NextHop, Heard),
) -> LinkAnswer {
    let link_length = usize::from(parsed.link_length);
    let Some(port) = tables.ports.get(usize::from(port_index)) else {
        return LinkAnswer::Drop(DropReason::BadNdp);
    };
    let Some((ip, message)) = ip_and_payload(packet.data(), parsed) else {
        return LinkAnswer::Drop(DropReason::BadNdp);
    };
    let Ok(message) = wire::validate(ip, message) else {
        return LinkAnswer::Drop(DropReason::BadNdp);
    };
    let asker = ip.source_address();
    let hear = |address: IpAddr, heard: Heard| {
        if port.is_on_link(address) && !port.owns(address) {
            Some((NextHop { port: port_index, address }, heard))
        } else {
            None
        }
    };
    let target = match message {
        NeighbourMessage::Advertisement { target, link, solicited, overriding } => {
            let heard = Heard { mac: link, answered: solicited, overriding };
            if let Some((hop, heard)) = hear(target.into(), heard) {
                seen(hop, heard);
            }
            return LinkAnswer::Noted;
        }
        NeighbourMessage::Solicitation { target, link } => {
            // Section 7.2.3: the sender's address is taken, and is yet to be confirmed.
            let heard = Heard { mac: link, answered: false, overriding: true };
            if let Some((hop, heard)) = hear(asker.into(), heard).filter(|_| link.is_some()) {
                seen(hop, heard);
            }
            target
        }
    };
    let own = port.owns(target.into());
    if !own && !is_vip_of_link(target.into(), port, tables) {
        return LinkAnswer::Drop(DropReason::ForeignNdp);
    }
    if !limits.ndp.allow(now_ms) {
        return LinkAnswer::Drop(DropReason::NdpRateLimited);
    }
    // Several nodes may answer for one VIP, as for an anycast address: section 7.2.7 leaves the
    // override flag off then.
    let reply = NeighbourPacket::advertisement(target, port.mac, asker, own);
    match write(packet, link_length, reply.as_bytes()) {
        Some(frame) => {
            turn_around(frame, port.mac);
            if asker.is_unspecified()
                && let Some((ethernet, _)) = EthernetHeader::parse_mut(frame)
            {
                ethernet.destination = wire::group_mac(wire::ALL_NODES);
            }
            LinkAnswer::Reply
        }
        None => LinkAnswer::Drop(DropReason::NoHeadroom),
    }
}

/// Answers an echo request; see [`super::echo`].
pub(super) fn echo<B: Buffer>(
    packet: &mut B,
    parsed: &Parsed,
    port: &PortTable,
    limits: &mut AnswerLimits,
    now_ms: u32,
) -> Result<(), DropReason> {
    let link_length = usize::from(parsed.link_length);
    let header_length = usize::from(parsed.header_length);
    packet.truncate(link_length + usize::from(parsed.ip_length));
    let message = packet.data_mut().get_mut(link_length + header_length..);
    let (icmp, _) =
        message.and_then(|bytes| Icmpv6Header::parse_mut(bytes)).ok_or(DropReason::BadIcmp)?;
    if icmp.message_type != Icmpv6Type::ECHO_REQUEST {
        return Err(DropReason::IcmpUnsupported);
    }
    if !limits.echo.allow(now_ms) {
        return Err(DropReason::IcmpRateLimited);
    }
    if !icmp.turn_echo_request_into_reply() {
        return Err(DropReason::IcmpUnsupported);
    }
    // The header of the answer, put right before the message; the link header before that.
    let (asked, _) = ip_and_payload(packet.data(), parsed).ok_or(DropReason::BadIcmp)?;
    let reply = Ipv6Header::build(
        asked.destination_address(),
        asked.source_address(),
        IpProtocol::ICMPV6,
        parsed.ip_length.saturating_sub(parsed.header_length),
    );
    let mut link = [0; LONGEST_LINK_HEADER];
    let link = link.get_mut(..link_length).ok_or(DropReason::BadIcmp)?;
    link.copy_from_slice(packet.data().get(..link_length).ok_or(DropReason::BadIcmp)?);
    if !packet.replace_front(link_length + header_length, link_length + Ipv6Header::LENGTH) {
        return Err(DropReason::NoHeadroom);
    }
    let frame = packet.data_mut();
    let (front, datagram) =
        frame.split_at_mut_checked(link_length).ok_or(DropReason::NoHeadroom)?;
    front.copy_from_slice(link);
    let (ip, _) = Ipv6Header::parse_mut(datagram).ok_or(DropReason::NoHeadroom)?;
    *ip = reply;
    turn_around(frame, port.mac);
    Ok(())
}

/// Turns a TCP packet into the reset that answers it; see [`super::reset`].
pub(super) fn reset<B: Buffer>(
    packet: &mut B,
    parsed: &Parsed,
    port: &PortTable,
    limits: &mut AnswerLimits,
    now_ms: u32,
) -> Result<(), DropReason> {
    let (ip, segment) = ip_and_payload(packet.data(), parsed).ok_or(DropReason::BadTcpHeader)?;
    let (tcp, _) = TcpHeader::parse(segment).ok_or(DropReason::BadTcpHeader)?;
    let mut tcp = due_reset(tcp, parsed, limits, now_ms)?;
    let (vip, client) = (ip.destination_address(), ip.source_address());
    let length = TcpHeader::LENGTH as u16;
    let sum = checksum::pseudo_header_v6(vip, client, IpProtocol::TCP, u32::from(length));
    tcp.checksum = U16::new(sum.add_bytes(tcp.as_bytes()).checksum());
    let ip = Ipv6Header::build(vip, client, IpProtocol::TCP, length);

    let mut reply = [0; Ipv6Header::LENGTH + TcpHeader::LENGTH];
    let (ip_place, tcp_place) = reply.split_at_mut(Ipv6Header::LENGTH);
    ip_place.copy_from_slice(ip.as_bytes());
    tcp_place.copy_from_slice(tcp.as_bytes());
    let frame = write(packet, usize::from(parsed.link_length), &reply);
    turn_around(frame.ok_or(DropReason::NoHeadroom)?, port.mac);
    Ok(())
}

/// Ethernet and two tags.
const LONGEST_LINK_HEADER: usize = 22;

/// The fixed header, and what is behind the extension headers; without padding.
fn ip_and_payload<'a>(frame: &'a [u8], parsed: &Parsed) -> Option<(&'a Ipv6Header, &'a [u8])> {
    let packet = frame.get(usize::from(parsed.link_length)..)?;
    let packet = packet.get(..usize::from(parsed.ip_length))?;
    let (ip, _) = Ipv6Header::parse(packet)?;
    Some((ip, packet.get(usize::from(parsed.header_length)..)?))
}

/// Makes the packet `bytes` behind its first `link_length` bytes; the frame, if there is room.
fn write<'a, B: Buffer>(
    packet: &'a mut B,
    link_length: usize,
    bytes: &[u8],
) -> Option<&'a mut [u8]> {
    packet.truncate(link_length);
    if packet.data().len() != link_length || !packet.append(bytes) {
        return None;
    }
    Some(packet.data_mut())
}
