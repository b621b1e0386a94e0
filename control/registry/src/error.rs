//! What can go wrong with a registry, and the gRPC status that each answer is.

use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

use crate::Revision;
use crate::key::Key;

/// What went wrong. The variant decides what to do, the text is for people.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// No quorum, no disk or no connection within the time allowed. A write may have happened.
    #[error("{what}: the registry did not answer within {after:?}{last}")]
    Timeout {
        /// The call.
        what: &'static str,
        /// How long it was waited for.
        after: Duration,
        /// What the last attempt came to, with a separator before it; or nothing.
        last: String,
    },
    /// The fence does not stand: another leader has been elected, or none is. Step down.
    #[error("not the leader any more{}", .leader.as_ref().map(|at| format!(": {at} is")).unwrap_or_default())]
    Fenced {
        /// The address of the leader there is.
        leader: Option<String>,
    },
    /// The store behind the handle is not the one it opened: see `Registry::adopt_store`.
    #[error("the registry's store was replaced or restored")]
    StoreReplaced,
    /// The handle was closed.
    #[error("the registry is closed")]
    Closed,
    /// A row has another version than expected: read again, and decide again.
    #[error("{key} is at version {found}, not {expected}")]
    Conflict {
        /// Of the row.
        key: Key,
        /// The version it was to have.
        expected: Revision,
        /// The version it has.
        found: Revision,
    },
    /// A row that was to be there is not.
    #[error("no {0}")]
    NotFound(Key),
    /// A row that was not to be there is.
    #[error("{0} exists already")]
    AlreadyExists(Key),
    /// A transaction that no store takes.
    #[error("transaction refused: {0}")]
    Invalid(String),
    /// The file is open in another process.
    #[error("{} is in use by another process: one controller per file", .0.display())]
    Locked(PathBuf),
    /// The file, or a row, is not what this program wrote.
    #[error("{what} is damaged: {why}")]
    Corrupt {
        /// The file's path, or the row's key.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// Written by a newer release in a format that this one would misread.
    #[error("{what} has format {found}, this release reads up to {known}: upgrade it")]
    NewerFormat {
        /// The file's path, or the row's key.
        what: String,
        /// The format it has.
        found: u32,
        /// The newest format known here.
        known: u32,
    },
    /// The disk or etcd refused, and trying again would not help by itself.
    #[error("{what}: {why}")]
    Storage {
        /// The file's path, or the call.
        what: String,
        /// The refusal.
        why: String,
    },
}

/// The gRPC status of an error, by its name in SPEC section 6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    /// ABORTED: only inside the controller, which reads again and tries again.
    Aborted,
    /// ALREADY_EXISTS
    AlreadyExists,
    /// DATA_LOSS
    DataLoss,
    /// DEADLINE_EXCEEDED
    DeadlineExceeded,
    /// FAILED_PRECONDITION
    FailedPrecondition,
    /// INTERNAL
    Internal,
    /// INVALID_ARGUMENT
    InvalidArgument,
    /// NOT_FOUND
    NotFound,
    /// UNAVAILABLE
    Unavailable,
}

impl Error {
    /// What to answer over gRPC.
    pub fn status(&self) -> Status {
        match self {
            Self::Timeout { .. } => Status::DeadlineExceeded,
            Self::Fenced { .. } | Self::StoreReplaced | Self::Closed => Status::Unavailable,
            Self::Conflict { .. } => Status::Aborted,
            Self::NotFound(_) => Status::NotFound,
            Self::AlreadyExists(_) => Status::AlreadyExists,
            Self::Invalid(_) => Status::InvalidArgument,
            Self::Locked(_) | Self::NewerFormat { .. } => Status::FailedPrecondition,
            Self::Corrupt { .. } => Status::DataLoss,
            Self::Storage { .. } => Status::Internal,
        }
    }

    pub(crate) fn storage(what: impl ToString, why: impl ToString) -> Self {
        Self::Storage { what: what.to_string(), why: why.to_string() }
    }

    pub(crate) fn corrupt(what: impl ToString, why: impl ToString) -> Self {
        Self::Corrupt { what: what.to_string(), why: why.to_string() }
    }
}
