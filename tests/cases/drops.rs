//! Packets that are unsound, or nobody's here: each is dropped for its own reason.

use etherparse::Icmpv4Type;

use super::flows::of_protocol;
use super::{CLIENT, Case, Sent, VIP, WEB_VIP, header, ipv4, padded, syn_under, tagged, with_ip};
use crate::support::{arp, finish, tcp, udp};

fn syn() -> Vec<u8> {
    finish(tcp(CLIENT, VIP, 1000).syn(), &[])
}

/// A copy with some bytes put at `place`.
fn patched(mut frame: Vec<u8>, place: usize, bytes: &[u8]) -> Vec<u8> {
    frame[place..place + bytes.len()].copy_from_slice(bytes);
    frame
}

pub(super) fn cases() -> Vec<Case> {
    vec![ethernet(), arp_packets(), ip_header(), addresses(), options(), transport(), elsewhere()]
}

fn ethernet() -> Case {
    let destination = |mac: [u8; 6]| patched(syn(), 0, &mac);
    let ethertype = |number: u16| patched(syn(), 12, &number.to_be_bytes());
    Case::web(
        "drop-ethernet",
        "Frames that end too early, are another station's, come by broadcast or multicast, or carry \
         something else than IP and ARP.",
        vec![
            Sent::dropped(Vec::new(), "frame_too_short"),
            Sent::dropped(syn()[..13].to_vec(), "frame_too_short"),
            Sent::dropped(destination([0x02, 0, 0, 0, 0, 0x03]), "other_host_mac"),
            Sent::dropped(destination([0xff; 6]), "link_broadcast"),
            Sent::dropped(destination([0x01, 0, 0x5e, 0, 0, 1]), "link_broadcast"),
            Sent::dropped(patched(syn(), 6, &[0x03, 0, 0, 0, 0, 1]), "multicast_source_mac"),
            Sent::dropped(patched(syn(), 6, &[0xff; 6]), "multicast_source_mac"),
            Sent::dropped(ethertype(0x86dd), "bad_ip_version"),
            Sent::dropped(ethertype(0x88cc), "unknown_ethertype"),
            // An IEEE 802.3 length, as the spanning tree protocol has.
            Sent::dropped(ethertype(0x0026), "unknown_ethertype"),
            Sent::dropped(
                tagged(&syn(), &[(0x8100, 0), (0x8100, 0), (0x8100, 0)]),
                "unknown_ethertype",
            ),
        ],
    )
}

fn arp_packets() -> Case {
    let request = arp(1, [192, 0, 2, 9], [192, 0, 2, 2], [0xff; 6]);
    let broken =
        |place, bytes: &[u8]| Sent::dropped(patched(request.clone(), place, bytes), "bad_arp");
    Case::web(
        "drop-arp",
        "ARP packets that are cut, of another kind of network, of an operation that is neither \
         request nor reply, or from a sender that cannot be one.",
        vec![
            Sent::dropped(request[..41].to_vec(), "bad_arp"),
            broken(14, &[0, 6]),
            broken(16, &[0x86, 0xdd]),
            broken(18, &[8]),
            broken(19, &[16]),
            broken(20, &[0, 3]),
            broken(22, &[0xff; 6]),
            broken(22, &[0; 6]),
            broken(28, &[224, 0, 0, 1]),
            broken(28, &[127, 0, 0, 1]),
        ],
    )
}

fn ip_header() -> Case {
    let changed = |change: fn(&mut [u8]), reason| Sent::dropped(with_ip(syn(), change), reason);
    let length = |length: u16, reason| {
        Sent::dropped(with_ip(syn(), |ip| ip[2..4].copy_from_slice(&length.to_be_bytes())), reason)
    };
    Case::web(
        "drop-ip-header",
        "IPv4 headers whose version, lengths or checksum are wrong, and fragments.",
        vec![
            Sent::dropped(syn()[..14].to_vec(), "bad_ip_length"),
            Sent::dropped(syn()[..14 + 19].to_vec(), "bad_ip_length"),
            changed(|ip| ip[0] = 0x65, "bad_ip_version"),
            changed(|ip| ip[0] = 0x05, "bad_ip_version"),
            changed(|ip| ip[0] = 0x44, "bad_ip_header_length"),
            changed(|ip| ip[0] = 0x40, "bad_ip_header_length"),
            // Sixty bytes of header in a packet of forty.
            changed(|ip| ip[0] = 0x4f, "bad_ip_header_length"),
            length(41, "bad_ip_length"),
            length(0xffff, "bad_ip_length"),
            length(19, "bad_ip_length"),
            length(0, "bad_ip_length"),
            // Padding is not the packet's: 46 bytes are there, 47 are claimed.
            Sent::dropped(
                padded(with_ip(syn(), |ip| ip[2..4].copy_from_slice(&[0, 47]))),
                "bad_ip_length",
            ),
            Sent::dropped(patched(syn(), 14 + 10, &[0, 0]), "bad_ip_checksum"),
            Sent::dropped(patched(syn(), 14 + 8, &[63]), "bad_ip_checksum"),
            changed(|ip| ip[6] = 0x20, "bad_fragment"),
            changed(|ip| ip[7] = 0x01, "tiny_fragment"),
            changed(|ip| ip[6..8].copy_from_slice(&[0x3f, 0xff]), "bad_fragment"),
        ],
    )
}

