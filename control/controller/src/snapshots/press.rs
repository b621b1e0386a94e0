//! The press: from drafts to snapshots with the digest of their table.
//!
//! One task a pool. It takes the newest draft there is, builds the table on a thread that may be
//! busy for a while, and puts the snapshot on the board. Drafts that come meanwhile replace each
//! other, so a burst of changes costs as many builds as there is time for, and the last one is
//! always built.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use maglev::{Maglev, Member, Ring, Scheduler as _};
use proto::v1::{MaglevTable, PoolSnapshot, Scheduler};
use tokio::sync::{Semaphore, watch};
use tokio::time::sleep;

use super::board::Board;
use crate::http::Metrics;

/// Between two snapshots of a pool, at least.
const SPACING: Duration = Duration::from_millis(5);
/// Tables being built at a time.
const BUILDS: usize = 2;

/// A pool as it is to be told: a snapshot without version and table.
#[derive(Debug)]
pub(crate) struct Draft {
    /// Of two drafts of a pool the later has the greater.
    pub(crate) sequence: u64,
    /// With weights of 0 where a backend gets no new flows.
    pub(crate) snapshot: PoolSnapshot,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Press {
    board: Arc<Board>,
    builds: Arc<Semaphore>,
    metrics: Arc<Metrics>,
    pools: HashMap<String, watch::Sender<Option<Arc<Draft>>>>,
    /// Told when no version is left.
    exhausted: watch::Sender<bool>,
}

/// What a table is made of, and the table.
struct Built {
    members: Vec<(String, u32)>,
    scheduler: i32,
    size: u32,
    secret: [u8; 16],
    table: MaglevTable,
}

impl Press {
    pub(crate) fn new(board: Arc<Board>, metrics: Arc<Metrics>) -> Self {
        let builds = Arc::new(Semaphore::new(BUILDS));
        let exhausted = watch::Sender::new(false);
        Self { board, builds, metrics, pools: HashMap::new(), exhausted }
    }

    pub(crate) fn board(&self) -> Arc<Board> {
        Arc::clone(&self.board)
    }

    /// Turns true when the term has no version left.
    pub(crate) fn exhausted(&self) -> watch::Receiver<bool> {
        self.exhausted.subscribe()
    }

    /// Hands over a draft; it replaces one of its pool that waits.
    pub(crate) fn submit(&mut self, draft: Draft) {
        let id = draft.snapshot.pool_id.clone();
        let deleted = draft.snapshot.deleted;
        let sender = self.pools.entry(id.clone()).or_insert_with(|| {
            let (sender, drafts) = watch::channel(None);
            tokio::spawn(print(
                drafts,
                Arc::clone(&self.board),
                Arc::clone(&self.builds),
                Arc::clone(&self.metrics),
                self.exhausted.clone(),
            ));
            sender
        });
        sender.send_replace(Some(Arc::new(draft)));
        if deleted {
            // The task ends with its last draft. Should the pool come again before that, the
            // board keeps to the sequence.
            self.pools.remove(&id);
        }
    }
}

/// One pool, until its sender is gone.
async fn print(
    mut drafts: watch::Receiver<Option<Arc<Draft>>>,
    board: Arc<Board>,
    builds: Arc<Semaphore>,
    metrics: Arc<Metrics>,
    exhausted: watch::Sender<bool>,
) {
    let mut built: Option<Built> = None;
    let mut told: Option<PoolSnapshot> = None;
    while drafts.changed().await.is_ok() {
        let Some(draft) = drafts.borrow_and_update().clone() else { continue };
        let mut snapshot = draft.snapshot.clone();
        if !snapshot.deleted {
            if !built.as_ref().is_some_and(|built| built.serves(&snapshot)) {
                let Ok(_turn) = builds.acquire().await else { return };
                let source = Arc::clone(&draft);
                let start = Instant::now();
                let done = tokio::task::spawn_blocking(move || Built::of(&source.snapshot)).await;
                metrics.built(start.elapsed());
                built = done.ok();
            }
            snapshot.table = built.as_ref().map(|built| built.table.clone());
        }
        if told.as_ref() == Some(&snapshot) {
            continue;
        }
        told = Some(snapshot.clone());
        if !board.publish(draft.sequence, snapshot) {
            exhausted.send_replace(true);
            return;
        }
        sleep(SPACING).await;
    }
}

impl Built {
    /// Whether it is the table of `snapshot`.
    fn serves(&self, snapshot: &PoolSnapshot) -> bool {
        let Some(settings) = &snapshot.settings else { return false };
        self.scheduler == settings.scheduler
            && self.size == settings.table_size
            && self.secret.as_slice() == settings.hash_secret.as_slice()
            && self.members.iter().map(|(id, weight)| (id.as_str(), *weight)).eq(members(snapshot))
    }

    /// Exactly the table that a node builds: of the members with a weight, from ids and weights.
    fn of(snapshot: &PoolSnapshot) -> Self {
        let settings = snapshot.settings.clone().unwrap_or_default();
        let secret = <[u8; 16]>::try_from(settings.hash_secret.as_slice()).unwrap_or_default();
        let list: Vec<Member<'_>> = (0u32..)
            .zip(members(snapshot))
            .map(|(index, (id, weight))| Member { id, index, weight })
            .collect();
        let digest = if settings.scheduler == i32::from(Scheduler::Ring) {
            Ring::build(&list, secret).map(|ring| *ring.digest())
        } else {
            Maglev::build(&list, settings.table_size, secret).map(|table| *table.digest())
        };
        let digest = match digest {
            Ok(digest) => digest.as_bytes().to_vec(),
            Err(error) => {
                // Nodes refuse a table without a digest, keep the old one, and say so.
                tracing::error!(pool = snapshot.pool_id, %error, "no table can be built");
                Vec::new()
            }
        };
        Self {
            members: members(snapshot).map(|(id, weight)| (id.to_owned(), weight)).collect(),
            scheduler: settings.scheduler,
            size: settings.table_size,
            secret,
            table: MaglevTable { size: settings.table_size, slots: Vec::new(), digest },
        }
    }
}

fn members(snapshot: &PoolSnapshot) -> impl Iterator<Item = (&str, u32)> {
    let eligible = snapshot.backends.iter().filter(|backend| backend.weight > 0);
    eligible.map(|backend| (backend.backend_id.as_str(), backend.weight))
}
