//! The stages of the path alone, over bursts of 64 frames in memory.
//!
//! Figures are per packet (`thrpt` counts packets) of the benchmark's 4,096 flows with its 1,000
//! VIPs and 100 backends, and a conntrack table that they fit. What the sum lacks of the whole
//! path is the driver, the buffers and, above all, the waiting for memory that the stages share:
//! for that there is `bench/side-by-side.sh`.

#![forbid(unsafe_code)]

use std::hint::black_box;
use std::path::Path;
use std::time::Duration;

use bench::flows;
use bench::flows::Ip;
use bench::frame::{self, Kind};
use bench::scenario::{self, Case};
use conntrack::{KeyHasher, Probe, Table};
use control::node::{Node, PortFacts};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use dataplane::buffer::Buffer;
use dataplane::classify::{Class, classify};
use dataplane::counters::WorkerCounters;
use dataplane::forward::{self, OuterHeaders};
use dataplane::parse::{Parsed, parse};
use dataplane::port::BURST;
use dataplane::select::{Selection, Selector, Tally};
use dataplane::tables::Tables;
use dataplane::wire::{MacAddress, checksum};

const FLOWS: u32 = 4096;
const TABLE: usize = 65_536;
const HEADROOM: usize = 128;
const ROOM: usize = 256;

/// A frame in place, cheap to copy: what an mbuf is without its pool.
#[derive(Clone)]
struct InPlace {
    bytes: [u8; ROOM],
    start: usize,
    end: usize,
}

impl InPlace {
    fn new(frame: &[u8]) -> Self {
        let mut bytes = [0; ROOM];
        let end = HEADROOM + frame.len();
        bytes[HEADROOM..end].copy_from_slice(frame);
        Self { bytes, start: HEADROOM, end }
    }
}

impl Buffer for InPlace {
    #[inline(always)]
    fn data(&self) -> &[u8] {
        self.bytes.get(self.start..self.end).unwrap_or_default()
    }

    #[inline(always)]
    fn data_mut(&mut self) -> &mut [u8] {
        self.bytes.get_mut(self.start..self.end).unwrap_or_default()
    }

    #[inline(always)]
    fn replace_front(&mut self, before: usize, after: usize) -> bool {
        match (self.start + before).checked_sub(after) {
            Some(start) if self.start + before <= self.end => self.start = start,
            _ => return false,
        }
        true
    }

    #[inline(always)]
    fn truncate(&mut self, length: usize) {
        self.end = self.end.min(self.start + length);
    }

    fn append(&mut self, _bytes: &[u8]) -> bool {
        false
    }
}

/// Hash, probe and select, as the worker does for a burst; returns the last choice.
fn select_burst(
    parsed: &[Parsed],
    hasher: &KeyHasher,
    tables: &Tables,
    conntrack: &mut Table,
    counters: &WorkerCounters,
    tally: &mut Tally,
) -> Selection {
    let mut hashes = [0; BURST];
    let mut probes = [Probe::NONE; BURST];
    for (hash, parsed) in hashes.iter_mut().zip(parsed) {
        *hash = hasher.hash(&parsed.key);
        conntrack.approach(*hash);
    }
    for (probe, hash) in probes.iter_mut().zip(hashes) {
        *probe = conntrack.probe(hash);
        conntrack.prefetch_entry(*probe);
    }
    let mut selector = Selector { tables, conntrack, counters, now_ms: 1000 };
    let mut last = Selection::Backend(0);
    for ((parsed, hash), probe) in parsed.iter().zip(hashes).zip(probes) {
        if let Class::Vip(vip) = classify(parsed, tables) {
            last = selector.select(parsed, vip, hash, probe, || None, tally);
        }
    }
    last
}

