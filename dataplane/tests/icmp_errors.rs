//! ICMP errors over several workers: wherever one comes in, it goes to the backend of the flow that
//! it quotes, by the entry that another worker has, or by the table where none has one; and leaves
//! no trace in any flow table.

#![cfg(not(crossbeam_loom))]

mod common;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use common::world::{GATEWAY_MAC, NODE_MAC, PoolSpec, World, backend, vip, vip6};
use conntrack::{FlowKey, Table};
use dataplane::buffer::{Buffer, Frame};
use dataplane::counters::WorkerCounters;
use dataplane::handoff;
use dataplane::link::WorkerLink;
use dataplane::port::memory::MemoryPort;
use dataplane::publish::Publisher;
use dataplane::rss::{HashedKinds, Rss};
use dataplane::tables::{BackendState, Forwarding, Tables};
use dataplane::vip::{VipPorts, VipProtocol};
use dataplane::wire::{IpProtocol, Ipv4Header, Ipv6Header, checksum, icmpv6};
use dataplane::worker::{Worker, WorkerOptions};
use zerocopy::IntoBytes;

const VIP: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
const VIP6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xcafe, 0, 0, 0, 0, 1);
const ROUTER: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
const ROUTER6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 9, 0, 0, 0, 0, 1);
/// Flows; the odd ones over IPv6.
const FLOWS: u16 = 24;

/// A client's flow to the VIP's UDP port 53.
#[derive(Clone, Copy, Debug)]
struct Flow(u16);

impl Flow {
    fn v6(self) -> bool {
        self.0 % 2 == 1
    }

    fn client(self) -> IpAddr {
        match self.v6() {
            false => Ipv4Addr::new(198, 51, 100, self.0 as u8 + 1).into(),
            true => Ipv6Addr::new(0x2001, 0xdb8, 7, self.0, 0, 0, 0, 7).into(),
        }
    }

    fn key(self) -> FlowKey {
        match self.client() {
            IpAddr::V4(client) => FlowKey::v4(client, VIP, 40_000 + self.0, 53, 17),
            IpAddr::V6(client) => FlowKey::v6(client, VIP6, 40_000 + self.0, 53, 17),
        }
    }

    fn ports(self) -> [[u8; 2]; 2] {
        [(40_000 + self.0).to_be_bytes(), 53u16.to_be_bytes()]
    }

    /// What the client sends.
    fn datagram(self) -> Vec<u8> {
        let [client, vip] = self.ports();
        let udp = [&client[..], &vip, &[0, 8, 0, 0]].concat();
        match self.client() {
            IpAddr::V4(client) => {
                let ip = Ipv4Header::build(client, VIP, IpProtocol::UDP, 28);
                framed([8, 0], &[ip.as_bytes(), &udp].concat())
            }
            IpAddr::V6(client) => {
                let ip = Ipv6Header::build(client, VIP6, IpProtocol::UDP, 8);
                framed([0x86, 0xdd], &[ip.as_bytes(), &udp].concat())
            }
        }
    }

    /// What a router says about a long answer of the backend: eight bytes of it.
    fn too_big(self) -> Vec<u8> {
        let [client_port, vip_port] = self.ports();
        let udp = [&vip_port[..], &client_port, &[5, 0xc8, 0, 0]].concat();
        match self.client() {
            IpAddr::V4(client) => {
                let quote = Ipv4Header::build(VIP, client, IpProtocol::UDP, 1500);
                let mut icmp = [&[3, 4, 0, 0, 0, 0, 5, 0x14], quote.as_bytes(), &udp].concat();
                let sum = checksum::checksum(&icmp);
                icmp[2..4].copy_from_slice(&sum.to_be_bytes());
                let length = (20 + icmp.len()) as u16;
                let ip = Ipv4Header::build(ROUTER, VIP, IpProtocol::ICMP, length);
                framed([8, 0], &[ip.as_bytes(), &icmp].concat())
            }
            IpAddr::V6(client) => {
                let quote = Ipv6Header::build(VIP6, client, IpProtocol::UDP, 1460);
                let mut icmp = [&[2, 0, 0, 0, 0, 0, 5, 0x14], quote.as_bytes(), &udp].concat();
                let sum = icmpv6::message_checksum(ROUTER6, VIP6, &icmp);
                icmp[2..4].copy_from_slice(&sum.to_be_bytes());
                let ip = Ipv6Header::build(ROUTER6, VIP6, IpProtocol::ICMPV6, icmp.len() as u16);
                framed([0x86, 0xdd], &[ip.as_bytes(), &icmp].concat())
            }
        }
    }
}

fn framed(ethertype: [u8; 2], packet: &[u8]) -> Vec<u8> {
    [&NODE_MAC.0[..], &GATEWAY_MAC.0, &ethertype, packet].concat()
}

fn world() -> World {
    let pool =
        PoolSpec { forwarding: Forwarding::Ipip, entropy: 0, reselect: false, table_size: 251 };
    let mut vip6 = vip6("2001:db8:cafe::1", VipPorts::One(53), VipProtocol::Udp, 0);
    vip6.matches.prefix_length = 128;
    let names = ["a", "b", "c", "d"];
    World {
        pools: vec![pool],
        backends: (1..).zip(names).map(|(n, id)| backend(0, id, [10, 0, 0, n], 0)).collect(),
        vips: vec![vip(VIP.octets(), VipPorts::One(53), VipProtocol::Udp, 0), vip6],
    }
}

/// A node of several workers.
struct Node {
    publisher: Publisher<Tables>,
    workers: Vec<Worker<MemoryPort>>,
    counters: Vec<Arc<WorkerCounters>>,
    rss: Option<Rss>,
    now_ms: u64,
}

