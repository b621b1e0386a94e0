//! The registry of several controllers: rows in etcd, shared by all and written by the leader.
//!
//! ```text
//! PREFIX rows/pool/web ...   encoded rows; a row's version is its key's mod revision
//! PREFIX leader              who leads, under a lease; its create revision is the term's epoch
//! PREFIX sequence            token of the last transaction, which makes each happen once
//! PREFIX store               the store's id, and the cluster it was drawn in
//! ```
//!
//! etcd does the consensus; here is only how to talk to it: [`calls`] tries one endpoint after
//! another within a deadline, [`transacting`] makes a transaction happen at most once although it
//! is tried again, [`watching`] resumes by revision, [`leading`] holds the lease.

mod calls;
mod identity;
mod leading;
mod settings;
mod transacting;
mod watching;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use etcd_client::GetOptions;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::election::{Campaign, Candidate, Election, Fence, Leader};
use crate::encoding;
use crate::error::Error;
use crate::snapshot::Snapshot;
use crate::transaction::{Preconditions, Prepared, Write};
use crate::watch::Watch;
use crate::{Registry, Revision, StoreId};

use calls::{Calls, Trouble};
use identity::Identity;
pub use settings::{EtcdSettings, Password, TlsSettings};

/// Transactions that wait for a slow watcher here; more wait in etcd.
const WATCH_BUFFER: usize = 256;

/// A registry in etcd.
pub struct EtcdStore {
    inner: Arc<Inner>,
}

/// What tasks share with the handle.
struct Inner {
    calls: Calls,
    keys: Keys,
    lease_ttl: Duration,
    compacts: bool,
    identity: Mutex<Identity>,
    /// Whoever holds it may write; the mod revision of the sequence key as last seen.
    turn: tokio::sync::Mutex<i64>,
}

/// Where everything is.
struct Keys {
    prefix: String,
    rows: String,
    leader: String,
    sequence: String,
    store: String,
}

impl EtcdStore {
    /// Connects, and gives the store an id if it has none or was restored into another cluster.
    ///
    /// # Errors
    /// [`Error::Invalid`] for settings that cannot be, [`Error::Timeout`] when no endpoint with a
    /// quorum answers, [`Error::NewerFormat`], [`Error::Storage`] when etcd refuses.
    pub async fn connect(settings: EtcdSettings) -> Result<Self, Error> {
        let keys = Keys::under(&settings.prefix);
        let EtcdSettings { lease_ttl, compact: compacts, .. } = settings;
        let calls = Calls::new(settings)?;
        let identity = identity::find_or_draw(&calls, &keys, None).await?;
        let inner = Inner {
            calls,
            keys,
            lease_ttl,
            compacts,
            identity: Mutex::new(identity),
            turn: tokio::sync::Mutex::new(0),
        };
        Ok(Self { inner: Arc::new(inner) })
    }
}

impl Inner {
    fn identity(&self) -> Identity {
        self.identity.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_identity(&self, identity: Identity) {
        *self.identity.lock().unwrap_or_else(PoisonError::into_inner) = identity;
    }

    async fn snapshot(&self) -> Result<Snapshot, Error> {
        let identity = self.identity();
        let prefix = &self.keys.prefix;
        self.calls
            .until_done("snapshot", self.calls.deadline(), |mut link| {
                let identity = &identity;
                async move {
                    let options = Some(GetOptions::new().with_prefix());
                    let found = link.kv.get(prefix.as_str(), options).await?;
                    let revision = link.check(found.header(), Some(identity))?;
                    let mut snapshot = Snapshot::empty(identity.store_id, revision);
                    let mut known = false;
                    for pair in found.kvs() {
                        if pair.key() == self.keys.store.as_bytes() {
                            known = pair.value() == identity.stored;
                        } else if let Some(key) = self.keys.row(pair.key()) {
                            let key = String::from_utf8_lossy(key);
                            let row = encoding::decode(&key, pair.value())?;
                            snapshot.put(unsigned(pair.mod_revision()), row);
                        }
                    }
                    if known { Ok(snapshot) } else { Err(Error::StoreReplaced.into()) }
                }
            })
            .await
    }
}

#[async_trait]
impl Registry for EtcdStore {
    fn store_id(&self) -> StoreId {
        self.inner.identity().store_id
    }

