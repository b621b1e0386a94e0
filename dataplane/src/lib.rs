//! The per-packet path of Weir.
//!
//! In the order a packet meets them: a [`port`] hands a burst of [`buffer`]s to a [`worker`],
//! which takes it through the stages [`parse`], [`classify`], [`select`] and [`forward`], with
//! the published [`tables`] in hand; [`answer`] replies to what the node answers itself, [`hold`]
//! keeps what waits for a [`neighbour`], [`probe`] asks backends at their VIP, [`second_chance`]
//! names who else may know a flow, [`exception`] hands the node's kernel what is its own. Every
//! packet ends in a [`verdict`], and every verdict in [`counters`].
//!
//! The path is generic over where bytes live: the same code runs on a NIC, under `replay`, in
//! tests and under the fuzzer. Unsafe code lives in `port/dpdk` (the foreign functions) and
//! `publish` (the epoch pointer), nowhere else but one prefetch hint.

#![deny(unsafe_code)]

pub mod answer;
pub mod buffer;
pub mod classify;
pub mod clock;
pub mod counters;
pub mod exception;
pub mod forward;
pub mod fragment;
pub mod handoff;
pub mod hold;
pub mod icmp;
mod lines;
pub mod link;
pub mod neighbour;
pub mod parse;
pub mod port;
mod prefetch;
pub mod probe;
pub mod publish;
pub mod quic;
pub mod rss;
pub mod second_chance;
pub mod select;
mod sync;
pub mod tables;
mod tags;
pub mod verdict;
pub mod vip;
pub mod wire;
pub mod worker;
