//! Fragments over several workers against what their flow says: whatever the order, the split, the
//! copies and the queues they come in at, all fragments of a datagram go to the backend of its flow,
//! each once at least and as it was.

#![cfg(not(crossbeam_loom))]

mod common;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use common::several::{self, Node};
use common::world::{GATEWAY_MAC, NODE_MAC, World};
use conntrack::FlowKey;
use dataplane::buffer::Buffer;
use dataplane::fragment::Early;
use dataplane::tables::BackendState;
use proptest::prelude::*;
use proptest::sample::Index;

const VIP: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
const VIP6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xcafe, 0, 0, 0, 0, 1);

/// A client's flow to the VIP's UDP port 53.
#[derive(Clone, Copy, Debug)]
struct Flow {
    number: u8,
    v6: bool,
}

impl Flow {
    fn addresses(self) -> (IpAddr, IpAddr) {
        match self.v6 {
            false => (Ipv4Addr::new(198, 51, 100, self.number).into(), VIP.into()),
            true => {
                let client = Ipv6Addr::new(0x2001, 0xdb8, u16::from(self.number), 0, 0, 0, 0, 9);
                (client.into(), VIP6.into())
            }
        }
    }

    fn port(self) -> u16 {
        40_000 + u16::from(self.number)
    }

    fn key(self) -> FlowKey {
        match self.addresses() {
            (IpAddr::V4(source), IpAddr::V4(vip)) => FlowKey::v4(source, vip, self.port(), 53, 17),
            (IpAddr::V6(source), IpAddr::V6(vip)) => FlowKey::v6(source, vip, self.port(), 53, 17),
            _ => unreachable!("one family"),
        }
    }

    /// A UDP datagram of `length` bytes behind the IP header.
    fn datagram(self, length: usize, seed: u8) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(self.port().to_be_bytes());
        bytes.extend(53u16.to_be_bytes());
        bytes.extend((length as u16).to_be_bytes());
        bytes.extend([0xab, 0xcd]);
        bytes.extend((8..length).map(|at| (at as u8).wrapping_mul(31).wrapping_add(seed)));
        bytes
    }

    /// The frame of a part of a datagram, or of all of it.
    fn frame(self, identification: u32, payload: &[u8], at: usize, more: bool) -> Vec<u8> {
        let mut frame = [NODE_MAC.0, GATEWAY_MAC.0].concat();
        let whole = at == 0 && !more;
        match self.addresses() {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let flags = u16::from(more) << 13 | (at / 8) as u16;
                let mut header = vec![0x45, 0];
                header.extend((20 + payload.len() as u16).to_be_bytes());
                header.extend((identification as u16).to_be_bytes());
                header.extend(flags.to_be_bytes());
                header.extend([64, 17, 0, 0]);
                header.extend(source.octets());
                header.extend(destination.octets());
                let sum = dataplane::wire::checksum::checksum(&header);
                header[10..12].copy_from_slice(&sum.to_be_bytes());
                frame.extend([8, 0]);
                frame.extend(header);
            }
            (source, destination) => {
                let (IpAddr::V6(source), IpAddr::V6(destination)) = (source, destination) else {
                    unreachable!("one family")
                };
                frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
                let extension = if whole { 0 } else { 8 };
                frame.extend((payload.len() as u16 + extension).to_be_bytes());
                frame.extend([if whole { 17 } else { 44 }, 64]);
                frame.extend(source.octets());
                frame.extend(destination.octets());
                if !whole {
                    frame.extend([17, 0]);
                    frame.extend(((at as u16) | u16::from(more)).to_be_bytes());
                    frame.extend(identification.to_be_bytes());
                }
            }
        }
        frame.extend(payload);
        frame
    }
}

/// A packet as it looks inside the tunnel: from its IP header on, without hops and checksum.
fn inner(packet: &[u8]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    match packet[0] >> 4 {
        4 => {
            packet[8] = 0;
            packet[10..12].fill(0);
        }
        _ => packet[7] = 0,
    }
    packet
}

fn world() -> World {
    several::dns(VIP.octets(), &VIP6.to_string())
}

/// What went out: the packet inside the tunnel, and the last byte of the backend's address.
fn out(node: &mut Node) -> Vec<(Vec<u8>, u8)> {
    let frames = node.take_sent().into_iter();
    frames.map(|frame| (inner(&frame.data()[34..]), frame.data()[33])).collect()
}

