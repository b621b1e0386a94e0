//! Every kind of traffic there is, on tables that come and go.

use std::net::Ipv6Addr;

use dataplane::quic::Configuration;
use dataplane::tables::{Affinity, BackendState, Forwarding, MssClamp, Oversize, Tables};
use dataplane::vip::{VipPorts, VipProtocol};
use etherparse::PacketBuilder;

use crate::common::packets::{
    Endpoint, ack, arp, datagram, echo, fin, finish, rst, syn, tagged, tcp, udp,
};
use crate::common::world::{
    GATEWAY_MAC, NODE, NODE_MAC, NODE_TAGGED, NODE6, PoolSpec, VLAN, World, backend, backend6,
    set_affinity, vip, vip6,
};

const WEB: Endpoint = ([203, 0, 113, 1], 80);
const DIRECT: Endpoint = ([203, 0, 113, 2], 53);
const SLOW: Endpoint = ([203, 0, 113, 3], 80);
const EMPTY: Endpoint = ([203, 0, 113, 4], 80);

/// VIPs by index.
pub(crate) const VIP_NAMES: [&str; 12] = [
    "ipip",
    "l2dsr",
    "its next hop comes and goes",
    "no backend",
    "gre",
    "gue",
    "gue with a header",
    "ipv6 in ipv6",
    "ipv6 in gre",
    "ipv6 in gue",
    "by source",
    "by connection id",
];
const GRE: Endpoint = ([203, 0, 113, 5], 80);
const GUE: Endpoint = ([203, 0, 113, 6], 80);
const GUE_WITH_HEADER: Endpoint = ([203, 0, 113, 7], 80);
const BY_SOURCE: Endpoint = ([203, 0, 113, 8], 53);
const BY_ID: Endpoint = ([203, 0, 113, 9], 443);
const IPV6: [&str; 3] = ["2001:db8:cafe::1", "2001:db8:cafe::2", "2001:db8:cafe::3"];
/// The index of the backend that connection ids name.
const NAMED: u8 = 12;

/// The tables of a round.
pub(crate) fn tables(round: u32, generation: u64) -> Tables {
    let mut tables = world(round).tables(generation);
    let mut vips = tables.vips.to_vec();
    vips[0].mss_clamp = MssClamp::To(1300);
    vips[7].mss_clamp = MssClamp::Auto;
    tables.vips = vips.into();
    tables.clamps = round.is_multiple_of(2);
    tables.icmp.port_unreachable = true;
    tables.icmp.sent_per_second = 1_000_000;
    tables.icmp.sent_per_prefix = 1_000_000;
    if round.is_multiple_of(5) {
        tables.oversize = Oversize::Drop;
    }
    set_affinity(&mut tables, 10, Affinity::Source, &[]);
    // Nodes with such a VIP take another way; nodes without must be seen, too.
    if !round.is_multiple_of(3) {
        set_affinity(&mut tables, 11, Affinity::Quic, &configurations());
    }
    tables
}

/// In plain text, in one pass, in four.
fn configurations() -> [Configuration; 3] {
    [(0, 4, None), (1, 15, Some([7; 16])), (2, 6, Some([8; 16]))].map(
        |(config_id, nonce_length, key)| Configuration {
            config_id,
            server_id_length: 1,
            nonce_length,
            key,
            self_encoded_length: false,
        },
    )
}

