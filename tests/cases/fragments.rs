//! Fragments, over both versions of IP.

use super::ipv6::{self, options};
use super::{
    CLIENT, CLIENT6, Case, Expected, Out, PORT, PORT6, Sent, VIP, VIP6, config, header, ipv4,
    with_ip,
};

/// One pool and a VIP for UDP and TCP, in both families.
const DNS: &str = r#"[[pool]]
id = "dns"
hash_secret = "000102030405060708090a0b0c0d0e0f"

  [[pool.backend]]
  id = "host-1"
  address = "10.0.0.1"

[[vip]]
address = "203.0.113.1"
port = 53
protocol = "any"
pool = "dns"

[[vip]]
address = "2001:db8:cafe::1"
port = 53
protocol = "any"
pool = "dns"
"#;

const VIP_NAME: &str = "203.0.113.1:53/any";
const VIP6_NAME: &str = "[2001:db8:cafe::1]:53/any";

/// A UDP datagram of the client's, without its IP header.
fn udp(length: usize) -> Vec<u8> {
    let mut bytes = [&CLIENT.1.to_be_bytes()[..], &53u16.to_be_bytes()].concat();
    bytes.extend((length as u16).to_be_bytes());
    bytes.extend([0x12, 0x34]);
    bytes.extend((8..length).map(|at| at as u8));
    bytes
}

/// A TCP segment with a header of 20 bytes and `payload` more.
fn tcp(flags: u8, payload: usize) -> Vec<u8> {
    let mut bytes = [&CLIENT.1.to_be_bytes()[..], &53u16.to_be_bytes()].concat();
    bytes.extend([0, 0, 0, 1, 0, 0, 0, 2, 0x50, flags, 1, 0, 0, 0, 0, 0]);
    bytes.extend((0..payload).map(|at| at as u8));
    bytes
}

/// A part of what an IPv4 packet of `protocol` would carry.
fn part4(protocol: u8, id: u16, bytes: &[u8], at: u16, more: bool) -> Vec<u8> {
    let mut header = header(protocol);
    header.identification = id;
    header.more_fragments = more;
    header.fragment_offset = (at / 8).try_into().unwrap();
    header.dont_fragment = false;
    ipv4(&header, bytes)
}

/// The same over IPv6, behind a fragment header that says `next`.
fn part6(next: u8, id: u32, bytes: &[u8], at: u16, more: bool) -> Vec<u8> {
    let mut behind = vec![next, 0];
    behind.extend((at | u16::from(more)).to_be_bytes());
    behind.extend(id.to_be_bytes());
    behind.extend(bytes);
    ipv6::packet(44, &behind)
}

/// Forwarded, and with it what had waited for it.
fn forwarded(vip: &'static str, backend: &'static str, frame: Vec<u8>, waited: &[usize]) -> Sent {
    let mut outputs = vec![Out::Ipip { of: None, backend }];
    outputs.extend(waited.iter().map(|of| Out::Ipip { of: Some(*of), backend }));
    Sent::new(frame, Expected::at_backend("forward", (vip, "dns", backend), outputs))
}

fn four(frame: Vec<u8>, waited: &[usize]) -> Sent {
    forwarded(VIP_NAME, "host-1", frame, waited)
}

fn six(frame: Vec<u8>, waited: &[usize]) -> Sent {
    forwarded(VIP6_NAME, "host-1", frame, waited)
}

fn waits(frame: Vec<u8>) -> Sent {
    Sent::new(frame, Expected::of("hold", Vec::new()))
}

fn case(name: &'static str, sentence: &'static str, sent: Vec<Sent>) -> Case {
    Case::new(name, sentence, config(&[PORT6, DNS]), sent)
}

fn ipv4_fragments() -> Case {
    let datagram = udp(80);
    let part = |id, from: usize, to: usize| {
        part4(17, id, &datagram[from..to], from as u16, to < datagram.len())
    };
    let segment = tcp(0x02, 60);
    let mut marked = part(4, 40, 80);
    marked = with_ip(marked, |ip| ip[1] = 0xb8);
    case(
        "ipv4-fragments",
        "Fragments of IPv4 datagrams go to the backend of their flow, each in an outer header of its \
         own; those that come before the first wait for it and go out behind it, also of TCP.",
        vec![
            // In order.
            four(part(1, 0, 32), &[]),
            four(part(1, 32, 64), &[]),
            four(part(1, 64, 80), &[]),
            // The last first; two datagrams mixed.
            waits(part(2, 64, 80)),
            waits(part(3, 16, 80)),
            waits(part(2, 40, 64)),
            four(part(2, 0, 40), &[3, 5]),
            four(part(3, 0, 16), &[4]),
            // The identification again, as the datagram before is done.
            four(part(1, 0, 40), &[]),
            four(part(1, 40, 80), &[]),
            // TCP.
            waits(part4(6, 5, &segment[40..], 40, false)),
            four(part4(6, 5, &segment[..40], 0, true), &[10]),
            // A copy of one that went out.
            four(part(4, 0, 40), &[]),
            four(part(4, 0, 40), &[]),
            four(marked, &[]),
        ],
    )
}

