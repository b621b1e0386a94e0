//! The control side of Weir: what a node does that is not per packet.
//!
//! In the order of the data: [`statics`] makes [`snapshot::PoolSnapshot`]s of the configuration
//! file; [`watch`] hears a controller instead, [`intake`] checks what it says, [`fed`] keeps the
//! set, and [`cache`] has it ready for a start without a controller. [`build`] makes tables of
//! either, which [`prepare`] keeps off the node's own thread, and [`assemble`] what workers read,
//! [`outer`] headers included.
//! [`node`] publishes it, with its own `links`, and looks after the neighbours, [`probe`] asks backends at their VIP,
//! [`overrides`] are its operator's last word, [`admin`] shows all of it over HTTP.

#![forbid(unsafe_code)]

pub mod admin;
mod ask;
pub mod assemble;
pub mod build;
pub mod cache;
pub mod fed;
mod indices;
pub mod intake;
mod links;
pub mod node;
pub mod outer;
pub mod overrides;
pub mod portless;
pub mod prepare;
pub mod probe;
pub mod shared;
pub mod snapshot;
pub mod statics;
mod traffic;
pub mod watch;
