//! Layer-2 direct routing: the frame goes to the backend's MAC address, the IP packet is left as
//! it is. The backend is on-link and has the VIP on its loopback.

use crate::buffer::Buffer;
use crate::parse::Parsed;
use crate::tables::Backend;
use crate::verdict::DropReason;
use crate::wire::Ipv4Header;

#[inline(always)]
pub(super) fn rewrite<B: Buffer>(
    packet: &mut B,
    parsed: &Parsed,
    backend: &Backend,
) -> Result<(), DropReason> {
    // The packet is left as it is, and so is its time to live; but one that has none left has
    // already reached its end (RFC 791 section 3.2).
    let ip = packet.data().get(usize::from(parsed.link_length)..).unwrap_or_default();
    if Ipv4Header::parse(ip).is_none_or(|(ip, _)| ip.time_to_live == 0) {
        return Err(DropReason::TtlExpired);
    }
    let header = backend.header();
    if !packet.replace_front(usize::from(parsed.link_length), header.len()) {
        return Err(DropReason::NoHeadroom);
    }
    let front = packet.data_mut().get_mut(..header.len()).ok_or(DropReason::NoHeadroom)?;
    front.copy_from_slice(header);
    Ok(())
}