/// One datagram of a case: its flow, its length, where it is cut, and how it arrives.
#[derive(Clone, Debug)]
struct Sent {
    flow: usize,
    length: usize,
    cuts: Vec<Index>,
    copies: Vec<Index>,
}

#[derive(Clone, Debug)]
struct Case {
    workers: usize,
    computable: bool,
    /// Of each flow: the family, and whether it had an entry before the pool changed.
    flows: Vec<(bool, bool, Index)>,
    datagrams: Vec<Sent>,
    /// Keys to shuffle by, workers to come in at, and where to let the workers work.
    order: Vec<(u32, Index, bool)>,
}

fn cases() -> impl Strategy<Value = Case> {
    let datagram = (
        0usize..5,
        40usize..1400,
        prop::collection::vec(any::<Index>(), 1..9),
        prop::collection::vec(any::<Index>(), 0..3),
    )
        .prop_map(|(flow, length, cuts, copies)| Sent { flow, length, cuts, copies });
    (
        1usize..4,
        any::<bool>(),
        prop::collection::vec(any::<(bool, bool, Index)>(), 5),
        prop::collection::vec(datagram, 1..8),
        prop::collection::vec((any::<u32>(), any::<Index>(), prop::bool::weighted(0.3)), 110),
    )
        .prop_map(|(workers, computable, flows, datagrams, order)| Case {
            workers,
            computable,
            flows,
            datagrams,
            order,
        })
}

/// The fragments of a datagram, by its cuts.
fn fragments(flow: Flow, sent: &Sent, identification: u32) -> Vec<Vec<u8>> {
    let payload = flow.datagram(sent.length, identification as u8);
    // Multiples of 8, the first behind the UDP header, none at the end.
    let places = (sent.length - 1) / 8;
    let mut cuts: Vec<usize> = sent.cuts.iter().map(|cut| (1 + cut.index(places)) * 8).collect();
    cuts.extend([0, sent.length]);
    cuts.sort_unstable();
    cuts.dedup();
    cuts.windows(2)
        .map(|ends| {
            let more = ends[1] < sent.length;
            flow.frame(identification, &payload[ends[0]..ends[1]], ends[0], more)
        })
        .collect()
}

fn run(case: &Case) -> Result<(), TestCaseError> {
    let mut node = Node::new(&world(), case.workers, case.computable);
    let flows: Vec<Flow> =
        (1..).zip(&case.flows).map(|(number, (v6, ..))| Flow { number, v6: *v6 }).collect();
    // Some flows have an entry from before the pool changed, wherever the device brought them.
    let mut expected = BTreeMap::new();
    for (at, (flow, (_, early, worker))) in flows.iter().zip(&case.flows).enumerate() {
        let frame = flow.frame(0, &flow.datagram(30, 0), 0, false);
        if *early {
            let home = node.home(&flow.key(), worker.index(case.workers));
            node.push(home, &frame);
            node.settle();
            expected.insert(at, out(&mut node)[0].1);
        }
    }
    let mut changed = world();
    changed.backends[0].state = BackendState::Draining;
    changed.backends[1].state = BackendState::Draining;
    node.publisher.publish(changed.tables(2));
    // For the others the table says so, to a node of its own.
    let mut oracle = Node::new(&world(), 1, false);
    oracle.publisher.publish(changed.tables(2));
    for (at, flow) in flows.iter().enumerate().filter(|(at, _)| !case.flows[*at].1) {
        oracle.push(0, &flow.frame(0, &flow.datagram(30, 0), 0, false));
        oracle.settle();
        expected.insert(at, out(&mut oracle)[0].1);
    }
    // All fragments of all datagrams, with copies, in a random order.
    let mut arriving = Vec::new();
    let mut wanted: BTreeMap<Vec<u8>, (u8, usize)> = BTreeMap::new();
    for (number, sent) in (1u32..).zip(&case.datagrams) {
        let pieces = fragments(flows[sent.flow], sent, number);
        let copies = sent.copies.iter().map(|copy| pieces[copy.index(pieces.len())].clone());
        if pieces.len() > 1 {
            for piece in &pieces {
                wanted.insert(inner(&piece[14..]), (expected[&sent.flow], 0));
            }
        }
        arriving.extend(copies.collect::<Vec<_>>().into_iter().chain(pieces));
    }
    let mut order: Vec<_> = arriving.iter().zip(case.order.iter().cycle()).collect();
    order.sort_by_key(|(_, (key, ..))| *key);
    for (frame, (_, worker, work)) in order {
        node.push(worker.index(case.workers), frame);
        if *work {
            let worker = worker.index(case.workers);
            node.poll(worker);
        }
    }
    node.settle();
    for (packet, backend) in out(&mut node) {
        if let Some((expected, seen)) = wanted.get_mut(&packet) {
            prop_assert_eq!(backend, *expected, "to the flow's backend");
            *seen += 1;
        }
    }
    for (packet, (_, seen)) in &wanted {
        prop_assert!(*seen > 0, "forwarded: {:02x?}", &packet[..packet.len().min(48)]);
    }
    prop_assert_eq!(node.sum(|c| c.handoffs.given.get()), node.sum(|c| c.handoffs.taken.get()));
    // A copy that comes when its datagram is done waits for a first fragment that never comes.
    node.now_ms += 10_000;
    for _ in 0..300 {
        node.settle();
    }
    prop_assert_eq!(node.sum(|c| c.fragments.waiting.get()), 0);
    prop_assert_eq!(node.sum(|c| c.fragments.datagrams.get()), 0, "all is forgotten");
    let copies: usize = case.datagrams.iter().map(|sent| sent.copies.len()).sum();
    prop_assert!(node.drops() <= copies as u64, "only copies are ever dropped");
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 3 } else { 250 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn all_fragments_of_a_datagram_go_to_the_backend_of_its_flow(case in cases()) {
        run(&case)?;
    }
}

