//! The flow table as a worker drives it: bursts of 64 packets through the three stages.
//!
//! All figures are per packet (`thrpt` counts packets), for a table of 2 M flows on memory
//! that asks for hugepages, as in the appliance's default configuration. Keys are made
//! before the clock starts; hashing them is part of what is measured. `hit_full_...` are full
//! tables (nine slots of ten) of each size: what grows with it is what memory costs, not the
//! search. They need 2 GiB. `reap` is per slot visited.

use std::hint::black_box;
use std::net::Ipv4Addr;
use std::time::Duration;

use conntrack::{
    Entry, FlowKey, Inserted, KeyHasher, Lookup, Memory, Packet, Pin, Probe, Segment, Table,
    Timeouts,
};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const BURST: usize = 64;
const FLOWS: usize = 2_000_000;
const PIN: Pin = Pin { backend: 1, generation: 1, vip: 1 };
const ACK: Packet = Packet { segment: Segment::Ack, length: 60 };
/// Milliseconds; no timeout is shorter.
const SHORTEST_IDLE: u32 = 30_000;
const SYN: Packet = Packet { segment: Segment::Syn, length: 60 };

/// A table in memory aligned for, and advised to use, 2 MiB pages; never given back.
fn table(flows: usize) -> Table {
    const HUGE: usize = 2 << 20;
    let layout = Table::memory_layout(flows).expect("a size the bench chose");
    let layout = layout.align_to(HUGE).expect("a power of two").pad_to_align();
    // SAFETY: the layout is not of size 0.
    let start = unsafe { std::alloc::alloc(layout) };
    assert!(!start.is_null(), "no memory for {flows} flows");
    // SAFETY: the range is ours, and advice changes no content.
    unsafe { libc::madvise(start.cast(), layout.size(), libc::MADV_HUGEPAGE) };
    // SAFETY: the range is ours.
    unsafe { start.write_bytes(0, layout.size()) };
    // SAFETY: initialised above, referred to by nothing else, never freed.
    let region = unsafe { std::slice::from_raw_parts_mut(start, layout.size()) };
    Table::in_memory(Memory::from_region(flows, region).expect("the layout it asked for"))
}

/// Distinct flows, in an order without locality.
fn keys(first: u32, count: usize) -> Vec<FlowKey> {
    let count = count.next_multiple_of(BURST) as u32;
    (first..first + count)
        .map(|number| {
            let mixed = number.wrapping_mul(0x9e37_79b1);
            let port = (number >> 8) as u16;
            FlowKey::v4(Ipv4Addr::from_bits(mixed), Ipv4Addr::new(203, 0, 113, 1), port, 80, 6)
        })
        .collect()
}

/// Takes one burst through the table. Returns hits, inserts and refusals.
#[inline]
fn burst(
    table: &mut Table,
    hasher: &KeyHasher,
    keys: &[FlowKey],
    packet: Packet,
    now: u32,
    store: bool,
) -> [usize; 3] {
    let timeouts = Timeouts::default();
    let mut hashes = [0; BURST];
    let mut probes = [Probe::NONE; BURST];
    let mut counts = [0; 3];
    for (hash, key) in hashes.iter_mut().zip(keys) {
        *hash = hasher.hash(key);
        table.approach(*hash);
    }
    for (probe, &hash) in probes.iter_mut().zip(&hashes) {
        *probe = table.probe(hash);
        if *probe != Probe::NONE {
            table.prefetch_entry(*probe);
        } else if store {
            table.prefetch_insert(hash);
        }
    }
    if store && table.is_full() {
        for (&probe, &hash) in probes.iter().zip(&hashes) {
            if probe == Probe::NONE {
                table.prefetch_room(hash, now);
            }
        }
    }
    for ((key, &hash), &probe) in keys.iter().zip(&hashes).zip(&probes) {
        if let Some(steady) = table.steady(probe, key, packet, now, SHORTEST_IDLE) {
            black_box(steady.pin());
            steady.count(packet, now);
            counts[0] += 1;
            continue;
        }
        match table.lookup(probe, hash, key, packet, now, &timeouts) {
            Lookup::Found(hit) => {
                black_box(hit.backend());
                counts[0] += 1;
            }
            Lookup::Missing if store => {
                let limit = |entry: &Entry| timeouts.of(entry.state());
                match table.insert(hash, key, PIN, packet, now, limit) {
                    Inserted::Refused => counts[2] += 1,
                    _ => counts[1] += 1,
                }
            }
            _ => {}
        }
    }
    counts
}

