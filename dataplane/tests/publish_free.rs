//! The published pointer on real threads: who frees, and what a worker pays.
//!
//! Every allocation and deallocation is counted by thread, so "a worker never allocates or
//! frees" is a number here. Under Miri (`cargo +nightly miri test -p dataplane --test
//! publish_free`) the rounds are fewer.

#![cfg(not(crossbeam_loom))]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::thread::{self, ThreadId};

use dataplane::publish::{Publisher, Reader};

/// Counts per thread, and passes everything on.
struct Counting;

thread_local! {
    static CALLS: Cell<usize> = const { Cell::new(0) };
}

fn count() {
    // A thread that is ending has no counter any more, and is not measured.
    let _ = CALLS.try_with(|calls| calls.set(calls.get() + 1));
}

// SAFETY: every call goes on to `System` unchanged; counting neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are `System`'s conditions.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count();
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How often `body` allocates or frees on this thread.
fn calls_of(body: impl FnOnce()) -> usize {
    let before = CALLS.get();
    body();
    CALLS.get() - before
}

const ROUNDS: usize = if cfg!(miri) { 20 } else { 20_000 };

/// Stands for a table: its parts must agree whenever it is read, and it says who dropped it.
struct Table {
    number: usize,
    copies: Box<[usize; 64]>,
    drops: Arc<Drops>,
}

#[derive(Default)]
struct Drops {
    by: Mutex<Vec<(usize, ThreadId)>>,
}

impl Table {
    fn new(number: usize, drops: &Arc<Drops>) -> Self {
        let copies = Box::new([number; 64]);
        let drops = Arc::clone(drops);
        Self { number, copies, drops }
    }

    fn check(&self) -> usize {
        assert!(self.copies.iter().all(|&copy| copy == self.number), "a torn or freed table");
        self.number
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        self.copies.fill(usize::MAX);
        self.drops.by.lock().unwrap().push((self.number, thread::current().id()));
    }
}

impl Drops {
    fn count(&self) -> usize {
        self.by.lock().unwrap().len()
    }

    /// Versions 0 to `count` were dropped, each once.
    fn assert_each_once(&self, count: usize) {
        let mut numbers: Vec<usize> = self.by.lock().unwrap().iter().map(|&(n, _)| n).collect();
        numbers.sort_unstable();
        assert!(numbers.iter().copied().eq(0..count), "{count} versions, dropped: {numbers:?}");
    }

    fn assert_all_by(&self, thread: ThreadId) {
        assert!(self.by.lock().unwrap().iter().all(|&(_, by)| by == thread));
    }
}

/// Calls `reclaim` until nothing is outstanding, as the control thread does at its ticks.
fn reclaim_all(publisher: &mut Publisher<Table>) {
    while publisher.outstanding() > 0 {
        publisher.reclaim();
        thread::yield_now();
    }
}

#[test]
fn old_tables_are_freed_by_the_control_thread_while_one_worker_idles_and_another_pins() {
    let drops = Arc::new(Drops::default());
    let mut publisher = Publisher::new(Table::new(0, &drops));
    let (started, finished) = (Barrier::new(3), Barrier::new(2));
    let stop = AtomicBool::new(false);
    let mut idle = publisher.reader();
    let mut busy = publisher.reader();

    thread::scope(|scope| {
        scope.spawn(|| {
            // It reads once, then sleeps, unpinned, to the end of the test.
            let calls = calls_of(|| {
                idle.pin().check();
                idle.unpin();
            });
            assert_eq!(calls, 0, "allocations and deallocations of the idle worker");
            started.wait();
            finished.wait();
        });
        let worker = scope.spawn(|| {
            started.wait();
            let mut last = 0;
            let calls = calls_of(|| {
                while !stop.load(Ordering::Relaxed) {
                    let number = busy.pin().check();
                    assert!(number >= last, "versions go forward");
                    last = number;
                    thread::yield_now();
                }
            });
            assert_eq!(calls, 0, "allocations and deallocations of the busy worker");
        });
        started.wait();
        for number in 1..=ROUNDS {
            publisher.publish(Table::new(number, &drops));
            if number % 7 == 0 {
                publisher.reclaim();
            }
        }
        reclaim_all(&mut publisher);
        assert_eq!(drops.count(), ROUNDS, "all but the current one, with both workers alive");
        drops.assert_all_by(thread::current().id());
        assert_eq!(publisher.current().number, ROUNDS);
        stop.store(true, Ordering::Relaxed);
        worker.join().unwrap();
        finished.wait();
    });
    drop((idle, busy));
    drop(publisher);
    drops.assert_each_once(ROUNDS + 1);
    drops.assert_all_by(thread::current().id());
}

