//! Why a table or a ring cannot be built.

use thiserror::Error;

use crate::ring::MAX_POINTS;
use crate::table::MAX_SLOTS;

/// Why a table or a ring cannot be built. Every variant is the fault of its input.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The size is no prime up to [`MAX_SLOTS`].
    #[error("table size {size} is {}", describe(*.size, *.below, *.above))]
    Size {
        /// What was asked for.
        size: u32,
        /// The nearest size below that would do.
        below: Option<u32>,
        /// The nearest size above that would do.
        above: Option<u32>,
    },
    /// More members with a weight than slots.
    #[error("{members} backends do not fit into a table of {size} slots")]
    TooManyMembers {
        /// Members with a weight.
        members: usize,
        /// Slots of the table.
        size: u32,
    },
    /// The ring would have more than [`MAX_POINTS`] points.
    #[error("a ring for these backends would need more than {MAX_POINTS} points")]
    TooManyPoints,
    /// Two members have the same id.
    #[error("backend id {id:?} occurs twice")]
    DuplicateId {
        /// The id.
        id: String,
    },
    /// Two members have the same index.
    #[error("backends {first:?} and {second:?} have the same index {index}")]
    DuplicateIndex {
        /// The index.
        index: u32,
        /// The lesser of the two ids.
        first: String,
        /// The other one.
        second: String,
    },
    /// A finished table was given with another number of slots than its size.
    #[error("the table has {found} slots instead of {size}")]
    Length {
        /// The size it should have.
        size: u32,
        /// Its number of slots.
        found: usize,
    },
    /// A finished table names an index that no member has.
    #[error("slot {slot} names backend index {index}, which nobody has")]
    UnknownIndex {
        /// The slot.
        slot: u32,
        /// What it holds.
        index: u32,
    },
}

fn describe(size: u32, below: Option<u32>, above: Option<u32>) -> String {
    let fault = if size > MAX_SLOTS { "too large" } else { "not prime" };
    match (below, above) {
        (Some(below), Some(above)) => {
            format!("{fault}; the nearest primes are {below} and {above}")
        }
        (Some(nearest), None) => format!("{fault}; the greatest prime possible is {nearest}"),
        (None, Some(nearest)) => format!("{fault}; the least prime possible is {nearest}"),
        (None, None) => fault.to_owned(),
    }
}
