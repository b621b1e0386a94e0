//! Tags: which a port takes, and that everything leaves with its own.

use etherparse::PacketBuilder;

use super::ipv6::{self, SYN, packet};
use super::links::{TAGGED_PORT, web_at};
use super::{
    CLIENT, Case, DOUBLE_TAG, DOUBLED_TAG, Expected, NODE6, Out, SINGLE_TAG, Sent, VIP, VIP6,
    WEB_VIP, WEB6_VIP, config, ndp, tagged, web6,
};
use crate::support::{GATEWAY_MAC, NODE_MAC, arp, finish, tcp};

const NODE: [u8; 4] = [192, 0, 2, 2];
/// The backend of the doubly tagged port.
const BACKEND: [u8; 4] = [192, 0, 2, 5];
const BACKEND_MAC: [u8; 6] = [0x02, 0, 0, 0, 0x10, 5];
/// Their own tags, as they come.
const OWN: [(u16, u16); 2] = [(0x88a8, 200), (0x8100, 100)];

fn syn() -> Vec<u8> {
    finish(tcp(CLIENT, VIP, 1000).syn(), &[])
}

fn ping() -> Vec<u8> {
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(GATEWAY_MAC, NODE_MAC)
        .ipv4(CLIENT.0, VIP.0, 64)
        .icmpv4_echo_request(1, 1)
        .write(&mut frame, b"abcdefgh")
        .unwrap();
    frame
}

fn reply(frame: Vec<u8>, out: Out) -> Sent {
    Sent::new(frame, Expected::of("reply", vec![out]))
}

fn other(frame: &[u8], tags: &[(u16, u16)]) -> Sent {
    Sent::dropped(tagged(frame, tags), "other_vlan")
}

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::web(
            "priority-tag",
            "A port without a tag of its own takes tagged frames, for the priority only (identifier 0, \
             IEEE 802.1Q) or of any network, and writes none; answers keep the tags of the question.",
            vec![
                Sent::web(tagged(&syn(), &[(0x8100, 0)])),
                Sent::web(tagged(&syn(), &[(0x8100, 0xe000)])),
                Sent::web(tagged(&syn(), &[(0x8100, 100)])),
                Sent::web(tagged(&syn(), &[(0x88a8, 7), (0x8100, 100)])),
                Sent::web(tagged(&syn(), &[(0x8100, 7), (0x8100, 100)])),
                reply(tagged(&ping(), &[(0x88a8, 7), (0x8100, 100)]), Out::Echo),
            ],
        ),
        vlan(),
        vlan_ipv6(),
        qinq(),
        qinq_ipv6(),
        qinq_8021q(),
    ]
}

fn vlan() -> Case {
    let to = |frame| Sent::new(frame, Expected::ipip(WEB_VIP, "web", "tagged-5"));
    let ask = arp(1, [198, 18, 0, 5], [198, 18, 0, 2], [0xff; 6]);
    let mut case = Case::new(
        "vlan",
        "A tagged port takes its own tag, also below a service tag (QinQ) and whatever the priority, \
         and frames without one, but no other tag; it writes its own on everything that leaves.",
        config(&[TAGGED_PORT, &web_at("tagged-5", "198.18.0.5", "")]),
        vec![
            to(tagged(&syn(), &[(0x8100, 100)])),
            to(tagged(&syn(), &[(0x8100, 0x6000 | 100)])),
            to(tagged(&syn(), &[(0x88a8, 7), (0x8100, 100)])),
            reply(tagged(&ask, &[(0x8100, 100)]), Out::Arp),
            reply(ask, Out::Arp),
            reply(tagged(&ping(), &[(0x88a8, 7), (0x8100, 100)]), Out::Echo),
            to(syn()),
            to(tagged(&syn(), &[(0x8100, 0)])),
            other(&syn(), &[(0x8100, 101)]),
            other(&syn(), &[(0x8100, 100), (0x8100, 101)]),
            Sent::dropped(
                tagged(&syn(), &[(0x88a8, 1), (0x88a8, 2), (0x8100, 100)]),
                "unknown_ethertype",
            ),
            Sent::dropped(tagged(&syn(), &[(0x8100, 100)])[..16].to_vec(), "frame_too_short"),
        ],
    );
    case.outer.source = ([198, 18, 0, 2], 32);
    case.outer.port_tags = Some(SINGLE_TAG);
    case
}

