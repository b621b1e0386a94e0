//! Probes through the tunnel: the schedule against a network told in a table, then a whole node
//! with a worker over a port in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use config::Config;
use conntrack::Table;
use control::node::{Node, PortFacts};
use control::probe::Probes;
use control::probe::schedule::{
    Found, Key, MAX_A_STEP, MAX_UNDER_WAY, Order, Schedule, Sources, Standing, Target,
};
use dataplane::buffer::{Buffer, Frame};
use dataplane::counters::WorkerCounters;
use dataplane::port::memory::MemoryPort;
use dataplane::probe::{Answer, Ends, PORTS, ProbeReply};
use dataplane::wire::{IpProtocol, Ipv4Header, Ipv6Header, MacAddress};
use dataplane::worker::{Worker, WorkerOptions};
use health::thresholds::ProbeSettings;
use health::thresholds::Verdict::{Down, Unknown, Up};
use zerocopy::IntoBytes;

const STEP_MS: u64 = 10;

fn vip(last: u8) -> SocketAddr {
    SocketAddr::new(Ipv4Addr::new(203, 0, 113, last).into(), 80)
}

fn key(index: u32) -> Key {
    Key { index, generation: 0 }
}

fn target(index: u32, vips: &[u8]) -> Target {
    let vips = vips.iter().copied().map(vip).collect();
    let node = Sources { v4: Some(Ipv4Addr::new(192, 0, 2, 2)), v6: None };
    Target { key: key(index), node, vips, reachable: true }
}

/// Backends that answer as `says` says, 5 ms later.
struct World {
    schedule: Schedule,
    now: u64,
    /// By backend and VIP; who is not in it is silent.
    says: BTreeMap<(u32, SocketAddr), Answer>,
    sent: Vec<(u64, u32, Ends)>,
    resets: usize,
}

impl World {
    fn new(targets: Vec<Target>) -> Self {
        let mut schedule = Schedule::new(ProbeSettings::default(), 1);
        let mut says = BTreeMap::new();
        for target in &targets {
            says.extend(target.vips.iter().map(|v| ((target.key.index, *v), Answer::Accepts)));
        }
        schedule.want(targets, 0);
        Self { schedule, now: 0, says, sent: Vec::new(), resets: 0 }
    }

    fn step(&mut self) {
        let mut sent = Vec::new();
        self.schedule.poll(self.now, |order| {
            let Order::Probe(key, ends) = order else { panic!("{order:?}") };
            sent.push((self.now, key.index, ends));
            true
        });
        for &(_, index, ends) in &sent {
            if let Some(answer) = self.says.get(&(index, ends.vip())) {
                let order = self.schedule.heard(&ProbeReply { ends, answer: *answer });
                let expected = Order::Reset(key(index), ends);
                assert_eq!(order, (*answer == Answer::Accepts).then_some(expected));
                self.resets += usize::from(order.is_some());
            }
        }
        self.sent.extend(sent);
        self.now += STEP_MS;
    }

    fn run(&mut self, ms: u64) {
        for _ in 0..ms / STEP_MS {
            self.step();
        }
    }

    fn standing(&self, index: u32) -> Standing {
        self.schedule.standing(key(index)).expect("wanted")
    }

    /// Steps until the verdict is `up`; returns the milliseconds that took.
    fn until(&mut self, index: u32, verdict: health::thresholds::Verdict) -> u64 {
        let began = self.now;
        while self.standing(index).verdict != verdict {
            self.step();
            assert!(self.now - began < 20_000, "{:?}", self.standing(index));
        }
        self.now - began
    }
}

#[test]
fn every_backend_is_asked_once_a_second_spread_over_it_and_from_ports_in_turn() {
    let mut world = World::new((0..750).map(|index| target(index, &[1])).collect());
    world.run(11_000);
    for index in 0..750 {
        let times: Vec<u64> =
            world.sent.iter().filter(|(_, i, _)| *i == index).map(|(at, ..)| *at).collect();
        assert!(times[0] < 1_010, "{times:?}");
        let gaps = times.windows(2).map(|pair| pair[1] - pair[0]);
        assert!(gaps.clone().all(|gap| (1_000..=1_200 + STEP_MS).contains(&gap)), "{times:?}");
        assert_eq!(world.standing(index).verdict, Up);
    }
    let mut a_step: BTreeMap<u64, usize> = BTreeMap::new();
    for (at, ..) in &world.sent {
        *a_step.entry(*at).or_default() += 1;
    }
    assert!(a_step.values().all(|count| *count < 30), "{a_step:?}");
    assert_eq!(world.resets, world.sent.len());
    let ports = world.sent.iter().map(|(_, _, ends)| ends.node().port());
    assert!(ports.clone().all(|port| PORTS.contains(&port)));
    assert_eq!(ports.collect::<BTreeSet<_>>().len(), world.sent.len().min(PORTS.len()));
    let counts = world.schedule.counts();
    assert_eq!(counts.accepted, world.sent.len() as u64);
    assert_eq!((counts.silent, counts.late, counts.put_off), (0, 0, 0));
}

