//! Judges packets in tunnels: outer header of either version of IP, what is between, and the inner
//! packet, which must be the one that came but for the hop it has used.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use etherparse::{Ipv6HeaderSlice, UdpHeaderSlice};

use super::judge::{Frame, check_link, checked_header};
use super::{Outer, Place};

/// A way of encapsulation.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Ipip,
    Gre,
    Gue,
    GueHeader { version: Option<u32>, hop: Option<IpAddr> },
}

/// The tunnels of one case.
pub(super) struct Tunnels {
    outer: Outer,
    /// Outer IPv4 headers count from 0 in a replay.
    next_identification: u16,
    /// What tells flows apart outside, by what does inside.
    marks: BTreeMap<Vec<u8>, Vec<u8>>,
    /// What has come of an outer packet in fragments.
    fragments: Vec<u8>,
    /// Outer IPv6 packets in fragments count from 0, too.
    next_fragment: u32,
}

impl Tunnels {
    pub(super) fn new(outer: Outer) -> Self {
        Self {
            outer,
            next_identification: 0,
            marks: BTreeMap::new(),
            fragments: Vec::new(),
            next_fragment: 0,
        }
    }

    /// Is `frame` the packet of `question`, on its way to `place`?
    pub(super) fn check(
        &mut self,
        mode: Mode,
        frame: &Frame<'_>,
        question: &Frame<'_>,
        place: &Place,
    ) {
        let came = question.ip();
        let inner_is_v6 = question.ethertype == 0x86dd;
        let traffic_class = match inner_is_v6 {
            true => came[0] << 4 | came[1] >> 4,
            false => came[1],
        };
        let protocol = match (mode, inner_is_v6) {
            (Mode::Ipip, false) => 4,
            (Mode::Ipip, true) => 41,
            (Mode::Gre, _) => 47,
            (Mode::Gue | Mode::GueHeader { .. }, _) => 17,
        };
        let (behind, mut mark) = match place.address {
            IpAddr::V4(address) => {
                check_link(frame, place, 0x0800);
                self.outer_v4(frame.body, protocol, traffic_class, address.octets())
            }
            IpAddr::V6(address) => {
                check_link(frame, place, 0x86dd);
                self.outer_v6(frame.body, protocol, traffic_class, address.octets())
            }
        };
        let inner = match mode {
            Mode::Ipip => behind,
            Mode::Gre => {
                // RFC 2784 section 2: no checksum, version 0, and an EtherType.
                let expected = if inner_is_v6 { [0, 0, 0x86, 0xdd] } else { [0, 0, 0x08, 0x00] };
                assert_eq!(behind[..4], expected);
                &behind[4..]
            }
            Mode::Gue => {
                mark.extend(&behind[..2]);
                self.udp(frame.body, behind, place.address)
            }
            Mode::GueHeader { version, hop } => {
                mark.extend(&behind[..2]);
                let payload = self.udp(frame.body, behind, place.address);
                let header = gue_header(inner_is_v6, version, hop);
                assert_eq!(payload[..header.len()], header);
                &payload[header.len()..]
            }
        };
        check_inner(inner, came, inner_is_v6);
        // An ICMP error has no ports; those of a case are about one flow.
        let flow = match (inner_is_v6, came[6] == 58, came[9] == 1) {
            (true, true, _) => came[8..40].to_vec(),
            (true, false, _) => came[8..came.len().min(44)].to_vec(),
            (false, _, true) => came[12..20].to_vec(),
            (false, _, false) => came[12..24].to_vec(),
        };
        assert_eq!(self.marks.entry(flow).or_insert_with(|| mark.clone()), &mark, "one flow");
    }

    /// One fragment of an outer packet, in order; the last makes it whole, and that is judged.
    /// RFC 791 section 3.2, RFC 8200 section 4.5.
    pub(super) fn check_fragment(
        &mut self,
        frame: &Frame<'_>,
        last: bool,
        question: &Frame<'_>,
        place: &Place,
    ) {
        let mut whole;
        if place.address.is_ipv4() {
            let header = checked_header(frame.body);
            assert!(!header.dont_fragment(), "a router may cut it further");
            assert_eq!(usize::from(header.total_len()), frame.body.len());
            assert_eq!(header.more_fragments(), !last);
            let offset = usize::from(header.fragments_offset().value()) * 8;
            assert_eq!(offset, self.fragments.len());
            self.fragments.extend(&frame.body[20..]);
            let mut outer = header.to_header();
            outer.more_fragments = false;
            outer.dont_fragment = self.outer.dont_fragment;
            outer.fragment_offset = Default::default();
            outer.total_len = (20 + self.fragments.len()) as u16;
            outer.header_checksum = outer.calc_header_checksum();
            whole = outer.to_bytes().to_vec();
        } else {
            let (header, fragment) = (&frame.body[..40], &frame.body[40..48]);
            assert_eq!(header[6], 44, "a fragment header");
            let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
            assert_eq!(length, frame.body.len() - 40);
            let offset = u16::from_be_bytes([fragment[2], fragment[3]]);
            assert_eq!(usize::from(offset & !7), self.fragments.len());
            assert_eq!(offset & 7, u16::from(!last));
            assert_eq!(fragment[4..8], self.next_fragment.to_be_bytes());
            self.fragments.extend(&frame.body[48..]);
            whole = header.to_vec();
            whole[6] = fragment[0];
            whole[4..6].copy_from_slice(&(self.fragments.len() as u16).to_be_bytes());
        }
        assert!(last || self.fragments.len().is_multiple_of(8), "whole units");
        if last {
            whole.append(&mut self.fragments);
            // IPv4 fragments have the identification of their header.
            self.next_fragment += 1;
            self.check(Mode::Ipip, &Frame { body: &whole, ..*frame }, question, place);
        }
    }

