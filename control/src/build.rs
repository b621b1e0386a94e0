//! Finished pools: the part of a build that takes milliseconds, and needs neither node nor lock.
//!
//! A [`PoolBuilder`] is a value: which index belongs to which backend, and the tables that exist
//! already (shared, so a copy is cheap). [`PoolBuilder::build`] turns it and a set of snapshots
//! into the next one. So a thread that must not wait copies the builder out of the node, another
//! builds, and the result is put back with [`crate::node::Node::install`].
//!
//! Invariant: a pool that has not changed is the same `Arc` as before.

use std::collections::HashMap;
use std::sync::Arc;

use dataplane::counters::{MAX_BACKENDS, MAX_VIPS};
use dataplane::quic::{Router, ServerId};
use dataplane::second_chance::PreviousOwners;
use dataplane::tables::{BackendState, Pool};
use maglev::{Digest, FlowHasher, Maglev, Member, Ring, Scheduler as _, Selector};

use crate::assemble::AssembleError;
use crate::indices::Indices;
use crate::snapshot::{BackendEntry, PoolSettings, PoolSnapshot, Scheduler};

/// What a build starts from; see the module.
#[derive(Clone, Debug)]
pub struct PoolBuilder {
    backends: Indices<(String, String)>,
    pools: HashMap<String, FinishedPool>,
}

/// What a build has come to: the builder of the next one.
#[derive(Debug)]
pub struct BuiltPools(PoolBuilder);

/// A finished pool, and what it was built from: the same again means the same pool.
#[derive(Clone, Debug)]
struct FinishedPool {
    settings: PoolSettings,
    members: Arc<[(String, u32, u32)]>,
    servers: Arc<[(ServerId, u32)]>,
    /// With a second chance: who may have flows, in order of their indices.
    serving: Arc<[u32]>,
    pool: Arc<Pool>,
}

impl PoolBuilder {
    /// Nothing built yet, with room for so many backends.
    pub(crate) fn new(limit: u32) -> Self {
        Self { backends: Indices::new(limit), pools: HashMap::new() }
    }

    /// Builds every pool of `snapshots`; those not among them are forgotten.
    ///
    /// # Errors
    /// When a pool cannot be built, or there are too many VIPs or backends.
    pub fn build<'a>(
        self,
        snapshots: impl IntoIterator<Item = &'a PoolSnapshot>,
    ) -> Result<BuiltPools, AssembleError> {
        let snapshots: Vec<&PoolSnapshot> = snapshots.into_iter().collect();
        check_sizes(&snapshots)?;
        let Self { mut backends, pools: before } = self;
        backends.retain_or_insert(snapshots.iter().flat_map(|snapshot| {
            snapshot.backends.iter().map(|backend| (snapshot.pool_id.clone(), backend.id.clone()))
        }));
        let mut pools = HashMap::with_capacity(snapshots.len());
        for snapshot in snapshots {
            let old = before.get(&snapshot.pool_id);
            pools.insert(snapshot.pool_id.clone(), finish(snapshot, &backends, old)?);
        }
        Ok(BuiltPools(Self { backends, pools }))
    }

    /// Indices of all backends.
    pub(crate) fn backends(&self) -> &Indices<(String, String)> {
        &self.backends
    }

    /// A finished pool.
    pub(crate) fn pool(&self, id: &str) -> Option<&Arc<Pool>> {
        self.pools.get(id).map(|finished| &finished.pool)
    }
}

impl BuiltPools {
    /// What the table of a pool comes to; `None` for a pool that was not built.
    pub fn digest(&self, pool: &str) -> Option<Digest> {
        self.0.pool(pool).map(|pool| *pool.selector.digest())
    }

    pub(crate) fn into_builder(self) -> PoolBuilder {
        self.0
    }
}