#[test]
fn three_silences_are_down_within_five_seconds_and_two_answers_are_up() {
    let mut world = World::new(vec![target(0, &[1]), target(1, &[1])]);
    assert_eq!(world.standing(0).verdict, Unknown);
    assert_eq!(world.standing(0).to_string(), "not asked yet");
    world.run(5_000);
    assert_eq!(world.standing(0).to_string(), "answers");
    world.says.remove(&(0, vip(1)));
    let took = world.until(0, Down);
    assert!((3_000 - 200..=4_600 + STEP_MS).contains(&took), "{took}");
    assert_eq!(
        world.standing(0).to_string(),
        "no answer from 203.0.113.1:80 through the tunnel, 3 in a row"
    );
    assert_eq!(world.standing(1).verdict, Up, "the other one is not concerned");
    world.says.insert((0, vip(1)), Answer::Accepts);
    assert!(world.until(0, Up) <= 2_400 + STEP_MS);
}

#[test]
fn a_closed_port_is_told_apart_from_a_missing_tunnel() {
    let mut world = World::new(vec![target(0, &[1])]);
    world.says.insert((0, vip(1)), Answer::Refuses);
    world.run(5_000);
    let standing = world.standing(0);
    assert_eq!((standing.verdict, standing.refused), (Up, Some(vip(1))));
    assert_eq!(
        standing.to_string(),
        "203.0.113.1:80 refuses connections: tunnel and VIP are there, no service is"
    );
    assert_eq!(world.resets, 0, "a RST is not answered");
    world.says.insert((0, vip(1)), Answer::Accepts);
    world.run(2_000);
    assert_eq!(world.standing(0).to_string(), "answers");
}

#[test]
fn one_missing_vip_of_several_is_found_as_fast_as_an_only_one_and_watched_until_it_is_back() {
    let mut world = World::new(vec![target(0, &[1, 2, 3])]);
    world.run(8_000);
    let asked: BTreeSet<SocketAddr> = world.sent.iter().map(|(_, _, ends)| ends.vip()).collect();
    assert_eq!(asked, [1, 2, 3].map(vip).into());
    world.says.remove(&(0, vip(2)));
    // Up to two turns until it is its turn, then three.
    assert!(world.until(0, Down) <= 2_400 + 4_600 + STEP_MS);
    let from = world.sent.len();
    world.run(5_000);
    assert!(world.sent[from..].iter().all(|(_, _, ends)| ends.vip() == vip(2)));
    world.says.insert((0, vip(2)), Answer::Accepts);
    world.until(0, Up);
    // The operator takes it out of the pool: the others count.
    world.says.remove(&(0, vip(3)));
    world.until(0, Down);
    world.schedule.want([target(0, &[1, 2])], world.now);
    world.until(0, Up);
}

#[test]
fn an_answer_counts_in_time_and_once() {
    let mut world = World::new(vec![target(0, &[1])]);
    world.says.clear();
    while world.sent.is_empty() {
        world.step();
    }
    let (at, _, ends) = world.sent[0];
    let reply = ProbeReply { ends, answer: Answer::Accepts };
    // Not ours: another port, another VIP, a port that no probe ever had.
    let port = |port| SocketAddr::new(ends.node().ip(), port);
    for ends in [
        Ends::new(port(ends.node().port() + 1), ends.vip()).expect("one family"),
        Ends::new(port(1), ends.vip()).expect("one family"),
        Ends::new(ends.node(), vip(2)).expect("one family"),
    ] {
        assert_eq!(world.schedule.heard(&ProbeReply { ends, ..reply }), None);
    }
    assert_eq!(world.schedule.counts().accepted, 0);
    world.run(1_000);
    assert_eq!((world.schedule.counts().silent, world.standing(0).failures), (1, 1));
    assert!(world.now - at >= 1_000);
    // Too late to count, and still ended at the backend.
    assert_eq!(world.schedule.heard(&reply), Some(Order::Reset(key(0), ends)));
    assert_eq!(world.standing(0).found, Found::Silence(vip(1)));
    assert_eq!(world.standing(0).failures, 1);
    // In time, and a second time.
    let counts = world.schedule.counts();
    while world.sent.len() == 1 {
        world.step();
    }
    let ends = world.sent[1].2;
    let reply = ProbeReply { ends, answer: Answer::Accepts };
    for _ in 0..2 {
        assert_eq!(world.schedule.heard(&reply), Some(Order::Reset(key(0), ends)));
    }
    let now = world.schedule.counts();
    assert_eq!((now.accepted - counts.accepted, now.late - counts.late), (1, 1));
}

