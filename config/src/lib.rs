//! The configuration of a Weir node: one TOML file in, one validated [`Config`] out.
//!
//! The idea: every key is described once, in [`schema`]. The reader takes types, ranges
//! and defaults from there, the check for unknown keys finds the nearest name there, and a
//! test holds `docs/configuration.md` against it. So the program, its errors and its manual
//! cannot drift apart.
//!
//! The way of a file, in the order of the modules: [`parse`](Config::parse) turns text into
//! a tree with positions, each file of `section/` reads one kind of table into a struct of
//! `model`, and `cross` checks what spans sections. All problems are collected and come
//! back together, each with its line and key; what is merely doubtful comes back as a
//! warning beside the configuration.
//!
//! The invariant: a [`Config`] that exists is one the data plane can be built from. Reading
//! is total: no input makes this crate panic. It opens the named file and does no other I/O.

#![forbid(unsafe_code)]

mod cross;
mod hash_secret;
mod mac;
mod model;
mod overlap;
mod parse;
mod prime;
mod reader;
mod reload;
mod report;
pub mod schema;
mod section;

pub use hash_secret::{HashSecret, HashSecretError};
pub use ipnet::{IpNet, Ipv4Net, Ipv6Net};
pub use mac::{MacAddress, MacAddressError};
pub use model::{
    Backend, BackendState, Config, Conntrack, Dpdk, Encapsulation, FewerQueues, Forwarding, Idle,
    Neighbor, Node, Pool, Port, Protocol, Scheduler, Timeouts, Vip, VipPort,
};
pub use parse::Loaded;
pub use report::{Errors, Problem};
