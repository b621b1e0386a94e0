//! Affinity other than to the 5-tuple: to the source address, and to what a QUIC connection id
//! says.

#![cfg(not(crossbeam_loom))]

mod common;

use std::sync::Arc;

use common::packets::{Endpoint, datagram, syn, udp};
use common::world::{PoolSpec, World, backend, set_affinity, vip};
use conntrack::Table;
use dataplane::buffer::Frame;
use dataplane::counters::WorkerCounters;
use dataplane::link::WorkerLink;
use dataplane::port::memory::MemoryPort;
use dataplane::publish::Publisher;
use dataplane::quic::{Configuration, Decoder, ServerId};
use dataplane::tables::{Affinity, BackendState, Forwarding, Tables};
use dataplane::verdict::{DropReason, NO_BACKEND, Outcome, Verdict};
use dataplane::vip::{VipPorts, VipProtocol};
use dataplane::worker::{Worker, WorkerOptions};

const VIP: Endpoint = ([203, 0, 113, 1], 443);
const CONFIGURATION: Configuration = Configuration {
    config_id: 2,
    server_id_length: 1,
    nonce_length: 6,
    key: Some([0x5a; 16]),
    self_encoded_length: true,
};

/// A node with one VIP for TCP, one for UDP, and a pool of four behind both.
struct Node {
    world: World,
    affinity: Affinity,
    publisher: Publisher<Tables>,
    worker: Worker<MemoryPort>,
    counters: Arc<WorkerCounters>,
    now: u64,
}

fn tables(world: &World, affinity: Affinity, generation: u64) -> Tables {
    let mut tables = world.tables(generation);
    set_affinity(&mut tables, 1, affinity, &[CONFIGURATION]);
    if affinity == Affinity::Source {
        set_affinity(&mut tables, 0, affinity, &[]);
    }
    tables
}

impl Node {
    fn new(affinity: Affinity) -> Self {
        let pool =
            PoolSpec { forwarding: Forwarding::Ipip, entropy: 0, reselect: false, table_size: 251 };
        let names = ["a", "b", "c", "d"];
        let world = World {
            pools: vec![pool],
            backends: (1..).zip(names).map(|(n, id)| backend(0, id, [10, 0, 0, n], 0)).collect(),
            vips: vec![
                vip(VIP.0, VipPorts::One(VIP.1), VipProtocol::Tcp, 0),
                vip(VIP.0, VipPorts::One(VIP.1), VipProtocol::Udp, 0),
            ],
        };
        let publisher = Publisher::new(tables(&world, affinity, 1));
        let counters = Arc::new(WorkerCounters::new());
        let worker = Worker::new(WorkerOptions {
            ports: vec![MemoryPort::new(), MemoryPort::new()],
            reader: publisher.reader(),
            conntrack: Table::new(64).unwrap(),
            hash_seed: [1, 2, 3, 4],
            number: 0,
            workers: 1,
            link: WorkerLink::new(),
            counters: Arc::clone(&counters),
        });
        Self { world, affinity, publisher, worker, counters, now: 1_000_000_000 }
    }

    fn set_state(&mut self, backend: u32, state: BackendState) {
        self.world.backends[backend as usize].state = state;
        let generation = self.publisher.current().generation + 1;
        self.publisher.publish(tables(&self.world, self.affinity, generation));
    }

    fn outcome(&mut self, frame: &[u8]) -> Outcome {
        self.now += 1_000_000;
        self.worker.port_mut(0).unwrap().push(Frame::new(frame));
        self.worker.poll(self.now);
        self.worker.last_outcomes()[0]
    }

    fn send(&mut self, frame: &[u8]) -> u32 {
        let outcome = self.outcome(frame);
        assert_eq!(outcome.verdict, Verdict::Forward);
        outcome.backend
    }

    /// Open flows of each backend.
    fn flows(&self) -> [u32; 4] {
        [0, 1, 2, 3].map(|index| self.counters.backend(index).unwrap().active_flows())
    }
}

fn client(number: u8) -> Endpoint {
    ([198, 51, 100, number], 40_000)
}

/// A connection id that backend `server` made.
fn id_of(server: u32) -> Vec<u8> {
    let server_id = ServerId::new(&[server as u8]).unwrap();
    Decoder::new(&CONFIGURATION).unwrap().encode(server_id, &[9; 6]).unwrap().to_vec()
}

fn short(id: &[u8]) -> Vec<u8> {
    [&[0x41], id, &[0xdd; 30]].concat()
}

fn long(id: &[u8]) -> Vec<u8> {
    [&[0xc0, 0, 0, 0, 1, id.len() as u8], id, &[0xdd; 30]].concat()
}

