//! The short way of flows that go on against the long one, over the whole path: two workers get the
//! same packets under the same tables, and for one of them nothing is short. Its packets come behind a
//! tag, so that each is parsed at length, and it is told that packets may name their backends
//! themselves, so that it looks up each flow at length. What goes out, what is said of each packet,
//! every counter and every entry must be the same, whatever comes and however the tables change.
//!
//! Clients and VIPs are chosen to be mistaken for one another: their addresses over IPv6 agree in
//! their last 32 bits, which are addresses over IPv4 as well.

#![cfg(not(crossbeam_loom))]

mod common;

use std::sync::Arc;

use common::world::{GATEWAY_MAC, NODE_MAC, PoolSpec, World, backend, backend6, vip, vip6};
use conntrack::Table;
use dataplane::buffer::{Buffer, FRAME_HEADROOM, Frame};
use dataplane::counters::WorkerCounters;
use dataplane::link::WorkerLink;
use dataplane::port::memory::MemoryPort;
use dataplane::publish::Publisher;
use dataplane::tables::{BackendState, Forwarding, Tables};
use dataplane::verdict::{DropReason, Outcome};
use dataplane::vip::{VipPorts, VipProtocol};
use dataplane::worker::{Worker, WorkerOptions};
use proptest::prelude::*;

/// By pool: two backends each.
const POOLS: u32 = 6;
/// VIPs, half of them over IPv6.
const VIPS: u16 = 12;
const CLIENTS: u16 = 4;
/// The TCP flags of packets: mostly of flows that go on.
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;
/// Of no link of the node's: taken, and not looked at.
const TAG: [u8; 4] = [0x81, 0, 0, 7];

#[derive(Clone, Debug)]
struct Packet {
    v6: bool,
    vip: u16,
    client: u16,
    udp: bool,
    flags: u8,
    hops: u8,
    class: u8,
    payload: usize,
    padding: usize,
    kind: Kind,
}

/// What the buffer of a packet is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Sound,
    /// Without room in front.
    Cramped,
    /// In more pieces than one.
    Segmented,
    /// Behind a tag.
    Tagged,
}

#[derive(Clone, Debug)]
enum Step {
    Burst(Vec<Packet>),
    /// Nothing for so many milliseconds.
    Wait(u64),
    Change {
        backend: usize,
        state: BackendState,
        reachable: bool,
    },
    /// A backend is gone, and another one has its index.
    Replace {
        backend: usize,
    },
    /// Two VIPs have each other's indices from now on.
    Swap {
        one: usize,
        other: usize,
    },
    /// A VIP takes another port.
    Move {
        vip: usize,
        port: u16,
    },
}

fn packets() -> impl Strategy<Value = Vec<Packet>> {
    let flags = prop_oneof![12 => Just(ACK), 4 => Just(SYN), 1 => Just(0x11u8), 1 => Just(0x04u8)];
    let kind = prop_oneof![
        40 => Just(Kind::Sound),
        1 => Just(Kind::Cramped),
        1 => Just(Kind::Segmented),
        1 => Just(Kind::Tagged),
    ];
    let length = prop_oneof![20 => 0usize..30, 1 => 1_370usize..1_470];
    let hops = prop_oneof![20 => Just(64u8), 1 => 0u8..3];
    let who = (prop::bool::weighted(0.7), 0..VIPS / 2, 0..CLIENTS, prop::bool::weighted(0.1));
    let packet = (who, flags, hops, any::<u8>(), length, 0usize..8, kind);
    let packet = packet.prop_map(|(who, flags, hops, class, payload, padding, kind)| {
        let (v6, vip, client, udp) = who;
        // One that is refused in front may be asked for a hop twice.
        let hops = if kind == Kind::Cramped { 64 } else { hops };
        Packet { v6, vip, client, udp, flags, hops, class, payload, padding, kind }
    });
    prop::collection::vec(packet, 1..40)
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let wait = prop_oneof![8 => 0..500u64, 1 => 20_000..70_000u64, 1 => 290_000..310_000u64];
    let state = prop_oneof![
        3 => Just(BackendState::Active),
        2 => Just(BackendState::Draining),
        1 => Just(BackendState::Evicted),
        1 => Just(BackendState::Unhealthy),
        1 => Just(BackendState::Gone),
    ];
    let backends = 2 * POOLS as usize;
    let change = (0..backends, state, prop::bool::weighted(0.8))
        .prop_map(|(backend, state, reachable)| Step::Change { backend, state, reachable });
    let vips = usize::from(VIPS);
    let swap = (0..vips, 0..vips).prop_map(|(one, other)| Step::Swap { one, other });
    let moves = (0..vips, prop_oneof![3 => Just(80u16), 1 => Just(81)])
        .prop_map(|(vip, port)| Step::Move { vip, port });
    let step = prop_oneof![
        24 => packets().prop_map(Step::Burst),
        2 => wait.prop_map(Step::Wait),
        2 => change,
        1 => (0..backends).prop_map(|backend| Step::Replace { backend }),
        1 => swap,
        1 => moves,
    ];
    prop::collection::vec(step, 1..60)
}

