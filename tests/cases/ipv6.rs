//! Flows over IPv6: what goes through, and what the packets look like on the way out. Also what
//! other cases make IPv6 packets with.

use etherparse::PacketBuilder;

use super::{
    CLIENT6, Case, Expected, NODE6, Out, PORT6, Sent, VIP6, WEB6_VIP, config, padded, web6,
};
use crate::support::{GATEWAY_MAC, NODE_MAC};

/// An IPv6 packet in its frame, of any chain: `next` is what the fixed header says comes first.
pub(super) fn packet(next: u8, behind: &[u8]) -> Vec<u8> {
    from_to(CLIENT6.0, VIP6.0, next, behind)
}

/// The same between two addresses; hop limit 64.
pub(super) fn from_to(source: [u8; 16], destination: [u8; 16], next: u8, behind: &[u8]) -> Vec<u8> {
    let mut frame = [NODE_MAC, GATEWAY_MAC].concat();
    frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
    frame.extend((behind.len() as u16).to_be_bytes());
    frame.extend([next, 64]);
    frame.extend(source);
    frame.extend(destination);
    frame.extend(behind);
    frame
}

/// TCP flags as their byte.
pub(super) const SYN: u8 = 0x02;
pub(super) const ACK: u8 = 0x10;
const FIN: u8 = 0x11;
const RST: u8 = 0x04;

/// A TCP segment of the client to the VIP, without its IP header.
pub(super) fn segment(flags: u8, payload: &[u8]) -> Vec<u8> {
    let builder = PacketBuilder::ipv6(CLIENT6.0, VIP6.0, 64).tcp(CLIENT6.1, VIP6.1, 1000, 64_240);
    let builder = if flags & ACK != 0 { builder.ack(5001) } else { builder };
    let builder = if flags & SYN != 0 { builder.syn() } else { builder };
    let builder = if flags & RST != 0 { builder.rst() } else { builder };
    let builder = if flags & 1 != 0 { builder.fin() } else { builder };
    let mut bytes = Vec::new();
    builder.write(&mut bytes, payload).unwrap();
    bytes.split_off(40)
}

/// The packet of that segment.
pub(super) fn tcp(flags: u8, payload: &[u8]) -> Vec<u8> {
    packet(6, &segment(flags, payload))
}

/// A UDP datagram to the VIP, without its IP header.
pub(super) fn datagram(payload: &[u8]) -> Vec<u8> {
    let builder = PacketBuilder::ipv6(CLIENT6.0, VIP6.0, 64).udp(CLIENT6.1, VIP6.1);
    let mut bytes = Vec::new();
    builder.write(&mut bytes, payload).unwrap();
    bytes.split_off(40)
}

/// A UDP datagram in its frame.
pub(super) fn udp(
    source: ([u8; 16], u16),
    destination: ([u8; 16], u16),
    payload: &[u8],
) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(GATEWAY_MAC, NODE_MAC)
        .ipv6(source.0, destination.0, 64)
        .udp(source.1, destination.1);
    let mut frame = Vec::new();
    builder.write(&mut frame, payload).unwrap();
    frame
}

/// An ICMPv6 message to an address, without its IP header.
pub(super) fn icmp(
    source: [u8; 16],
    destination: [u8; 16],
    kind: u8,
    code: u8,
    rest: [u8; 4],
    payload: &[u8],
) -> Vec<u8> {
    let builder = PacketBuilder::ipv6(source, destination, 255).icmpv6_raw(kind, code, rest);
    let mut bytes = Vec::new();
    builder.write(&mut bytes, payload).unwrap();
    bytes.split_off(40)
}

/// An options header of eight bytes, all padding, that says what comes next.
pub(super) fn options(next: u8) -> [u8; 8] {
    [next, 0, 1, 4, 0, 0, 0, 0]
}

