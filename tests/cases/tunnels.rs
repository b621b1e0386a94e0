//! Tunnels: each mode, around either version of IP, inside either.

use etherparse::PacketBuilder;

use super::flows::of_protocol;
use super::ipv6::{ACK, SYN, tcp as tcp6};
use super::{
    CLIENT, CLIENT6, Case, Expected, Out, PORT6, Sent, VIP, VIP6, WEB_VIP, WEB6_VIP, config,
    padded, web_of_one, web6,
};
use crate::support::{GATEWAY_MAC, NODE_MAC, finish, tcp};

/// A SYN of flow `number`, over IPv4 or IPv6.
fn syn(v6: bool, number: u16) -> Vec<u8> {
    let link = PacketBuilder::ethernet2(GATEWAY_MAC, NODE_MAC);
    let builder = match v6 {
        true => link.ipv6(CLIENT6.0, VIP6.0, 64).tcp(41_000 + number, VIP6.1, 1, 1),
        false => link.ipv4(CLIENT.0, VIP.0, 64).tcp(41_000 + number, VIP.1, 1, 1),
    };
    finish(builder.syn(), &[])
}

fn ack4(payload: &[u8]) -> Vec<u8> {
    finish(tcp(CLIENT, VIP, 1001).ack(5001), payload)
}

