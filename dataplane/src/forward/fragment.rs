//! Fragments of an outer packet that is too long for its link (RFC 791 section 3.2, RFC 8200
//! section 4.5): the tunnel's far end puts them together before it takes the inner packet out.
//!
//! ```text
//!  | link | outer IP | GRE, UDP or nothing | inner packet                       |
//!  | link | outer IP, more | [fragment] first part |  | link | outer IP | [fragment] last part |
//! ```
//!
//! The outer packet and not the inner one is cut (RFC 2003 section 5.1, RFC 2473 section 7.2): so
//! the backend's stack gets the client's packet as it was sent. The outer header is the node's own
//! and has no options, so it is the same in all fragments but for length, offset and checksum. DF
//! is off in them: a fragment that a router could not cut further would be lost.

use zerocopy::IntoBytes;
use zerocopy::byteorder::network_endian::{U16, U32};

use crate::verdict::DropReason;
use crate::wire::ipv6_extensions::FragmentHeader;
use crate::wire::{IpProtocol, Ipv4Header, Ipv6Header};

/// Most fragments of one packet: the longest frame (9216 bytes) over the shortest link (576).
pub const MAX_FRAGMENTS: usize = 20;

/// "More fragments" in an IPv4 header.
const MORE_V4: u16 = 0x2000;

/// Cuts `packet`, which begins with `link_length` bytes of link header and the node's own outer IP
/// header, into IP packets of at most `mtu` bytes. `piece` is given each one's headers and payload,
/// in order. `identification` is that of an IPv6 packet; an IPv4 header has its own.
///
/// # Errors
/// [`DropReason::TooBig`] when [`MAX_FRAGMENTS`] are not enough, and what `piece` returns.
pub fn split<'p>(
    packet: &'p [u8],
    link_length: usize,
    mtu: usize,
    identification: u32,
    mut piece: impl FnMut(&[u8], &'p [u8]) -> Result<(), DropReason>,
) -> Result<(), DropReason> {
    let (link, ip) = packet.split_at_checked(link_length).ok_or(DropReason::TooBig)?;
    let (outer, payload, header_length) = match ip.first().map(|byte| byte >> 4) {
        Some(4) => {
            let (header, payload) = Ipv4Header::parse(ip).ok_or(DropReason::TooBig)?;
            (Outer::V4(*header), payload, Ipv4Header::LENGTH)
        }
        _ => {
            let (header, payload) = Ipv6Header::parse(ip).ok_or(DropReason::TooBig)?;
            let length = Ipv6Header::LENGTH + FragmentHeader::LENGTH;
            (Outer::V6(*header), payload, length)
        }
    };
    // Offsets count units of eight bytes, so all parts but the last are whole units.
    let room = mtu.saturating_sub(header_length) & !7;
    if room == 0 || payload.len().div_ceil(room) > MAX_FRAGMENTS {
        return Err(DropReason::TooBig);
    }
    let mut front = [0; LONGEST_FRONT];
    let parts = payload.chunks(room);
    let last = parts.len().saturating_sub(1);
    for (number, part) in parts.enumerate() {
        let offset = number * room / 8;
        let length =
            outer.write(&mut front, link, part.len(), offset, number < last, identification);
        piece(front.get(..length).ok_or(DropReason::TooBig)?, part)?;
    }
    Ok(())
}

/// Ethernet and two tags, an IPv6 header, a fragment header.
const LONGEST_FRONT: usize = 22 + Ipv6Header::LENGTH + FragmentHeader::LENGTH;

/// The outer header as it was before the cut.
enum Outer {
    V4(Ipv4Header),
    V6(Ipv6Header),
}

