//! How health follows rows.

use health::{Millis, PoolHealth, Row as HealthRow};
use registry::rows::{self, BackendState};
use registry::{Change, Commit, Key, Row, Snapshot};

use super::{Picture, SEED};
use crate::clock::unix_ns;
use crate::fleet;
use crate::wire;

impl Picture {
    /// Takes over what has been written.
    pub(crate) fn commit(&mut self, commit: &Commit) {
        for change in &commit.changes {
            self.follow(change);
        }
        self.rows.advance(commit);
        self.after_rows(&commit.changes);
    }

    /// Begins with all rows.
    pub(super) fn fill(&mut self, rows: Snapshot) {
        self.filling = true;
        self.reread(rows);
        self.filling = false;
    }

    /// Takes over all rows as they were found, whatever happened to them meanwhile.
    pub(crate) fn reread(&mut self, rows: Snapshot) {
        let changes = differences(&self.rows, &rows);
        for change in &changes {
            self.follow(change);
        }
        self.rows = rows;
        self.after_rows(&changes);
    }

    fn after_rows(&mut self, changes: &[Change]) {
        let vip = |change: &Change| {
            matches!(change, Change::Put(Row::Vip(_)) | Change::Removed(Key::Vip(_)))
        };
        if !changes.iter().all(vip) {
            fleet::rows_changed(self);
        }
    }

    fn follow(&mut self, change: &Change) {
        match change {
            Change::Put(Row::Pool(pool)) => self.follow_pool(pool),
            Change::Put(Row::Backend(backend)) => self.follow_backend(backend),
            Change::Put(Row::Vip(vip)) => {
                // It may have been another pool's.
                if let Some(before) = self.rows.vips.get(&vip.key()) {
                    let pool = before.row.pool_id.clone();
                    self.tell(&pool);
                }
                self.tell(&vip.pool_id);
            }
            Change::Removed(Key::Pool(id)) => {
                self.health.remove(id);
                self.tell(id);
            }
            Change::Removed(Key::Backend(id)) => {
                if let Some(pool) =
                    self.rows.backends.get(id).map(|found| found.row.pool_id.clone())
                {
                    self.leave(&pool, id);
                }
            }
            Change::Removed(Key::Vip(key)) => {
                if let Some(pool) = self.rows.vips.get(key).map(|found| found.row.pool_id.clone()) {
                    self.tell(&pool);
                }
            }
        }
    }

    fn follow_pool(&mut self, pool: &rows::Pool) {
        let settings = wire::health_settings(&pool.settings, &self.timings);
        let result = match self.health.get_mut(&pool.id) {
            Some(health) => health.configure(settings),
            None => PoolHealth::new(settings, SEED, self.now).map(|health| {
                self.health.insert(pool.id.clone(), health);
            }),
        };
        if let Err(error) = result {
            // Settings are checked before they are written, so an older release wrote this one.
            tracing::error!(pool = pool.id, %error, "health goes by the defaults");
            if !self.health.contains_key(&pool.id)
                && let Ok(health) = PoolHealth::new(health::Settings::default(), SEED, self.now)
            {
                self.health.insert(pool.id.clone(), health);
            }
        }
        self.touch(&pool.id);
        self.tell(&pool.id);
    }

    fn follow_backend(&mut self, row: &rows::Backend) {
        let before = self.rows.backends.get(&row.id).map(|found| &found.row);
        let before = before.map(|before| (before.pool_id.clone(), before.state));
        if let Some((pool, _)) = before.as_ref().filter(|(pool, _)| *pool != row.pool_id) {
            self.leave(pool, &row.id);
        }
        let was = before.filter(|(pool, _)| *pool == row.pool_id).map(|(_, state)| state);
        let (now, id) = (self.now, row.id.as_str());
        let Some(health) = self.health.get_mut(&row.pool_id) else { return };
        use BackendState::{Draining, Evicted, Pending};
        let left = drain_left(row, unix_ns());
        let act = match (was, row.state) {
            // As it was when this leader began: nothing has happened to it now.
            (None, _) if self.filling => Ok(()),
            (None | Some(Evicted), Pending) => {
                health.register(id, u32::from(row.weight), now).map(drop)
            }
            (Some(Draining), Pending) => health.undrain(id, now).map(drop),
            (Some(state), Draining) if state != Draining => {
                health.drain(id, Some(left), now).map(drop)
            }
            (Some(state), Evicted) if state != Evicted => health.deregister(id, now).map(drop),
            _ => Ok(()),
        };
        let same_state = health.state(id) == Some(wire::health_state(row.state));
        if act.is_err() || !same_state && !self.unwritten.contains_key(id) {
            // Health had moved on by itself while the row was written, or knows nothing yet.
            let restored = HealthRow {
                weight: u32::from(row.weight),
                state: wire::health_state(row.state),
                ready: row.ready,
                drain_left_ms: left,
            };
            health.restore(id, restored, now);
            self.unwritten.remove(id);
        }
        // It is there: registered, or restored.
        let _known = health.set_weight(id, u32::from(row.weight));
        self.note_evicted(row);
        self.touch(&row.pool_id);
        self.tell(&row.pool_id);
    }