/// VIPs of both versions with the same last 32 bits, one for each pool.
fn world() -> World {
    let pool =
        |forwarding, entropy| PoolSpec { forwarding, entropy, reselect: false, table_size: 61 };
    let pools = vec![
        pool(Forwarding::Ipip, 0),
        pool(Forwarding::Ipip, 0xffff),
        pool(Forwarding::Ipip, 0),
        pool(Forwarding::Gue, 0),
        pool(Forwarding::Gre, 0),
        pool(Forwarding::GueWithHeader, 0),
    ];
    let backends = (0..2 * POOLS)
        .map(|number| {
            let (pool, id) = (number / 2, format!("b{number}"));
            // The third pool's are at the other end of IPv4, one of them behind a tagged link.
            match pool {
                2 => backend(pool, &id, [10, 0, 0, number as u8], (number % 2) as u8),
                _ => backend6(pool, &id, &format!("2001:db8:0:1::{number}")),
            }
        })
        .collect();
    let six = (0..POOLS).map(|pool| {
        let address = std::net::Ipv6Addr::from(address(true, pool as u16, false)).to_string();
        vip6(&address, VipPorts::One(80), VipProtocol::Tcp, pool)
    });
    let four = (0..POOLS).map(|pool| {
        let [.., a, b, c, d] = address(false, pool as u16, false);
        vip([a, b, c, d], VipPorts::One(80), VipProtocol::Tcp, pool)
    });
    World { pools, backends, vips: six.chain(four).collect() }
}

/// The address of a VIP or a client: its number in the first half over IPv6, and all of them end in
/// two addresses over IPv4.
fn address(v6: bool, number: u16, client: bool) -> [u8; 16] {
    let [high, low] = number.to_be_bytes();
    let last = match client {
        false => [203, 0, 113, 1],
        true => [192, 88, 98, 1],
    };
    let last = if v6 { last } else { [last[0], last[1], last[2], last[3] + low] };
    let mut address = [0; 16];
    address[..6].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8, high, low]);
    address[12..].copy_from_slice(&last);
    address
}

/// A packet as it comes in: behind [`TAG`] if `tagged`, or if it is of that kind.
fn frame(packet: &Packet, tagged: bool) -> Frame {
    let Packet { v6, hops, class, payload, .. } = *packet;
    let mut frame = [&NODE_MAC.0[..], &GATEWAY_MAC.0].concat();
    if tagged || packet.kind == Kind::Tagged {
        frame.extend(TAG);
    }
    let (source, destination) = (address(v6, packet.client, true), address(v6, packet.vip, false));
    let protocol = if packet.udp { 17 } else { 6 };
    let length = payload + if packet.udp { 8 } else { 20 };
    if v6 {
        frame.extend([0x86, 0xdd, 0x60 | class >> 4, class << 4, 0, 9]);
        frame.extend((length as u16).to_be_bytes());
        frame.extend([protocol, hops]);
        frame.extend([source, destination].concat());
    } else {
        frame.extend([0x08, 0x00]);
        let mut header = [0x45, class, 0, 0, 0, 1, 0x40, 0, hops, protocol, 0, 0].to_vec();
        header[2..4].copy_from_slice(&(20 + length as u16).to_be_bytes());
        header.extend([&source[12..], &destination[12..]].concat());
        let checksum = !sum(&header);
        header[10..12].copy_from_slice(&checksum.to_be_bytes());
        frame.extend(header);
    }
    frame.extend([0x9c, 0x40, 0, 80]);
    match packet.udp {
        true => frame.extend([&(length as u16).to_be_bytes()[..], &[0xab, 0xcd]].concat()),
        false => frame.extend([0, 0, 0, 1, 0, 0, 0, 2, 0x50, packet.flags, 1, 0, 0xab, 0xcd, 0, 0]),
    }
    frame.extend((0..payload).map(|at| at as u8));
    frame.resize(frame.len() + packet.padding, 0xee);
    match packet.kind {
        Kind::Segmented => Frame::segmented(&frame),
        Kind::Cramped => {
            let mut cramped = Frame::new(&frame);
            assert!(cramped.replace_front(0, FRAME_HEADROOM));
            cramped.data_mut()[..frame.len()].copy_from_slice(&frame);
            cramped.truncate(frame.len());
            cramped
        }
        _ => Frame::new(&frame),
    }
}

