//! IP in IP: IPv4 in IPv4 (RFC 2003), IPv6 in IPv4 (RFC 4213), either in IPv6 (RFC 2473). An outer
//! header in front of the untouched packet, nothing in between.
//!
//! IPv4 in IPv4 is what most packets get, and has a way of its own: [`v4_in_v4`] writes the same
//! bytes as [`over_v4`], with fewer questions.

use zerocopy::byteorder::network_endian::U16;

use super::OuterHeaders;
use super::outer::{Carrier, fold, wrap_v4, wrap_v6};
use crate::buffer::Buffer;
use crate::parse::Parsed;
use crate::tables::Backend;
use crate::verdict::DropReason;
use crate::wire::Ipv4Header;

#[inline(always)]
pub(super) fn v4_in_v4<B: Buffer>(
    packet: &mut B,
    parsed: &Parsed,
    backend: &Backend,
    flow_hash: u64,
    outer: &mut OuterHeaders,
) -> Result<(), DropReason> {
    let link_length = usize::from(parsed.link_length);
    let inner = packet.data_mut().get_mut(link_length..).unwrap_or_default();
    let (inner, _) = Ipv4Header::parse_mut(inner).ok_or(DropReason::BadIpLength)?;
    // RFC 2003 section 3.1: decremented once by the encapsulator as it forwards.
    if !inner.decrement_time_to_live() {
        return Err(DropReason::TtlExpired);
    }
    let dscp_and_ecn = inner.dscp_and_ecn;
    let length = usize::from(backend.header_length);
    if !packet.replace_front(link_length, length) {
        return Err(DropReason::NoHeadroom);
    }
    let front = packet.data_mut();
    // Without a tag the length is known, and the copy is three moves.
    match (front.first_chunk_mut::<UNTAGGED>(), backend.header.first_chunk::<UNTAGGED>()) {
        (Some(front), Some(header)) if length == UNTAGGED => *front = *header,
        _ => {
            front.get_mut(..length).ok_or(DropReason::NoHeadroom)?.copy_from_slice(backend.header())
        }
    }
    let front = front.get_mut(usize::from(backend.link_length)..).unwrap_or_default();
    let (header, _) = Ipv4Header::parse_mut(front).ok_or(DropReason::NoHeadroom)?;

    let entropy = flow_hash as u32 & backend.source_entropy;
    let identification = outer.identification();
    let total_length = parsed.ip_length + Ipv4Header::LENGTH as u16;
    header.dscp_and_ecn = dscp_and_ecn;
    header.total_length = U16::new(total_length);
    header.identification = U16::new(identification);
    if entropy != 0 {
        header.source = (u32::from_be_bytes(header.source) | entropy).to_be_bytes();
    }
    let sum = backend.checksum_base
        + u32::from(dscp_and_ecn)
        + u32::from(total_length)
        + u32::from(identification)
        + (entropy >> 16)
        + (entropy & 0xffff);
    header.header_checksum = U16::new(!fold(sum));
    Ok(())
}

/// Ethernet and IPv4 header.
const UNTAGGED: usize = 14 + Ipv4Header::LENGTH;

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
