//! Judges packets that went out by the RFCs, without the data plane's code: `etherparse` reads
//! them and recomputes their checksums; the rest must be the bytes that came in.

use etherparse::{
    ArpOperation, ArpPacketSlice, Icmpv4Slice, Icmpv4Type, Ipv4HeaderSlice, TcpHeaderSlice,
};

use super::judge_icmp as icmp;
use super::judge_ipv6 as ipv6;
use super::judge_tunnel::{Mode, Tunnels};
use super::{Out, Outer, Place, Sent, place};
use crate::support::NODE_MAC;

/// Judges the outputs of one case, in order.
pub(crate) struct Judge {
    tunnels: Tunnels,
    port_mac: [u8; 6],
    port_tags: Option<&'static [u8]>,
}

/// A frame taken apart as far as needed: addresses, tags, ethertype, and the rest.
pub(super) struct Frame<'a> {
    pub(super) destination: [u8; 6],
    pub(super) source: [u8; 6],
    pub(super) tags: &'a [u8],
    pub(super) ethertype: u16,
    pub(super) body: &'a [u8],
}

impl<'a> Frame<'a> {
    fn of(bytes: &'a [u8]) -> Self {
        let word = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        let mut at = 12;
        while matches!(word(at), 0x8100 | 0x88a8) {
            at += 4;
        }
        Self {
            destination: bytes[..6].try_into().unwrap(),
            source: bytes[6..12].try_into().unwrap(),
            tags: &bytes[12..at],
            ethertype: word(at),
            body: &bytes[at + 2..],
        }
    }

    /// The IP packet without padding.
    pub(super) fn ip(&self) -> &'a [u8] {
        let length = match self.ethertype {
            0x0800 => Ipv4HeaderSlice::from_slice(self.body).unwrap().total_len(),
            0x86dd => 40 + u16::from_be_bytes([self.body[4], self.body[5]]),
            other => panic!("no IP packet: {other:#06x}"),
        };
        &self.body[..usize::from(length)]
    }
}

impl Judge {
    pub(crate) fn new(outer: Outer, port_mac: Option<[u8; 6]>) -> Self {
        let port_mac = port_mac.unwrap_or(NODE_MAC);
        Self { tunnels: Tunnels::new(outer), port_mac, port_tags: outer.port_tags }
    }

    /// Is `output` what must go out for packet `current`?
    pub(crate) fn check(&mut self, out: &Out, current: usize, sent: &[Sent], output: &[u8]) {
        let frame = Frame::of(output);
        assert_eq!(frame.source, self.port_mac, "from the port's own address");
        let question = Frame::of(&sent[current].frame);
        match out {
            Out::Ipip { .. } | Out::Gre { .. } | Out::Gue { .. } | Out::L2dsr { .. } => {}
            // The node's own: with the port's tags, or, where it has none, with the question's.
            _ => assert_eq!(frame.tags, self.port_tags.unwrap_or(question.tags)),
        }
        let v6 = question.ethertype == 0x86dd;
        match out {
            Out::Ipip { of, backend } => {
                let inner = Frame::of(&sent[of.unwrap_or(current)].frame);
                self.tunnels.check(Mode::Ipip, &frame, &inner, &place(backend));
            }
            Out::Gre { backend } => {
                self.tunnels.check(Mode::Gre, &frame, &question, &place(backend));
            }
            Out::GueHeader { backend, version, hop } => {
                let mode =
                    Mode::GueHeader { version: *version, hop: hop.map(|hop| place(hop).address) };
                self.tunnels.check(mode, &frame, &question, &place(backend));
            }
            Out::Gue { backend } => {
                self.tunnels.check(Mode::Gue, &frame, &question, &place(backend));
            }
            Out::L2dsr { backend } => {
                check_link(&frame, &place(backend), question.ethertype);
                assert_eq!(frame.body, question.ip(), "the IP packet as it came");
            }
            Out::Echo if v6 => ipv6::echo(&frame, &question),
            Out::Echo => echo(&frame, &question),
            Out::Arp => arp_reply(&frame, &question, self.port_mac),
            Out::Reset if v6 => ipv6::reset(&frame, &question),
            Out::Reset => reset(&frame, &question),
            Out::Error(error) => icmp::error(&frame, &question, error),
            Out::Fragment { backend, last } => {
                self.tunnels.check_fragment(&frame, *last, &question, &place(backend));
            }
            Out::ArpRequest { target, to } => arp_request(&frame, *target, *to, self.port_mac),
            Out::Advertisement { overriding } => {
                ipv6::advertisement(&frame, &question, *overriding, self.port_mac);
            }
            Out::Solicitation { target, to } => {
                ipv6::solicitation(&frame, *target, *to, self.port_mac);
            }
        }
    }

    /// After the last packet: did different flows look different outside?
    pub(crate) fn finish(self) {
        self.tunnels.finish();
    }
}

/// To the next hop, with its link's tag and no other.
pub(super) fn check_link(frame: &Frame<'_>, place: &Place, ethertype: u16) {
    assert_eq!(frame.destination, place.mac, "link address of the next hop");
    assert_eq!(frame.tags, place.tags, "tags of the next hop's link");
    assert_eq!(frame.ethertype, ethertype);
}

