//! All rows as of one revision, and how a copy of them is kept current.

use std::collections::BTreeMap;

use crate::key::{Key, VipKey};
use crate::rows::{Backend, Pool, Row, VipBinding};
use crate::watch::{Change, Commit};
use crate::{Revision, StoreId};

/// A row, and the revision of the transaction that last put it.
#[derive(Clone, Debug, PartialEq)]
pub struct Versioned<T> {
    /// To be expected with [`Preconditions::at`](crate::Preconditions::at).
    pub version: Revision,
    /// The row.
    pub row: T,
}

/// All rows as of one revision.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// The store they are in.
    pub store_id: StoreId,
    /// To be handed to [`Registry::watch`](crate::Registry::watch).
    pub revision: Revision,
    /// By id.
    pub pools: BTreeMap<String, Versioned<Pool>>,
    /// By id.
    pub backends: BTreeMap<String, Versioned<Backend>>,
    /// By what clients dial.
    pub vips: BTreeMap<VipKey, Versioned<VipBinding>>,
}

impl Snapshot {
    pub(crate) fn empty(store_id: StoreId, revision: Revision) -> Self {
        Self {
            store_id,
            revision,
            pools: BTreeMap::new(),
            backends: BTreeMap::new(),
            vips: BTreeMap::new(),
        }
    }

    /// Carries the copy on to `commit`'s revision. Commits that it holds already change nothing.
    pub fn advance(&mut self, commit: &Commit) {
        if commit.revision <= self.revision {
            return;
        }
        for change in &commit.changes {
            match change {
                Change::Put(row) => self.put(commit.revision, row.clone()),
                Change::Removed(key) => self.remove(key),
            }
        }
        self.revision = commit.revision;
    }

    /// The version of the row under `key`.
    pub fn version(&self, key: &Key) -> Option<Revision> {
        match key {
            Key::Pool(id) => self.pools.get(id).map(|pool| pool.version),
            Key::Backend(id) => self.backends.get(id).map(|backend| backend.version),
            Key::Vip(vip) => self.vips.get(vip).map(|vip| vip.version),
        }
    }

    pub(crate) fn put(&mut self, version: Revision, row: Row) {
        match row {
            Row::Pool(row) => {
                self.pools.insert(row.id.clone(), Versioned { version, row });
            }
            Row::Backend(row) => {
                self.backends.insert(row.id.clone(), Versioned { version, row });
            }
            Row::Vip(row) => {
                self.vips.insert(row.key(), Versioned { version, row });
            }
        }
    }

    fn remove(&mut self, key: &Key) {
        match key {
            Key::Pool(id) => drop(self.pools.remove(id)),
            Key::Backend(id) => drop(self.backends.remove(id)),
            Key::Vip(vip) => drop(self.vips.remove(vip)),
        }
    }
}
