//! "There may be something for you": one flag that many ring and one answers.
//!
//! The law: what was written before [`Doorbell::ring`] is seen by whoever looks after the
//! [`Doorbell::answer`] that took the ring, or a later one is still due. Ringing is a
//! read-modify-write even when the flag is up already: it continues the release sequence of the
//! ringers before, so that one answer sees what all of them wrote. A plain store would end that
//! sequence, and the first ringer's packet could lie unseen until somebody rings again.
//! `tests/doorbell_loom.rs` holds this under every interleaving.

use crate::sync::{AtomicBool, Ordering};

/// See the module. On a cache line of its own, so that a worker's look at it in every round
/// costs nothing while nobody rings.
#[derive(Debug)]
#[repr(align(128))]
pub struct Doorbell {
    rung: AtomicBool,
}

impl Default for Doorbell {
    fn default() -> Self {
        Self::new()
    }
}

impl Doorbell {
    /// A bell that nobody has rung.
    pub fn new() -> Self {
        Self { rung: AtomicBool::new(false) }
    }

    /// Says that there is something to see.
    #[inline]
    pub fn ring(&self) {
        self.rung.fetch_or(true, Ordering::Release);
    }

    /// Whether it was rung since the last answer.
    #[inline(always)]
    pub fn is_rung(&self) -> bool {
        self.rung.load(Ordering::Relaxed)
    }

    /// Takes the ring: from here on, what was written before it is seen. `false`: nobody rang.
    #[inline]
    pub fn answer(&self) -> bool {
        self.rung.swap(false, Ordering::Acquire)
    }
}
