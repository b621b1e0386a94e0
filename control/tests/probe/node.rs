//! A whole node with a worker over a port in memory.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use config::Config;
use conntrack::Table;
use control::node::{Node, PortFacts};
use control::probe::Probes;
use dataplane::buffer::{Buffer, Frame};
use dataplane::counters::WorkerCounters;
use dataplane::port::memory::MemoryPort;
use dataplane::wire::{IpProtocol, Ipv4Header, Ipv6Header, MacAddress};
use dataplane::worker::{Worker, WorkerOptions};
use health::thresholds::Verdict::{Down, Up};
use zerocopy::IntoBytes;

use super::{STEP_MS, vip};

const CONFIG: &str = r#"
[node]
name = "lb"
zone = "a"
[[port]]
name = "uplink"
device = "net_null0"
mac = "02:00:00:00:00:02"
addresses = ["192.0.2.2/24", "2001:db8:0:1::2/64"]
gateways = ["192.0.2.1"]
neighbors = [
  { address = "2001:db8:0:1::11", mac = "02:00:00:00:00:0b" },
  { address = "192.0.2.1", mac = "02:00:00:00:00:01" },
  { address = "192.0.2.11", mac = "02:00:00:00:00:0b" },
]
[conntrack]
flows = 1000
[[pool]]
id = "web"
FORWARDING
hash_secret = "000102030405060708090a0b0c0d0e0f"
[[pool.backend]]
id = "host-1"
address = "BACKEND"
[[vip]]
address = "VIP"
port = 80
protocol = "tcp"
pool = "web"
[[vip]]
address = "203.0.113.2"
port = "any"
protocol = "tcp"
pool = "web"
"#;

/// Flags of a TCP header.
const SYN_ACK: u8 = 0x12;
const RST_ACK: u8 = 0x14;

/// The IP packet with TCP in it that a frame ends with, its source and destination.
fn inner(frame: &[u8]) -> (&[u8], IpAddr, IpAddr) {
    let (v4, v6) = (&frame[frame.len() - 40..], &frame[frame.len().saturating_sub(60)..]);
    if v4[0] == 0x45 && v4[9] == 6 {
        let address = |at: usize| <[u8; 4]>::try_from(&v4[at..at + 4]).expect("four");
        return (&v4[20..], address(12).into(), address(16).into());
    }
    assert_eq!((v6[0], v6[6]), (0x60, 6), "{frame:02x?}");
    let address = |at: usize| <[u8; 16]>::try_from(&v6[at..at + 16]).expect("sixteen");
    (&v6[40..], address(8).into(), address(24).into())
}

/// What a backend says to a probe's SYN.
fn answer_to(frame: &[u8], flags: u8) -> Frame {
    let (syn, node, vip) = inner(frame);
    let port = |at: usize| u16::from_be_bytes([syn[at], syn[at + 1]]);
    let sequence = u32::from_be_bytes([syn[4], syn[5], syn[6], syn[7]]);
    let mut reply = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 0x0b];
    match (vip, node) {
        (IpAddr::V4(vip), IpAddr::V4(node)) => {
            reply.extend([0x08, 0x00]);
            reply.extend(Ipv4Header::build(vip, node, IpProtocol::TCP, 40).as_bytes());
        }
        (IpAddr::V6(vip), IpAddr::V6(node)) => {
            reply.extend([0x86, 0xdd]);
            reply.extend(Ipv6Header::build(vip, node, IpProtocol::TCP, 20).as_bytes());
        }
        other => panic!("{other:?}"),
    }
    reply.extend(port(2).to_be_bytes());
    reply.extend(port(0).to_be_bytes());
    reply.extend(77u32.to_be_bytes());
    reply.extend(sequence.wrapping_add(1).to_be_bytes());
    reply.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    Frame::new(&reply)
}

/// A node with one worker, stepped for `ms`; the backend answers SYNs with `flags`. Returns the
/// flags of what the backend got, in order.
fn run(
    node: &mut Node,
    worker: &mut Worker<MemoryPort>,
    now: &mut u64,
    ms: u64,
    flags: u8,
) -> Vec<u8> {
    let mut got = Vec::new();
    for _ in 0..ms / STEP_MS {
        *now += STEP_MS;
        node.step(*now);
        worker.poll(*now * 1_000_000);
        for frame in worker.port_mut(0).expect("a port").take_sent() {
            let (tcp, ..) = inner(frame.data());
            got.push(tcp[13]);
            if tcp[13] == 0x02 && flags != 0 {
                let reply = answer_to(frame.data(), flags);
                worker.port_mut(0).expect("a port").push(reply);
            }
        }
    }
    got
}

