//! The registry of a controller that stands alone: one redb file.
//!
//! redb commits copy-on-write, with checksums and an fsync before a commit is reported, so the
//! file is whole after a crash at any instant. One thread owns the file and does one thing after
//! the other; callers wait for it with a timeout, and none of tokio's threads ever waits for a
//! disk. A caller that gives up before its turn comes has its job skipped.
//!
//! ```text
//! apply, snapshot ──jobs──▶ thread "registry" (File) ──commit──▶ Feed ──▶ watches
//! ```

mod creating;
mod failure;
mod feed;
mod file;
mod lineage;
mod opening;

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use async_trait::async_trait;
pub use redb::StorageBackend;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

use crate::election::{Campaign, Candidate, Election, Fence, Leader, Leadership};
use crate::error::Error;
use crate::snapshot::Snapshot;
use crate::transaction::{Preconditions, Prepared, Write};
use crate::watch::Watch;
use crate::{Registry, Revision, StoreId};

use feed::Feed;
pub(crate) use feed::FeedReader;
use file::File;
use opening::Medium;

/// Jobs that wait for the thread; more wait outside, within their timeout.
const QUEUE: usize = 64;

/// Where the file is, and how long to wait for it.
#[derive(Clone, Debug)]
pub struct RedbSettings {
    /// The file; made if it is not there, readable by its owner only.
    pub path: PathBuf,
    /// Bound of every call.
    pub timeout: Duration,
}

/// A registry in one file. Closed, and unlocked, when it is dropped.
pub struct RedbStore {
    name: String,
    store_id: Mutex<StoreId>,
    timeout: Duration,
    feed: Arc<Feed>,
    office: Mutex<Option<Office>>,
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<thread::JoinHandle<()>>,
}

type Job = Box<dyn FnOnce(&mut File) + Send>;

/// The term that has begun last.
#[derive(Debug)]
struct Office {
    leader: Leader,
    lost: Arc<watch::Sender<bool>>,
}

impl RedbSettings {
    /// The defaults: 5 s.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), timeout: Duration::from_secs(5) }
    }
}

impl RedbStore {
    /// Opens the file, or makes it.
    ///
    /// # Errors
    /// [`Error::Locked`] when another process has it open, [`Error::Corrupt`],
    /// [`Error::NewerFormat`], [`Error::Storage`] when the disk refuses, [`Error::Timeout`].
    pub async fn open(settings: RedbSettings) -> Result<Self, Error> {
        Self::start(Medium::Path(settings.path), settings.timeout).await
    }

    /// A registry on another medium than a file: memory, or a disk with faults under test. `open`
    /// is called now, and after every I/O error. There is no lock, and a copy put in its place goes
    /// unnoticed.
    ///
    /// # Errors
    /// As [`RedbStore::open`].
    pub async fn on_backend<B: StorageBackend>(
        open: impl FnMut() -> B + Send + 'static,
        timeout: Duration,
    ) -> Result<Self, Error> {
        Self::start(Medium::backend(open), timeout).await
    }

    async fn start(medium: Medium, limit: Duration) -> Result<Self, Error> {
        let (jobs, mut queue) = mpsc::channel::<Job>(QUEUE);
        let (opened, answer) = oneshot::channel();
        let name = medium.name();
        let thread = thread::Builder::new()
            // In full, since a panic names its thread.
            .name(format!("registry {name}").replace('\0', ""))
            .spawn(move || {
                let mut file = match File::open(medium) {
                    Ok(file) => file,
                    Err(error) => return drop(opened.send(Err(error))),
                };
                if opened.send(Ok((file.store_id(), file.feed()))).is_err() {
                    return;
                }
                while let Some(job) = queue.blocking_recv() {
                    job(&mut file);
                }
            })
            .map_err(|error| Error::storage("a thread for the registry", error))?;
        let opened = match timeout(limit, answer).await {
            Ok(opened) => opened.map_err(|_| gave_up(&name))?,
            Err(_) => return Err(late("open", limit)),
        };
        let (store_id, feed) = opened?;
        Ok(Self {
            name,
            store_id: Mutex::new(store_id),
            timeout: limit,
            feed,
            office: Mutex::new(None),
            jobs: Some(jobs),
            thread: Some(thread),
        })
    }

