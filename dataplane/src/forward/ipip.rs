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
    // Ethernet pads short packets; the padding is not the client's.
    let end = EthernetHeader::LENGTH + usize::from(ip_length);
    if !packet.reframe(EthernetHeader::LENGTH, end, PLAIN) {
        return Err(DropReason::NoHeadroom);
    }
    let front: &mut [u8; PLAIN + Ipv4Header::LENGTH] =
        packet.data_mut().first_chunk_mut().ok_or(DropReason::BadIpLength)?;
    let (front, inner) = front.split_at_mut(PLAIN);
    let (inner, _) = Ipv4Header::parse_mut(inner).ok_or(DropReason::BadIpLength)?;
    // RFC 2003 section 3.1: decremented once by the encapsulator as it forwards.
    inner.take_hop();
    let dscp_and_ecn = inner.dscp_and_ecn;
    // The length is known: three moves.
    front.copy_from_slice(backend.header.first_chunk::<PLAIN>().ok_or(DropReason::NoHeadroom)?);
    let (header, _) = Ipv4Header::parse_mut(&mut front[EthernetHeader::LENGTH..])
        .ok_or(DropReason::NoHeadroom)?;
    let identification = outer.identification();
    let total_length = ip_length + Ipv4Header::LENGTH as u16;
    header.dscp_and_ecn = dscp_and_ecn;
    header.total_length = U16::new(total_length);
    header.identification = U16::new(identification);
    let mut sum = backend.checksum_base
        + u32::from(dscp_and_ecn)
        + u32::from(total_length)
        + u32::from(identification);
    if backend.source_entropy != 0 {
        let entropy = *flow_hash as u32 & backend.source_entropy;
        header.source = (u32::from_be_bytes(header.source) | entropy).to_be_bytes();
        sum += (entropy >> 16) + (entropy & 0xffff);
    }
    header.header_checksum = U16::new(!fold(sum));
    Ok(())
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