/// A change of the fixed header.
pub(super) fn with(mut frame: Vec<u8>, at: usize, bytes: &[u8]) -> Vec<u8> {
    frame[14 + at..14 + at + bytes.len()].copy_from_slice(bytes);
    frame
}

/// Forwarded to the only backend, by `ipip`.
pub(super) fn to(backend: &'static str, frame: Vec<u8>) -> Sent {
    Sent::new(frame, Expected::ipip(WEB6_VIP, "web", backend))
}

fn case(name: &'static str, sentence: &'static str, backend: &str, sent: Vec<Sent>) -> Case {
    Case::new(name, sentence, config(&[PORT6, &web6(backend, "")]), sent)
}

/// Every packet of a connection.
fn connection(backend: &'static str) -> Vec<Sent> {
    vec![
        to(backend, tcp(SYN, &[])),
        to(backend, tcp(ACK, b"GET / HTTP/1.1\r\n\r\n")).at(10),
        to(backend, padded(tcp(ACK, &[]))).at(20),
        to(backend, tcp(FIN, &[])).at(30),
        to(backend, tcp(RST, &[])).at(40),
        // DSCP 46, congestion experienced, and a flow label: the class is copied, the label is not.
        to(backend, with(tcp(ACK, b"x"), 0, &[0x6b, 0xb1, 0x23, 0x45])).at(50),
    ]
}

pub(super) fn cases() -> Vec<Case> {
    let host6 = |frame| to("host6-1", frame);
    let reason = |reason, frame| Sent::dropped_at(frame, reason, WEB6_VIP, "web", Some("host6-1"));
    let hops = |limit: u8| with(tcp(SYN, &[]), 7, &[limit]);
    let near = PORT6.to_owned()
        + "\n  [[port.neighbors]]\n  address = \"2001:db8:0:1::15\"\n  \
           mac = \"02:00:00:00:11:15\"\n";
    let direct = |frame| Sent::new(frame, Expected::l2dsr(WEB6_VIP, "web", "near6-21"));
    vec![
        case(
            "ipv6-in-ipv6",
            "A connection over IPv6 goes to a backend that has an IPv6 address, in an outer IPv6 \
             header with a flow label of its own.",
            "host6-1",
            connection("host6-1"),
        ),
        case(
            "ipv6-in-ipv4",
            "A connection over IPv6 goes to a backend that has an IPv4 address (protocol 41).",
            "host-1",
            connection("host-1"),
        ),
        Case::new(
            "ipv6-udp-flow",
            "Datagrams over IPv6 go to one backend; a checksum that is wrong is not the balancer's \
             business.",
            config(&[PORT6, &web6("host6-1", "").replace("\"tcp\"", "\"udp\"")]),
            [datagram(b"question"), datagram(&[]), {
                let mut wrong = datagram(b"question");
                wrong[6] ^= 0xff;
                wrong
            }]
            .into_iter()
            .map(|bytes| {
                let expected = Expected::ipip("[2001:db8:cafe::1]:80/udp", "web", "host6-1");
                Sent::new(packet(17, &bytes), expected)
            })
            .collect(),
        ),
        case(
            "ipv6-extension-headers",
            "Extension headers are parsed past and forwarded intact: hop-by-hop and destination \
             options, a routing header that has reached its end, a fragment header around a whole \
             packet (RFC 6946), eight of them at most.",
            "host6-1",
            extension_headers().into_iter().map(host6).collect(),
        ),
        case(
            "ipv6-hop-limit",
            "The inner hop limit goes down by one; at 1 the packet is dropped, and the node tells the \
             client (time exceeded).",
            "host6-1",
            vec![
                host6(hops(255)),
                host6(hops(2)),
                reason("ttl_expired", hops(1)).told(3, 0, 0, "2001:db8:0:1::2"),
                reason("ttl_expired", hops(0)).told(3, 0, 0, "2001:db8:0:1::2"),
            ],
        ),
        case(
            "ipv6-too-big",
            "A packet of 1460 bytes just fits the link with an outer IPv6 header, one byte more \
             does not, and the client is told what would (RFC 4443).",
            "host6-1",
            vec![
                host6(tcp(ACK, &[0x77; 1460 - 60])),
                reason("too_big", tcp(ACK, &[0x77; 1461 - 60])).told(
                    2,
                    0,
                    1460,
                    "2001:db8:cafe::1",
                ),
            ],
        ),
        Case::new(
            "ipv6-l2dsr",
            "Layer-2 direct routing leaves an IPv6 packet as it is, whichever family the backend's \
             own address has.",
            config(&[&near, &web6("near6-21", "forwarding = \"l2dsr\"\n")]),
            vec![direct(tcp(SYN, &[])), direct(tcp(ACK, b"data")), direct(hops(1))],
        ),
        Case::new(
            "ipv6-l2dsr-by-ipv4",
            "Layer-2 direct routing of IPv6 packets to a backend that is known by its IPv4 address.",
            config(&[
                &near.replace("2001:db8:0:1::15", "192.0.2.21").replace("11:15", "10:15"),
                &web6("near-21", "forwarding = \"l2dsr\"\n"),
            ]),
            vec![Sent::new(tcp(SYN, &[]), Expected::l2dsr(WEB6_VIP, "web", "near-21"))],
        ),
        evicted(),
        prefixes(),
        echo(),
    ]
}

