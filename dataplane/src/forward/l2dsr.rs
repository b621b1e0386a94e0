//! Layer-2 direct routing: the frame goes to the backend's MAC address, the IP packet is left as
//! it is. The backend is on-link and has the VIP on its loopback.

use crate::buffer::Buffer;
use crate::parse::Parsed;
use crate::tables::Backend;
use crate::verdict::DropReason;

#[inline(always)]
pub(super) fn rewrite<B: Buffer>(
    packet: &mut B,
    parsed: &Parsed,
    backend: &Backend,
) -> Result<(), DropReason> {
    let header = backend.header();
    if !packet.replace_front(usize::from(parsed.link_length), header.len()) {
        return Err(DropReason::NoHeadroom);
    }
    let front = packet.data_mut().get_mut(..header.len()).ok_or(DropReason::NoHeadroom)?;
    front.copy_from_slice(header);
    Ok(())
}
