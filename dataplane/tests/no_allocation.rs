//! SPEC section 5: workers never allocate and never free per packet.
//!
//! A worker over ports whose buffers are recycled gets every kind of traffic there is, tables
//! are published under it, flows are dumped, and every call to the allocator on its thread
//! while it polls is counted. The count must be 0, and the counters must show that all of it
//! happened.

#![cfg(not(crossbeam_loom))]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

use common::packets::{Endpoint, ack, arp, echo, fin, finish, rst, syn, tagged, tcp, udp};
use common::pooled::{BufferPool, PooledPort};
use common::world::{GATEWAY_MAC, NODE, PoolSpec, VLAN, World, backend, vip};
use conntrack::Table;
use dataplane::counters::WorkerCounters;
use dataplane::link::{Command, FlowFilter, FlowRecord, WorkerLink};
use dataplane::publish::Publisher;
use dataplane::tables::{BackendState, Forwarding, Tables};
use dataplane::verdict::DropReason;
use dataplane::vip::{VipPorts, VipProtocol};
use dataplane::worker::{Worker, WorkerOptions};

/// Counts calls by thread and passes them on.
struct Counting;

thread_local! {
    static CALLS: Cell<(usize, usize)> = const { Cell::new((0, 0)) };
}

// SAFETY: every call goes on to `System` unchanged; counting neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = CALLS.try_with(|calls| calls.set((calls.get().0 + 1, calls.get().1)));
        // SAFETY: the caller's promises are `System`'s conditions.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        let _ = CALLS.try_with(|calls| calls.set((calls.get().0, calls.get().1 + 1)));
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Bursts after the warm-up.
const BURSTS: u32 = 6_000;
/// Flows that the table holds: few, so that it is full soon.
const FLOWS: usize = 512;

const WEB: Endpoint = ([203, 0, 113, 1], 80);
const DIRECT: Endpoint = ([203, 0, 113, 2], 53);
const SLOW: Endpoint = ([203, 0, 113, 3], 80);
const EMPTY: Endpoint = ([203, 0, 113, 4], 80);

/// Two pools that work, one whose next hop comes and goes, one without backends.
fn world(round: u32) -> World {
    let pool =
        |forwarding, entropy| PoolSpec { forwarding, entropy, reselect: false, table_size: 251 };
    let mut world = World {
        pools: vec![
            pool(Forwarding::Ipip, 0xffff),
            pool(Forwarding::L2dsr, 0),
            pool(Forwarding::Ipip, 0),
            pool(Forwarding::Ipip, 0),
        ],
        backends: vec![
            backend(0, "a", [10, 0, 0, 1], 0),
            backend(0, "b", [10, 0, 0, 2], 1),
            backend(0, "c", [10, 0, 0, 3], 0),
            backend(1, "d", [192, 0, 2, 21], 0),
            backend(2, "e", [10, 0, 0, 5], 0),
        ],
        vips: vec![
            vip(WEB.0, VipPorts::One(80), VipProtocol::Tcp, 0),
            vip(DIRECT.0, VipPorts::Any, VipProtocol::Udp, 1),
            vip(SLOW.0, VipPorts::Range(80..=90), VipProtocol::Any, 2),
            vip(EMPTY.0, VipPorts::Any, VipProtocol::Any, 3),
        ],
    };
    // "c" comes, is evicted, and comes back as another generation; "e" is reachable at times.
    let turn = round % 4;
    world.backends[2].state = if turn < 2 { BackendState::Active } else { BackendState::Evicted };
    world.backends[2].generation = (round / 4) as u16;
    world.backends[4].mac = (turn % 2 == 1).then_some(GATEWAY_MAC);
    world
}

/// A client of its own for each number.
fn client(number: u32) -> Endpoint {
    let [_, a, b, c] = number.to_be_bytes();
    ([198, 51, a, b], 1024 + u16::from(c))
}

/// One burst of everything. The flows of numbers below 16 come again and again, others once.
fn traffic(round: u32) -> Vec<(usize, Vec<u8>)> {
    let old = client(round % 16);
    let new = client(1000 + round);
    let mut frames: Vec<(usize, Vec<u8>)> = vec![
        (0, ack(old, WEB)),
        (0, ack(old, WEB)),
        (0, syn(new, WEB)),
        (0, ack(client(100_000 + round), WEB)),
        (1, tagged(&ack(old, WEB), VLAN)),
        (0, udp(old, DIRECT)),
        (0, udp(new, DIRECT)),
        (0, syn(new, SLOW)),
        (0, udp(new, SLOW)),
        (0, udp(old, SLOW)),
        (0, ack(old, SLOW)),
        (0, syn(new, EMPTY)),
        (0, arp([192, 0, 2, 1], NODE.octets(), false)),
        (0, arp([192, 0, 2, 1], NODE.octets(), true)),
        (0, arp([192, 0, 2, 1], [192, 0, 2, 99], false)),
        (0, echo(old.0, WEB.0)),
        (0, syn(old, (NODE.octets(), 179))),
        (0, syn(old, ([203, 0, 113, 77], 80))),
        (0, syn(WEB, WEB)),
        (0, vec![0; (round % 60) as usize]),
    ];
    if (round / 10).is_multiple_of(4) {
        frames.push((0, syn(old, WEB)));
    }
    if round.is_multiple_of(7) {
        frames.push((0, fin(old, WEB)));
        frames.push((0, rst(old, WEB)));
    }
    // A bad byte in a different place each time.
    let mut bad = ack(old, WEB);
    let place = 12 + (round as usize) % (bad.len() - 12);
    bad[place] ^= 1 << (round % 8);
    frames.push((0, bad));
    // Fits the link as it is, and not with another header.
    frames.push((0, finish(tcp(old, WEB, 1).ack(1), &[0; 1455])));
    frames
}