/// The port of the other cases, its tags in `keys`.
fn port(keys: &str) -> String {
    format!(
        "[[port]]
name = \"uplink\"
device = \"net_tap0,iface=weir0\"
mac = \"02:00:00:00:00:02\"
{keys}
addresses = [\"192.0.2.2/24\", \"2001:db8:0:1::2/64\"]
"
    )
}

/// What an IPv6 port with tags `own` says to packets with those, without any, and with others.
fn over_ipv6(
    name: &'static str,
    sentence: &'static str,
    (keys, port_tags, backend): (&str, &'static [u8], &'static str),
    own: &[(u16, u16)],
    others: &[&[(u16, u16)]],
) -> Case {
    let names = (WEB6_VIP, "web", backend);
    let target = match super::place(backend).address {
        std::net::IpAddr::V6(address) => address.octets(),
        std::net::IpAddr::V4(_) => unreachable!("a backend with an IPv6 address"),
    };
    let asker = [&NODE6[..15], &[9]].concat().try_into().unwrap();
    let held = Expected::at_backend("hold", names, Vec::new());
    let asked = Out::Solicitation { target, to: None };
    let mac = super::place(backend).mac;
    let answer = ndp::message((136, 0x60), (target, NODE6, NODE_MAC), target, Some((2, mac)));
    let released = vec![Out::Ipip { of: Some(0), backend }];
    let to = |frame| Sent::new(frame, Expected::ipip(WEB6_VIP, "web", backend));
    let advertised = Out::Advertisement { overriding: true };
    let syn = ipv6::tcp(SYN, &[]);
    let echo = ipv6::icmp(super::CLIENT6.0, VIP6.0, 128, 0, [0, 1, 0, 1], b"abcdefgh");
    let mut sent = vec![
        Sent::new(tagged(&syn, own), held).after(asked),
        Sent::new(tagged(&answer, own), Expected::of("host", released)).at(1),
        to(tagged(&syn, own)).at(2),
        to(syn.clone()).at(2),
        reply(tagged(&ndp::ask(asker, NODE6), own), advertised.clone()).at(3),
        reply(ndp::ask(asker, NODE6), advertised).at(3),
        reply(tagged(&packet(58, &echo), own), Out::Echo).at(3),
        reply(packet(58, &echo), Out::Echo).at(3),
    ];
    sent.extend(others.iter().map(|tags| other(&syn, tags).at(4)));
    let mut case = Case::new(name, sentence, config(&[&port(keys), &web6(backend, "")]), sent);
    case.outer.port_tags = Some(port_tags);
    case
}

fn vlan_ipv6() -> Case {
    over_ipv6(
        "vlan-ipv6",
        "A tagged port over IPv6: forwarded packets, the node's own neighbour solicitations, and its \
         answers, also to questions without a tag, all leave with the port's.",
        ("vlan = 100", SINGLE_TAG, "tagged6-5"),
        &OWN[1..],
        &[&[(0x8100, 101)], &[(0x8100, 100), (0x8100, 101)]],
    )
}

fn qinq_ipv6() -> Case {
    over_ipv6(
        "qinq-ipv6",
        "A port with two tags over IPv6: forwarded packets, the node's own neighbour solicitations, \
         and its answers, also to questions without a tag, all leave with both.",
        ("vlan = 100\nouter_vlan = 200", DOUBLE_TAG, "double6-5"),
        &OWN,
        &[&[(0x8100, 100)], &[(0x88a8, 201), (0x8100, 100)], &[(0x88a8, 200), (0x8100, 101)]],
    )
}

fn qinq() -> Case {
    // The way to the backend that comes after this one is known: nothing is asked for it.
    let keys = "vlan = 100\nouter_vlan = 200\n\
                neighbors = [{ address = \"192.0.2.6\", mac = \"02:00:00:00:10:06\" }]";
    let web = web_at("double-5", "192.0.2.5", "drain_seconds = 1");
    let gone = web.replace("double-5", "double-6").replace("192.0.2.5", "192.0.2.6");
    let names = (WEB_VIP, "web", "double-5");
    let held = Expected::at_backend("hold", names, Vec::new());
    let mut answer = arp(2, BACKEND, NODE, NODE_MAC);
    // The sender is the backend.
    answer[6..12].copy_from_slice(&BACKEND_MAC);
    answer[22..28].copy_from_slice(&BACKEND_MAC);
    let released = vec![Out::Ipip { of: Some(0), backend: "double-5" }];
    let ask = arp(1, BACKEND, NODE, [0xff; 6]);
    let to = |frame| Sent::new(frame, Expected::ipip(WEB_VIP, "web", "double-5"));
    let straggler = finish(tcp(CLIENT, VIP, 1001).ack(1), &[]);
    let reset = |frame| Sent::new(frame, Expected::at_backend("reply", names, vec![Out::Reset]));
    let sent = vec![
        Sent::new(tagged(&syn(), &OWN), held)
            .after(Out::ArpRequest { target: BACKEND, to: [0xff; 6] }),
        Sent::new(tagged(&answer, &OWN), Expected::of("host", released)).at(1),
        to(tagged(&syn(), &OWN)).at(2),
        to(tagged(&syn(), &[(0x8100, 200), (0x8100, 0xe000 | 100)])).at(2),
        to(syn()).at(2),
        to(tagged(&syn(), &[(0x8100, 0)])).at(2),
        reply(tagged(&ask, &OWN), Out::Arp).at(3),
        reply(ask, Out::Arp).at(3),
        reply(tagged(&ping(), &OWN), Out::Echo).at(3),
        reply(ping(), Out::Echo).at(3),
        other(&syn(), &[(0x8100, 100)]).at(4),
        other(&syn(), &[(0x88a8, 200)]).at(4),
        other(&syn(), &[(0x88a8, 201), (0x8100, 100)]).at(4),
        other(&syn(), &[(0x88a8, 200), (0x8100, 101)]).at(4),
        other(&syn(), &[(0x8100, 100), (0x88a8, 200)]).at(4),
        reset(tagged(&straggler, &OWN)).at(5_000),
        reset(straggler).at(5_000),
    ];
    let mut case = Case::new(
        "qinq",
        "A port with two tags takes exactly those, whatever kind they are and whatever their \
         priority, and frames without; both are on everything that leaves: forwarded packets, the \
         node's own ARP requests, its answers, resets.",
        config(&[&port(keys), &web]),
        sent,
    );
    case.reloads.push((14, config(&[&port(keys), &gone])));
    case.outer.port_tags = Some(DOUBLE_TAG);
    case
}

fn qinq_8021q() -> Case {
    let keys = "vlan = 100\nouter_vlan = 200\nouter_vlan_protocol = \"802.1q\"\n\
                neighbors = [{ address = \"192.0.2.5\", mac = \"02:00:00:00:10:05\" }]";
    let direct = |frame| Sent::new(frame, Expected::l2dsr(WEB_VIP, "web", "doubled-5"));
    let mut case = Case::new(
        "qinq-8021q",
        "The outer tag may be one of 802.1Q, too; here in front of packets that are otherwise left \
         as they are (l2dsr).",
        config(&[&port(keys), &web_at("doubled-5", "192.0.2.5", "forwarding = \"l2dsr\"")]),
        vec![
            direct(tagged(&syn(), &[(0x8100, 200), (0x8100, 100)])),
            direct(syn()),
            reply(tagged(&ping(), &OWN), Out::Echo),
        ],
    );
    case.outer.port_tags = Some(DOUBLED_TAG);
    case
}
