//! What a transaction may hold, and when it may happen; the part that both stores share.

use std::collections::{BTreeMap, BTreeSet};

use crate::Revision;
use crate::encoding;
use crate::error::Error;
use crate::key::Key;
use crate::rows::Row;

/// Writes in one transaction. etcd takes 128 operations as delivered, one of which is ours.
pub const MAX_WRITES: usize = 100;

/// Bytes of keys and encoded rows in one transaction. etcd takes 1.5 MiB as delivered.
pub const MAX_BYTES: usize = 1024 * 1024;

/// One write of a transaction.
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all are rows, and few are held at a time: a box would be one allocation more for each"
)]
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    /// Inserts or replaces the row under its key.
    Put(Row),
    /// Removes the row, if it is there.
    Remove(Key),
}

/// What a row must be for a transaction to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Not there; else [`Error::AlreadyExists`].
    Absent,
    /// There; else [`Error::NotFound`].
    Present,
    /// There, last put at this revision; else [`Error::NotFound`] or [`Error::Conflict`].
    At(Revision),
}

/// What rows must be for a transaction to happen. [`Default`] expects nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Preconditions(BTreeMap<Key, Expect>);

/// A transaction ready to be stored.
#[derive(Clone, Debug)]
pub(crate) struct Prepared {
    /// Key texts with the encoded row to put; `None` removes.
    pub(crate) writes: Vec<(String, Option<Vec<u8>>)>,
    pub(crate) expected: Preconditions,
}

impl Preconditions {
    /// `key` must not be there.
    #[must_use]
    pub fn absent(self, key: Key) -> Self {
        self.with(key, Expect::Absent)
    }

    /// `key` must be there.
    #[must_use]
    pub fn present(self, key: Key) -> Self {
        self.with(key, Expect::Present)
    }

    /// `key` must have been put last at `version`.
    #[must_use]
    pub fn at(self, key: Key, version: Revision) -> Self {
        self.with(key, Expect::At(version))
    }

    /// A later word on the same key replaces an earlier one.
    #[must_use]
    pub fn with(mut self, key: Key, expect: Expect) -> Self {
        self.0.insert(key, expect);
        self
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Key, Expect)> {
        self.0.iter().map(|(key, expect)| (key, *expect))
    }

    /// Holds `found`, the version of each row there is, against what is expected.
    pub(crate) fn check<E>(
        &self,
        mut found: impl FnMut(&Key) -> Result<Option<Revision>, E>,
    ) -> Result<(), E>
    where
        E: From<Error>,
    {
        for (key, expect) in self.iter() {
            expect.check(key, found(key)?)?;
        }
        Ok(())
    }
}

impl Expect {
    fn check(self, key: &Key, found: Option<Revision>) -> Result<(), Error> {
        match (self, found) {
            (Self::Absent, None) | (Self::Present, Some(_)) => Ok(()),
            (Self::Absent, Some(_)) => Err(Error::AlreadyExists(key.clone())),
            (Self::Present | Self::At(_), None) => Err(Error::NotFound(key.clone())),
            (Self::At(expected), Some(found)) if expected == found => Ok(()),
            (Self::At(expected), Some(found)) => {
                Err(Error::Conflict { key: key.clone(), expected, found })
            }
        }
    }
}

impl Prepared {
    /// Encodes and checks the limits, so that both stores refuse the same.
    pub(crate) fn new(transaction: &[Write], expected: Preconditions) -> Result<Self, Error> {
        let refuse = |why: String| Err(Error::Invalid(why));
        if transaction.is_empty() {
            return refuse("it is empty".into());
        }
        let most = transaction.len().max(expected.0.len());
        if most > MAX_WRITES {
            return refuse(format!("{most} writes or preconditions, at most {MAX_WRITES}"));
        }
        let mut keys = BTreeSet::new();
        let mut bytes = 0;
        let mut writes = Vec::with_capacity(transaction.len());
        for write in transaction {
            let (key, row) = match write {
                Write::Put(row) => (row.key().to_string(), Some(encoding::encode(row)?)),
                Write::Remove(key) => (key.to_string(), None),
            };
            bytes += key.len() + row.as_ref().map_or(0, Vec::len);
            if !keys.insert(key.clone()) {
                return refuse(format!("it writes {key} twice"));
            }
            writes.push((key, row));
        }
        if bytes > MAX_BYTES {
            return refuse(format!("{bytes} bytes, at most {MAX_BYTES}"));
        }
        Ok(Self { writes, expected })
    }
}
