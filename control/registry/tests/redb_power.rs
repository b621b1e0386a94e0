//! Power cuts: a disk that forgets what was not synced.
//!
//! [`Disk`] keeps writes since the last sync apart. At a cut, which comes at a random operation,
//! each of those sectors survives or not by a throw of dice, like in a drive with a volatile cache
//! that writes back in any order. What the registry acknowledged must be there afterwards, and
//! whole. The second test lets the disk lie about syncing, and must find losses: so the first can
//! fail. In the third a sync fails, and the system's cache keeps what the disk has not got.

mod common;

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{candidate, elected, numbered, put};
use registry::{Campaign, Election, Error, RedbStore, Registry, Snapshot, StorageBackend, StoreId};

const SECTOR: usize = 512;
const ROUNDS: usize = 300;

/// A disk and the machine around it. Clones share it.
#[derive(Clone, Debug)]
struct Disk(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    /// What a reader sees.
    cached: Vec<u8>,
    /// What survives for certain.
    durable: Vec<u8>,
    /// Sectors that differ, perhaps, between the two.
    dirty: BTreeSet<usize>,
    /// Operations until the power goes.
    left: u64,
    /// Says yes to a sync, and does nothing.
    lies: bool,
    /// The next sync fails; what it was to write counts as clean from then on, as in Linux.
    fails: bool,
}

impl Disk {
    fn new(image: Vec<u8>, operations: u64, lies: bool) -> Self {
        let durable = image.clone();
        let dirty = BTreeSet::new();
        let state = State { cached: image, durable, dirty, left: operations, lies, fails: false };
        Self(Arc::new(Mutex::new(state)))
    }

    fn fail_the_next_sync(&self) {
        self.0.lock().unwrap().fails = true;
    }

    /// Readers see the disk again, but for what waits to be written.
    fn drop_cache(&self) {
        let mut state = self.0.lock().unwrap();
        let state = &mut *state;
        for sector in 0..state.cached.len().div_ceil(SECTOR) {
            if !state.dirty.contains(&sector) {
                let start = sector * SECTOR;
                for at in start..(start + SECTOR).min(state.cached.len()) {
                    state.cached[at] = state.durable.get(at).copied().unwrap_or(0);
                }
            }
        }
    }

    /// What is found on the disk after the cut.
    fn image_after_cut(&self) -> Vec<u8> {
        let mut state = self.0.lock().unwrap();
        // The file's new length is as volatile as what is in it.
        if fastrand::bool() {
            let length = state.cached.len();
            state.durable.resize(length, 0);
        }
        for sector in std::mem::take(&mut state.dirty) {
            if fastrand::bool() {
                state.keep(sector);
            }
        }
        state.durable.clone()
    }

    fn cut(&self) {
        self.0.lock().unwrap().left = 0;
    }

    fn operate<T>(&self, operation: impl FnOnce(&mut State) -> T) -> io::Result<T> {
        let mut state = self.0.lock().unwrap();
        if state.left == 0 {
            return Err(io::Error::other("no power"));
        }
        state.left -= 1;
        Ok(operation(&mut state))
    }
}

