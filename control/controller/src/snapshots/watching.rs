//! One node's stream of snapshots.

use std::collections::BTreeMap;
use std::sync::Arc;

use proto::v1::{PoolSnapshot, WatchPoolReq};
use tonic::Status;

use super::board::{Board, Next};
use crate::http::Metrics;
use crate::office::not_found;
use crate::stream::{Answers, Reply, fed};

/// What a stream is for.
struct Watcher {
    board: Arc<Board>,
    /// Empty: all pools.
    only: String,
    /// Snapshots are shown with their secrets.
    secrets: bool,
    known: BTreeMap<String, u64>,
    answers: Answers<PoolSnapshot>,
}

/// Sends what the node does not have, the marker, and from then on what changes.
///
/// # Errors
/// NOT_FOUND for a pool that neither is nor was known to the node; UNAVAILABLE for a node whose
/// versions are newer than any there are, to which nothing said here would be news.
pub(crate) fn watch_pool(
    board: Arc<Board>,
    request: WatchPoolReq,
    secrets: bool,
    metrics: Arc<Metrics>,
) -> Result<Reply<PoolSnapshot>, Status> {
    let WatchPoolReq { pool_id: only, store_id, versions, .. } = request;
    let known: BTreeMap<String, u64> = match store_id == board.store_id() {
        true => {
            if let Some((pool, version)) = versions.iter().find(|(_, v)| !board.may_have_given(**v))
            {
                return Err(Status::unavailable(format!(
                    "versions: version {version} of pool \"{pool}\" is newer than this term: another \
                     controller leads, or the registry was restored from a backup and has to be \
                     told so"
                )));
            }
            versions.into_iter().collect()
        }
        // Versions of another store say nothing. That pools are gone they do say.
        false => versions.into_keys().map(|pool| (pool, 0)).collect(),
    };
    if !only.is_empty() && !known.contains_key(&only) && board.snapshot(&only).is_none() {
        return Err(not_found("pool_id", format!("pool \"{only}\"")));
    }
    Ok(fed(1, |answers| async move {
        let gone = answers.clone();
        let watcher = Watcher { board, only, secrets, known, answers };
        metrics.watching(true);
        tokio::select! {
            () = watcher.run() => {}
            () = gone.closed() => {}
        }
        metrics.watching(false);
    }))
}

impl Watcher {
    async fn run(self) {
        let mut news = self.board.news();
        let mut at = self.board.floor();
        let mut initial = true;
        loop {
            match self.board.after(at) {
                Next::Snapshot(snapshot) => {
                    at = snapshot.version;
                    // A node that begins needs no marks of pools it never had.
                    let news = !(initial && snapshot.deleted && !self.knows(&snapshot));
                    if news && self.wants(&snapshot) && !self.send(&snapshot).await {
                        return;
                    }
                }
                Next::Current if initial => {
                    initial = false;
                    if !self.complete().await {
                        return;
                    }
                }
                Next::Current => {
                    if news.changed().await.is_err() {
                        return;
                    }
                }
                Next::TooFarBehind => {
                    let status = Status::unavailable("fell too far behind: watch again");
                    drop(self.answers.send(Err(status)).await);
                    return;
                }
            }
            // Not waited for again: the board has been looked at since.
            news.borrow_and_update();
        }
    }

    fn wants(&self, snapshot: &PoolSnapshot) -> bool {
        let here = self.only.is_empty() || self.only == snapshot.pool_id;
        let known = self.known.get(&snapshot.pool_id).copied();
        here && known.is_none_or(|known| known < snapshot.version)
    }

    fn knows(&self, snapshot: &PoolSnapshot) -> bool {
        self.known.contains_key(&snapshot.pool_id)
    }

    async fn send(&self, snapshot: &PoolSnapshot) -> bool {
        let mut snapshot = snapshot.clone();
        if !self.secrets
            && let Some(settings) = &mut snapshot.settings
        {
            settings.clear_secrets();
        }
        self.answers.send(Ok(snapshot)).await.is_ok()
    }

    /// Pools that the node has and that are gone, then the marker.
    async fn complete(&self) -> bool {
        let mark = || PoolSnapshot {
            store_id: self.board.store_id().to_owned(),
            ..PoolSnapshot::default()
        };
        for pool in self.known.keys() {
            let here = self.only.is_empty() || self.only == *pool;
            if !here || self.board.snapshot(pool).is_some() {
                continue;
            }
            let Some(version) = self.board.draw() else { return false };
            let gone = PoolSnapshot { pool_id: pool.clone(), version, deleted: true, ..mark() };
            if self.answers.send(Ok(gone)).await.is_err() {
                return false;
            }
        }
        let complete = PoolSnapshot { initial_set_complete: true, ..mark() };
        self.answers.send(Ok(complete)).await.is_ok()
    }
}