fn extension_headers() -> Vec<Vec<u8>> {
    let syn = segment(SYN, &[]);
    let chain = |first: u8, headers: &[&[u8]]| {
        let mut behind = headers.concat();
        behind.extend(&syn);
        packet(first, &behind)
    };
    let many: Vec<[u8; 8]> = (0..8).map(|left| options(if left == 7 { 6 } else { 60 })).collect();
    let many: Vec<&[u8]> = many.iter().map(|header| &header[..]).collect();
    vec![
        // Hop-by-hop with a router alert (RFC 2711).
        chain(0, &[&[6, 0, 5, 2, 0, 0, 1, 0]]),
        chain(60, &[&options(6)]),
        chain(43, &[&[6, 0, 0, 0, 0, 0, 0, 0]]),
        chain(44, &[&[6, 0, 0, 0, 0, 0, 0, 9]]),
        chain(
            0,
            &[
                &options(60),
                &options(43),
                &[44, 0, 4, 0, 0, 0, 0, 0],
                &[60, 0, 0, 0, 0, 0, 0, 9],
                &options(6),
            ],
        ),
        chain(60, &many),
        // One header of 512 bytes.
        chain(60, &[&[&[6, 63][..], &[0; 510]].concat()]),
    ]
}

fn evicted() -> Case {
    let old = |frame| to("host6-1", frame);
    let new = |frame| to("host6-2", frame);
    let names = (WEB6_VIP, "web", "host6-1");
    let reset = |frame| Sent::new(frame, Expected::at_backend("reply", names, vec![Out::Reset]));
    let behind_options = {
        let mut behind = options(6).to_vec();
        behind.extend(segment(ACK, b"data"));
        packet(60, &behind)
    };
    let mut case = case(
        "ipv6-evicted-backend",
        "Stragglers of an evicted backend are answered over IPv6, too, without the extension \
         headers that they had.",
        "host6-1",
        vec![
            old(tcp(SYN, &[])),
            old(tcp(ACK, &[])).at(10),
            // host6-1 leaves the file before packet 2 and is evicted 60 s later.
            old(tcp(ACK, b"data")).at(1_000),
            reset(tcp(ACK, b"data")).at(61_100),
            reset(behind_options).at(61_200),
            reset(tcp(0x01, b"tail")).at(61_300),
            Sent::dropped_at(tcp(RST, &[]), "backend_evicted", WEB6_VIP, "web", Some("host6-1"))
                .at(61_400),
            new(tcp(SYN, &[])).at(61_500),
        ],
    );
    case.reloads.push((2, config(&[PORT6, &web6("host6-2", "")])));
    case
}

