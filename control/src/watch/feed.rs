//! From messages to tables in force: the part of the watch that has no network.
//!
//! A change is made to a copy of the set, its tables are built and compared with the digests that
//! came along, and what does not match is put back; only then is the copy the set, and saved. The
//! node is locked for moments only ([`crate::prepare`]), so this may run on any thread.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dataplane::tables::PortTable;
use maglev::Digest;
use proto::v1;

use super::Status;
use crate::assemble::AssembleError;
use crate::cache::{self, Loaded, Writer};
use crate::fed::{Fed, Kept, Taken};
use crate::intake::{Reason, Refusal, refuse, shown};
use crate::prepare::{InstallError, Prepared};
use crate::shared::SharedNode;
use crate::snapshot::PoolSnapshot;

/// How often an install that was overtaken is tried again.
const ATTEMPTS: usize = 64;

/// The controller's pools of one node, and how they get into force.
#[derive(Debug)]
pub struct Feed {
    node: SharedNode,
    status: Arc<Status>,
    ports: Vec<PortTable>,
    fed: Fed,
    cache: Option<Writer>,
    /// Pools refused since the stream began.
    refused: BTreeSet<String>,
}

/// In place of a pool, when the set as a whole is refused.
const WHOLE_SET: &str = "(all)";

/// The whole set does not fit the node.
struct DoesNotFit(AssembleError);

impl Feed {
    /// A feed of a node that has no pools yet; tells the node.
    pub fn new(node: SharedNode, status: Arc<Status>) -> Self {
        let ports = {
            let mut node = node.lock();
            node.set_feed(Arc::clone(&status));
            node.assembler().links().ports.clone()
        };
        Self { node, status, ports, fed: Fed::new(), cache: None, refused: BTreeSet::new() }
    }

    /// Starts with what the state folder holds, and saves there from now on. Whatever the folder
    /// holds, the node starts.
    pub fn with_cache(mut self, folder: PathBuf) -> Self {
        self.load(&folder);
        match Writer::start(folder) {
            Ok(writer) => self.cache = Some(writer),
            Err(error) => tracing::error!(%error, "snapshot cache: no thread to write it"),
        }
        self
    }

    fn load(&mut self, folder: &Path) {
        let cached = match cache::load(folder) {
            Loaded::Found(cached) => cached,
            Loaded::Missing => return,
            Loaded::SetAside(error) => {
                let path = folder.join(cache::FILE);
                tracing::warn!(path = %path.display(), %error, "snapshot cache: set aside");
                self.status.cache_unusable(error.to_string());
                return;
            }
        };
        let (next, refused) = Fed::from_messages(cached.messages, &self.ports);
        for (pool, refusal) in refused {
            self.refused(&pool, refusal);
        }
        let changed = next.versions().map(|(id, _)| id.to_owned()).collect();
        match self.put_in_force(next, changed) {
            Ok(_) => {
                self.status.loaded_from_cache(cached.saved_at_ns);
                let pools = self.fed.versions().count();
                tracing::info!(pools, "started from the snapshot cache");
            }
            Err(DoesNotFit(error)) => {
                tracing::warn!(%error, "snapshot cache: not used");
                self.status.cache_unusable(error.to_string());
            }
        }
    }

    /// What to ask a controller for; a new stream begins.
    pub fn begin(&mut self) -> (String, BTreeMap<String, u64>) {
        self.refused.clear();
        self.fed.begin();
        self.fed.known()
    }

    /// Takes messages that came together; returns whether anything new is in force.
    pub fn take(&mut self, messages: Vec<v1::PoolSnapshot>) -> bool {
        let received = self.status.now();
        let applied = match self.try_take(&messages) {
            Ok(applied) => applied,
            // One of them is too much: each by itself says which.
            Err(_) if messages.len() > 1 => {
                let mut any = false;
                for message in messages {
                    any |= self.take(vec![message]);
                }
                return any;
            }
            Err(DoesNotFit(error)) => {
                for message in &messages {
                    let refusal = refuse(Reason::Limit, &error);
                    self.refused(&shown(&message.pool_id), refusal);
                }
                false
            }
        };
        if applied {
            self.status.applied(self.status.now().saturating_sub(received));
            self.save();
        }
        applied
    }

