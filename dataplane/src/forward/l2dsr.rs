//! Layer-2 direct routing: the frame goes to the backend's MAC address, the IP packet is left as
//! it is. The backend is on-link and has the VIP on its loopback.

use conntrack::Family;

use crate::buffer::Buffer;
use crate::parse::Parsed;
use crate::tables::Backend;
use crate::verdict::DropReason;
use crate::wire::{EtherType, Ipv4Header, Ipv6Header};

#[inline(always)]
pub(super) fn rewrite<B: Buffer>(
    packet: &mut B,
    parsed: &Parsed,
    backend: &Backend,
) -> Result<(), DropReason> {
    // The packet is left as it is, and so is its time to live; but one that has none left has
    // already reached its end (RFC 791 section 3.2, RFC 8200 section 3).
    let ip = packet.data().get(usize::from(parsed.link_length)..).unwrap_or_default();
    let family = parsed.key.family();
    let hops = match family {
        Family::V4 => Ipv4Header::parse(ip).map(|(ip, _)| ip.time_to_live),
        Family::V6 => Ipv6Header::parse(ip).map(|(ip, _)| ip.hop_limit),
    };
    if hops.is_none_or(|hops| hops == 0) {
        return Err(DropReason::TtlExpired);
    }
    let header = backend.header();
    if !packet.replace_front(usize::from(parsed.link_length), header.len()) {
        return Err(DropReason::NoHeadroom);
    }
    let front = packet.data_mut().get_mut(..header.len()).ok_or(DropReason::NoHeadroom)?;
    front.copy_from_slice(header);
    // The header says IPv4, whichever address the backend has.
    if family == Family::V6
        && let Some(ethertype) = front.last_chunk_mut()
    {
        *ethertype = EtherType::IPV6.number().to_be_bytes();
    }
    Ok(())
}
