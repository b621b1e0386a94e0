//! A controller's whole configuration as a value: pools with their settings and backends, VIPs.
//!
//! It comes from the controllers ([`Configuration::from_pools`]) or from a TOML file
//! ([`read()`]), goes to a file ([`write()`]), and the way from one to another is a list of steps
//! ([`steps`]). Every setting has its value here: what was left out is filled in with the
//! default of the interface, so that two configurations are the same exactly when they are equal.
//!
//! What holds, and is tested: reading what was written gives the same value; after the steps
//! from one to another (with pruning) the one is the other; there are no steps from one to itself.

#[cfg(test)]
mod arbitrary;
mod difference;
mod file;
mod table;
mod write;

use std::collections::BTreeMap;
use std::net::IpAddr;

use proto::v1;
use proto::v1::{Affinity, BackendState, Forwarding, PoolSettings, ProbeKind, Scheduler};

use crate::mss::MssClamp;
use crate::secret::Secret;
use crate::vip::VipName;

pub(crate) use difference::{Step, steps};
pub(crate) use file::read;
pub(crate) use write::write;

/// Pools by id, VIPs by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Configuration {
    pub(crate) pools: BTreeMap<String, Pool>,
    pub(crate) vips: BTreeMap<VipName, Vip>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Pool {
    /// Whole; without the hash secret.
    pub(crate) settings: PoolSettings,
    /// `None`: not known, or not to be changed.
    pub(crate) secret: Option<Secret>,
    pub(crate) backends: BTreeMap<String, Backend>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Backend {
    pub(crate) ip: IpAddr,
    pub(crate) port: u16,
    pub(crate) weight: u16,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) readiness_probe_url: String,
    pub(crate) service: Service,
    pub(crate) quic_server_ids: Vec<Vec<u8>>,
}

/// Whether an operator lets a backend serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Service {
    /// In a file: as it is. Of a controller: not drained.
    Unsaid,
    /// In a file: a drain is taken back.
    Active,
    /// Drains.
    Drain,
    /// Of a controller: drained to the end; there is no way back but to register it anew.
    Evicted,
    /// Of a controller: deregistered, and still draining. Files do not name it.
    Leaving,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Vip {
    pub(crate) pool: String,
    pub(crate) idle: Idle,
    pub(crate) affinity: Affinity,
    pub(crate) mss_clamp: MssClamp,
}

/// Idle times of a VIP's flows, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Idle {
    pub(crate) syn_received: u32,
    pub(crate) established: u32,
    pub(crate) fin_wait: u32,
    pub(crate) time_wait: u32,
    pub(crate) udp: u32,
}

impl Configuration {
    /// What the controllers hold. A backend that was deregistered and evicted is no part of it:
    /// its name is free.
    ///
    /// # Errors
    /// A row that this release does not understand.
    pub(crate) fn from_pools(pools: &[v1::Pool]) -> Result<Self, String> {
        let mut configuration = Self::default();
        for pool in pools {
            let mut settings = pool.settings.clone().unwrap_or_default();
            let secret = Secret::from_bytes(&std::mem::take(&mut settings.hash_secret));
            fill_in(&mut settings);
            let mut backends = BTreeMap::new();
            for row in &pool.backends {
                let backend = Backend::from_message(row)
                    .map_err(|problem| format!("backend {}: {problem}", row.backend_id))?;
                if !row.deregistered || backend.service == Service::Leaving {
                    backends.insert(row.backend_id.clone(), backend);
                }
            }
            for vip in &pool.vips {
                let name = VipName::from_message(vip)
                    .map_err(|problem| format!("pool {}: VIP: {problem}", pool.pool_id))?;
                let affinity = match vip.affinity() {
                    Affinity::Unspecified => Affinity::Flow,
                    given => given,
                };
                let (pool, idle) = (pool.pool_id.clone(), Idle::from_message(vip));
                let vip = Vip { pool, idle, affinity, mss_clamp: MssClamp::from_message(vip) };
                configuration.vips.insert(name, vip);
            }
            let pool_id = pool.pool_id.clone();
            configuration.pools.insert(pool_id, Pool { settings, secret, backends });
        }
        Ok(configuration)
    }
}

impl Pool {
    /// Whether there is anything in it that only nodes are shown.
    pub(crate) fn names_secrets(&self) -> bool {
        self.secret.is_some() || self.settings.quic.iter().any(|one| !one.key.is_empty())
    }
}

impl Backend {
    fn from_message(row: &v1::Backend) -> Result<Self, String> {
        let narrow = |value: u32| u16::try_from(value).map_err(|_| format!("{value} is too large"));
        Ok(Self {
            ip: row.ip.parse().map_err(|_| format!("{:?} is no address", row.ip))?,
            port: narrow(row.port)?,
            weight: narrow(row.weight)?,
            labels: row.labels.clone(),
            readiness_probe_url: row.readiness_probe_url.clone(),
            service: match (row.state(), row.deregistered) {
                (BackendState::Evicted, _) => Service::Evicted,
                (_, true) => Service::Leaving,
                (BackendState::Draining, false) => Service::Drain,
                _ => Service::Unsaid,
            },
            quic_server_ids: row.quic_server_ids.clone(),
        })
    }
}

impl Idle {
    fn from_message(vip: &v1::Vip) -> Self {
        let or = |value: u32, default: u32| if value == 0 { default } else { value };
        let default = Self::default();
        Self {
            syn_received: or(vip.syn_received_seconds, default.syn_received),
            established: or(vip.established_seconds, default.established),
            fin_wait: or(vip.fin_wait_seconds, default.fin_wait),
            time_wait: or(vip.time_wait_seconds, default.time_wait),
            udp: or(vip.udp_idle_seconds, default.udp),
        }
    }

    pub(crate) fn lay_over(self, vip: &mut v1::Vip) {
        vip.syn_received_seconds = self.syn_received;
        vip.established_seconds = self.established;
        vip.fin_wait_seconds = self.fin_wait;
        vip.time_wait_seconds = self.time_wait;
        vip.udp_idle_seconds = self.udp;
    }
}

/// The defaults in brackets of `control.proto`.
impl Default for Idle {
    fn default() -> Self {
        Self { syn_received: 30, established: 300, fin_wait: 60, time_wait: 60, udp: 60 }
    }
}

/// Zeroes become the defaults in brackets of `control.proto`.
pub(crate) fn fill_in(settings: &mut PoolSettings) {
    let or = |value: &mut u32, default: u32| {
        if *value == 0 {
            *value = default;
        }
    };
    if settings.scheduler() == Scheduler::Unspecified {
        settings.set_scheduler(Scheduler::Maglev);
    }
    if settings.forwarding() == Forwarding::Unspecified {
        settings.set_forwarding(Forwarding::Ipip);
    }
    or(&mut settings.table_size, 65_537);
    or(&mut settings.drain_seconds, 60);
    or(&mut settings.quorum_checkers, 3);
    or(&mut settings.quorum_down, 2);
    or(&mut settings.panic_percent, 50);
    for configuration in &mut settings.quic {
        configuration.encrypted |= !configuration.key.is_empty();
    }
    let probe = settings.probe.get_or_insert_default();
    if probe.liveness() == ProbeKind::Unspecified {
        probe.set_liveness(ProbeKind::Tcp);
    }
    or(&mut probe.interval_ms, 1000);
    or(&mut probe.timeout_ms, 1000);
    or(&mut probe.failures_to_down, 3);
    or(&mut probe.passes_to_up, 2);
    or(&mut probe.jitter_percent, 20);
    or(&mut probe.http_expected_status, 200);
}
