//! What the node makes of a packet that it cannot send on as it is: errors of its own, outer packets
//! in fragments, a smaller MSS.

use super::icmp::{TCP, UDP, error4, of_flow, quote4};
use super::ipv6::{ACK, SYN, packet, tcp as tcp6};
use super::{
    CLIENT, CLIENT6, Case, Expected, Out, PORT, PORT6, Sent, VIP, VIP6, WEB, WEB_VIP, WEB6_VIP,
    config, header, ipv4, web_of_one, web6, with_ip,
};
use crate::support::{GATEWAY_MAC, NODE_MAC, finish, tcp, udp};

pub(super) fn cases() -> Vec<Case> {
    vec![
        never_told(),
        told_within_limits(),
        fragmented(),
        fragmented_v6(),
        oversize_dropped(),
        port_unreachable(),
        clamped(),
        clamped_auto(),
    ]
}

/// An IPv4 UDP packet of `length` bytes to `VIP`, DF or not.
fn datagram(dont_fragment: bool, length: usize) -> Vec<u8> {
    with_ip(udp(CLIENT, VIP, &vec![0x5a; length - 28]), |ip| ip[6] = u8::from(dont_fragment) << 6)
}

fn udp_web() -> String {
    WEB.replace("protocol = \"tcp\"", "protocol = \"udp\"")
}

const UDP_VIP: &str = "203.0.113.1:80/udp";

fn never_told() -> Case {
    let quoted = quote4(TCP, &[of_flow(), vec![0x55; 1480]].concat());
    let big = error4(3, 4, &quoted[..1500 - 28]);
    let last_hop = with_ip(error4(3, 4, &quoted[..100]), |ip| ip[8] = 1);
    let from = |source: [u8; 4]| {
        with_ip(finish(tcp(CLIENT, VIP, 2).ack(3), &[0x77; 1460]), |ip| {
            ip[12..16].copy_from_slice(&source);
        })
    };
    let at = |frame, reason| Sent::dropped_at(frame, reason, WEB_VIP, "web", Some("host-1"));
    Case::web(
        "icmp-never-told",
        "No ICMP error is sent about an ICMP error that is too big or out of hops, nor to a subnet's \
         broadcast address.",
        vec![
            at(big, "too_big"),
            at(last_hop, "ttl_expired"),
            at(from([192, 0, 2, 255]), "too_big"),
        ],
    )
}

fn told_within_limits() -> Case {
    let from = |third: u8, fourth: u8| {
        with_ip(finish(tcp(CLIENT, VIP, 2).ack(3), &[0x77; 1460]), |ip| {
            ip[12..16].copy_from_slice(&[198, 51, third, fourth]);
        })
    };
    let big = |frame| Sent::dropped_at(frame, "too_big", WEB_VIP, "web", Some("host-1"));
    let told = |frame| big(frame).told(3, 4, 1480, "203.0.113.1");
    Case::new(
        "icmp-told-within-limits",
        "ICMP errors of the node's own are limited for each source prefix, and over all.",
        config(&["[icmp]\nsent_per_second = 4\nsent_per_prefix = 2\n", PORT, WEB]),
        vec![
            told(from(1, 1)),
            told(from(1, 2)),
            big(from(1, 3)),
            told(from(2, 1)),
            told(from(3, 1)),
            big(from(4, 1)),
            told(from(5, 1)).at(1000),
        ],
    )
}

