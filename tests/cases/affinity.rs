//! What a client is known by other than its 5-tuple.

use super::{CLIENT, Case, Expected, PORT, PORT6, Sent, VIP6, ipv6};
use crate::support::udp;

/// A server that takes new flows, one that has only those that name it, one that drains. The
/// connection ids are the vectors of the draft's appendix B, and one in plain text.
const POOL: &str = r#"[[pool]]
id = "h3"
hash_secret = "000102030405060708090a0b0c0d0e0f"

  [[pool.quic]]
  config_id = 0
  server_id_length = 3
  nonce_length = 4
  self_encoded_length = true

  [[pool.quic]]
  config_id = 1
  server_id_length = 10
  nonce_length = 5
  key = "8f95f09245765f80256934e50c66207f"

  [[pool.quic]]
  config_id = 2
  server_id_length = 8
  nonce_length = 8
  key = "8f95f09245765f80256934e50c66207f"

  [[pool.backend]]
  id = "host-1"
  address = "10.0.0.1"
  quic_server_ids = ["c4605e", "ed793a51d49b8f5f", "00000000000000000001"]

  [[pool.backend]]
  id = "host-2"
  address = "10.0.0.2"
  weight = 0
  quic_server_ids = ["000002", "0000000000000002", "ed793a51d49b8f5fab65"]

  [[pool.backend]]
  id = "host-3"
  address = "10.0.0.3"
  state = "drain"
  quic_server_ids = ["000003", "0000000000000003", "00000000000000000003"]

[[vip]]
address = "203.0.113.1"
port = 443
protocol = "udp"
pool = "h3"
affinity = "quic"
"#;

/// What differs between the cases of one version of IP and of the other.
struct Family {
    v6: bool,
    port: &'static str,
    /// The VIP's address in a configuration.
    vip: &'static str,
    quic_vip: &'static str,
    udp_vip: &'static str,
}

const V4: Family = Family {
    v6: false,
    port: PORT,
    vip: "203.0.113.1",
    quic_vip: "203.0.113.1:443/udp",
    udp_vip: "203.0.113.1:80/udp",
};
const V6: Family = Family {
    v6: true,
    port: PORT6,
    vip: "2001:db8:cafe::1",
    quic_vip: "[2001:db8:cafe::1]:443/udp",
    udp_vip: "[2001:db8:cafe::1]:80/udp",
};

impl Family {
    /// A datagram from client `number` and its port to a port of the VIP.
    fn udp(&self, (number, from): (u8, u16), to: u16, payload: &[u8]) -> Vec<u8> {
        if !self.v6 {
            let [a, b, c, _] = CLIENT.0;
            return udp(([a, b, c, number], from), (super::VIP.0, to), payload);
        }
        let mut client = super::CLIENT6.0;
        client[15] = number;
        ipv6::udp((client, from), (VIP6.0, to), payload)
    }

    /// This part of a configuration, with the VIP's address.
    fn part(&self, text: &str) -> String {
        text.replace(V4.vip, self.vip)
    }
}

/// The client that most packets come from.
const FIRST: (u8, u16) = (7, 40_000);
/// Of `host-1`: in plain text, and in one pass.
const PLAIN_1: &[u8] = &[0x07, 0xc4, 0x60, 0x5e, 0x45, 0x04, 0xcc, 0x4f];
const SINGLE_1: &[u8] = &[
    0x50, 0x4d, 0xd2, 0xd0, 0x5a, 0x7b, 0x0d, 0xe9, 0xb2, 0xb9, 0x90, 0x7a, 0xfb, 0x5e, 0xcf, 0x8c,
    0xc3,
];
/// Of `host-2`, in four passes.
const FOUR_2: &[u8] = &[
    0x2f, 0xcc, 0x38, 0x1b, 0xc7, 0x4c, 0xb4, 0xfb, 0xad, 0x28, 0x23, 0xa3, 0xd1, 0xf8, 0xfe, 0xd2,
];
/// Of `host-3`, in plain text.
const PLAIN_3: &[u8] = &[0x07, 0, 0, 3, 1, 2, 3, 4];