    /// RFC 2003 section 3.1 and SPEC section 2. Returns what is behind the header, and the mark.
    fn outer_v4<'a>(
        &mut self,
        packet: &'a [u8],
        protocol: u8,
        traffic_class: u8,
        destination: [u8; 4],
    ) -> (&'a [u8], Vec<u8>) {
        let outer = checked_header(packet);
        assert_eq!(usize::from(outer.total_len()), packet.len(), "no padding on the way out");
        assert_eq!(outer.ihl(), 5, "no options outside");
        assert_eq!(outer.protocol().0, protocol);
        assert_eq!(outer.ttl(), self.outer.time_to_live);
        assert_eq!(outer.dont_fragment(), self.outer.dont_fragment);
        assert!(!outer.is_fragmenting_payload());
        assert_eq!(outer.destination(), destination);
        let (prefix, length) = self.outer.source;
        let differs = u32::from_be_bytes(outer.source()) ^ u32::from_be_bytes(prefix);
        assert_eq!(u64::from(differs) >> (32 - length), 0, "outer source {:?}", outer.source());
        assert_eq!(outer.identification(), self.next_identification);
        self.next_identification += 1;
        // RFC 6040 section 4.1: DSCP and ECN of the arriving header.
        assert_eq!(packet[1], traffic_class, "DSCP and ECN");
        (&packet[20..], outer.source().to_vec())
    }

    /// RFC 2473 section 6, RFC 6438.
    fn outer_v6<'a>(
        &mut self,
        packet: &'a [u8],
        protocol: u8,
        traffic_class: u8,
        destination: [u8; 16],
    ) -> (&'a [u8], Vec<u8>) {
        let outer = Ipv6HeaderSlice::from_slice(packet).unwrap();
        assert_eq!(usize::from(outer.payload_length()), packet.len() - 40, "no padding");
        assert_eq!(outer.next_header().0, protocol);
        assert_eq!(outer.hop_limit(), self.outer.time_to_live);
        assert_eq!(outer.destination(), destination);
        let (prefix, length) = self.outer.source_v6;
        let differs = u128::from_be_bytes(outer.source()) ^ u128::from_be_bytes(prefix);
        let kept = differs.checked_shr(128 - u32::from(length)).unwrap_or(0);
        assert_eq!(kept, 0, "outer source {:?}", outer.source_addr());
        assert_eq!(outer.traffic_class(), traffic_class, "DSCP and ECN");
        let label = outer.flow_label().value().to_be_bytes();
        (&packet[40..], [&outer.source()[..], &label].concat())
    }

    /// The UDP header of GUE.
    fn udp<'a>(&self, packet: &[u8], datagram: &'a [u8], destination: IpAddr) -> &'a [u8] {
        let udp = UdpHeaderSlice::from_slice(datagram).unwrap();
        assert!(udp.source_port() >= 49_152, "from the dynamic ports");
        assert_eq!(udp.destination_port(), 6080);
        assert_eq!(usize::from(udp.length()), datagram.len());
        let inner = &datagram[8..];
        let expected = match destination {
            IpAddr::V6(_) if self.outer.udp_checksum => {
                let ip = Ipv6HeaderSlice::from_slice(packet).unwrap();
                udp.to_header().calc_checksum_ipv6(&ip.to_header(), inner).unwrap()
            }
            _ => 0,
        };
        assert_eq!(udp.checksum(), expected);
        inner
    }

    /// Eight flows and more do not all look alike.
    pub(super) fn finish(self) {
        let distinct: BTreeSet<&Vec<u8>> = self.marks.values().collect();
        let marked = self.marks.values().any(|mark| mark.len() > 4) || self.outer.source.1 < 32;
        if marked && self.marks.len() >= 8 {
            assert!(distinct.len() + 2 >= self.marks.len(), "{distinct:?}");
        }
    }
}

/// draft-ietf-intarea-gue section 3.1, and the private data of SPEC section 2.
fn gue_header(inner_is_v6: bool, version: Option<u32>, hop: Option<IpAddr>) -> Vec<u8> {
    let (kind, hop) = match hop {
        Some(IpAddr::V4(hop)) => (1, hop.octets().to_vec()),
        Some(IpAddr::V6(hop)) => (2, hop.octets().to_vec()),
        None => (1, Vec::new()),
    };
    let mut private = Vec::new();
    if let Some(version) = version {
        private.extend([kind, u8::from(!hop.is_empty()), 0, 0]);
        private.extend(version.to_be_bytes());
        private.extend(hop);
    }
    let protocol = if inner_is_v6 { 41 } else { 4 };
    [&[(private.len() / 4) as u8, protocol, 0, 0], &private[..]].concat()
}

/// One hop less; nothing else has changed.
fn check_inner(inner: &[u8], came: &[u8], v6: bool) {
    let mut expected = came.to_vec();
    if v6 {
        expected[7] -= 1;
    } else {
        expected[8] -= 1;
        expected[10..12].copy_from_slice(&checked_header(inner).header_checksum().to_be_bytes());
    }
    assert_eq!(inner, expected, "nothing else has changed inside");
}