/// A first packet: of an id that the client made up.
fn first() -> Vec<u8> {
    long(&[0xff, 1, 2, 3, 4, 5, 6, 7])
}

#[test]
fn all_flows_of_a_source_go_to_one_backend() {
    let mut node = Node::new(Affinity::Source);
    let mut used = [false; 4];
    for number in 1..60 {
        let (address, _) = client(number);
        let chosen = node.send(&udp((address, 1000), VIP));
        used[chosen as usize] = true;
        for port in 1001..1010 {
            assert_eq!(node.send(&udp((address, port), VIP)), chosen);
            assert_eq!(node.send(&syn((address, port), VIP)), chosen, "and for TCP");
        }
    }
    assert_eq!(used, [true; 4], "sources are spread");
    assert!(node.worker.conntrack().len() > 4, "an entry for each flow, not for each source");
}

#[test]
fn a_client_that_changes_its_address_keeps_its_backend() {
    let mut node = Node::new(Affinity::Quic);
    for number in 1..40 {
        let by_table = node.send(&datagram(client(number), VIP, &first()));
        assert_eq!(node.send(&datagram(client(number), VIP, &short(&id_of(by_table)))), by_table);
        let moved = ([192, 0, 2, 200], u16::from(number) + 5000);
        assert_eq!(node.send(&datagram(moved, VIP, &short(&id_of(by_table)))), by_table);
        assert_eq!(node.send(&datagram(moved, VIP, &long(&id_of(by_table)))), by_table);
    }
}

#[test]
fn the_connection_id_wins_over_the_entry_and_pins_it_anew() {
    let mut node = Node::new(Affinity::Quic);
    let by_table = node.send(&datagram(client(1), VIP, &first()));
    let other = (by_table + 1) % 4;
    assert_eq!(node.send(&datagram(client(1), VIP, &short(&id_of(other)))), other);
    // What cannot be read follows the entry: a stateless reset looks like this.
    assert_eq!(node.send(&datagram(client(1), VIP, &[0x42; 40])), other);
    let mut flows = [0; 4];
    flows[other as usize] = 1;
    assert_eq!(node.flows(), flows);
    assert_eq!(node.worker.conntrack().len(), 1);
}

#[test]
fn a_draining_backend_keeps_its_connections_and_gets_no_others() {
    let mut node = Node::new(Affinity::Quic);
    node.set_state(2, BackendState::Draining);
    assert_eq!(node.send(&datagram(client(1), VIP, &short(&id_of(2)))), 2);
    for number in 2..40 {
        assert_ne!(node.send(&datagram(client(number), VIP, &first())), 2);
    }
    // The only ones that are left drain: named, they still get their packets.
    for backend in [0, 1, 3] {
        node.set_state(backend, BackendState::Draining);
    }
    assert_eq!(node.send(&datagram(client(50), VIP, &short(&id_of(3)))), 3);
    let refused = node.outcome(&datagram(client(51), VIP, &first()));
    assert_eq!(refused.verdict, Verdict::Drop(DropReason::NoBackend));
    assert_eq!(refused.backend, NO_BACKEND);
}

#[test]
fn a_backend_that_is_not_there_is_not_named() {
    for state in [BackendState::Unhealthy, BackendState::Evicted, BackendState::Gone] {
        let mut node = Node::new(Affinity::Quic);
        assert_eq!(node.send(&datagram(client(1), VIP, &short(&id_of(2)))), 2);
        node.set_state(2, state);
        let next = node.send(&datagram(client(1), VIP, &short(&id_of(2))));
        assert_ne!(next, 2, "{state:?}");
        assert_eq!(node.send(&datagram(client(1), VIP, &short(&id_of(2)))), next, "and stays");
    }
}

#[test]
fn servers_nobody_has_and_other_vips_are_left_to_the_table() {
    let mut node = Node::new(Affinity::Quic);
    let mut plain = Node::new(Affinity::Flow);
    for number in 1..30 {
        for payload in [short(&id_of(200)), first(), short(&[]), Vec::new(), long(&[0x40])] {
            let frame = datagram(client(number), VIP, &payload);
            assert_eq!(node.send(&frame), plain.send(&frame), "{payload:02x?}");
        }
        let frame = syn(client(number), VIP);
        assert_eq!(node.send(&frame), plain.send(&frame));
    }
}

#[test]
fn the_node_cannot_be_the_source_however_well_the_id_reads() {
    let mut node = Node::new(Affinity::Quic);
    let node_itself = ([192, 0, 2, 2], 5000);
    let outcome = node.outcome(&datagram(node_itself, VIP, &short(&id_of(1))));
    assert_eq!(outcome.verdict, Verdict::Drop(DropReason::MartianSource));
}