fn short(id: &[u8]) -> Vec<u8> {
    [&[0x45], id, &[0xa5; 24]].concat()
}

fn long(id: &[u8]) -> Vec<u8> {
    [&[0xc3, 0, 0, 0, 1, id.len() as u8], id, &[0], &[0xa5; 24]].concat()
}

pub(super) fn cases() -> Vec<Case> {
    vec![
        quic("quic-connection-id", &V4),
        quic("ipv6-quic-connection-id", &V6),
        source("source-affinity", &V4, [(8, "host-2"), (9, "host-1")]),
        source("ipv6-source-affinity", &V6, [(8, "host-2"), (10, "host-1")]),
    ]
}

fn quic(name: &'static str, family: &Family) -> Case {
    let to = |host, from, payload: Vec<u8>| {
        let expected = Expected::ipip(family.quic_vip, "h3", host);
        Sent::new(family.udp(from, 443, &payload), expected)
    };
    let elsewhere = (99, 50_000);
    let other = (8, 40_000);
    let made_up: &[u8] = &[0x83, 0x94, 0xc8, 0xf0, 0x3e, 0x51, 0x57, 0x08];
    let sent = vec![
        // A connection begins: the table says host-1, and the server's id names it.
        to("host-1", FIRST, long(made_up)),
        to("host-1", FIRST, long(PLAIN_1)),
        to("host-1", FIRST, short(PLAIN_1)),
        // It goes on from elsewhere.
        to("host-1", elsewhere, short(PLAIN_1)),
        // Ids of the other configurations; the id wins over the 5-tuple's entry.
        to("host-2", elsewhere, short(FOUR_2)),
        to("host-1", elsewhere, long(SINGLE_1)),
        to("host-2", elsewhere, short(FOUR_2)),
        // What names nobody follows the entry: a stateless reset, or no QUIC at all.
        to("host-2", elsewhere, vec![0x41; 43]),
        to("host-2", elsewhere, Vec::new()),
        // A server that drains keeps its connections.
        to("host-3", other, short(PLAIN_3)),
        // Unroutable by its number, a server nobody is, a length that is not true, cut short.
        to("host-1", (11, 1), short(&[0xe7, 0, 0, 2, 1, 2, 3, 4])),
        to("host-1", (12, 1), short(&[0x07, 0, 0, 9, 1, 2, 3, 4])),
        to("host-1", (13, 1), long(&[0x06, 0, 0, 2, 1, 2, 3, 4])),
        to("host-1", (14, 1), long(&FOUR_2[..15])),
        to("host-1", (15, 1), vec![0xc0, 0, 0, 0, 1, 8, 0x07]),
    ];
    Case::new(
        name,
        "A QUIC packet goes where the server id in its connection id says, from whatever address \
         it comes, encrypted or not; what names no server goes by its 5-tuple.",
        super::config(&[family.port, &family.part(POOL)]),
        sent,
    )
}

fn source(name: &'static str, family: &Family, clients: [(u8, &'static str); 2]) -> Case {
    let pool = super::flows::web_of(&[("host-1", ""), ("host-2", "")])
        .replace("protocol = \"tcp\"", "protocol = \"udp\"\naffinity = \"source\"");
    let to = |host, number, port| {
        let frame = family.udp((number, port), 80, b"question");
        Sent::new(frame, Expected::ipip(family.udp_vip, "web", host))
    };
    let sent = clients
        .into_iter()
        .flat_map(|(number, host)| (40_000..40_006).map(move |port| to(host, number, port)))
        .collect();
    Case::new(
        name,
        "All flows of a source address go to one backend.",
        super::config(&[family.port, &family.part(&pool)]),
        sent,
    )
}
