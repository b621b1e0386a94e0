//! The validated model: plain structs, one for each kind of table in a file.
//!
//! Fields carry the file's keys, in the types that those who act on them want. All checks are
//! done: whoever holds a [`Config`], a [`ControllerConfig`] or a [`CheckerConfig`] may rely on
//! the ranges and rules written here and in `docs/configuration.md`. Certificates, keys, tokens
//! and passwords are only named here, by file: who uses them reads them.

mod checker;
mod client;
mod controller;
mod node;

pub use checker::{Checker, CheckerConfig, Command};
pub use client::{ClientTls, ControllerClient, Identity};
pub use controller::{
    Access, Controller, ControllerConfig, Credential, Etcd, EtcdUser, Fleet, Limits, Registry,
    Role, ServerTls, Store,
};
pub use node::{
    Affinity, Backend, BackendState, Config, Conntrack, Dpdk, EarlyFragments, Encapsulation,
    Exception, ExceptionDriver, FewerQueues, Forwarding, Fragments, Icmp, Idle, MssClamp, Neighbor,
    Node, OuterVlan, Oversize, Pool, Port, Protocol, QuicConfiguration, Scheduler, Timeouts, Vip,
    VipPort, VlanProtocol,
};
