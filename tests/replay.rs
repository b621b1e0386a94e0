//! Affinity, packet by packet: a pool changes under some hundred open connections, and every
//! packet of every one of them goes on to the backend it began with.
//!
//! Each case reloads another version of one pool. A change that moves no slot of a live flow
//! would show nothing, so each asserts that at least a quarter of the live flows sit on slots
//! that the change gives to another backend, by asking a cold node with the new file.

mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use support::{Line, Packet, SECOND, START, finish, replay, scratch, tcp, udp, write_capture};

const FLOWS: u16 = 400;
const VIP: ([u8; 4], u16) = ([203, 0, 113, 1], 80);
const DRAIN_SECONDS: u64 = 20;

/// A backend of the file: id, the rest of its keys.
type Backends<'a> = &'a [(&'a str, &'a str)];

const THREE: Backends<'_> = &[("a", ""), ("b", ""), ("c", "")];

fn address(id: &str) -> [u8; 4] {
    [10, 0, 0, id.as_bytes()[0]]
}

fn write_config(folder: &Path, name: &str, pool_keys: &str, backends: Backends<'_>) -> PathBuf {
    let mut text = format!(
        r#"
[[port]]
name = "uplink"
device = "net_tap0"
addresses = ["192.0.2.2/24"]
gateways = ["192.0.2.1"]
neighbors = [{{ address = "192.0.2.1", mac = "02:00:00:00:00:01" }}]

[conntrack]
flows = 10_000

[[vip]]
address = "203.0.113.1"
port = 80
protocol = "any"
pool = "web"

[[pool]]
id = "web"
drain_seconds = {DRAIN_SECONDS}
{pool_keys}
"#
    );
    if !pool_keys.contains("hash_secret") {
        text += "hash_secret = \"000102030405060708090a0b0c0d0e0f\"\n";
    }
    for (id, keys) in backends {
        let [a, b, c, d] = address(id);
        text +=
            &format!("[[pool.backend]]\nid = \"{id}\"\naddress = \"{a}.{b}.{c}.{d}\"\n{keys}\n");
    }
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

/// Client `number` of a range of addresses: `range` keeps old and new flows apart.
fn client(range: u8, number: u16) -> ([u8; 4], u16) {
    ([198, 51, 100, range], 10_000 + number)
}

fn syn(range: u8, number: u16, time: u64) -> Packet {
    Packet { time, bytes: finish(tcp(client(range, number), VIP, 1000).syn(), &[]) }
}

/// What the client acknowledges in its packet of that round: different for every packet.
fn acknowledgment(number: u16, round: u32) -> u32 {
    0x8000_0000 + u32::from(number) * 1_000 + round
}

fn data(range: u8, number: u16, round: u32, time: u64) -> Packet {
    let builder = tcp(client(range, number), VIP, 1001 + round);
    Packet { time, bytes: finish(builder.ack(acknowledgment(number, round)), b"x") }
}

/// The backend that the line's packet went to; the outer header must say the same.
fn backend(line: &Line) -> String {
    assert_eq!(line.verdict, "forward", "{line:?}");
    let [output] = &line.outputs[..] else { panic!("one packet out: {line:?}") };
    let outer = SlicedPacket::from_ethernet(&output.bytes).unwrap();
    let Some(NetSlice::Ipv4(outer)) = outer.net else { panic!("IPv4 outside") };
    let id = line.backend.clone().unwrap();
    assert_eq!(outer.header().destination(), address(&id));
    id
}

/// A pool before and after a reload, under live flows.
struct Change {
    folder: PathBuf,
    before: PathBuf,
    after: PathBuf,
}

/// What was seen of a change.
struct Seen {
    /// The live flows' backends before the change, by flow.
    old: Vec<String>,
    /// Lines of the live flows' packets, by second after the reload, then by flow.
    live: BTreeMap<u64, Vec<Line>>,
    /// Where flows that began after the reload went.
    new: Vec<String>,
    /// Where a cold node with the new file sends the live flows.
    cold: Vec<String>,
}

impl Change {
    fn new(name: &str, before: (&str, Backends<'_>), after: (&str, Backends<'_>)) -> Self {
        let folder = scratch(name);
        let before = write_config(&folder, "before.toml", before.0, before.1);
        let after = write_config(&folder, "after.toml", after.0, after.1);
        Self { folder, before, after }
    }

    /// Opens the flows, reloads, and has each of them send at each of `seconds` after it.
    fn run(&self, seconds: &[u64]) -> Seen {
        let mut packets: Vec<Packet> = Vec::new();
        packets.extend((0..FLOWS).map(|flow| syn(7, flow, START + u64::from(flow))));
        let established = START + SECOND;
        packets.extend((0..FLOWS).map(|flow| data(7, flow, 0, established + u64::from(flow))));
        let reload = packets.len();
        let reloaded = START + 2 * SECOND;
        // New flows come first: they must not disturb the old ones.
        packets.extend((0..FLOWS).map(|flow| syn(8, flow, reloaded + u64::from(flow))));
        let first = packets.len();
        for (round, second) in (1u32..).zip(seconds) {
            let time = reloaded + second * SECOND;
            packets.extend((0..FLOWS).map(|flow| data(7, flow, round, time + u64::from(flow))));
        }
        let lines = replay(&self.folder, &self.before, &packets, &[(reload, &self.after)]);
        let old: Vec<String> = lines[..usize::from(FLOWS)].iter().map(backend).collect();
        let confirmed: Vec<String> =
            lines[usize::from(FLOWS)..reload].iter().map(backend).collect();
        assert_eq!(old, confirmed, "nothing has changed yet");
        let live = seconds
            .iter()
            .copied()
            .zip(lines[first..].chunks(usize::from(FLOWS)).map(<[Line]>::to_vec));
        let syns: Vec<Packet> = packets[..usize::from(FLOWS)].to_vec();
        Seen {
            old,
            live: live.collect(),
            new: lines[reload..first].iter().map(backend).collect(),
            cold: replay(&self.folder, &self.after, &syns, &[]).iter().map(backend).collect(),
        }
    }
}

impl Seen {
    /// A change that moves fewer slots than this of live flows shows nothing.
    fn assert_that_a_quarter_moves(&self) {
        let moved = self.old.iter().zip(&self.cold).filter(|(old, cold)| old != cold).count();
        assert!(moved * 4 >= self.old.len(), "only {moved} of {} flows moved", self.old.len());
    }

    fn assert_kept(&self, second: u64) {
        let now: Vec<String> = self.live[&second].iter().map(backend).collect();
        assert_eq!(now, self.old, "{second} s after the reload");
    }
}

#[test]
fn added_backends_take_new_flows_and_no_live_one() {
    let four: Backends<'_> = &[("a", ""), ("b", ""), ("c", ""), ("d", "")];
    let change = Change::new("added", ("", &THREE[..2]), ("", four));
    let seen = change.run(&[0, 5, 60, 200]);
    seen.assert_that_a_quarter_moves();
    for second in [0, 5, 60, 200] {
        seen.assert_kept(second);
    }
    for id in ["a", "b", "c", "d"] {
        assert!(seen.new.iter().any(|new| new == id), "{id} has new flows");
    }
}

#[test]
fn a_backend_drained_by_its_state_keeps_its_flows_and_gets_no_new_ones() {
    let drained: Backends<'_> = &[("a", ""), ("b", "state = \"drain\""), ("c", "")];
    let change = Change::new("drained", ("", THREE), ("", drained));
    // A backend that the operator drains stays until he takes it out: no drain time ends it.
    let seconds = [0, 5, DRAIN_SECONDS + 1, 10 * DRAIN_SECONDS];
    let seen = change.run(&seconds);
    seen.assert_that_a_quarter_moves();
    for second in seconds {
        seen.assert_kept(second);
    }
    assert!(seen.old.iter().any(|old| old == "b"));
    assert!(seen.new.iter().all(|new| new != "b"), "no new flow on a draining backend");
}

#[test]
fn a_removed_backend_keeps_its_flows_for_the_drain_time_and_then_resets_them() {
    let two: Backends<'_> = &[("a", ""), ("c", "")];
    let change = Change::new("removed", ("", THREE), ("", two));
    let (last, after, later) = (DRAIN_SECONDS - 1, DRAIN_SECONDS + 1, DRAIN_SECONDS + 30);
    let seen = change.run(&[0, 5, last, after, later]);
    seen.assert_that_a_quarter_moves();
    for second in [0, 5, last] {
        seen.assert_kept(second);
    }
    assert!(seen.new.iter().all(|new| new != "b"), "no new flow on a removed backend");
    // Rounds count from 1; the tombstone answers every straggler, not the first alone.
    for (second, round) in [(after, 4), (later, 5)] {
        let mut resets = 0;
        for (flow, line) in (0u16..).zip(&seen.live[&second]) {
            if seen.old[usize::from(flow)] == "b" {
                assert_reset(line, flow, round);
                resets += 1;
            } else {
                assert_eq!(backend(line), seen.old[usize::from(flow)]);
            }
        }
        assert!(resets * 4 >= usize::from(FLOWS), "{resets} flows were reset");
    }
}

/// A reset as RFC 9293 section 3.5.2 wants it: "the reset takes its sequence number from the
/// ACK field of the incoming segment", and from the VIP, so that the client's stack takes it.
fn assert_reset(line: &Line, flow: u16, round: u32) {
    assert_eq!((line.verdict.as_str(), line.backend.as_deref()), ("reply", Some("b")), "{line:?}");
    let [output] = &line.outputs[..] else { panic!("one packet out: {line:?}") };
    let packet = SlicedPacket::from_ethernet(&output.bytes).unwrap();
    let (Some(NetSlice::Ipv4(ip)), Some(TransportSlice::Tcp(tcp))) = (packet.net, packet.transport)
    else {
        panic!("TCP over IPv4");
    };
    let (client_address, client_port) = client(7, flow);
    assert_eq!((ip.header().source(), tcp.source_port()), VIP);
    assert_eq!((ip.header().destination(), tcp.destination_port()), (client_address, client_port));
    assert!(tcp.rst() && !tcp.ack() && !tcp.syn() && !tcp.fin());
    assert_eq!(tcp.sequence_number(), acknowledgment(flow, round));
    let header = ip.header().to_header();
    assert_eq!(header.header_checksum, header.calc_header_checksum());
    assert_eq!(tcp.checksum(), tcp.calc_checksum_ipv4(header.source, header.destination).unwrap());
}

#[test]
fn changed_weights_move_no_live_flow() {
    let heavier: Backends<'_> = &[("a", ""), ("b", "weight = 10"), ("c", "weight = 1000")];
    let change = Change::new("weights", ("", THREE), ("", heavier));
    let seen = change.run(&[0, 5, 60, 200]);
    seen.assert_that_a_quarter_moves();
    for second in [0, 5, 60, 200] {
        seen.assert_kept(second);
    }
    let on_c = seen.new.iter().filter(|new| *new == "c").count();
    // 1000 of 1110 parts; 5 standard deviations are 8 %.
    assert!((328..=392).contains(&on_c), "{on_c} of {FLOWS} new flows on the heavy backend");
}

#[test]
fn a_weight_of_zero_takes_new_flows_away_and_no_live_one() {
    let without: Backends<'_> = &[("a", ""), ("b", "weight = 0"), ("c", "")];
    let change = Change::new("weight-zero", ("", THREE), ("", without));
    let seen = change.run(&[0, 200]);
    seen.assert_that_a_quarter_moves();
    seen.assert_kept(0);
    seen.assert_kept(200);
    assert!(seen.new.iter().all(|new| new != "b"));
}

#[test]
fn a_new_secret_or_table_size_or_scheduler_moves_no_live_flow() {
    let changes = [
        ("secret", "hash_secret = \"ff0102030405060708090a0b0c0d0e0f\""),
        ("table-size", "table_size = 1009"),
        ("scheduler", "scheduler = \"ring\""),
    ];
    for (name, keys) in changes {
        let change = Change::new(name, ("", THREE), (keys, THREE));
        let seen = change.run(&[0, 200]);
        seen.assert_that_a_quarter_moves();
        seen.assert_kept(0);
        seen.assert_kept(200);
    }
}

#[test]
fn a_backend_that_comes_back_within_the_drain_time_is_not_reset() {
    let folder = scratch("back-again");
    let before = write_config(&folder, "before.toml", "", THREE);
    let without = write_config(&folder, "without.toml", "", &THREE[..2]);
    let mut packets: Vec<Packet> = (0..FLOWS).map(|flow| syn(7, flow, START)).collect();
    let gone = packets.len();
    packets.push(syn(9, 0, START + SECOND));
    let back = packets.len();
    packets.push(syn(9, 1, START + 10 * SECOND));
    let late = START + (DRAIN_SECONDS + 60) * SECOND;
    let stays = |flow| data(7, flow, 1, START + 15 * SECOND);
    packets.extend((0..FLOWS).map(stays));
    packets.extend((0..FLOWS).map(|flow| data(7, flow, 2, late)));
    let lines = replay(&folder, &before, &packets, &[(gone, &without), (back, &before)]);
    let old: Vec<String> = lines[..gone].iter().map(backend).collect();
    for round in lines[back + 1..].chunks(usize::from(FLOWS)) {
        assert_eq!(round.iter().map(backend).collect::<Vec<_>>(), old);
    }
}

#[test]
fn a_client_that_was_reset_may_dial_again_from_the_same_port() {
    let folder = scratch("dials-again");
    let before = write_config(&folder, "before.toml", "", THREE);
    let after = write_config(&folder, "after.toml", "", &[("a", ""), ("c", "")]);
    let mut packets: Vec<Packet> = (0..FLOWS).map(|flow| syn(7, flow, START)).collect();
    packets.extend((0..FLOWS).map(|flow| data(7, flow, 1, START + SECOND)));
    let reload = packets.len();
    let evicted = START + (DRAIN_SECONDS + 2) * SECOND;
    packets.push(syn(9, 0, START + SECOND));
    packets.extend((0..FLOWS).map(|flow| data(7, flow, 2, evicted)));
    packets.extend((0..FLOWS).map(|flow| syn(7, flow, evicted + SECOND)));
    packets.extend((0..FLOWS).map(|flow| data(7, flow, 3, evicted + 2 * SECOND)));
    let lines = replay(&folder, &before, &packets, &[(reload, &after)]);
    let rounds: Vec<&[Line]> = lines[reload + 1..].chunks(usize::from(FLOWS)).collect();
    for flow in 0..usize::from(FLOWS) {
        if lines[flow].backend.as_deref() != Some("b") {
            continue;
        }
        assert_eq!(rounds[0][flow].verdict, "reply");
        let again = backend(&rounds[1][flow]);
        assert_ne!(again, "b");
        assert_eq!(backend(&rounds[2][flow]), again);
    }
}

#[test]
fn a_datagram_flow_leaves_an_evicted_backend() {
    let folder = scratch("datagrams");
    let before = write_config(&folder, "before.toml", "", THREE);
    let after = write_config(&folder, "after.toml", "", &[("a", ""), ("c", "")]);
    let datagram = |flow, time| Packet { time, bytes: udp(client(7, flow), VIP, &[0; 20]) };
    let mut packets: Vec<Packet> = (0..FLOWS).map(|flow| datagram(flow, START)).collect();
    let reload = packets.len();
    let evicted = START + (DRAIN_SECONDS + 2) * SECOND;
    packets.extend((0..FLOWS).map(|flow| datagram(flow, START + SECOND)));
    packets.extend((0..FLOWS).map(|flow| datagram(flow, evicted)));
    packets.extend((0..FLOWS).map(|flow| datagram(flow, evicted + SECOND)));
    let lines = replay(&folder, &before, &packets, &[(reload, &after)]);
    let rounds: Vec<Vec<String>> =
        lines.chunks(usize::from(FLOWS)).map(|round| round.iter().map(backend).collect()).collect();
    assert_eq!(rounds[0], rounds[1], "while it drains");
    assert_eq!(rounds[2], rounds[3], "after the eviction");
    for (old, new) in rounds[0].iter().zip(&rounds[2]) {
        assert!(new != "b" && (old == "b" || old == new), "{old} -> {new}");
    }
}

#[test]
fn a_reload_that_cannot_be_ends_the_replay_and_says_why() {
    let folder = scratch("bad-reload");
    let before = write_config(&folder, "before.toml", "", THREE);
    let after = write_config(&folder, "after.toml", "table_size = 65536", THREE);
    write_capture(&folder.join("in.pcap"), &[syn(7, 0, START)]);
    let path = |name: &str| folder.join(name).display().to_string();
    let output = support::weir(&[
        "replay",
        &before.display().to_string(),
        "--in",
        &path("in.pcap"),
        "--out",
        &path("out.pcap"),
        "--reload",
        &format!("0:{}", after.display()),
    ]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("65536 is not prime"));
}
