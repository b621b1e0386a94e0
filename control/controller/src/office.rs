//! What a term of office gives to the calls that it serves.

use std::sync::Arc;

use tokio::sync::watch;
use tonic::Status;
use tonic::metadata::MetadataValue;

use crate::desk::Desk;
use crate::events::Events;
use crate::plan::Turns;
use crate::settings::Settings;
use crate::snapshots::Board;

/// Metadata that holds the leader's address.
pub(crate) const LEADER: &str = "weir-leader";

/// One term of this controller as the leader. Calls hold it as long as they last; once it is over
/// everything in it answers UNAVAILABLE.
#[derive(Debug)]
pub(crate) struct Office {
    /// Where everything happens.
    pub(crate) desk: Desk,
    /// What nodes are told.
    pub(crate) board: Arc<Board>,
    /// What people are told.
    pub(crate) events: Events,
    /// What would change.
    pub(crate) plans: Turns,
    /// Of the controller.
    pub(crate) settings: Arc<Settings>,
    /// Of the fence: only goes up from term to term.
    pub(crate) epoch: u64,
}

/// Whether this controller leads.
#[derive(Clone, Debug)]
pub(crate) enum Standing {
    /// It does.
    Leading(Arc<Office>),
    /// It does not.
    Following {
        /// The address of who does, where that is known.
        leader: Option<String>,
        /// Why nobody is served, for people.
        why: String,
    },
}

impl Standing {
    /// The term under way.
    ///
    /// # Errors
    /// UNAVAILABLE, with the leader's address in the metadata.
    pub(crate) fn office(&self) -> Result<Arc<Office>, Status> {
        match self {
            Self::Leading(office) => Ok(Arc::clone(office)),
            Self::Following { leader, why } => Err(elsewhere(leader.as_deref(), why)),
        }
    }
}

/// UNAVAILABLE: ask `leader`, or again later.
pub(crate) fn elsewhere(leader: Option<&str>, why: &str) -> Status {
    let mut status = match leader {
        Some(leader) => Status::unavailable(format!("{why}; the leader is {leader}")),
        None => Status::unavailable(why),
    };
    if let Some(value) = leader.and_then(|leader| MetadataValue::try_from(leader).ok()) {
        status.metadata_mut().insert(LEADER, value);
    }
    status
}

/// Ends when `standing` is not that of the term `epoch` any more, with what callers are told.
pub(crate) async fn over(mut standing: watch::Receiver<Standing>, epoch: u64) -> Status {
    let ours = |standing: &Standing| match standing {
        Standing::Leading(office) => office.epoch == epoch,
        Standing::Following { .. } => false,
    };
    match standing.wait_for(|standing| !ours(standing)).await {
        Ok(standing) => match &*standing {
            // Another term of this very controller: the caller begins anew with it.
            Standing::Leading(_) => Status::unavailable("the term is over, a new one has begun"),
            Standing::Following { leader, why } => elsewhere(leader.as_deref(), why),
        },
        Err(_) => Status::unavailable("the controller is shutting down"),
    }
}

/// What is wrong with a field: INVALID_ARGUMENT.
pub(crate) fn invalid(field: &str, what: impl std::fmt::Display) -> Status {
    Status::invalid_argument(format!("{field}: {what}"))
}

/// NOT_FOUND, with the field that names what is not there.
pub(crate) fn not_found(field: &str, what: impl std::fmt::Display) -> Status {
    Status::not_found(format!("{field}: no {what}"))
}