/// A frame without what two workers may do differently: answers go out behind the tag of their
/// question, and which of its own identifications a worker takes for an outer IPv4 header is nobody's
/// business. The checksum of that header must be right.
fn comparable(frame: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    if frame[12..16] == TAG {
        frame.drain(12..16);
    }
    let link_length = if frame[12..14] == [0x81, 0x00] { 18 } else { 14 };
    if frame[link_length - 2..link_length] == [0x08, 0x00] {
        let header = &mut frame[link_length..link_length + 20];
        assert_eq!(sum(header), 0xffff, "{header:02x?}");
        header[4..6].fill(0);
        header[10..12].fill(0);
    }
    frame
}

/// The ones' complement sum of 16-bit words (RFC 1071).
fn sum(header: &[u8]) -> u16 {
    let words = header.chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(word[1]));
    let sum: u32 = words.sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    (sum & 0xffff) as u16 + (sum >> 16) as u16
}

/// One worker, and the control side's hand.
struct Node {
    publisher: Publisher<Tables>,
    worker: Worker<MemoryPort>,
    counters: Arc<WorkerCounters>,
    /// Nothing is short for it.
    at_length: bool,
}

impl Node {
    fn new(world: &World, flows: usize, at_length: bool) -> Self {
        let publisher = Publisher::new(tables(world, 1, at_length));
        let counters = Arc::new(WorkerCounters::new());
        let worker = Worker::new(WorkerOptions {
            ports: vec![MemoryPort::new(), MemoryPort::new()],
            reader: publisher.reader(),
            conntrack: Table::new(flows).unwrap(),
            hash_seed: [5, 6, 7, 8],
            number: 0,
            workers: 1,
            link: WorkerLink::new(),
            counters: Arc::clone(&counters),
        });
        Self { publisher, worker, counters, at_length }
    }

    fn publish(&mut self, world: &World) {
        let generation = self.publisher.current().generation + 1;
        self.publisher.publish(tables(world, generation, self.at_length));
    }

    /// What became of a burst: the outcomes, and what went out at each port.
    fn burst(&mut self, packets: &[Packet], now_ms: u64) -> (Vec<Outcome>, [Vec<Vec<u8>>; 2]) {
        for packet in packets {
            self.worker.port_mut(0).unwrap().push(frame(packet, self.at_length));
        }
        self.worker.poll(now_ms * 1_000_000);
        let outcomes = self.worker.last_outcomes().to_vec();
        let sent = [0, 1].map(|port| {
            let sent = self.worker.port_mut(port).unwrap().take_sent();
            sent.iter().map(|frame| comparable(frame.data())).collect()
        });
        (outcomes, sent)
    }

    /// Every entry.
    fn entries(&self) -> Vec<String> {
        let mut entries = Vec::new();
        let table = self.worker.conntrack();
        assert!(table.walk(0, usize::MAX, |entry| entries.push(format!("{entry:?}"))).is_none());
        entries
    }

    fn counted(&self) -> Vec<u64> {
        let c = &self.counters;
        let traffic = (0..u32::from(VIPS)).map(|vip| c.vip(vip).unwrap());
        let traffic = traffic.chain((0..2 * POOLS).map(|backend| c.backend(backend).unwrap()));
        let traffic = traffic.flat_map(|counters| {
            let flows = [counters.new_flows.get(), u64::from(counters.active_flows())];
            [counters.packets.get(), counters.bytes.get(), flows[0], flows[1]]
        });
        let conntrack = &c.conntrack;
        let all = [&conntrack.hits, &conntrack.misses, &conntrack.inserts, &conntrack.evictions];
        let more = [&c.forwarded, &c.replied, &c.held, &c.resets];
        let drops = DropReason::ALL.iter().map(|&reason| c.drops(reason));
        let counters = all.into_iter().chain(more).map(|counter| counter.get());
        counters.chain(drops).chain(traffic).collect()
    }
}

