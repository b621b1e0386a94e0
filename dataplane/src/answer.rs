//! Packets that the node answers itself: ARP requests and neighbour solicitations, pings, and
//! stragglers of evicted backends.
//!
//! Each answer is made in the buffer of the question and goes back the way it came: to the
//! station that sent the frame; the tags of the question are replaced when it is sent, where the
//! port has its own. All are rate-limited per worker,
//! because each is a packet sent at a stranger's wish.

mod ipv6;

use std::net::IpAddr;

use conntrack::Family;
use zerocopy::byteorder::network_endian::U16;

use crate::buffer::Buffer;
use crate::neighbour::{Heard, NextHop};
use crate::parse::Parsed;
use crate::tables::{PortTable, Tables};
use crate::verdict::DropReason;
use crate::vip::address_bits;
use crate::wire::arp::ArpOperation;
use crate::wire::{
    ArpPacket, EthernetHeader, IcmpHeader, IcmpType, IpProtocol, Ipv4Header, MacAddress, TcpHeader,
    checksum,
};
use zerocopy::IntoBytes;

/// A token bucket: so many answers a second, and as many at once.
#[derive(Debug)]
pub struct RateLimit {
    per_second: u32,
    tokens: u32,
    refilled_ms: u32,
}

impl RateLimit {
    /// A full bucket.
    pub fn new(per_second: u32) -> Self {
        Self { per_second, tokens: per_second, refilled_ms: 0 }
    }

    /// Takes one token, if there is one. Time is the worker's wrapping milliseconds.
    pub fn allow(&mut self, now_ms: u32) -> bool {
        let elapsed = now_ms.wrapping_sub(self.refilled_ms);
        let earned = u64::from(elapsed) * u64::from(self.per_second) / 1000;
        if earned > 0 {
            let tokens = u64::from(self.tokens).saturating_add(earned);
            self.tokens = tokens.min(u64::from(self.per_second)) as u32;
            self.refilled_ms = now_ms;
        }
        match self.tokens.checked_sub(1) {
            Some(left) => {
                self.tokens = left;
                true
            }
            None => false,
        }
    }
}

/// The limits of one worker.
#[derive(Debug)]
pub struct AnswerLimits {
    echo: RateLimit,
    arp: RateLimit,
    ndp: RateLimit,
    reset: RateLimit,
}

/// Echo replies a worker sends in a second.
pub const ECHO_PER_SECOND: u32 = 10_000;
/// ARP replies a worker sends in a second.
pub const ARP_PER_SECOND: u32 = 1_000;
/// Neighbour advertisements a worker sends in a second.
pub const NDP_PER_SECOND: u32 = 1_000;
/// Resets a worker sends in a second.
pub const RESET_PER_SECOND: u32 = 10_000;

impl Default for AnswerLimits {
    fn default() -> Self {
        Self {
            echo: RateLimit::new(ECHO_PER_SECOND),
            arp: RateLimit::new(ARP_PER_SECOND),
            ndp: RateLimit::new(NDP_PER_SECOND),
            reset: RateLimit::new(RESET_PER_SECOND),
        }
    }
}

/// What came of a packet of ARP or neighbour discovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkAnswer {
    /// The buffer holds the reply.
    Reply,
    /// Read, and nothing to say.
    Noted,
    /// Dropped.
    Drop(DropReason),
}

/// Swaps the frame's addresses: back to its sender, from the port.
fn turn_around(frame: &mut [u8], mac: MacAddress) {
    if let Some((ethernet, _)) = EthernetHeader::parse_mut(frame) {
        ethernet.destination = ethernet.source;
        ethernet.source = mac;
    }
}

/// Whether the node answers for `address` on the link of `port` because it is a VIP there.
fn is_vip_of_link(address: IpAddr, port: &PortTable, tables: &Tables) -> bool {
    port.is_on_link(address) && tables.lookup.contains_address(address_bits(address))
}

