//! Watching etcd: every transaction once, whole and in order, over any number of connections.
//!
//! etcd sends all events of a revision in one message, in order of revisions, and resumes at any
//! revision it still has. So the cursor is the last revision passed on, and a new connection asks
//! for the one after it. A member that is cut off or hangs says nothing to a watch; calls notice,
//! and when they leave it for another, watches do so too. What cannot be resumed is told as a gap: history compacted away, a store
//! that is another, a row that cannot be read.

use std::sync::Arc;

use etcd_client::{Event, EventType, GetOptions, WatchOptions, WatchResponse, WatchStream};
use tokio::sync::mpsc::Sender;
use tokio::time::{sleep, timeout};

use super::calls::{Backoff, Trouble};
use super::{Inner, signed, unsigned};
use crate::Revision;
use crate::encoding;
use crate::error::Error;
use crate::watch::{Change, Commit, GapReason, Observed};

/// Why one connection's watching ended.
enum End {
    /// Nobody listens any more.
    Unwanted,
    Gap(GapReason),
    /// To be resumed.
    Broken(String),
}

pub(super) async fn follow(inner: Arc<Inner>, from: Revision, sender: Sender<Observed>) {
    let mut cursor = from;
    let mut backoff = Backoff::new();
    loop {
        let before = cursor;
        match inner.watch_once(&mut cursor, &sender).await {
            End::Unwanted => return,
            End::Gap(reason) => return drop(sender.send(Observed::Gap(reason)).await),
            End::Broken(why) => tracing::info!(why, cursor, "watch of etcd broken, resuming"),
        }
        if cursor != before {
            backoff = Backoff::new();
        }
        tokio::select! {
            () = sender.closed() => return,
            () = sleep(backoff.pause()) => {}
        }
    }
}

impl Inner {
    async fn watch_once(&self, cursor: &mut Revision, sender: &Sender<Observed>) -> End {
        let mut left = self.calls.endpoint_left();
        let mut stream = match self.begin_watch(*cursor).await {
            Ok(stream) => stream,
            Err(Trouble::Again(why)) => return End::Broken(why),
            Err(Trouble::Fatal(Error::StoreReplaced)) => {
                return End::Gap(GapReason::StoreReplaced);
            }
            Err(Trouble::Fatal(error)) => return End::Broken(error.to_string()),
        };
        loop {
            let message = tokio::select! {
                () = sender.closed() => return End::Unwanted,
                _ = left.changed() => return End::Broken("its member does not answer calls".into()),
                message = stream.message() => message,
            };
            let response = match message {
                Ok(Some(response)) => response,
                Ok(None) => return End::Broken("etcd closed the stream".into()),
                Err(error) => return End::Broken(error.to_string()),
            };
            if let Some(end) = self.pass_on(&response, cursor, sender).await {
                return end;
            }
        }
    }

    /// Opens the stream, and makes sure that it is one of the store known.
    async fn begin_watch(&self, cursor: Revision) -> Result<WatchStream, Trouble> {
        let identity = self.identity();
        let patience = self.calls.patience();
        // On its own clock: the stream must outlive the attempt that opens it.
        self.calls
            .once(patience * 2, |mut link| async move {
                let options = WatchOptions::new()
                    .with_prefix()
                    .with_start_revision(signed(cursor + 1))
                    .with_progress_notify();
                let open = link.watch.watch(self.keys.prefix.as_str(), Some(options));
                let stream = timeout(patience, open)
                    .await
                    .map_err(|_| Trouble::Again("no watch within the time".into()))??;
                // A watch from beyond the end would wait there in silence. A member may only be
                // behind, so ask a quorum; and the store's key shows a restored one.
                let limit = GetOptions::new();
                let now = link.kv.get(self.keys.store.as_str(), Some(limit)).await?;
                let revision = link.check(now.header(), Some(&identity))?;
                let same = now.kvs().first().is_some_and(|pair| pair.value() == identity.stored);
                match same && revision >= cursor {
                    true => Ok(stream),
                    false => Err(Error::StoreReplaced.into()),
                }
            })
            .await
    }

    async fn pass_on(
        &self,
        response: &WatchResponse,
        cursor: &mut Revision,
        sender: &Sender<Observed>,
    ) -> Option<End> {
        if response.compact_revision() > 0 {
            return Some(End::Gap(GapReason::Compacted));
        }
        if response.canceled() {
            return Some(End::Broken(response.cancel_reason().to_owned()));
        }
        for events in response.events().chunk_by(|a, b| revision(a) == revision(b)) {
            let commit = match self.commit(events) {
                Ok(commit) => commit,
                Err(reason) => return Some(End::Gap(reason)),
            };
            let revision = commit.revision;
            if !commit.changes.is_empty()
                && sender.send(Observed::Commit(Arc::new(commit))).await.is_err()
            {
                return Some(End::Unwanted);
            }
            *cursor = revision;
        }
        // A sign of progress: nothing happened to our keys up to there.
        if response.events().is_empty()
            && !response.created()
            && let Some(header) = response.header()
        {
            *cursor = (*cursor).max(unsigned(header.revision()));
        }
        None
    }

    /// The rows' changes among the events of one revision.
    fn commit(&self, events: &[Event]) -> Result<Commit, GapReason> {
        let mut changes = Vec::with_capacity(events.len());
        for event in events {
            let Some(pair) = event.kv() else { continue };
            if pair.key() == self.keys.store.as_bytes() {
                return Err(GapReason::StoreReplaced);
            }
            let Some(key) = self.keys.row(pair.key()) else { continue };
            let change = match event.event_type() {
                EventType::Put => {
                    encoding::decode(&String::from_utf8_lossy(key), pair.value()).map(Change::Put)
                }
                EventType::Delete => encoding::decode_key(key).map(Change::Removed),
            };
            changes.push(change.map_err(|error| GapReason::Unreadable(error.to_string()))?);
        }
        let revision = events.first().map_or(0, revision);
        Ok(Commit { revision: unsigned(revision), changes })
    }
}

fn revision(event: &Event) -> i64 {
    event.kv().map_or(0, etcd_client::KeyValue::mod_revision)
}
