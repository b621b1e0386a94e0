//! Every operation on the redb file, all on one thread.
//!
//! The invariant: `revision` and the rows of a transaction change in one commit, and the feed is
//! told after that commit, in order. After an I/O error redb wants the file opened anew (the disk
//! may have been full for a minute only); that is done before the next operation. A commit that failed
//! is never said to have happened, whatever the file says then: see [`File::settle`].

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use redb::{Database, ReadableDatabase, ReadableTable, WriteTransaction};

use super::failure::Failure;
use super::feed::Feed;
use super::lineage::Lineage;
use super::opening::{self, Medium, NUMBERS, ROWS, TEXTS, number};
use crate::encoding;
use crate::error::Error;
use crate::snapshot::Snapshot;
use crate::transaction::{Prepared, Write};
use crate::watch::{Change, Commit};
use crate::{Revision, StoreId};

pub(super) struct File {
    medium: Medium,
    /// `None` after an I/O error, until it is opened again.
    database: Option<Database>,
    store_id: StoreId,
    feed: Arc<Feed>,
}

impl File {
    pub(super) fn open(mut medium: Medium) -> Result<Self, Error> {
        let mut database = opening::open_database(&mut medium)?;
        let (store_id, revision) = opening::begin(&mut database, &medium)
            .map_err(|failure| failure.explain(&medium.name()))?;
        let feed = Arc::new(Feed::from(revision));
        Ok(Self { medium, database: Some(database), store_id, feed })
    }

    pub(super) fn store_id(&self) -> StoreId {
        self.store_id
    }

    pub(super) fn feed(&self) -> Arc<Feed> {
        Arc::clone(&self.feed)
    }

    pub(super) fn snapshot(&mut self) -> Result<Snapshot, Error> {
        let store_id = self.store_id;
        self.attempt(|database| read_snapshot(database, store_id))
    }

    pub(super) fn apply(
        &mut self,
        transaction: &[Write],
        prepared: &Prepared,
        epoch: u64,
    ) -> Result<Revision, Error> {
        // Outside of the attempt: a failed commit still has to say what it would have been.
        let mut staged = None;
        let done = self.attempt(|database| {
            let write = database.begin_write()?;
            let commit = stage(&write, transaction, prepared, epoch)?;
            let revision = commit.revision;
            staged = Some(commit);
            write.commit()?;
            Ok(revision)
        });
        match (done, staged) {
            (Ok(revision), Some(commit)) => {
                self.feed.push(commit);
                Ok(revision)
            }
            (Err(error), Some(commit)) => Err(self.settle(error, commit)),
            (done, None) => done,
        }
    }

    /// A commit failed: opens the file anew, so that what comes next goes by what is there now.
    ///
    /// When the commit is there all the same, that is no proof that the disk has it: after an fsync
    /// that failed the kernel may hold pages for clean that it could not write, and read them back.
    /// A power cut would then take a write that was acknowledged. So its outcome is not known.
    fn settle(&mut self, error: Error, commit: Commit) -> Error {
        // The lock must go before the file is opened again.
        drop(self.database.take());
        let reopened = opening::open_database(&mut self.medium)
            .map(|database| (read_revision(&database), database));
        if let Ok((Ok(found), database)) = reopened {
            self.database = Some(database);
            if found != commit.revision {
                self.feed.resume(found);
                return error;
            }
            self.feed.push(commit);
        }
        Error::storage(error, "and whether the write happened is not known")
    }

    /// Begins a term; its epoch is greater than that of any before. It follows the clock, in
    /// seconds, so that it also goes up when an old copy of the file is restored.
    pub(super) fn begin_term(&mut self) -> Result<u64, Error> {
        let clock = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
        self.attempt(|database| {
            let write = database.begin_write()?;
            let epoch = {
                let mut numbers = write.open_table(NUMBERS)?;
                let before = number(&numbers, "epoch")?;
                let epoch = (before + 1).max(clock);
                numbers.insert("epoch", epoch)?;
                epoch
            };
            write.commit()?;
            Ok(epoch)
        })
    }

