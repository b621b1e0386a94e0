//! The MSS clamp (`mss_clamp` of a VIP): what a client's SYN says it can take is made smaller.
//!
//! Under Direct Server Return the node sees the client's SYN and never the backend's SYN+ACK. So
//! the clamp governs what the **backend** sends, on its direct way to the client; what the client
//! sends, through the node and its tunnel, is governed by the SYN+ACK, and by path MTU discovery.
//!
//! The option is only ever made smaller, and none is put in where the client sent none: a backend
//! then takes 536 bytes (RFC 9293 section 3.7.1), 1220 over IPv6, which is smaller still. Options
//! that do not add up are left as they are; the backend will judge them.

use conntrack::Family;
use zerocopy::byteorder::network_endian::U16;

use crate::buffer::Buffer;
use crate::parse::Parsed;
use crate::tables::{Backend, MssClamp};
use crate::wire::{Ipv4Header, Ipv6Header, TcpHeader, checksum};

/// Option kinds (RFC 9293 section 3.1).
const END_OF_LIST: u8 = 0;
const NO_OPERATION: u8 = 1;
const MAXIMUM_SEGMENT_SIZE: u8 = 2;

/// The largest MSS that `clamp` lets pass for a flow of this family to `backend`: `None`, any.
pub fn limit(clamp: MssClamp, family: Family, backend: &Backend) -> Option<u16> {
    match clamp {
        MssClamp::Off => None,
        MssClamp::To(bytes) => Some(bytes),
        MssClamp::Auto => {
            let ip = match family {
                Family::V4 => Ipv4Header::LENGTH,
                Family::V6 => Ipv6Header::LENGTH,
            };
            Some(backend.inner_mtu.saturating_sub((ip + TcpHeader::LENGTH) as u16))
        }
    }
}

/// Lowers the MSS in a SYN to `limit`, if it is greater. Whether it was.
pub fn clamp<B: Buffer>(packet: &mut B, parsed: &Parsed, limit: u16) -> bool {
    let at = usize::from(parsed.link_length) + usize::from(parsed.header_length);
    let end = usize::from(parsed.link_length) + usize::from(parsed.ip_length);
    let segment = packet.data_mut().get_mut(at..end).unwrap_or_default();
    let Some((header, _)) = TcpHeader::parse(segment) else { return false };
    let length = header.header_length();
    let Some(value_at) = segment
        .get(TcpHeader::LENGTH..length)
        .and_then(find)
        .map(|option| option + TcpHeader::LENGTH)
    else {
        return false;
    };
    let Some(value) = segment.get_mut(value_at..).and_then(|rest| rest.first_chunk_mut::<2>())
    else {
        return false;
    };
    let old = u16::from_be_bytes(*value);
    if old <= limit {
        return false;
    }
    *value = limit.to_be_bytes();
    // RFC 1624. A value that lies across two words is the same sum with its bytes swapped.
    let (old, new) =
        if value_at % 2 == 0 { (old, limit) } else { (old.swap_bytes(), limit.swap_bytes()) };
    if let Some((header, _)) = TcpHeader::parse_mut(segment) {
        header.checksum = U16::new(checksum::update_u16(header.checksum.get(), old, new));
    }
    true
}

