//! What nodes are told: full, versioned states of pools.
//!
//! ```text
//!  picture ──Draft──▶ press (one task a pool: newest draft, digest) ──▶ board ──▶ streams of nodes
//! ```
//!
//! Versions are drawn from one count for all pools: the term's epoch, then a number. So they only
//! go up, from leader to leader and from restart to restart, and a stream's whole memory is one
//! number: the version it has sent last.

mod board;
mod press;
mod watching;

pub(crate) use board::Board;
pub(crate) use press::{Draft, Press};
pub(crate) use watching::watch_pool;
