//! The lab's decapsulator, for backends whose kernel has no `ipip`, `ip6_tunnel`, `gre` or `fou`
//! module.
//!
//! A packet goes through the files in this order: a raw socket of IP protocol 4, 41 or 47, over
//! either version of IP, or a UDP socket receives it ([`socket`]), what the tunnel put in front is
//! checked and taken off ([`strip`]), and what was inside is written to a TUN device ([`tun`]), so that the kernel delivers it to the VIP on
//! its loopback as if a tunnel device had received it. [`stats`] counts each packet once, as
//! delivered or under the reason why not.
//!
//! The invariant that tests rely on: what reaches the TUN device is byte for byte what the
//! balancer put inside the outer header. Nothing is corrected on the way; TTL, DSCP, ECN and
//! checksums are the balancer's.
#![deny(unsafe_code)]

pub mod socket;
pub mod stats;
pub mod strip;
pub mod tun;
