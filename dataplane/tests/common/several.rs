//! A node of several workers over ports in memory, joined by rings: what one worker gives another
//! has no other way.

use std::sync::Arc;

use conntrack::{FlowKey, Table};
use dataplane::buffer::Frame;
use dataplane::counters::WorkerCounters;
use dataplane::handoff;
use dataplane::link::WorkerLink;
use dataplane::port::memory::MemoryPort;
use dataplane::publish::Publisher;
use dataplane::rss::{HashedKinds, Rss};
use dataplane::tables::{Forwarding, Tables};
use dataplane::vip::{VipPorts, VipProtocol};
use dataplane::worker::{Worker, WorkerOptions};

use super::world::{PoolSpec, World, backend, vip, vip6};

/// Flows that each worker's table holds.
const FLOWS: usize = 64;

/// See the module.
pub(crate) struct Node {
    pub(crate) publisher: Publisher<Tables>,
    pub(crate) workers: Vec<Worker<MemoryPort>>,
    counters: Vec<Arc<WorkerCounters>>,
    rss: Option<Rss>,
    pub(crate) now_ms: u64,
}

/// One pool of four backends, 10.0.0.1 to 10.0.0.4, in `ipip`, behind UDP port 53 of two VIPs.
pub(crate) fn dns(v4: [u8; 4], v6: &str) -> World {
    let pool =
        PoolSpec { forwarding: Forwarding::Ipip, entropy: 0, reselect: false, table_size: 251 };
    let names = ["a", "b", "c", "d"];
    World {
        pools: vec![pool],
        backends: (1..).zip(names).map(|(n, id)| backend(0, id, [10, 0, 0, n], 0)).collect(),
        vips: vec![
            vip(v4, VipPorts::One(53), VipProtocol::Udp, 0),
            vip6(v6, VipPorts::One(53), VipProtocol::Udp, 0),
        ],
    }
}

impl Node {
    /// `computable`: the device says how it spreads flows over the workers.
    pub(crate) fn new(world: &World, workers: usize, computable: bool) -> Self {
        let publisher = Publisher::new(world.tables(1));
        let rss = computable.then(|| {
            let key = (0..40).map(|n: u8| n.wrapping_mul(97).wrapping_add(13)).collect();
            let table = (0..128).map(|slot| slot % workers as u16).collect();
            let kinds =
                HashedKinds { ipv4: true, ipv4_udp: true, ipv6: true, ..HashedKinds::default() };
            Rss::new(key, table, kinds).unwrap()
        });
        let shared: Arc<[Option<Rss>]> = Arc::from([rss.clone()]);
        let counters: Vec<_> = (0..workers).map(|_| Arc::new(WorkerCounters::new())).collect();
        let worker = |((number, ends), counters): ((u16, _), &Arc<WorkerCounters>)| {
            Worker::new(WorkerOptions {
                ports: vec![MemoryPort::new(), MemoryPort::new()],
                reader: publisher.reader(),
                conntrack: Table::new(FLOWS).unwrap(),
                hash_seed: [1, 2, 3, 4],
                number,
                workers: workers as u16,
                link: WorkerLink::new(),
                counters: Arc::clone(counters),
            })
            .join(ends, Arc::clone(&shared))
        };
        let ends = (0..).zip(handoff::connect(workers));
        let workers = ends.zip(&counters).map(worker).collect();
        Self { publisher, workers, counters, rss, now_ms: 1_000 }
    }

    /// Puts a frame on the wire, at a worker's queue.
    pub(crate) fn push(&mut self, worker: usize, frame: &[u8]) {
        self.workers[worker].port_mut(0).unwrap().push(Frame::new(frame));
    }

    /// One round of one worker.
    pub(crate) fn poll(&mut self, worker: usize) {
        self.workers[worker].poll(self.now_ms * 1_000_000);
    }

    /// Lets all workers work until none has anything left.
    pub(crate) fn settle(&mut self) {
        for _ in 0..4 * self.workers.len() + 4 {
            for worker in 0..self.workers.len() {
                self.poll(worker);
            }
        }
    }

    /// What went out since the last call.
    pub(crate) fn take_sent(&mut self) -> Vec<Frame> {
        self.workers.iter_mut().flat_map(|w| w.port_mut(0).unwrap().take_sent()).collect()
    }

    /// The worker that a flow's ordinary packets come to; `otherwise` where nobody can compute it.
    pub(crate) fn home(&self, flow: &FlowKey, otherwise: usize) -> usize {
        match &self.rss {
            Some(rss) => usize::from(rss.queue(flow).unwrap()),
            None => otherwise,
        }
    }

    /// Over all workers.
    pub(crate) fn sum(&self, count: impl Fn(&WorkerCounters) -> u64) -> u64 {
        self.counters.iter().map(|counters| count(counters)).sum()
    }

    /// Packets dropped, for any reason.
    pub(crate) fn drops(&self) -> u64 {
        self.sum(WorkerCounters::total_drops)
    }
}
