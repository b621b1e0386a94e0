//! From the hash of a flow to a backend, the same on every node.
//!
//! A pool's table is a pure function of (backend ids, weights, table size, secret). Nodes that
//! share a snapshot therefore agree on every flow without talking to each other, and a flow that
//! the network moves to another node goes on to the same backend. Nothing here does I/O, keeps a
//! clock or knows an address.
//!
//! # The way of a flow
//!
//! 1. [`FlowHasher`] turns the packed 5-tuple into 64 bits: SipHash-2-4 under the pool's secret,
//!    so that nobody outside can aim many flows at one backend.
//! 2. [`Maglev::pick`] takes slot `floor(hash * M / 2^64)` of the table and finds a backend index
//!    there: one multiplication and one load. [`Ring::pick`] searches a ring of points instead.
//!    [`Selector`] is either, [`Scheduler`] what they have in common.
//!
//! # How a table comes about
//!
//! The algorithm is the one of Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load
//! Balancer", NSDI 2016, section 3.4. Each backend has a permutation of the slots, drawn from a
//! keyed hash of its id ([`Permutation`]). The backends take turns; in a turn, a backend takes the
//! first slot of its permutation that is still free; this ends when all slots are taken.
//!
//! The paper leaves weights open ("by altering the relative frequency of the backends' turns").
//! Here, turns happen in virtual time: a backend of weight `w` has its first turn at time 0, and
//! turn `k` (from 1) at time `(k + 1/2) / w`. Ties go to the greater weight, then by a keyed hash
//! of the id. From this follow the promises that the tests
//! hold us to:
//!
//! - **Little disruption.** The times of a backend's turns depend on its own weight and nothing
//!   else: no share, maximum or sum of the pool enters. When another backend comes, goes or
//!   changes its weight, the order of all other turns stays, and the table only ends a little
//!   earlier or later. (Schemes that scale by the greatest weight reshuffle the whole order when
//!   the heaviest backend goes.) Of the slots that neither belonged to the changed backend nor go
//!   to it, at most 2 % move. Measured at M = 65537, worst of those tried: 0.8 % for one removal
//!   of 750 equal backends, 1.0 % for any number of equal backends, 1.2 % for removals and weight
//!   changes with weights from 1 to 100.
//! - **Proportion.** Halves round to the nearest: this is Webster's apportionment with at least one
//!   seat each. No slot could go from one backend to another and bring their slots per weight
//!   closer together. Backends of equal weight differ by at most one slot.
//! - **No starvation.** All first turns come before any second one, so each backend with a
//!   weight has a slot as long as there are not more backends than slots. Weight 0 has none. The
//!   sum of the weights is without limit and may exceed the table's size; only the ratios count.
//! - **Order and position do not matter.** Members are sorted by what their ids say. Indices are
//!   passed through and decide nothing.
//!
//! # Sizes
//!
//! The size M is prime ([`is_prime`]), so that every skip walks through all slots, and at most
//! [`MAX_SLOTS`]. A table holds `4 * M` bytes (256 KiB at 65537); building it needs `M / 8` bytes
//! for the free slots and about 200 bytes a member on top. A build is `O(M log M)` steps on
//! average, about `M * ln M` probes of a bitmap that fits the first-level cache at 65537, plus
//! `O(log C)` a turn, with C the number of different weights. On one core of about 3 GHz: 1.5 ms
//! for 750 equal backends at 65537 and 2.5 ms when all weights differ; 10,000 backends at 655373 take
//! about 20 ms and 32 ms. `cargo bench -p bench --bench maglev` prints them for your machine. At
//! M >= 100 * N, equal backends differ by at most 1 %; [`undersized`] says when a table is below.
//!
//! # Agreement
//!
//! [`Digest`] is SHA-256 over ids and slots, never over a node's own indices; two nodes with one
//! digest and one secret send every flow the same way. [`verify`] is for a node that is handed a table: it checks
//! each backend's number of slots and then the whole against a table of its own.

#![deny(unsafe_code)]

mod digest;
mod error;
mod flow_hash;
mod member;
mod permutation;
mod prime;
mod ring;
mod scheduler;
mod statistics;
mod table;
mod turns;
mod verify;

pub use digest::{Digest, ParseDigestError};
pub use error::Error;
pub use flow_hash::FlowHasher;
pub use member::Member;
pub use permutation::Permutation;
pub use prime::{Undersized, is_prime, nearest_primes, undersized};
pub use ring::{MAX_POINTS, Ring};
pub use scheduler::{Scheduler, Selector, Share};
pub use statistics::{ShareStatistics, Statistics};
pub use table::{MAX_SLOTS, Maglev};
pub use verify::{VerifyError, verify};
