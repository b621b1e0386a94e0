//! What the picture says: drafts for nodes, rows for operators.

use std::collections::{BTreeMap, BTreeSet};

use health::Effective;
use health::pool::Freeze;
use proto::v1::{Backend, BackendEntry, Pool, PoolSnapshot};

use super::Picture;
use crate::snapshots::Draft;
use crate::wire;

impl Picture {
    /// Drafts of the pools that nodes are to be told of. A backend whose state the registry does
    /// not hold yet is told as it was told last, unless `impatient`: so those that are written
    /// wait for nobody, however many fall one after the other.
    pub(crate) fn drafts(&mut self, impatient: bool) -> Vec<Draft> {
        if self.news.is_empty() && self.withheld.is_empty() {
            return Vec::new();
        }
        let mut unsaid = match impatient {
            true => BTreeMap::new(),
            false => self.unsaid(),
        };
        let mut pools = std::mem::take(&mut self.news);
        // Those of whom more can be told than the last time.
        pools.extend(self.withheld.iter().filter_map(|(pool, ids)| {
            let fewer = !unsaid.get(pool).is_some_and(|unsaid| ids.is_subset(unsaid));
            fewer.then(|| pool.clone())
        }));
        let mut drafts = Vec::with_capacity(pools.len());
        for pool in pools {
            let unsaid = unsaid.remove(&pool).unwrap_or_default();
            if !unsaid.is_empty() && !self.told.contains_key(&pool) {
                // Nobody was told anything in this term: there is nothing to go on with.
                self.news.insert(pool);
                continue;
            }
            let snapshot = self.snapshot(&pool, &unsaid);
            match snapshot.deleted {
                true => self.told.remove(&pool),
                false => self.told.insert(pool.clone(), snapshot.backends.clone()),
            };
            match unsaid.is_empty() {
                true => self.withheld.remove(&pool),
                false => self.withheld.insert(pool, unsaid),
            };
            self.sequence += 1;
            drafts.push(Draft { sequence: self.sequence, snapshot });
        }
        drafts
    }

    /// By pool, the backends whose states the registry does not hold yet.
    fn unsaid(&self) -> BTreeMap<String, BTreeSet<String>> {
        let mut unsaid: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let unwritten = self.unwritten.iter().filter(|(id, unwritten)| {
            let row = self.rows.backends.get(*id).map(|found| &found.row);
            row.is_some_and(|row| !self.says(row, unwritten))
        });
        for id in unwritten.map(|(id, _)| id).chain(&self.writing) {
            let Some(found) = self.rows.backends.get(id) else { continue };
            unsaid.entry(found.row.pool_id.clone()).or_default().insert(id.clone());
        }
        unsaid
    }

