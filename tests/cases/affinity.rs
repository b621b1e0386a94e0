//! What a client is known by other than its 5-tuple.

use super::{CLIENT, Case, Expected, PORT, Sent};
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

const VIP: ([u8; 4], u16) = ([203, 0, 113, 1], 443);
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
    vec![quic(), source()]
}

fn quic() -> Case {
    let vip = "203.0.113.1:443/udp";
    let to = |host, from, payload: Vec<u8>| {
        Sent::new(udp(from, VIP, &payload), Expected::ipip(vip, "h3", host))
    };
    let elsewhere = ([198, 51, 100, 99], 50_000);
    let other = ([198, 51, 100, 8], 40_000);
    let made_up: &[u8] = &[0x83, 0x94, 0xc8, 0xf0, 0x3e, 0x51, 0x57, 0x08];
    let sent = vec![
        // A connection begins: the table says host-1, and the server's id names it.
        to("host-1", CLIENT, long(made_up)),
        to("host-1", CLIENT, long(PLAIN_1)),
        to("host-1", CLIENT, short(PLAIN_1)),
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
        to("host-1", ([198, 51, 100, 11], 1), short(&[0xe7, 0, 0, 2, 1, 2, 3, 4])),
        to("host-1", ([198, 51, 100, 12], 1), short(&[0x07, 0, 0, 9, 1, 2, 3, 4])),
        to("host-1", ([198, 51, 100, 13], 1), long(&[0x06, 0, 0, 2, 1, 2, 3, 4])),
        to("host-1", ([198, 51, 100, 14], 1), long(&FOUR_2[..15])),
        to("host-1", ([198, 51, 100, 15], 1), vec![0xc0, 0, 0, 0, 1, 8, 0x07]),
    ];
    Case::new(
        "quic-connection-id",
        "A QUIC packet goes where the server id in its connection id says, from whatever address \
         it comes, encrypted or not; what names no server goes by its 5-tuple.",
        super::config(&[PORT, POOL]),
        sent,
    )
}

fn source() -> Case {
    let pool = super::flows::web_of(&[("host-1", ""), ("host-2", "")])
        .replace("protocol = \"tcp\"", "protocol = \"udp\"\naffinity = \"source\"");
    let to = |host, last, port| {
        let frame = udp(([198, 51, 100, last], port), super::VIP, b"question");
        Sent::new(frame, Expected::ipip("203.0.113.1:80/udp", "web", host))
    };
    let sent = [(8, "host-2"), (9, "host-1")]
        .into_iter()
        .flat_map(|(last, host)| (40_000..40_006).map(move |port| to(host, last, port)))
        .collect();
    Case::new(
        "source-affinity",
        "All flows of a source address go to one backend.",
        super::config(&[PORT, &pool]),
        sent,
    )
}