fn addresses() -> Case {
    let from = |source: [u8; 4], reason| {
        let mut header = header(6);
        header.source = source;
        Sent::dropped(syn_under(header), reason)
    };
    let to = |destination: [u8; 4], reason| {
        let mut header = header(6);
        header.destination = destination;
        Sent::dropped(syn_under(header), reason)
    };
    let source = "martian_source";
    let destination = "martian_destination";
    Case::web(
        "drop-addresses",
        "Addresses that no packet on the wire can have (RFC 1122, RFC 6890), and the land attack: a \
         packet that claims to come from where it goes.",
        vec![
            from([0, 0, 0, 0], source),
            from([0, 1, 2, 3], source),
            from([127, 0, 0, 1], source),
            from([224, 0, 0, 5], source),
            from([239, 255, 255, 255], source),
            from([240, 0, 0, 1], source),
            from([255, 255, 255, 255], source),
            to([0, 0, 0, 0], destination),
            to([127, 0, 0, 1], destination),
            to([224, 0, 0, 1], destination),
            to([255, 255, 255, 255], destination),
            from(VIP.0, "land"),
            // The node's own address: nobody else can send from it.
            {
                let mut header = header(6);
                header.source = [192, 0, 2, 2];
                Sent::dropped_at(syn_under(header), source, WEB_VIP, "web", None)
            },
        ],
    )
}

fn options() -> Case {
    let with = |options: &[u8], reason| {
        let mut header = header(6);
        header.options = options.try_into().unwrap();
        Sent::dropped(syn_under(header), reason)
    };
    Case::web(
        "drop-options",
        "IPv4 options that do not add up, and source routes, which would let a sender choose the \
         way past the balancer.",
        vec![
            with(&[131, 7, 4, 192, 0, 2, 99, 0], "source_route"),
            with(&[137, 7, 4, 192, 0, 2, 99, 0], "source_route"),
            with(&[1, 1, 1, 131, 3, 4, 0, 0], "source_route"),
            // Longer than the header, of length 0, of length 1, cut after its kind.
            with(&[7, 9, 4, 0], "bad_ip_options"),
            with(&[7, 0, 4, 0], "bad_ip_options"),
            with(&[7, 1, 4, 0], "bad_ip_options"),
            with(&[1, 1, 1, 7], "bad_ip_options"),
        ],
    )
}

fn transport() -> Case {
    let cut = |frame: Vec<u8>, keep: usize, reason| {
        let mut frame = with_ip(frame, |ip| {
            ip[2..4].copy_from_slice(&(20 + keep as u16).to_be_bytes());
        });
        frame.truncate(14 + 20 + keep);
        Sent::dropped(frame, reason)
    };
    let datagram = || udp(CLIENT, VIP, b"question");
    let udp_length = |length: u16| {
        Sent::dropped(patched(datagram(), 14 + 20 + 4, &length.to_be_bytes()), "bad_udp_length")
    };
    Case::web(
        "drop-transport",
        "TCP, UDP and ICMP headers that are cut or whose lengths are impossible.",
        vec![
            cut(syn(), 0, "bad_tcp_header"),
            cut(syn(), 19, "bad_tcp_header"),
            Sent::dropped(patched(syn(), 14 + 20 + 12, &[0x40]), "bad_tcp_header"),
            Sent::dropped(patched(syn(), 14 + 20 + 12, &[0x60]), "bad_tcp_header"),
            cut(datagram(), 7, "bad_udp_header"),
            udp_length(7),
            udp_length(0),
            udp_length(17),
            cut(
                super::answers::icmp(
                    Icmpv4Type::Unknown { type_u8: 8, code_u8: 0, bytes5to8: [0; 4] },
                    &[],
                ),
                7,
                "bad_icmp",
            ),
        ],
    )
}

fn elsewhere() -> Case {
    Case::web(
        "drop-elsewhere",
        "Packets to no VIP, to a VIP's address with another port or protocol, and to the node's own \
         address, which has no exception path here.",
        vec![
            Sent::dropped(finish(tcp(CLIENT, ([203, 0, 113, 2], 80), 1).syn(), &[]), "no_vip"),
            Sent::dropped(finish(tcp(CLIENT, (VIP.0, 81), 1).syn(), &[]), "no_vip"),
            Sent::dropped(udp(CLIENT, VIP, b"x"), "no_vip"),
            Sent::dropped(of_protocol(4), "no_vip"),
            Sent::dropped(of_protocol(47), "no_vip"),
            Sent::dropped(
                finish(tcp(CLIENT, ([192, 0, 2, 2], 179), 1).syn(), &[]),
                "no_exception_path",
            ),
            Sent::dropped(ipv4(&ospf(), &[2; 24]), "no_exception_path"),
            // From a VIP, to a port that probes come from: an answer to none.
            Sent::dropped(
                finish(tcp(VIP, ([192, 0, 2, 2], 50_000), 1).syn().ack(2), &[]),
                "no_exception_path",
            ),
        ],
    )
}

fn ospf() -> etherparse::Ipv4Header {
    let mut header = header(89);
    header.destination = [192, 0, 2, 2];
    header.time_to_live = 1;
    header
}
