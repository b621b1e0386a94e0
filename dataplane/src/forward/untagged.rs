//! The short way of all tunnels, between links without tags: how long each header is, is known when
//! this is compiled, so that it is a few moves from the backend's record and a few stores on top.
//!
//! Writes the same bytes as the general way, `outer.rs` and the modes' own files, which are for all
//! else: tagged links, and GUE headers of variant 0. IPv4 in IPv4, which is most of the traffic, has
//! a way that is shorter still, in `ipip.rs`.

use conntrack::Family;
use zerocopy::byteorder::network_endian::{U16, U32};

use super::outer::{fold, take_hop};
use super::{OuterHeaders, gre, gue};
use crate::buffer::Buffer;
use crate::parse::Parsed;
use crate::tables::{Backend, Encapsulation};
use crate::verdict::DropReason;
use crate::wire::{EthernetHeader, GreHeader, IpProtocol, Ipv4Header, Ipv6Header, UdpHeader};

/// Link header and outer IP header.
const V4: usize = EthernetHeader::LENGTH + Ipv4Header::LENGTH;
const V6: usize = EthernetHeader::LENGTH + Ipv6Header::LENGTH;
const GRE4: usize = V4 + GreHeader::LENGTH;
const GRE6: usize = V6 + GreHeader::LENGTH;
const GUE4: usize = V4 + UdpHeader::LENGTH;
const GUE6: usize = V6 + UdpHeader::LENGTH;

/// As [`rewrite`](super::rewrite), which asks for the length before; `None`, and nothing is changed,
/// where this is not the way.
#[inline(always)]
pub(crate) fn rewrite<B: Buffer>(
    packet: &mut B,
    parsed: &Parsed,
    backend: &Backend,
    flow_hash: u64,
    outer: &mut OuterHeaders,
) -> Option<Result<(), DropReason>> {
    if usize::from(parsed.link_length) != EthernetHeader::LENGTH {
        return None;
    }
    let header_length = usize::from(backend.header_length);
    match (backend.encapsulation, header_length) {
        (Encapsulation::Ipip4, V4) => {
            Some(over_v4::<V4, B>(packet, parsed, backend, flow_hash, outer))
        }
        (Encapsulation::Gre4, GRE4) => {
            Some(over_v4::<GRE4, B>(packet, parsed, backend, flow_hash, outer))
        }
        (Encapsulation::Gue4, GUE4) => {
            Some(over_v4::<GUE4, B>(packet, parsed, backend, flow_hash, outer))
        }
        (Encapsulation::Ipip6, V6) => Some(over_v6::<V6, B>(packet, parsed, backend, flow_hash)),
        (Encapsulation::Gre6, GRE6) => Some(over_v6::<GRE6, B>(packet, parsed, backend, flow_hash)),
        (Encapsulation::Gue6, GUE6) => Some(over_v6::<GUE6, B>(packet, parsed, backend, flow_hash)),
        _ => None,
    }
}

/// `FRONT` bytes of which the last, behind the outer header, are the mode's own.
#[inline(always)]
fn over_v4<const FRONT: usize, B: Buffer>(
    packet: &mut B,
    parsed: &Parsed,
    backend: &Backend,
    flow_hash: u64,
    outer: &mut OuterHeaders,
) -> Result<(), DropReason> {
    let dscp_and_ecn = take_hop(packet, parsed)?;
    let front = put_front::<FRONT, B>(packet, parsed, backend)?;
    let (header, shim) = Ipv4Header::parse_mut(front).ok_or(DropReason::NoHeadroom)?;
    let identification = outer.identification();
    let total_length = parsed.ip_length + (FRONT - EthernetHeader::LENGTH) as u16;
    header.dscp_and_ecn = dscp_and_ecn;
    header.total_length = U16::new(total_length);
    header.identification = U16::new(identification);
    let mut sum = backend.checksum_base
        + u32::from(dscp_and_ecn)
        + u32::from(total_length)
        + u32::from(identification);
    if FRONT == V4 && parsed.key.family() == Family::V6 {
        header.protocol = IpProtocol::IPV6;
        sum += u32::from(IpProtocol::IPV6.0 - IpProtocol::IPV4.0);
    }
    if backend.source_entropy != 0 {
        let entropy = flow_hash as u32 & backend.source_entropy;
        header.source = (u32::from_be_bytes(header.source) | entropy).to_be_bytes();
        sum += (entropy >> 16) + (entropy & 0xffff);
    }
    header.header_checksum = U16::new(!fold(sum));
    fill_in::<V4, FRONT>(shim, parsed, flow_hash)
}

