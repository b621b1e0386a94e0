//! Flows: TCP from its SYN to its end, UDP, and what the packets look like on the way out.

use std::net::IpAddr;

use super::{
    CLIENT, CLIENT6, Case, Expected, Out, PORT, PORT6, Sent, VIP, VIP6, WEB, WEB_VIP, header, ipv4,
    ipv6, padded, syn_under,
};
use crate::support::{finish, tcp, udp};

/// Pool `web` with other backends: (id, rest of its keys).
pub(super) fn web_of(backends: &[(&str, &str)]) -> String {
    let head = "[[pool]]\nid = \"web\"\nhash_secret = \"000102030405060708090a0b0c0d0e0f\"\n";
    let mut text = String::from(head);
    for (id, keys) in backends {
        let address = super::place(id).address;
        text += &format!("\n  [[pool.backend]]\n  id = \"{id}\"\n  address = \"{address}\"\n");
        if !keys.is_empty() {
            text += &format!("  {keys}\n");
        }
    }
    text + "\n"
        + WEB.split_once("[[vip]]").map(|(_, vip)| format!("[[vip]]{vip}")).unwrap().as_str()
}

fn syn() -> Vec<u8> {
    finish(tcp(CLIENT, VIP, 1000).syn(), &[])
}

fn ack(payload: &[u8]) -> Vec<u8> {
    finish(tcp(CLIENT, VIP, 1001).ack(5001), payload)
}

fn fin() -> Vec<u8> {
    finish(tcp(CLIENT, VIP, 1020).ack(5001).fin(), &[])
}

fn rst() -> Vec<u8> {
    finish(tcp(CLIENT, VIP, 1020).rst(), &[])
}

pub(super) fn cases() -> Vec<Case> {
    let expired = |frame| {
        let sent = Sent::dropped_at(frame, "ttl_expired", WEB_VIP, "web", Some("host-1"));
        sent.told(11, 0, 0, "192.0.2.2")
    };
    vec![
        Case::web(
            "tcp-syn",
            "A SYN to a VIP is sent on in an outer IPv4 header to the pool's backend.",
            vec![Sent::web(syn())],
        ),
        Case::web(
            "tcp-connection",
            "All packets of a connection follow its SYN: acknowledgements, data, FIN, RST.",
            vec![
                Sent::web(syn()),
                Sent::web(syn()).at(1000),
                Sent::web(ack(&[])).at(1010),
                Sent::web(ack(b"GET / HTTP/1.1\r\n\r\n")).at(1011),
                Sent::web(fin()).at(1500),
                Sent::web(ack(&[])).at(1510),
                Sent::web(rst()).at(1520),
                Sent::web(ack(&[])).at(1530),
            ],
        ),
        Case::web(
            "tcp-unknown-flow",
            "Packets of connections that this node never saw open are sent where the table says, \
             as after a move from another node; a RST of one, too.",
            vec![Sent::web(ack(b"data")), Sent::web(fin()), Sent::web(rst())],
        ),
        pinned(),
        reopened(),
        evicted(),
        Case::new(
            "udp-flow",
            "Datagrams of one flow go to one backend; a checksum of 0 or a wrong one is not the \
             balancer's business.",
            super::config(&[PORT, &WEB.replace("\"tcp\"", "\"udp\"")]),
            udp_packets(),
        ),
        idle_time("udp-idle-time", PORT, VIP.0.into(), |port| {
            (udp(CLIENT, (VIP.0, port), b"question"), "203.0.113.1:53/udp", "203.0.113.1:80/udp")
        }),
        idle_time("ipv6-udp-idle-time", PORT6, VIP6.0.into(), |port| {
            let frame = ipv6::udp(CLIENT6, (VIP6.0, port), b"question");
            (frame, "[2001:db8:cafe::1]:53/udp", "[2001:db8:cafe::1]:80/udp")
        }),
        Case::web(
            "tcp-wrong-checksum",
            "A wrong TCP checksum is not the balancer's business: forwarded as it is.",
            vec![Sent::web({
                let mut frame = ack(b"data");
                frame[14 + 20 + 16] ^= 0xff;
                frame
            })],
        ),
        Case::web(
            "padding",
            "Ethernet's padding is cut off: the IP length rules.",
            vec![Sent::web(padded(syn())), Sent::web(padded(ack(b"x")))],
        ),
        Case::web(
            "dscp-and-ecn",
            "DSCP and ECN of the packet are copied to the outer header, all four ECN codepoints \
             (RFC 6040 section 4.1, normal mode).",
            dscp_and_ecn(),
        ),
        Case::web(
            "ip-options",
            "IPv4 options that are well-formed go through intact, in the inner packet.",
            ip_options(),
        ),
        Case::web(
            "time-to-live",
            "The inner time to live goes down by one; at 1 the packet is dropped, and the node tells \
             the client (time exceeded).",
            vec![
                Sent::web(syn_with_ttl(255)),
                Sent::web(syn_with_ttl(2)),
                expired(syn_with_ttl(1)),
                expired(syn_with_ttl(0)),
            ],
        ),
        Case::web(
            "too-big",
            "A packet of 1480 bytes just fits the link with its outer header, one byte more does \
             not, and the client is told what would (RFC 1191).",
            vec![
                Sent::web(ack(&[0x77; 1480 - 40])),
                Sent::dropped_at(
                    ack(&[0x77; 1481 - 40]),
                    "too_big",
                    WEB_VIP,
                    "web",
                    Some("host-1"),
                )
                .told(3, 4, 1480, "203.0.113.1"),
            ],
        ),
        entropy(),
        outer_keys(),
    ]
}

