//! Generic UDP Encapsulation (draft-ietf-intarea-gue). Variant 1: the inner IP packet directly
//! behind a UDP header, told by its own version field. Variant 0: a header in between, which may
//! name a second backend to try (see [`crate::second_chance`]).
//!
//! The source port carries the flow's entropy, from the dynamic ports (RFC 6335 section 6), so that
//! whatever hashes ports spreads tunnelled packets like the flows inside. Over IPv4 the UDP
//! checksum is 0, as the inner packet has its own; over IPv6 it is computed or 0 (RFC 6935 and
//! RFC 6936), as the tables say.

use std::net::IpAddr;

use conntrack::Family;
use zerocopy::IntoBytes;
use zerocopy::byteorder::network_endian::U16;

use super::OuterHeaders;
use super::outer::{Carrier, wrap_v4, wrap_v6};
use crate::buffer::Buffer;
use crate::parse::Parsed;
use crate::tables::{Backend, Encapsulation};
use crate::verdict::DropReason;
use crate::wire::{GueHeader, IpProtocol, Ipv6Header, SecondChanceData, UdpHeader, checksum};

/// The first of the 2^14 source ports.
const FIRST_PORT: u16 = 49_152;

pub(super) fn over_v4<B: Buffer>(
    packet: &mut B,
    parsed: &Parsed,
    backend: &Backend,
    flow_hash: u64,
    outer: &mut OuterHeaders,
) -> Result<(), DropReason> {
    let mut wrapped = wrap_v4(packet, parsed, backend, flow_hash, outer, Carrier::Shim, &[])?;
    fill_in_all(wrapped.payload(), flow_hash)
}

pub(super) fn over_v6<B: Buffer>(
    packet: &mut B,
    parsed: &Parsed,
    backend: &Backend,
    flow_hash: u64,
) -> Result<(), DropReason> {
    let mut wrapped = wrap_v6(packet, parsed, backend, flow_hash, Carrier::Shim, &[])?;
    fill_in_all(wrapped.payload(), flow_hash)?;
    if backend.udp_checksum {
        fill_in_checksum(wrapped.packet)?;
    }
    Ok(())
}

/// As [`over_v4`], with a GUE header that names `hop` where it has private data.
pub(super) fn with_header_over_v4<B: Buffer>(
    packet: &mut B,
    parsed: &Parsed,
    backend: &Backend,
    flow_hash: u64,
    outer: &mut OuterHeaders,
    hop: &Hop,
) -> Result<(), DropReason> {
    let tail = hop.octets();
    let mut wrapped = wrap_v4(packet, parsed, backend, flow_hash, outer, Carrier::Shim, tail)?;
    fill_in_all(wrapped.payload(), flow_hash)?;
    hop.name(wrapped.payload(), parsed)
}

/// As [`over_v6`], with a GUE header that names `hop` where it has private data.
pub(super) fn with_header_over_v6<B: Buffer>(
    packet: &mut B,
    parsed: &Parsed,
    backend: &Backend,
    flow_hash: u64,
    hop: &Hop,
) -> Result<(), DropReason> {
    let mut wrapped = wrap_v6(packet, parsed, backend, flow_hash, Carrier::Shim, hop.octets())?;
    fill_in_all(wrapped.payload(), flow_hash)?;
    hop.name(wrapped.payload(), parsed)?;
    if backend.udp_checksum {
        fill_in_checksum(wrapped.packet)?;
    }
    Ok(())
}

/// Who is named in a GUE header.
pub(super) struct Hop {
    address: [u8; 16],
    length: u8,
}

impl Hop {
    /// `second`, asked only where packets to `backend` have a place to name somebody.
    pub(super) fn of(backend: &Backend, second: impl FnOnce() -> Option<IpAddr>) -> Self {
        let mut hop = Self { address: [0; 16], length: 0 };
        let address = if has_private_data(backend) { second() } else { None };
        match address {
            Some(IpAddr::V4(address)) => {
                for (to, from) in hop.address.iter_mut().zip(address.octets()) {
                    *to = from;
                }
                hop.length = 4;
            }
            Some(IpAddr::V6(address)) => {
                hop.address = address.octets();
                hop.length = 16;
            }
            None => {}
        }
        hop
    }

    fn octets(&self) -> &[u8] {
        self.address.get(..usize::from(self.length)).unwrap_or_default()
    }

    /// What the GUE header in `datagram` says of the packet inside, and of this hop behind it.
    fn name(&self, datagram: &mut [u8], parsed: &Parsed) -> Result<(), DropReason> {
        let (_, payload) = UdpHeader::parse_mut(datagram).ok_or(DropReason::NoHeadroom)?;
        let (gue, private) = GueHeader::parse_mut(payload).ok_or(DropReason::NoHeadroom)?;
        if parsed.key.family() == Family::V6 {
            gue.protocol = IpProtocol::IPV6;
        }
        if self.length != 0 {
            gue.version_control_hlen += self.length / 4;
            let (data, _) = SecondChanceData::parse_mut(private).ok_or(DropReason::NoHeadroom)?;
            data.hop_count = 1;
            if self.length == 16 {
                data.kind = SecondChanceData::IPV6_HOPS;
            }
        }
        Ok(())
    }
}

/// Packets to `backend` have a GUE header that is longer than its first word.
fn has_private_data(backend: &Backend) -> bool {
    let start = backend.header_length.saturating_sub(backend.link_length);
    let ip = if backend.encapsulation == Encapsulation::GueWithHeader6 { 40 } else { 20 };
    usize::from(start) > ip + UdpHeader::LENGTH + GueHeader::LENGTH
}

/// Source port and length of what begins with `datagram`; the destination port was copied, the
/// checksum is 0.
#[inline(always)]
pub(super) fn fill_in(datagram: &mut [u8], length: u16, flow_hash: u64) -> Result<(), DropReason> {
    let (udp, _) = UdpHeader::parse_mut(datagram).ok_or(DropReason::NoHeadroom)?;
    udp.source_port = U16::new(FIRST_PORT | (flow_hash >> 48) as u16 & 0x3fff);
    udp.length = U16::new(length);
    Ok(())
}

/// As [`fill_in`], of all there is.
fn fill_in_all(datagram: &mut [u8], flow_hash: u64) -> Result<(), DropReason> {
    let length = datagram.len() as u16;
    fill_in(datagram, length, flow_hash)
}

/// RFC 8200 section 8.1, over all of the packet inside: that its own checksums are right is not
/// known here, so they cannot stand in for the bytes they cover.
pub(super) fn fill_in_checksum(packet: &mut [u8]) -> Result<(), DropReason> {
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