    /// Ends the term of `epoch`, if it is the current one.
    pub(super) fn end_term(&mut self, epoch: u64) -> Result<(), Error> {
        self.attempt(|database| {
            let write = database.begin_write()?;
            {
                let mut numbers = write.open_table(NUMBERS)?;
                check_epoch(&numbers, epoch)?;
                numbers.insert("epoch", epoch + 1)?;
            }
            Ok(write.commit()?)
        })
    }

    pub(super) fn renew_store_id(&mut self, epoch: u64) -> Result<StoreId, Error> {
        let renewed = StoreId::draw();

        let generation = self.attempt(|database| {
            let write = database.begin_write()?;
            let generation = {
                let numbers = write.open_table(NUMBERS)?;
                check_epoch(&numbers, epoch)?;
                write.open_table(TEXTS)?.insert("store_id", renewed.to_string().as_str())?;
                number(&numbers, "generation")?
            };
            write.commit()?;
            Ok(generation)
        })?;
        self.store_id = renewed;
        self.feed.renew();
        if let Medium::Path(path) = &self.medium {
            Lineage::of(path, renewed, generation)
                .and_then(|lineage| lineage.write(path))
                .map_err(|error| Error::storage(path.display(), error))?;
        }
        Ok(renewed)
    }

    fn attempt<T>(
        &mut self,
        operation: impl FnOnce(&Database) -> Result<T, Failure>,
    ) -> Result<T, Error> {
        let database = match self.database.take() {
            Some(database) => database,
            None => {
                let database = opening::open_database(&mut self.medium)?;
                let revision = read_revision(&database)
                    .map_err(|failure| failure.explain(&self.medium.name()))?;
                self.feed.resume(revision);
                tracing::warn!(revision, "registry opened again after an I/O error");
                database
            }
        };
        let result = operation(&database);
        // On a failed disk the handle is dropped here, which also lets go of the lock.
        if !matches!(&result, Err(failure) if failure.wants_reopening()) {
            self.database = Some(database);
        }
        result.map_err(|failure| failure.explain(&self.medium.name()))
    }
}

/// Checks and writes all of a transaction, short of committing it.
fn stage(
    write: &WriteTransaction,
    transaction: &[Write],
    prepared: &Prepared,
    epoch: u64,
) -> Result<Commit, Failure> {
    let mut numbers = write.open_table(NUMBERS)?;
    check_epoch(&numbers, epoch)?;
    let mut rows = write.open_table(ROWS)?;
    prepared.expected.check(|key| -> Result<Option<Revision>, Failure> {
        Ok(rows.get(key.to_string().as_str())?.map(|row| row.value().0))
    })?;
    let revision = number(&numbers, "revision")? + 1;
    numbers.insert("revision", revision)?;
    let mut changes = Vec::with_capacity(transaction.len());
    for (change, (key, row)) in transaction.iter().zip(&prepared.writes) {
        let before = match row {
            Some(row) => rows.insert(key.as_str(), (revision, row.as_slice()))?.is_some(),
            None => rows.remove(key.as_str())?.is_some(),
        };
        match change {
            Write::Put(row) => changes.push(Change::Put(row.clone())),
            Write::Remove(key) if before => changes.push(Change::Removed(key.clone())),
            Write::Remove(_) => {}
        }
    }
    Ok(Commit { revision, changes })
}

fn read_snapshot(database: &Database, store_id: StoreId) -> Result<Snapshot, Failure> {
    let read = database.begin_read()?;
    let revision = number(&read.open_table(NUMBERS)?, "revision")?;
    let mut snapshot = Snapshot::empty(store_id, revision);
    for entry in read.open_table(ROWS)?.iter()? {
        let (key, value) = entry?;
        let (version, bytes) = value.value();
        snapshot.put(version, encoding::decode(key.value(), bytes)?);
    }
    Ok(snapshot)
}

fn read_revision(database: &Database) -> Result<Revision, Failure> {
    number(&database.begin_read()?.open_table(NUMBERS)?, "revision")
}

fn check_epoch(numbers: &impl ReadableTable<&'static str, u64>, epoch: u64) -> Result<(), Failure> {
    match number(numbers, "epoch")? == epoch {
        true => Ok(()),
        false => Err(Error::Fenced { leader: None }.into()),
    }
}
