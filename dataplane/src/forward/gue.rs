//! Generic UDP Encapsulation, variant 1: the inner IP packet directly behind a UDP header, told by
//! its own version field (draft-ietf-intarea-gue, section 3.2).
//!
//! The source port carries the flow's entropy, from the dynamic ports (RFC 6335 section 6), so that
//! whatever hashes ports spreads tunnelled packets like the flows inside. Over IPv4 the UDP
//! checksum is 0, as the inner packet has its own; over IPv6 it is computed or 0 (RFC 6935 and
//! RFC 6936), as the tables say.

use zerocopy::IntoBytes;
use zerocopy::byteorder::network_endian::U16;

use super::OuterHeaders;
use super::outer::{Carrier, wrap_v4, wrap_v6};
use crate::buffer::Buffer;
use crate::parse::Parsed;
use crate::tables::Backend;
use crate::verdict::DropReason;
use crate::wire::{IpProtocol, Ipv6Header, UdpHeader, checksum};

/// The first of the 2^14 source ports.
const FIRST_PORT: u16 = 49_152;

pub(super) fn over_v4<B: Buffer>(
    packet: &mut B,
    parsed: &Parsed,
    backend: &Backend,
    flow_hash: u64,
    outer: &mut OuterHeaders,
) -> Result<(), DropReason> {
    let mut wrapped = wrap_v4(packet, parsed, backend, flow_hash, outer, Carrier::Shim)?;
    fill_in(wrapped.payload(), flow_hash)
}

pub(super) fn over_v6<B: Buffer>(
    packet: &mut B,
    parsed: &Parsed,
    backend: &Backend,
    flow_hash: u64,
) -> Result<(), DropReason> {
    let mut wrapped = wrap_v6(packet, parsed, backend, flow_hash, Carrier::Shim)?;
    fill_in(wrapped.payload(), flow_hash)?;
    if backend.udp_checksum {
        fill_in_checksum(wrapped.packet)?;
    }
    Ok(())
}

/// Source port and length; the destination port was copied, the checksum is 0.
fn fill_in(datagram: &mut [u8], flow_hash: u64) -> Result<(), DropReason> {
    let length = datagram.len() as u16;
    let (udp, _) = UdpHeader::parse_mut(datagram).ok_or(DropReason::NoHeadroom)?;
    udp.source_port = U16::new(FIRST_PORT | (flow_hash >> 48) as u16 & 0x3fff);
    udp.length = U16::new(length);
    Ok(())
}

/// RFC 8200 section 8.1, over all of the packet inside: that its own checksums are right is not
/// known here, so they cannot stand in for the bytes they cover.
fn fill_in_checksum(packet: &mut [u8]) -> Result<(), DropReason> {
    let (ip, datagram) = Ipv6Header::parse_mut(packet).ok_or(DropReason::NoHeadroom)?;
    let (source, destination) = (ip.source_address(), ip.destination_address());
    let length = datagram.len() as u32;
    let (udp, inner) = UdpHeader::parse_mut(datagram).ok_or(DropReason::NoHeadroom)?;
    let sum = checksum::pseudo_header_v6(source, destination, IpProtocol::UDP, length)
        .add_bytes(udp.as_bytes())
        .add_bytes(inner)
        .checksum();
    udp.set_computed_checksum(sum);
    Ok(())
}
