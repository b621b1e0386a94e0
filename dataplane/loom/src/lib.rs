//! `dataplane` without the rest: the published pointer and the doorbell, on loom's primitives.

#[path = "../../src/handoff/doorbell.rs"]
pub mod doorbell;
#[path = "../../src/publish.rs"]
pub mod publish;
#[path = "../../src/sync.rs"]
mod sync;
