//! What a watcher is told: transactions, whole and in order, or that it missed some.

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::Revision;
use crate::embedded::FeedReader;
use crate::key::Key;
use crate::rows::Row;

/// One transaction, as a watcher sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct Commit {
    /// Of the transaction.
    pub revision: Revision,
    /// What it put and removed; each key once, in no order. Never empty.
    pub changes: Vec<Change>,
}

/// What a transaction did to one row.
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all are rows, and few are held at a time: a box would be one allocation more for each"
)]
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// Inserted or replaced; its version is the commit's revision.
    Put(Row),
    /// Removed; it was there.
    Removed(Key),
}

/// What a watch says next.
#[derive(Clone, Debug, PartialEq)]
pub enum Observed {
    /// The next transaction.
    Commit(Arc<Commit>),
    /// Transactions were missed and cannot be had any more: read a snapshot and watch from its
    /// revision. The last word of this watch.
    Gap(GapReason),
}

/// Why a watch cannot go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GapReason {
    /// The watcher asked for what the store has forgotten, or read too slowly.
    Compacted,
    /// The store is another than before.
    StoreReplaced,
    /// A change cannot be read, for this reason; a snapshot will say the same.
    Unreadable(String),
    /// The store was closed.
    Closed,
}

/// The transactions of a store, one after another. Dropping it ends the watch.
#[derive(Debug)]
pub struct Watch {
    source: Source,
}

#[derive(Debug)]
enum Source {
    Feed(FeedReader),
    Channel(mpsc::Receiver<Observed>),
    Over,
}

impl Watch {
    /// The next transaction, however long it takes; `None` after a gap. Cancel safe: when the
    /// future is dropped nothing is lost.
    pub async fn next(&mut self) -> Option<Observed> {
        let observed = match &mut self.source {
            Source::Feed(reader) => reader.next().await,
            Source::Channel(receiver) => {
                receiver.recv().await.unwrap_or(Observed::Gap(GapReason::Closed))
            }
            Source::Over => return None,
        };
        if matches!(observed, Observed::Gap(_)) {
            self.source = Source::Over;
        }
        Some(observed)
    }

    pub(crate) fn of_feed(reader: FeedReader) -> Self {
        Self { source: Source::Feed(reader) }
    }

    pub(crate) fn of_channel(receiver: mpsc::Receiver<Observed>) -> Self {
        Self { source: Source::Channel(receiver) }
    }
}
