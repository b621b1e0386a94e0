//! The controller: registry, health and drains become snapshots for nodes.
//!
//! One controller leads at a time. For its term it keeps the whole picture in memory, owned by one
//! task ([`desk`]): the rows of the registry, the health of every pool, what the fleet reports.
//! Everything that happens goes over that desk, so that decisions have one order and no locks.
//!
//! ```text
//!  operators ─▶ calls ────change──▶ ┌──────┐ ──write under the fence──▶ registry
//!  checkers ──▶ reports ──see─────▶ │ desk │ ◀──revision───────────────┘
//!  nodes ─────▶ fleet ────see─────▶ └──────┘ ──drafts──▶ press ──PoolSnapshot──▶ board ──▶ nodes
//! ```
//!
//! In the order of a change: [`service`] (who may call), [`calls`] (what operators change),
//! [`desk`] (one after the other), [`snapshots`] (what nodes are told). [`term`] begins and ends
//! all of it with the election; [`renewal`] is for a store that was restored.
//!
//! What holds: a change is answered after the registry has it; nodes are told what the registry
//! holds; versions of snapshots only go up, over changes of leader too; who does not lead answers
//! nothing but UNAVAILABLE and the leader's address.

#![forbid(unsafe_code)]

mod calls;
mod clock;
mod controller;
mod desk;
mod events;
mod fleet;
mod http;
mod office;
mod picture;
mod plan;
mod plane;
mod renewal;
mod reports;
mod service;
mod settings;
mod snapshots;
mod stream;
mod term;
mod wire;

pub use controller::{Controller, Error, run};
pub use renewal::{RenewalError, Renewed, renew_store_id};
pub use settings::{FleetTimings, Limits, Settings, Store};
