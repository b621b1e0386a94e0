//! Unsound IPv6 packets: each is dropped for its own reason.

use super::ipv6::{ACK, SYN, datagram, from_to, options, packet, segment, tcp, with};
use super::{CLIENT6, Case, NODE6, PORT6, Sent, VIP6, WEB6_VIP, config, web6};

fn case(name: &'static str, sentence: &'static str, sent: Vec<Sent>) -> Case {
    Case::new(name, sentence, config(&[PORT6, &web6("host6-1", "")]), sent)
}

pub(super) fn cases() -> Vec<Case> {
    vec![header(), chain(), addresses(), transport()]
}

fn header() -> Case {
    let length =
        |length: u16| Sent::dropped(with(tcp(SYN, &[]), 4, &length.to_be_bytes()), "bad_ip_length");
    let station = |mac: [u8; 6], reason| {
        let mut frame = tcp(SYN, &[]);
        frame[..6].copy_from_slice(&mac);
        Sent::dropped(frame, reason)
    };
    case(
        "drop-ipv6-header",
        "IPv6 headers whose version or length is wrong, fragments, and packets that came by \
         broadcast or multicast.",
        vec![
            Sent::dropped(tcp(SYN, &[])[..14].to_vec(), "bad_ip_length"),
            Sent::dropped(tcp(SYN, &[])[..14 + 39].to_vec(), "bad_ip_length"),
            Sent::dropped(with(tcp(SYN, &[]), 0, &[0x40]), "bad_ip_version"),
            Sent::dropped(with(tcp(SYN, &[]), 0, &[0x70]), "bad_ip_version"),
            length(21),
            length(0xffff),
            // A jumbogram (RFC 2675) without its option.
            Sent::dropped(with(tcp(SYN, &[]), 4, &[0, 0]), "bad_tcp_header"),
            Sent::dropped(packet(44, &[17, 0, 0, 1, 0, 0, 0, 9, 1, 2, 3, 4]), "bad_fragment"),
            station([0xff; 6], "link_broadcast"),
            station([0x33, 0x33, 0, 0, 0, 1], "link_broadcast"),
            station([0x01, 0, 0x5e, 0, 0, 1], "link_broadcast"),
        ],
    )
}

fn chain() -> Case {
    let syn = segment(SYN, &[]);
    let behind = |first: u8, headers: &[u8], reason| {
        Sent::dropped(packet(first, &[headers, &syn[..]].concat()), reason)
    };
    let bad = "bad_extension_header";
    case(
        "drop-extension-headers",
        "Chains of extension headers that are cut, that do not add up, that are longer than any \
         honest one; and routing headers with segments left.",
        vec![
            Sent::dropped(packet(0, &[6]), bad),
            Sent::dropped(packet(0, &[]), bad),
            Sent::dropped(packet(60, &[6, 1, 1, 4, 0, 0, 0, 0]), bad),
            Sent::dropped(packet(44, &[6, 0, 0, 0, 0, 0, 0]), bad),
            // An option that leaves its header, and one without a length.
            behind(60, &[6, 0, 1, 5, 0, 0, 0, 0], bad),
            behind(0, &[6, 0, 0, 0, 0, 0, 0, 1], bad),
            // Hop-by-hop options behind others (RFC 8200 section 4.1).
            behind(60, &[options(0), options(6)].concat(), bad),
            behind(44, &[&[44, 0, 0, 1, 0, 0, 0, 9][..], &[6, 0, 0, 1, 0, 0, 0, 9]].concat(), bad),
            behind(60, &[options(60); 8].concat(), "extension_header_limit"),
            behind(60, &[&[6, 64][..], &[0; 518]].concat(), "extension_header_limit"),
            behind(43, &[6, 0, 0, 1, 0, 0, 0, 0], "source_route"),
            behind(43, &[6, 2, 4, 255].into_iter().chain([0; 20]).collect::<Vec<u8>>(), {
                "source_route"
            }),
        ],
    )
}

fn addresses() -> Case {
    let syn = segment(SYN, &[]);
    let address = |text: &str| text.parse::<std::net::Ipv6Addr>().unwrap().octets();
    let from = |text, reason| Sent::dropped(from_to(address(text), VIP6.0, 6, &syn), reason);
    let to = |text, reason| Sent::dropped(from_to(CLIENT6.0, address(text), 6, &syn), reason);
    case(
        "drop-ipv6-addresses",
        "IPv6 addresses that no packet on the wire can have (RFC 4291, RFC 6890), and the land \
         attack.",
        vec![
            from("::", "martian_source"),
            from("::1", "martian_source"),
            from("ff02::1", "martian_source"),
            from("::ffff:198.51.100.7", "martian_source"),
            to("::", "martian_destination"),
            to("::1", "martian_destination"),
            to("ff0e::1", "martian_destination"),
            to("::ffff:203.0.113.1", "martian_destination"),
            from("2001:db8:cafe::1", "land"),
            // Its own, and a stranger's: nobody else can send from the node's address.
            Sent::dropped_at(
                from_to(NODE6, VIP6.0, 6, &syn),
                "martian_source",
                WEB6_VIP,
                "web",
                None,
            ),
            to("2001:db8:dead::1", "no_vip"),
            to("2001:db8:0:1::2", "no_exception_path"),
        ],
    )
}

fn transport() -> Case {
    let syn = segment(ACK, &[]);
    let cut = |bytes: &[u8], next, keep: usize, reason| {
        Sent::dropped(packet(next, &bytes[..keep]), reason)
    };
    let udp_length = |length: u8| {
        let mut bytes = datagram(b"question");
        bytes[5] = length;
        Sent::dropped(packet(17, &bytes), "bad_udp_length")
    };
    let offset = |byte: u8| {
        let mut bytes = syn.clone();
        bytes[12] = byte;
        Sent::dropped(packet(6, &bytes), "bad_tcp_header")
    };
    case(
        "drop-ipv6-transport",
        "TCP and UDP headers over IPv6 that are cut or whose lengths are impossible.",
        vec![
            cut(&syn, 6, 0, "bad_tcp_header"),
            cut(&syn, 6, 19, "bad_tcp_header"),
            offset(0x40),
            offset(0x60),
            cut(&datagram(b"x"), 17, 7, "bad_udp_header"),
            udp_length(7),
            udp_length(17),
            udp_length(0),
        ],
    )
}
