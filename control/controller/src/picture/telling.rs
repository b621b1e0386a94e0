//! What the picture says: drafts for nodes, rows for operators.

use std::collections::{BTreeMap, BTreeSet};

use health::Effective;
use health::pool::Freeze;
use proto::v1::{Backend, BackendEntry, Pool, PoolSnapshot};

use super::Picture;
use crate::snapshots::Draft;
use crate::wire;

impl Picture {
    /// Drafts of the pools that nodes are to be told of. A pool with states that the registry
    /// does not hold yet waits for them, unless `impatient`.
    pub(crate) fn drafts(&mut self, impatient: bool) -> Vec<Draft> {
        if self.news.is_empty() {
            return Vec::new();
        }
        let waiting: BTreeSet<&str> = match impatient {
            true => BTreeSet::new(),
            false => {
                let ids = self.unwritten.keys().chain(&self.writing);
                let rows = ids.filter_map(|id| self.rows.backends.get(id));
                rows.map(|found| found.row.pool_id.as_str()).collect()
            }
        };
        let ready: Vec<String> =
            self.news.iter().filter(|pool| !waiting.contains(pool.as_str())).cloned().collect();
        let mut drafts = Vec::with_capacity(ready.len());
        for pool in ready {
            self.news.remove(&pool);
            self.sequence += 1;
            drafts.push(Draft { sequence: self.sequence, snapshot: self.snapshot(&pool) });
        }
        drafts
    }

    /// The pool as nodes are to see it; deleted when it is not there.
    fn snapshot(&self, id: &str) -> PoolSnapshot {
        let (Some(pool), Some(health)) = (self.rows.pools.get(id), self.health.get(id)) else {
            return PoolSnapshot { pool_id: id.into(), deleted: true, ..PoolSnapshot::default() };
        };
        let entry = |view: &Effective| {
            let row = &self.rows.backends.get(&*view.id)?.row;
            (!self.hidden(&row.id)).then(|| BackendEntry {
                backend_id: row.id.clone(),
                ip: row.ip.to_string(),
                port: u32::from(row.port),
                weight: if view.eligible { view.weight } else { 0 },
                state: wire::proto_state(wire::row_state(view.state)).into(),
            })
        };
        let vips = self.rows.vips.values().filter(|found| found.row.pool_id == id);
        PoolSnapshot {
            pool_id: id.to_owned(),
            backends: health.effective().iter().filter_map(entry).collect(),
            settings: Some(wire::proto_settings(&pool.row.settings)),
            vips: vips.map(|found| wire::proto_vip(&found.row)).collect(),
            ..PoolSnapshot::default()
        }
    }

    /// A pool for operators, without its secret. `version`: of its snapshot.
    pub(crate) fn pool(&self, id: &str, version: u64) -> Option<Pool> {
        let row = &self.rows.pools.get(id)?.row;
        let health = self.health.get(id);
        let vips = self.rows.vips.values().filter(|found| found.row.pool_id == id);
        let mut settings = wire::proto_settings(&row.settings);
        settings.hash_secret.clear();
        Some(Pool {
            pool_id: id.to_owned(),
            version,
            settings: Some(settings),
            backends: self.backends(id),
            vips: vips.map(|found| wire::proto_vip(&found.row)).collect(),
            panicking: health.is_some_and(|health| health.in_panic()),
            frozen: health.is_some_and(|health| health.freeze() == Freeze::All),
        })
    }

    /// All backends of a pool, for operators.
    pub(crate) fn backends(&self, pool: &str) -> Vec<Backend> {
        let views = self.health.get(pool).map(|health| health.effective()).unwrap_or_default();
        let views: BTreeMap<&str, &Effective> =
            views.iter().map(|view| (&*view.id, view)).collect();
        let rows = self.rows.backends.values().filter(|found| found.row.pool_id == pool);
        rows.map(|found| {
            let row = &found.row;
            let view = views.get(row.id.as_str()).copied();
            wire::proto_backend(row, view, self.fleet.active_flows(&row.id))
        })
        .collect()
    }

    /// One backend, for operators.
    pub(crate) fn backend(&self, id: &str) -> Option<Backend> {
        let row = &self.rows.backends.get(id)?.row;
        let views = self.health.get(&row.pool_id).map(|health| health.effective());
        let views = views.unwrap_or_default();
        let view = views.iter().find(|view| &*view.id == id);
        Some(wire::proto_backend(row, view, self.fleet.active_flows(id)))
    }
}
