//! `weir-gue`: what receives GUE (draft-ietf-intarea-gue) on a Linux backend, and gives flows that
//! this backend does not know a second chance at the one that the packet names.
//!
//! The way of a packet, pure but for its ends: a [`worker`] takes a datagram off UDP port 6080;
//! [`gue`] reads its header, [`inner`] the packet inside; [`versions`] says how old the tables were
//! that the sender forwarded by; [`decide`] asks [`recent`] and [`sockets`] whether the kernel has a
//! socket for the flow. A packet is then handed to the kernel through a TUN device, or sent on to
//! the next hop, one step further down its list. Every end is a counter of [`counters`].
//!
//! Invariants: no packet goes to a hop twice (the index in its header only grows, and at the end of
//! the list packets stay); nobody but a peer is listened to or sent to; nothing is delivered that is
//! not for a VIP; nothing in a packet can panic, and nothing is logged for a packet.
#![forbid(unsafe_code)]

pub mod arguments;
pub mod counters;
pub mod decide;
pub mod gue;
pub mod inner;
pub mod prefixes;
pub mod recent;
pub mod sockets;
pub mod versions;
pub mod worker;