    fn try_take(&mut self, messages: &[v1::PoolSnapshot]) -> Result<bool, DoesNotFit> {
        let now_ms = self.status.now() / 1_000_000;
        let mut next = self.fed.clone();
        let mut changed = BTreeSet::new();
        let mut any = false;
        let mut complete = false;
        for message in messages {
            let id = match message.initial_set_complete {
                true => WHOLE_SET.to_owned(),
                false => shown(&message.pool_id),
            };
            complete |= message.initial_set_complete;
            match next.take(message.clone(), &self.ports, now_ms) {
                Ok(Taken::Known) if message.deleted => self.status.accepted(&id),
                Ok(Taken::Known) => {}
                Ok(Taken::Changed(ids)) => {
                    any = true;
                    self.refused.remove(WHOLE_SET);
                    self.status.accepted(WHOLE_SET);
                    changed.extend(ids);
                }
                Err(refusal) => self.refused(&id, refusal),
            }
        }
        if any {
            any = self.put_in_force(next, changed)?;
        } else {
            self.fed = next;
        }
        if complete {
            self.status.completed(&self.refused);
        }
        Ok(any)
    }

    /// Moves what is due. Returns whether anything changed.
    pub fn poll(&mut self) -> bool {
        let mut next = self.fed.clone();
        let changed = next.poll(self.status.now() / 1_000_000);
        if changed && let Err(DoesNotFit(error)) = self.put_in_force(next, BTreeSet::new()) {
            tracing::error!(%error, "pools that are gone stay for now");
        }
        if let Some(cache) = &self.cache {
            self.status.cache_is(cache.state());
        }
        changed
    }

    /// Builds and verifies `next`, and puts it in force; `changed` are the pools that are other
    /// than before. Those that do not come out as they should are put back and named. Returns
    /// whether anything is other than before.
    fn put_in_force(
        &mut self,
        mut next: Fed,
        mut changed: BTreeSet<String>,
    ) -> Result<bool, DoesNotFit> {
        let mut overtaken = 0;
        loop {
            let given: Arc<[PoolSnapshot]> = next.snapshots().into();
            let preparation = self.node.lock().prepare();
            let bad = match preparation.build(given) {
                Ok(prepared) => {
                    let bad = mismatches(&prepared, &next, &changed);
                    if bad.is_empty() {
                        match self.node.lock().install(prepared) {
                            Ok(()) => break,
                            Err(InstallError::Overtaken) if overtaken < ATTEMPTS => {
                                overtaken += 1;
                                continue;
                            }
                            Err(error) => {
                                tracing::error!(%error, "snapshots not applied");
                                return Ok(false);
                            }
                        }
                    }
                    bad
                }
                Err(AssembleError::Pool { pool, source }) if changed.contains(&pool) => {
                    vec![(pool, refuse(Reason::Table, source))]
                }
                Err(error) => return Err(DoesNotFit(error)),
            };
            for (pool, refusal) in bad {
                changed.remove(&pool);
                let kept = next.put_back(&pool, &self.fed);
                self.refused(&pool, refusal);
                if kept == Kept::None {
                    tracing::warn!(pool, "the pool has no earlier snapshot and is not served");
                }
            }
            if changed.is_empty() && next.store_id() == self.fed.store_id() {
                self.fed = next;
                return Ok(false);
            }
        }
        for id in &changed {
            self.status.accepted(id);
        }
        self.fed = next;
        let versions = self.fed.versions().map(|(id, version)| (id.to_owned(), version));
        self.status.in_force(self.fed.store_id(), versions.collect());
        Ok(true)
    }

    fn refused(&mut self, pool: &str, refusal: Refusal) {
        let in_force = self.fed.version(pool);
        tracing::warn!(
            pool,
            reason = refusal.reason.name(),
            in_force,
            "snapshot refused: {refusal}"
        );
        self.refused.insert(pool.to_owned());
        self.status.refused(pool, refusal);
    }

    fn save(&self) {
        if let Some(cache) = &self.cache {
            cache.save(self.fed.messages());
        }
    }

    /// What writes the cache; `None` for a feed without one.
    pub fn cache(&self) -> Option<&Writer> {
        self.cache.as_ref()
    }

    /// The node that is fed.
    pub fn node(&self) -> &SharedNode {
        &self.node
    }
}

/// Pools whose table is not the one that was meant.
fn mismatches(
    prepared: &Prepared,
    next: &Fed,
    changed: &BTreeSet<String>,
) -> Vec<(String, Refusal)> {
    let mut bad = Vec::new();
    for id in changed {
        let Some(expected) = next.digest(id) else { continue };
        let found = match prepared.digest_as_given(id) {
            Ok(found) => found,
            Err(error) => {
                bad.push((id.clone(), refuse(Reason::Table, error)));
                continue;
            }
        };
        if found != Some(expected) {
            let found = found.map_or("none".to_owned(), |digest: Digest| digest.to_string());
            let text = format!("table.digest: the table comes to {found} (expected {expected})");
            bad.push((id.clone(), refuse(Reason::Digest, text)));
        }
    }
    bad
}
