//! What workers write for each packet, by address: no two of them share a cache line.
//!
//! The list is all that is mutable and met by a packet of a flow that goes on, and the ends of the
//! rings for those that change their worker. Not in it, and why:
//!
//! - buffers of packets: each worker has a pool of its own, and DPDK aligns them;
//! - the rings themselves, and the queues to and from the control thread: they are meant to be shared,
//!   and their crates keep both ends on lines of their own;
//! - the word of a pinned epoch: a reader that stays pinned writes none, and crossbeam keeps it on a
//!   line of its own;
//! - what only rare packets write: the queue for next hops, fragments, limits of answers.

use std::ops::Range;
use std::sync::Arc;

use conntrack::{Memory, Table};

use super::{Worker, WorkerOptions};
use crate::counters::WorkerCounters;
use crate::fragment::FragmentOptions;
use crate::handoff;
use crate::lines::LINE;
use crate::link::WorkerLink;
use crate::port::memory::MemoryPort;
use crate::publish::Publisher;
use crate::tables::{IcmpOptions, Oversize, Tables};
use crate::vip::VipLookup;

type Place = (&'static str, Range<usize>);

fn place<T>(values: &[T]) -> Range<usize> {
    let range = values.as_ptr_range();
    range.start as usize..range.end as usize
}

/// All that a worker writes for each packet.
fn written(worker: &Worker<MemoryPort>, flows: Range<usize>) -> Vec<Place> {
    let core = &worker.core;
    let [inbound, outbound, bell] = core.handoff.places();
    let counters = std::slice::from_ref(&*core.counters);
    let mut places = vec![
        // With the burst that came in, what is known of each packet, the hasher, the reaper, the
        // outer headers' identifications, the limits.
        ("the worker", place(std::slice::from_ref(worker))),
        ("bursts to transmit", place(&core.transmit)),
        ("ports", place(&core.ports)),
        ("flows", flows),
        ("counters", place(counters)),
        ("ends of rings to it", inbound),
        ("ends of rings from it", outbound),
        ("bell", bell),
    ];
    places.extend(core.counters.arrays());
    places
}

fn tables() -> Tables {
    Tables {
        generation: 1,
        lookup: Arc::new(VipLookup::new([])),
        vips: Arc::new([]),
        pools: Arc::new([]),
        backends: Box::new([]),
        ports: Arc::new([]),
        steered: false,
        shortest_idle_ms: 60_000,
        clamps: false,
        oversize: Oversize::default(),
        icmp: IcmpOptions::default(),
        fragments: FragmentOptions::default(),
    }
}

/// Memory for flows at a line, as `weir run` asks DPDK for it.
fn flow_memory(flows: usize) -> (Table, Range<usize>) {
    let bytes = Memory::layout(flows).unwrap().size();
    let region = vec![0u8; bytes + 2 * LINE].leak();
    let skipped = region.as_ptr().align_offset(LINE);
    let region = &mut region[skipped..skipped + bytes.next_multiple_of(LINE)];
    let range = place(region);
    (Table::in_memory(Memory::from_region(flows, region).unwrap()), range)
}

#[test]
fn no_cache_line_is_written_by_two_workers() {
    const WORKERS: u16 = 4;
    let publisher = Publisher::new(tables());
    let workers: Vec<(Worker<MemoryPort>, Range<usize>)> = (0..WORKERS)
        .zip(handoff::connect(WORKERS.into()))
        .map(|(number, ends)| {
            let (conntrack, flows) = flow_memory(100);
            let options = WorkerOptions {
                ports: vec![MemoryPort::new(), MemoryPort::new(), MemoryPort::new()],
                reader: publisher.reader(),
                conntrack,
                hash_seed: [1, 2, 3, 4],
                number,
                workers: WORKERS,
                link: WorkerLink::new(),
                counters: Arc::new(WorkerCounters::new()),
            };
            (Worker::new(options).join(ends, Arc::new([])), flows)
        })
        .collect();
    let mut all: Vec<(usize, Place)> = Vec::new();
    for (number, (worker, flows)) in workers.iter().enumerate() {
        all.extend(written(worker, flows.clone()).into_iter().map(|place| (number, place)));
    }
    // Read by all in each round, written by the control thread at a change.
    all.push((WORKERS.into(), ("the published pointer", publisher.pointer())));
    for (number, (what, range)) in &all {
        assert_eq!(range.start % LINE, 0, "{what} of worker {number} begins within a line");
        assert!(!range.is_empty(), "{what} of worker {number}");
    }
    all.sort_by_key(|(_, (_, range))| range.start);
    for pair in all.windows(2) {
        let [(one, (what, before)), (other, (thing, after))] = pair else { continue };
        assert!(
            before.end.next_multiple_of(LINE) <= after.start,
            "{what} of worker {one} ends in the line in which {thing} of worker {other} begins: \
             {before:#x?}, {after:#x?}"
        );
    }
}