/// Where the value of the MSS option is. Takes at least a byte a step of at most 40.
fn find(options: &[u8]) -> Option<usize> {
    let mut at = 0;
    while let Some(kind) = options.get(at) {
        match *kind {
            END_OF_LIST => return None,
            NO_OPERATION => at += 1,
            kind => {
                let length = usize::from(*options.get(at + 1)?);
                if length < 2 {
                    return None;
                }
                if kind == MAXIMUM_SEGMENT_SIZE {
                    return (length == 4 && at + 4 <= options.len()).then_some(at + 2);
                }
                at += length;
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;
    use zerocopy::IntoBytes;

    use super::*;
    use crate::buffer::Frame;
    use crate::parse::parse;
    use crate::tables::PortTable;
    use crate::wire::{IpProtocol, MacAddress};

    const CLIENT: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
    const VIP: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);

    /// A SYN with these options, a multiple of four bytes, and a right checksum.
    fn syn(options: &[u8], payload: &[u8]) -> Vec<u8> {
        let mut tcp = vec![0x9c, 0x40, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0];
        tcp.extend([((20 + options.len()) * 4) as u8, 0x02, 0xff, 0xff, 0, 0, 0, 0]);
        tcp.extend_from_slice(options);
        tcp.extend_from_slice(payload);
        let sum = checksum::pseudo_header_v4(CLIENT, VIP, IpProtocol::TCP, tcp.len() as u16);
        let sum = sum.add_bytes(&tcp).checksum();
        tcp[16..18].copy_from_slice(&sum.to_be_bytes());
        let ip = Ipv4Header::build(CLIENT, VIP, IpProtocol::TCP, (20 + tcp.len()) as u16);
        [&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 9, 8, 0][..], ip.as_bytes(), &tcp].concat()
    }

    fn clamped(bytes: &[u8], limit: u16) -> (bool, Vec<u8>) {
        let mut frame = Frame::new(bytes);
        let port = PortTable {
            mac: MacAddress([2, 0, 0, 0, 0, 1]),
            any_mac: false,
            vlan: None,
            mtu: 1500,
            addresses: Vec::new(),
        };
        let parsed = parse(&frame, &port);
        let changed = clamp(&mut frame, &parsed, limit);
        (changed, frame.data().to_vec())
    }

    fn is_sound(frame: &[u8]) -> bool {
        let tcp = &frame[34..];
        let sum = checksum::pseudo_header_v4(CLIENT, VIP, IpProtocol::TCP, tcp.len() as u16);
        sum.add_bytes(tcp).is_valid()
    }

    #[test]
    fn an_mss_is_lowered_wherever_it_lies_and_never_raised() {
        for options in [
            &[2, 4, 5, 0xb4][..],
            &[1, 2, 4, 5, 0xb4, 1, 1, 1],
            &[3, 3, 7, 2, 4, 5, 0xb4, 0],
            &[1, 1, 2, 4, 5, 0xb4, 4, 2],
        ] {
            let bytes = syn(options, b"x");
            let (changed, after) = clamped(&bytes, 1400);
            assert!(changed && is_sound(&after));
            let mut expected = options.to_vec();
            let at = options.windows(2).position(|pair| pair == [5, 0xb4]).unwrap();
            expected[at..at + 2].copy_from_slice(&1400u16.to_be_bytes());
            assert_eq!(after[54..54 + options.len()], expected);
            for limit in [1460, 1461, u16::MAX] {
                assert_eq!(clamped(&bytes, limit), (false, bytes.clone()));
            }
        }
    }

    #[test]
    fn without_a_sound_option_nothing_is_changed() {
        for options in [
            &[][..],
            &[1, 1, 1, 1],
            &[0, 2, 4, 5, 0xb4, 0, 0, 0],
            &[2, 3, 5, 0xb4],
            &[3, 0, 2, 4, 5, 0xb4, 0, 0],
            &[1, 1, 2, 4],
        ] {
            let bytes = syn(options, &[]);
            assert_eq!(clamped(&bytes, 500), (false, bytes));
        }
    }

    proptest! {
        #[test]
        fn any_options_keep_the_checksum_as_right_as_it_was(
            words in prop::collection::vec(
                prop::array::uniform4(prop_oneof![0u8..6, Just(0xff), any::<u8>()]), 0..=10),
            limit in any::<u16>(),
        ) {
            let bytes = syn(&words.concat(), &[]);
            let (changed, after) = clamped(&bytes, limit);
            prop_assert!(is_sound(&after));
            prop_assert_eq!(changed, after != bytes);
        }
    }
}