#[test]
fn a_flow_known_only_by_its_fragments_keeps_its_backend_when_the_pool_changes() {
    for computable in [false, true] {
        let mut node = Node::new(&world(), 3, computable);
        let sent = Sent { flow: 0, length: 400, cuts: Vec::new(), copies: Vec::new() };
        let flows: Vec<Flow> = (1..40).map(|number| Flow { number, v6: number % 2 == 0 }).collect();
        let mut backends = Vec::new();
        for round in 0..2u32 {
            for (at, flow) in flows.iter().enumerate() {
                let payload = flow.datagram(sent.length, 0);
                let number = round * 1000 + at as u32 + 1;
                // The last first, each at another worker.
                node.push(0, &flow.frame(number, &payload[200..], 200, false));
                node.push(1, &flow.frame(number, &payload[..200], 0, true));
                node.settle();
                let sent = out(&mut node);
                assert_eq!(sent.len(), 2, "{flow:?}, round {round}");
                assert_eq!(sent[0].1, sent[1].1);
                match round {
                    0 => backends.push(sent[0].1),
                    _ => assert_eq!(backends[at], sent[0].1, "{flow:?}"),
                }
            }
            let mut changed = world();
            changed.backends[2].state = BackendState::Draining;
            node.publisher.publish(changed.tables(2 + u64::from(round)));
        }
        assert_eq!(
            (node.drops(), node.sum(|c| c.conntrack.inserts.get())),
            (0, flows.len() as u64)
        );
        assert!(node.sum(|c| c.handoffs.given.get()) > 0);
    }
}

#[test]
fn fragments_that_waited_go_with_a_datagram_that_a_reload_sends_by_its_addresses() {
    let mut node = Node::new(&world(), 1, false);
    let flow = Flow { number: 1, v6: false };
    let payload = flow.datagram(400, 0);
    node.push(0, &flow.frame(9, &payload[200..], 200, false));
    node.settle();
    assert_eq!((out(&mut node).len(), node.sum(|c| c.fragments.waiting.get())), (0, 1));
    let mut tables = world().tables(2);
    tables.fragments.early = Early::Hash;
    node.publisher.publish(tables);
    node.push(0, &flow.frame(9, &payload[104..200], 104, true));
    node.push(0, &flow.frame(9, &payload[..104], 0, true));
    node.settle();
    let sent = out(&mut node);
    assert_eq!(sent.len(), 3);
    assert!(sent.iter().all(|(_, backend)| *backend == sent[0].1));
    // Nothing is left that could lose its time, or be counted twice.
    node.now_ms += 10_000;
    node.settle();
    node.push(0, &flow.frame(9, &payload[200..], 200, false));
    node.settle();
    assert_eq!(node.sum(|c| c.fragments.datagrams.get()), 1);
    assert_eq!((out(&mut node).len(), node.drops()), (1, 0));
}