/// Runs `bursts` bursts through `keys`, going round.
fn rounds(
    table: &mut Table,
    hasher: &KeyHasher,
    keys: &[FlowKey],
    at: &mut usize,
    packet: Packet,
    store: bool,
) -> [usize; 3] {
    let chunk = &keys[*at..*at + BURST];
    *at = if *at + 2 * BURST <= keys.len() { *at + BURST } else { 0 };
    burst(table, hasher, black_box(chunk), packet, 1000, store)
}

fn conntrack(criterion: &mut Criterion) {
    let hasher = KeyHasher::new([0x0123, 0x4567_89ab, 0xcdef << 40, 0xfeed_face_cafe_f00d]);
    let mut group = criterion.benchmark_group("conntrack");
    group.throughput(Throughput::Elements(BURST as u64));

    for (name, flows, live, held) in [
        ("hit_4k_of_64k", 1 << 16, 4096, 4096),
        ("hit_4k", FLOWS, 4096, 4096),
        ("hit_1m", FLOWS, 1 << 20, 1 << 20),
        ("hit_2m_full", FLOWS, FLOWS, FLOWS),
    ] {
        let mut table = table(flows);
        let all = keys(0, held);
        for chunk in all.chunks(BURST) {
            burst(&mut table, &hasher, chunk, ACK, 1000, true);
        }
        let (keys, mut at) = (&all[..live], 0);
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let [hits, ..] = rounds(&mut table, &hasher, keys, &mut at, ACK, false);
                debug_assert_eq!(hits, BURST);
            });
        });
    }

    for (name, flows) in [
        ("hit_full_4k", 1 << 12),
        ("hit_full_64k", 1 << 16),
        ("hit_full_1m", 1 << 20),
        ("hit_full_4m", 1 << 22),
        ("hit_full_16m", 1 << 24),
    ] {
        let mut table = table(flows);
        let all = keys(0, flows);
        // Once to store them, once more to confirm them.
        for chunk in all.chunks(BURST).chain(all.chunks(BURST)) {
            burst(&mut table, &hasher, chunk, ACK, 1000, true);
        }
        assert_eq!(table.len(), flows);
        let mut at = 0;
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let [hits, ..] = rounds(&mut table, &hasher, &all, &mut at, ACK, false);
                debug_assert_eq!(hits, BURST);
            });
        });
        if flows == 1 << 22 {
            group.bench_function("reap", |bencher| {
                let limit = |entry: &Entry| Timeouts::default().of(entry.state());
                bencher.iter(|| table.reap(1000, BURST, limit, |_| {}));
            });
        }
    }

    for (name, held) in [("miss_1m_held", 1 << 20), ("miss_2m_held", FLOWS)] {
        let mut table = table(FLOWS);
        for chunk in keys(0, held).chunks(BURST) {
            burst(&mut table, &hasher, chunk, ACK, 1000, true);
        }
        let (strangers, mut at) = (keys(1 << 30, 1 << 20), 0);
        group.bench_function(name, |bencher| {
            bencher.iter(|| rounds(&mut table, &hasher, &strangers, &mut at, ACK, false));
        });
    }

    // From empty to half full and again: the emptying is not measured.
    let fresh = keys(0, 1 << 20);
    let mut inserting = table(FLOWS);
    group.bench_function("insert_to_1m", |bencher| {
        bencher.iter_custom(|bursts| {
            let mut elapsed = Duration::ZERO;
            let mut left = bursts as usize;
            while left > 0 {
                let span = inserting.span();
                inserting.reap(0, span, |_| 0, |_| {});
                let now = left.min(fresh.len() / BURST);
                let start = std::time::Instant::now();
                for chunk in fresh.chunks_exact(BURST).take(now) {
                    burst(&mut inserting, &hasher, chunk, SYN, 1000, true);
                }
                elapsed += start.elapsed();
                left -= now;
            }
            elapsed
        });
    });

    // Every insertion finds the table full of unconfirmed flows and takes one's place.
    for (name, flows) in [("evict_256k", 1 << 18), ("evict_2m", FLOWS)] {
        let mut table = table(flows);
        let flood = keys(0, 1 << 22);
        let mut at = 0;
        while table.len() < table.capacity() {
            rounds(&mut table, &hasher, &flood, &mut at, SYN, true);
        }
        group.bench_function(name, |bencher| {
            bencher.iter(|| rounds(&mut table, &hasher, &flood, &mut at, SYN, true));
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2));
    targets = conntrack
}
criterion_main!(benches);