fn path(criterion: &mut Criterion) {
    let case = Case::named("hit_4k").expect("a case of the scenario");
    let text = scenario::configuration(Path::new("/nonexistent"), case);
    let config = config::Config::parse(&text, "bench").expect("a valid scenario").config;
    let facts = PortFacts { mac: MacAddress(scenario::NODE_MAC), any_mac: false };
    let mut node = Node::new(config, &[facts], 0).expect("a scenario that can be built");
    let mut reader = node.add_worker().reader;
    let tables = reader.pin();
    let port = tables.ports.first().expect("the scenario has a port");
    let counters = WorkerCounters::new();
    let hasher = KeyHasher::new([1, 2, 3, 4]);
    let mut conntrack = Table::new(TABLE).expect("memory for a small table");

    let packets: Vec<InPlace> = flows::shuffled(FLOWS)
        .into_iter()
        .map(|number| {
            let (to, from) = (scenario::NODE_MAC, scenario::ROUTER_MAC);
            let flow = flows::flow(Ip::V4, number);
            InPlace::new(&frame::frame(&flow, number, Kind::Ack, to, from))
        })
        .collect();
    let parsed: Vec<Parsed> = packets.iter().map(|packet| parse(packet, port)).collect();
    let mut bursts = packets.chunks_exact(BURST).zip(parsed.chunks_exact(BURST)).cycle();

    let mut group = criterion.benchmark_group("path");
    group.throughput(Throughput::Elements(BURST as u64));
    group.bench_function("parse", |bencher| {
        bencher.iter(|| {
            let Some((packets, _)) = bursts.next() else { return };
            for packet in packets {
                black_box(parse(black_box(packet), port));
            }
        });
    });
    group.bench_function("classify", |bencher| {
        bencher.iter(|| {
            let Some((_, parsed)) = bursts.next() else { return };
            for parsed in parsed {
                black_box(classify(black_box(parsed), tables));
            }
        });
    });
    let mut tally = Tally::default();
    for burst in parsed.chunks_exact(BURST) {
        select_burst(burst, &hasher, tables, &mut conntrack, &counters, &mut tally);
    }
    assert_eq!(tally.inserts, u64::from(FLOWS), "every flow has an entry now");
    group.bench_function("classify_and_select_hit", |bencher| {
        bencher.iter(|| {
            let Some((_, parsed)) = bursts.next() else { return };
            let parsed = black_box(parsed);
            black_box(select_burst(parsed, &hasher, tables, &mut conntrack, &counters, &mut tally));
        });
    });
    assert_eq!(tally.misses, u64::from(FLOWS), "only the first packets missed");
    let mut outer = OuterHeaders::new(0, 1);
    group.bench_function("rewrite", |bencher| {
        bencher.iter_batched_ref(
            || bursts.next().map(|(packets, parsed)| (packets.to_vec(), parsed)),
            |burst| {
                let Some((packets, parsed)) = burst else { return };
                for (packet, parsed) in packets.iter_mut().zip(*parsed) {
                    let index = usize::from(parsed.key.source_port() % 64);
                    let Some(backend) = tables.backends.get(index) else { return };
                    let sent = forward::rewrite(packet, parsed, backend, 7, &mut outer);
                    assert!(sent.is_ok());
                }
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

/// What checksums cost: of the outer IPv4 header, of which all but five words were added up when
/// the tables were built; of a header that came; and of a whole packet in GUE over IPv6.
fn checksums(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("checksum");
    let base = black_box(0x1_2345u32);
    group.bench_function("outer IPv4 header, from its base", |bencher| {
        let mut identification = 0u32;
        bencher.iter(|| {
            identification = identification.wrapping_add(1) & 0xffff;
            let sum = base + black_box(identification) + black_box(60);
            let sum = (sum & 0xffff) + (sum >> 16);
            !((sum & 0xffff) + (sum >> 16)) as u16
        });
    });
    let packet = vec![0x5a; 1500];
    for (name, length) in [("IPv4 header in full", 20), ("100 bytes", 100), ("1500 bytes", 1500)] {
        let bytes = packet.get(..length).unwrap_or_default();
        group.bench_function(name, |bencher| bencher.iter(|| checksum::checksum(black_box(bytes))));
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2));
    targets = path, checksums
}
criterion_main!(benches);
