//! IP in IP: IPv4 in IPv4 (RFC 2003), IPv6 in IPv4 (RFC 4213), either in IPv6 (RFC 2473). An outer
//! header in front of the untouched packet, nothing in between.
//!
//! IPv4 in IPv4 is what most packets get, and has a way of its own: [`plain`] writes the same
//! bytes as [`over_v4`], with fewer questions.

use conntrack::Family;
use zerocopy::byteorder::network_endian::U16;

use super::OuterHeaders;
use super::outer::{Carrier, fold, wrap_v4, wrap_v6};
use crate::buffer::Buffer;
use crate::parse::Parsed;
use crate::tables::{Backend, Encapsulation, PLAIN};
use crate::verdict::DropReason;
use crate::wire::{EthernetHeader, Ipv4Header};

/// Whether [`plain`] is the way: IPv4 in IPv4, no tag before nor after.
#[inline(always)]
pub(crate) fn is_plain(parsed: &Parsed, backend: &Backend) -> bool {
    backend.encapsulation == Encapsulation::Ipip4
        && usize::from(backend.header_length) == PLAIN
        && usize::from(parsed.link_length) == EthernetHeader::LENGTH
        && parsed.key.family() == Family::V4
}

/// As [`rewrite`](super::rewrite), which asks for the length before, where [`is_plain`].
#[inline(always)]
pub(crate) fn plain<B: Buffer>(
    packet: &mut B,
    ip_length: u16,
    backend: &Backend,
    flow_hash: &u64,
    outer: &mut OuterHeaders,
) -> Result<(), DropReason> {
    let inner: &[u8; PLAIN] = packet.data().first_chunk().ok_or(DropReason::BadIpLength)?;
    let (inner, _) =
        Ipv4Header::parse(&inner[EthernetHeader::LENGTH..]).ok_or(DropReason::BadIpLength)?;
    if inner.time_to_live <= 1 {
        return Err(DropReason::TtlExpired);
    }
    let identification = outer.identification();
    match put_plain::<true, B>(packet, ip_length, backend, flow_hash, identification) {
        true => Ok(()),
        false => Err(DropReason::NoHeadroom),
    }
}

/// As [`plain`], of a packet that has a hop left to take; `false` where there is no room for it.
/// `VARIED`: bits of the outer source may be the flow's.
#[inline(always)]
pub(crate) fn put_plain<const VARIED: bool, B: Buffer>(
    packet: &mut B,
    ip_length: u16,
    backend: &Backend,
    flow_hash: &u64,
    identification: u16,
) -> bool {
    // Ethernet pads short packets; the padding is not the client's.
    let end = EthernetHeader::LENGTH + usize::from(ip_length);
    packet.reframe_front(EthernetHeader::LENGTH, end, PLAIN, |front| {
        put_front::<VARIED>(front, ip_length, backend, flow_hash, identification);
    })
}

/// Fills in what stands in front of an IPv4 header, which follows.
#[inline(always)]
fn put_front<const VARIED: bool>(
    front: &mut [u8; PLAIN + Ipv4Header::LENGTH],
    ip_length: u16,
    backend: &Backend,
    flow_hash: &u64,
    identification: u16,
) {
    let (Some(template), Some((front, inner))) =
        (backend.header.first_chunk::<PLAIN>(), front.split_first_chunk_mut::<PLAIN>())
    else {
        return;
    };
    let Some((inner, _)) = Ipv4Header::parse_mut(inner) else { return };
    // RFC 2003 section 3.1: decremented once by the encapsulator as it forwards.
    inner.take_hop();
    let dscp_and_ecn = inner.dscp_and_ecn;
    // The length is known: three moves.
    *front = *template;
    let Some((header, _)) = Ipv4Header::parse_mut(&mut front[EthernetHeader::LENGTH..]) else {
        return;
    };
    let total_length = u32::from(ip_length) + Ipv4Header::LENGTH as u32;
    header.dscp_and_ecn = dscp_and_ecn;
    header.total_length = U16::new(total_length as u16);
    header.identification = U16::new(identification);
    let mut sum =
        backend.checksum_base + u32::from(dscp_and_ecn) + total_length + u32::from(identification);
    if VARIED && backend.source_entropy != 0 {
        let entropy = *flow_hash as u32 & backend.source_entropy;
        header.source = (u32::from_be_bytes(header.source) | entropy).to_be_bytes();
        sum += (entropy >> 16) + (entropy & 0xffff);
    }
    header.header_checksum = U16::new(!fold(sum));
}

/// Either version in IPv4.
pub(super) fn over_v4<B: Buffer>(
    packet: &mut B,
    parsed: &Parsed,
    backend: &Backend,
    flow_hash: u64,
    outer: &mut OuterHeaders,
) -> Result<(), DropReason> {
    wrap_v4(packet, parsed, backend, flow_hash, outer, Carrier::Ip, &[]).map(|_| ())
}

/// Either version in IPv6.
pub(super) fn over_v6<B: Buffer>(
    packet: &mut B,
    parsed: &Parsed,
    backend: &Backend,
    flow_hash: u64,
) -> Result<(), DropReason> {
    wrap_v6(packet, parsed, backend, flow_hash, Carrier::Ip, &[]).map(|_| ())
}