/// Two pools that work, one whose next hop comes and goes, one without backends; one of each
/// tunnel, with backends of both families.
fn world(round: u32) -> World {
    let pool =
        |forwarding, entropy| PoolSpec { forwarding, entropy, reselect: false, table_size: 251 };
    let mut world = World {
        pools: vec![
            pool(Forwarding::Ipip, 0xffff),
            pool(Forwarding::L2dsr, 0),
            pool(Forwarding::Ipip, 0),
            pool(Forwarding::Ipip, 0),
            pool(Forwarding::Gre, 0),
            pool(Forwarding::Gue, 0),
            pool(Forwarding::GueWithHeader, 0),
            pool(Forwarding::Ipip, 0xffff_ffff),
            pool(Forwarding::Ipip, 0),
        ],
        backends: vec![
            backend(0, "a", [10, 0, 0, 1], 0),
            backend(0, "b", [10, 0, 0, 2], 1),
            backend(0, "c", [10, 0, 0, 3], 0),
            backend(1, "d", [192, 0, 2, 21], 0),
            backend(2, "e", [10, 0, 0, 5], 0),
            backend(4, "f", [10, 0, 0, 6], 0),
            backend6(4, "g", "2001:db8:b::7"),
            backend(5, "h", [10, 0, 0, 8], 0),
            backend6(5, "i", "2001:db8:b::9"),
            backend6(6, "j", "2001:db8:b::10"),
            backend6(7, "k", "2001:db8:b::11"),
            backend6(7, "l", "2001:db8:b::12"),
            backend(8, "m", [10, 0, 0, 13], 0),
            backend(8, "n", [10, 0, 0, 14], 0),
        ],
        vips: vec![
            vip(WEB.0, VipPorts::One(80), VipProtocol::Tcp, 0),
            vip(DIRECT.0, VipPorts::Any, VipProtocol::Udp, 1),
            vip(SLOW.0, VipPorts::Range(80..=90), VipProtocol::Any, 2),
            vip(EMPTY.0, VipPorts::Any, VipProtocol::Any, 3),
            vip(GRE.0, VipPorts::Any, VipProtocol::Any, 4),
            vip(GUE.0, VipPorts::Any, VipProtocol::Any, 5),
            vip(GUE_WITH_HEADER.0, VipPorts::Any, VipProtocol::Any, 6),
            vip6(IPV6[0], VipPorts::Any, VipProtocol::Any, 7),
            vip6(IPV6[1], VipPorts::Any, VipProtocol::Any, 4),
            vip6(IPV6[2], VipPorts::Any, VipProtocol::Any, 5),
            vip(BY_SOURCE.0, VipPorts::Any, VipProtocol::Udp, 0),
            vip(BY_ID.0, VipPorts::Any, VipProtocol::Udp, 8),
        ],
    };
    // "c" comes, is evicted, and comes back as another generation; "e" is reachable at times.
    let turn = round % 4;
    world.backends[2].state = if turn < 2 { BackendState::Active } else { BackendState::Evicted };
    world.backends[2].generation = (round / 4) as u16;
    // Stragglers over IPv6 are reset, too.
    world.backends[11].state = world.backends[2].state;
    world.backends[11].generation = world.backends[2].generation;
    world.backends[4].mac = (turn % 2 == 1).then_some(GATEWAY_MAC);
    world
}

/// A client of its own for each number.
fn client(number: u32) -> Endpoint {
    let [_, a, b, c] = number.to_be_bytes();
    ([198, 51, a, b], 1024 + u16::from(c))
}

