//! Generic Routing Encapsulation (RFC 2784, over IPv6 RFC 7676), its shortest form: four bytes
//! between the outer IP header and the packet inside, whose version they tell.

use conntrack::Family;

use super::OuterHeaders;
use super::outer::{Carrier, wrap_v4, wrap_v6};
use crate::buffer::Buffer;
use crate::parse::Parsed;
use crate::tables::Backend;
use crate::verdict::DropReason;
use crate::wire::{EtherType, GreHeader};

pub(super) fn over_v4<B: Buffer>(
    packet: &mut B,
    parsed: &Parsed,
    backend: &Backend,
    flow_hash: u64,
    outer: &mut OuterHeaders,
) -> Result<(), DropReason> {
    let mut wrapped = wrap_v4(packet, parsed, backend, flow_hash, outer, Carrier::Shim, &[])?;
    name(wrapped.payload(), parsed)
}

pub(super) fn over_v6<B: Buffer>(
    packet: &mut B,
    parsed: &Parsed,
    backend: &Backend,
    flow_hash: u64,
) -> Result<(), DropReason> {
    let mut wrapped = wrap_v6(packet, parsed, backend, flow_hash, Carrier::Shim, &[])?;
    name(wrapped.payload(), parsed)
}

/// The header that was copied says IPv4.
#[inline(always)]
pub(super) fn name(payload: &mut [u8], parsed: &Parsed) -> Result<(), DropReason> {
    let (gre, _) = GreHeader::parse_mut(payload).ok_or(DropReason::NoHeadroom)?;
    if parsed.key.family() == Family::V6 {
        gre.protocol_type = EtherType::IPV6;
    }
    Ok(())
}