impl Node {
    /// `computable`: the device says how it spreads flows.
    fn new(count: u16, computable: bool) -> Self {
        let publisher = Publisher::new(world().tables(1));
        let rss = computable.then(|| {
            let key = (0..40).map(|n: u8| n.wrapping_mul(97).wrapping_add(13)).collect();
            let kinds =
                HashedKinds { ipv4: true, ipv4_udp: true, ipv6: true, ..HashedKinds::default() };
            Rss::new(key, (0..128).map(|slot| slot % count).collect(), kinds).unwrap()
        });
        let shared: Arc<[Option<Rss>]> = Arc::from([rss.clone()]);
        let counters: Vec<_> = (0..count).map(|_| Arc::new(WorkerCounters::new())).collect();
        let ends = handoff::connect(usize::from(count));
        let workers = (0..count)
            .zip(ends)
            .zip(&counters)
            .map(|((number, ends), counters)| {
                Worker::new(WorkerOptions {
                    ports: vec![MemoryPort::new(), MemoryPort::new()],
                    reader: publisher.reader(),
                    conntrack: Table::new(64).unwrap(),
                    hash_seed: [1, 2, 3, 4],
                    number,
                    workers: count,
                    link: WorkerLink::new(),
                    counters: Arc::clone(counters),
                })
                .join(ends, Arc::clone(&shared))
            })
            .collect();
        Self { publisher, workers, counters, rss, now_ms: 1_000 }
    }

    /// Sends a frame in at a worker: the packets that go out, each with the last byte of the
    /// backend's address and what is in the tunnel.
    fn send(&mut self, worker: usize, frame: &[u8]) -> Vec<(u8, Vec<u8>)> {
        self.workers[worker].port_mut(0).unwrap().push(Frame::new(frame));
        for _ in 0..self.workers.len() + 2 {
            for worker in &mut self.workers {
                worker.poll(self.now_ms * 1_000_000);
            }
        }
        let sent = self.workers.iter_mut().flat_map(|w| w.port_mut(0).unwrap().take_sent());
        sent.map(|frame| (frame.data()[33], frame.data()[34..].to_vec())).collect()
    }

    /// The worker that a flow's ordinary packets come to.
    fn home(&self, flow: Flow) -> usize {
        match &self.rss {
            Some(rss) => usize::from(rss.queue(&flow.key()).unwrap()),
            None => usize::from(flow.0 / 2) % self.workers.len(),
        }
    }

    fn entries(&self) -> usize {
        self.workers.iter().map(|worker| worker.conntrack().len()).sum()
    }

    fn sum(&self, count: impl Fn(&WorkerCounters) -> u64) -> u64 {
        self.counters.iter().map(|counters| count(counters)).sum()
    }
}

/// The error went in whole, but for the hop it has used.
fn assert_is(inner: &[u8], error: &[u8]) {
    let mut expected = error[14..].to_vec();
    if expected[0] >> 4 == 4 {
        expected[8] -= 1;
        expected[10..12].copy_from_slice(&inner[10..12]);
    } else {
        expected[7] -= 1;
    }
    assert_eq!(inner, expected);
}

#[test]
fn an_error_finds_its_flow_s_backend_from_any_worker_and_leaves_no_trace() {
    for (count, computable) in [(1, false), (2, true), (2, false), (4, true), (4, false)] {
        let mut node = Node::new(count, computable);
        // Half of the flows (of each family) have an entry; then two backends get no more flows.
        let known = |flow: Flow| flow.0 % 4 < 2;
        let mut before = Vec::new();
        for flow in (0..FLOWS).map(Flow) {
            let sent = match known(flow) {
                true => node.send(node.home(flow), &flow.datagram()),
                false => Vec::new(),
            };
            before.push(sent.first().map(|(backend, _)| *backend));
        }
        let mut changed = world();
        changed.backends[1].state = BackendState::Draining;
        changed.backends[3].state = BackendState::Draining;
        node.publisher.publish(changed.tables(2));
        let entries = node.entries();
        assert_eq!(entries, usize::from(FLOWS) / 2);
        let mut moved = None;
        for flow in (0..FLOWS).map(Flow) {
            let error = flow.too_big();
            let mut answers = Vec::new();
            for worker in 0..usize::from(count) {
                let sent = node.send(worker, &error);
                let [(backend, inner)] = &sent[..] else { panic!("{flow:?}: {sent:?}") };
                assert_is(inner, &error);
                answers.push(*backend);
            }
            assert!(answers.iter().all(|backend| *backend == answers[0]), "{flow:?}: {answers:?}");
            match before[usize::from(flow.0)] {
                Some(backend) => {
                    assert_eq!(answers[0], backend, "{flow:?}: its entry's backend");
                    moved = moved.or(matches!(backend, 2 | 4).then_some(flow));
                }
                None => assert!(matches!(answers[0], 1 | 3), "{flow:?}: one of the table's"),
            }
        }
        let moved = moved.expect("a flow of which entry and table disagree");
        assert_eq!(node.entries(), entries, "none was made");
        let errors = u64::from(FLOWS) * u64::from(count);
        assert_eq!(node.sum(|counters| counters.icmp.delivered.get()), errors);
        assert_eq!(node.sum(|counters| counters.total_drops()), 0);
        assert_eq!(node.sum(|counters| counters.handoffs.given.get()) > 0, count > 1);
        // What a later packet of the flow finds is what the errors would have changed: the entry is
        // over a minute after the flow's own last packet, not after the last error.
        node.now_ms += 50_000;
        let sent = node.send(0, &moved.too_big());
        assert!(matches!(sent[0].0, 2 | 4), "its entry is still there");
        node.now_ms += 20_000;
        let sent = node.send(0, &moved.too_big());
        assert!(matches!(sent[0].0, 1 | 3), "kept alive by an error");
    }
}
