//! The tables of the TOML file, as serde reads and writes them.
//!
//! They are those of a node's static configuration (SPEC section 16), with what a controller
//! needs besides. An unknown key and a wrong type are refused here, what the values must be is
//! checked in `file`; so every value keeps its place in the text.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use toml::Spanned;

#[derive(Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FileTable {
    #[serde(default, rename = "pool", skip_serializing_if = "Vec::is_empty")]
    pub(super) pools: Vec<PoolTable>,
    #[serde(default, rename = "vip", skip_serializing_if = "Vec::is_empty")]
    pub(super) vips: Vec<VipTable>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PoolTable {
    pub(super) id: Spanned<String>,
    pub(super) scheduler: Option<Spanned<String>>,
    pub(super) table_size: Option<Spanned<u32>>,
    pub(super) forwarding: Option<Spanned<String>>,
    pub(super) hash_secret: Option<Spanned<String>>,
    pub(super) drain_seconds: Option<Spanned<u32>>,
    pub(super) reselect: Option<bool>,
    pub(super) gue_variant: Option<Spanned<u32>>,
    pub(super) second_chance: Option<bool>,
    pub(super) quorum_checkers: Option<Spanned<u32>>,
    pub(super) quorum_down: Option<Spanned<u32>>,
    pub(super) panic_percent: Option<Spanned<u32>>,
    pub(super) slow_start_seconds: Option<Spanned<u32>>,
    pub(super) probe: Option<ProbeTable>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) quic: Vec<QuicTable>,
    #[serde(default, rename = "backend", skip_serializing_if = "Vec::is_empty")]
    pub(super) backends: Vec<BackendTable>,
}

#[derive(Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ProbeTable {
    pub(super) liveness: Option<Spanned<String>>,
    pub(super) interval_ms: Option<Spanned<u32>>,
    pub(super) timeout_ms: Option<Spanned<u32>>,
    pub(super) failures_to_down: Option<Spanned<u32>>,
    pub(super) passes_to_up: Option<Spanned<u32>>,
    pub(super) jitter_percent: Option<Spanned<u32>>,
    pub(super) http_expected_status: Option<Spanned<u32>>,
    pub(super) udp_payload: Option<Spanned<String>>,
    pub(super) command: Option<String>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct QuicTable {
    pub(super) config_id: Spanned<u32>,
    pub(super) server_id_length: Spanned<u32>,
    pub(super) nonce_length: Spanned<u32>,
    pub(super) key: Option<Spanned<String>>,
    /// Without a key: the one that the controllers have stays.
    pub(super) encrypted: Option<bool>,
    pub(super) self_encoded_length: Option<bool>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BackendTable {
    pub(super) id: Spanned<String>,
    pub(super) address: Spanned<String>,
    pub(super) port: Spanned<u32>,
    pub(super) weight: Option<Spanned<u32>>,
    pub(super) readiness_probe_url: Option<Spanned<String>>,
    pub(super) state: Option<Spanned<String>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) quic_server_ids: Vec<Spanned<String>>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) labels: BTreeMap<String, String>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct VipTable {
    pub(super) address: Spanned<String>,
    pub(super) port: Spanned<PortValue>,
    pub(super) protocol: Spanned<String>,
    pub(super) pool: Spanned<String>,
    pub(super) syn_received_seconds: Option<Spanned<u32>>,
    pub(super) established_seconds: Option<Spanned<u32>>,
    pub(super) fin_wait_seconds: Option<Spanned<u32>>,
    pub(super) time_wait_seconds: Option<Spanned<u32>>,
    pub(super) udp_idle_seconds: Option<Spanned<u32>>,
    pub(super) affinity: Option<Spanned<String>>,
    pub(super) mss_clamp: Option<Spanned<MssValue>>,
}

/// `1400` or `"auto"`.
#[derive(Clone, Deserialize, Serialize)]
#[serde(untagged, expecting = "expected a segment size in bytes, or \"auto\"")]
pub(super) enum MssValue {
    Number(u32),
    Text(String),
}

/// `80`, `"8000-8099"` or `"any"`.
#[derive(Clone, Deserialize, Serialize)]
#[serde(untagged, expecting = "expected a port number, a range \"8000-8099\", or \"any\"")]
pub(super) enum PortValue {
    Number(u32),
    Text(String),
}
