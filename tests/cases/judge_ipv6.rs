//! Judges what the node answers, and asks, over IPv6.

use etherparse::{Icmpv6Slice, Icmpv6Type, Ipv6HeaderSlice, TcpHeaderSlice};

use super::NODE6;
use super::judge::{Frame, check_reset, check_way_back};

/// What a packet is about: the fixed header, and what is behind any extension headers.
fn split<'a>(packet: &'a [u8]) -> (Ipv6HeaderSlice<'a>, &'a [u8]) {
    let ip = Ipv6HeaderSlice::from_slice(packet).unwrap();
    let (mut next, mut rest) = (ip.next_header().0, &packet[40..]);
    while matches!(next, 0 | 43 | 44 | 60) {
        let length = if next == 44 { 8 } else { (usize::from(rest[1]) + 1) * 8 };
        (next, rest) = (rest[0], &rest[length..]);
    }
    (ip, rest)
}

/// An answer: addresses swapped, fresh, without extension headers.
fn check_answer<'a>(frame: &Frame<'a>, question: &Frame<'_>) -> &'a [u8] {
    check_way_back(frame, question);
    let (asked, _) = split(question.ip());
    let header = Ipv6HeaderSlice::from_slice(frame.body).unwrap();
    assert_eq!((header.source(), header.destination()), (asked.destination(), asked.source()));
    assert_eq!(header.hop_limit(), 64);
    assert_eq!((header.traffic_class(), header.flow_label().value()), (0, 0));
    assert_eq!(usize::from(header.payload_length()), frame.body.len() - 40, "no padding");
    &frame.body[40..]
}

/// RFC 4443 section 4.2.
pub(super) fn echo(frame: &Frame<'_>, question: &Frame<'_>) {
    let (_, asked) = split(question.ip());
    let asked = Icmpv6Slice::from_slice(asked).unwrap();
    let reply = Icmpv6Slice::from_slice(check_answer(frame, question)).unwrap();
    let Icmpv6Type::EchoRequest(request) = asked.icmp_type() else { panic!("a request") };
    assert_eq!(reply.icmp_type(), Icmpv6Type::EchoReply(request), "identifier and sequence");
    assert_eq!(reply.payload(), asked.payload());
    check_checksum(frame);
}

fn check_checksum(frame: &Frame<'_>) {
    let ip = Ipv6HeaderSlice::from_slice(frame.body).unwrap();
    assert_eq!(ip.next_header().0, 58);
    let message = Icmpv6Slice::from_slice(&frame.body[40..]).unwrap();
    assert!(message.is_checksum_valid(ip.source(), ip.destination()));
}

/// RFC 9293 section 3.5.2.
pub(super) fn reset(frame: &Frame<'_>, question: &Frame<'_>) {
    let (_, segment) = split(question.ip());
    let came = TcpHeaderSlice::from_slice(segment).unwrap();
    let payload = segment.len() - came.slice().len();
    let bytes = check_answer(frame, question);
    let reset = TcpHeaderSlice::from_slice(bytes).unwrap();
    check_reset(&reset, bytes, &came, payload);
    let ip = Ipv6HeaderSlice::from_slice(frame.body).unwrap();
    let sum = reset.calc_checksum_ipv6_raw(ip.source(), ip.destination(), &[]).unwrap();
    assert_eq!(reset.checksum(), sum);
}

/// RFC 4861 section 7.2.4: the asked address is here.
pub(super) fn advertisement(
    frame: &Frame<'_>,
    question: &Frame<'_>,
    overriding: bool,
    mac: [u8; 6],
) {
    let (asked, solicitation) = split(question.ip());
    let detects = asked.source() == [0; 16];
    assert_eq!(frame.ethertype, 0x86dd);
    let all_nodes = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    let ip = Ipv6HeaderSlice::from_slice(frame.body).unwrap();
    if detects {
        assert_eq!(frame.destination, [0x33, 0x33, 0, 0, 0, 1], "to all nodes");
        assert_eq!(ip.destination(), all_nodes);
    } else {
        assert_eq!(frame.destination, question.source, "back to the asking station");
        assert_eq!(ip.destination(), asked.source());
    }
    let target: [u8; 16] = solicitation[8..24].try_into().unwrap();
    assert_eq!((ip.source(), ip.hop_limit()), (target, 255));
    let flags = u8::from(!detects) << 6 | u8::from(overriding) << 5;
    check_neighbour(frame, 136, flags, target, (2, mac));
}

/// RFC 4861 section 7.2.2: who has the address?
pub(super) fn solicitation(frame: &Frame<'_>, target: [u8; 16], to: Option<[u8; 6]>, mac: [u8; 6]) {
    let [.., a, b, c] = target;
    let group = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c];
    let (station, address) = match to {
        Some(mac) => (mac, target),
        None => ([0x33, 0x33, 0xff, a, b, c], group),
    };
    assert_eq!((frame.destination, frame.ethertype), (station, 0x86dd));
    let ip = Ipv6HeaderSlice::from_slice(frame.body).unwrap();
    assert_eq!((ip.source(), ip.destination()), (NODE6, address));
    assert_eq!(ip.hop_limit(), 255);
    check_neighbour(frame, 135, 0, target, (1, mac));
}

/// The message of 32 bytes: type, flags, target, and its one option.
fn check_neighbour(
    frame: &Frame<'_>,
    kind: u8,
    flags: u8,
    target: [u8; 16],
    (option, mac): (u8, [u8; 6]),
) {
    check_checksum(frame);
    let message = &frame.body[40..];
    assert_eq!(message.len(), 32, "no padding");
    assert_eq!(message[..2], [kind, 0]);
    assert_eq!(message[4..8], [flags, 0, 0, 0]);
    assert_eq!(message[8..24], target);
    assert_eq!(message[24..26], [option, 1]);
    assert_eq!(message[26..], mac);
}