#[test]
fn a_pinned_sleeper_holds_old_tables_and_an_unpinned_one_does_not() {
    let drops = Arc::new(Drops::default());
    let mut publisher = Publisher::new(Table::new(0, &drops));
    let mut reader = publisher.reader();
    assert!(!reader.is_pinned());
    let seen = reader.pin().check();
    assert!(reader.is_pinned());
    for number in 1..=100 {
        publisher.publish(Table::new(number, &drops));
        publisher.reclaim();
    }
    assert_eq!(publisher.outstanding(), 100);
    assert_eq!((seen, drops.count()), (0, 0), "it may still read the first");

    reader.unpin();
    assert!(publisher.reclaim() > 0);
    reclaim_all(&mut publisher);
    assert_eq!((publisher.outstanding(), drops.count()), (0, 100));
    assert_eq!(reader.pin().check(), 100);
}

#[test]
fn a_worker_that_pins_again_sees_the_new_table_and_lets_the_old_one_go() {
    let drops = Arc::new(Drops::default());
    let mut publisher = Publisher::new(Table::new(0, &drops));
    let mut reader = publisher.reader();
    reader.pin();
    publisher.publish(Table::new(1, &drops));
    // It never unpins; one attempt for each of its bursts, and the epochs pass.
    let mut bursts = 0;
    while publisher.outstanding() > 0 {
        assert_eq!(reader.pin().check(), 1);
        publisher.reclaim_within(1);
        bursts += 1;
        assert!(bursts <= 4, "two epochs should be enough");
    }
    assert_eq!(drops.count(), 1);
}

#[test]
fn every_table_is_dropped_once_under_stress() {
    const WORKERS: usize = 3;
    let drops = Arc::new(Drops::default());
    let mut publisher = Publisher::new(Table::new(0, &drops));
    let stop = AtomicBool::new(false);
    let readers: Vec<Reader<Table>> = (0..WORKERS).map(|_| publisher.reader()).collect();
    let pinned_calls = AtomicUsize::new(0);

    thread::scope(|scope| {
        for (index, mut reader) in readers.into_iter().enumerate() {
            let (stop, pinned_calls) = (&stop, &pinned_calls);
            scope.spawn(move || {
                let mut last = 0;
                let mut burst = index;
                while !stop.load(Ordering::Relaxed) {
                    reader.pin();
                    // Waking up aside (see `publish.rs`), pinning costs nothing here either.
                    let calls = calls_of(|| last = reader.pin().check().max(last));
                    pinned_calls.fetch_add(calls, Ordering::Relaxed);
                    // Each backs off at its own rhythm, so that many overlaps are met.
                    burst += 1;
                    if burst % (index + 2) == 0 {
                        reader.unpin();
                        thread::yield_now();
                    }
                }
            });
        }
        for number in 1..=ROUNDS {
            publisher.publish(Table::new(number, &drops));
            publisher.reclaim_within(number % 4);
        }
        reclaim_all(&mut publisher);
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(drops.count(), ROUNDS);
    assert_eq!(pinned_calls.into_inner(), 0);
    drop(publisher);
    drops.assert_each_once(ROUNDS + 1);
    drops.assert_all_by(thread::current().id());
}

#[test]
fn handles_may_go_in_any_order() {
    for readers_first in [true, false] {
        for reclaimed in [true, false] {
            let drops = Arc::new(Drops::default());
            let mut publisher = Publisher::new(Table::new(0, &drops));
            let mut first = publisher.reader();
            let mut second = publisher.reader();
            first.pin();
            publisher.publish(Table::new(1, &drops));
            if reclaimed {
                publisher.reclaim();
            }
            second.pin();
            if readers_first {
                drop(second);
                drop(first);
                drop(publisher);
            } else {
                drop(publisher);
                // What was published last stays readable.
                assert_eq!(first.pin().check(), 1);
                drop(first);
                assert_eq!(second.pin().check(), 1);
                drop(second);
            }
            drops.assert_each_once(2);
        }
    }
}

#[test]
fn a_publisher_and_a_pinned_reader_may_move_to_other_threads() {
    let drops = Arc::new(Drops::default());
    let mut publisher = Publisher::new(Table::new(0, &drops));
    let mut reader = publisher.reader();
    reader.pin();
    thread::spawn(move || {
        publisher.publish(Table::new(1, &drops));
        let worker = thread::spawn(move || {
            assert_eq!(reader.pin().check(), 1);
            reader
        });
        let reader = worker.join().unwrap();
        publisher.reclaim();
        drop(reader);
        reclaim_all(&mut publisher);
        drops.assert_all_by(thread::current().id());
        drop(publisher);
        drops.assert_each_once(2);
    })
    .join()
    .unwrap();
}
