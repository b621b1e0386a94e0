//! A change of pools, built where nothing waits for it.
//!
//! ```text
//! node (locked) ──prepare──▶ Preparation ──build, milliseconds──▶ Prepared ──install──▶ node (locked)
//! ```
//!
//! The node is locked for both ends only, so the thread that serves and steps it is not held up by
//! a table. Who comes second with a change finds the node's revision moved on, is told
//! [`InstallError::Overtaken`], and prepares anew.

use std::sync::Arc;

use maglev::Digest;
use thiserror::Error;

use crate::assemble::AssembleError;
use crate::build::{BuiltPools, PoolBuilder};
use crate::overrides::Overrides;
use crate::snapshot::PoolSnapshot;

/// What a build starts from.
#[derive(Clone, Debug)]
pub struct Preparation {
    pub(crate) builder: PoolBuilder,
    pub(crate) given: Arc<[PoolSnapshot]>,
    pub(crate) overrides: Overrides,
    pub(crate) revision: u64,
}

/// Finished pools, to be put in force.
#[derive(Debug)]
pub struct Prepared {
    pub(crate) given: Arc<[PoolSnapshot]>,
    pub(crate) overrides: Overrides,
    pub(crate) pools: Vec<PoolSnapshot>,
    pub(crate) built: BuiltPools,
    pub(crate) revision: u64,
}

/// Why finished pools were not put in force.
#[derive(Debug, Error)]
pub enum InstallError {
    /// Another change came in between: prepare anew.
    #[error("another change came in between")]
    Overtaken,
}

impl Preparation {
    /// Pools as they were given, before the node's own overrides.
    pub fn given(&self) -> &Arc<[PoolSnapshot]> {
        &self.given
    }

    /// The node's own overrides, to be changed with the pools.
    pub fn overrides_mut(&mut self) -> &mut Overrides {
        &mut self.overrides
    }

    /// Builds other pools.
    ///
    /// # Errors
    /// When one cannot be built, or there are too many VIPs or backends.
    pub fn build(self, given: Arc<[PoolSnapshot]>) -> Result<Prepared, AssembleError> {
        let pools = self.overrides.apply(&given);
        let built = self.builder.build(&pools)?;
        let Self { overrides, revision, .. } = self;
        Ok(Prepared { given, overrides, pools, built, revision })
    }
}

impl Prepared {
    /// What the table of a pool comes to without the node's own overrides; `None` for a pool that
    /// is not there.
    ///
    /// # Errors
    /// When it cannot be built without them.
    pub fn digest_as_given(&self, pool: &str) -> Result<Option<Digest>, AssembleError> {
        if !self.overrides.concern(pool) {
            return Ok(self.built.digest(pool));
        }
        let given = self.given.iter().filter(|snapshot| snapshot.pool_id == pool);
        let built = PoolBuilder::new(u32::MAX).build(given)?;
        Ok(built.digest(pool))
    }
}