/// As [`over_v4`].
#[inline(always)]
fn over_v6<const FRONT: usize, B: Buffer>(
    packet: &mut B,
    parsed: &Parsed,
    backend: &Backend,
    flow_hash: u64,
) -> Result<(), DropReason> {
    let traffic_class = take_hop(packet, parsed)?;
    let front = put_front::<FRONT, B>(packet, parsed, backend)?;
    let (header, shim) = Ipv6Header::parse_mut(front).ok_or(DropReason::NoHeadroom)?;
    let label = (flow_hash >> 32) as u32 & 0x000f_ffff;
    header.version_traffic_class_flow_label =
        U32::new(6 << 28 | u32::from(traffic_class) << 20 | label);
    header.payload_length = U16::new(parsed.ip_length + (FRONT - V6) as u16);
    if FRONT == V6 && parsed.key.family() == Family::V6 {
        header.next_header = IpProtocol::IPV6;
    }
    if backend.source_entropy != 0 {
        let entropy = flow_hash as u32 & backend.source_entropy;
        let source = u128::from_be_bytes(header.source) | u128::from(entropy);
        header.source = source.to_be_bytes();
    }
    fill_in::<V6, FRONT>(shim, parsed, flow_hash)?;
    if FRONT == GUE6 && backend.udp_checksum {
        let outer = packet.data_mut().get_mut(EthernetHeader::LENGTH..).unwrap_or_default();
        gue::fill_in_checksum(outer)?;
    }
    Ok(())
}

/// Cuts the packet to its IP length, and puts the backend's header in place of the link header: that
/// header, from its outer IP header on.
#[inline(always)]
fn put_front<'a, const FRONT: usize, B: Buffer>(
    packet: &'a mut B,
    parsed: &Parsed,
    backend: &Backend,
) -> Result<&'a mut [u8], DropReason> {
    // Ethernet pads short packets; the padding is not the client's.
    let end = EthernetHeader::LENGTH + usize::from(parsed.ip_length);
    if !packet.reframe(EthernetHeader::LENGTH, end, FRONT) {
        give_hop_back(packet, parsed);
        return Err(DropReason::NoHeadroom);
    }
    let front: &mut [u8; FRONT] =
        packet.data_mut().first_chunk_mut().ok_or(DropReason::NoHeadroom)?;
    *front = *backend.header.first_chunk().ok_or(DropReason::NoHeadroom)?;
    front.get_mut(EthernetHeader::LENGTH..).ok_or(DropReason::NoHeadroom)
}

/// Undoes [`take_hop`]: a packet that cannot be written here may be tried again elsewhere.
#[cold]
fn give_hop_back<B: Buffer>(packet: &mut B, parsed: &Parsed) {
    let inner = packet.data_mut().get_mut(EthernetHeader::LENGTH..).unwrap_or_default();
    match parsed.key.family() {
        Family::V4 => {
            if let Some((header, _)) = Ipv4Header::parse_mut(inner) {
                header.give_hop_back();
            }
        }
        Family::V6 => {
            if let Some((header, _)) = Ipv6Header::parse_mut(inner) {
                header.hop_limit = header.hop_limit.wrapping_add(1);
            }
        }
    }
}

