//! IPv6 in IPv6 (RFC 2473) between links without tags: what most packets over IPv6 get.
//!
//! Writes the same bytes as the ways for all tunnels, `untagged.rs` and `outer.rs`: the backend's
//! header, a few moves of a length that is known when this is compiled, and over it what is the
//! packet's own, which are the fields marked here.
//!
//! ```text
//!  0      14        *         18      *        20     *      21          22    *   38            54
//!  | link | version ... label | payload length | next header | hop limit | source | destination |
//! ```

use zerocopy::byteorder::network_endian::{U16, U32};

use crate::buffer::Buffer;
use crate::tables::{Backend, PLAIN_V6};
use crate::wire::{EthernetHeader, IpProtocol, Ipv6Header};

/// Version and traffic class, of the word that the flow label has the rest of.
const VERSION_AND_CLASS: u32 = 0xfff0_0000;

/// As [`rewrite`](super::rewrite), of a packet over IPv6 that came without tags and in one segment,
/// fits the link, and has a hop left to take, where the backend's header is [`PLAIN_V6`]. `false`, and
/// the packet is as it came, where there is no room for the header. `VARIED`: bits of the outer source
/// may be the flow's.
#[inline(always)]
pub(crate) fn put_plain_v6<const VARIED: bool, B: Buffer>(
    packet: &mut B,
    ip_length: u16,
    backend: &Backend,
    flow_hash: u64,
) -> bool {
    // Ethernet pads short packets; the padding is not the client's.
    let end = EthernetHeader::LENGTH + usize::from(ip_length);
    packet.reframe_front(EthernetHeader::LENGTH, end, PLAIN_V6, |front| {
        put_front::<VARIED>(front, ip_length, backend, flow_hash);
    })
}

/// Fills in what stands in front of an IPv6 header, which follows.
#[inline(always)]
fn put_front<const VARIED: bool>(
    front: &mut [u8; PLAIN_V6 + Ipv6Header::LENGTH],
    ip_length: u16,
    backend: &Backend,
    flow_hash: u64,
) {
    let (Some(template), Some((front, inner))) =
        (backend.header.first_chunk::<PLAIN_V6>(), front.split_first_chunk_mut::<PLAIN_V6>())
    else {
        return;
    };
    let Some((inner, _)) = Ipv6Header::parse_mut(inner) else { return };
    // RFC 2473 section 3.1: decremented once by the encapsulator as it forwards.
    inner.hop_limit = inner.hop_limit.wrapping_sub(1);
    // RFC 6040 section 4.1: DSCP and ECN are copied; the inner version is the outer one's, too.
    let class = inner.version_traffic_class_flow_label.get() & VERSION_AND_CLASS;
    // RFC 6438: what routers spread tunnelled packets by.
    let label = (flow_hash >> 32) as u32 & !VERSION_AND_CLASS;
    // The length is known: four moves.
    *front = *template;
    let Some((header, _)) = Ipv6Header::parse_mut(&mut front[EthernetHeader::LENGTH..]) else {
        return;
    };
    header.version_traffic_class_flow_label = U32::new(class | label);
    header.payload_length = U16::new(ip_length);
    header.next_header = IpProtocol::IPV6;
    if VARIED && backend.source_entropy != 0 {
        let entropy = flow_hash as u32 & backend.source_entropy;
        let source = u128::from_be_bytes(header.source) | u128::from(entropy);
        header.source = source.to_be_bytes();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::buffer::{FRAME_HEADROOM, Frame};
    use crate::forward::untagged::tests::{backend, packet};
    use crate::forward::{OuterHeaders, rewrite_other};
    use crate::tables::Encapsulation;

    #[test]
    fn a_packet_without_room_in_front_stays_as_it_came() {
        let record = backend(Encapsulation::Ipip6, 0, [7; 32], false);
        let (bytes, parsed) = packet(true, 9, 3, 20, 5);
        for (room, fits) in [(39, false), (40, true)] {
            let mut frame = Frame::new(&bytes);
            // Grown to the front as far as it goes, and cut to its length again.
            assert!(frame.replace_front(0, FRAME_HEADROOM - room));
            frame.data_mut()[..bytes.len()].copy_from_slice(&bytes);
            frame.truncate(bytes.len());
            assert_eq!(
                put_plain_v6::<true, _>(&mut frame, parsed.ip_length, &record, 1),
                fits,
                "{room}"
            );
            assert_eq!(frame.data() != bytes, fits, "{room}");
        }
    }

    #[test]
    fn a_packet_that_is_not_all_there_stays_as_it_came() {
        let record = backend(Encapsulation::Ipip6, 0, [7; 32], false);
        let (bytes, _) = packet(true, 9, 3, 20, 0);
        for (length, ip_length) in [(53, 60), (73, 60), (74, 39)] {
            let mut frame = Frame::new(&bytes[..length]);
            assert!(!put_plain_v6::<true, _>(&mut frame, ip_length, &record, 1));
            assert_eq!(frame.data(), &bytes[..length]);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: if cfg!(miri) { 30 } else { 5_000 },
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        #[test]
        fn the_short_way_leads_where_the_long_way_does(
            (hops, class) in (2u8.., any::<u8>()),
            (behind, padding) in (0u16..100, 0usize..8),
            flow_hash in any::<u64>(),
            entropy in prop::sample::select(&[0, 0xffff, u32::MAX][..]),
            noise in any::<[u8; 32]>(),
        ) {
            let record = backend(Encapsulation::Ipip6, entropy, noise, false);
            let (bytes, parsed) = packet(true, hops, class, behind, padding);
            let (mut short, mut long) = (Frame::new(&bytes), Frame::new(&bytes));
            let mut outer = OuterHeaders::new(0, 1);
            let length = parsed.ip_length;
            let done = match entropy {
                0 => put_plain_v6::<false, _>(&mut short, length, &record, flow_hash),
                _ => put_plain_v6::<true, _>(&mut short, length, &record, flow_hash),
            };
            prop_assert!(done);
            let theirs =
                rewrite_other(&mut long, &parsed, &record, flow_hash, &mut outer, || None);
            prop_assert_eq!(theirs, Ok(()));
            prop_assert_eq!(short.data(), long.data());
        }
    }
}
