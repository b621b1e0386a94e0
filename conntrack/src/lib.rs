//! Connection tracking: which backend owns a flow.
//!
//! One [`Table`] belongs to one worker core. Every operation takes `&mut self` and the time,
//! so there is no lock, no clock and no I/O in this crate, and nothing is allocated after
//! construction. The one idea: a flow costs two cache lines, one of small tags that
//! answers "where could it be", and one entry that answers everything else.
//!
//! In the order a packet meets them: [`FlowKey`] names the flow, [`KeyHasher`] places it,
//! [`Table::probe`] finds the candidate slot, [`Table::lookup`] verifies it and moves its
//! [`State`], [`Table::insert`] makes room if the flow is new, [`Reaper`] sweeps up later.
//!
//! Conntrack is an affinity pin, not a correctness requirement: a flow that cannot be stored
//! is [`Inserted::Refused`] and is forwarded statelessly by the Maglev table.

mod check;
mod entry;
mod evict;
mod hash;
mod key;
mod lanes;
mod marks;
mod memory;
mod prefetch;
mod reap;
mod run;
mod sent_v6;
mod state;
mod steady;
mod table;
mod tags;

pub use entry::{Cause, Entry, Pin, Removed};
pub use hash::KeyHasher;
pub use key::{Family, FlowKey, Service, V4Words};
pub use memory::{MAX_FLOWS, Memory, MemoryError};
pub use reap::{Reaper, Swept, TICKS_A_TURN};
pub use sent_v6::V6AsSent;
pub use state::{Packet, Segment, State, Timeouts};
pub use steady::{Entries, Steady};
pub use table::{Hit, Inserted, Lookup, Probe, Table};
pub use tags::MAX_PROBE;
