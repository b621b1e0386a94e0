//! The one door through which cross-thread primitives come in, so that loom can stand in it.
//!
//! Normally these are the standard library's. Under `--cfg crossbeam_loom`, the switch that
//! crossbeam itself listens to, they are loom's, which runs a test under every interleaving
//! and every stale value that the memory model allows. Code shared between threads uses this
//! module and crossbeam, and nothing else; `tests/publish_loom.rs` says how to run it.

#[cfg(not(crossbeam_loom))]
pub(crate) use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering, fence},
    },
    thread::yield_now,
};

#[cfg(crossbeam_loom)]
pub(crate) use loom::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering, fence},
    },
    thread::yield_now,
};
