//! The pools of a controller, as messages change them.
//!
//! What is in force is one set: pools of one store, each with its version, and pools that were
//! kept from before because what replaced them was refused. Three rules keep it whole:
//!
//! - Within a store, a pool's version only goes up; the same message again changes nothing.
//! - Another store's pools wait until its initial set is complete, and then replace all at once:
//!   versions of two stores are never compared, and nobody serves half a set. One without any pool
//!   replaces nothing: a controller that was started on an empty registry by mistake would take
//!   every VIP away. What there is stays until the other store has a pool.
//! - A pool that is gone has no VIPs any more; its backends drain as those that leave a file do,
//!   so that flows of a VIP that another pool has taken over stay where they are.
//!
//! Pure: messages and time come in, [`PoolSnapshot`]s come out. A [`Fed`] is cheap to clone, so a
//! change is made to a copy, and the copy is kept once its tables are in force.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use dataplane::tables::{BackendState, PortTable};
use maglev::Digest;
use proto::v1;

use crate::intake::{self, Candidate, Reason, Refusal, refuse, shown};
use crate::snapshot::PoolSnapshot;
use crate::statics::EVICTED_SHOWN_MS;

/// Deleted pools whose version is remembered, so that an old snapshot does not bring them back.
const REMEMBERED: usize = 4096;

/// A set of pools; see the module.
#[derive(Clone, Debug, Default)]
pub struct Fed {
    store_id: String,
    pools: BTreeMap<String, Arc<FedPool>>,
    /// Versions at which pools of this store were deleted.
    deleted: BTreeMap<String, u64>,
    /// Pools that are gone, while their backends are not.
    leaving: BTreeMap<String, Leaving>,
    /// Another store's pools, until they are all there.
    staged: Option<Staged>,
}

#[derive(Debug)]
struct FedPool {
    message: v1::PoolSnapshot,
    candidate: Candidate,
}

#[derive(Clone, Debug)]
struct Leaving {
    snapshot: PoolSnapshot,
    due_ms: u64,
}

#[derive(Clone, Debug, Default)]
struct Staged {
    store_id: String,
    pools: BTreeMap<String, Arc<FedPool>>,
    /// Named by the new store, and refused.
    refused: Vec<String>,
    /// It was complete without a pool: the next pool is all that it has.
    was_empty: bool,
}

/// What a message has done to a set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Taken {
    /// Nothing: it was known, or waits for its set.
    Known,
    /// These pools are new or other than before; to be built, and verified.
    Changed(Vec<String>),
}

/// What becomes of a refused pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// The one before stays.
    Old,
    /// There was none before.
    None,
}

impl Fed {
    /// No pools.
    pub fn new() -> Self {
        Self::default()
    }

    /// What to ask a controller for: the store, and the versions in force.
    pub fn known(&self) -> (String, BTreeMap<String, u64>) {
        let own = self.pools.iter().filter(|(_, pool)| pool.message.store_id == self.store_id);
        let versions = own.map(|(id, pool)| (id.clone(), pool.message.version)).collect();
        (self.store_id.clone(), versions)
    }

    /// A new stream begins: what the last one did not complete is forgotten.
    pub fn begin(&mut self) {
        self.staged = None;
    }

    /// Takes a message.
    ///
    /// # Errors
    /// What is wrong with it; the pool it names is as before then.
    pub fn take(
        &mut self,
        message: v1::PoolSnapshot,
        ports: &[PortTable],
        now_ms: u64,
    ) -> Result<Taken, Refusal> {
        if message.store_id.is_empty() || message.store_id.len() > intake::MAX_ID {
            let text = format!("store_id: {} bytes (expected 1 to 253)", message.store_id.len());
            return Err(refuse(Reason::Store, text));
        }
        if message.store_id == self.store_id {
            // A controller that names its old store again has none of the other one.
            self.staged = None;
            return match message.initial_set_complete {
                true => Ok(Taken::Known),
                false => self.take_own(message, ports, now_ms),
            };
        }
        let store_id = message.store_id.clone();
        if message.initial_set_complete {
            return self.complete(store_id, now_ms);
        }
        let taken = self.stage(message, ports)?;
        match &self.staged {
            Some(staged) if staged.was_empty && !staged.pools.is_empty() => {
                self.complete(store_id, now_ms)
            }
            _ => Ok(taken),
        }
    }