fn check_sizes(snapshots: &[&PoolSnapshot]) -> Result<(), AssembleError> {
    let vips = snapshots.iter().map(|snapshot| snapshot.vips.len()).sum();
    if vips > MAX_VIPS {
        return Err(AssembleError::TooMany { what: "VIPs", found: vips, limit: MAX_VIPS });
    }
    let found = snapshots.iter().map(|snapshot| snapshot.backends.len()).sum();
    if found > MAX_BACKENDS {
        return Err(AssembleError::TooMany { what: "backends", found, limit: MAX_BACKENDS });
    }
    Ok(())
}

fn finish(
    snapshot: &PoolSnapshot,
    indices: &Indices<(String, String)>,
    old: Option<&FinishedPool>,
) -> Result<FinishedPool, AssembleError> {
    let members: Vec<(String, u32, u32)> = snapshot
        .backends
        .iter()
        .filter(|backend| backend.is_eligible())
        .filter_map(|backend| {
            let index = indices.index(&(snapshot.pool_id.clone(), backend.id.clone()))?;
            Some((backend.id.clone(), index, backend.weight))
        })
        .collect();
    let settings = snapshot.settings.clone();
    let servers = servers(snapshot, indices);
    let serving = serving(snapshot, indices);
    if let Some(old) = old
        && old.settings == settings
        && *old.members == *members
        && *old.servers == *servers
        && *old.serving == *serving
    {
        return Ok(old.clone());
    }
    let list: Vec<Member<'_>> = members
        .iter()
        .map(|(id, index, weight)| Member { id, index: *index, weight: *weight })
        .collect();
    let secret = settings.hash_secret;
    let selector = match settings.scheduler {
        Scheduler::Maglev { table_size } => {
            Maglev::build(&list, table_size, secret).map(Selector::Maglev)
        }
        Scheduler::Ring => Ring::build(&list, secret).map(Selector::Ring),
    }
    .map_err(|source| AssembleError::Pool { pool: snapshot.pool_id.clone(), source })?;
    let reselect = settings.reselect;
    let quic = match settings.quic.is_empty() {
        true => None,
        false => Some(
            Router::new(&settings.quic, servers.iter().copied())
                .map_err(|source| AssembleError::Quic { pool: snapshot.pool_id.clone(), source })?,
        ),
    };
    let hasher = FlowHasher::new(secret);
    let previous = previous(snapshot, indices, old, &selector, &serving);
    let pool = Arc::new(Pool { selector, hasher, reselect, quic, previous });
    let (members, servers, serving) = (members.into(), servers.into(), serving.into());
    Ok(FinishedPool { settings, members, servers, serving, pool })
}

/// Backends that a GUE header may name: all but the evicted ones, whose flows are answered with a
/// reset wherever they come.
fn serving(snapshot: &PoolSnapshot, indices: &Indices<(String, String)>) -> Vec<u32> {
    if !snapshot.settings.second_chance {
        return Vec::new();
    }
    let may_have_flows = |backend: &&BackendEntry| {
        !matches!(backend.state, BackendState::Evicted | BackendState::Gone)
    };
    let backends = snapshot.backends.iter().filter(may_have_flows);
    let mut serving: Vec<u32> = backends
        .filter_map(|backend| indices.index(&(snapshot.pool_id.clone(), backend.id.clone())))
        .collect();
    serving.sort_unstable();
    serving
}