struct Bench {
    publisher: Publisher<Tables>,
    worker: Worker<PooledPort>,
    link: Arc<WorkerLink>,
    counters: Arc<WorkerCounters>,
    pool: BufferPool,
    now: u64,
    allocations: usize,
    frees: usize,
}

impl Bench {
    fn new() -> Self {
        let publisher = Publisher::new(world(0).tables(1));
        let pool = BufferPool::new(4096);
        let (link, counters) = (WorkerLink::new(), Arc::new(WorkerCounters::new()));
        let worker = Worker::new(WorkerOptions {
            ports: vec![PooledPort::new(&pool), PooledPort::new(&pool)],
            reader: publisher.reader(),
            conntrack: Table::new(FLOWS).unwrap(),
            hash_seed: [1, 2, 3, 4],
            number: 0,
            workers: 1,
            link: Arc::clone(&link),
            counters: Arc::clone(&counters),
        });
        Self { publisher, worker, link, counters, pool, now: 0, allocations: 0, frees: 0 }
    }

    /// One poll, its calls to the allocator counted; nothing else is.
    fn poll(&mut self) {
        let (allocations, frees) = CALLS.get();
        self.worker.poll(self.now);
        let after = CALLS.get();
        self.allocations += after.0 - allocations;
        self.frees += after.1 - frees;
    }

    fn round(&mut self, round: u32) {
        self.now += 2_000_000 + u64::from(round % 3) * 40_000_000;
        for (port, frame) in traffic(round) {
            self.worker.port_mut(port).unwrap().push(&frame);
        }
        let first = self.worker.port_mut(0).unwrap();
        first.transmit_limit = if round % 11 == 5 { 3 } else { usize::MAX };
        first.dry = round % 13 == 6;
        if round.is_multiple_of(5) {
            let frame = [0xff; 60].as_slice().try_into().unwrap();
            let _ = self.link.commands.push(Command::Transmit { port: 0, frame });
        }
        if round % 50 == 1 {
            let filter = FlowFilter { limit: u32::MAX, ..FlowFilter::default() };
            let _ = self.link.commands.push(Command::ShowFlows(filter));
        }
        if round.is_multiple_of(10) {
            self.publisher.publish(world(round / 10).tables(u64::from(round) + 2));
        }
        while self.worker.port_mut(0).unwrap().waiting() > 0 {
            self.poll();
        }
        self.poll();
        if round % 10 == 3 {
            self.publisher.reclaim();
        }
        if round % 500 == 489 {
            // Silence: the reaper takes what timed out.
            self.now += 400_000_000_000;
            for _ in 0..300 {
                self.now += 100_000_000;
                self.poll();
            }
        }
    }
}

#[test]
fn a_worker_neither_allocates_nor_frees_whatever_comes() {
    let mut bench = Bench::new();
    let mut shown = 0;
    let mut shows = 0;
    for round in 0..100 {
        bench.round(round);
    }
    (bench.allocations, bench.frees) = (0, 0);
    for round in 100..100 + BURSTS {
        bench.round(round);
        while let Some(record) = bench.link.flows.pop() {
            match record {
                FlowRecord::Flow(..) => shown += 1,
                FlowRecord::End => shows += 1,
            }
        }
        while bench.link.seen.pop().is_some() {}
    }
    assert_eq!((bench.allocations, bench.frees), (0, 0), "calls to the allocator");

    // All of it happened.
    let counters = &bench.counters;
    let at_least = |what: &str, value: u64, least: u64| {
        assert!(value >= least, "{what}: {value}, expected {least} or more");
    };
    let many = u64::from(BURSTS) / 2;
    at_least("forwarded", counters.forwarded.get(), many);
    at_least("replied", counters.replied.get(), many);
    at_least("held", counters.held.get(), 500);
    at_least("resets", counters.resets.get(), 100);
    at_least("hits", counters.conntrack.hits.get(), many);
    at_least("misses", counters.conntrack.misses.get(), many);
    at_least("inserts", counters.conntrack.inserts.get(), many);
    at_least("evictions", counters.conntrack.evictions.get(), 100);
    at_least("expired", counters.conntrack.expired.get(), 100);
    at_least("flows shown", shown, 1_000);
    at_least("shows", shows, 50);
    at_least("generations", counters.tables_generation.get(), many);
    for reason in [
        DropReason::FrameTooShort,
        DropReason::UnknownEthertype,
        DropReason::ForeignArp,
        DropReason::BadIpVersion,
        DropReason::BadIpLength,
        DropReason::BadIpChecksum,
        DropReason::Land,
        DropReason::NoVip,
        DropReason::NoExceptionPath,
        DropReason::NoBackend,
        DropReason::TooBig,
        DropReason::NeighbourQueueFull,
        DropReason::NeighbourUnresolved,
        DropReason::TransmitFull,
        DropReason::NoBuffer,
    ] {
        at_least(reason.name(), counters.drops(reason), 1);
    }
    // And no buffer was lost on the way.
    assert_eq!(bench.pool.free() + bench.worker.held(), 4096);
}

#[test]
fn the_counting_allocator_counts() {
    let before = CALLS.get();
    drop(std::hint::black_box(Box::new(7)));
    assert_eq!(CALLS.get(), (before.0 + 1, before.1 + 1));
}
