//! Is this table the one it should be?
//!
//! A node that is handed a table trusts neither the wire nor the controller's build: it checks
//! that each backend has the slots its weight is owed, which says best what is wrong, and then
//! that every slot is as in a table of its own. A node that refuses a table keeps its old one.

use std::collections::BTreeMap;

use thiserror::Error;

use crate::digest::Digest;
use crate::error::Error;
use crate::member::Member;
use crate::scheduler::Scheduler;
use crate::table::Maglev;

/// What is wrong with a table.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum VerifyError {
    /// The members do not make a table of this size at all.
    #[error("no table can be built for comparison: {0}")]
    Unbuildable(#[from] Error),
    /// A member has too many slots, or too few.
    #[error("backend {id:?} has {found} slots instead of {expected}")]
    Distribution {
        /// The member's id.
        id: String,
        /// Slots it has.
        found: u32,
        /// Slots its weight is owed.
        expected: u32,
    },
    /// Slots belong to an index that is not a member's.
    #[error("backend index {index} is not in the pool and has {found} slots")]
    Stranger {
        /// The index.
        index: u32,
        /// Slots it has.
        found: u32,
    },
    /// The numbers are right but slots belong to others.
    #[error("{slots} slots belong to other backends than they should, the first is {first}")]
    Slots {
        /// How many slots differ.
        slots: u32,
        /// The first that does.
        first: u32,
    },
    /// The slots are right but their indices stood for other ids when the table was made.
    #[error("the table's digest is {found} instead of {expected}")]
    Digest {
        /// The given table's digest.
        found: Digest,
        /// The right digest.
        expected: Digest,
    },
}

/// Checks a table against what it should be made of: that nobody else has a slot, that each member
/// has as many as its weight is owed, and then every slot. Takes as long as a build.
///
/// When a snapshot carries only a digest, build the table and compare digests instead.
///
/// # Errors
/// The first difference found; [`VerifyError::Unbuildable`] when `members` are at fault.
pub fn verify(table: &Maglev, members: &[Member<'_>], secret: [u8; 16]) -> Result<(), VerifyError> {
    let ours = Maglev::build(members, table.size(), secret)?;
    let ids: BTreeMap<u32, &str> = members.iter().map(|m| (m.index, m.id)).collect();
    let mut held: BTreeMap<u32, u32> = BTreeMap::new();
    for share in table.shares().iter().filter(|share| share.slots > 0) {
        if !ids.contains_key(&share.index) {
            return Err(VerifyError::Stranger { index: share.index, found: share.slots });
        }
        held.insert(share.index, share.slots);
    }
    for owed in ours.shares() {
        let found = held.get(&owed.index).copied().unwrap_or(0);
        if found != owed.slots {
            let id = ids.get(&owed.index).copied().unwrap_or_default().to_owned();
            return Err(VerifyError::Distribution { id, found, expected: owed.slots });
        }
    }
    let mut differing = (0u32..)
        .zip(table.slots().iter().zip(ours.slots()))
        .filter(|(_, (found, expected))| found != expected)
        .map(|(slot, _)| slot);
    if let Some(first) = differing.next() {
        return Err(VerifyError::Slots { slots: 1 + differing.count() as u32, first });
    }
    match (*table.digest(), *ours.digest()) {
        (found, expected) if found != expected => Err(VerifyError::Digest { found, expected }),
        _ => Ok(()),
    }
}