    fn take_own(
        &mut self,
        message: v1::PoolSnapshot,
        ports: &[PortTable],
        now_ms: u64,
    ) -> Result<Taken, Refusal> {
        intake::name("pool_id", &message.pool_id)?;
        let id = message.pool_id.clone();
        let own = self.pools.get(&id).filter(|pool| pool.message.store_id == self.store_id);
        let version = own.map(|pool| pool.message.version);
        let floor = version.max(self.deleted.get(&id).copied()).unwrap_or(0);
        if message.deleted {
            // A deletion may be told with the version that the pool had last.
            if message.version != 0 && message.version < floor {
                return Err(goes_back(&message, floor));
            }
            self.remember(id.clone(), message.version.max(floor));
            return Ok(match self.pools.remove(&id) {
                Some(pool) => {
                    self.leave(id.clone(), &pool, now_ms);
                    Taken::Changed(vec![id])
                }
                None => Taken::Known,
            });
        }
        if own.is_some_and(|pool| pool.message == message) {
            return Ok(Taken::Known);
        }
        if message.version == 0 || message.version <= floor {
            return Err(goes_back(&message, floor));
        }
        let candidate = intake::candidate(&message, ports)?;
        self.deleted.remove(&id);
        self.leaving.remove(&id);
        self.pools.insert(id.clone(), Arc::new(FedPool { message, candidate }));
        Ok(Taken::Changed(vec![id]))
    }

    fn stage(&mut self, message: v1::PoolSnapshot, ports: &[PortTable]) -> Result<Taken, Refusal> {
        let store_id = message.store_id.clone();
        let staged = match &mut self.staged {
            Some(staged) if staged.store_id == store_id => staged,
            other => other.insert(Staged { store_id, ..Staged::default() }),
        };
        let id = message.pool_id.clone();
        if message.deleted {
            staged.pools.remove(&id);
            return Ok(Taken::Known);
        }
        let checked = intake::name("pool_id", &id).and_then(|()| {
            let before = staged.pools.get(&id);
            let floor = before.map_or(0, |pool| pool.message.version);
            match before {
                Some(pool) if pool.message == message => Ok(None),
                _ if message.version <= floor => Err(goes_back(&message, floor)),
                _ => intake::candidate(&message, ports).map(Some),
            }
        });
        match checked {
            Ok(None) => Ok(Taken::Known),
            Ok(Some(candidate)) => {
                staged.refused.retain(|refused| *refused != id);
                staged.pools.insert(id, Arc::new(FedPool { message, candidate }));
                Ok(Taken::Known)
            }
            Err(refusal) => {
                if !staged.pools.contains_key(&id) && !staged.refused.contains(&id) {
                    staged.refused.push(id);
                }
                Err(refusal)
            }
        }
    }

    /// All of another store is there: it is the store now. What it named and was refused stays as
    /// it was; what it did not name is gone.
    ///
    /// # Errors
    /// When it is empty, and there are pools to lose.
    fn complete(&mut self, store_id: String, now_ms: u64) -> Result<Taken, Refusal> {
        let staged = self.staged.take().filter(|staged| staged.store_id == store_id);
        let Staged { pools, refused, .. } = staged.unwrap_or_default();
        if pools.is_empty() && refused.is_empty() && !self.pools.is_empty() {
            let text = format!(
                "store {} has no pools (expected those of store {}, or at least one)",
                shown(&store_id),
                shown(&self.store_id),
            );
            self.staged = Some(Staged { store_id, was_empty: true, ..Staged::default() });
            return Err(refuse(Reason::Store, text));
        }
        let before = std::mem::replace(&mut self.pools, pools);
        self.store_id = store_id;
        self.deleted.clear();
        let mut changed: Vec<String> = self.pools.keys().cloned().collect();
        for id in &changed {
            self.leaving.remove(id);
        }
        for (id, pool) in before {
            if refused.contains(&id) {
                self.pools.entry(id).or_insert(pool);
            } else if !self.pools.contains_key(&id) {
                self.leave(id.clone(), &pool, now_ms);
                changed.push(id);
            }
        }
        // A set without pools is a change too: of the store.
        Ok(Taken::Changed(changed))
    }

    fn leave(&mut self, id: String, pool: &FedPool, now_ms: u64) {
        let mut snapshot = pool.candidate.snapshot.clone();
        snapshot.vips.clear();
        if snapshot.backends.is_empty() {
            return;
        }
        for backend in &mut snapshot.backends {
            if backend.state != BackendState::Evicted {
                backend.state = BackendState::Draining;
            }
        }
        let due_ms = now_ms.saturating_add(pool.candidate.drain_ms);
        self.leaving.insert(id, Leaving { snapshot, due_ms });
    }

    fn remember(&mut self, id: String, version: u64) {
        self.deleted.insert(id, version);
        if self.deleted.len() > REMEMBERED {
            let oldest = self.deleted.iter().min_by_key(|(_, version)| **version);
            if let Some(oldest) = oldest.map(|(id, _)| id.clone()) {
                self.deleted.remove(&oldest);
            }
        }
    }

    /// Puts a pool back to what it was in `before`: its table did not come out as it should.
    pub fn put_back(&mut self, id: &str, before: &Fed) -> Kept {
        match before.pools.get(id) {
            Some(old) => {
                self.pools.insert(id.to_owned(), Arc::clone(old));
                Kept::Old
            }
            None => {
                self.pools.remove(id);
                if let Some(leaving) = before.leaving.get(id) {
                    self.leaving.insert(id.to_owned(), leaving.clone());
                }
                if let Some(version) = before.deleted.get(id)
                    && self.store_id == before.store_id
                {
                    self.deleted.insert(id.to_owned(), *version);
                }
                Kept::None
            }
        }
    }

