//! The thread that writes the cache: whoever has something to save never waits for the disk.
//!
//! It is handed whole sets and keeps the newest only. A disk that is slow or full costs a metric
//! and a line in `/readyz`, and is tried again; the node serves on.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use proto::v1;

use super::{encode, store};

/// Pause before a set that was not written is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// How it goes with the cache.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CacheState {
    /// Sets written.
    pub written: u64,
    /// Attempts that failed.
    pub failed: u64,
    /// Why the last attempt failed; `None` once one succeeded.
    pub error: Option<String>,
    /// Unix nanoseconds of the set that is on disk; 0: none of this run.
    pub saved_at_ns: u64,
}

/// Writes sets in the background. Dropped, it writes what it has been handed, once, and ends.
#[derive(Debug)]
pub struct Writer {
    desk: Arc<Desk>,
}

#[derive(Debug, Default)]
struct Desk {
    papers: Mutex<Papers>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Papers {
    next: Option<Vec<v1::PoolSnapshot>>,
    writing: bool,
    closed: bool,
    state: CacheState,
}

impl Writer {
    /// A writer for a state folder, which is made when it is not there.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(folder: PathBuf) -> io::Result<Self> {
        let desk = Arc::new(Desk::default());
        let own = Arc::clone(&desk);
        thread::Builder::new()
            .name("snapshot-cache".to_owned())
            .spawn(move || own.write(folder))?;
        Ok(Self { desk })
    }

    /// Hands over a set; it replaces one that is not written yet.
    pub fn save(&self, messages: Vec<v1::PoolSnapshot>) {
        self.desk.lock().next = Some(messages);
        self.desk.changed.notify_all();
    }

    /// How it goes.
    pub fn state(&self) -> CacheState {
        self.desk.lock().state.clone()
    }

    /// Waits until everything handed over is on disk, or `patience` is over; whether it is.
    pub fn flush(&self, patience: Duration) -> bool {
        let end = Instant::now() + patience;
        let mut papers = self.desk.lock();
        while papers.writing || papers.next.is_some() {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let waited = self.desk.changed.wait_timeout(papers, left);
            papers = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.desk.lock().closed = true;
        self.desk.changed.notify_all();
    }
}

impl Desk {
    fn lock(&self) -> MutexGuard<'_, Papers> {
        self.papers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, folder: PathBuf) {
        while let Some(messages) = self.take() {
            let saved_at_ns = SystemTime::now().duration_since(UNIX_EPOCH);
            let saved_at_ns = saved_at_ns.map_or(0, |since| since.as_nanos() as u64);
            let result = store(&folder, &encode(&messages, saved_at_ns));
            let mut papers = self.lock();
            papers.writing = false;
            match result {
                Ok(()) => {
                    papers.state.written += 1;
                    papers.state.error = None;
                    papers.state.saved_at_ns = saved_at_ns;
                }
                Err(error) => {
                    papers.state.failed += 1;
                    let first = papers.state.error.is_none();
                    papers.state.error = Some(error.to_string());
                    // Unless there is a newer one by now, this one is tried again.
                    papers.next.get_or_insert(messages);
                    if first {
                        let folder = folder.display();
                        tracing::warn!(%folder, %error, "snapshot cache: not written");
                    }
                    if papers.closed {
                        return;
                    }
                    self.pause(papers);
                    continue;
                }
            }
            drop(papers);
            self.changed.notify_all();
        }
    }

    /// Waits for work; `None` when there is none and there will be none.
    fn take(&self) -> Option<Vec<v1::PoolSnapshot>> {
        let mut papers = self.lock();
        loop {
            if let Some(messages) = papers.next.take() {
                papers.writing = true;
                return Some(messages);
            }
            if papers.closed {
                return None;
            }
            papers = self.changed.wait(papers).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn pause(&self, mut papers: MutexGuard<'_, Papers>) {
        let end = Instant::now() + RETRY;
        while !papers.closed {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let waited = self.changed.wait_timeout(papers, left);
            papers = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
