//! The life of flows over IPv6, as `flows.rs` has it over IPv4; and what only both together show.

use super::ipv6::{ACK, SYN, datagram, from_to, packet, tcp, to, udp};
use super::{
    CLIENT, CLIENT6, Case, Expected, NODE6, PORT, PORT6, Sent, VIP, VIP6, WEB, config, place, web6,
};
use crate::support;

const FIN: u8 = 0x11;
const RST: u8 = 0x04;

/// The pool with `host6-1` draining, and `host6-2` with all slots.
fn drained() -> String {
    let pool = web6("host6-1", "");
    let (backend, vip) = pool.split_once("\n[[vip]]").unwrap();
    let other = place("host6-2").address;
    format!(
        "{backend}  state = \"drain\"\n\n  [[pool.backend]]\n  id = \"host6-2\"\n  \
         address = \"{other}\"\n\n[[vip]]{vip}"
    )
}

/// A case whose pool changes before packet `change`.
fn changing(name: &'static str, sentence: &'static str, sent: Vec<Sent>, change: usize) -> Case {
    Case::new(name, sentence, config(&[PORT6, &web6("host6-1", "")]), sent)
        .reload(change, &[PORT6, &drained()])
}

pub(super) fn cases() -> Vec<Case> {
    let old = |frame| to("host6-1", frame);
    let new = |frame| to("host6-2", frame);
    vec![
        changing(
            "ipv6-syn-on-an-established-flow",
            "A SYN on an established flow over IPv6 goes to the flow's backend, also when new \
             flows go elsewhere; so does a repeated one.",
            vec![
                old(tcp(SYN, &[])),
                old(tcp(SYN, &[])).at(5),
                old(tcp(ACK, &[])).at(10),
                // From here on host6-1 drains and host6-2 has all slots.
                old(tcp(ACK, b"data")).at(1000),
                old(tcp(SYN, &[])).at(1100),
                old(tcp(ACK, b"data")).at(1200),
                old(tcp(FIN, &[])).at(1300),
            ],
            3,
        ),
        changing(
            "ipv6-new-connection-on-a-closed-flow",
            "A SYN over IPv6 on a 5-tuple whose connection was closed by FIN or RST opens another \
             one, which is given a backend afresh.",
            vec![
                old(tcp(SYN, &[])),
                old(tcp(ACK, &[])).at(10),
                old(tcp(FIN, &[])).at(20),
                // From here on host6-1 drains and host6-2 has all slots.
                old(tcp(ACK, &[])).at(1000),
                new(tcp(SYN, &[])).at(1100),
                new(tcp(ACK, &[])).at(1110),
                new(tcp(RST, &[])).at(1200),
                new(tcp(SYN, &[])).at(1300),
            ],
            3,
        ),
        Case::new(
            "ipv6-tcp-unknown-flow",
            "Packets of connections over IPv6 that this node never saw open are sent where the \
             table says; a RST of one, too.",
            config(&[PORT6, &web6("host6-1", "")]),
            vec![old(tcp(ACK, b"data")), old(tcp(FIN, &[])), old(tcp(RST, &[]))],
        ),
        elsewhere(),
        evicted("udp-evicted-backend", false),
        evicted("ipv6-udp-evicted-backend", true),
    ]
}

fn elsewhere() -> Case {
    let mut other = VIP6.0;
    other[15] = 2;
    let syn_to = |destination, port: u16| {
        let mut frame = packet_to(destination, 6, &super::ipv6::segment(SYN, &[]));
        frame[14 + 40 + 2..14 + 40 + 4].copy_from_slice(&port.to_be_bytes());
        frame
    };
    let sent = vec![
        Sent::dropped(syn_to(other, 80), "no_vip"),
        Sent::dropped(syn_to(VIP6.0, 81), "no_vip"),
        Sent::dropped(packet(17, &datagram(b"x")), "no_vip"),
        // IPv4 in IPv6, IPv6 in IPv6, GRE: not taken apart.
        Sent::dropped(packet(4, &[0x45; 40]), "no_vip"),
        Sent::dropped(packet(41, &[0x60; 40]), "no_vip"),
        Sent::dropped(packet(47, &[0; 40]), "no_vip"),
        Sent::dropped(syn_to(NODE6, 179), "no_exception_path"),
        Sent::dropped(packet_to(NODE6, 89, &[2; 24]), "no_exception_path"),
    ];
    Case::new(
        "drop-ipv6-elsewhere",
        "Packets over IPv6 to no VIP, to a VIP's address with another port or protocol, and to the \
         node's own address, which has no exception path here.",
        config(&[PORT6, &web6("host6-1", "")]),
        sent,
    )
}

fn packet_to(destination: [u8; 16], next: u8, behind: &[u8]) -> Vec<u8> {
    from_to(CLIENT6.0, destination, next, behind)
}

/// SPEC section 2: UDP of an evicted backend is selected afresh.
fn evicted(name: &'static str, v6: bool) -> Case {
    let pool = |number: u8| {
        let text = match v6 {
            true => web6(if number == 1 { "host6-1" } else { "host6-2" }, ""),
            false => WEB
                .replace("host-1", &format!("host-{number}"))
                .replace("10.0.0.1", &format!("10.0.0.{number}")),
        };
        text.replace("\"tcp\"", "\"udp\"")
    };
    let question = |port| match v6 {
        true => udp((CLIENT6.0, port), VIP6, b"question"),
        false => support::udp((CLIENT.0, port), VIP, b"question"),
    };
    let (vip, hosts, ports) = match v6 {
        true => ("[2001:db8:cafe::1]:80/udp", ["host6-1", "host6-2"], PORT6),
        false => ("203.0.113.1:80/udp", ["host-1", "host-2"], PORT),
    };
    let at = |host, port| Sent::new(question(port), Expected::ipip(vip, "web", host));
    let sent = vec![
        at(hosts[0], 40_000),
        at(hosts[0], 40_000).at(10_000),
        // The first leaves the file before packet 2 and is evicted 60 s later.
        at(hosts[0], 40_000).at(50_000),
        at(hosts[1], 40_001).at(50_001),
        at(hosts[0], 40_000).at(100_000),
        at(hosts[1], 40_000).at(110_100),
        at(hosts[1], 40_000).at(110_200),
    ];
    Case::new(
        name,
        "A flow of datagrams whose backend is evicted goes on at another one, without a word to \
         the client; it stays where it was as long as the backend drains.",
        config(&[ports, &pool(1)]),
        sent,
    )
    .reload(2, &[ports, &pool(2)])
}