impl State {
    fn keep(&mut self, sector: usize) {
        let start = sector * SECTOR;
        let end = (start + SECTOR).min(self.cached.len()).min(self.durable.len());
        if start < end {
            self.durable[start..end].copy_from_slice(&self.cached[start..end]);
        }
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        self.operate(|state| state.cached.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.operate(|state| {
            let start = usize::try_from(offset).unwrap();
            let found = state.cached.get(start..start + out.len());
            found.map(|bytes| out.copy_from_slice(bytes))
        })?
        .ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.operate(|state| {
            let length = usize::try_from(length).unwrap();
            if length < state.cached.len() {
                state.dirty.retain(|sector| sector * SECTOR < length);
            }
            state.cached.resize(length, 0);
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.operate(|state| {
            if std::mem::take(&mut state.fails) {
                state.dirty.clear();
                return Err(io::Error::other("the sync failed"));
            }
            if state.lies {
                return Ok(());
            }
            let length = state.cached.len();
            state.durable.resize(length, 0);
            for sector in std::mem::take(&mut state.dirty) {
                state.keep(sector);
            }
            Ok(())
        })?
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.operate(|state| {
            let start = usize::try_from(offset).unwrap();
            state.cached[start..start + data.len()].copy_from_slice(data);
            state.dirty.extend(start / SECTOR..(start + data.len()).div_ceil(SECTOR));
        })
    }

    fn close(&self) -> io::Result<()> {
        Ok(())
    }
}

/// What one life of the machine came to.
struct Life {
    /// The store's id, once it was read.
    store: Option<StoreId>,
    /// The newest transaction acknowledged in this life or found at its beginning.
    acknowledged: u16,
    /// The newest that was begun.
    begun: u16,
}

async fn open(disk: &Disk) -> Result<RedbStore, Error> {
    let disk = disk.clone();
    RedbStore::on_backend(move || disk.clone(), Duration::from_secs(20)).await
}

/// Opens, writes until the power goes. What is found at the beginning must be what `before` left.
async fn live(disk: &Disk, before: &Life) -> Result<Life, String> {
    let mut life = Life { ..*before };
    let opened = open(disk).await;
    let store = match opened {
        Ok(store) => store,
        Err(Error::Storage { .. }) => return Ok(life),
        Err(error) => return Err(format!("after a cut: {error}")),
    };
    let snapshot = match store.snapshot().await {
        Ok(snapshot) => snapshot,
        Err(Error::Storage { .. }) => return Ok(life),
        Err(error) => return Err(format!("after a cut: {error}")),
    };
    let found = newest(&snapshot)?;
    if found < before.acknowledged || found > before.begun {
        return Err(format!("{found} found, {} acknowledged", before.acknowledged));
    }
    let store_id = Some(snapshot.store_id);
    // Another would mean that redb found damage, where there was but a power cut.
    if before.store.is_some() && before.store != store_id {
        return Err("the store is another".into());
    }
    life = Life { store: store_id, acknowledged: found, begun: found };
    let Ok(Campaign::Elected(term)) = store.campaign(candidate("a"), Duration::ZERO).await else {
        return Ok(life);
    };
    for number in found + 1..=found + 100 {
        life.begun = number;
        let mut writes = vec![numbered("left", number), numbered("right", number)];
        writes.extend((0..number % 8).map(|n| numbered(&format!("row{n}"), number)));
        match store.apply(writes, Default::default(), term.fence()).await {
            Ok(_) => life.acknowledged = number,
            Err(_) => break,
        }
    }
    // The power goes now at the latest, before the store is closed in good order.
    disk.cut();
    Ok(life)
}

fn newest(snapshot: &Snapshot) -> Result<u16, String> {
    let port = |id: &str| snapshot.backends.get(id).map_or(0, |row| row.row.port);
    let newest = port("left");
    let whole = (0..newest % 8).all(|n| port(&format!("row{n}")) == newest);
    match port("right") == newest && whole {
        true => Ok(newest),
        false => Err(format!("transaction {newest} is torn")),
    }
}

/// Lives one after another on one disk; returns how many transactions were acknowledged.
async fn lives(rounds: usize, lies: bool) -> Result<usize, String> {
    let mut image = Vec::new();
    let mut life = Life { store: None, acknowledged: 0, begun: 0 };
    let mut acknowledged = 0;
    for round in 0..rounds {
        let operations = match round % 4 {
            // Mostly in the middle of opening and repair.
            0 => fastrand::u64(1..60),
            _ => fastrand::u64(60..900),
        };
        let disk = Disk::new(image, operations, lies);
        let before = life;
        life = live(&disk, &before).await.map_err(|why| format!("life {round}: {why}"))?;
        acknowledged += usize::from(life.acknowledged - before.acknowledged);
        image = disk.image_after_cut();
    }
    Ok(acknowledged)
}

#[tokio::test]
async fn what_was_acknowledged_survives_power_cuts() {
    let acknowledged = lives(ROUNDS, false).await.unwrap();
    println!("{acknowledged} transactions in {ROUNDS} lives");
    assert!(acknowledged > ROUNDS, "only {acknowledged} transactions");
}

/// The write is there for every reader, and gone with the next power cut.
#[tokio::test]
async fn a_write_whose_sync_failed_is_not_acknowledged_although_it_can_be_read() {
    let disk = Disk::new(Vec::new(), u64::MAX, false);
    let store = open(&disk).await.unwrap();
    let term = elected(&store, "a").await;
    put(&store, term.fence(), vec![numbered("b", 1)]).await;
    disk.fail_the_next_sync();
    let write = store.apply(vec![numbered("b", 2)], Default::default(), term.fence()).await;
    let error = write.unwrap_err();
    assert!(matches!(error, Error::Storage { .. }), "{error}");
    assert!(error.to_string().contains("not known"), "{error}");
    assert_eq!(store.snapshot().await.unwrap().backends["b"].row.port, 2, "the cache has it");
}

/// The store looks at the disk again, and not at the cache: what is written and acknowledged from
/// then on does not rest on what was lost.
#[tokio::test]
async fn what_is_acknowledged_after_a_sync_failed_survives_a_power_cut() {
    for round in 0..30 {
        let disk = Disk::new(Vec::new(), u64::MAX, false);
        let opened = disk.clone();
        let reopen = move || {
            opened.drop_cache();
            opened.clone()
        };
        let store = RedbStore::on_backend(reopen, Duration::from_secs(20)).await.unwrap();
        let term = elected(&store, "a").await;
        put(&store, term.fence(), vec![numbered("b", 1)]).await;
        disk.fail_the_next_sync();
        let lost = store.apply(vec![numbered("b", 2)], Default::default(), term.fence()).await;
        assert!(matches!(lost, Err(Error::Storage { .. })), "{lost:?}");
        for number in 3..3 + round % 3 {
            put(&store, term.fence(), vec![numbered("c", number)]).await;
        }
        disk.cut();
        drop(store);
        let disk = Disk::new(disk.image_after_cut(), u64::MAX, false);
        let found = open(&disk).await.unwrap().snapshot().await.unwrap();
        let port = |id: &str| found.backends.get(id).map(|row| row.row.port);
        assert!(matches!(port("b"), Some(1 | 2)), "{:?}", port("b"));
        assert_eq!(port("c"), (round % 3 > 0).then_some(2 + round % 3));
    }
}

#[tokio::test]
async fn a_disk_that_lies_about_syncing_is_caught() {
    let why = lives(ROUNDS, true).await.unwrap_err();
    println!("caught: {why}");
}