fn tables(world: &World, generation: u64, at_length: bool) -> Tables {
    Tables { steered: at_length, ..world.tables(generation) }
}

/// Both workers hold `flows` flows. Returns hits, and packets forwarded.
fn run(flows: usize, steps: &[Step]) -> [u64; 2] {
    let mut world = world();
    let mut nodes = [false, true].map(|at_length| Node::new(&world, flows, at_length));
    let mut now_ms = 10_000;
    for step in steps {
        match step {
            Step::Burst(packets) => {
                now_ms += 1;
                let [short, long] = nodes.each_mut().map(|node| node.burst(packets, now_ms));
                assert_eq!(short, long, "{packets:?}");
            }
            Step::Wait(milliseconds) => now_ms += milliseconds,
            &Step::Change { backend, state, reachable } => {
                let backend = &mut world.backends[backend];
                (backend.state, backend.mac) = (state, reachable.then_some(GATEWAY_MAC));
            }
            &Step::Replace { backend } => world.backends[backend].generation += 1,
            &Step::Swap { one, other } => world.vips.swap(one, other),
            &Step::Move { vip, port } => world.vips[vip].matches.ports = VipPorts::One(port),
        }
        if !matches!(step, Step::Burst(_) | Step::Wait(_)) {
            nodes.iter_mut().for_each(|node| node.publish(&world));
        }
        let [short, long] = nodes.each_ref().map(|node| (node.entries(), node.counted()));
        assert_eq!(short, long, "after {step:?}");
    }
    let [short, _] = &nodes;
    [short.counters.conntrack.hits.get(), short.counters.forwarded.get()]
}

/// A packet of a flow over IPv6 that goes on, to the VIP of the first pool.
fn common(client: u16) -> Packet {
    Packet {
        v6: true,
        vip: 0,
        client,
        udp: false,
        flags: ACK,
        hops: 64,
        class: 0xb9,
        payload: 3,
        padding: 0,
        kind: Kind::Sound,
    }
}

#[test]
fn flows_that_share_their_last_bits_stay_apart() {
    let each = |vip: u16| (0..CLIENTS).map(move |client| Packet { vip, ..common(client) });
    let all: Vec<Packet> = (0..VIPS / 2).flat_map(each).collect();
    let four = all.iter().map(|packet| Packet { v6: false, ..packet.clone() }).collect();
    let udp = all.iter().map(|packet| Packet { udp: true, ..packet.clone() }).collect();
    let bursts = [&all, &all, &four, &four, &all, &udp, &all]
        .map(|burst: &Vec<Packet>| Step::Burst(burst.clone()));
    // 24 flows over each version, and no VIP takes UDP.
    let [hits, forwarded] = run(128, &bursts);
    assert_eq!((hits, forwarded), (24 * 4, 24 * 6));
}

#[test]
fn what_does_not_go_on_as_it_did_is_seen_in_a_burst_of_what_does() {
    let sound: Vec<Packet> = (0..CLIENTS).map(common).collect();
    let odd = [
        Packet { hops: 1, ..common(0) },
        Packet { payload: 1_441, ..common(1) },
        Packet { kind: Kind::Cramped, ..common(2) },
        Packet { kind: Kind::Segmented, ..common(3) },
        Packet { kind: Kind::Tagged, ..common(0) },
        Packet { flags: SYN, ..common(1) },
        Packet { v6: false, ..common(2) },
        Packet { vip: 7, ..common(3) },
    ];
    let mixed: Vec<Packet> = odd.into_iter().flat_map(|odd| [odd, common(0), common(1)]).collect();
    let (sound, mixed) = (Step::Burst(sound), Step::Burst(mixed));
    let again = [sound.clone(), mixed.clone(), sound.clone()];
    let change = |state, reachable| Step::Change { backend: 0, state, reachable };
    for step in [
        Step::Wait(0),
        Step::Swap { one: 0, other: 1 },
        Step::Move { vip: 0, port: 81 },
        Step::Replace { backend: 0 },
        change(BackendState::Evicted, true),
        change(BackendState::Active, false),
        change(BackendState::Draining, true),
        Step::Wait(310_000),
    ] {
        run(32, &[&again[..], &[step], &again[..]].concat());
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 1 } else { 100 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_short_way_leads_where_the_long_way_does(steps in steps()) {
        // So few that flows push each other out.
        run(32, &steps);
    }
}
