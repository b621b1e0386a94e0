//! End to end: the real program on real DPDK ports, a kernel client, nginx backends, all in network
//! namespaces (`scripts/lab.sh` draws the picture).
//!
//! Needs root; without it each test says so and does nothing. The tests run one at a time: the
//! machine has few cores, and each has a node of its own.

mod affinity;
mod control;
mod exception;
mod fleet;
mod fragments;
mod ipv6;
mod jumbo;
mod lab;
mod path_mtu;
mod plane;
mod ports;
mod quic;
mod second_chance;
mod starting;
mod tags;
mod traffic;
mod tunnel;
