//! The rows of the registry: what SPEC section 6 says every row keeps, as plain structs.
//!
//! They mirror the messages of `weir.v1` without depending on them, so that a stored row does not
//! change when the wire does. Values are checked by the controller before they get here; defaults
//! are filled in there too, so that a row says what holds, not what was left out.
//!
//! Fields that a newer release added are kept in `unknown` and written back: during a rolling
//! upgrade an old leader may rewrite rows of a newer one. A field added later needs
//! `#[serde(default)]`, as rows of older releases do not have it; a change that an older release
//! would misread needs another [`FORMAT`](crate::FORMAT), which that release refuses.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::hex;
use crate::key::{Key, VipKey};

/// Any row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Row {
    /// See [`Pool`].
    Pool(Pool),
    /// See [`Backend`].
    Backend(Backend),
    /// See [`VipBinding`].
    Vip(VipBinding),
}

/// Fields that this release does not know, by name. [`Default`] for a new row.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Unknown(BTreeMap<String, serde_json::Value>);

/// A set of backends behind VIPs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pool {
    /// The operator's name for it.
    pub id: String,
    /// How it balances, forwards and judges.
    pub settings: PoolSettings,
    /// Nanoseconds since 1970.
    pub created_at_ns: u64,
    /// See [`Unknown`].
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// How a pool balances, forwards and judges.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PoolSettings {
    /// How flows find backends.
    pub scheduler: Scheduler,
    /// Slots of the table, a prime.
    pub table_size: u32,
    /// How packets reach backends.
    pub forwarding: Forwarding,
    /// Keys the flow hash.
    pub hash_secret: HashSecret,
    /// Bleed-out window of a drain.
    pub drain_seconds: u32,
    /// TCP flows leave unhealthy backends.
    pub reselect: bool,
    /// How its backends are probed.
    pub probe: ProbeSettings,
    /// Checkers assigned to each backend.
    pub quorum_checkers: u32,
    /// So many of them must agree.
    pub quorum_down: u32,
    /// Above this share of bad backends the pool is served as if all were good.
    pub panic_percent: u32,
    /// Ramp of a new backend's weight; 0: none.
    pub slow_start_seconds: u32,
    /// GUE in variant 0.
    #[serde(default)]
    pub gue_variant_0: bool,
    /// GUE headers name who had a flow's slot before.
    #[serde(default)]
    pub second_chance: bool,
    /// How the servers make QUIC connection ids.
    #[serde(default)]
    pub quic: Vec<QuicConfiguration>,
    /// See [`Unknown`].
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// One way to make QUIC connection ids that name a server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QuicConfiguration {
    /// The number in the first three bits, 0 to 6.
    pub config_id: u8,
    /// Octets of the server id, 1 to 15.
    pub server_id_length: u8,
    /// Octets of the nonce, from 4; with the server id at most 19.
    pub nonce_length: u8,
    /// The AES-128 key; `None`: plain text.
    pub key: Option<QuicKey>,
    /// The first octet gives the length of the rest.
    pub self_encoded_length: bool,
    /// See [`Unknown`].
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// How a pool's backends are probed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProbeSettings {
    /// The liveness probe.
    pub liveness: ProbeKind,
    /// From start to start, in milliseconds.
    pub interval_ms: u32,
    /// Without an answer for so long, a probe has failed; milliseconds.
    pub timeout_ms: u32,
    /// So many failures in a row make a backend bad.
    pub failures_to_down: u32,
    /// So many passes in a row make it good.
    pub passes_to_up: u32,
    /// Of the interval, 0 to 20.
    pub jitter_percent: u32,
    /// What an HTTP probe must be answered with.
    pub http_expected_status: u16,
    /// What a UDP probe sends.
    #[serde(with = "hex")]
    pub udp_payload: Vec<u8>,
    /// Name of a command in the checkers' configuration.
    pub command: String,
    /// See [`Unknown`].
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// One server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Backend {
    /// The pool it is in.
    pub pool_id: String,
    /// Stable, unique in the registry; survives a change of address.
    pub id: String,
    /// Where packets go.
    pub ip: IpAddr,
    /// Where checkers connect to.
    pub port: u16,
    /// Share of new flows; 0: none.
    pub weight: u16,
    /// Among them "az", "rack", "version".
    pub labels: BTreeMap<String, String>,
    /// http:// or https:// URL; empty: no readiness probe.
    pub readiness_probe_url: String,
    /// Where it is in its life.
    pub state: BackendState,
    /// Whether it last said that it wants load: a new leader starts from it.
    #[serde(default = "yes")]
    pub ready: bool,
    /// Nanoseconds since 1970.
    pub registered_at_ns: u64,
    /// Nanoseconds since 1970.
    pub last_state_change_ns: u64,
    /// While it drains: when that ends, in nanoseconds since 1970.
    pub drain_until_ns: Option<u64>,
    /// It was deregistered: the row goes once the drain is over.
    pub deregistered: bool,
    /// What it is called in QUIC connection ids.
    #[serde(default)]
    pub quic_server_ids: Vec<ServerId>,
    /// See [`Unknown`].
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// A VIP, and the pool that serves it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VipBinding {
    /// The pool it is bound to.
    pub pool_id: String,
    /// An address or a prefix, host bits zero.
    pub address: IpNet,
    /// The first of the ports; both 0: any port.
    pub first_port: u16,
    /// The last of the ports.
    pub last_port: u16,
    /// Of the flows.
    pub protocol: Protocol,
    /// Idle times of its flows.
    pub idle: IdleSeconds,
    /// What a client is known by.
    #[serde(default)]
    pub affinity: Affinity,
    /// The largest MSS that a client's SYN may name.
    #[serde(default)]
    pub mss_clamp: MssClamp,
    /// See [`Unknown`].
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// Idle times of flows, in seconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IdleSeconds {
    /// TCP, after a SYN.
    pub syn_received: u32,
    /// TCP, open.
    pub established: u32,
    /// TCP, closing.
    pub fin_wait: u32,
    /// TCP, closed.
    pub time_wait: u32,
    /// UDP.
    pub udp: u32,
    /// See [`Unknown`].
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// What a client is known by, when a backend is chosen for its packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Affinity {
    /// The 5-tuple.
    #[default]
    Flow,
    /// The source address alone.
    Source,
    /// The server id in a QUIC connection id.
    Quic,
}