/// Answers or notes an ARP packet that came in at `port_index`. The node answers for its own
/// addresses and for VIPs of the link's subnet; `seen` hears who spoke.
pub fn arp<B: Buffer>(
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
        return LinkAnswer::Drop(DropReason::BadArp);
    };
    let body = packet.data().get(link_length..).unwrap_or_default();
    let Some((arp, _)) = ArpPacket::parse(body) else {
        return LinkAnswer::Drop(DropReason::BadArp);
    };
    let Ok(operation) = arp.validate() else { return LinkAnswer::Drop(DropReason::BadArp) };
    let sender = IpAddr::V4(arp.sender_address());
    // RFC 826, "packet reception": the sender's mapping is merged before the operation is looked
    // at. Only wanted next hops are (see `neighbour`).
    if port.is_on_link(sender) && !port.owns(sender) {
        let heard = Heard::arp(arp.sender_hardware_address);
        seen(NextHop { port: port_index, address: sender }, heard);
    }
    if operation == ArpOperation::Reply {
        return LinkAnswer::Noted;
    }
    let target = IpAddr::V4(arp.target_address());
    if !port.owns(target) && !is_vip_of_link(target, port, tables) {
        return LinkAnswer::Drop(DropReason::ForeignArp);
    }
    if !limits.arp.allow(now_ms) {
        return LinkAnswer::Drop(DropReason::ArpRateLimited);
    }
    let reply = ArpPacket::build_reply(arp, port.mac);
    packet.truncate(link_length + ArpPacket::LENGTH);
    let frame = packet.data_mut();
    turn_around(frame, port.mac);
    match frame.get_mut(link_length..).and_then(ArpPacket::parse_mut) {
        Some((body, _)) => {
            *body = reply;
            LinkAnswer::Reply
        }
        None => LinkAnswer::Drop(DropReason::BadArp),
    }
}

/// Answers or notes a message of neighbour discovery that came in at `port_index`; whom for, as
/// [`arp`] does.
pub use ipv6::ndp;

/// Answers an echo request to a VIP or to the node.
///
/// # Errors
/// Any other ICMP message, and requests beyond the rate limit.
pub fn echo<B: Buffer>(
    packet: &mut B,
    parsed: &Parsed,
    port: &PortTable,
    limits: &mut AnswerLimits,
    now_ms: u32,
) -> Result<(), DropReason> {
    if parsed.key.family() == Family::V6 {
        return ipv6::echo(packet, parsed, port, limits, now_ms);
    }
    let link_length = usize::from(parsed.link_length);
    let header_length = usize::from(parsed.header_length);
    packet.truncate(link_length + usize::from(parsed.ip_length));
    let frame = packet.data_mut();
    let datagram = frame.get_mut(link_length..).ok_or(DropReason::BadIcmp)?;
    let message = datagram.get_mut(header_length..).ok_or(DropReason::BadIcmp)?;
    let (icmp, data) = IcmpHeader::parse_mut(message).ok_or(DropReason::BadIcmp)?;
    if icmp.message_type != IcmpType::ECHO_REQUEST {
        return Err(DropReason::IcmpUnsupported);
    }
    if !limits.echo.allow(now_ms) {
        return Err(DropReason::IcmpRateLimited);
    }
    if !icmp.turn_echo_request_into_reply() {
        return Err(DropReason::IcmpUnsupported);
    }
    // RFC 1624 section 3: an update cannot tell the two zeroes of one's complement apart. They
    // differ for a message of nothing but zeroes, whose checksum is 0xffff.
    if icmp.checksum.get() == 0 && icmp.rest_of_header == [0; 4] && data.iter().all(|b| *b == 0) {
        icmp.checksum = U16::new(0xffff);
    }
    // RFC 792: "the source and destination addresses are simply reversed". Their sum is the
    // same; the time to live starts anew.
    let header = datagram.get_mut(..header_length).ok_or(DropReason::BadIcmp)?;
    let (ip, _) = Ipv4Header::parse_mut(header).ok_or(DropReason::BadIcmp)?;
    std::mem::swap(&mut ip.source, &mut ip.destination);
    ip.time_to_live = Ipv4Header::DEFAULT_TIME_TO_LIVE;
    ip.header_checksum = U16::new(0);
    let sum = checksum::checksum(header);
    if let Some((ip, _)) = Ipv4Header::parse_mut(header) {
        ip.header_checksum = U16::new(sum);
    }
    turn_around(frame, port.mac);
    Ok(())
}