fn prefixes() -> Case {
    let vips = "\n[[vip]]\naddress = \"2001:db8:cafe::/48\"\nport = \"any\"\nprotocol = \"any\"\n\
                pool = \"web\"\n";
    let syn_to = |destination: [u8; 16], port: u16| {
        let builder = PacketBuilder::ethernet2(GATEWAY_MAC, NODE_MAC)
            .ipv6(CLIENT6.0, destination, 64)
            .tcp(CLIENT6.1, port, 1, 1)
            .syn();
        let mut bytes = Vec::new();
        builder.write(&mut bytes, &[]).unwrap();
        bytes
    };
    let mut other = VIP6.0;
    other[15] = 9;
    let mut beyond = VIP6.0;
    beyond[5] ^= 1;
    let wide =
        |frame| Sent::new(frame, Expected::ipip("[2001:db8:cafe::/48]:any/any", "web", "host6-1"));
    Case::new(
        "ipv6-vip-prefixes",
        "The longest prefix wins over IPv6 as over IPv4, and one for any protocol takes what has no \
         ports.",
        config(&[PORT6, &(web6("host6-1", "") + vips)]),
        vec![
            to("host6-1", syn_to(VIP6.0, 80)),
            wide(syn_to(VIP6.0, 81)),
            wide(syn_to(other, 80)),
            wide(packet(50, &[7; 24])),
            wide(packet(59, &[])),
            Sent::dropped(syn_to(beyond, 80), "no_vip"),
        ],
    )
}

fn echo() -> Case {
    let ping = |destination: [u8; 16], payload: &[u8]| {
        let message = icmp(CLIENT6.0, destination, 128, 0, [0x12, 0x34, 0, 7], payload);
        from_to(CLIENT6.0, destination, 58, &message)
    };
    let answered = |frame| Sent::new(frame, Expected::of("reply", vec![Out::Echo]));
    let link_local = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xfe, 0, 0, 2];
    let behind_options = {
        let mut behind = options(58).to_vec();
        behind.extend(icmp(CLIENT6.0, VIP6.0, 128, 0, [1, 2, 3, 4], b"abcdefgh"));
        packet(0, &behind)
    };
    let mut last_hop = ping(VIP6.0, b"odd");
    last_hop[14 + 7] = 1;
    let message = |kind, code| {
        let bytes = icmp(CLIENT6.0, VIP6.0, kind, code, [0; 4], &[0; 8]);
        packet(58, &bytes)
    };
    let mut elsewhere = VIP6.0;
    elsewhere[15] = 2;
    let mut damaged = ping(VIP6.0, b"abcdefgh");
    *damaged.last_mut().unwrap() ^= 1;
    case(
        "icmpv6-echo",
        "A ping over IPv6 to a VIP or to the node's own addresses, the link-local one too, is \
         answered by the node, without the extension headers it had; other messages are dropped, \
         and so are damaged ones.",
        "host6-1",
        vec![
            answered(ping(VIP6.0, b"abcdefgh")),
            answered(ping(VIP6.0, &[])),
            answered(padded(ping(VIP6.0, &[]))),
            answered(last_hop),
            answered(ping(NODE6, &[0x61; 1452])),
            answered(ping(link_local, b"x")),
            answered(behind_options),
            Sent::dropped(ping(elsewhere, b"abcdefgh"), "no_vip"),
            Sent::dropped(message(129, 0), "icmp_unsupported"),
            Sent::dropped(message(128, 1), "icmp_unsupported"),
            // A router's advertisement, and a redirect.
            Sent::dropped(message(134, 0), "icmp_unsupported"),
            Sent::dropped(message(137, 0), "icmp_unsupported"),
            Sent::dropped(damaged, "bad_icmp"),
            Sent::dropped(packet(58, &[128, 0, 0, 0, 0, 0, 0]), "bad_icmp"),
        ],
    )
}
