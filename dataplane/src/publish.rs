//! One value, replaced whole by the control thread and read by the workers without waiting.
//!
//! [`Publisher::publish`] swaps one pointer. A worker calls [`Reader::pin`] once a burst and
//! sees one version for the burst; it calls [`Reader::unpin`] before it backs off. The old
//! value lives until no reader can hold it, which crossbeam's epochs decide
//! (K. Fraser, "Practical lock-freedom", 2004, section 5.2.3), in a collector of its own.
//!
//! The idea: **what is deferred does not free, it hands back.** crossbeam runs a deferred
//! function on whichever thread happens to collect, and a worker must not free megabytes. So
//! the function only pushes the node on a lock-free stack that the publisher empties:
//!
//! ```text
//!  publish ──swap──▶ old node ──deferred──▶ [two epochs later, on any thread]
//!                                                     │ push: one compare-exchange
//!  reclaim ◀──────────── retired stack ◀──────────────┘
//!     └─ drops the value, on the control thread
//! ```
//!
//! The epochs move only when the publisher wants a value back: it raises `asked`, and each
//! reader answers at its next `pin` by pinning again. Until then a pinned reader just stays
//! pinned, so that a burst costs two loads from one cache line that nobody writes, no fence,
//! and none of crossbeam's own collecting. The publisher too stays pinned outside `reclaim`:
//! that holds the epoch where nothing can expire behind its back.
//!
//! Invariants:
//! - A `&T` borrows its reader, which cannot pin again or unpin meanwhile.
//! - Each value is dropped exactly once: by [`Publisher::reclaim`], or with the last handle.
//! - A pinned reader allocates, frees and waits for nothing. Only waking up (`pin` after
//!   `unpin`) makes crossbeam collect, once in 128 times; it finds something only if the
//!   publisher is reclaiming at that instant, and then moves at most eight bags of pointers.
//!
//! Dropped last, when the workers have been joined, the publisher frees everything itself;
//! any other order is sound too and leaks nothing, but the last handle's thread does the work.

#![expect(
    unsafe_code,
    reason = "epoch reclamation: the compiler cannot see when the last reader has let go"
)]

use crossbeam_epoch::{Atomic, Collector, Guard, LocalHandle, Owned};

use crate::sync::{Arc, AtomicPtr, AtomicUsize, Ordering, fence, yield_now};

/// How often [`Publisher::reclaim`] tries before it leaves the rest for its next call. Two
/// epochs must pass, so two attempts are the least when no reader is pinned.
pub const RECLAIM_ATTEMPTS: usize = 8;

/// The writing end; one, owned by the control thread.
pub struct Publisher<T: Send + Sync + 'static> {
    participant: Participant,
    shared: Arc<Shared<T>>,
    retired: Arc<Retired<T>>,
    outstanding: usize,
}

/// A reading end; one for each worker. Made by the control thread, then moved to the worker.
pub struct Reader<T: Send + Sync + 'static> {
    participant: Participant,
    shared: Arc<Shared<T>>,
    /// The value of `asked` at the last `pin`.
    answered: usize,
}

