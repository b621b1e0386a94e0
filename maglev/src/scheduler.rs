//! What ways of choosing have in common, and the closed set of them.

use crate::digest::Digest;
use crate::ring::Ring;
use crate::table::Maglev;

/// A finished, immutable way from flow hashes to backend indices.
pub trait Scheduler: Send + Sync {
    /// The backend index for a flow hash; `None` when nobody is eligible.
    fn pick(&self, flow_hash: u64) -> Option<u32>;

    /// Slots of a table, points of a ring; 0 when nobody is eligible.
    fn len(&self) -> usize;

    /// Whether nobody is eligible.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What each member has, zero weights included, in the order of the members' ids.
    fn shares(&self) -> &[Share];

    /// Names the choice this makes for every flow, in terms of backend ids.
    fn digest(&self) -> &Digest;
}

/// What one member has.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Share {
    /// The member's index.
    pub index: u32,
    /// The member's weight.
    pub weight: u32,
    /// Slots of a table, points of a ring.
    pub slots: u32,
    /// Part of all flow hashes, from 0 to 1.
    pub fraction: f64,
}

/// Either scheduler, without indirection on the packet path.
#[derive(Clone, Debug, PartialEq)]
pub enum Selector {
    /// A Maglev table.
    Maglev(Maglev),
    /// A consistent hash ring.
    Ring(Ring),
}

impl Selector {
    /// The backend index for a flow hash; `None` when nobody is eligible.
    #[inline]
    pub fn pick(&self, flow_hash: u64) -> Option<u32> {
        match self {
            Selector::Maglev(table) => table.pick(flow_hash),
            Selector::Ring(ring) => ring.pick(flow_hash),
        }
    }

    /// As what they have in common.
    pub fn as_scheduler(&self) -> &dyn Scheduler {
        match self {
            Selector::Maglev(table) => table,
            Selector::Ring(ring) => ring,
        }
    }
}

impl Scheduler for Selector {
    #[inline]
    fn pick(&self, flow_hash: u64) -> Option<u32> {
        self.pick(flow_hash)
    }

    fn len(&self) -> usize {
        self.as_scheduler().len()
    }

    fn shares(&self) -> &[Share] {
        self.as_scheduler().shares()
    }

    fn digest(&self) -> &Digest {
        self.as_scheduler().digest()
    }
}