/// SPEC section 2: a SYN on an established flow changes nothing, whatever the pool did.
fn pinned() -> Case {
    let to = |frame| Sent::new(frame, Expected::ipip(WEB_VIP, "web", "host-1"));
    let sent = vec![
        to(syn()),
        to(ack(&[])).at(10),
        // From here on host-1 drains and host-2 has all slots.
        to(ack(b"data")).at(1000),
        to(syn()).at(1100),
        to(ack(b"data")).at(1200),
        to(fin()).at(1300),
    ];
    let after = web_of(&[("host-1", "state = \"drain\""), ("host-2", "")]);
    Case::web(
        "syn-on-an-established-flow",
        "A SYN on an established flow goes to the flow's backend, which answers it (RFC 5961), \
         also when new flows go elsewhere.",
        sent,
    )
    .reload(2, &[PORT, &after])
}

fn reopened() -> Case {
    let old = |frame| Sent::new(frame, Expected::ipip(WEB_VIP, "web", "host-1"));
    let new = |frame| Sent::new(frame, Expected::ipip(WEB_VIP, "web", "host-2"));
    let sent = vec![
        old(syn()),
        old(ack(&[])).at(10),
        old(fin()).at(20),
        // From here on host-1 drains and host-2 has all slots.
        old(ack(&[])).at(1000),
        new(syn()).at(1100),
        new(ack(&[])).at(1110),
        new(rst()).at(1200),
        new(syn()).at(1300),
    ];
    let after = web_of(&[("host-1", "state = \"drain\""), ("host-2", "")]);
    Case::web(
        "new-connection-on-a-closed-flow",
        "A SYN on a 5-tuple whose connection was closed by FIN or RST opens another one, which is \
         given a backend afresh.",
        sent,
    )
    .reload(3, &[PORT, &after])
}

fn evicted() -> Case {
    let old = |frame| Sent::new(frame, Expected::ipip(WEB_VIP, "web", "host-1"));
    let new = |frame| Sent::new(frame, Expected::ipip(WEB_VIP, "web", "host-2"));
    let names = (WEB_VIP, "web", "host-1");
    let reset = |frame| Sent::new(frame, Expected::at_backend("reply", names, vec![Out::Reset]));
    let unacknowledged = finish(tcp(CLIENT, VIP, 7000).fin(), b"tail");
    let other = |flags: fn(_) -> _| finish(flags(tcp((CLIENT.0, 40_001), VIP, 90)), &[]);
    let sent = vec![
        old(syn()),
        old(ack(&[])).at(10),
        old(other(|builder| builder.syn())).at(20),
        // host-1 leaves the file before packet 3 and is evicted 60 s later.
        old(ack(b"data")).at(1_000),
        old(ack(b"data")).at(60_900),
        reset(ack(b"data")).at(61_100),
        reset(padded(ack(&[]))).at(61_200),
        reset(unacknowledged).at(61_300),
        Sent::dropped_at(rst(), "backend_evicted", WEB_VIP, "web", Some("host-1")).at(61_400),
        new(syn()).at(61_500),
        new(ack(&[])).at(61_600),
    ];
    Case::web(
        "evicted-backend",
        "Stragglers of a backend that left the file and whose drain is over are answered with a \
         RST that the client's stack accepts, each of them but a RST; a SYN opens a connection \
         to another backend.",
        sent,
    )
    .reload(3, &[PORT, &web_of(&[("host-2", "")])])
}

fn udp_packets() -> Vec<Sent> {
    let to = |frame| Sent::new(frame, Expected::ipip("203.0.113.1:80/udp", "web", "host-1"));
    let datagram = udp(CLIENT, VIP, b"question");
    let with_checksum = |sum: [u8; 2]| {
        let mut frame = datagram.clone();
        frame[14 + 20 + 6..14 + 20 + 8].copy_from_slice(&sum);
        frame
    };
    vec![
        to(datagram.clone()),
        to(with_checksum([0, 0])),
        to(with_checksum([0xde, 0xad])),
        to(udp(CLIENT, VIP, &[])),
        to(padded(udp(CLIENT, VIP, b"x"))),
    ]
}