/// One burst of everything. The flows of numbers below 16 come again and again, others once.
pub(crate) fn traffic(round: u32) -> Vec<(usize, Vec<u8>)> {
    let old = client(round % 16);
    let new = client(1000 + round);
    let mut frames: Vec<(usize, Vec<u8>)> = vec![
        (0, ack(old, WEB)),
        (0, ack(old, WEB)),
        (0, syn(new, WEB)),
        (0, ack(client(100_000 + round), WEB)),
        (1, tagged(&ack(old, WEB), VLAN)),
        (0, udp(old, DIRECT)),
        (0, udp(new, DIRECT)),
        (0, syn(new, SLOW)),
        (0, udp(new, SLOW)),
        (0, udp(old, SLOW)),
        (0, ack(old, SLOW)),
        (0, syn(new, EMPTY)),
        (0, arp([192, 0, 2, 1], NODE.octets(), false)),
        (0, arp([192, 0, 2, 1], NODE.octets(), true)),
        (0, arp([192, 0, 2, 1], [192, 0, 2, 99], false)),
        (0, echo(old.0, WEB.0)),
        (0, syn(old, (NODE.octets(), 179))),
        // The other port has no way to the kernel.
        (1, tagged(&syn(old, (NODE_TAGGED.octets(), 179)), VLAN)),
        (0, syn(old, ([203, 0, 113, 77], 80))),
        (0, syn(WEB, WEB)),
        (0, vec![0; (round % 60) as usize]),
    ];
    if (round / 10).is_multiple_of(4) {
        frames.push((0, syn(old, WEB)));
    }
    if round.is_multiple_of(7) {
        frames.push((0, fin(old, WEB)));
        frames.push((0, rst(old, WEB)));
    }
    // A bad byte in a different place each time.
    let mut bad = ack(old, WEB);
    let place = 12 + (round as usize) % (bad.len() - 12);
    bad[place] ^= 1 << (round % 8);
    frames.push((0, bad));
    // Fits the link as it is, and not with another header: with DF, and without.
    let large = finish(tcp(old, WEB, 1).ack(1), &[0; 1455]);
    frames.push((0, with_ip(large.clone(), |ip| ip[6] = 0)));
    frames.push((0, large));
    frames.push((0, with_ip(ack(old, WEB), |ip| ip[8] = 1)));
    // A SYN with options: the MSS, in the middle of others.
    let options = [1, 1, 2, 4, 0x05, 0xb4, 4, 2];
    frames.push((0, finish(tcp(new, WEB, 1).syn().options_raw(&options).unwrap(), &[])));
    // What a router says about packets of a backend: eight bytes behind the IP header.
    let quote = with_ip(ack(WEB, old), |_| {})[14..14 + 28].to_vec();
    for kind in [3, 11, 12] {
        frames.push((0, icmp(old.0, WEB.0, kind, &quote)));
    }
    for vip in [GRE, GUE, GUE_WITH_HEADER] {
        frames.push((0, ack(old, vip)));
        frames.push((0, udp(new, vip)));
    }
    frames.push((0, udp(new, BY_SOURCE)));
    // An id that names a server, one of a configuration that nobody can read, a first packet.
    let number = (round % 8) as u8;
    for first in [0x00, 0x20, 0x40, 0xe0] {
        let id = [first, NAMED, number, 1, 2, 3];
        frames.push((0, datagram(old, BY_ID, &[&[0x45], &id[..], &[0x5a; 24]].concat())));
    }
    frames.push((
        0,
        datagram(new, BY_ID, &[&[0xc3, 0, 0, 0, 1, 8], &[round as u8; 30][..]].concat()),
    ));
    frames.extend(fragments(round).into_iter().map(|frame| (0, frame)));
    frames.extend(traffic6(round).into_iter().map(|frame| (0, frame)));
    frames
}

/// A change of the IPv4 header, with its checksum right.
fn with_ip(mut frame: Vec<u8>, change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let ip = &mut frame[14..34];
    change(ip);
    ip[10..12].fill(0);
    let sum: u32 = ip.chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(word[1])).sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    frame
}

/// An ICMP error of type `kind`, about the packet `quote`.
fn icmp(source: [u8; 4], to: [u8; 4], kind: u8, quote: &[u8]) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(GATEWAY_MAC.0, NODE_MAC.0)
        .ipv4(source, to, 64)
        .icmpv4_raw(kind, 1, [0; 4]);
    let mut frame = Vec::new();
    builder.write(&mut frame, quote).unwrap();
    frame
}