impl<T: Send + Sync + 'static> Publisher<T> {
    /// Publishes the first value.
    pub fn new(value: T) -> Self {
        let mut participant = Participant::new(&Collector::new());
        participant.pin();
        Self {
            participant,
            shared: Arc::new(Shared {
                current: Atomic::new(Node::new(value)),
                asked: AtomicUsize::new(0),
            }),
            retired: Arc::new(Retired::new()),
            outstanding: 0,
        }
    }

    /// A new reader. It is not pinned and holds nothing until its first [`Reader::pin`].
    pub fn reader(&self) -> Reader<T> {
        #[cfg_attr(crossbeam_loom, expect(unused_mut, reason = "see below"))]
        let mut participant = Participant::new(self.participant.handle.collector());
        // crossbeam collects at a participant's first pin: here, not on the worker. (Under
        // loom it is left to the reader, so that a hand-back on a reader's thread is seen.)
        #[cfg(not(crossbeam_loom))]
        {
            participant.pin();
            participant.unpin();
        }
        Reader { participant, shared: Arc::clone(&self.shared), answered: 0 }
    }

    /// Replaces the value: readers see the new one at their next [`Reader::pin`]. The old one
    /// is outstanding until [`Self::reclaim`] gets it back.
    pub fn publish(&mut self, value: T) {
        let guard = self.participant.pin();
        // AcqRel: the release shows readers a finished value.
        let old = self.shared.current.swap(Owned::new(Node::new(value)), Ordering::AcqRel, guard);
        let hand_back =
            HandBack { retired: Arc::clone(&self.retired), node: old.as_raw().cast_mut() };
        // SAFETY: the function may run on another thread, and then touches `hand_back` only,
        // whose stack is Sync and whose value is Send (bounds of this impl). When it runs no
        // reader holds `old`: the swap above unlinked it, crossbeam waits for every guard
        // that was there before, and `Reader` gives out a `&T` only under its guard.
        unsafe { guard.defer_unchecked(move || hand_back.run()) };
        self.outstanding += 1;
        self.shared.ask();
    }

    /// The value that readers see now.
    pub fn current(&self) -> &T {
        // Relaxed: this thread stored it, or was handed the publisher by the one that did.
        // SAFETY: `unprotected` is allowed where nothing can be freed meanwhile. The current
        // node is retired by `publish` only, which needs `&mut self`, and freed with `Shared`,
        // of which `self` keeps one count. It is never null: `new` sets it.
        unsafe {
            let guard = crossbeam_epoch::unprotected();
            &self.shared.current.load(Ordering::Relaxed, guard).deref().value
        }
    }

    /// Gets back and drops the old values that no reader holds any more; returns how many.
    ///
    /// Never waits for a reader: after [`RECLAIM_ATTEMPTS`] the rest stays outstanding, and
    /// the control thread calls again at its next tick. A reader that is unpinned, or pins
    /// again within the call, does not stand in the way.
    pub fn reclaim(&mut self) -> usize {
        self.reclaim_within(RECLAIM_ATTEMPTS)
    }

    /// As [`Self::reclaim`], with at most `attempts`.
    pub fn reclaim_within(&mut self, attempts: usize) -> usize {
        let mut came_back = 0;
        for _ in 0..attempts {
            if self.outstanding == 0 {
                break;
            }
            // Each attempt can move the epoch on by one: flushing advances it once everybody
            // has pinned in the present one, then runs what has expired. Asking after that
            // lets readers follow before the next attempt.
            self.participant.pin_again().flush();
            self.shared.ask();
            let count = self.retired.free();
            self.outstanding -= count;
            came_back += count;
            if self.outstanding != 0 {
                yield_now();
            }
        }
        came_back
    }

    /// Where what all readers look at is.
    #[cfg(test)]
    pub(crate) fn pointer(&self) -> core::ops::Range<usize> {
        let shared = core::slice::from_ref(&*self.shared).as_ptr_range();
        shared.start as usize..shared.end as usize
    }

    /// How many replaced values have not come back yet: a metric. It grows when values are
    /// published while a reader neither pins again nor unpins, a stalled worker for example.
    pub fn outstanding(&self) -> usize {
        self.outstanding
    }
}

impl<T: Send + Sync + 'static> Reader<T> {
    /// The value as it is now. Call it once a burst: the reader stays pinned, and what it
    /// saw is kept alive, until the next call or until [`Self::unpin`].
    #[inline]
    pub fn pin(&mut self) -> &T {
        // Acquire: whoever sees the question sees the value that was published before it.
        let asked = self.shared.asked.load(Ordering::Acquire);
        let guard = if asked == self.answered {
            self.participant.pin()
        } else {
            self.answered = asked;
            self.participant.pin_again()
        };
        let node = self.shared.current.load(Ordering::Acquire, guard);
        // SAFETY: never null, as `Publisher::new` sets it and `publish` replaces it. Alive:
        // it was loaded under the guard, and the reference borrows `self`, so that the guard
        // can be neither moved on nor dropped before it; `publish` retires nodes through the
        // same collector only.
        unsafe { &node.deref().value }
    }

    /// Lets go of the value. To be called before the worker sleeps, or the old values pile
    /// up for as long; the next [`Self::pin`] costs a full fence.
    #[inline]
    pub fn unpin(&mut self) {
        self.participant.unpin();
    }

    /// Is the reader between [`Self::pin`] and [`Self::unpin`]?
    pub fn is_pinned(&self) -> bool {
        self.participant.guard.is_some()
    }
}

/// What publisher and readers look at. Cache lines of its own, written at a change only.
#[repr(align(128))]
struct Shared<T> {
    /// Never null.
    current: Atomic<Node<T>>,
    /// How often the publisher asked readers to pin again.
    asked: AtomicUsize,
}