/// A case of one mode: both versions of IP, several packets, to `backend`.
fn both(
    name: &'static str,
    sentence: &'static str,
    (backend, keys): (&'static str, &str),
    out: fn(&'static str) -> Out,
    fits: usize,
) -> Case {
    let forwarded = move |vip, frame| {
        let names = (vip, "web", backend);
        Sent::new(frame, Expected::at_backend("forward", names, vec![out(backend)]))
    };
    let four = |frame| forwarded(WEB_VIP, frame);
    let six = |frame| forwarded(WEB6_VIP, frame);
    let vip6 = web6(backend, keys);
    let (_, vip6) = vip6.split_once("[[vip]]").unwrap();
    let pools = format!("{}\n[[vip]]{vip6}", web_of_one(backend, keys));
    let mut sent = vec![four(ack4(b"data")), six(tcp6(ACK, b"data")), four(padded(ack4(&[])))];
    // An odd number of bytes, for the checksum; DSCP and ECN; the last hop.
    sent.push(six(tcp6(ACK, b"odd")));
    let mut marked = tcp6(SYN, &[]);
    marked[14..16].copy_from_slice(&[0x6b, 0xb0]);
    sent.push(six(marked));
    let dropped = |frame, reason, vip| Sent::dropped_at(frame, reason, vip, "web", Some(backend));
    let mut last = tcp6(ACK, &[]);
    last[14 + 7] = 1;
    sent.push(dropped(last, "ttl_expired", WEB6_VIP).told(3, 0, 0, "2001:db8:0:1::2"));
    // What just fits the link with this mode's headers, and what does not.
    sent.push(four(ack4(&vec![0x77; fits - 40])));
    sent.push(six(tcp6(ACK, &vec![0x77; fits - 60])));
    let mtu = fits as u32;
    let four_more = dropped(ack4(&vec![0x77; fits - 39]), "too_big", WEB_VIP);
    sent.push(four_more.told(3, 4, mtu, "203.0.113.1"));
    let six_more = dropped(tcp6(ACK, &vec![0x77; fits - 59]), "too_big", WEB6_VIP);
    sent.push(six_more.told(2, 0, mtu, "2001:db8:cafe::1"));
    for number in 0..8 {
        sent.push(four(syn(false, number)));
        sent.push(six(syn(true, number)));
    }
    Case::new(name, sentence, config(&[PORT6, &pools]), sent)
}

pub(super) fn cases() -> Vec<Case> {
    let ipip: fn(&'static str) -> Out = |backend| Out::Ipip { of: None, backend };
    let gre: fn(&'static str) -> Out = |backend| Out::Gre { backend };
    let gue: fn(&'static str) -> Out = |backend| Out::Gue { backend };
    let mut zero = both(
        "gue-in-ipv6-without-checksum",
        "GUE over IPv6 without a UDP checksum, as configured (RFC 6935).",
        ("host6-1", "forwarding = \"gue\"\n"),
        gue,
        1452,
    );
    zero.config = format!("[encapsulation]\ngue_checksum_v6 = false\n\n{}", zero.config);
    zero.outer.udp_checksum = false;
    vec![
        both(
            "ipip-in-ipv6",
            "IPv4 and IPv6 packets go to an IPv6 backend in an outer IPv6 header, whose flow label \
             is the same for all packets of a flow and different between flows.",
            ("host6-1", ""),
            ipip,
            1460,
        ),
        both(
            "gre-in-ipv4",
            "IPv4 and IPv6 packets go to an IPv4 backend in GRE, whose header names the version \
             inside (RFC 2784).",
            ("host-1", "forwarding = \"gre\"\n"),
            gre,
            1476,
        ),
        both(
            "gre-in-ipv6",
            "IPv4 and IPv6 packets go to an IPv6 backend in GRE (RFC 7676).",
            ("host6-1", "forwarding = \"gre\"\n"),
            gre,
            1456,
        ),
        both(
            "gue-in-ipv4",
            "IPv4 and IPv6 packets go to an IPv4 backend in UDP (GUE, variant 1), from a source port \
             that is the flow's, without a UDP checksum.",
            ("host-1", "forwarding = \"gue\"\n"),
            gue,
            1472,
        ),
        both(
            "gue-in-ipv6",
            "IPv4 and IPv6 packets go to an IPv6 backend in UDP (GUE, variant 1), with a UDP \
             checksum over all of it.",
            ("host6-1", "forwarding = \"gue\"\n"),
            gue,
            1452,
        ),
        zero,
        both(
            "gue-variant-0-in-ipv4",
            "GUE, variant 0: IPv4 and IPv6 packets go to an IPv4 backend behind a UDP header and a GUE \
             header that says what is inside.",
            ("host-1", "forwarding = \"gue\"\ngue_variant = 0\n"),
            |backend| Out::GueHeader { backend, version: None, hop: None },
            1468,
        ),
        both(
            "gue-variant-0-in-ipv6",
            "GUE, variant 0, to an IPv6 backend, with a UDP checksum over all of it.",
            ("host6-1", "forwarding = \"gue\"\ngue_variant = 0\n"),
            |backend| Out::GueHeader { backend, version: None, hop: None },
            1448,
        ),
        second_chance(
            "second-chance-in-ipv4",
            "GUE, variant 0, with a second chance: a flow that the node does not know, on a slot whose \
             owner drains, goes to the new owner with the name of the old one; a flow that it knows \
             goes where it was, and names nobody; what fits leaves room for a name. An evicted \
             owner is not named.",
            ["host-1", "host-2"],
            1456,
        ),
        second_chance(
            "second-chance-in-ipv6",
            "The same with IPv6 backends, which are named in 16 bytes.",
            ["host6-1", "host6-2"],
            1424,
        ),
        entropy(),
        not_decapsulated(),
    ]
}

/// Two backends: the second takes over from the first, which drains and is then evicted.
fn second_chance(
    name: &'static str,
    sentence: &'static str,
    [first, other]: [&'static str; 2],
    fits: usize,
) -> Case {
    let keys = "forwarding = \"gue\"\ngue_variant = 0\nsecond_chance = true\n";
    let pools = |backend: &'static str, leaving: &str| {
        let vip6 = web6(backend, "");
        let (_, vip6) = vip6.split_once("[[vip]]").unwrap();
        let pool = web_of_one(backend, keys).replace("[[vip]]", &format!("{leaving}[[vip]]"));
        config(&[PORT6, &pool, &format!("\n[[vip]]{vip6}")])
    };
    let sent = |frame, vip, backend, version, hop| {
        let out = Out::GueHeader { backend, version: Some(version), hop };
        Sent::new(frame, Expected::at_backend("forward", (vip, "web", backend), vec![out]))
    };
    let mut all = vec![
        sent(syn(false, 0), WEB_VIP, first, 1, None),
        sent(syn(true, 0), WEB6_VIP, first, 1, None),
        // The first drains from here on.
        sent(syn(false, 0), WEB_VIP, first, 2, None),
        sent(ack4(b"unknown"), WEB_VIP, other, 2, Some(first)),
        sent(ack4(b"known now"), WEB_VIP, other, 2, Some(first)),
        sent(tcp6(ACK, b"unknown"), WEB6_VIP, other, 2, Some(first)),
        sent(ack4(&vec![0x77; fits - 40]), WEB_VIP, other, 2, Some(first)),
        Sent::dropped_at(ack4(&vec![0x77; fits - 39]), "too_big", WEB_VIP, "web", Some(other))
            .told(3, 4, fits as u32, "203.0.113.1"),
    ];
    let changed = all.len();
    // And is gone from the file here: drained at once, and evicted.
    all.push(sent(ack4(b"on"), WEB_VIP, other, 2, Some(first)).at(100));
    all.push(sent(ack4(b"on"), WEB_VIP, other, 3, None).at(61_200));
    all.push(sent(syn(true, 7), WEB6_VIP, other, 3, None).at(61_300));
    let address = super::place(first).address;
    let draining = format!(
        "  [[pool.backend]]\n  id = \"{first}\"\n  address = \"{address}\"\n  state = \
         \"drain\"\n\n"
    );
    let mut case = Case::new(name, sentence, pools(first, ""), all);
    case.reloads.push((2, pools(other, &draining)));
    case.reloads.push((changed, pools(other, "")));
    case
}

fn entropy() -> Case {
    let keys = "[encapsulation]\nsource_entropy_v6 = \"100::/64\"\nouter_ttl = 9\n";
    let sent = (0..8)
        .flat_map(|number| [syn(true, number), syn(true, number)])
        .map(|frame| super::ipv6::to("host6-1", frame));
    let mut case = Case::new(
        "ipv6-source-entropy",
        "The outer IPv6 source is drawn from a prefix by the flow's hash, and the hop limit is what \
         the configuration says.",
        config(&[keys, PORT6, &web6("host6-1", "")]),
        sent.collect(),
    );
    case.outer.source_v6 = ([1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], 64);
    case.outer.time_to_live = 9;
    case
}

fn not_decapsulated() -> Case {
    Case::new(
        "tunnels-to-a-vip",
        "IP in IP, GRE and their like addressed to a VIP are not taken apart: dropped where no VIP \
         takes any protocol.",
        config(&[PORT6, &web_of_one("host6-1", "")]),
        [4, 41, 47].map(|protocol| Sent::dropped(of_protocol(protocol), "no_vip")).to_vec(),
    )
}