fn ipv6_fragments() -> Case {
    let datagram = udp(80);
    let part = |id, from: usize, to: usize| {
        part6(17, id, &datagram[from..to], from as u16, to < datagram.len())
    };
    // Behind the fragment header come options, then UDP.
    let long = [&options(17)[..], &datagram].concat();
    let atomic = part6(17, 9, &datagram, 0, false);
    case(
        "ipv6-fragments",
        "Fragments of IPv6 packets go to the backend of their flow, extension headers and all; an \
         atomic fragment (RFC 6946) is a whole packet.",
        vec![
            six(part(1, 0, 32), &[]),
            six(part(1, 32, 80), &[]),
            waits(part(2, 64, 80)),
            waits(part(2, 32, 64)),
            six(part(2, 0, 32), &[2, 3]),
            // The same identification over IPv4 is another datagram.
            waits(part4(17, 7, &datagram[40..], 40, false)),
            six(part6(60, 7, &long[..40], 0, true), &[]),
            six(part6(60, 7, &long[40..], 40, false), &[]),
            six(atomic.clone(), &[]),
            six(atomic, &[]),
        ],
    )
}

fn after_a_change() -> Case {
    let drained = DNS.replacen(
        "  [[pool.backend]]\n  id = \"host-1\"\n  address = \"10.0.0.1\"\n",
        "  [[pool.backend]]\n  id = \"host-1\"\n  address = \"10.0.0.1\"\n  state = \"drain\"\n\n  \
         [[pool.backend]]\n  id = \"host-2\"\n  address = \"10.0.0.2\"\n",
        1,
    );
    let old = udp(80);
    let mut new = udp(80);
    new[..2].copy_from_slice(&50_000u16.to_be_bytes());
    let mut whole = header(17);
    whole.identification = 1;
    let part = |id, bytes: &[u8], from: usize, to: usize| {
        part4(17, id, &bytes[from..to], from as u16, to < bytes.len())
    };
    case(
        "fragments-after-a-pool-change",
        "Fragments follow their flow's conntrack entry to a backend that drains; those of a new flow \
         go where the table says.",
        vec![
            four(ipv4(&whole, &old), &[]),
            waits(part(2, &old, 40, 80)),
            waits(part(3, &new, 40, 80)),
            four(part(2, &old, 0, 40), &[1]),
            forwarded(VIP_NAME, "host-2", part(3, &new, 0, 40), &[2]),
        ],
    )
    .reload(1, &[PORT6, &drained])
}

fn by_hash() -> Case {
    let datagram = udp(80);
    let part = |id, from: usize, to: usize| {
        part4(17, id, &datagram[from..to], from as u16, to < datagram.len())
    };
    let text = config(&[PORT, "[fragments]\nearly = \"hash\"\n", DNS]).replace(
        "[[vip]]\naddress = \"2001:db8:cafe::1\"\nport = 53\nprotocol = \"any\"\npool = \"dns\"\n",
        "",
    );
    Case::new(
        "fragments-by-hash",
        "With early = \"hash\" nothing waits: a datagram whose first fragment is late goes by source, \
         destination and protocol.",
        text,
        vec![
            four(part(1, 40, 80), &[]),
            four(part(1, 0, 40), &[]),
            four(part(2, 0, 40), &[]),
            four(part(2, 40, 80), &[]),
        ],
    )
}

