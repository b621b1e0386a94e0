//! The board: the newest snapshot of every pool, in the order of their versions.
//!
//! A pool is on the board once, under its newest version. Whoever reads on from a version gets
//! what is newest when it comes to read, however slow it is, and nothing is kept for it meanwhile.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use proto::v1::PoolSnapshot;
use tokio::sync::watch;

/// Bits of a version that count within a term; the term's epoch is above them. 16 million
/// snapshots a term, and epochs (revisions, with etcd) up to 10^12.
const COUNT_BITS: u32 = 24;
/// Marks of deleted pools that are kept for slow readers.
const DELETED_KEPT: usize = 4096;

/// See the module.
#[derive(Debug)]
pub(crate) struct Board {
    store_id: String,
    shelf: Mutex<Shelf>,
    newest: watch::Sender<u64>,
}

#[derive(Debug)]
struct Shelf {
    next: u64,
    last: u64,
    pools: BTreeMap<String, Slot>,
    by_version: BTreeMap<u64, String>,
    deleted: BTreeMap<u64, String>,
    /// Versions up to this one may have been marks that are gone.
    forgotten: u64,
}

#[derive(Debug)]
struct Slot {
    sequence: u64,
    snapshot: Arc<PoolSnapshot>,
}

/// What a reader finds next.
#[derive(Debug)]
pub(crate) enum Next {
    /// The least version above the reader's.
    Snapshot(Arc<PoolSnapshot>),
    /// Nothing newer.
    Current,
    /// Something that it should have seen is gone.
    TooFarBehind,
}

impl Board {
    /// An empty board of the term `epoch`; `None` when no versions can be made of it.
    pub(crate) fn new(store_id: String, epoch: u64) -> Option<Self> {
        let base = epoch.checked_mul(1 << COUNT_BITS)?;
        let shelf = Shelf {
            next: base + 1,
            last: base | ((1 << COUNT_BITS) - 1),
            pools: BTreeMap::new(),
            by_version: BTreeMap::new(),
            deleted: BTreeMap::new(),
            forgotten: base,
        };
        Some(Self { store_id, shelf: Mutex::new(shelf), newest: watch::Sender::new(base) })
    }

    /// Of the store behind it.
    pub(crate) fn store_id(&self) -> &str {
        &self.store_id
    }

    /// Puts up a pool's snapshot with the next version, unless a later draft of the pool was
    /// first. `false` when the term has no version left and must end.
    pub(crate) fn publish(&self, sequence: u64, mut snapshot: PoolSnapshot) -> bool {
        let mut shelf = self.lock();
        let id = snapshot.pool_id.clone();
        if shelf.pools.get(&id).is_some_and(|slot| slot.sequence > sequence) {
            return true;
        }
        let Some(version) = shelf.draw() else { return false };
        snapshot.version = version;
        snapshot.store_id.clone_from(&self.store_id);
        let deleted = snapshot.deleted;
        let slot = Slot { sequence, snapshot: Arc::new(snapshot) };
        if let Some(old) = shelf.pools.insert(id.clone(), slot) {
            shelf.by_version.remove(&old.snapshot.version);
            shelf.deleted.remove(&old.snapshot.version);
        }
        shelf.by_version.insert(version, id.clone());
        if deleted {
            shelf.deleted.insert(version, id);
            shelf.forget();
        }
        drop(shelf);
        self.newest.send_replace(version);
        true
    }

    /// Whether a version is of this term or one before it. A later one was given by a leader that
    /// came after this, or by a store that was restored from a backup since.
    pub(crate) fn may_have_given(&self, version: u64) -> bool {
        version < self.lock().next
    }

    /// A version newer than all before it, for a mark that only one reader gets.
    pub(crate) fn draw(&self) -> Option<u64> {
        self.lock().draw()
    }

    /// The version of a pool; 0: it has none.
    pub(crate) fn version(&self, pool: &str) -> u64 {
        self.snapshot(pool).map_or(0, |snapshot| snapshot.version)
    }

    /// The newest snapshot of a pool that there is.
    pub(crate) fn snapshot(&self, pool: &str) -> Option<Arc<PoolSnapshot>> {
        let shelf = self.lock();
        let slot = shelf.pools.get(pool).filter(|slot| !slot.snapshot.deleted)?;
        Some(Arc::clone(&slot.snapshot))
    }

