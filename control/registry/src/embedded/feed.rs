//! The newest transactions in memory, for watches.
//!
//! The thread that owns the file pushes each transaction after its commit; readers take them by
//! revision at their own pace. What is beyond the bounds is forgotten, oldest first, and a reader
//! that still needed it is told so. The invariant: the ring holds every transaction after `floor`.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::Revision;
use crate::error::Error;
use crate::watch::{Commit, GapReason, Observed};

/// Transactions kept.
const COMMITS: usize = 4096;
/// Rows kept, over all transactions.
const CHANGES: usize = 16384;

#[derive(Debug)]
pub(super) struct Feed {
    ring: Arc<Mutex<Ring>>,
    /// Wakes readers. Its value is the newest revision.
    newest: watch::Sender<Revision>,
}

#[derive(Debug)]
struct Ring {
    /// Counts how often the store's id was renewed.
    life: u64,
    /// Transactions up to this one are forgotten.
    floor: Revision,
    newest: Revision,
    commits: VecDeque<Arc<Commit>>,
    changes: usize,
}

/// One reader's place in the feed. It does not keep the store open.
#[derive(Debug)]
pub(crate) struct FeedReader {
    life: u64,
    ring: Arc<Mutex<Ring>>,
    cursor: Revision,
    newest: watch::Receiver<Revision>,
}

impl Feed {
    /// Nothing is known of what was before `revision`.
    pub(super) fn from(revision: Revision) -> Self {
        let commits = VecDeque::new();
        let ring = Ring { life: 0, floor: revision, newest: revision, commits, changes: 0 };
        Self { ring: Arc::new(Mutex::new(ring)), newest: watch::Sender::new(revision) }
    }

    /// A transaction without changes only moves the revision on.
    pub(super) fn push(&self, commit: Commit) {
        let revision = commit.revision;
        let mut ring = lock(&self.ring);
        ring.newest = revision;
        if !commit.changes.is_empty() {
            ring.changes += commit.changes.len();
            ring.commits.push_back(Arc::new(commit));
        }
        while ring.commits.len() > COMMITS || ring.changes > CHANGES {
            ring.forget_oldest();
        }
        drop(ring);
        self.newest.send_replace(revision);
    }

    /// The file was opened again and is at `revision`: when that is not where the feed is,
    /// everybody has to read a snapshot.
    pub(super) fn resume(&self, revision: Revision) {
        let mut ring = lock(&self.ring);
        if ring.newest != revision {
            ring.floor = revision;
            ring.newest = revision;
            ring.commits.clear();
            ring.changes = 0;
            drop(ring);
            self.newest.send_replace(revision);
        }
    }

    /// The store has another id: everybody has to read a snapshot.
    pub(super) fn renew(&self) {
        lock(&self.ring).life += 1;
        self.newest.send_modify(|_| ());
    }

    pub(super) fn compact(&self, until: Revision) -> Result<(), Error> {
        let mut ring = lock(&self.ring);
        if until > ring.newest {
            let newest = ring.newest;
            return Err(Error::Invalid(format!("cannot forget {until}, {newest} is the newest")));
        }
        while ring.commits.front().is_some_and(|commit| commit.revision <= until) {
            ring.forget_oldest();
        }
        ring.floor = ring.floor.max(until);
        drop(ring);
        self.newest.send_modify(|_| ());
        Ok(())
    }

    pub(super) fn reader(&self, from: Revision) -> FeedReader {
        FeedReader {
            life: lock(&self.ring).life,
            ring: Arc::clone(&self.ring),
            cursor: from,
            newest: self.newest.subscribe(),
        }
    }
}

impl Ring {
    fn forget_oldest(&mut self) {
        if let Some(oldest) = self.commits.pop_front() {
            self.floor = oldest.revision;
            self.changes -= oldest.changes.len();
        }
    }

    fn after(&self, cursor: Revision, life: u64) -> Option<Observed> {
        if cursor > self.newest || life != self.life {
            return Some(Observed::Gap(GapReason::StoreReplaced));
        }
        if cursor < self.floor {
            return Some(Observed::Gap(GapReason::Compacted));
        }
        let at = self.commits.partition_point(|commit| commit.revision <= cursor);
        self.commits.get(at).map(|commit| Observed::Commit(Arc::clone(commit)))
    }
}

impl FeedReader {
    /// See [`Watch::next`](crate::Watch::next).
    pub(crate) async fn next(&mut self) -> Observed {
        loop {
            self.newest.borrow_and_update();
            let next = lock(&self.ring).after(self.cursor, self.life);
            match next {
                Some(Observed::Commit(commit)) => {
                    self.cursor = commit.revision;
                    return Observed::Commit(commit);
                }
                Some(gap) => return gap,
                None => {}
            }
            if self.newest.changed().await.is_err() {
                return Observed::Gap(GapReason::Closed);
            }
        }
    }
}

/// A panic elsewhere leaves the ring as it was between two statements, each of which is safe.
fn lock(ring: &Mutex<Ring>) -> MutexGuard<'_, Ring> {
    ring.lock().unwrap_or_else(PoisonError::into_inner)
}
