//! What all tunnels have in common: an outer IP header in front, of either version, around an
//! inner packet of either version.
//!
//! ```text
//!  before: | link | inner IP header | payload |
//!  after:  | link' | outer IP | GRE, UDP or nothing | inner IP header, one hop less | payload |
//! ```
//!
//! Everything that is the same for all packets of a backend was computed when the tables were
//! built, for an IPv4 packet inside; per packet DSCP and ECN (RFC 6040 section 4.1, normal mode),
//! length, what is inside, and what tells flows apart are written. Between links without tags there
//! are shorter ways: `untagged.rs`, and for IPv4 in IPv4 `ipip.rs`.

use conntrack::Family;
use zerocopy::byteorder::network_endian::{U16, U32};

use super::OuterHeaders;
use crate::buffer::Buffer;
use crate::parse::Parsed;
use crate::tables::Backend;
use crate::verdict::DropReason;
use crate::wire::{IpProtocol, Ipv4Header, Ipv6Header};

/// What is between an outer IP header and the packet inside, as the IP header says it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Carrier {
    /// Nothing: the protocol number tells the version of IP inside.
    Ip,
    /// A header of the protocol that the backend's outer header has.
    Shim,
}

/// A packet with its outer IP header filled in.
pub(super) struct Wrapped<'a> {
    /// From the outer IP header on.
    pub(super) packet: &'a mut [u8],
    /// Where the outer IP header ends.
    pub(super) header_length: usize,
}

impl<'a> Wrapped<'a> {
    /// What follows the outer IP header.
    pub(super) fn payload(&mut self) -> &mut [u8] {
        self.packet.get_mut(self.header_length..).unwrap_or_default()
    }
}

/// Takes a hop off the inner packet, puts the backend's header and `tail` in front, and fills in its
/// outer IPv4 header.
#[inline(always)]
pub(super) fn wrap_v4<'a, B: Buffer>(
    packet: &'a mut B,
    parsed: &Parsed,
    backend: &Backend,
    flow_hash: u64,
    outer: &mut OuterHeaders,
    carrier: Carrier,
    tail: &[u8],
) -> Result<Wrapped<'a>, DropReason> {
    let dscp_and_ecn = take_hop(packet, parsed)?;
    let packet = put_header(packet, parsed, backend, tail)?;
    let total_length = packet.len() as u16;
    let (header, _) = Ipv4Header::parse_mut(packet).ok_or(DropReason::NoHeadroom)?;
    let entropy = flow_hash as u32 & backend.source_entropy;
    let identification = outer.identification();
    let mut sum = backend.checksum_base;
    if carrier == Carrier::Ip && parsed.key.family() == Family::V6 {
        let more = IpProtocol::IPV6.0.saturating_sub(header.protocol.0);
        header.protocol = IpProtocol::IPV6;
        sum += u32::from(more);
    }
    header.dscp_and_ecn = dscp_and_ecn;
    header.total_length = U16::new(total_length);
    header.identification = U16::new(identification);
    header.source = (u32::from_be_bytes(header.source) | entropy).to_be_bytes();
    sum += u32::from(dscp_and_ecn)
        + u32::from(total_length)
        + u32::from(identification)
        + (entropy >> 16)
        + (entropy & 0xffff);
    header.header_checksum = U16::new(!fold(sum));
    Ok(Wrapped { packet, header_length: Ipv4Header::LENGTH })
}

/// As [`wrap_v4`], with an outer IPv6 header. Its flow label comes from the flow, so that routers
/// and network cards can spread tunnelled packets by it (RFC 6438).
#[inline(always)]
pub(super) fn wrap_v6<'a, B: Buffer>(
    packet: &'a mut B,
    parsed: &Parsed,
    backend: &Backend,
    flow_hash: u64,
    carrier: Carrier,
    tail: &[u8],
) -> Result<Wrapped<'a>, DropReason> {
    let traffic_class = take_hop(packet, parsed)?;
    let packet = put_header(packet, parsed, backend, tail)?;
    let payload_length = packet.len().saturating_sub(Ipv6Header::LENGTH) as u16;
    let (header, _) = Ipv6Header::parse_mut(packet).ok_or(DropReason::NoHeadroom)?;
    let label = (flow_hash >> 32) as u32 & 0x000f_ffff;
    header.version_traffic_class_flow_label =
        U32::new(6 << 28 | u32::from(traffic_class) << 20 | label);
    header.payload_length = U16::new(payload_length);
    if carrier == Carrier::Ip && parsed.key.family() == Family::V6 {
        header.next_header = IpProtocol::IPV6;
    }
    let entropy = flow_hash as u32 & backend.source_entropy;
    let source = u128::from_be_bytes(header.source) | u128::from(entropy);
    header.source = source.to_be_bytes();
    Ok(Wrapped { packet, header_length: Ipv6Header::LENGTH })
}

/// Takes one hop off the inner packet: its DSCP and ECN.
///
/// RFC 2003 section 3.1, RFC 2473 section 3.1: decremented once by the encapsulator as it forwards.
#[inline(always)]
pub(super) fn take_hop<B: Buffer>(packet: &mut B, parsed: &Parsed) -> Result<u8, DropReason> {
    let inner = packet.data_mut().get_mut(usize::from(parsed.link_length)..).unwrap_or_default();
    match parsed.key.family() {
        Family::V4 => {
            let (inner, _) = Ipv4Header::parse_mut(inner).ok_or(DropReason::BadIpLength)?;
            if !inner.decrement_time_to_live() {
                return Err(DropReason::TtlExpired);
            }
            Ok(inner.dscp_and_ecn)
        }
        Family::V6 => {
            let (inner, _) = Ipv6Header::parse_mut(inner).ok_or(DropReason::BadIpLength)?;
            if !inner.decrement_hop_limit() {
                return Err(DropReason::TtlExpired);
            }
            Ok(inner.traffic_class())
        }
    }
}

/// Puts the backend's header and `tail` in place of the link header: the packet from its outer IP
/// header on.
#[inline(always)]
fn put_header<'a, B: Buffer>(
    packet: &'a mut B,
    parsed: &Parsed,
    backend: &Backend,
    tail: &[u8],
) -> Result<&'a mut [u8], DropReason> {
    let header = backend.header();
    let length = header.len() + tail.len();
    if !packet.replace_front(usize::from(parsed.link_length), length) {
        return Err(DropReason::NoHeadroom);
    }
    let front = packet.data_mut();
    let place = front.get_mut(..length).ok_or(DropReason::NoHeadroom)?;
    let (first, last) = place.split_at_mut_checked(header.len()).ok_or(DropReason::NoHeadroom)?;
    first.copy_from_slice(header);
    last.copy_from_slice(tail);
    Ok(front.get_mut(usize::from(backend.link_length)..).unwrap_or_default())
}

/// Adds the carries back in (RFC 1071). The upper half of the sum of a number and its exchanged
/// halves is the sum of both, with the carry out of the lower half.
#[inline(always)]
pub(super) const fn fold(sum: u32) -> u16 {
    (sum.wrapping_add(sum.rotate_left(16)) >> 16) as u16
}