/// Datagrams in three pieces, over both versions of IP: in order, the last one first, without the
/// first one, and with pieces that overlap.
fn fragments(round: u32) -> Vec<Vec<u8>> {
    let [high, low] = (round as u16).to_be_bytes();
    let [_, a, b, c] = (2000 + round).to_be_bytes();
    let source = [198, 51, a, b];
    let payload = [[0x5a; 8]; 3].concat();
    let whole = datagram((source, 1024 + u16::from(c)), DIRECT, &payload);
    let v4 = |number: u8, place: u8, more: bool| {
        let from = 34 + usize::from(place) * 8;
        let frame =
            [&whole[..34], &whole[from..if more { from + 8 } else { whole.len() }]].concat();
        let length = (frame.len() - 14) as u16;
        with_ip(frame, |ip| {
            ip[2..4].copy_from_slice(&length.to_be_bytes());
            ip[4..8].copy_from_slice(&[high ^ number, low, u8::from(more) << 5, place]);
        })
    };
    let vip: Ipv6Addr = IPV6[0].parse().unwrap();
    let client = Ipv6Addr::new(0x2001, 0xdb8, 8, a.into(), b.into(), 0, 0, c.into());
    let v6 = |number: u8, place: u8, more: bool| {
        let from = 34 + usize::from(place) * 8;
        let piece = &whole[from..if more { from + 8 } else { whole.len() }];
        let header = [17, 0, 0, place << 3 | u8::from(more), number, 0, high, low];
        packet6(client, vip, 44, 64, &[&header[..], piece].concat())
    };
    let mut frames = Vec::new();
    for order in [[0, 1, 3], [3, 1, 0], [1, 3, 3], [0, 0, 1]] {
        let number = order.iter().fold(0u8, |number, place| number << 2 | place);
        frames.extend(order.map(|place| v4(number, place, place < 3)));
        frames.extend(order.map(|place| v6(number, place, place < 3)));
    }
    // Reaches into the piece before it; too small to say whose it is.
    frames.extend([
        v4(1, 0, true),
        v4(1, 1, false),
        v4(1, 2, true),
        v6(1, 0, true),
        v6(1, 0, false),
    ]);
    let mut tiny = ack((source, 1024), WEB)[..34 + 8].to_vec();
    tiny[16..18].copy_from_slice(&28u16.to_be_bytes());
    frames.push(with_ip(tiny, |ip| ip[6] = 0x20));
    frames
}

/// The same over IPv6.
fn traffic6(round: u32) -> Vec<Vec<u8>> {
    let client = |number: u32| {
        let [_, a, b, c] = number.to_be_bytes().map(u16::from);
        (Ipv6Addr::new(0x2001, 0xdb8, 7, a, b, 0, 0, c), 40_000)
    };
    let (old, new) = (client(round % 16), client(1000 + round));
    let mut frames = Vec::new();
    for vip in IPV6 {
        let vip: Ipv6Addr = vip.parse().unwrap();
        frames.push(segment6(old, vip, 0x10, &[]));
        frames.push(segment6(new, vip, 0x02, &[]));
        frames.push(segment6(old, vip, 0x10, b"data"));
        // Behind options for each hop and for the destination.
        let mut behind = segment6(old, vip, 0x10, &[]).split_off(54);
        behind.splice(..0, [[60, 0, 1, 4, 0, 0, 0, 0], [6, 0, 1, 4, 0, 0, 0, 0]].concat());
        frames.push(packet6(old.0, vip, 0, 64, &behind));
        if round.is_multiple_of(7) {
            frames.push(segment6(old, vip, 0x11, &[]));
            frames.push(segment6(old, vip, 0x04, &[]));
        }
        frames.push(echo6(old.0, vip));
    }
    let vip = IPV6[0].parse().unwrap();
    let mut last_hop = segment6(old, vip, 0x10, &[]);
    last_hop[14 + 7] = 1;
    frames.push(last_hop);
    let mut quote = segment6((vip, 80), old.0, 0x10, &[])[14..].to_vec();
    quote[42..44].copy_from_slice(&old.1.to_be_bytes());
    for kind in 1..5 {
        frames.push(icmp6(old.0, vip, 64, kind, &[&[0; 4], &quote[..]].concat()));
    }
    let gateway = "2001:db8:0:1::1".parse().unwrap();
    // Who has the node's address; the gateway's answer; a solicitation that came over a router.
    let mac = GATEWAY_MAC.0;
    let asked = [&[0; 4], &NODE6.octets()[..], &[1, 1], &mac].concat();
    let told = [&[0x60, 0, 0, 0], &Ipv6Addr::octets(&gateway)[..], &[2, 1], &mac].concat();
    frames.push(icmp6(gateway, NODE6, 255, 135, &asked));
    frames.push(icmp6(gateway, NODE6, 255, 136, &told));
    frames.push(icmp6(gateway, NODE6, 64, 135, &asked));
    // More headers than anybody needs.
    let endless = [60, 0, 1, 4, 0, 0, 0, 0].repeat(9);
    frames.push(packet6(old.0, IPV6[0].parse().unwrap(), 60, 64, &endless));
    // Fits the link as it is, and not with another header.
    frames.push(segment6(old, IPV6[0].parse().unwrap(), 0x10, &[0; 1430]));
    // A bad byte in a different place each time.
    let mut bad = segment6(old, IPV6[1].parse().unwrap(), 0x10, &[]);
    let place = 12 + (round as usize) % (bad.len() - 12);
    bad[place] ^= 1 << (round % 8);
    frames.push(bad);
    frames
}

