//! The published pointer under every interleaving that loom finds within the bounds below.
//!
//! It is the type that ships, from `dataplane/src/publish.rs`: `dataplane/loom` builds that file
//! and the one it takes its atomics from, and nothing else, because the cfg reaches every
//! dependency and not all of them stand it. Without the cfg this file is empty. To run it:
//!
//! ```text
//! RUSTFLAGS="--cfg crossbeam_loom" CARGO_TARGET_DIR=target/loom \
//!     cargo test --release --manifest-path dataplane/loom/Cargo.toml
//! ```
//!
//! A published value here holds a loom cell: a reader reads it, its `Drop` writes it. If the
//! two are not ordered, in any execution, loom reports the pair. These tests were seen to fail
//! with the value freed at once, freed by whoever collects, or never handed back; without the
//! fence after `repin`; and with an ordering of the pointer or of the retired stack relaxed.

#![cfg(crossbeam_loom)]

use dataplane::publish::Publisher;
use loom::cell::UnsafeCell;
use loom::thread;
use std::sync::{Arc, Mutex};

/// How often threads may be interrupted in one execution; some hundred thousand of them in
/// all, a quarter of a minute. `LOOM_MAX_PREEMPTIONS` overrides it.
const PREEMPTIONS: usize = 5;

/// Who dropped which version. Not part of the model: loom runs one thread at a time.
type Log = Arc<Mutex<Vec<(usize, thread::ThreadId)>>>;

struct Version {
    number: UnsafeCell<usize>,
    log: Log,
}

// SAFETY: whether the cell is used by two threads at once is what loom checks.
unsafe impl Sync for Version {}

impl Version {
    fn new(number: usize, log: &Log) -> Self {
        Self { number: UnsafeCell::new(number), log: Arc::clone(log) }
    }

    fn number(&self) -> usize {
        // SAFETY: loom's `with` checks what it lets through.
        let number = self.number.with(|number| unsafe { *number });
        assert_ne!(number, usize::MAX, "read after drop");
        number
    }
}

impl Drop for Version {
    fn drop(&mut self) {
        // SAFETY: `&mut self`; loom's `with_mut` checks that it is so.
        let number =
            self.number.with_mut(|number| unsafe { std::mem::replace(&mut *number, usize::MAX) });
        self.log.lock().unwrap().push((number, thread::current().id()));
    }
}

fn model(body: impl Fn(&Log) + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound.get_or_insert(PREEMPTIONS);
    builder.max_branches = 100_000;
    builder.check(move || {
        let log = Log::default();
        body(&log);
    });
}

/// Every version up to `count` is in the log once, dropped by this thread.
fn assert_all_dropped_here(log: &Log, count: usize) {
    let mut log = log.lock().unwrap();
    log.sort_by_key(|&(number, _)| number);
    let numbers: Vec<usize> = log.iter().map(|&(number, _)| number).collect();
    assert_eq!(numbers, (0..count).collect::<Vec<_>>());
    let here = thread::current().id();
    assert!(log.iter().all(|&(_, by)| by == here), "dropped by another thread");
}

#[test]
fn a_reader_never_sees_a_freed_value_and_the_publisher_frees_each_once() {
    model(|log| {
        let mut publisher = Publisher::new(Version::new(0, log));
        let mut reader = publisher.reader();
        let worker = thread::spawn(move || {
            let first = reader.pin().number();
            let second = reader.pin().number();
            assert!(first <= second, "versions go forward");
            reader.unpin();
            reader
        });
        publisher.publish(Version::new(1, log));
        publisher.reclaim_within(3);
        drop(worker.join().unwrap());
        publisher.reclaim();
        assert_eq!(publisher.outstanding(), 0);
        drop(publisher);
        assert_all_dropped_here(log, 2);
    });
}

#[test]
fn a_reader_that_pins_again_late_does_not_keep_a_pointer_from_before() {
    model(|log| {
        let mut publisher = Publisher::new(Version::new(0, log));
        let mut reader = publisher.reader();
        reader.pin();
        let worker = thread::spawn(move || {
            // It may have heard of the first publication only, and of the epoch of the second.
            reader.pin().number();
            reader
        });
        publisher.publish(Version::new(1, log));
        publisher.publish(Version::new(2, log));
        publisher.reclaim_within(3);
        drop(worker.join().unwrap());
        publisher.reclaim();
        assert_eq!(publisher.outstanding(), 0);
        drop(publisher);
        assert_all_dropped_here(log, 3);
    });
}

#[test]
fn values_handed_back_on_a_readers_thread_all_reach_the_publisher() {
    model(|log| {
        let mut publisher = Publisher::new(Version::new(0, log));
        let mut reader = publisher.reader();
        publisher.publish(Version::new(1, log));
        publisher.publish(Version::new(2, log));
        let worker = thread::spawn(move || {
            reader.pin().number();
            reader.unpin();
            reader
        });
        publisher.reclaim_within(3);
        drop(worker.join().unwrap());
        publisher.reclaim();
        assert_eq!(publisher.outstanding(), 0);
        drop(publisher);
        assert_all_dropped_here(log, 3);
    });
}

#[test]
fn the_reader_may_outlive_the_publisher() {
    model(|log| {
        let mut publisher = Publisher::new(Version::new(0, log));
        let mut reader = publisher.reader();
        let worker = thread::spawn(move || {
            reader.pin().number();
            reader.pin().number()
        });
        publisher.publish(Version::new(1, log));
        drop(publisher);
        worker.join().unwrap();
        let mut numbers: Vec<usize> =
            log.lock().unwrap().iter().map(|&(number, _)| number).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, [0, 1]);
    });
}
