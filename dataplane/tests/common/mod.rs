//! What the tests of the whole path share: a small world of pools and VIPs, made into tables by
//! code of its own, and packets made by `etherparse`.

#![allow(dead_code, unused_imports, reason = "each test program uses a part of this")]

pub(crate) mod packets;
pub(crate) mod pipeline;
pub(crate) mod pooled;
pub(crate) mod several;
mod tunnels;
mod verify;
mod verify_icmp;
mod verify_ipv6;
mod verify_mss;
pub(crate) mod world;
