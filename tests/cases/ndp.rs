//! Neighbour discovery: whom the node answers for, whom it asks for, and what it does not believe.

use std::net::Ipv6Addr;

use super::ipv6::{ACK, SYN, from_to, icmp, tcp, to};
use super::{Case, Expected, NODE6, Out, PORT6, Sent, WEB6_VIP, config, padded, web6};
use crate::support::{GATEWAY_MAC, NODE_MAC};

const NAMES: (&str, &str, &str) = (WEB6_VIP, "web", "host6-1");

fn address(text: &str) -> [u8; 16] {
    text.parse::<Ipv6Addr>().unwrap().octets()
}

fn gateway() -> [u8; 16] {
    address("2001:db8:0:1::1")
}

/// The group that an address is asked for at, and the station address of that group.
fn group(target: [u8; 16]) -> ([u8; 16], [u8; 6]) {
    let [.., a, b, c] = target;
    let mut group = address("ff02::1:ff00:0");
    group[13..].copy_from_slice(&[a, b, c]);
    (group, [0x33, 0x33, 0xff, a, b, c])
}

/// A message of neighbour discovery, hop limit 255: `option` is type and link-layer address.
pub(super) fn message(
    (kind, flags): (u8, u8),
    (source, destination, station): ([u8; 16], [u8; 16], [u8; 6]),
    target: [u8; 16],
    option: Option<(u8, [u8; 6])>,
) -> Vec<u8> {
    let mut payload = target.to_vec();
    if let Some((kind, mac)) = option {
        payload.extend([kind, 1]);
        payload.extend(mac);
    }
    let bytes = icmp(source, destination, kind, 0, [flags, 0, 0, 0], &payload);
    let mut frame = from_to(source, destination, 58, &bytes);
    frame[14 + 7] = 255;
    frame[..6].copy_from_slice(&station);
    frame
}

/// "Who has `target`?", from an address, to the target's group.
pub(super) fn ask(source: [u8; 16], target: [u8; 16]) -> Vec<u8> {
    let (address, station) = group(target);
    message((135, 0), (source, address, station), target, Some((1, GATEWAY_MAC)))
}

/// The gateway's solicited answer to the node, with the given flags beside "solicited".
fn answer(target: [u8; 16], flags: u8, option: Option<(u8, [u8; 6])>) -> Vec<u8> {
    message((136, 0x40 | flags), (target, NODE6, NODE_MAC), target, option)
}

pub(super) fn cases() -> Vec<Case> {
    vec![answers(), foreign_vip(), unsound(), resolution(), by_claim(), link_local_gateway()]
}

fn answers() -> Case {
    let asker = address("2001:db8:0:1::9");
    let vip = address("2001:db8:0:1::cafe");
    let answered = |frame| {
        Sent::new(frame, Expected::of("reply", vec![Out::Advertisement { overriding: true }]))
    };
    let for_vip = |frame| {
        Sent::new(frame, Expected::of("reply", vec![Out::Advertisement { overriding: false }]))
    };
    let noted = |frame| Sent::new(frame, Expected::of("host", Vec::new()));
    let link_vip = web6("host6-1", "").replace("2001:db8:cafe::1", "2001:db8:0:1::cafe");
    let own = address("fe80::ff:fe00:2");
    // RFC 4862 section 5.4.2: no address yet, and no link-layer address to tell.
    let (address_of_group, station) = group(NODE6);
    let detects = message((135, 0), ([0; 16], address_of_group, station), NODE6, None);
    // To the node alone, as when what is known is refreshed; without an option.
    let refresh = message((135, 0), (asker, NODE6, NODE_MAC), NODE6, None);
    Case::new(
        "ndp",
        "Neighbour solicitations for the node's own addresses and for a VIP inside the link's \
         prefix are answered, to all nodes when the asker has no address yet; for a VIP, which \
         several nodes may have, without the override flag.",
        config(&[PORT6, &link_vip]),
        vec![
            answered(ask(asker, NODE6)),
            answered(padded(ask(asker, NODE6))),
            answered(ask(address("fe80::9"), own)),
            for_vip(ask(asker, vip)),
            answered(detects),
            answered(refresh),
            Sent::dropped(ask(asker, address("2001:db8:0:1::99")), "foreign_ndp"),
            // Advertisements are read, and teach only about next hops that are wanted.
            noted(answer(asker, 0x20, Some((2, GATEWAY_MAC)))),
        ],
    )
}

fn foreign_vip() -> Case {
    Case::new(
        "ndp-off-link-vip",
        "A VIP outside the link's prefix is reached by routing, so solicitations for it are not \
         answered.",
        config(&[PORT6, &web6("host6-1", "")]),
        vec![Sent::dropped(ask(gateway(), super::VIP6.0), "foreign_ndp")],
    )
}