/// Turns a TCP packet into the reset that answers it, from the VIP to the client, so that a
/// client whose backend is gone learns it at once.
///
/// # Errors
/// When the packet is a reset itself, or beyond the rate limit.
pub fn reset<B: Buffer>(
    packet: &mut B,
    parsed: &Parsed,
    port: &PortTable,
    limits: &mut AnswerLimits,
    now_ms: u32,
) -> Result<(), DropReason> {
    if parsed.key.family() == Family::V6 {
        return ipv6::reset(packet, parsed, port, limits, now_ms);
    }
    let link_length = usize::from(parsed.link_length);
    let header_length = usize::from(parsed.header_length);
    let datagram = packet.data().get(link_length..).ok_or(DropReason::BadTcpHeader)?;
    let (ip, _) = Ipv4Header::parse(datagram).ok_or(DropReason::BadTcpHeader)?;
    let segment = datagram.get(header_length..).ok_or(DropReason::BadTcpHeader)?;
    let (tcp, _) = TcpHeader::parse(segment).ok_or(DropReason::BadTcpHeader)?;
    let mut tcp = due_reset(tcp, parsed, limits, now_ms)?;
    let (vip, client) = (ip.destination_address(), ip.source_address());
    let length = TcpHeader::LENGTH as u16;
    let sum = checksum::pseudo_header_v4(vip, client, IpProtocol::TCP, length);
    tcp.checksum = U16::new(sum.add_bytes(tcp.as_bytes()).checksum());
    let ip = Ipv4Header::build(vip, client, IpProtocol::TCP, length + Ipv4Header::LENGTH as u16);

    packet.truncate(link_length + Ipv4Header::LENGTH + TcpHeader::LENGTH);
    let frame = packet.data_mut();
    turn_around(frame, port.mac);
    let datagram = frame.get_mut(link_length..).ok_or(DropReason::BadTcpHeader)?;
    let (ip_place, rest) = Ipv4Header::parse_mut(datagram).ok_or(DropReason::BadTcpHeader)?;
    *ip_place = ip;
    let (tcp_place, _) = TcpHeader::parse_mut(rest).ok_or(DropReason::BadTcpHeader)?;
    *tcp_place = tcp;
    Ok(())
}

/// The reset that answers `tcp`, without a checksum, if it is to be sent.
fn due_reset(
    tcp: &TcpHeader,
    parsed: &Parsed,
    limits: &mut AnswerLimits,
    now_ms: u32,
) -> Result<TcpHeader, DropReason> {
    let payload = usize::from(parsed.ip_length)
        .saturating_sub(usize::from(parsed.header_length))
        .saturating_sub(tcp.header_length());
    let Some(reset) = TcpHeader::build_reset(tcp, payload as u32) else {
        return Err(DropReason::BackendEvicted);
    };
    if limits.reset.allow(now_ms) { Ok(reset) } else { Err(DropReason::ResetRateLimited) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_its_rate_and_no_more() {
        let mut limit = RateLimit::new(100);
        let allowed = |limit: &mut RateLimit, now| (0..1000).filter(|_| limit.allow(now)).count();
        assert_eq!(allowed(&mut limit, 0), 100);
        assert_eq!(allowed(&mut limit, 500), 50);
        assert_eq!(allowed(&mut limit, 509), 0);
        assert_eq!(allowed(&mut limit, 510), 1);
        assert_eq!(allowed(&mut limit, 1_000_000), 100);
    }

    #[test]
    fn a_bucket_asked_often_still_refills() {
        let mut limit = RateLimit::new(10);
        let allowed = (0..10_000u32).filter(|now| limit.allow(*now)).count();
        assert!((109..=110).contains(&allowed), "{allowed}");
    }

    #[test]
    fn a_bucket_survives_the_wrap_of_the_clock() {
        let mut limit = RateLimit::new(10);
        limit.allow(u32::MAX - 10);
        assert!(limit.allow(200));
    }
}