    /// Moves what is due: the backends of pools that are gone. Returns whether anything changed.
    pub fn poll(&mut self, now_ms: u64) -> bool {
        let mut changed = false;
        self.leaving.retain(|_, leaving| {
            if now_ms < leaving.due_ms {
                return true;
            }
            changed = true;
            let mut backends = leaving.snapshot.backends.iter_mut();
            let evicted = backends.all(|backend| backend.state == BackendState::Evicted);
            if evicted {
                return false;
            }
            for backend in &mut leaving.snapshot.backends {
                backend.state = BackendState::Evicted;
            }
            leaving.due_ms = now_ms.saturating_add(EVICTED_SHOWN_MS);
            true
        });
        changed
    }

    /// The whole set as the assembler takes it, ordered by id.
    ///
    /// A VIP that moves from one pool to another comes in two messages, in either order. While two
    /// pools have it, it is the later one's: versions are drawn from one counter.
    pub fn snapshots(&self) -> Vec<PoolSnapshot> {
        let mut owners: BTreeMap<String, (bool, u64, &str)> = BTreeMap::new();
        for (id, pool) in &self.pools {
            let own = pool.message.store_id == self.store_id;
            let claim = (own, pool.message.version, id.as_str());
            for vip in &pool.candidate.snapshot.vips {
                match owners.entry(vip.name()) {
                    Entry::Vacant(free) => {
                        free.insert(claim);
                    }
                    Entry::Occupied(mut taken) => {
                        if claim > *taken.get() {
                            taken.insert(claim);
                        }
                    }
                }
            }
        }
        let mut snapshots: BTreeMap<&str, PoolSnapshot> = BTreeMap::new();
        for (id, leaving) in &self.leaving {
            snapshots.insert(id, leaving.snapshot.clone());
        }
        for (id, pool) in &self.pools {
            let mut snapshot = pool.candidate.snapshot.clone();
            snapshot.vips.retain(|vip| {
                owners.get(&vip.name()).is_some_and(|(_, _, owner)| *owner == id.as_str())
            });
            snapshots.insert(id, snapshot);
        }
        snapshots.into_values().collect()
    }

    /// What a pool's table must come to.
    pub fn digest(&self, id: &str) -> Option<Digest> {
        self.pools.get(id)?.candidate.digest
    }

    /// Pools in force with their versions.
    pub fn versions(&self) -> impl Iterator<Item = (&str, u64)> {
        self.pools.iter().map(|(id, pool)| (id.as_str(), pool.message.version))
    }

    /// The version of a pool in force.
    pub fn version(&self, id: &str) -> Option<u64> {
        self.pools.get(id).map(|pool| pool.message.version)
    }

    /// The store of the set; empty before there is any.
    pub fn store_id(&self) -> &str {
        &self.store_id
    }

    /// What it takes to start again without a controller: every pool as it was sent, and a mark
    /// for each that was deleted. The first is the marker of the store.
    pub fn messages(&self) -> Vec<v1::PoolSnapshot> {
        let marker = v1::PoolSnapshot {
            store_id: self.store_id.clone(),
            initial_set_complete: true,
            ..v1::PoolSnapshot::default()
        };
        let gone = self.deleted.iter().map(|(id, version)| v1::PoolSnapshot {
            pool_id: id.clone(),
            version: *version,
            deleted: true,
            store_id: self.store_id.clone(),
            ..v1::PoolSnapshot::default()
        });
        let pools = self.pools.values().map(|pool| pool.message.clone());
        std::iter::once(marker).chain(gone).chain(pools).collect()
    }

    /// The set that [`Fed::messages`] came from; each message that is not as it should be is left
    /// out, and named with what is wrong.
    pub fn from_messages(
        messages: Vec<v1::PoolSnapshot>,
        ports: &[PortTable],
    ) -> (Self, Vec<(String, Refusal)>) {
        let mut fed = Self::new();
        let mut refused = Vec::new();
        for message in messages {
            if message.initial_set_complete {
                fed.store_id = message.store_id;
            } else if message.deleted {
                fed.remember(message.pool_id, message.version);
            } else {
                let id = message.pool_id.clone();
                match intake::candidate(&message, ports) {
                    Ok(candidate) => {
                        fed.pools.insert(id, Arc::new(FedPool { message, candidate }));
                    }
                    Err(refusal) => refused.push((shown(&id), refusal)),
                }
            }
        }
        (fed, refused)
    }
}

fn goes_back(message: &v1::PoolSnapshot, floor: u64) -> Refusal {
    let text = match message.version {
        0 => "version: 0 (expected 1 or more)".to_owned(),
        version if version == floor => format!("version: {version} again, for other contents"),
        version => format!("version: {version} goes back behind {floor}"),
    };
    refuse(Reason::Version, text)
}