fn dropped() -> Case {
    let datagram = udp(80);
    let part =
        |id, from: usize, to: usize, more| part4(17, id, &datagram[from..to], from as u16, more);
    let part_6 =
        |id, from: usize, to: usize, more| part6(17, id, &datagram[from..to], from as u16, more);
    let drop = Sent::dropped;
    let segment = tcp(0x10, 40);
    let mut sent = vec![
        // Neither empty, nor off the grid, nor beyond the longest datagram.
        drop(part4(17, 1, &[], 8, true), "bad_fragment"),
        drop(part(1, 0, 36, true), "bad_fragment"),
        drop(part4(17, 1, &datagram, 65_528, false), "bad_fragment"),
        // 65,535 bytes, but the header counts, too.
        drop(part4(17, 1, &[0; 7], 65_528, false), "bad_fragment"),
        drop(part6(17, 1, &[], 8, true), "bad_fragment"),
        drop(part_6(1, 0, 36, true), "bad_fragment"),
        drop(part6(17, 1, &[0; 8], 65_528, false), "bad_fragment"),
        // The first has all of the transport header, and TCP's flags are nowhere else.
        drop(part4(6, 1, &segment[..16], 0, true), "tiny_fragment"),
        drop(part4(6, 1, &segment[8..], 8, false), "tiny_fragment"),
        drop(part6(6, 1, &segment[..16], 0, true), "tiny_fragment"),
        drop(part6(6, 1, &segment[8..], 8, false), "tiny_fragment"),
        // Pings in pieces.
        drop(part4(1, 1, &datagram[..40], 0, true), "icmp_fragment"),
        drop(part6(58, 1, &datagram[..40], 0, true), "icmp_fragment"),
    ];
    // The last byte that fits, over either version.
    sent.push(waits(part4(17, 90, &[0; 3], 65_512, false)));
    sent.push(waits(part6(17, 90, &[0; 7], 65_528, false)));
    // Overlaps: the datagram is given up, what waits and what comes.
    sent.push(four(part(2, 0, 40, true), &[]));
    sent.push(drop(part(2, 32, 80, false), "fragment_overlap"));
    sent.push(drop(part(2, 40, 80, false), "fragment_overlap"));
    sent.push(waits(part_6(2, 40, 64, true)));
    sent.push(drop(part_6(2, 40, 80, false), "fragment_overlap"));
    sent.push(drop(part_6(2, 0, 40, true), "fragment_overlap"));
    // A second first fragment, of another flow.
    let mut other = datagram.clone();
    other[..2].copy_from_slice(&50_000u16.to_be_bytes());
    sent.push(four(part(3, 0, 40, true), &[]));
    sent.push(drop(part4(17, 3, &other[..40], 0, true), "fragment_overlap"));
    // A copy of one that waits.
    sent.push(waits(part(4, 40, 80, false)));
    sent.push(drop(part(4, 40, 80, false), "fragment_duplicate"));
    // One too many: 64 of a datagram wait.
    sent.extend((1..=64).map(|at| waits(part4(17, 5, &[at; 8], u16::from(at) * 8, true))));
    sent.push(drop(part4(17, 5, &[65; 8], 65 * 8, true), "fragment_no_room"));
    sent.push(drop(part(5, 0, 8, true), "fragment_no_room"));
    // What waits does so for half a second.
    sent.push(waits(part(6, 40, 80, false)));
    sent.push(four(part(7, 0, 40, true), &[]).at(400));
    sent.push(drop(part(6, 0, 40, true), "fragment_timeout").at(600));
    // To nobody here, and to the node itself.
    let mut elsewhere = header(17);
    elsewhere.more_fragments = true;
    elsewhere.destination = [203, 0, 113, 9];
    sent.push(drop(ipv4(&elsewhere, &datagram[..40]), "no_vip").at(601));
    elsewhere.destination = [192, 0, 2, 2];
    sent.push(drop(ipv4(&elsewhere, &datagram[..40]), "no_exception_path").at(601));
    // To no port of the VIP's.
    let mut closed = datagram.clone();
    closed[2..4].copy_from_slice(&54u16.to_be_bytes());
    sent.push(drop(part4(17, 8, &closed[..40], 0, true), "no_vip").at(602));
    sent.push(drop(part4(17, 8, &closed[40..], 40, false), "no_vip").at(602));
    let config = config(&[PORT6, DNS]);
    Case::new(
        "drop-fragments",
        "Fragments that cannot be part of a datagram, tiny ones, overlapping ones, copies, and those \
         for which there is no room or no time; and pings in pieces.",
        config,
        sent,
    )
}

pub(super) fn cases() -> Vec<Case> {
    assert_eq!((VIP.0, VIP6.0, CLIENT6.1), ([203, 0, 113, 1], VIP6.0, CLIENT.1));
    vec![ipv4_fragments(), ipv6_fragments(), after_a_change(), by_hash(), dropped()]
}
