//! The picture of a term: everything the leader knows, and what follows from it.
//!
//! Rows are what the registry holds; health follows them, never the other way round: an
//! operator's act reaches [`PoolHealth`] when its row has been written, and what health itself
//! finds (an ejection, the end of a drain) is noted in `unwritten` until it is a row too. Where
//! the two disagree for any other reason, the row wins.
//!
//! `picture/following.rs` carries rows into health, `picture/telling.rs` says it to nodes and
//! people, `picture/evicted.rs` keeps EVICTED backends for their time.

mod evicted;
mod following;
mod telling;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use health::{Millis, Outcome, PoolHealth};
use proto::v1::BackendEntry;
use registry::{Snapshot, rows};

use crate::clock::unix_ns;
use crate::events::{self, Events};
use crate::fleet::Fleet;
use crate::http::Metrics;
use crate::settings::FleetTimings;
use crate::wire;
use evicted::Evicted;

/// Spreads backends over checkers; the same for all pools and controllers.
const SEED: u64 = 0x7765_6972;

/// See the module.
#[derive(Debug)]
pub(crate) struct Picture {
    /// What the registry holds.
    pub(crate) rows: Snapshot,
    /// By pool id; one for each pool of `rows`. Call [`Picture::touch`] after a change that has
    /// consequences.
    pub(crate) health: BTreeMap<String, PoolHealth>,
    /// Nodes and checkers.
    pub(crate) fleet: Fleet,
    /// The time of what is being done.
    pub(crate) now: Millis,
    /// What people are told.
    pub(crate) events: Events,
    /// Counters of the controller.
    pub(crate) metrics: Arc<Metrics>,
    /// Of the settings.
    pub(crate) timings: FleetTimings,
    /// States of backends that rows do not say yet, by backend id.
    pub(crate) unwritten: BTreeMap<String, Unwritten>,
    /// Backends whose states are being written.
    pub(crate) writing: BTreeSet<String>,
    /// Backends whose rows are to go.
    pub(crate) forgettable: BTreeSet<String>,
    evicted: BTreeMap<String, Evicted>,
    touched: BTreeSet<String>,
    news: BTreeSet<String>,
    /// By pool: what nodes were told last, ordered by id.
    told: BTreeMap<String, Vec<BackendEntry>>,
    /// By pool: backends that were told as they were before, until the registry has what they are.
    withheld: BTreeMap<String, BTreeSet<String>>,
    sequence: u64,
    /// The rows are those of before this term.
    filling: bool,
}

/// What a row does not say yet, besides the state.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unwritten {
    ready: bool,
    at_ns: u64,
}

impl Picture {
    /// The picture that `rows` give, with nobody heard yet.
    pub(crate) fn new(
        rows: Snapshot,
        timings: FleetTimings,
        events: Events,
        metrics: Arc<Metrics>,
        now: Millis,
    ) -> Self {
        let empty = Snapshot {
            pools: BTreeMap::new(),
            backends: BTreeMap::new(),
            vips: BTreeMap::new(),
            ..rows.clone()
        };
        let mut picture = Self {
            rows: empty,
            health: BTreeMap::new(),
            fleet: Fleet::new(&timings),
            now,
            events,
            metrics,
            timings,
            unwritten: BTreeMap::new(),
            writing: BTreeSet::new(),
            forgettable: BTreeSet::new(),
            evicted: BTreeMap::new(),
            touched: BTreeSet::new(),
            news: BTreeSet::new(),
            told: BTreeMap::new(),
            withheld: BTreeMap::new(),
            sequence: 0,
            filling: false,
        };
        picture.fill(rows);
        picture
    }

    /// Conclusions are to be drawn for a pool now, not at the next tick.
    pub(crate) fn touch(&mut self, pool: &str) {
        if !self.touched.contains(pool) {
            self.touched.insert(pool.to_owned());
        }
    }

    /// Nodes are to be told of a pool, if it is another than they know.
    pub(crate) fn tell(&mut self, pool: &str) {
        self.news.insert(pool.to_owned());
    }

    /// Draws conclusions for the pools that were touched.
    pub(crate) fn tick_touched(&mut self) {
        while let Some(pool) = self.touched.pop_first() {
            let now = self.now;
            let Some(health) = self.health.get_mut(&pool) else { continue };
            let outcome = health.tick(now);
            self.conclude(&pool, outcome);
        }
    }

    /// Draws conclusions for all pools.
    pub(crate) fn tick_all(&mut self) {
        self.touched = self.health.keys().cloned().collect();
        self.tick_touched();
    }

    /// The row of a backend with the state that health gives it; `None` when it says so already.
    pub(crate) fn with_state(
        &self,
        row: &rows::Backend,
        unwritten: Unwritten,
    ) -> Option<rows::Backend> {
        let state = wire::row_state(self.health.get(&row.pool_id)?.state(&row.id)?);
        if self.says(row, &unwritten) {
            return None;
        }
        let same = row.state == state;
        let draining = state == rows::BackendState::Draining;
        Some(rows::Backend {
            state,
            ready: unwritten.ready,
            last_state_change_ns: if same { row.last_state_change_ns } else { unwritten.at_ns },
            drain_until_ns: row.drain_until_ns.filter(|_| draining),
            ..row.clone()
        })
    }

    /// Whether a row says already what health finds.
    fn says(&self, row: &rows::Backend, unwritten: &Unwritten) -> bool {
        let state = self.health.get(&row.pool_id).and_then(|health| health.state(&row.id));
        state.is_none_or(|state| row.state == wire::row_state(state))
            && row.ready == unwritten.ready
    }

    fn conclude(&mut self, pool: &str, outcome: Outcome) {
        let at_ns = unix_ns();
        for transition in outcome.transitions {
            let unwritten = Unwritten { ready: transition.ready, at_ns };
            self.unwritten.insert(transition.backend.to_string(), unwritten);
        }
        for event in outcome.events {
            self.events.publish(events::of_health(pool, &event));
        }
        if outcome.changed {
            self.tell(pool);
        }
    }
}