/// The largest MSS that a client's SYN may name on its way to a backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MssClamp {
    /// Any.
    #[default]
    Off,
    /// What fits one packet to the backend.
    Auto,
    /// So many bytes.
    To(u16),
}

/// Where a backend is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BackendState {
    /// Registered, not passed by its checkers yet.
    Pending,
    /// Gets new flows.
    Healthy,
    /// No new flows; existing ones go on until the window ends.
    Draining,
    /// No new flows.
    Unhealthy,
    /// Drained: its stragglers are reset.
    Evicted,
}

/// How flows find backends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scheduler {
    /// A Maglev table.
    Maglev,
    /// A consistent hash ring.
    Ring,
    /// Smooth weighted round robin.
    Wrr,
}

/// How packets reach backends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Forwarding {
    /// IP in IP.
    Ipip,
    /// RFC 2784.
    Gre,
    /// Generic UDP encapsulation.
    Gue,
    /// The destination MAC rewritten.
    L2dsr,
    /// Full NAT.
    Nat,
}

/// What a liveness probe is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProbeKind {
    /// A connection.
    Tcp,
    /// An answer to GET.
    Http,
    /// An answer to a datagram.
    Udp,
    /// A program that ends with 0.
    Command,
}

/// Protocol of a VIP's flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// Any protocol.
    Any,
}

/// 128 bits that key a pool's flow hash. Not shown by `Debug`: who knows it can aim flows.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct HashSecret(#[serde(with = "hex")] pub [u8; 16]);

/// A key of QUIC connection ids. Not shown by `Debug`: who knows it can name servers.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct QuicKey(#[serde(with = "hex")] pub [u8; 16]);

/// A server id of QUIC connection ids, 1 to 15 octets.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ServerId(#[serde(with = "hex")] pub Vec<u8>);

/// Of rows that do not say.
fn yes() -> bool {
    true
}

impl Row {
    /// What it is found under.
    pub fn key(&self) -> Key {
        match self {
            Self::Pool(pool) => Key::Pool(pool.id.clone()),
            Self::Backend(backend) => Key::Backend(backend.id.clone()),
            Self::Vip(vip) => Key::Vip(vip.key()),
        }
    }
}

impl VipBinding {
    /// What clients dial.
    pub fn key(&self) -> VipKey {
        VipKey {
            address: self.address,
            ports: (self.first_port, self.last_port),
            protocol: self.protocol,
        }
    }
}

impl Protocol {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Any => "any",
        }
    }

    pub(crate) fn parse(name: &str) -> Option<Self> {
        [Self::Tcp, Self::Udp, Self::Any].into_iter().find(|protocol| protocol.name() == name)
    }
}

impl fmt::Debug for QuicKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("QuicKey(..)")
    }
}

impl fmt::Debug for HashSecret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("HashSecret(..)")
    }
}