/// An IPv4 header whose checksum is recomputed.
pub(super) fn checked_header(bytes: &[u8]) -> Ipv4HeaderSlice<'_> {
    let header = Ipv4HeaderSlice::from_slice(bytes).unwrap();
    assert_eq!(header.header_checksum(), header.to_header().calc_header_checksum());
    header
}

/// Back to who asked.
pub(super) fn check_way_back(frame: &Frame<'_>, question: &Frame<'_>) {
    assert_eq!(frame.destination, question.source, "back to the asking station");
    assert_eq!(frame.ethertype, question.ethertype);
}

/// The IP header of an answer: addresses swapped, sound, fresh.
fn check_answer<'a>(frame: &Frame<'a>, question: &Frame<'_>) -> &'a [u8] {
    check_way_back(frame, question);
    let header = checked_header(frame.body);
    let asked = Ipv4HeaderSlice::from_slice(question.body).unwrap();
    assert_eq!((header.source(), header.destination()), (asked.destination(), asked.source()));
    assert_eq!(header.ttl(), 64);
    assert_eq!(usize::from(header.total_len()), frame.body.len(), "no padding");
    &frame.body[header.slice().len()..]
}

/// RFC 792, echo or echo reply.
fn echo(frame: &Frame<'_>, question: &Frame<'_>) {
    let asked = question.ip();
    let asked = Icmpv4Slice::from_slice(&asked[usize::from(asked[0] & 0x0f) * 4..]).unwrap();
    let reply = Icmpv4Slice::from_slice(check_answer(frame, question)).unwrap();
    let Icmpv4Type::EchoRequest(request) = asked.icmp_type() else { panic!("a request") };
    assert_eq!(reply.icmp_type(), Icmpv4Type::EchoReply(request), "identifier and sequence");
    assert_eq!(reply.payload(), asked.payload());
    assert_eq!(reply.checksum(), reply.icmp_type().calc_checksum(reply.payload()));
}

/// RFC 9293 section 3.5.2, reset generation, cases 1 and 2.
fn reset(frame: &Frame<'_>, question: &Frame<'_>) {
    let asked = question.ip();
    let segment = &asked[usize::from(asked[0] & 0x0f) * 4..];
    let came = TcpHeaderSlice::from_slice(segment).unwrap();
    let payload = segment.len() - came.slice().len();
    let bytes = check_answer(frame, question);
    let reset = TcpHeaderSlice::from_slice(bytes).unwrap();
    check_reset(&reset, bytes, &came, payload);
    let ip = Ipv4HeaderSlice::from_slice(frame.body).unwrap();
    let sum = reset.calc_checksum_ipv4_raw(ip.source(), ip.destination(), &[]).unwrap();
    assert_eq!(reset.checksum(), sum);
}

/// Whatever the version of IP: what resets what.
pub(super) fn check_reset(
    reset: &TcpHeaderSlice<'_>,
    bytes: &[u8],
    came: &TcpHeaderSlice<'_>,
    payload: usize,
) {
    assert_eq!(bytes.len(), 20, "no options, no data");
    assert_eq!(reset.source_port(), came.destination_port());
    assert_eq!(reset.destination_port(), came.source_port());
    assert!(reset.rst() && !reset.syn() && !reset.fin() && !reset.psh() && !reset.urg());
    if came.ack() {
        assert_eq!(reset.sequence_number(), came.acknowledgment_number());
        assert!(!reset.ack());
    } else {
        let length = payload as u32 + u32::from(came.syn()) + u32::from(came.fin());
        assert_eq!(reset.sequence_number(), 0);
        assert!(reset.ack());
        assert_eq!(reset.acknowledgment_number(), came.sequence_number().wrapping_add(length));
    }
}

/// RFC 826: the asked address is here.
fn arp_reply(frame: &Frame<'_>, question: &Frame<'_>, mac: [u8; 6]) {
    check_way_back(frame, question);
    let asked = ArpPacketSlice::from_slice(question.body).unwrap();
    let reply = ArpPacketSlice::from_slice(frame.body).unwrap();
    assert_eq!(frame.body.len(), 28, "no padding");
    assert_eq!(reply.operation(), ArpOperation::REPLY);
    assert_eq!(reply.sender_hw_addr(), mac);
    assert_eq!(reply.sender_protocol_addr(), asked.target_protocol_addr());
    assert_eq!(reply.target_hw_addr(), asked.sender_hw_addr());
    assert_eq!(reply.target_protocol_addr(), asked.sender_protocol_addr());
}

/// RFC 826: who has the address?
fn arp_request(frame: &Frame<'_>, target: [u8; 4], to: [u8; 6], mac: [u8; 6]) {
    assert_eq!((frame.destination, frame.ethertype), (to, 0x0806));
    let request = ArpPacketSlice::from_slice(frame.body).unwrap();
    assert_eq!(request.operation(), ArpOperation::REQUEST);
    assert_eq!(request.sender_hw_addr(), mac);
    assert_eq!(request.sender_protocol_addr(), [192, 0, 2, 2]);
    assert_eq!(request.target_protocol_addr(), target);
}
