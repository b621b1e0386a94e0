//! The fuzz target's body over its committed corpus, and over mutations of it: what the fuzzer
//! checks is checked by every plain test run, too.
//!
//! The corpus (`dataplane/fuzz/corpus/pipeline`) has one seed for each golden case of
//! `tests/golden`, and what fuzzing found worth keeping. `WEIR_BLESS=1` writes the seeds anew.

#![cfg(not(crossbeam_loom))]

mod common;

use std::cell::RefCell;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use common::packets::{ack, fin, rst, syn, udp};
use common::pipeline::{Done, Pipeline, record};
use pcap_file::pcap::PcapReader;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

/// Mutated inputs of one run.
const MUTATIONS: u32 = 20_000;

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/pipeline")
}

/// All files of the corpus, by name.
fn inputs() -> Vec<(String, Vec<u8>)> {
    let mut inputs: Vec<(String, Vec<u8>)> = fs::read_dir(corpus())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.display().to_string(), fs::read(path).unwrap()))
        .collect();
    inputs.sort();
    inputs
}

/// The seed of a golden case: its packets with the steps between them, at port 0.
fn seed(folder: &Path) -> Vec<u8> {
    let mut reader = PcapReader::new(File::open(folder.join("sent.pcap")).unwrap()).unwrap();
    let mut seed = Vec::new();
    let mut before = None;
    let mut number = 0u32;
    while let Some(packet) = reader.next_packet() {
        let packet = packet.unwrap();
        let now = packet.timestamp.as_millis() as u64;
        let elapsed = now - before.replace(now).unwrap_or(now);
        // Reloads are not in captures: every fifth packet brings another version of the tables.
        let version = (number % 5 == 4).then_some((number / 5) as u8);
        number += 1;
        let step = elapsed.isqrt().min(255) as u8;
        seed.extend(record(0, false, version, step, &packet.data));
    }
    seed
}

#[test]
fn every_golden_case_has_its_seed() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden");
    for entry in fs::read_dir(golden).unwrap() {
        let folder = entry.unwrap().path();
        let place = corpus().join(folder.file_name().unwrap());
        let seed = seed(&folder);
        if std::env::var_os("WEIR_BLESS").is_some() {
            fs::write(&place, &seed).unwrap();
        }
        assert!(fs::read(&place).is_ok_and(|there| there == seed), "{}", place.display());
    }
}

#[test]
fn every_committed_input_keeps_the_promises() {
    let pipeline = Pipeline::new();
    let mut all = Done::default();
    for (name, input) in inputs() {
        println!("{name}");
        let done = pipeline.run(&input);
        assert_eq!(done, pipeline.run(&input), "the same at every run");
        all.forwarded += done.forwarded;
        all.replied += done.replied;
        all.dropped += done.dropped;
    }
    assert!(all.forwarded > 100 && all.replied > 10 && all.dropped > 50, "{all:?}");
}

#[test]
fn mutated_inputs_keep_the_promises() {
    let inputs = inputs();
    let pipeline = Pipeline::new();
    let seeds: Vec<Vec<u8>> = inputs.into_iter().map(|(_, input)| input).collect();
    let places = any::<prop::sample::Index>();
    let change = (places, any::<u8>(), 0..6u8);
    let strategy = (
        prop::sample::select(seeds.clone()),
        prop::sample::select(seeds),
        prop::collection::vec(change, 1..12),
    );
    let config = Config { cases: MUTATIONS, failure_persistence: None, ..Config::default() };
    let random = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(config, random);
    let result = runner.run(&strategy, |(mut input, other, changes)| {
        for (place, value, kind) in changes {
            mutate(&mut input, &other, place, value, kind);
        }
        pipeline.run(&input);
        Ok(())
    });
    result.unwrap();
}

fn mutate(input: &mut Vec<u8>, other: &[u8], place: prop::sample::Index, value: u8, kind: u8) {
    if input.is_empty() {
        return;
    }
    let at = place.index(input.len());
    match kind {
        0 => input[at] = value,
        1 => input[at] ^= 1 << (value % 8),
        2 => input.truncate(at),
        3 => drop(input.remove(at)),
        4 => input.insert(at, value),
        // Repairs the first frame's checksums, and goes on with a piece of another input.
        _ => {
            input[0] |= 0x02;
            input.extend(&other[..at.min(other.len())]);
        }
    }
}

#[test]
fn sequences_of_sound_packets_keep_the_promises() {
    let pipeline = Pipeline::new();
    let frame = (0..5u8, 0..12u16, 0..5u8).prop_map(|(kind, port, vip)| {
        let source = ([198, 51, 100, 1 + (port % 3) as u8], 1000 + port);
        let destination = match vip {
            4 => ([192, 0, 2, 100], 80),
            vip => ([203, 0, 113, 1 + vip], 80),
        };
        match kind {
            0 => syn(source, destination),
            1 => ack(source, destination),
            2 => fin(source, destination),
            3 => rst(source, destination),
            _ => udp(source, destination),
        }
    });
    let version = prop::option::weighted(0.2, 0..4u8);
    let step = prop_oneof![9 => 0..10u8, 1 => 100..=255u8];
    let strategy = prop::collection::vec((version, step, frame), 1..120);
    let config = Config { cases: 1_000, failure_persistence: None, ..Config::default() };
    let random = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(config, random);
    let all = RefCell::new(Done::default());
    let result = runner.run(&strategy, |records| {
        let input: Vec<u8> = records
            .iter()
            .flat_map(|(version, step, frame)| record(0, false, *version, *step, frame))
            .collect();
        let done = pipeline.run(&input);
        let mut totals = all.borrow_mut();
        totals.forwarded += done.forwarded;
        totals.held += done.held;
        totals.resets += done.resets;
        totals.dropped += done.dropped;
        Ok(())
    });
    result.unwrap();
    let all = all.into_inner();
    let enough = all.forwarded > 1000 && all.held > 100 && all.resets > 100 && all.dropped > 100;
    assert!(enough, "{} forwarded, {} held, {} resets", all.forwarded, all.held, all.resets);
}
