//! redb's errors in this crate's words: what is damaged, what is in use, what the disk refused.

use std::io::ErrorKind;
use std::path::PathBuf;

use crate::error::Error;

/// Why an operation did not come about.
pub(super) enum Failure {
    Refused(Error),
    Redb(redb::Error),
}

impl Failure {
    pub(super) fn wants_reopening(&self) -> bool {
        matches!(
            self,
            Self::Redb(redb::Error::Io(_) | redb::Error::PreviousIo | redb::Error::DatabaseClosed)
        )
    }

    /// `what` is the file.
    pub(super) fn explain(self, what: &str) -> Error {
        match self {
            Self::Refused(error) => error,
            Self::Redb(redb::Error::DatabaseAlreadyOpen) => Error::Locked(PathBuf::from(what)),
            Self::Redb(redb::Error::Corrupted(why)) => Error::corrupt(what, why),
            Self::Redb(redb::Error::Io(error))
                if matches!(error.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof) =>
            {
                Error::corrupt(what, error)
            }
            Self::Redb(redb::Error::UpgradeRequired(found)) => {
                Error::corrupt(what, format!("redb file format {found} is not supported"))
            }
            Self::Redb(
                error @ (redb::Error::TableTypeMismatch { .. }
                | redb::Error::TableIsMultimap(_)
                | redb::Error::TableDoesNotExist(_)),
            ) => Error::corrupt(what, error),
            Self::Redb(error) => Error::storage(what, error),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

/// All of redb's error types go into `redb::Error`; `?` needs one step.
macro_rules! failures {
    ($($error:ty),*) => {$(
        impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                Self::Redb(error.into())
            }
        }
    )*};
}

failures!(
    redb::DatabaseError,
    redb::TransactionError,
    redb::TableError,
    redb::StorageError,
    redb::CommitError,
    std::io::Error
);
