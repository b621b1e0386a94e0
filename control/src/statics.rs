//! Pools of the configuration file, as they change with it.
//!
//! The file says what should be; this says what is: a backend that vanishes from the file
//! drains for its pool's `drain_seconds` and is then evicted (SPEC section 16). Pure: time comes
//! in, [`PoolSnapshot`]s come out.

use std::collections::BTreeMap;

use config::Config;
use conntrack::{State, Timeouts};
use dataplane::quic::{Configuration, ServerId};
use dataplane::tables::{Affinity, BackendState, Forwarding, MssClamp};
use dataplane::vip::{VipMatch, VipPorts, VipProtocol};

use crate::snapshot::{BackendEntry, PoolSettings, PoolSnapshot, Scheduler, VipBinding};

/// How long an evicted backend is still shown, in milliseconds: an hour.
pub const EVICTED_SHOWN_MS: u64 = 3_600_000;

/// The pools of the file, those that are on their way out included.
#[derive(Clone, Debug, Default)]
pub struct StaticPools {
    pools: BTreeMap<String, StaticPool>,
}

#[derive(Clone, Debug)]
struct StaticPool {
    snapshot: PoolSnapshot,
    drain_ms: u64,
    /// Backends no longer in the file, by id: when their next state is due.
    leaving: BTreeMap<String, u64>,
}

impl StaticPools {
    /// No pools.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes over a new version of the file.
    pub fn apply(&mut self, config: &Config, now_ms: u64) {
        let mut wanted: BTreeMap<&str, &config::Pool> = BTreeMap::new();
        for pool in &config.pools {
            wanted.insert(&pool.id, pool);
        }
        for (id, current) in &mut self.pools {
            if !wanted.contains_key(id.as_str()) {
                current.update(Vec::new(), Vec::new(), None, now_ms);
            }
        }
        for (id, pool) in wanted {
            let vips = config.vips.iter().filter(|vip| vip.pool == id).map(vip_binding).collect();
            let settings = settings(pool);
            let current = self.pools.entry(id.to_owned()).or_insert_with(|| StaticPool {
                snapshot: PoolSnapshot {
                    pool_id: id.to_owned(),
                    version: 0,
                    settings: settings.clone(),
                    backends: Vec::new(),
                    vips: Vec::new(),
                },
                drain_ms: 0,
                leaving: BTreeMap::new(),
            });
            current.drain_ms = u64::try_from(pool.drain.as_millis()).unwrap_or(u64::MAX);
            let backends = pool.backends.iter().map(backend_entry).collect();
            current.update(backends, vips, Some(settings), now_ms);
        }
    }

    /// Moves what is due: draining to evicted, evicted to gone. Returns whether any pool changed.
    pub fn poll(&mut self, now_ms: u64) -> bool {
        let mut changed = false;
        for pool in self.pools.values_mut() {
            changed |= pool.poll(now_ms);
        }
        self.pools.retain(|_, pool| {
            let snapshot = &pool.snapshot;
            // A pool of the file stays, empty or not; one that left goes with its last backend.
            pool.drain_ms != GONE || !snapshot.backends.is_empty()
        });
        changed
    }

    /// All pools, by id.
    pub fn snapshots(&self) -> impl Iterator<Item = &PoolSnapshot> {
        self.pools.values().map(|pool| &pool.snapshot)
    }
}

/// In place of a drain time: the pool is not in the file any more.
const GONE: u64 = u64::MAX;

impl StaticPool {
    fn update(
        &mut self,
        mut backends: Vec<BackendEntry>,
        vips: Vec<VipBinding>,
        settings: Option<PoolSettings>,
        now_ms: u64,
    ) {
        let settings_kept = settings.is_some();
        for old in &self.snapshot.backends {
            if backends.iter().any(|new| new.id == old.id) {
                self.leaving.remove(&old.id);
                continue;
            }
            let mut old = old.clone();
            if !self.leaving.contains_key(&old.id) {
                self.leaving.insert(old.id.clone(), now_ms.saturating_add(self.drain_ms));
                old.state = BackendState::Draining;
            }
            backends.push(old);
        }
        if !settings_kept {
            self.drain_ms = GONE;
        }
        let settings = settings.unwrap_or_else(|| self.snapshot.settings.clone());
        let next = PoolSnapshot { settings, backends, vips, ..self.snapshot.clone() };
        if next != self.snapshot || self.snapshot.version == 0 {
            self.snapshot = PoolSnapshot { version: self.snapshot.version + 1, ..next };
        }
    }

