//! SPEC section 5: workers never allocate and never free per packet.
//!
//! A worker over ports whose buffers are recycled gets every kind of traffic there is, tables
//! are published under it, flows are dumped, and every call to the allocator on its thread
//! while it polls is counted. The count must be 0, and the counters must show that all of it
//! happened.

#![cfg(not(crossbeam_loom))]

mod common;
#[path = "no_allocation/traffic.rs"]
mod traffic;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

use common::packets::datagram;
use common::pooled::{BufferPool, PooledPort};
use conntrack::Table;
use dataplane::counters::WorkerCounters;
use dataplane::handoff;
use dataplane::link::{Command, FlowFilter, FlowRecord, WorkerLink};
use dataplane::port::{Burst, Port};
use dataplane::publish::Publisher;
use dataplane::tables::Tables;
use dataplane::verdict::DropReason;
use dataplane::worker::{Worker, WorkerOptions};
use traffic::{tables, traffic};

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
        let publisher = Publisher::new(tables(0, 1));
        let pool = BufferPool::new(4096);
        let (link, counters) = (WorkerLink::new(), Arc::new(WorkerCounters::new()));
        let mut worker = Worker::new(WorkerOptions {
            ports: vec![PooledPort::new(&pool), PooledPort::new(&pool)],
            reader: publisher.reader(),
            conntrack: Table::new(FLOWS).unwrap(),
            hash_seed: [1, 2, 3, 4],
            number: 0,
            workers: 1,
            link: Arc::clone(&link),
            counters: Arc::clone(&counters),
        });
        worker.set_exceptions(vec![Some(PooledPort::new(&pool)), None]);
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
        self.worker.exception_mut(0).unwrap().push(&traffic::from_kernel());
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
            self.publisher.publish(tables(round / 10, u64::from(round) + 2));
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
    at_least("to the kernel", counters.exception.to_kernel.get(), many);
    at_least("from the kernel", counters.exception.from_kernel.get(), many);
    for (index, name) in traffic::VIP_NAMES.iter().enumerate() {
        let traffic = counters.vip(index as u32).unwrap();
        // The third has a backend that is there at times, the fourth none.
        at_least(name, traffic.packets.get(), if index == 3 { 0 } else { many / 4 });
    }
    at_least("fragments", counters.fragments.received.get(), 10 * many);
    at_least("waiting fragments", counters.fragments.waited.get(), many);
    let icmp = &counters.icmp;
    at_least("errors delivered", icmp.delivered.get(), many);
    at_least("too big", icmp.too_big.get(), many);
    at_least("time exceeded", icmp.time_exceeded.get(), many);
    at_least("port unreachable", icmp.port_unreachable.get(), many);
    at_least("fragmented", icmp.fragmented.get(), many);
    at_least("clamped", icmp.clamped.get(), many / 2);
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
        DropReason::BadNdp,
        DropReason::TinyFragment,
        DropReason::FragmentOverlap,
        DropReason::FragmentTimeout,
        DropReason::ExtensionHeaderLimit,
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

/// The parts of a datagram to the VIP by source, the last first: `number` says how many, whether
/// the first is among them, and whether two overlap.
fn fragments(number: u32) -> Vec<Vec<u8>> {
    let client = ([198, 51, 100, number as u8], 40_000);
    let whole = datagram(client, ([203, 0, 113, 8], 53), &[0x5a; 792]);
    let parts = 2 + number as usize % 7;
    let step = (800 / parts).next_multiple_of(8);
    let first = usize::from(number.is_multiple_of(5));
    let part = |n: usize| {
        let (from, to) = (n * step, ((n + 1) * step).min(800));
        let from = if number.is_multiple_of(7) && n == 1 { from - 8 } else { from };
        let mut frame = whole[..34].to_vec();
        frame[16..18].copy_from_slice(&(20 + (to - from) as u16).to_be_bytes());
        frame[18..20].copy_from_slice(&(number as u16).to_be_bytes());
        let flags = u16::from(to < 800) << 13 | (from / 8) as u16;
        frame[20..22].copy_from_slice(&flags.to_be_bytes());
        frame[24..26].fill(0);
        let sum = dataplane::wire::checksum::checksum(&frame[14..34]);
        frame[24..26].copy_from_slice(&sum.to_be_bytes());
        frame.extend_from_slice(&whole[34 + from..34 + to]);
        frame
    };
    (first..parts).filter(|n| n * step < 800).rev().map(part).collect()
}

#[test]
fn workers_hand_fragments_over_without_allocating_and_buffers_go_home() {
    let mut publisher = Publisher::new(tables(0, 1));
    let pools = [BufferPool::new(1024), BufferPool::new(1024)];
    let counters = [Arc::new(WorkerCounters::new()), Arc::new(WorkerCounters::new())];
    let mut workers: Vec<Worker<PooledPort>> = (0u16..)
        .zip(handoff::connect(2))
        .zip(pools.iter().zip(&counters))
        .map(|((number, ends), (pool, counters))| {
            Worker::new(WorkerOptions {
                ports: vec![PooledPort::new(pool), PooledPort::new(pool)],
                reader: publisher.reader(),
                conntrack: Table::new(FLOWS).unwrap(),
                hash_seed: [0x243f_6a88_85a3_08d3, 0x1319_8a2e_0370_7344, 0xa409_3822, 0x082e_fa98],
                number,
                workers: 2,
                link: WorkerLink::new(),
                counters: Arc::clone(counters),
            })
            .join(ends, Arc::new([]))
        })
        .collect();
    let mut now = 0;
    let mut calls = (0, 0);
    for number in 0..3_000 {
        now += 3_000_000;
        for (n, frame) in fragments(number).iter().enumerate() {
            workers[(number as usize + n) % 2].port_mut(0).unwrap().push(frame);
        }
        if number == 200 {
            publisher.publish(tables(1, 2));
        }
        // The second worker sleeps for a while: the ring to it fills.
        for (at, worker) in workers.iter_mut().enumerate() {
            if at == 1 && (1_200..2_200).contains(&number) {
                while worker.port_mut(0).unwrap().waiting() > 0 {
                    worker.port_mut(0).unwrap().receive(&mut Burst::new());
                }
                continue;
            }
            let before = CALLS.get();
            worker.poll(now);
            let after = CALLS.get();
            if number >= 100 {
                calls = (calls.0 + after.0 - before.0, calls.1 + after.1 - before.1);
            }
        }
        publisher.reclaim();
    }
    for _ in 0..400 {
        now += 100_000_000;
        for worker in &mut workers {
            worker.poll(now);
        }
    }
    assert_eq!(calls, (0, 0), "calls to the allocator");
    for (worker, (pool, counters)) in pools.iter().zip(&counters).enumerate() {
        assert_eq!(pool.free(), 1024, "all buffers of worker {worker} are back");
        for (what, count) in [
            ("given", &counters.handoffs.given),
            ("taken", &counters.handoffs.taken),
            ("waited", &counters.fragments.waited),
            ("forwarded", &counters.forwarded),
        ] {
            assert!(count.get() > 500, "{what} by worker {worker}: {}", count.get());
        }
        for reason in [DropReason::FragmentTimeout, DropReason::FragmentOverlap] {
            assert!(counters.drops(reason) > 0, "{} at worker {worker}", reason.name());
        }
    }
    assert!(counters[0].drops(DropReason::HandoffFull) > 0, "a ring was full");
}

#[test]
fn the_counting_allocator_counts() {
    let before = CALLS.get();
    drop(std::hint::black_box(Box::new(7)));
    assert_eq!(CALLS.get(), (before.0 + 1, before.1 + 1));
}
