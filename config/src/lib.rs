//! The configuration of Weir's programs: one TOML file in, one validated configuration out; a
//! [`Config`] for a node, a [`ControllerConfig`], a [`CheckerConfig`], or a [`Configuration`] for
//! whichever of them the file is.
//!
//! The idea: every key is described once, in [`schema`]. The reader takes types, ranges
//! and defaults from there, the check for unknown keys finds the nearest name there, and a
//! test holds `docs/configuration.md` against it. So the program, its errors and its manual
//! cannot drift apart.
//!
//! The way of a file, in the order of the modules: `file` turns text into a tree with positions
//! and tells whose it is, each file of `section/` reads one kind of table into a struct of
//! `model`, and `cross` checks what spans a node's sections. All problems are collected and come
//! back together, each with its line and key; what is merely doubtful comes back as a
//! warning beside the configuration.
//!
//! The invariant: a [`Config`] that exists is one the data plane can be built from. Reading
//! is total: no input makes this crate panic. It opens the named file and does no other I/O.

#![forbid(unsafe_code)]

mod affinity;
mod cross;
mod endpoint;
mod file;
mod files;
mod hash_secret;
mod mac;
mod model;
mod overlap;
mod prime;
mod quic;
mod reader;
mod reload;
mod report;
pub mod schema;
mod section;

pub use endpoint::{Endpoint, EndpointError};
pub use file::{Configuration, Loaded};
pub use files::{Content, NamedFile};
pub use hash_secret::{HashSecret, HashSecretError};
pub use ipnet::{IpNet, Ipv4Net, Ipv6Net};
pub use mac::{MacAddress, MacAddressError};
pub use model::{
    Access, Affinity, Backend, BackendState, Checker, CheckerConfig, ClientTls, Command, Config,
    Conntrack, Controller, ControllerClient, ControllerConfig, Credential, Dpdk, EarlyFragments,
    Encapsulation, Etcd, EtcdUser, Exception, ExceptionDriver, FewerQueues, Fleet, Forwarding,
    Fragments, Icmp, Identity, Idle, Limits, MssClamp, Neighbor, Node, OuterVlan, Oversize, Pool,
    Port, Protocol, QuicConfiguration, Registry, Role, Scheduler, ServerTls, Store, Timeouts, Vip,
    VipPort, VlanProtocol,
};
pub use quic::{QuicError, QuicKey, QuicServerId};
pub use report::{Errors, Problem};
