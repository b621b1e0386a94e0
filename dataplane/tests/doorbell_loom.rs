//! The doorbell under every interleaving and every stale value that the memory model allows.
//!
//! It is the type that ships, from `dataplane/src/handoff/doorbell.rs`; run as `publish_loom.rs`
//! says. Two workers write to places of their own with relaxed stores, which nothing but the
//! doorbell orders, and ring; the reader is told by a relaxed counter, which orders nothing, that
//! both have. This test was seen to fail with a plain store in place of the read-modify-write in
//! `ring`, and with a relaxed `ring` or `answer`.

#![cfg(crossbeam_loom)]

use dataplane::doorbell::Doorbell;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;

struct Shared {
    bell: Doorbell,
    places: [AtomicUsize; 2],
    done: AtomicUsize,
}

impl Shared {
    /// One round of a worker: asks, answers, looks.
    fn look(&self, seen: &mut [bool; 2]) {
        if self.bell.answer() {
            for (seen, place) in seen.iter_mut().zip(&self.places) {
                *seen |= place.load(Ordering::Relaxed) == 1;
            }
        }
    }
}

#[test]
fn what_was_written_before_a_ring_is_seen_by_the_answer_that_took_it() {
    loom::model(|| {
        let shared = Arc::new(Shared {
            bell: Doorbell::new(),
            places: [AtomicUsize::new(0), AtomicUsize::new(0)],
            done: AtomicUsize::new(0),
        });
        let writers: Vec<_> = (0..2)
            .map(|number| {
                let shared = Arc::clone(&shared);
                thread::spawn(move || {
                    shared.places[number].store(1, Ordering::Relaxed);
                    shared.bell.ring();
                    shared.done.fetch_add(1, Ordering::Relaxed);
                })
            })
            .collect();
        let mut seen = [false; 2];
        shared.look(&mut seen);
        if shared.done.load(Ordering::Relaxed) == 2 {
            shared.look(&mut seen);
            assert_eq!(seen, [true, true]);
        }
        for writer in writers {
            writer.join().unwrap();
        }
    });
}