fn fragmented() -> Case {
    let pieces = |frame, backend| {
        let last = |last| Out::Fragment { backend, last };
        let out = vec![last(false), last(true)];
        Sent::new(frame, Expected::at_backend("forward", (UDP_VIP, "web", backend), out))
    };
    let whole = |frame| Sent::new(frame, Expected::ipip(UDP_VIP, "web", "host-1"));
    let big = Sent::dropped_at(datagram(true, 1481), "too_big", UDP_VIP, "web", Some("host-1"));
    let last_hop = with_ip(datagram(false, 1500), |ip| ip[8] = 1);
    let expired = Sent::dropped_at(last_hop, "ttl_expired", UDP_VIP, "web", Some("host-1"));
    Case::new(
        "oversize-fragmented",
        "A packet that does not fit with its outer header, and that may be fragmented, goes in an \
         outer packet cut in two (RFC 2003 section 5.1); with DF its sender is told.",
        config(&[PORT, &udp_web()]),
        vec![
            whole(datagram(false, 1480)),
            pieces(datagram(false, 1481), "host-1"),
            pieces(datagram(false, 1500), "host-1"),
            big.told(3, 4, 1480, "203.0.113.1"),
            expired.told(11, 0, 0, "192.0.2.2"),
            whole(datagram(true, 1480)),
        ],
    )
}

fn fragmented_v6() -> Case {
    let narrow = PORT6.replace("addresses =", "mtu = 1280\naddresses =");
    let pools = [
        web_of_one("host6-1", "").replace("\"tcp\"", "\"udp\""),
        web6("host6-2", "").replace("\"web\"", "\"six\""),
    ];
    let pieces = |frame, names: (&'static str, &'static str, &'static str), count: usize| {
        let out = (1..=count).map(|at| Out::Fragment { backend: names.2, last: at == count });
        Sent::new(frame, Expected::at_backend("forward", names, out.collect()))
    };
    let four = (UDP_VIP, "web", "host6-1");
    let six = (WEB6_VIP, "six", "host6-2");
    let big = |length: usize| tcp6(ACK, &vec![0x77; length - 60]);
    Case::new(
        "oversize-fragmented-ipv6",
        "An outer IPv6 packet is cut by a fragment header. An inner IPv6 packet of at most 1280 \
         bytes has to get through (RFC 2473 section 7.1), of a longer one the sender is told.",
        config(&[&narrow, &pools.join("\n")]),
        vec![
            pieces(datagram(false, 1280), four, 2),
            pieces(datagram(false, 2500), four, 3),
            pieces(big(1280), six, 2),
            Sent::new(big(1240), Expected::ipip(WEB6_VIP, "six", "host6-2")),
            Sent::dropped_at(big(1281), "too_big", WEB6_VIP, "six", Some("host6-2")).told(
                2,
                0,
                1280,
                "2001:db8:cafe::1",
            ),
        ],
    )
}

fn oversize_dropped() -> Case {
    let big = |frame| Sent::dropped_at(frame, "too_big", UDP_VIP, "web", Some("host-1"));
    Case::new(
        "oversize-dropped",
        "With `oversize = \"drop\"` a packet that does not fit is dropped, and only one with DF is \
         answered.",
        config(&["[encapsulation]\noversize = \"drop\"\n", PORT, &udp_web()]),
        vec![big(datagram(false, 1500)), big(datagram(true, 1500)).told(3, 4, 1480, "203.0.113.1")],
    )
}

fn port_unreachable() -> Case {
    let unreachable = |frame| Sent::dropped(frame, "no_vip").told(3, 3, 0, "203.0.113.1");
    let six = {
        let datagram = super::ipv6::datagram(b"x");
        Sent::dropped(packet(UDP, &datagram), "no_vip").told(1, 4, 0, "2001:db8:cafe::1")
    };
    let vip6 = web6("host6-1", "").replace("\"web\"", "\"six\"");
    let empty = web6("host6-1", "")
        .replace("\"web\"", "\"none\"")
        .replace("\"2001:db8:cafe::1\"", "\"203.0.113.7\"")
        .replace("[[vip]]", "  weight = 0\n\n[[vip]]");
    let nobody = Sent::dropped_at(
        finish(tcp(CLIENT, ([203, 0, 113, 7], 80), 1).syn(), &[]),
        "no_backend",
        "203.0.113.7:80/tcp",
        "none",
        None,
    );
    Case::new(
        "icmp-port-unreachable",
        "With `port_unreachable = true` a packet to a VIP's address that no VIP takes is answered, \
         and so is one whose pool has no backend; one to another address is not.",
        config(&["[icmp]\nport_unreachable = true\n", PORT6, WEB, &vip6, &empty]),
        vec![
            unreachable(udp(CLIENT, (VIP.0, 33_434), b"traceroute")),
            unreachable(finish(tcp(CLIENT, (VIP.0, 81), 1).syn(), &[])),
            six,
            nobody.told(3, 3, 0, "203.0.113.7"),
            Sent::dropped(udp(CLIENT, ([203, 0, 113, 9], 33_434), b"x"), "no_vip"),
            // A protocol without ports.
            Sent::dropped(ipv4(&header(89), &[2; 24]), "no_vip"),
        ],
    )
}

