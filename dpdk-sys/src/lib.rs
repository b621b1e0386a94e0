//! Raw bindings to the installed libdpdk: an allowlist, and nothing but bindings.
//!
//! DPDK's fast-path functions (`rte_eth_rx_burst`, `rte_pktmbuf_alloc` ...) are `static inline`
//! in its headers; bindgen writes a C shim for them (see `build.rs`), so each is one call away.
//! Who may call what, and when, is the business of `dataplane::port::dpdk`, the only user.

#![expect(
    non_camel_case_types,
    clippy::all,
    clippy::undocumented_unsafe_blocks,
    reason = "generated from C headers"
)]

include!(concat!(env!("OUT_DIR"), "/bindings.rs"));