    /// The pool as nodes are to see it, `unsaid` backends as they saw them last; deleted when it is
    /// not there.
    fn snapshot(&self, id: &str, unsaid: &BTreeSet<String>) -> PoolSnapshot {
        let (Some(pool), Some(health)) = (self.rows.pools.get(id), self.health.get(id)) else {
            return PoolSnapshot { pool_id: id.into(), deleted: true, ..PoolSnapshot::default() };
        };
        let told = self.told.get(id).map(Vec::as_slice).unwrap_or_default();
        let entry = |view: &Effective| {
            let row = &self.rows.backends.get(&*view.id)?.row;
            let (weight, state) = match unsaid.contains(&row.id) {
                false => {
                    let state = wire::proto_state(wire::row_state(view.state));
                    (if view.eligible { view.weight } else { 0 }, state.into())
                }
                true => match told.binary_search_by(|entry| entry.backend_id.cmp(&row.id)) {
                    Ok(index) => told.get(index).map(|entry| (entry.weight, entry.state))?,
                    // New to nodes: no flows before its state is written.
                    Err(_) => (0, wire::proto_state(row.state).into()),
                },
            };
            (!self.hidden(&row.id)).then(|| BackendEntry {
                backend_id: row.id.clone(),
                ip: row.ip.to_string(),
                port: u32::from(row.port),
                weight,
                state,
                quic_server_ids: wire::proto_server_ids(row),
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
        settings.clear_secrets();
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use health::Row;
    use health::lifecycle::State;
    use registry::{Snapshot, Versioned, rows};

    use super::*;
    use crate::events::Events;
    use crate::http::Metrics;
    use crate::picture::Unwritten;
    use crate::plan::tests::settings;
    use crate::settings::FleetTimings;

    /// The pool "web" of five HEALTHY backends, told to nodes.
    fn picture() -> Picture {
        let pool = rows::Pool {
            id: "web".into(),
            settings: settings(),
            created_at_ns: 1,
            unknown: Default::default(),
        };
        let backend = |n: u8| rows::Backend {
            pool_id: "web".into(),
            id: format!("b{n}"),
            ip: [192, 0, 2, n].into(),
            port: 80,
            weight: 100,
            labels: BTreeMap::new(),
            readiness_probe_url: String::new(),
            state: rows::BackendState::Healthy,
            ready: true,
            registered_at_ns: 1,
            last_state_change_ns: 1,
            drain_until_ns: None,
            deregistered: false,
            quic_server_ids: Vec::new(),
            unknown: Default::default(),
        };
        let backends =
            [0, 1, 2, 3, 4].map(|n| (format!("b{n}"), Versioned { version: 1, row: backend(n) }));
        let rows = Snapshot {
            store_id: serde_json::from_value("00000000-0000-0000-0000-000000000001".into())
                .expect("a UUID"),
            revision: 1,
            pools: BTreeMap::from([("web".to_owned(), Versioned { version: 1, row: pool })]),
            backends: backends.into(),
            vips: BTreeMap::new(),
        };
        let metrics = Arc::new(Metrics::default());
        let mut picture = Picture::new(rows, FleetTimings::default(), Events::new(), metrics, 0);
        picture.tick_all();
        assert_eq!(weights(&picture.drafts(false)), [[100; 5]]);
        picture
    }

    fn weights(drafts: &[Draft]) -> Vec<Vec<u32>> {
        let weights = |draft: &Draft| draft.snapshot.backends.iter().map(|b| b.weight).collect();
        drafts.iter().map(weights).collect()
    }

    /// Health finds a backend dead; the row does not say so yet.
    fn falls(picture: &mut Picture, id: &str) {
        let row = Row { weight: 100, state: State::Unhealthy, ready: true, drain_left_ms: 0 };
        let health = picture.health.get_mut("web").unwrap();
        health.restore(id, row, 1);
        picture.unwritten.insert(id.to_owned(), Unwritten { ready: true, at_ns: 2 });
        picture.touch("web");
        picture.tick_touched();
        picture.tell("web");
    }

    fn is_written(picture: &mut Picture, id: &str) {
        picture.unwritten.remove(id);
        picture.rows.backends.get_mut(id).unwrap().row.state = rows::BackendState::Unhealthy;
    }

    #[test]
    fn a_fall_that_is_written_waits_for_no_other() {
        let mut picture = picture();
        falls(&mut picture, "b0");
        assert_eq!(weights(&picture.drafts(false)), [[100; 5]], "not written");
        falls(&mut picture, "b1");
        is_written(&mut picture, "b0");
        assert_eq!(weights(&picture.drafts(false)), [[0, 100, 100, 100, 100]], "b1 is not written");
        assert!(picture.drafts(false).is_empty(), "nothing new");
        is_written(&mut picture, "b1");
        assert_eq!(
            weights(&picture.drafts(false)),
            [[0, 0, 100, 100, 100]],
            "without any other news"
        );
        assert!(picture.withheld.is_empty());
    }

    #[test]
    fn a_registry_that_does_not_answer_keeps_no_dead_backend_in_the_table() {
        let mut picture = picture();
        falls(&mut picture, "b2");
        assert_eq!(weights(&picture.drafts(false)), [[100; 5]]);
        assert_eq!(weights(&picture.drafts(true)), [[100, 100, 0, 100, 100]]);
        assert!(picture.drafts(true).is_empty());
    }
}
