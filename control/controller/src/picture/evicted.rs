//! How long EVICTED backends are shown.
//!
//! Nodes turn the flows of an EVICTED backend into tombstones when they see it in a snapshot. So it
//! stays there for a while, and until every node has applied such a snapshot; a node that takes
//! ten times that is not waited for. After that a deregistered one is forgotten, and one that was
//! only drained keeps its row and is left out.

use health::Millis;
use registry::rows::{self, BackendState};

use super::Picture;
use crate::clock::millis;

/// A node that hangs is waited for so many times as long as others.
const PATIENCE: u64 = 10;
/// By then the snapshot with the eviction is on the board.
const ON_BOARD: Millis = 1_000;

#[derive(Debug)]
pub(super) struct Evicted {
    since: Millis,
    /// A version of the pool that holds the eviction.
    version: Option<u64>,
    over: bool,
}

impl Picture {
    /// Lets go of what was shown long enough. `version`: of a pool's newest snapshot.
    pub(crate) fn look_at_evicted(&mut self, version: impl Fn(&str) -> u64) {
        let shown = millis(self.timings.evicted_shown);
        let mut over = Vec::new();
        for (id, evicted) in self.evicted.iter_mut().filter(|(_, evicted)| !evicted.over) {
            let Some(row) = self.rows.backends.get(id).map(|found| &found.row) else { continue };
            let age = self.now.saturating_sub(evicted.since);
            if evicted.version.is_none() && age >= ON_BOARD.min(shown) {
                evicted.version = Some(version(&row.pool_id));
            }
            let applied = || evicted.version.is_some_and(|at| self.fleet.applied(&row.pool_id, at));
            if age >= shown && (applied() || age >= shown.saturating_mul(PATIENCE)) {
                evicted.over = true;
                over.push((id.clone(), row.pool_id.clone(), row.deregistered));
            }
        }
        for (id, pool, deregistered) in over {
            if deregistered {
                self.forgettable.insert(id);
            } else {
                self.tell(&pool);
            }
        }
    }

    /// Whether an EVICTED backend was shown long enough.
    pub(super) fn hidden(&self, id: &str) -> bool {
        self.evicted.get(id).is_some_and(|evicted| evicted.over)
    }

    /// Takes note of a row that is about to be the backend's.
    pub(super) fn note_evicted(&mut self, row: &rows::Backend) {
        if row.state != BackendState::Evicted {
            self.forget_evicted(&row.id);
            return;
        }
        let new = || Evicted { since: self.now, version: None, over: false };
        let evicted = self.evicted.entry(row.id.clone()).or_insert_with(new);
        if evicted.over && row.deregistered {
            self.forgettable.insert(row.id.clone());
        }
    }

    pub(super) fn forget_evicted(&mut self, id: &str) {
        self.evicted.remove(id);
        self.forgettable.remove(id);
    }
}
