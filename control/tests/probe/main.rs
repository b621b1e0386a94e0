//! Probes through the tunnel.

use std::net::{Ipv4Addr, SocketAddr};

mod node;
mod schedule;

/// Time goes by in steps of this.
const STEP_MS: u64 = 10;

fn vip(last: u8) -> SocketAddr {
    SocketAddr::new(Ipv4Addr::new(203, 0, 113, last).into(), 80)
}
