//! The control side of Weir: what a node does that is not per packet.
//!
//! In the order of the data: [`statics`] makes [`snapshot::PoolSnapshot`]s of the configuration
//! file, [`assemble`] makes tables of them, [`node`] publishes those and looks after the
//! neighbours, [`probe`] asks backends at
//! their VIP, [`admin`] shows all of it over HTTP.

#![forbid(unsafe_code)]

pub mod admin;
pub mod assemble;
mod indices;
pub mod node;
pub mod probe;
pub mod snapshot;
pub mod statics;