/// A SYN with an MSS, over IPv4 or IPv6.
fn syn_with_mss(v6: bool, mss: u16) -> Vec<u8> {
    use etherparse::{PacketBuilder, TcpOptionElement};
    let link = PacketBuilder::ethernet2(GATEWAY_MAC, NODE_MAC);
    let builder = match v6 {
        true => link.ipv6(CLIENT6.0, VIP6.0, 64).tcp(CLIENT6.1, VIP6.1, 1, 1),
        false => link.ipv4(CLIENT.0, VIP.0, 64).tcp(CLIENT.1, VIP.1, 1, 1),
    };
    let options = [
        TcpOptionElement::Noop,
        TcpOptionElement::MaximumSegmentSize(mss),
        TcpOptionElement::SelectiveAcknowledgementPermitted,
    ];
    finish(builder.syn().options(&options).unwrap(), b"data")
}

/// The SYN that goes out must be one that the client could have sent, with the smaller MSS: so it
/// is judged as the packet that came at another place in the list.
fn clamped() -> Case {
    let as_if = |frame, of| {
        let out = vec![Out::Ipip { of: Some(of), backend: "host-1" }];
        Sent::new(frame, Expected::at_backend("forward", (WEB_VIP, "web", "host-1"), out))
    };
    Case::new(
        "mss-clamp",
        "The MSS in a client's SYN is lowered to the VIP's `mss_clamp`, its checksum with it; a \
         smaller one stays, and none is put in.",
        config(&[PORT, &WEB.replace("port = 80\n", "port = 80\nmss_clamp = 1400\n")]),
        vec![
            Sent::web(syn_with_mss(false, 1400)),
            as_if(syn_with_mss(false, 1460), 0),
            as_if(syn_with_mss(false, 65_535), 0),
            Sent::web(syn_with_mss(false, 1399)),
            Sent::web(syn_with_mss(false, 0)),
            Sent::web(finish(tcp(CLIENT, VIP, 1).syn(), &[])),
            Sent::web(finish(tcp(CLIENT, VIP, 2).ack(3), &[0; 1440])),
        ],
    )
}

fn clamped_auto() -> Case {
    let as_if = |frame, of| {
        let out = vec![Out::Ipip { of: Some(of), backend: "host6-1" }];
        Sent::new(frame, Expected::at_backend("forward", (WEB6_VIP, "web", "host6-1"), out))
    };
    let to = |frame| super::ipv6::to("host6-1", frame);
    let keys = web6("host6-1", "").replace("port = 80\n", "port = 80\nmss_clamp = \"auto\"\n");
    Case::new(
        "mss-clamp-auto",
        "`mss_clamp = \"auto\"`: what fits one packet to the backend, 1500 less 40 for the outer \
         header, 40 for the inner, 20 for TCP.",
        config(&[PORT6, &keys]),
        vec![
            to(syn_with_mss(true, 1400)),
            as_if(syn_with_mss(true, 1440), 0),
            to(syn_with_mss(true, 1220)),
            to(tcp6(SYN, &[])),
        ],
    )
}
