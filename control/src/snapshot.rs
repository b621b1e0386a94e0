//! `PoolSnapshot`: one full, versioned state of a pool, and the only way into the data plane.
//!
//! Pools of the configuration file and pools of a controller become this first (SPEC sections
//! 5 and 6); [`crate::assemble`] turns the set of them into tables.

use std::fmt;
use std::net::IpAddr;

use dataplane::quic::{Configuration, ServerId};
use dataplane::tables::{Affinity, BackendState, Forwarding, MssClamp};
use dataplane::vip::{VipMatch, VipPorts, VipProtocol};

/// A pool as of one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolSnapshot {
    /// Name of the pool.
    pub pool_id: String,
    /// Counts the changes of this pool; never goes down.
    pub version: u64,
    /// How flows are spread and sent.
    pub settings: PoolSettings,
    /// All backends, those that drain or are evicted included; ids are unique.
    pub backends: Vec<BackendEntry>,
    /// The VIPs bound to the pool.
    pub vips: Vec<VipBinding>,
}

/// How a pool's flows are spread and sent. `Debug` hides the secret.
#[derive(Clone, PartialEq, Eq)]
pub struct PoolSettings {
    /// The table that flows are looked up in.
    pub scheduler: Scheduler,
    /// How packets reach the backends.
    pub forwarding: Forwarding,
    /// GUE headers name who had a flow's slot before; with [`Forwarding::GueWithHeader`] and
    /// Maglev only.
    pub second_chance: bool,
    /// Key of the flow hash.
    pub hash_secret: [u8; 16],
    /// TCP flows leave unhealthy backends.
    pub reselect: bool,
    /// How the servers make QUIC connection ids.
    pub quic: Vec<Configuration>,
}

/// The table that flows are looked up in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheduler {
    /// Maglev's, with so many slots (a prime).
    Maglev {
        /// Slots of the table.
        table_size: u32,
    },
    /// A consistent hash ring.
    Ring,
}

/// One backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendEntry {
    /// Stable name; survives a change of address.
    pub id: String,
    /// Where packets are sent.
    pub address: IpAddr,
    /// Share of new flows, relative to the others; 0: none.
    pub weight: u32,
    /// Whether it may have flows.
    pub state: BackendState,
    /// What it is called in QUIC connection ids.
    pub quic_server_ids: Vec<ServerId>,
}

/// One VIP of the pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VipBinding {
    /// What it matches.
    pub matches: VipMatch,
    /// How long its flows may be idle.
    pub timeouts: conntrack::Timeouts,
    /// What a client is known by.
    pub affinity: Affinity,
    /// The largest MSS that a client's SYN may name.
    pub mss_clamp: MssClamp,
}

impl fmt::Debug for PoolSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scheduler, forwarding, second_chance, hash_secret: _, reselect, quic } = self;
        f.debug_struct("PoolSettings")
            .field("scheduler", scheduler)
            .field("forwarding", forwarding)
            .field("second_chance", second_chance)
            .field("reselect", reselect)
            .field("quic", quic)
            .finish_non_exhaustive()
    }
}

impl VipBinding {
    /// The VIP's name in metrics, logs and `replay --json`: `203.0.113.1:80/tcp`.
    pub fn name(&self) -> String {
        let VipMatch { address, prefix_length, ports, protocol } = &self.matches;
        let whole = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match *prefix_length == whole {
            true => address.to_string(),
            false => format!("{address}/{prefix_length}"),
        };
        let prefix = if address.is_ipv6() { format!("[{prefix}]") } else { prefix };
        let ports = match ports {
            VipPorts::One(port) => port.to_string(),
            VipPorts::Range(range) => format!("{}-{}", range.start(), range.end()),
            VipPorts::Any => "any".to_owned(),
        };
        let protocol = match protocol {
            VipProtocol::Tcp => "tcp",
            VipProtocol::Udp => "udp",
            VipProtocol::Any => "any",
        };
        format!("{prefix}:{ports}/{protocol}")
    }
}

impl BackendEntry {
    /// Whether new flows may be given to it.
    pub fn is_eligible(&self) -> bool {
        self.state == BackendState::Active && self.weight > 0
    }
}
