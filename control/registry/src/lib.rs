//! What the controller must never forget: pools, backends and VIP bindings.
//!
//! One trait, [`Registry`], and two stores behind it: [`RedbStore`], one crash-safe file for a
//! controller that stands alone, and [`EtcdStore`] for several that elect a leader among them
//! ([`Election`]). The controller keeps a [`Snapshot`] in memory and changes it with
//! [`Registry::apply`]. [`Registry::watch`] tells of changes as they happen; a leader, whose writes
//! are the only ones of its term, does not need it.
//!
//! What holds for both stores, and is tested on both by one suite:
//!
//! * A transaction is all or nothing, and what was acknowledged is on disk (of a quorum).
//! * A transaction happens only while its [`Fence`] stands: of two leaders that each think they
//!   lead, one cannot write.
//! * A watch shows every transaction once, whole and in order, or says [`Observed::Gap`].
//! * Every call ends within the store's timeout. A write that timed out may have happened or
//!   may still happen, until the next write succeeds; it never happens after that.
//!
//! In the order of the data: [`rows`] and their [`Key`]s, the transactions of this file, then
//! `embedded/` and `etcd/`.

#![forbid(unsafe_code)]

mod election;
mod embedded;
mod encoding;
mod error;
mod etcd;
mod hex;
mod key;
pub mod rows;
mod snapshot;
mod transaction;
mod watch;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::fmt;
use uuid::Uuid;

pub use crate::election::{Campaign, Candidate, Election, Fence, Leader, Leadership, Lost};
pub use crate::embedded::{RedbSettings, RedbStore, StorageBackend};
pub use crate::encoding::FORMAT;
pub use crate::error::{Error, Status};
pub use crate::etcd::{EtcdSettings, EtcdStore, Password, TlsSettings};
pub use crate::key::{Key, VipKey};
pub use crate::rows::Row;
pub use crate::snapshot::{Snapshot, Versioned};
pub use crate::transaction::{Expect, MAX_BYTES, MAX_WRITES, Preconditions, Write};
pub use crate::watch::{Change, Commit, GapReason, Observed, Watch};

/// Counts the transactions of one store; only goes up, by one or more. etcd's own revision, or a
/// counter in the file. Starts anew in another store: see [`StoreId`].
pub type Revision = u64;

/// Names a store for as long as its revisions count on. A restored or replaced store has another,
/// so that nobody compares revisions of two lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StoreId(Uuid);

impl StoreId {
    pub(crate) fn draw() -> Self {
        Self(Uuid::new_v4())
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        Uuid::parse_str(text).ok().map(Self)
    }
}

impl fmt::Display for StoreId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// A store of rows. Shared as `Arc<dyn Registry>`.
#[async_trait]
pub trait Registry: Send + Sync + fmt::Debug {
    /// The store that this handle opened, or last adopted.
    fn store_id(&self) -> StoreId;

    /// All rows as of one revision, which holds every transaction acknowledged before the call.
    ///
    /// # Errors
    /// [`Error::Timeout`], [`Error::StoreReplaced`], [`Error::Corrupt`] for a row that cannot be
    /// read, [`Error::NewerFormat`] for one that a newer release wrote.
    async fn snapshot(&self) -> Result<Snapshot, Error>;

    /// Does all of `transaction` in one step, if everything in `expected` holds and `fence`
    /// still stands; else nothing. Returns its revision, which is also the version of each row
    /// it put. At most [`MAX_WRITES`] writes and [`MAX_BYTES`] bytes, each key once.
    ///
    /// # Errors
    /// Nothing was written: [`Error::Fenced`] (checked before the preconditions),
    /// [`Error::NotFound`], [`Error::AlreadyExists`] and [`Error::Conflict`] by precondition,
    /// [`Error::Invalid`], [`Error::StoreReplaced`]. Not known: [`Error::Timeout`], and
    /// [`Error::Storage`] where it says so.
    async fn apply(
        &self,
        transaction: Vec<Write>,
        expected: Preconditions,
        fence: &Fence,
    ) -> Result<Revision, Error>;

    /// Every transaction after `from`, usually [`Snapshot::revision`]. Needs a tokio runtime;
    /// connects, and reconnects, by itself.
    fn watch(&self, from: Revision) -> Watch;

    /// Forgets what a watch could tell of transactions up to and including `until`. Leaders call
    /// it now and then; etcd's history grows without bound otherwise. Rows stay. In etcd this
    /// discards the history of all that is in it; with [`EtcdSettings::compact`] off it does nothing.
    ///
    /// # Errors
    /// [`Error::Timeout`], [`Error::Invalid`] for a revision not reached yet.
    async fn compact(&self, until: Revision) -> Result<(), Error>;

    /// Gives the store another id: after it was restored from a backup in a way that it cannot
    /// notice by itself (etcd, with members and token as before). Every watch ends in a gap; other
    /// handles answer [`Error::StoreReplaced`] until they adopt it.
    ///
    /// # Errors
    /// As for [`Registry::apply`].
    async fn renew_store_id(&self, fence: &Fence) -> Result<StoreId, Error>;

    /// Accepts the store found behind this handle after [`Error::StoreReplaced`], empty or not.
    /// It is a call of its own because the rows may all be gone, which someone has to want.
    ///
    /// # Errors
    /// [`Error::Timeout`].
    async fn adopt_store(&self) -> Result<StoreId, Error>;
}