    /// A backend is gone from a pool.
    fn leave(&mut self, pool: &str, id: &str) {
        if let Some(health) = self.health.get_mut(pool) {
            // Refused only when it is not there.
            let _evicted = health.deregister(id, self.now);
            let _gone = health.forget(id);
        }
        self.unwritten.remove(id);
        self.forget_evicted(id);
        self.touch(pool);
        self.tell(pool);
    }
}

/// Of a DRAINING row, what is left of its window: the whole of it at most, as the clock of the
/// leader that wrote the row may be ahead of this one's. When this one's is ahead, the drain is
/// shorter by the difference.
fn drain_left(row: &rows::Backend, now_ns: u64) -> Millis {
    let until = row.drain_until_ns.unwrap_or(0);
    let whole = until.saturating_sub(row.last_state_change_ns);
    until.saturating_sub(now_ns).min(whole).div_ceil(1_000_000)
}

/// What leads from one set of rows to another: pools first, removals last.
fn differences(from: &Snapshot, to: &Snapshot) -> Vec<Change> {
    let newer = |key: Key, row: Row, version| {
        (from.version(&key) != Some(version)).then_some(Change::Put(row))
    };
    let pools = to.pools.values().filter_map(|found| {
        newer(Key::Pool(found.row.id.clone()), Row::Pool(found.row.clone()), found.version)
    });
    let backends = to.backends.values().filter_map(|found| {
        newer(Key::Backend(found.row.id.clone()), Row::Backend(found.row.clone()), found.version)
    });
    let vips = to.vips.values().filter_map(|found| {
        newer(Key::Vip(found.row.key()), Row::Vip(found.row.clone()), found.version)
    });
    let keys = |rows: &Snapshot| {
        let vips = rows.vips.keys().map(|key| Key::Vip(*key));
        let backends = rows.backends.keys().map(|id| Key::Backend(id.clone()));
        let pools = rows.pools.keys().map(|id| Key::Pool(id.clone()));
        vips.chain(backends).chain(pools).collect::<Vec<_>>()
    };
    let removed = keys(from).into_iter().filter(|key| to.version(key).is_none());
    pools.chain(backends).chain(vips).chain(removed.map(Change::Removed)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    const SECOND: u64 = 1_000_000_000;

    /// Drained at 1,000 s for a minute.
    fn draining() -> rows::Backend {
        rows::Backend {
            pool_id: "web".into(),
            id: "a".into(),
            ip: "192.0.2.1".parse().expect("an address"),
            port: 80,
            weight: 100,
            labels: BTreeMap::new(),
            readiness_probe_url: String::new(),
            state: BackendState::Draining,
            registered_at_ns: 0,
            ready: true,
            last_state_change_ns: 1_000 * SECOND,
            drain_until_ns: Some(1_060 * SECOND),
            deregistered: false,
            quic_server_ids: Vec::new(),
            unknown: rows::Unknown::default(),
        }
    }

    #[test]
    fn what_is_left_of_a_drain_is_never_more_than_its_window() {
        let row = draining();
        // This leader's clock, in seconds, and what is left in milliseconds.
        let cases = [(1_000, 60_000), (1_059, 1_000), (1_060, 0), (9_999, 0), (999, 60_000)];
        for (now, left) in cases {
            assert_eq!(drain_left(&row, now * SECOND), left, "at {now}");
        }
        // A clock that is a day behind, and one that begins in 1970.
        let far = rows::Backend {
            last_state_change_ns: unix_ns() + 86_400 * SECOND,
            drain_until_ns: Some(unix_ns() + 86_460 * SECOND),
            ..draining()
        };
        assert!((60_000..=60_001).contains(&drain_left(&far, unix_ns())));
        assert_eq!(drain_left(&row, 0), 60_000);
        assert_eq!(drain_left(&rows::Backend { drain_until_ns: None, ..row }, 0), 0);
    }
}