    fn poll(&mut self, now_ms: u64) -> bool {
        let mut changed = false;
        for (id, due_ms) in &mut self.leaving {
            if now_ms < *due_ms {
                continue;
            }
            changed = true;
            let backends = &mut self.snapshot.backends;
            match backends.iter_mut().find(|backend| backend.id == *id) {
                Some(backend) if backend.state == BackendState::Draining => {
                    backend.state = BackendState::Evicted;
                    *due_ms = now_ms.saturating_add(EVICTED_SHOWN_MS);
                }
                _ => backends.retain(|backend| backend.id != *id),
            }
        }
        if changed {
            let backends = &self.snapshot.backends;
            self.leaving.retain(|id, _| backends.iter().any(|backend| backend.id == *id));
            self.snapshot.version += 1;
        }
        changed
    }
}

fn settings(pool: &config::Pool) -> PoolSettings {
    PoolSettings {
        scheduler: match pool.scheduler {
            config::Scheduler::Maglev => Scheduler::Maglev { table_size: pool.table_size },
            config::Scheduler::Ring => Scheduler::Ring,
        },
        forwarding: match (pool.forwarding, pool.gue_variant) {
            (config::Forwarding::Ipip, _) => Forwarding::Ipip,
            (config::Forwarding::Gre, _) => Forwarding::Gre,
            (config::Forwarding::Gue, 0) => Forwarding::GueWithHeader,
            (config::Forwarding::Gue, _) => Forwarding::Gue,
            (config::Forwarding::L2dsr, _) => Forwarding::L2dsr,
        },
        second_chance: pool.second_chance,
        hash_secret: *pool.hash_secret.bytes(),
        reselect: false,
        quic: pool.quic.iter().map(quic_configuration).collect(),
    }
}

fn quic_configuration(quic: &config::QuicConfiguration) -> Configuration {
    Configuration {
        config_id: quic.config_id,
        server_id_length: quic.server_id_length,
        nonce_length: quic.nonce_length,
        key: quic.key.map(|key| key.0),
        self_encoded_length: quic.self_encoded_length,
    }
}

fn backend_entry(backend: &config::Backend) -> BackendEntry {
    BackendEntry {
        id: backend.id.clone(),
        address: backend.address,
        weight: u32::from(backend.weight),
        state: match backend.state {
            config::BackendState::Active => BackendState::Active,
            config::BackendState::Drain => BackendState::Draining,
        },
        quic_server_ids: backend
            .quic_server_ids
            .iter()
            .filter_map(|id| ServerId::new(id.octets()))
            .collect(),
    }
}

fn vip_binding(vip: &config::Vip) -> VipBinding {
    let ports = match vip.port {
        config::VipPort::Exact(port) => VipPorts::One(port),
        config::VipPort::Range { first, last } => VipPorts::Range(first..=last),
        config::VipPort::Any => VipPorts::Any,
    };
    let protocol = match vip.protocol {
        config::Protocol::Tcp => VipProtocol::Tcp,
        config::Protocol::Udp => VipProtocol::Udp,
        config::Protocol::Any => VipProtocol::Any,
    };
    let milliseconds =
        |time: std::time::Duration| u32::try_from(time.as_millis()).unwrap_or(u32::MAX / 2);
    let timeouts = Timeouts::default()
        .with(State::SynReceived, milliseconds(vip.timeouts.syn_received))
        .with(State::Established, milliseconds(vip.timeouts.established))
        .with(State::FinWait, milliseconds(vip.timeouts.fin_wait))
        .with(State::TimeWait, milliseconds(vip.timeouts.time_wait))
        .with(State::Udp, milliseconds(vip.timeouts.udp_idle))
        .with(State::Other, milliseconds(vip.timeouts.udp_idle));
    let matches = VipMatch {
        address: vip.address.addr(),
        prefix_length: vip.address.prefix_len(),
        ports,
        protocol,
    };
    let affinity = match vip.affinity {
        config::Affinity::Flow => Affinity::Flow,
        config::Affinity::Source => Affinity::Source,
        config::Affinity::Quic => Affinity::Quic,
    };
    let mss_clamp = match vip.mss_clamp {
        None => MssClamp::Off,
        Some(config::MssClamp::To(bytes)) => MssClamp::To(bytes),
        Some(config::MssClamp::Auto) => MssClamp::Auto,
    };
    VipBinding { matches, timeouts, affinity, mss_clamp }
}