/// An IPv6 packet; `next` is what its fixed header says comes first.
fn packet6(source: Ipv6Addr, to: Ipv6Addr, next: u8, hop_limit: u8, behind: &[u8]) -> Vec<u8> {
    let mut frame = [NODE_MAC.0, GATEWAY_MAC.0].concat();
    frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
    frame.extend((behind.len() as u16).to_be_bytes());
    frame.extend([next, hop_limit]);
    frame.extend(source.octets());
    frame.extend(to.octets());
    frame.extend(behind);
    frame
}

fn segment6(source: (Ipv6Addr, u16), vip: Ipv6Addr, flags: u8, payload: &[u8]) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(GATEWAY_MAC.0, NODE_MAC.0)
        .ipv6(source.0.octets(), vip.octets(), 64)
        .tcp(source.1, 80, 1, 65_535);
    let builder = if flags & 0x10 != 0 { builder.ack(1) } else { builder };
    let builder = if flags & 0x01 != 0 { builder.fin() } else { builder };
    let builder = if flags & 0x02 != 0 { builder.syn() } else { builder };
    let builder = if flags & 0x04 != 0 { builder.rst() } else { builder };
    let mut frame = Vec::new();
    builder.write(&mut frame, payload).unwrap();
    frame
}

fn echo6(source: Ipv6Addr, vip: Ipv6Addr) -> Vec<u8> {
    icmp6(source, vip, 64, 128, b"\0\x01\0\x02abcdefgh")
}

/// An ICMPv6 message of type `kind`; `rest` is what follows its checksum.
fn icmp6(source: Ipv6Addr, to: Ipv6Addr, hop_limit: u8, kind: u8, rest: &[u8]) -> Vec<u8> {
    let (first, payload) = rest.split_first_chunk::<4>().unwrap();
    let builder = PacketBuilder::ethernet2(GATEWAY_MAC.0, NODE_MAC.0)
        .ipv6(source.octets(), to.octets(), hop_limit)
        .icmpv6_raw(kind, 0, *first);
    let mut frame = Vec::new();
    builder.write(&mut frame, payload).unwrap();
    frame
}

/// What a routing daemon on the node's kernel says.
pub(crate) fn from_kernel() -> Vec<u8> {
    let mut frame = syn((NODE.octets(), 40_000), ([192, 0, 2, 1], 179));
    frame[..6].copy_from_slice(&GATEWAY_MAC.0);
    frame[6..12].copy_from_slice(&NODE_MAC.0);
    frame
}
