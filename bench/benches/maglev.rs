//! Maglev: how long a table takes to build, and what a packet pays for its choice.
//!
//! Weights of a build are equal (`equal`), or all different (`distinct`), which is the worst case
//! for the order of turns. Picks go through hashes that no cache or predictor has seen lately.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use maglev::{FlowHasher, Maglev, Member, Ring, Selector};

const SECRET: [u8; 16] = *b"bench pool key 0";

/// Most keys hashed together.
const BURST: usize = 64;

/// Hashes picked in one iteration.
const PICKS: usize = 4096;

fn ids(count: u32) -> Vec<String> {
    (0..count).map(|i| format!("host-{i}")).collect()
}

fn members(ids: &[String], weight: fn(u32) -> u32) -> Vec<Member<'_>> {
    let member = |(index, id): (u32, _)| Member { id, index, weight: weight(index) };
    (0..).zip(ids.iter().map(String::as_str)).map(member).collect()
}

fn build(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("maglev build");
    group.sample_size(20);
    for (count, size) in [(10, 65_537), (100, 65_537), (750, 65_537), (10_000, 655_373)] {
        let ids = ids(count);
        for (name, pool) in
            [("equal", members(&ids, |_| 100)), ("distinct", members(&ids, |index| 1000 + index))]
        {
            group.bench_function(format!("{name}/{count} of {size}"), |bencher| {
                bencher.iter(|| Maglev::build(black_box(&pool), size, SECRET));
            });
        }
    }
    let ids = ids(750);
    let pool = members(&ids, |_| 100);
    group.bench_function("ring/750", |bencher| {
        bencher.iter(|| Ring::build(black_box(&pool), SECRET));
    });
    group.finish();
}

fn flow_hash(criterion: &mut Criterion) {
    let hasher = FlowHasher::new(SECRET);
    let mut group = criterion.benchmark_group("flow hash");
    let (v4, v6) = ([7; FlowHasher::V4_KEY], [7; FlowHasher::V6_KEY]);
    group.bench_function("v4", |bencher| bencher.iter(|| hasher.hash_v4(black_box(&v4))));
    group.bench_function("v6", |bencher| bencher.iter(|| hasher.hash_v6(black_box(&v6))));
    group.bench_function("13 bytes, any length", |bencher| {
        bencher.iter(|| hasher.hash(black_box(&v4[..])));
    });
    group.bench_function("37 bytes, any length", |bencher| {
        bencher.iter(|| hasher.hash(black_box(&v6[..])));
    });
    // Per key, in bursts: what new flows pay.
    let (v4, v6) = ([v4; BURST], [v6; BURST]);
    for count in [1, 4, 8, 16, BURST] {
        group.throughput(Throughput::Elements(count as u64));
        let mut hashes = [0; BURST];
        group.bench_function(format!("v4, {count} at a time"), |bencher| {
            bencher.iter(|| {
                hasher.hash_v4_many(black_box(&v4[..count]), &mut hashes);
                black_box(&mut hashes);
            });
        });
        group.bench_function(format!("v6, {count} at a time"), |bencher| {
            bencher.iter(|| {
                hasher.hash_v6_many(black_box(&v6[..count]), &mut hashes);
                black_box(&mut hashes);
            });
        });
    }
    group.finish();
}

fn pick(criterion: &mut Criterion) {
    let hasher = FlowHasher::new(SECRET);
    let hashes: Vec<u64> = (0..PICKS).map(|i| hasher.hash(&i.to_le_bytes())).collect();
    let ids = ids(750);
    let pool = members(&ids, |_| 100);
    let mut group = criterion.benchmark_group("pick");
    group.throughput(Throughput::Elements(PICKS as u64));
    let table = Maglev::build(&pool, 65_537, SECRET).map(Selector::Maglev);
    let ring = Ring::build(&pool, SECRET).map(Selector::Ring);
    for (name, selector) in [("maglev", table), ("ring", ring)] {
        let selector = selector.expect("the pool is valid");
        group.bench_function(format!("{name}/750"), |bencher| {
            bencher.iter(|| {
                let picks = black_box(&hashes).iter().filter_map(|&hash| selector.pick(hash));
                picks.fold(0, u32::wrapping_add)
            });
        });
    }
    group.finish();
}

criterion_group!(benches, build, flow_hash, pick);
criterion_main!(benches);
