//! Gives the store another id: the operator's word that it was restored from a backup.
//!
//! A restored etcd may look like the one before, with revisions, and so versions of snapshots, that
//! were given out already. Nodes that know later ones are refused and keep what they have; some may
//! know the same versions with another content. Nobody but the operator can tell, and a node's word
//! must not be enough. With another id the store's versions begin anew, and nodes take what it
//! holds.
//!
//! It is a term of its own: no controller may lead meanwhile, and those that run afterwards find the
//! store replaced until they are started again.

use std::time::Duration;

use registry::{Campaign, Candidate, Leader, StoreId};

use crate::settings::Settings;
use crate::term::{self, Stores};

/// What a store was called and is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Renewed {
    /// Before.
    pub before: StoreId,
    /// From now on.
    pub after: StoreId,
}

/// Why a store keeps its id.
#[derive(Debug, thiserror::Error)]
pub enum RenewalError {
    /// The store.
    #[error("registry: {0}")]
    Registry(#[from] registry::Error),
    /// A controller runs.
    #[error(
        "controller {} at {} leads (expected none: stop all controllers of this registry first; \
         one that died leads until its lease is over)",
        .0.id,
        .0.address
    )]
    Led(Leader),
}

/// Gives the store of `settings` another id. A leader that is there, or whose lease still runs, is
/// waited for as long as `patience`.
///
/// # Errors
/// [`RenewalError::Led`]; [`RenewalError::Registry`] when the store cannot be opened, reached or
/// written. After a timeout the id may be another all the same: it may be renewed again.
pub async fn renew_store_id(
    settings: &Settings,
    patience: Duration,
) -> Result<Renewed, RenewalError> {
    let Stores { registry, election } = term::open(&settings.store).await?;
    let id = format!("{}, renewing the store's id", settings.name);
    let address = settings.advertise.clone().unwrap_or_else(|| settings.listen.to_string());
    let leadership = match election.campaign(Candidate { id, address }, patience).await? {
        Campaign::Elected(leadership) => leadership,
        Campaign::Following(leader) => return Err(RenewalError::Led(leader)),
    };
    let before = registry.store_id();
    let renewed = registry.renew_store_id(leadership.fence()).await;
    leadership.resign().await;
    Ok(Renewed { before, after: renewed? })
}
