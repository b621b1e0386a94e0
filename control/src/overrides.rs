//! The operator's escape hatch on the node: backends drained here, whatever anybody says.
//!
//! For when no controller answers, or a file cannot be rolled out: one node stops giving new
//! flows to a backend. It lasts until it is taken back or the node starts anew, and it never
//! makes a backend better than the snapshot says: an evicted one stays evicted.

use std::collections::BTreeSet;

use dataplane::tables::BackendState;
use thiserror::Error;

use crate::assemble::AssembleError;
use crate::prepare::InstallError;
use crate::shared::SharedNode;
use crate::snapshot::PoolSnapshot;

/// Overrides there can be.
pub const MAX_OVERRIDES: usize = 4096;

/// Backends drained by the node's operator: pool, id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    drained: BTreeSet<(String, String)>,
}

/// Why an override was not changed.
#[derive(Debug, Error)]
pub enum OverrideError {
    /// There is no such pool; those there are.
    #[error("there is no pool \"{pool}\"")]
    NoPool {
        /// What was asked for.
        pool: String,
        /// What there is.
        known: Vec<String>,
    },
    /// There is no such backend in the pool; those there are.
    #[error("pool \"{pool}\" has no backend \"{backend}\"")]
    NoBackend {
        /// The pool.
        pool: String,
        /// What was asked for.
        backend: String,
        /// What there is.
        known: Vec<String>,
    },
    /// The backend is not drained here.
    #[error("backend \"{backend}\" of pool \"{pool}\" is not drained on this node")]
    NotDrained {
        /// The pool.
        pool: String,
        /// The backend.
        backend: String,
    },
    /// There are [`MAX_OVERRIDES`].
    #[error("{MAX_OVERRIDES} backends are drained on this node already")]
    TooMany,
    /// The tables cannot be built.
    #[error(transparent)]
    Assemble(#[from] AssembleError),
    /// Other changes came in between, again and again.
    #[error("the pools are changing too fast, try again")]
    Busy,
}

/// How often a change that was overtaken is tried again.
const ATTEMPTS: usize = 16;

impl Overrides {
    /// Whether a backend is drained here.
    pub fn is_drained(&self, pool: &str, backend: &str) -> bool {
        // A set of pairs cannot be asked with borrowed halves; it is nearly always empty.
        self.iter().any(|drained| drained == (pool, backend))
    }

    /// Whether any backend of a pool is drained here.
    pub fn concern(&self, pool: &str) -> bool {
        self.iter().any(|(drained, _)| drained == pool)
    }

    /// All of them: pool, backend.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.drained.iter().map(|(pool, backend)| (pool.as_str(), backend.as_str()))
    }

    /// The snapshots as they are served here.
    pub(crate) fn apply(&self, given: &[PoolSnapshot]) -> Vec<PoolSnapshot> {
        let mut pools = given.to_vec();
        for (pool, id) in &self.drained {
            let snapshot = pools.iter_mut().find(|snapshot| snapshot.pool_id == *pool);
            let backends = snapshot.into_iter().flat_map(|snapshot| &mut snapshot.backends);
            for backend in backends.filter(|backend| backend.id == *id) {
                if matches!(backend.state, BackendState::Active | BackendState::Unhealthy) {
                    backend.state = BackendState::Draining;
                }
            }
        }
        pools
    }

    fn change(
        &mut self,
        given: &[PoolSnapshot],
        pool: &str,
        backend: &str,
        drained: bool,
    ) -> Result<(), OverrideError> {
        let key = (pool.to_owned(), backend.to_owned());
        // Taking back works also for one that has gone meanwhile.
        if !drained && self.drained.remove(&key) {
            return Ok(());
        }
        let Some(snapshot) = given.iter().find(|snapshot| snapshot.pool_id == pool) else {
            let known = given.iter().map(|snapshot| snapshot.pool_id.clone()).collect();
            return Err(OverrideError::NoPool { pool: key.0, known });
        };
        if !snapshot.backends.iter().any(|entry| entry.id == backend) {
            let known = snapshot.backends.iter().map(|entry| entry.id.clone()).collect();
            return Err(OverrideError::NoBackend { pool: key.0, backend: key.1, known });
        }
        if !drained {
            return Err(OverrideError::NotDrained { pool: key.0, backend: key.1 });
        }
        if self.drained.len() >= MAX_OVERRIDES && !self.drained.contains(&key) {
            return Err(OverrideError::TooMany);
        }
        self.drained.insert(key);
        Ok(())
    }
}

/// Drains a backend on this node, or takes that back; in force when it returns. Takes as long as
/// a table build, and locks the node only before and after.
///
/// # Errors
/// See [`OverrideError`]; nothing has changed then.
pub fn set_drained(
    node: &SharedNode,
    pool: &str,
    backend: &str,
    drained: bool,
) -> Result<(), OverrideError> {
    for _ in 0..ATTEMPTS {
        let mut preparation = node.lock().prepare();
        let given = std::sync::Arc::clone(preparation.given());
        preparation.overrides_mut().change(&given, pool, backend, drained)?;
        let prepared = preparation.build(given)?;
        match node.lock().install(prepared) {
            Ok(()) => {
                let done = if drained { "drained" } else { "no longer drained" };
                tracing::warn!(pool, backend, "backend {done} by this node's operator");
                return Ok(());
            }
            Err(InstallError::Overtaken) => {}
        }
    }
    Err(OverrideError::Busy)
}
