//! The controller: registry, health and drains become snapshots for nodes.

#![forbid(unsafe_code)]
