//! A flood of one-shot datagrams, as DNS queries are: with a short idle time of their VIP they
//! fill as much of the table as comes in a few seconds, and not the table; with any idle time
//! they leave the flows of others alone.

#![cfg(not(crossbeam_loom))]

mod common;

use std::sync::Arc;

use common::packets::{Endpoint, ack, datagram, syn};
use common::world::{PoolSpec, World, backend, vip};
use conntrack::{State, Table};
use dataplane::buffer::Frame;
use dataplane::counters::WorkerCounters;
use dataplane::link::WorkerLink;
use dataplane::port::memory::MemoryPort;
use dataplane::publish::Publisher;
use dataplane::tables::{BackendState, Forwarding, Tables};
use dataplane::verdict::Verdict;
use dataplane::vip::{VipPorts, VipProtocol};
use dataplane::worker::{Worker, WorkerOptions};

const WEB: Endpoint = ([203, 0, 113, 1], 80);
const DNS: Endpoint = ([203, 0, 113, 2], 53);
/// Flows that the table holds.
const CAPACITY: usize = 16_384;
/// Connections that are there before the flood.
const CONNECTIONS: u16 = 200;
/// Queries a second, each from a client of its own.
const QUERIES: u64 = 2_000;
/// Milliseconds between two polls.
const STEP_MS: u64 = 10;
/// Seconds of the flood.
const FLOOD: u64 = 90;

struct Bench {
    publisher: Publisher<Tables>,
    worker: Worker<MemoryPort>,
    counters: Arc<WorkerCounters>,
    idle_ms: u32,
    now_ms: u64,
    asked: u64,
    /// Most entries there were at once.
    most: u64,
}

/// Two pools of two backends; those of `drained` take no new flows.
fn world(idle_ms: u32, drained: Option<usize>) -> World {
    let pool =
        PoolSpec { forwarding: Forwarding::Ipip, entropy: 0, reselect: false, table_size: 251 };
    let mut dns = vip(DNS.0, VipPorts::One(DNS.1), VipProtocol::Udp, 1);
    dns.timeouts = dns.timeouts.with(State::Udp, idle_ms);
    let mut world = World {
        pools: vec![pool.clone(), pool],
        backends: vec![
            backend(0, "a", [10, 0, 0, 1], 0),
            backend(0, "b", [10, 0, 0, 2], 0),
            backend(1, "c", [10, 0, 0, 3], 0),
            backend(1, "d", [10, 0, 0, 4], 0),
        ],
        vips: vec![vip(WEB.0, VipPorts::One(WEB.1), VipProtocol::Tcp, 0), dns],
    };
    if let Some(drained) = drained {
        world.backends[drained].state = BackendState::Draining;
    }
    world
}

impl Bench {
    fn new(idle_ms: u32) -> Self {
        let publisher = Publisher::new(world(idle_ms, None).tables(1));
        let counters = Arc::new(WorkerCounters::new());
        let worker = Worker::new(WorkerOptions {
            ports: vec![MemoryPort::new()],
            reader: publisher.reader(),
            conntrack: Table::new(CAPACITY).unwrap(),
            hash_seed: [9, 8, 7, 6],
            number: 0,
            workers: 1,
            link: WorkerLink::new(),
            counters: Arc::clone(&counters),
        });
        Self { publisher, worker, counters, idle_ms, now_ms: 1_000, asked: 0, most: 0 }
    }

    /// Sends one packet; the backend it goes to.
    fn send(&mut self, frame: &[u8]) -> u32 {
        self.worker.port_mut(0).unwrap().push(Frame::new(frame));
        self.worker.poll(self.now_ms * 1_000_000);
        let outcome = self.worker.last_outcomes()[0];
        assert_eq!(outcome.verdict, Verdict::Forward);
        self.worker.port_mut(0).unwrap().take_sent();
        outcome.backend
    }

    /// One packet of every connection: the backend of each.
    fn connections(&mut self, frame: fn(Endpoint, Endpoint) -> Vec<u8>) -> Vec<u32> {
        let client = |number| ([192, 168, 0, 1], 10_000 + number);
        (0..CONNECTIONS).map(|number| self.send(&frame(client(number), WEB))).collect()
    }

    /// Some seconds of one-shot queries.
    fn flood(&mut self, seconds: u64) {
        for _ in 0..seconds * 1_000 / STEP_MS {
            self.now_ms += STEP_MS;
            for _ in 0..QUERIES * STEP_MS / 1_000 {
                let [a, b, c, d] = (self.asked as u32).to_be_bytes();
                let client = ([10, b, c, d], 20_000 + u16::from(a));
                let query = datagram(client, DNS, b"one question, and no other");
                self.worker.port_mut(0).unwrap().push(Frame::new(&query));
                self.asked += 1;
            }
            self.worker.poll(self.now_ms * 1_000_000);
            self.worker.port_mut(0).unwrap().take_sent();
            self.most = self.most.max(self.counters.conntrack.entries.get());
        }
    }

    /// Nothing comes for some seconds; a worker polls all the same.
    fn silence(&mut self, seconds: u64) {
        for _ in 0..seconds * 1_000 {
            self.now_ms += 1;
            self.worker.poll(self.now_ms * 1_000_000);
        }
    }

    /// The law for the flows of others: a flood in the middle of their lives, a change of the
    /// pool, and each is where it was.
    fn flood_between_packets_of_connections(&mut self) {
        self.connections(syn);
        let before = self.connections(ack);
        assert!(before.contains(&0) && before.contains(&1));
        self.publisher.publish(world(self.idle_ms, Some(0)).tables(2));
        self.flood(FLOOD);
        // Whoever had lost its entry would now go to the backend that takes new flows.
        assert_eq!(self.connections(ack), before);
    }
}

#[test]
fn with_a_short_idle_time_a_flood_of_queries_leaves_the_table_bounded() {
    let mut bench = Bench::new(2_000);
    bench.flood_between_packets_of_connections();
    // Two seconds, and the turn of the reaper that finds them: 2.56 s.
    let bound = u64::from(CONNECTIONS) + QUERIES * 4_560 / 1_000 + QUERIES / 10;
    assert!(bench.most <= bound, "{} entries, expected {bound} at most", bench.most);
    assert!(bench.most < CAPACITY as u64);
    let conntrack = &bench.counters.conntrack;
    assert_eq!((conntrack.evictions.get(), conntrack.refused.get()), (0, 0));
    assert_eq!(bench.counters.conntrack.inserts.get(), bench.asked + u64::from(CONNECTIONS));
    bench.silence(5);
    assert_eq!(bench.counters.conntrack.entries.get(), u64::from(CONNECTIONS));
}

#[test]
fn with_a_long_one_it_fills_the_table_and_pushes_out_only_its_own_kind() {
    let mut bench = Bench::new(60_000);
    bench.flood_between_packets_of_connections();
    assert!(bench.most >= CAPACITY as u64 * 95 / 100, "{} entries", bench.most);
    assert!(bench.counters.conntrack.evictions.get() > 0);
}