    async fn call<T: Send + 'static>(
        &self,
        what: &'static str,
        job: impl FnOnce(&mut File) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let jobs = self.jobs.as_ref().ok_or(Error::Closed)?;
        let (reply, answer) = oneshot::channel();
        let job: Job = Box::new(move |file| {
            if !reply.is_closed() {
                drop(reply.send(job(file)));
            }
        });
        let whole = async {
            jobs.send(job).await.map_err(|_| Error::Closed)?;
            answer.await.map_err(|_| gave_up(&self.name))?
        };
        match timeout(self.timeout, whole).await {
            Ok(result) => result,
            Err(_) => Err(late(what, self.timeout)),
        }
    }

    fn office(&self) -> std::sync::MutexGuard<'_, Option<Office>> {
        self.office.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The error that says who leads instead.
    fn name_leader(&self, error: Error, fence: &Fence) -> Error {
        match error {
            Error::Fenced { .. } => {
                let office = self.office();
                let other = office.as_ref().filter(|office| office.leader.epoch != fence.epoch());
                Error::Fenced { leader: other.map(|office| office.leader.address.clone()) }
            }
            other => other,
        }
    }
}

fn late(what: &'static str, after: Duration) -> Error {
    Error::Timeout { what, after, last: String::new() }
}

/// redb panics on some damage that it meets at opening, before checksums are checked. Where panics
/// unwind, the thread is gone and the caller is told this; else the process ends, with the file's
/// name in the panic.
fn gave_up(name: &str) -> Error {
    Error::corrupt(name, "redb could not read it and gave up")
}

#[async_trait]
impl Registry for RedbStore {
    fn store_id(&self) -> StoreId {
        *self.store_id.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn snapshot(&self) -> Result<Snapshot, Error> {
        self.call("snapshot", File::snapshot).await
    }

    async fn apply(
        &self,
        transaction: Vec<Write>,
        expected: Preconditions,
        fence: &Fence,
    ) -> Result<Revision, Error> {
        let prepared = Prepared::new(&transaction, expected)?;
        let epoch = fence.epoch();
        self.call("apply", move |file| file.apply(&transaction, &prepared, epoch))
            .await
            .map_err(|error| self.name_leader(error, fence))
    }

    fn watch(&self, from: Revision) -> Watch {
        Watch::of_feed(self.feed.reader(from))
    }

    async fn compact(&self, until: Revision) -> Result<(), Error> {
        self.feed.compact(until)
    }

    async fn renew_store_id(&self, fence: &Fence) -> Result<StoreId, Error> {
        let epoch = fence.epoch();
        let renewed = self
            .call("renew_store_id", move |file| file.renew_store_id(epoch))
            .await
            .map_err(|error| self.name_leader(error, fence))?;
        *self.store_id.lock().unwrap_or_else(PoisonError::into_inner) = renewed;
        Ok(renewed)
    }

    async fn adopt_store(&self) -> Result<StoreId, Error> {
        Ok(self.store_id())
    }
}

/// Whoever holds the file leads: every campaign wins, and ends the term before it. The epoch is
/// in the file, so that terms of different runs of the program differ too.
#[async_trait]
impl Election for RedbStore {
    async fn campaign(&self, candidate: Candidate, _patience: Duration) -> Result<Campaign, Error> {
        let epoch = self.call("campaign", File::begin_term).await?;
        let (lost, told) = watch::channel(false);
        let lost = Arc::new(lost);
        let leader = Leader { id: candidate.id, address: candidate.address, epoch };
        let office = Office { leader, lost: Arc::clone(&lost) };
        if let Some(before) = self.office().replace(office) {
            before.lost.send_replace(true);
        }
        // Weak: a term must not keep the file open.
        let jobs = self.jobs.as_ref().ok_or(Error::Closed)?.downgrade();
        let limit = self.timeout;
        let resign = Box::pin(async move {
            lost.send_replace(true);
            // Another epoch: what is still on its way with this one is refused from here on.
            if let Some(jobs) = jobs.upgrade() {
                let (done, ended) = oneshot::channel();
                let job: Job = Box::new(move |file| drop(done.send(file.end_term(epoch))));
                drop(timeout(limit, async { (jobs.send(job).await.is_ok(), ended.await) }).await);
            }
        });
        Ok(Campaign::Elected(Leadership::new(Fence::new(epoch), told, resign)))
    }

    async fn leader(&self) -> Result<Option<Leader>, Error> {
        let office = self.office();
        let current = office.as_ref().filter(|office| !*office.lost.borrow());
        Ok(current.map(|office| office.leader.clone()))
    }
}

impl fmt::Debug for RedbStore {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("RedbStore")
            .field("store_id", &self.store_id)
            .finish_non_exhaustive()
    }
}

impl Drop for RedbStore {
    /// Waits for the job under way, an fsync at most, so that the file is free when this returns.
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}