    async fn snapshot(&self) -> Result<Snapshot, Error> {
        self.inner.snapshot().await
    }

    async fn apply(
        &self,
        transaction: Vec<Write>,
        expected: Preconditions,
        fence: &Fence,
    ) -> Result<Revision, Error> {
        let prepared = Prepared::new(&transaction, expected)?;
        let operations = transacting::operations(&self.inner.keys, &prepared);
        transacting::apply(&self.inner, "apply", operations, &prepared.expected, fence).await
    }

    fn watch(&self, from: Revision) -> Watch {
        let (sender, receiver) = mpsc::channel(WATCH_BUFFER);
        tokio::spawn(watching::follow(Arc::clone(&self.inner), from, sender));
        Watch::of_channel(receiver)
    }

    async fn compact(&self, until: Revision) -> Result<(), Error> {
        if !self.inner.compacts {
            return Ok(());
        }
        let revision = signed(until);
        let deadline = self.inner.calls.deadline();
        self.inner
            .calls
            .until_done("compact", deadline, |mut link| async move {
                match link.kv.compact(revision, None).await {
                    Ok(_) => Ok(()),
                    Err(etcd_client::Error::GRpcStatus(status))
                        if status.message().contains("has been compacted") =>
                    {
                        Ok(())
                    }
                    Err(etcd_client::Error::GRpcStatus(status))
                        if status.message().contains("future revision") =>
                    {
                        Err(Error::Invalid(format!("cannot forget {until} yet")).into())
                    }
                    Err(error) => Err(Trouble::from(error)),
                }
            })
            .await
    }

    async fn renew_store_id(&self, fence: &Fence) -> Result<StoreId, Error> {
        let renewed = self.inner.identity().renewed()?;
        let operations = vec![renewed.put(&self.inner.keys)];
        let nothing = Preconditions::default();
        transacting::apply(&self.inner, "renew_store_id", operations, &nothing, fence).await?;
        let store_id = renewed.store_id;
        self.inner.set_identity(renewed);
        Ok(store_id)
    }

    async fn adopt_store(&self) -> Result<StoreId, Error> {
        let inner = &*self.inner;
        let outlived = match inner.snapshot().await {
            // Revisions went back, or the rows' owner changed: if the id is still the same, it
            // was restored.
            Err(Error::StoreReplaced) => Some(inner.identity().store_id),
            _ => None,
        };
        inner.calls.forget_revision();
        let identity = identity::find_or_draw(&inner.calls, &inner.keys, outlived).await?;
        let store_id = identity.store_id;
        self.inner.set_identity(identity);
        Ok(store_id)
    }
}

#[async_trait]
impl Election for EtcdStore {
    async fn campaign(&self, candidate: Candidate, patience: Duration) -> Result<Campaign, Error> {
        leading::campaign(&self.inner, &candidate, Instant::now() + patience).await
    }

    async fn leader(&self) -> Result<Option<Leader>, Error> {
        leading::leader(&self.inner).await
    }
}

impl Keys {
    fn under(prefix: &str) -> Self {
        let at = |name: &str| format!("{prefix}{name}");
        Self {
            prefix: prefix.to_owned(),
            rows: at("rows/"),
            leader: at("leader"),
            sequence: at("sequence"),
            store: at("store"),
        }
    }

    /// The row's own key, of etcd's key for it.
    fn row<'a>(&self, key: &'a [u8]) -> Option<&'a [u8]> {
        key.strip_prefix(self.rows.as_bytes())
    }
}

impl fmt::Debug for EtcdStore {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("EtcdStore")
            .field("prefix", &self.inner.keys.prefix)
            .field("store_id", &self.inner.identity().store_id)
            .finish_non_exhaustive()
    }
}

/// etcd counts revisions from 1 in an `i64`.
fn unsigned(revision: i64) -> Revision {
    u64::try_from(revision).unwrap_or(0)
}

fn signed(revision: Revision) -> i64 {
    i64::try_from(revision).unwrap_or(i64::MAX)
}