/// What a mode that has anything between the outer header, which ends at `IP`, and the packet inside
/// says there.
#[inline(always)]
fn fill_in<const IP: usize, const FRONT: usize>(
    shim: &mut [u8],
    parsed: &Parsed,
    flow_hash: u64,
) -> Result<(), DropReason> {
    const { assert!(FRONT == IP || FRONT == IP + GreHeader::LENGTH || FRONT == IP + UdpHeader::LENGTH) };
    match FRONT - IP {
        GreHeader::LENGTH => gre::name(shim, parsed),
        UdpHeader::LENGTH => {
            gue::fill_in(shim, parsed.ip_length + UdpHeader::LENGTH as u16, flow_hash)
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use conntrack::{FlowKey, Segment};
    use proptest::prelude::*;

    use super::*;
    use crate::buffer::{FRAME_HEADROOM, Frame};
    use crate::forward::rewrite_other;
    use crate::parse::Kind;
    use crate::tables::BackendState;

    const TUNNELS: [Encapsulation; 6] = [
        Encapsulation::Ipip4,
        Encapsulation::Ipip6,
        Encapsulation::Gre4,
        Encapsulation::Gre6,
        Encapsulation::Gue4,
        Encapsulation::Gue6,
    ];

    /// A backend whose addresses are `noise`.
    pub(in crate::forward) fn backend(
        encapsulation: Encapsulation,
        entropy: u32,
        noise: [u8; 32],
        tags: bool,
    ) -> Backend {
        let mut header = vec![2; 12];
        let v4 = matches!(
            encapsulation,
            Encapsulation::Ipip4 | Encapsulation::Gre4 | Encapsulation::Gue4
        );
        if tags {
            header.extend([0x81, 0, 0, 7]);
        }
        header.extend(if v4 { [0x08, 0x00] } else { [0x86, 0xdd] });
        let link_length = header.len();
        let (protocol, shim): (u8, &[u8]) = match encapsulation {
            Encapsulation::Gre4 | Encapsulation::Gre6 => (47, &[0, 0, 8, 0]),
            Encapsulation::Gue4 | Encapsulation::Gue6 => (17, &[0, 0, 0x17, 0xc0, 0, 0, 0, 0]),
            _ => (4, &[]),
        };
        // Where flows choose, the record has zeros.
        let mask = (!entropy).to_be_bytes();
        let mut source = noise;
        for (at, mask) in mask.into_iter().enumerate() {
            source[if v4 { at } else { 12 + at }] &= mask;
        }
        if v4 {
            header.extend([0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, protocol, 0, 0]);
            header.extend(&source[..8]);
        } else {
            header.extend([0x60, 0, 0, 0, 0, 0, protocol, 64]);
            header.extend(source);
        }
        let outer = &header[link_length..];
        let sum = |sum: u32, word: &[u8]| sum + (u32::from(word[0]) << 8 | u32::from(word[1]));
        let mut record = Backend {
            state: BackendState::Active,
            encapsulation,
            source_entropy: entropy,
            checksum_base: if v4 { outer.chunks(2).fold(0, sum) } else { 0 },
            link_length: link_length as u8,
            ..Backend::gone(0)
        };
        header.extend(shim);
        record.header_length = header.len() as u8;
        record.header[..header.len()].copy_from_slice(&header);
        record
    }

    /// A packet of either version, with so much behind its header, and padding.
    pub(in crate::forward) fn packet(
        v6: bool,
        hops: u8,
        class: u8,
        behind: u16,
        padding: usize,
    ) -> (Vec<u8>, Parsed) {
        let mut frame = vec![4; 12];
        let length = if v6 {
            frame.extend([0x86, 0xdd, 0x60 | class >> 4, class << 4, 0, 7]);
            frame.extend(behind.to_be_bytes());
            frame.extend([6, hops]);
            frame.extend([9; 32]);
            40 + behind
        } else {
            frame.extend([0x08, 0x00, 0x45, class]);
            frame.extend((20 + behind).to_be_bytes());
            frame.extend([0, 1, 0x40, 0, hops, 6, 0xab, 0xcd]);
            frame.extend([9; 8]);
            20 + behind
        };
        frame.extend((0..behind).map(|at| at as u8));
        frame.resize(frame.len() + padding, 0xee);
        let key = match v6 {
            false => FlowKey::v4([9; 4].into(), [9; 4].into(), 1, 2, 6),
            true => FlowKey::v6([9; 16].into(), [9; 16].into(), 1, 2, 6),
        };
        let parsed = Parsed {
            kind: Kind::Flow,
            segment: Segment::Ack,
            link_length: 14,
            header_length: if v6 { 40 } else { 20 },
            ip_length: length,
            key,
        };
        (frame, parsed)
    }

    fn hops() -> impl Strategy<Value = u8> {
        prop_oneof![1 => 0u8..3, 3 => any::<u8>()]
    }

    #[test]
    fn a_packet_without_room_in_front_stays_as_it_came() {
        for (tunnel, v6) in TUNNELS.into_iter().flat_map(|tunnel| [(tunnel, false), (tunnel, true)])
        {
            let record = backend(tunnel, 0, [7; 32], false);
            let (bytes, parsed) = packet(v6, 9, 3, 20, 0);
            let mut frame = Frame::new(&bytes);
            // Grown to the front as far as it goes, and cut to its length again.
            assert!(frame.replace_front(0, FRAME_HEADROOM));
            frame.data_mut()[..bytes.len()].copy_from_slice(&bytes);
            frame.truncate(bytes.len());
            let mut outer = OuterHeaders::new(0, 1);
            let result = rewrite(&mut frame, &parsed, &record, 1, &mut outer);
            assert_eq!(result, Some(Err(DropReason::NoHeadroom)), "{tunnel:?}");
            assert_eq!(frame.data(), bytes, "{tunnel:?}");
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
            tunnel in prop::sample::select(&TUNNELS[..]),
            v6 in any::<bool>(),
            (hops, class) in (hops(), any::<u8>()),
            (behind, padding) in (0u16..100, 0usize..8),
            (flow_hash, checksum) in any::<(u64, bool)>(),
            entropy in prop::sample::select(&[0, 0xffff, u32::MAX][..]),
            noise in any::<[u8; 32]>(),
        ) {
            let mut record = backend(tunnel, entropy, noise, false);
            record.udp_checksum = checksum && tunnel == Encapsulation::Gue6;
            let (bytes, parsed) = packet(v6, hops, class, behind, padding);
            let (mut short, mut long) = (Frame::new(&bytes), Frame::new(&bytes));
            let mut outer = [OuterHeaders::new(0, 1), OuterHeaders::new(0, 1)];
            // Not the first identification, which is 0.
            for outer in &mut outer {
                outer.identification();
            }
            let [one, other] = &mut outer;
            let ours = rewrite(&mut short, &parsed, &record, flow_hash, one);
            let theirs =
                rewrite_other(&mut long, &parsed, &record, flow_hash, other, || None);
            prop_assert_eq!(ours, Some(theirs));
            if theirs.is_ok() {
                prop_assert_eq!(short.data(), long.data());
                prop_assert_eq!(one.identification(), other.identification());
            } else {
                prop_assert!(hops < 2 && short.data() == bytes);
            }
        }
    }

    #[test]
    fn tags_and_other_modes_take_the_long_way_untouched() {
        let (bytes, parsed) = packet(false, 64, 0, 20, 0);
        let mut outer = OuterHeaders::new(0, 1);
        let mut refuses = |parsed: &Parsed, backend: &Backend| {
            let mut frame = Frame::new(&bytes);
            assert!(rewrite(&mut frame, parsed, backend, 7, &mut outer).is_none());
            assert_eq!(frame.data(), bytes);
        };
        for tunnel in TUNNELS {
            refuses(&parsed, &backend(tunnel, 0, [1; 32], true));
            let tagged = 18;
            refuses(&Parsed { link_length: tagged, ..parsed }, &backend(tunnel, 0, [1; 32], false));
        }
        for other in
            [Encapsulation::L2dsr, Encapsulation::GueWithHeader4, Encapsulation::GueWithHeader6]
        {
            let record = backend(Encapsulation::Gue4, 0, [1; 32], false);
            refuses(&parsed, &Backend { encapsulation: other, ..record });
        }
    }
}