/// One VIP with a short idle time, one with the default: a frame to a port, and their names.
fn idle_time(
    name: &'static str,
    port: &str,
    vip: IpAddr,
    frame: fn(u16) -> (Vec<u8>, &'static str, &'static str),
) -> Case {
    let pool = |backends: &[(&str, &str)]| {
        let text = web_of(backends).replace("\"tcp\"", "\"udp\"");
        let text = text.replace("203.0.113.1", &vip.to_string());
        let (_, web) = text.split_once("[[vip]]").unwrap();
        let dns = web.replace("port = 80", "port = 53\nudp_idle_seconds = 2");
        format!("{text}\n[[vip]]{dns}")
    };
    let dns = |host| {
        let (frame, vip, _) = frame(53);
        Sent::new(frame, Expected::ipip(vip, "web", host))
    };
    let other = |host| {
        let (frame, _, vip) = frame(80);
        Sent::new(frame, Expected::ipip(vip, "web", host))
    };
    let sent = vec![
        dns("host-1"),
        other("host-1").at(10),
        // From here on host-1 drains and host-2 has all slots. Each packet begins the time anew.
        dns("host-1").at(1_900),
        dns("host-1").at(3_800),
        dns("host-2").at(5_900),
        dns("host-2").at(5_910),
        other("host-1").at(59_000),
        other("host-2").at(119_100),
    ];
    let after = pool(&[("host-1", "state = \"drain\""), ("host-2", "")]);
    Case::new(
        name,
        "A flow of datagrams is forgotten when it was idle for as long as its VIP says: two \
         seconds here, a minute by default. What comes then is a new flow.",
        super::config(&[port, &pool(&[("host-1", "")])]),
        sent,
    )
    .reload(2, &[port, &after])
}

fn dscp_and_ecn() -> Vec<Sent> {
    let codepoints = [(0, 0), (0, 1), (0, 2), (0, 3), (46, 0), (10, 2), (63, 3)];
    codepoints
        .into_iter()
        .map(|(dscp, ecn)| {
            let mut header = header(6);
            header.dscp = etherparse::IpDscp::try_new(dscp).unwrap();
            header.ecn = etherparse::IpEcn::try_new(ecn).unwrap();
            Sent::web(syn_under(header))
        })
        .collect()
}

fn ip_options() -> Vec<Sent> {
    let options: [&[u8]; 6] = [
        // No operation, three times, and the end of the list.
        &[1, 1, 1, 0],
        // Router alert (RFC 2113).
        &[148, 4, 0, 0],
        // Record route with room for two addresses, then padding.
        &[7, 11, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        // Timestamp, empty.
        &[68, 8, 5, 0, 0, 0, 0, 0],
        // An option that nobody knows.
        &[0x5e, 4, 1, 2],
        // As many as there can be.
        &[1; 40],
    ];
    options
        .into_iter()
        .map(|options| {
            let mut header = header(6);
            header.options = options.try_into().unwrap();
            Sent::web(syn_under(header))
        })
        .collect()
}

fn syn_with_ttl(time_to_live: u8) -> Vec<u8> {
    let mut header = header(6);
    header.time_to_live = time_to_live;
    syn_under(header)
}

fn entropy() -> Case {
    let sent = (0..8u16).flat_map(|flow| {
        let client = (CLIENT.0, 41_000 + flow);
        [finish(tcp(client, VIP, 1).syn(), &[]), finish(tcp(client, VIP, 2).ack(9), b"x")]
    });
    let keys = "[encapsulation]\nsource_entropy_v4 = \"172.16.0.0/16\"\n";
    let mut case = Case::new(
        "source-entropy",
        "The outer source is drawn from a prefix by the flow's hash: the same for all packets of a \
         flow, different between flows; DF is off, as errors would not come back to the node.",
        super::config(&[keys, PORT, WEB]),
        sent.map(Sent::web).collect(),
    );
    case.outer.source = ([172, 16, 0, 0], 16);
    case.outer.dont_fragment = false;
    case
}

fn outer_keys() -> Case {
    let keys =
        "[encapsulation]\nsource_v4 = \"192.0.2.77\"\nouter_ttl = 9\ndont_fragment = false\n";
    let mut fragmentable = header(6);
    fragmentable.dont_fragment = false;
    fragmentable.identification = 0xbeef;
    let mut case = Case::new(
        "outer-header-keys",
        "Source, time to live and DF of the outer header are what the configuration says, whatever \
         the inner header has.",
        super::config(&[keys, PORT, WEB]),
        vec![Sent::web(syn()), Sent::web(syn_under(fragmentable))],
    );
    case.outer.source = ([192, 0, 2, 77], 32);
    case.outer.time_to_live = 9;
    case.outer.dont_fragment = false;
    case
}

/// A payload of any protocol, for cases elsewhere.
pub(super) fn of_protocol(protocol: u8) -> Vec<u8> {
    ipv4(&header(protocol), &[0x11; 24])
}
