//! What goes to the node's own kernel, where a port has an interface for it.

use etherparse::{Icmpv4Type, PacketBuilder};

use super::{CLIENT, Case, Expected, Out, PORT, Sent, VIP, WEB, config};
use crate::support::{GATEWAY_MAC, NODE_MAC, arp, finish, tcp, udp};

const NODE: [u8; 4] = [192, 0, 2, 2];
const NEIGHBOUR: [u8; 4] = [192, 0, 2, 9];

/// An ICMP message to `target`.
fn icmp(target: [u8; 4], kind: Icmpv4Type) -> Vec<u8> {
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(GATEWAY_MAC, NODE_MAC)
        .ipv4(CLIENT.0, target, 64)
        .icmpv4(kind)
        .write(&mut frame, b"abcdefgh")
        .unwrap();
    frame
}

pub(super) fn cases() -> Vec<Case> {
    let host = |frame| Sent::new(frame, Expected::of("host", Vec::new()));
    let echo = etherparse::IcmpEchoHeader { id: 1, seq: 1 };
    let port = format!("{PORT}exception = \"weirx0\"\n");
    vec![Case::new(
        "exception-path",
        "BGP, BFD, SSH and answers to the kernel's own questions go to the kernel; what is asked of \
         the node's addresses by ARP or ping the node answers itself; nothing that is to or from a \
         VIP goes there.",
        config(&[&port, WEB]),
        vec![
            host(finish(tcp(CLIENT, (NODE, 179), 1).syn(), &[])),
            host(finish(tcp((CLIENT.0, 179), (NODE, 40_000), 1).syn().ack(2), &[])),
            host(udp(CLIENT, (NODE, 3784), &[0x20; 24])),
            host(finish(tcp(CLIENT, (NODE, 22), 1).syn(), &[])),
            host(icmp(NODE, Icmpv4Type::EchoReply(echo))),
            host(arp(2, NEIGHBOUR, NODE, NODE_MAC)),
            Sent::new(arp(1, NEIGHBOUR, NODE, [0xff; 6]), Expected::of("reply", vec![Out::Arp])),
            Sent::new(
                icmp(NODE, Icmpv4Type::EchoRequest(echo)),
                Expected::of("reply", vec![Out::Echo]),
            ),
            Sent::web(finish(tcp(CLIENT, VIP, 1).syn(), &[])),
            Sent::dropped(finish(tcp(CLIENT, (VIP.0, 179), 1).syn(), &[]), "no_vip"),
            Sent::dropped(icmp(VIP.0, Icmpv4Type::EchoReply(echo)), "icmp_unsupported"),
            Sent::dropped(finish(tcp(VIP, (NODE, 179), 1).syn(), &[]), "exception_vip"),
        ],
    )]
}