#[test]
fn a_backend_without_a_next_hop_fails_unsent() {
    let mut world = World::new(vec![Target { reachable: false, ..target(0, &[1]) }]);
    world.run(5_000);
    assert!(world.sent.is_empty());
    assert_eq!(world.standing(0).verdict, Down);
    assert_eq!(world.standing(0).to_string(), "the next hop is not resolved");
    world.schedule.want([target(0, &[1])], world.now);
    world.says.insert((0, vip(1)), Answer::Accepts);
    world.until(0, Up);
}

#[test]
fn a_pool_without_a_vip_to_ask_at_is_not_probed() {
    let mut world = World::new(vec![target(0, &[])]);
    world.run(5_000);
    assert!(world.sent.is_empty());
    let standing = world.standing(0);
    assert_eq!((standing.verdict, standing.probed), (Unknown, false));
    assert!(standing.to_string().starts_with("not probed: "));
}

#[test]
fn vips_of_both_families_are_asked_in_turn_each_from_an_address_of_its_own() {
    let vips = [vip(1), "[2001:db8:cafe::1]:80".parse().expect("an address")];
    let node = Sources {
        v4: Some(Ipv4Addr::new(192, 0, 2, 2)),
        v6: Some(Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, 2)),
    };
    let mut world = World::new(vec![Target { node, vips: vips.into(), ..target(0, &[]) }]);
    world.run(8_000);
    let asked: BTreeSet<SocketAddr> = world.sent.iter().map(|(_, _, ends)| ends.vip()).collect();
    assert_eq!(asked, vips.into());
    for (_, _, ends) in &world.sent {
        assert_eq!(Some(ends.node().ip()), node.toward(ends.vip().ip()));
    }
    world.says.remove(&(0, vips[1]));
    assert!(world.until(0, Down) <= 1_200 + 4_600 + STEP_MS);
    assert_eq!(
        world.standing(0).to_string(),
        "no answer from [2001:db8:cafe::1]:80 through the tunnel, 3 in a row"
    );
}

#[test]
fn another_owner_of_an_index_begins_anew() {
    let mut world = World::new(vec![target(0, &[1])]);
    world.run(4_000);
    let next = Key { index: 0, generation: 1 };
    world.schedule.want([Target { key: next, ..target(0, &[1]) }], world.now);
    assert_eq!(world.schedule.standing(key(0)), None);
    assert_eq!(world.schedule.standing(next).expect("wanted").verdict, Unknown);
}

#[test]
fn however_many_backends_probes_a_step_and_under_way_are_bounded() {
    let vips: Arc<[SocketAddr]> = [vip(1)].into();
    let targets = (0..65_536).map(|index| Target { vips: Arc::clone(&vips), ..target(index, &[]) });
    let mut world = World::new(Vec::new());
    world.schedule.want(targets, 0);
    let mut most = 0;
    for _ in 0..300 {
        let before = world.sent.len();
        world.step();
        most = most.max(world.sent.len() - before);
        let since = world.now.saturating_sub(1_000);
        let under_way = world.sent.iter().filter(|(at, ..)| *at >= since).count();
        assert!(under_way <= MAX_UNDER_WAY);
    }
    assert_eq!(most, MAX_A_STEP);
    let asked: BTreeSet<u32> = world.sent.iter().map(|(_, index, _)| *index).collect();
    assert_eq!(asked.len(), world.sent.len(), "all are asked once before any is asked again");
}

#[test]
fn a_probe_that_no_worker_takes_is_tried_again_and_fails_nobody() {
    let mut world = World::new(vec![target(0, &[1])]);
    for now in (0..3_000).step_by(10) {
        world.schedule.poll(now, |_| false);
    }
    assert_eq!(world.schedule.counts().silent, 0);
    assert!((20..=30).contains(&world.schedule.counts().put_off));
    assert_eq!(world.standing(0).verdict, Unknown);
}

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