/// Who had the slots before; see [`dataplane::second_chance`]. A node that has just started knows of
/// no table before this one. But a backend that takes no new flows, and may have old ones, is in
/// the snapshot: with it the table was, as far as the snapshot says, so that is what this one is
/// compared with.
fn previous(
    snapshot: &PoolSnapshot,
    indices: &Indices<(String, String)>,
    old: Option<&FinishedPool>,
    selector: &Selector,
    serving: &[u32],
) -> Option<PreviousOwners> {
    let settings = &snapshot.settings;
    let (true, Selector::Maglev(new)) = (settings.second_chance, selector) else { return None };
    let named = |index| serving.binary_search(&index).is_ok();
    let hasher = FlowHasher::new(settings.hash_secret);
    if let Some(old) = old
        && let Selector::Maglev(table) = &old.pool.selector
    {
        let before = old.pool.previous.as_ref();
        let same_slots = old.settings.hash_secret == settings.hash_secret
            && old.settings.scheduler == settings.scheduler;
        return match same_slots {
            true if table == new => before?.retain(named),
            true => PreviousOwners::after(before, table, new, hasher, named),
            false => PreviousOwners::all_of(table, old.pool.hasher, named),
        };
    }
    let members: Vec<(&str, u32, u32)> = snapshot
        .backends
        .iter()
        .filter_map(|backend| {
            let index = indices.index(&(snapshot.pool_id.clone(), backend.id.clone()))?;
            named(index).then_some((backend.id.as_str(), index, backend.weight))
        })
        .collect();
    let list: Vec<Member<'_>> =
        members.iter().map(|&(id, index, weight)| Member { id, index, weight }).collect();
    // More backends than slots cannot all have been in it at once.
    let whole = Maglev::build(&list, new.size(), settings.hash_secret).ok()?;
    PreviousOwners::after(None, &whole, new, hasher, named)
}

/// Whose server ids are whose, in every state: which of them may have packets is asked with each
/// packet. Where an id of a backend that was evicted, or left the file, is another's now, it is that
/// one's. In order of the ids, so that an eviction alone changes nothing here.
fn servers(snapshot: &PoolSnapshot, indices: &Indices<(String, String)>) -> Vec<(ServerId, u32)> {
    let mut servers: Vec<(ServerId, bool, u32)> = snapshot
        .backends
        .iter()
        .filter(|backend| !backend.quic_server_ids.is_empty())
        .filter_map(|backend| {
            let index = indices.index(&(snapshot.pool_id.clone(), backend.id.clone()))?;
            let over = matches!(backend.state, BackendState::Evicted | BackendState::Gone);
            Some(backend.quic_server_ids.iter().map(move |id| (*id, over, index)))
        })
        .flatten()
        .collect();
    // Among equals the order of the snapshot stays.
    servers.sort_by_key(|(id, over, _)| (*id, *over));
    servers.dedup_by_key(|(id, ..)| *id);
    servers.into_iter().map(|(id, _, index)| (id, index)).collect()
}

#[cfg(test)]
mod tests {
    use dataplane::tables::Forwarding;

    use super::*;

    #[test]
    fn a_server_id_is_not_an_evicted_backends_when_another_has_it_now() {
        let id = |octet| ServerId::new(&[octet]).unwrap();
        let backend = |name: &str, state, octet| BackendEntry {
            id: name.to_owned(),
            address: [192, 0, 2, 1].into(),
            weight: 1,
            state,
            quic_server_ids: vec![id(octet)],
        };
        let mut snapshot = PoolSnapshot {
            pool_id: "p".to_owned(),
            version: 1,
            settings: PoolSettings {
                scheduler: Scheduler::Ring,
                forwarding: Forwarding::Ipip,
                second_chance: false,
                hash_secret: [0; 16],
                reselect: false,
                quic: Vec::new(),
            },
            // In order of their names, as a controller tells them.
            backends: vec![
                backend("a", BackendState::Evicted, 7),
                backend("b", BackendState::Active, 7),
                backend("c", BackendState::Active, 3),
            ],
            vips: Vec::new(),
        };
        let mut indices = Indices::new(16);
        let key = |name: &str| ("p".to_owned(), name.to_owned());
        indices.retain_or_insert(["a", "b", "c"].map(key));
        let index = |name| indices.index(&key(name)).unwrap();
        let expected = vec![(id(3), index("c")), (id(7), index("b"))];
        assert_eq!(servers(&snapshot, &indices), expected);
        snapshot.backends[2].state = BackendState::Evicted;
        assert_eq!(servers(&snapshot, &indices), expected, "still its own, until it is another's");
    }
}