    /// What comes after `version`.
    pub(crate) fn after(&self, version: u64) -> Next {
        let shelf = self.lock();
        if version < shelf.forgotten {
            return Next::TooFarBehind;
        }
        let next = shelf.by_version.range(version.saturating_add(1)..).next();
        match next.and_then(|(_, id)| shelf.pools.get(id)) {
            Some(slot) => Next::Snapshot(Arc::clone(&slot.snapshot)),
            None => Next::Current,
        }
    }

    /// A reader that begins with what is there: the version to read on from.
    pub(crate) fn floor(&self) -> u64 {
        self.lock().forgotten
    }

    /// Tells of news. Its value is the newest version.
    pub(crate) fn news(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }

    /// Waits until each of `pools` is on the board.
    pub(crate) async fn filled(&self, pools: &[String]) {
        let mut news = self.news();
        loop {
            news.borrow_and_update();
            let all = {
                let shelf = self.lock();
                pools.iter().all(|pool| shelf.pools.contains_key(pool))
            };
            if all || news.changed().await.is_err() {
                return;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shelf {
    fn draw(&mut self) -> Option<u64> {
        let version = self.next;
        (version <= self.last).then(|| {
            self.next += 1;
            version
        })
    }

    fn forget(&mut self) {
        while self.deleted.len() > DELETED_KEPT {
            let Some((version, id)) = self.deleted.pop_first() else { return };
            self.by_version.remove(&version);
            self.pools.remove(&id);
            self.forgotten = self.forgotten.max(version);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn board(epoch: u64) -> Board {
        Board::new("store".to_owned(), epoch).unwrap()
    }

    fn pool(id: &str) -> PoolSnapshot {
        PoolSnapshot { pool_id: id.to_owned(), ..PoolSnapshot::default() }
    }

    fn deleted(id: &str) -> PoolSnapshot {
        PoolSnapshot { deleted: true, ..pool(id) }
    }

    /// What a reader sees from `at` on, and where it is then.
    fn read(board: &Board, mut at: u64) -> (Vec<String>, u64) {
        let mut seen = Vec::new();
        while let Next::Snapshot(snapshot) = board.after(at) {
            assert!(snapshot.version > at);
            at = snapshot.version;
            let mark = if snapshot.deleted { "-" } else { "" };
            seen.push(format!("{mark}{}", snapshot.pool_id));
        }
        (seen, at)
    }

    #[test]
    fn a_reader_sees_each_pool_once_in_its_newest_state() {
        let board = board(1);
        for sequence in 0..10 {
            assert!(board.publish(sequence, pool("a")));
        }
        assert!(board.publish(11, pool("b")));
        let (seen, at) = read(&board, board.floor());
        assert_eq!(seen, ["a", "b"]);
        assert!(board.publish(12, pool("a")));
        assert_eq!(read(&board, at).0, ["a"]);
    }

    #[test]
    fn an_older_draft_does_not_replace_a_newer_one() {
        let board = board(1);
        assert!(board.publish(2, pool("a")));
        let version = board.version("a");
        assert!(board.publish(1, deleted("a")));
        assert_eq!(board.version("a"), version);
    }

    #[test]
    fn versions_go_up_over_terms_and_end_with_their_term() {
        let (one, two) = (board(7), board(8));
        assert!(one.publish(0, pool("a")) && two.publish(0, pool("a")));
        assert!(two.version("a") > one.version("a"));
        let mut shelf = one.lock();
        shelf.next = shelf.last;
        drop(shelf);
        assert!(one.publish(1, pool("a")));
        assert!(two.version("a") > one.version("a"));
        assert!(!one.publish(2, pool("a")), "no version is left");
        assert!(Board::new("store".to_owned(), 1 << 41).is_none());
    }

    #[test]
    fn marks_of_deleted_pools_are_bounded_and_who_missed_one_is_told() {
        let board = board(1);
        let start = board.floor();
        for n in 0..u64::try_from(DELETED_KEPT).unwrap() + 1 {
            let id = format!("p{n}");
            assert!(board.publish(2 * n, pool(&id)) && board.publish(2 * n + 1, deleted(&id)));
        }
        assert!(matches!(board.after(start), Next::TooFarBehind));
        assert_eq!(read(&board, board.floor()).0.len(), DELETED_KEPT);
        assert!(board.snapshot("p5").is_none());
    }

    #[test]
    fn a_pool_that_comes_again_replaces_its_mark() {
        let board = board(1);
        assert!(board.publish(0, pool("a")) && board.publish(1, deleted("a")));
        assert!(board.publish(2, pool("a")));
        assert_eq!(read(&board, board.floor()).0, ["a"]);
    }
}
