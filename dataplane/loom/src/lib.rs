//! `dataplane` without the rest: the published pointer, on loom's primitives.

#[path = "../../src/publish.rs"]
pub mod publish;
#[path = "../../src/sync.rs"]
mod sync;
