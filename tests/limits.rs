//! What the node answers is limited: each answer is a packet sent at a stranger's wish.
//!
//! Golden in kind, but of thousands of packets, so that they are made at each run.

mod support;

use std::path::{Path, PathBuf};

use etherparse::PacketBuilder;
use support::{
    GATEWAY_MAC, Line, NODE_MAC, Packet, SECOND, START, arp, finish, replay, scratch, tcp,
};

const VIP: ([u8; 4], u16) = ([203, 0, 113, 1], 80);
const CLIENT: ([u8; 4], u16) = ([198, 51, 100, 7], 40_000);

fn write_config(folder: &Path, name: &str, backend: &str) -> PathBuf {
    let text = format!(
        r#"
[[port]]
name = "uplink"
device = "net_tap0"
addresses = ["192.0.2.2/24", "2001:db8::2/64"]
gateways = ["192.0.2.1"]
neighbors = [{{ address = "192.0.2.1", mac = "02:00:00:00:00:01" }}]

[conntrack]
flows = 1000

[[pool]]
id = "web"
hash_secret = "000102030405060708090a0b0c0d0e0f"
drain_seconds = 0

  [[pool.backend]]
  id = "{backend}"
  address = "10.0.0.1"

[[vip]]
address = "203.0.113.1"
port = 80
protocol = "tcp"
pool = "web"
"#
    );
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

/// Exactly `limit` answers in the first instant, and `limit` more in the second after it.
fn assert_limited(lines: &[Line], limit: usize, reason: &str) {
    let answered = |lines: &[Line]| lines.iter().filter(|line| line.verdict == "reply").count();
    let (first, second) = lines.split_at(limit + 50);
    assert_eq!(answered(first), limit, "at once");
    assert_eq!(answered(second), limit, "a second later");
    for line in lines.iter().filter(|line| line.verdict != "reply") {
        assert_eq!((line.verdict.as_str(), line.reason.as_deref()), ("drop", Some(reason)));
        assert!(line.outputs.is_empty());
    }
}

/// Two instants, each with 50 packets more than the limit.
fn twice(limit: usize, frame: &[u8], first: u64) -> Vec<Packet> {
    let packet = |time| Packet { time, bytes: frame.to_vec() };
    let burst = limit + 50;
    let times = std::iter::repeat_n(first, burst).chain(std::iter::repeat_n(first + SECOND, burst));
    times.map(packet).collect()
}

#[test]
fn arp_replies_are_limited() {
    let folder = scratch("arp-limit");
    let config = write_config(&folder, "config.toml", "a");
    let frame = arp(1, [192, 0, 2, 9], [192, 0, 2, 2], [0xff; 6]);
    let lines = replay(&folder, &config, &twice(1_000, &frame, START), &[]);
    assert_limited(&lines, 1_000, "arp_rate_limited");
}

/// "Who has the node's IPv6 address?", hop limit 255.
fn solicitation() -> Vec<u8> {
    let node = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
    let asker = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9];
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(GATEWAY_MAC, NODE_MAC)
        .ipv6(asker, node, 255)
        .icmpv6_raw(135, 0, [0; 4])
        .write(&mut frame, &node)
        .unwrap();
    frame
}

#[test]
fn neighbour_advertisements_are_limited() {
    let folder = scratch("ndp-limit");
    let config = write_config(&folder, "config.toml", "a");
    let lines = replay(&folder, &config, &twice(1_000, &solicitation(), START), &[]);
    assert_limited(&lines, 1_000, "ndp_rate_limited");
}

#[test]
fn echo_replies_are_limited() {
    let folder = scratch("echo-limit");
    let config = write_config(&folder, "config.toml", "a");
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(GATEWAY_MAC, NODE_MAC)
        .ipv4(CLIENT.0, VIP.0, 64)
        .icmpv4_echo_request(1, 1)
        .write(&mut frame, b"abcdefgh")
        .unwrap();
    let lines = replay(&folder, &config, &twice(10_000, &frame, START), &[]);
    assert_limited(&lines, 10_000, "icmp_rate_limited");
}

#[test]
fn resets_are_limited() {
    let folder = scratch("reset-limit");
    let before = write_config(&folder, "before.toml", "a");
    let after = write_config(&folder, "after.toml", "b");
    let mut packets = vec![Packet { time: START, bytes: finish(tcp(CLIENT, VIP, 1).syn(), &[]) }];
    let straggler = finish(tcp(CLIENT, VIP, 2).ack(3), b"x");
    packets.extend(twice(10_000, &straggler, START + SECOND));
    let lines = replay(&folder, &before, &packets, &[(1, &after)]);
    assert_eq!(lines[0].verdict, "forward");
    assert_limited(&lines[1..], 10_000, "reset_rate_limited");
}

#[test]
fn a_flood_of_one_kind_leaves_the_others_their_answers() {
    let folder = scratch("separate-limits");
    let config = write_config(&folder, "config.toml", "a");
    let ask = arp(1, [192, 0, 2, 9], [192, 0, 2, 2], [0xff; 6]);
    let mut packets = twice(1_000, &ask, START);
    packets.truncate(1_050);
    let mut ping = Vec::new();
    PacketBuilder::ethernet2(GATEWAY_MAC, NODE_MAC)
        .ipv4(CLIENT.0, VIP.0, 64)
        .icmpv4_echo_request(1, 1)
        .write(&mut ping, &[])
        .unwrap();
    packets.push(Packet { time: START, bytes: ping });
    let lines = replay(&folder, &config, &packets, &[]);
    assert_eq!(lines[1_050].verdict, "reply");
}
