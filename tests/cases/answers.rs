//! What the node answers itself: pings and ARP.

use etherparse::{Icmpv4Type, PacketBuilder};

use super::{CLIENT, Case, Expected, Out, Sent, VIP, padded};
use crate::support::{GATEWAY_MAC, NODE_MAC, arp};

const NODE: [u8; 4] = [192, 0, 2, 2];
const NEIGHBOUR: [u8; 4] = [192, 0, 2, 9];

fn ping(target: [u8; 4], payload: &[u8]) -> Vec<u8> {
    ping_of((0x1234, 7), target, payload)
}

fn ping_of((id, sequence): (u16, u16), target: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(GATEWAY_MAC, NODE_MAC)
        .ipv4(CLIENT.0, target, 3)
        .icmpv4_echo_request(id, sequence)
        .write(&mut frame, payload)
        .unwrap();
    frame
}

pub(super) fn icmp(kind: Icmpv4Type, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(GATEWAY_MAC, NODE_MAC)
        .ipv4(CLIENT.0, VIP.0, 64)
        .icmpv4(kind)
        .write(&mut frame, payload)
        .unwrap();
    frame
}

pub(super) fn cases() -> Vec<Case> {
    let echo = |frame| Sent::new(frame, Expected::of("reply", vec![Out::Echo]));
    let answered = |frame| Sent::new(frame, Expected::of("reply", vec![Out::Arp]));
    let noted = |frame| Sent::new(frame, Expected::of("host", Vec::new()));
    let link_vip = super::WEB.replace("203.0.113.1", "192.0.2.100");
    let ask = |target| arp(1, NEIGHBOUR, target, [0xff; 6]);
    vec![
        Case::web(
            "icmp-echo",
            "A ping to a VIP, or to the node's own address, is answered by the node, with a new time \
             to live and the payload as it was.",
            vec![
                echo(ping(VIP.0, b"abcdefgh")),
                echo(ping(VIP.0, b"odd")),
                echo(ping(VIP.0, &[])),
                // The reply is all zeroes: its checksum is 0xffff, not 0.
                echo(ping_of((0, 0), VIP.0, &[0; 16])),
                echo(ping_of((0, 0), VIP.0, &[0xff; 2])),
                echo(padded(ping(VIP.0, b"x"))),
                echo(ping(NODE, &[0x61; 1472])),
                Sent::dropped(ping([203, 0, 113, 2], b"abcdefgh"), "no_vip"),
            ],
        ),
        Case::new(
            "arp",
            "ARP requests for the node's own address and for a VIP inside the link's prefix are \
             answered, also from a prober without an address; others are not the node's business.",
            super::config(&[super::PORT, &link_vip]),
            vec![
                answered(ask(NODE)),
                answered(ask([192, 0, 2, 100])),
                answered(padded(ask(NODE))),
                // A refresh, sent to the node alone.
                answered(arp(1, NEIGHBOUR, NODE, NODE_MAC)),
                // RFC 5227: a probe.
                answered(arp(1, [0; 4], NODE, [0xff; 6])),
                Sent::dropped(ask([192, 0, 2, 101]), "foreign_arp"),
                // A gratuitous announcement asks for its sender's own address.
                Sent::dropped(ask(NEIGHBOUR), "foreign_arp"),
                // Replies are read, and teach only about next hops that are wanted.
                noted(arp(2, NEIGHBOUR, NODE, NODE_MAC)),
            ],
        ),
        Case::web(
            "arp-off-link-vip",
            "A VIP outside the link's prefix is reached by routing, so ARP for it is not answered.",
            vec![Sent::dropped(ask(VIP.0), "foreign_arp")],
        ),
        Case::web(
            "icmp-other",
            "ICMP messages other than echo requests are dropped, and so are those whose checksum is \
             wrong.",
            vec![
                Sent::dropped(
                    icmp(
                        Icmpv4Type::Unknown { type_u8: 13, code_u8: 0, bytes5to8: [0; 4] },
                        &[0; 12],
                    ),
                    "icmp_unsupported",
                ),
                Sent::dropped(
                    icmp(Icmpv4Type::Unknown { type_u8: 8, code_u8: 1, bytes5to8: [0; 4] }, &[]),
                    "icmp_unsupported",
                ),
                Sent::dropped(
                    {
                        let mut frame = ping(VIP.0, b"abcdefgh");
                        let last = frame.len() - 1;
                        frame[last] ^= 1;
                        frame
                    },
                    "bad_icmp",
                ),
                Sent::dropped(super::ipv4(&super::header(1), &[8, 0, 0xf7, 0xff]), "bad_icmp"),
            ],
        ),
    ]
}