fn unsound() -> Case {
    let good = || ask(gateway(), NODE6);
    let bad = |frame: Vec<u8>| Sent::dropped(frame, "bad_ndp");
    let changed = |change: fn(&mut Vec<u8>)| {
        let mut frame = good();
        change(&mut frame);
        bad(frame)
    };
    let (group_address, station) = group(NODE6);
    let from = |source| message((135, 0), (source, group_address, station), NODE6, None);
    let about = |target| message((135, 0), (gateway(), NODE6, NODE_MAC), target, None);
    let with_option = |option| message((135, 0), (gateway(), NODE6, NODE_MAC), NODE6, Some(option));
    Case::new(
        "drop-ndp",
        "Messages of neighbour discovery that came through a router, that are cut or damaged, \
         whose addresses cannot be, or whose options do not add up (RFC 4861 section 7.1).",
        config(&[PORT6, &web6("host6-1", "")]),
        vec![
            changed(|frame| frame[14 + 7] = 254),
            changed(|frame| *frame.last_mut().unwrap() ^= 1),
            bad(from_to(gateway(), NODE6, 58, &icmp(gateway(), NODE6, 135, 0, [0; 4], &[0; 8]))),
            bad(from(address("ff02::1"))),
            bad(from(address("::1"))),
            bad(about(address("ff02::1"))),
            bad(about(address("::"))),
            bad(with_option((1, [0xff; 6]))),
            bad(with_option((1, [0; 6]))),
            // Duplicate address detection that tells an address, or asks one station.
            bad(message((135, 0), ([0; 16], group_address, station), NODE6, Some((1, [2; 6])))),
            bad(message((135, 0), ([0; 16], NODE6, NODE_MAC), NODE6, None)),
            // An answer that nobody can have asked for, at a group.
            bad(message(
                (136, 0x60),
                (gateway(), address("ff02::1"), [0x33, 0x33, 0, 0, 0, 1]),
                gateway(),
                Some((2, GATEWAY_MAC)),
            )),
        ],
    )
}

/// The port without its static neighbours.
fn port() -> String {
    PORT6.split_once("\n  [[port.neighbors]]").unwrap().0.to_owned() + "\n"
}

fn config_of(port: &str) -> String {
    // Only the IPv6 gateway: questions for the other would be in between.
    config(&[&port.replace("\"192.0.2.1\", ", ""), &web6("host6-1", "")])
}

fn held(frame: Vec<u8>) -> Sent {
    Sent::new(frame, Expected::at_backend("hold", NAMES, Vec::new()))
}

/// An answer that lets these packets go.
fn releases(frame: Vec<u8>, packets: &[usize]) -> Sent {
    let out = packets.iter().map(|of| Out::Ipip { of: Some(*of), backend: "host6-1" });
    Sent::new(frame, Expected::of("host", out.collect()))
}

fn resolution() -> Case {
    let asked = || Out::Solicitation { target: gateway(), to: None };
    let refreshed = || Out::Solicitation { target: gateway(), to: Some(GATEWAY_MAC) };
    Case::new(
        "ndp-resolution",
        "Packets wait while the gateway is asked for by neighbour discovery, and leave in their \
         order when it answers; the answer is refreshed before it expires, and one that repeats no \
         address confirms the one there is.",
        config_of(&port()),
        vec![
            held(tcp(SYN, &[])).after(asked()),
            held(tcp(ACK, &[])).at(1),
            releases(answer(gateway(), 0xa0, Some((2, GATEWAY_MAC))), &[0, 1]).at(2),
            to("host6-1", tcp(ACK, b"x")).at(3),
            to("host6-1", tcp(ACK, b"x")).after(refreshed()).at(20_100),
            releases(answer(gateway(), 0x80, None), &[]).at(20_101),
            to("host6-1", tcp(ACK, b"x")).at(35_000),
            // An advertisement that may not override, of another address: the node asks.
            releases(answer(gateway(), 0, Some((2, [2, 9, 9, 9, 9, 9]))), &[]).at(35_001),
            to("host6-1", tcp(ACK, b"x")).after(refreshed()).at(36_100),
        ],
    )
}

fn by_claim() -> Case {
    let asked = || Out::Solicitation { target: gateway(), to: None };
    let directly = || Out::Solicitation { target: gateway(), to: Some(GATEWAY_MAC) };
    Case::new(
        "ndp-learned-from-a-solicitation",
        "A solicitation from the gateway says where it is; the address is used, and asked about at \
         once.",
        config_of(&port()),
        vec![
            held(tcp(SYN, &[])).after(asked()),
            Sent::new(
                ask(gateway(), NODE6),
                Expected::of(
                    "reply",
                    vec![
                        Out::Advertisement { overriding: true },
                        Out::Ipip { of: Some(0), backend: "host6-1" },
                        directly(),
                    ],
                ),
            )
            .at(10),
            to("host6-1", tcp(ACK, b"x")).at(20),
        ],
    )
}

fn link_local_gateway() -> Case {
    let port = port().replace("\"192.0.2.1\", \"2001:db8:0:1::1\"", "\"fe80::1\"")
        + "\n  [[port.neighbors]]\n  address = \"fe80::1\"\n  mac = \"02:00:00:00:00:01\"\n";
    Case::new(
        "ipv6-link-local-gateway",
        "A gateway may be named by its link-local address; outer headers have the port's global \
         one.",
        config(&[&port, &web6("host6-1", "")]),
        vec![to("host6-1", tcp(SYN, &[]))],
    )
}
