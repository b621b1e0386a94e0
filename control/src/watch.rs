//! The node fed by a controller.
//!
//! ```text
//! controller ──WatchPool──▶ stream ──▶ feed: check, build, verify ──▶ node ──▶ workers
//!            ◀─ReportNode── report ◀── versions, digests, flows ─────┘
//!                                      cache ◀── feed (a thread of its own)
//! ```
//!
//! One thread with a runtime of its own, on the control thread's core and never a worker's: what
//! takes milliseconds delays neither packets nor the thread that steps and serves the node.
//!
//! The node is fail-static (SPEC section 6): without a controller it serves what it has, also
//! from the cache, stays ready, and says how old that is ([`Status`]).

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use client::Controllers;
use tokio::sync::{Notify, oneshot};

use crate::shared::SharedNode;

mod feed;
mod report;
mod status;
mod stream;

pub use feed::Feed;
pub use status::{STALE_AFTER, Status, View};

/// How long the end waits for the cache to be written.
const LAST_WRITE: Duration = Duration::from_secs(2);

/// What a watch needs to know.
#[derive(Debug)]
pub struct WatchOptions {
    /// Where the controllers are.
    pub controllers: Controllers,
    /// The node's name, unique in the fleet.
    pub node_id: String,
    /// The zone it stands in.
    pub zone: String,
    /// Where the cache is; `None`: there is none.
    pub state_dir: Option<PathBuf>,
    /// The core to run on; `None`: as the thread that starts it.
    pub core: Option<usize>,
}

/// A running watch; dropped, it ends, and what it has not saved yet is saved.
#[derive(Debug)]
pub struct Watch {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    status: Arc<Status>,
}

impl Watch {
    /// Loads the cache, so that the node has its pools when this returns, and begins to watch.
    ///
    /// # Errors
    /// When there is no thread or runtime to be had.
    pub fn start(node: SharedNode, status: Arc<Status>, options: WatchOptions) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let WatchOptions { controllers, node_id, zone, state_dir, core } = options;
        let mut feed = Feed::new(node.clone(), Arc::clone(&status));
        if let Some(folder) = state_dir {
            feed = feed.with_cache(folder);
        }
        let applied = Arc::new(Notify::new());
        let reporter = report::Reporter {
            node,
            status: Arc::clone(&status),
            controllers: controllers.clone(),
            node_id: node_id.clone(),
            zone,
            applied: Arc::clone(&applied),
        };
        let mut stream =
            stream::Stream { feed, status: Arc::clone(&status), controllers, node_id, applied };
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::Builder::new().name("watch".to_owned()).spawn(move || {
            if let Some(id) = core
                && !core_affinity::set_for_current(core_affinity::CoreId { id })
            {
                tracing::warn!(core = id, "watch is not bound to its core");
            }
            runtime.block_on(async {
                tokio::select! {
                    () = stream.run() => {}
                    () = reporter.run() => {}
                    _ = stopped => {}
                }
            });
            if let Some(cache) = stream.feed.cache()
                && !cache.flush(LAST_WRITE)
            {
                tracing::warn!("snapshot cache: the last change is not on disk");
            }
        })?;
        Ok(Self { stop: Some(stop), thread: Some(thread), status })
    }

    /// How it goes.
    pub fn status(&self) -> &Arc<Status> {
        &self.status
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        drop(self.stop.take());
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the watch ended abnormally");
        }
    }
}