impl Outer {
    /// Writes the headers of one fragment: how many bytes they are.
    fn write(
        &self,
        front: &mut [u8; LONGEST_FRONT],
        link: &[u8],
        length: usize,
        offset: usize,
        more: bool,
        identification: u32,
    ) -> usize {
        let mut at = 0;
        let mut put = |bytes: &[u8]| {
            if let Some(place) = front.get_mut(at..at + bytes.len()) {
                place.copy_from_slice(bytes);
            }
            at += bytes.len();
        };
        put(link);
        match self {
            Self::V4(header) => {
                let mut header = *header;
                let flags = if more { MORE_V4 } else { 0 };
                header.flags_and_fragment_offset = U16::new(flags | offset as u16);
                header.total_length = U16::new((Ipv4Header::LENGTH + length) as u16);
                header.fill_checksum();
                put(header.as_bytes());
            }
            Self::V6(header) => {
                let fragment = FragmentHeader {
                    next_header: header.next_header,
                    reserved: 0,
                    offset_and_more: U16::new((offset as u16) << 3 | u16::from(more)),
                    identification: U32::new(identification),
                };
                let mut header = *header;
                header.next_header = IpProtocol::IPV6_FRAGMENT;
                header.payload_length = U16::new((FragmentHeader::LENGTH + length) as u16);
                put(header.as_bytes());
                put(fragment.as_bytes());
            }
        }
        at
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use etherparse::defrag::IpDefragPool;
    use etherparse::{NetSlice, SlicedPacket};

    use super::*;
    use crate::wire::checksum;

    fn outer(v6: bool, payload: usize) -> (Vec<u8>, Vec<u8>) {
        let bytes: Vec<u8> = (0..payload).map(|at| (at * 7 % 251) as u8).collect();
        let mut packet = vec![2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 1];
        if v6 {
            packet.extend([0x86, 0xdd]);
            let (from, to) = (Ipv6Addr::LOCALHOST, Ipv6Addr::LOCALHOST);
            let header = Ipv6Header::build(from, to, IpProtocol::IPV4, payload as u16);
            packet.extend_from_slice(header.as_bytes());
        } else {
            packet.extend([8, 0]);
            let (from, to) = (Ipv4Addr::new(192, 0, 2, 2), Ipv4Addr::new(10, 0, 0, 1));
            let mut header = Ipv4Header::build(from, to, IpProtocol::IPV4, (20 + payload) as u16);
            header.identification = U16::new(0x1234);
            header.fill_checksum();
            packet.extend_from_slice(header.as_bytes());
        }
        packet.extend_from_slice(&bytes);
        (packet, bytes)
    }

    fn fragments(packet: &[u8], mtu: usize) -> Result<Vec<Vec<u8>>, DropReason> {
        let mut all = Vec::new();
        split(packet, 14, mtu, 0xabcd_0001, |front, part| {
            all.push([front, part].concat());
            Ok(())
        })?;
        Ok(all)
    }

    /// Put together again by a program that is not ours, whatever the lengths.
    #[test]
    fn the_fragments_are_the_packet() {
        for v6 in [false, true] {
            for (payload, mtu) in
                [(1500, 1500), (1480, 1500), (1481, 1500), (1492, 1280), (9000, 1500), (600, 576)]
            {
                let (packet, bytes) = outer(v6, payload);
                let all = fragments(&packet, mtu).unwrap();
                let mut pool = IpDefragPool::<(), ()>::new();
                let mut whole = None;
                for fragment in &all {
                    assert_eq!(fragment[..14], packet[..14]);
                    assert!(fragment.len() - 14 <= mtu);
                    let sliced = SlicedPacket::from_ethernet(fragment).unwrap();
                    if let Some(NetSlice::Ipv4(ip)) = &sliced.net {
                        assert!(checksum::verify(ip.header().slice()));
                        assert!(!ip.header().dont_fragment());
                    }
                    whole = pool.process_sliced_packet(&sliced, (), ()).unwrap();
                }
                let least = if v6 { 48 } else { 20 };
                assert_eq!(all.len(), payload.div_ceil((mtu - least) & !7));
                match whole {
                    Some(whole) => assert_eq!(whole.payload, bytes),
                    None => assert_eq!(all.len(), 1, "one that fits is not told apart"),
                }
            }
        }
    }

    #[test]
    fn too_many_fragments_are_refused() {
        let (packet, _) = outer(false, 20 * 552 + 1);
        assert_eq!(fragments(&packet, 576), Err(DropReason::TooBig));
        assert_eq!(fragments(&packet, 20), Err(DropReason::TooBig));
        assert_eq!(fragments(&packet[..20], 576), Err(DropReason::TooBig));
    }
}
