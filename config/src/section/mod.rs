//! One file for each kind of table: keys in, a struct of the model out.
//!
//! What a section can check alone is checked here; what needs another section is in
//! `cross`, which is why some readers also return the lines of what they read.

pub(crate) mod address;
pub(crate) mod checker;
pub(crate) mod client;
pub(crate) mod controller;
pub(crate) mod encapsulation;
pub(crate) mod node;
pub(crate) mod path;
pub(crate) mod pool;
pub(crate) mod port;
pub(crate) mod quic;
pub(crate) mod registry;
pub(crate) mod vip;