fn node_with_a_worker(
    mode: &str,
    backend: &str,
    vip: SocketAddr,
) -> (Node, Worker<MemoryPort>, Arc<WorkerCounters>) {
    let forwarding = match mode {
        "gue-0" => "forwarding = \"gue\"\ngue_variant = 0".to_owned(),
        mode => format!("forwarding = \"{mode}\""),
    };
    let text = CONFIG.replace("FORWARDING", &forwarding).replace("BACKEND", backend);
    let text = text.replace("VIP", &vip.ip().to_string());
    let config = Config::parse(&text, "test.toml").unwrap_or_else(|e| panic!("{e}")).config;
    let facts = [PortFacts { mac: MacAddress([2, 0, 0, 0, 0, 2]), any_mac: false }];
    let mut node = Node::new(config, &facts, 0).expect("a node");
    let parts = node.add_worker();
    let counters = Arc::clone(&parts.handle.counters);
    let worker = Worker::new(WorkerOptions {
        ports: vec![MemoryPort::new()],
        reader: parts.reader,
        conntrack: Table::new(1_000).expect("a table"),
        hash_seed: [1, 2, 3, 4],
        number: 0,
        workers: 1,
        link: parts.handle.link,
        counters: parts.handle.counters,
    });
    (node, worker, counters)
}

#[test]
fn backends_that_a_controller_adds_are_asked_and_those_it_takes_are_forgotten() {
    let (mut node, mut worker, _) = node_with_a_worker("ipip", "192.0.2.11", vip(1));
    node.start_probes(Probes::new([1, 2, 3, 4]));
    let mut now = 0;
    run(&mut node, &mut worker, &mut now, 100, SYN_ACK);
    let preparation = node.prepare();
    let mut pools = preparation.given().to_vec();
    // In place of host-1, which has its address.
    pools[0].backends[0].id = "host-2".to_owned();
    let prepared = preparation.build(pools.into()).expect("a good pool");
    node.install(prepared).expect("nobody else changed it");
    run(&mut node, &mut worker, &mut now, 5_000, SYN_ACK);
    assert_eq!(node.tunnel("web", "host-1"), None);
    assert_eq!(node.tunnel("web", "host-2").expect("asked").verdict, Up);
}

#[test]
fn a_node_asks_takes_the_answer_and_ends_what_it_began() {
    let vip6 = SocketAddr::new(Ipv6Addr::new(0x2001, 0xdb8, 0xcafe, 0, 0, 0, 0, 1).into(), 80);
    let v4 = "192.0.2.11";
    let v6 = "2001:db8:0:1::11";
    // What is before the packet inside, link header included.
    let cases = [
        ("ipip", v4, vip(1), 14 + 20),
        ("l2dsr", v4, vip(1), 14),
        ("ipip", v4, vip6, 14 + 20),
        ("l2dsr", v4, vip6, 14),
        ("ipip", v6, vip6, 14 + 40),
        ("gre", v4, vip6, 14 + 24),
        ("gre", v6, vip(1), 14 + 44),
        ("gue", v6, vip(1), 14 + 48),
        ("gue-0", v6, vip6, 14 + 52),
    ];
    for (mode, backend, vip, before) in cases {
        let (mut node, mut worker, counters) = node_with_a_worker(mode, backend, vip);
        let mut now = 0;
        assert_eq!(run(&mut node, &mut worker, &mut now, 3_000, 0), [0u8; 0], "not started");
        assert_eq!(node.tunnel("web", "host-1"), None);

        node.start_probes(Probes::new([1, 2, 3, 4]));
        let got = run(&mut node, &mut worker, &mut now, 5_000, SYN_ACK);
        assert!(got.len() >= 8, "{got:?}");
        for pair in got.chunks_exact(2) {
            assert_eq!(pair, [0x02, 0x04], "a SYN, and the RST that ends what came of it");
        }
        let standing = node.tunnel("web", "host-1").expect("asked");
        assert_eq!((standing.verdict, standing.to_string()), (Up, "answers".to_owned()));
        assert_eq!(counters.probes.replies.get(), got.len() as u64 / 2);
        assert_eq!((counters.total_drops(), counters.conntrack.entries.get()), (0, 0));

        let got = run(&mut node, &mut worker, &mut now, 4_000, RST_ACK);
        assert!(got.iter().all(|flags| *flags == 0x02), "a RST is not answered: {got:?}");
        let standing = node.tunnel("web", "host-1").expect("asked");
        assert_eq!((standing.verdict, standing.refused), (Up, Some(vip)));

        run(&mut node, &mut worker, &mut now, 6_000, 0);
        assert_eq!(node.tunnel("web", "host-1").expect("asked").verdict, Down);
        // In the mode that clients' packets go in.
        let sent = loop {
            now += STEP_MS;
            node.step(now);
            worker.poll(now * 1_000_000);
            if let Some(frame) = worker.port_mut(0).expect("a port").take_sent().pop() {
                break frame;
            }
        };
        let ip = if vip.is_ipv4() { 20 } else { 40 };
        assert_eq!(sent.data().len(), before + ip + 20, "{mode}");
        assert_eq!(sent.data()[..6], [2, 0, 0, 0, 0, 0x0b]);
    }
}
