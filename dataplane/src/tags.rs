//! Tags of a frame that are replaced by others: of an answer, which has those of its question, and
//! on the way between a port and the kernel, which sees none of the port's own.
//!
//! Packets that are forwarded need none of this: their whole link header is their backend's.

use crate::buffer::Buffer;
use crate::tables::LinkHeader;
use crate::wire::{EtherType, LinkTags};

/// Bytes of the two addresses at the front of a frame.
const STATIONS: usize = 12;

/// Puts `tags` in place of those in a frame whose link header is `link_length` bytes long. `false`,
/// with the frame unchanged, when there is no room, or it has no link header of that length.
#[must_use]
pub(crate) fn replace<B: Buffer>(
    packet: &mut B,
    link_length: usize,
    tags: Option<LinkTags>,
) -> bool {
    let mut header = LinkHeader::new();
    let Some(link) = packet.data().get(..link_length) else { return false };
    // The ethertype of what is inside is the last of it.
    let Some((stations, [.., high, low])) = link.split_first_chunk::<STATIONS>() else {
        return false;
    };
    let tail = LinkTags::write(tags, EtherType::new(u16::from_be_bytes([*high, *low])));
    let has_room = header.try_extend_from_slice(stations).is_ok()
        && header.try_extend_from_slice(&tail).is_ok();
    if !has_room || !packet.replace_front(link_length, header.len()) {
        return false;
    }
    if let Some(front) = packet.data_mut().get_mut(..header.len()) {
        front.copy_from_slice(&header);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::Frame;

    const STATION_BYTES: [u8; 12] = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 9];

    fn frame(tags: &[u8]) -> Vec<u8> {
        [&STATION_BYTES[..], tags, &[8, 6, 1, 2, 3, 4]].concat()
    }

    #[test]
    fn tags_put_in_and_taken_out_leave_the_frame_as_it_was() {
        let single = Some(LinkTags::single(100));
        let double = Some(LinkTags { vlan: 100, outer: Some((EtherType::QINQ, 200)) });
        let (one, two) = (&[0x81, 0, 0, 100][..], &[0x88, 0xa8, 0, 200, 0x81, 0, 0, 100][..]);
        let mut packet = Frame::new(&frame(&[]));
        for (before, tags, after) in [
            (14, single, one),
            (18, double, two),
            (22, single, one),
            (18, None, &[]),
            (14, double, two),
            (22, None, &[]),
            (14, None, &[]),
        ] {
            assert!(replace(&mut packet, before, tags));
            assert_eq!(packet.data(), frame(after));
        }
    }

    #[test]
    fn a_frame_too_short_is_left_alone() {
        let mut packet = Frame::new(&STATION_BYTES);
        for length in [12, 13, 14, 18] {
            assert!(!replace(&mut packet, length, None), "{length}");
        }
        assert_eq!(packet.data(), STATION_BYTES);
    }
}