impl<T> Shared<T> {
    fn ask(&self) {
        self.asked.fetch_add(1, Ordering::Release);
    }
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        // SAFETY: publisher and all readers are gone (each owns a count of the `Arc`, and a
        // reader's guard goes before its count), so nobody reads the current node; it was
        // not retired, because `publish` retires what it takes out of here.
        unsafe {
            let guard = crossbeam_epoch::unprotected();
            let current = self.current.load(Ordering::Relaxed, guard);
            drop(current.into_owned());
        }
    }
}

/// A published value, and its place in the retired stack later.
struct Node<T> {
    value: T,
    next: AtomicPtr<Node<T>>,
}

impl<T> Node<T> {
    fn new(value: T) -> Self {
        Self { value, next: AtomicPtr::new(core::ptr::null_mut()) }
    }
}

/// The deferred function's data: small enough for crossbeam to keep it without a box.
struct HandBack<T> {
    retired: Arc<Retired<T>>,
    node: *mut Node<T>,
}

impl<T> HandBack<T> {
    /// What crossbeam stores in place: three words.
    const FITS: () = assert!(size_of::<Self>() <= 3 * size_of::<usize>());

    fn run(self) {
        let () = Self::FITS;
        // SAFETY: called by the deferred function, so nobody else has the node any more; it
        // came from `publish`, which took it out of `Shared` and deferred it once.
        unsafe { self.retired.push(self.node) };
    }
}

/// Values that came back: a stack to which any thread pushes, and which is emptied whole, so
/// that no node can come and go unnoticed under a compare-exchange (no ABA).
struct Retired<T> {
    head: AtomicPtr<Node<T>>,
}

impl<T> Retired<T> {
    fn new() -> Self {
        Self { head: AtomicPtr::new(core::ptr::null_mut()) }
    }

    /// # Safety
    /// `node` came from a box, nobody else holds it, and it is pushed once.
    unsafe fn push(&self, node: *mut Node<T>) {
        // SAFETY: alive and ours, as the caller promises, until the exchange below succeeds.
        let next = unsafe { &(*node).next };
        let mut head = self.head.load(Ordering::Relaxed);
        loop {
            next.store(head, Ordering::Relaxed);
            // Release: what readers did with the value, and `next`, before it is freed.
            match self.head.compare_exchange_weak(head, node, Ordering::Release, Ordering::Relaxed)
            {
                Ok(_) => return,
                Err(changed) => head = changed,
            }
        }
    }

    /// Drops what is on the stack; returns how many values that were.
    fn free(&self) -> usize {
        // Acquire: pairs with the release of every push since the last time, as exchanges
        // continue each other's release sequence.
        let mut head = self.head.swap(core::ptr::null_mut(), Ordering::Acquire);
        let mut count = 0;
        while !head.is_null() {
            // SAFETY: `push` was promised a node from a box (crossbeam's `Owned` is one) that
            // nobody else holds; the swap took it off the stack, so this is the only owner.
            let node = unsafe { Box::from_raw(head) };
            head = node.next.load(Ordering::Relaxed);
            count += 1;
        }
        count
    }
}

impl<T> Drop for Retired<T> {
    fn drop(&mut self) {
        self.free();
    }
}

/// A registration with the collector, and its pin. The guard is dropped before the handle.
struct Participant {
    guard: Option<Guard>,
    handle: LocalHandle,
}

// SAFETY: a registration is bound to its owner, not to a thread: it uses no thread-local, and
// other threads reach only its atomic epoch and list links. Its plain fields are reached by
// the handle and its guards, all of which are inside this struct and move together (`guard`
// is lent out only for as long as `self` is borrowed). It is not `Sync`. The functions in its
// bag are `HandBack`s of `Send` values, or crossbeam's own, which may run on any thread.
unsafe impl Send for Participant {}

impl Participant {
    fn new(collector: &Collector) -> Self {
        Self { guard: None, handle: collector.register() }
    }

    /// Pins, or stays pinned in the epoch of before.
    #[inline]
    fn pin(&mut self) -> &Guard {
        self.guard.get_or_insert_with(|| self.handle.pin())
    }

    /// Pins, in the present epoch: references obtained before are given up.
    #[inline]
    fn pin_again(&mut self) -> &Guard {
        match &mut self.guard {
            Some(guard) => {
                guard.repin();
                // `repin` itself has no fence, so a load after it may be carried out before
                // it reads the epoch: it could see a pointer whose retirement was sealed one
                // epoch earlier than the pin protects from. `LocalHandle::pin` has this fence.
                fence(Ordering::SeqCst);
            }
            None => self.guard = Some(self.handle.pin()),
        }
        self.pin()
    }

    #[inline]
    fn unpin(&mut self) {
        self.guard = None;
    }
}
