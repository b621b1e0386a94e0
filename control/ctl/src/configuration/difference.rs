//! The steps from one configuration to another, in an order that never breaks what serves.
//!
//! First what adds: pools, their settings, backends. Then what changes who serves: drains taken
//! back, drains begun, VIPs bound and moved, by when what they point to is there. Removal comes
//! last, and only when pruning: VIPs, then backends, then pools. The one exception is a VIP that
//! has to go before another can be bound, as their ranges of ports overlap.

use std::fmt;

use proto::v1::{Affinity, PoolSettings, ProbeSettings, QuicConfiguration};

use super::{Backend, Configuration, Idle, Pool, Service};
use crate::mss::MssClamp;
use crate::secret::Secret;
use crate::vip::VipName;
use crate::words::{FORWARDINGS, PROBES, SCHEDULERS, word};

/// One change: a call, or two.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Step {
    CreatePool {
        pool: String,
        settings: Box<PoolSettings>,
        secret: Option<Secret>,
    },
    UpdatePool {
        pool: String,
        settings: Box<PoolSettings>,
        secret: Option<Secret>,
        changes: Vec<String>,
    },
    Register {
        pool: String,
        backend: String,
        wanted: Box<Backend>,
    },
    UpdateBackend {
        backend: String,
        wanted: Box<Backend>,
        remove_labels: Vec<String>,
        changes: Vec<String>,
    },
    UndoDrain {
        backend: String,
    },
    Drain {
        backend: String,
    },
    /// `from`: the pool that it is bound to now.
    Bind {
        vip: VipName,
        pool: String,
        idle: Idle,
        affinity: Affinity,
        mss_clamp: MssClamp,
        from: Option<String>,
    },
    Unbind {
        vip: VipName,
    },
    Deregister {
        backend: String,
    },
    DeletePool {
        pool: String,
        drain_seconds: u32,
    },
}

impl Step {
    /// A word for programs.
    pub(crate) fn action(&self) -> &'static str {
        match self {
            Self::CreatePool { .. } => "create_pool",
            Self::UpdatePool { .. } => "update_pool",
            Self::Register { .. } => "register_backend",
            Self::UpdateBackend { .. } => "update_backend",
            Self::UndoDrain { .. } => "undo_drain",
            Self::Drain { .. } => "drain_backend",
            Self::Bind { .. } => "bind_vip",
            Self::Unbind { .. } => "unbind_vip",
            Self::Deregister { .. } => "deregister_backend",
            Self::DeletePool { .. } => "delete_pool",
        }
    }
}

/// A sentence for people.
impl fmt::Display for Step {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CreatePool { pool, settings, .. } => write!(
                formatter,
                "create pool {pool}: {}, {} slots, {}",
                word(SCHEDULERS, settings.scheduler()),
                settings.table_size,
                word(FORWARDINGS, settings.forwarding())
            ),
            Self::UpdatePool { pool, changes, .. } => {
                write!(formatter, "update pool {pool}: {}", changes.join(", "))
            }
            Self::Register { pool, backend, wanted } => write!(
                formatter,
                "register backend {backend} in pool {pool}: {} port {}, weight {}",
                wanted.ip, wanted.port, wanted.weight
            ),
            Self::UpdateBackend { backend, changes, .. } => {
                write!(formatter, "update backend {backend}: {}", changes.join(", "))
            }
            Self::UndoDrain { backend } => write!(formatter, "take the drain of {backend} back"),
            Self::Drain { backend } => write!(formatter, "drain backend {backend}"),
            Self::Bind { vip, pool, from: None, .. } => {
                write!(formatter, "bind VIP {vip} to pool {pool}")
            }
            Self::Bind { vip, pool, from: Some(from), .. } if from == pool => {
                write!(formatter, "give VIP {vip} of pool {pool} other settings")
            }
            Self::Bind { vip, pool, from: Some(from), .. } => {
                write!(formatter, "move VIP {vip} from pool {from} to pool {pool}")
            }
            Self::Unbind { vip } => write!(formatter, "unbind VIP {vip}"),
            Self::Deregister { backend } => write!(formatter, "deregister backend {backend}"),
            Self::DeletePool { pool, .. } => write!(formatter, "delete pool {pool}"),
        }
    }
}

/// What leads from `current` to `wanted`. Without `prune` what `wanted` does not name stays.
///
/// # Errors
/// What cannot be reached, all of it.
pub(crate) fn steps(
    current: &Configuration,
    wanted: &Configuration,
    prune: bool,
) -> Result<Vec<Step>, Vec<String>> {
    let problems = unreachable(current, wanted, prune);
    if !problems.is_empty() {
        return Err(problems);
    }
    let mut steps = Vec::new();
    for (id, pool) in &wanted.pools {
        steps.extend(match current.pools.get(id) {
            None => Some(Step::CreatePool {
                pool: id.clone(),
                settings: Box::new(pool.settings.clone()),
                secret: pool.secret.clone(),
            }),
            Some(now) => update_pool(id, now, pool),
        });
    }
    let mut turns = Vec::new();
    for (pool, id, want) in backends(wanted) {
        let now = find(current, id).map(|(_, now)| now);
        let (step, service) = match now {
            // A new life: it begins as any registration does.
            Some(now) if now.service == Service::Evicted && want.service == Service::Active => {
                (Some(register(pool, id, want)), Service::Unsaid)
            }
            Some(now) => (update_backend(id, now, want), now.service),
            None => (Some(register(pool, id, want)), Service::Unsaid),
        };
        steps.extend(step);
        let backend = id.to_owned();
        match (service, want.service) {
            (Service::Leaving, Service::Drain | Service::Evicted) => {
                turns.push(Step::UndoDrain { backend: backend.clone() });
                turns.push(Step::Drain { backend });
            }
            (Service::Leaving, _) | (Service::Drain, Service::Active) => {
                turns.push(Step::UndoDrain { backend });
            }
            (Service::Unsaid | Service::Active, Service::Drain | Service::Evicted) => {
                turns.push(Step::Drain { backend });
            }
            _ => {}
        }
    }
    // What serves again, before what does no more.
    turns.sort_by_key(|turn| matches!(turn, Step::Drain { .. }));
    steps.extend(turns);
    let gone = |vip: &&VipName| prune && !wanted.vips.contains_key(*vip);
    let new = wanted.vips.iter().filter(|(vip, want)| current.vips.get(vip) != Some(want));
    let in_the_way = |vip: &VipName| new.clone().any(|(new, _)| new.ties_with(*vip));
    let (first, last): (Vec<VipName>, Vec<VipName>) =
        current.vips.keys().filter(gone).partition(|vip| in_the_way(vip));
    steps.extend(first.into_iter().map(|vip| Step::Unbind { vip }));
    steps.extend(new.clone().map(|(vip, want)| Step::Bind {
        vip: *vip,
        pool: want.pool.clone(),
        idle: want.idle,
        affinity: want.affinity,
        mss_clamp: want.mss_clamp,
        from: current.vips.get(vip).map(|now| now.pool.clone()),
    }));
    steps.extend(last.into_iter().map(|vip| Step::Unbind { vip }));
    if prune {
        let gone = backends(current)
            .filter(|(_, id, now)| now.service != Service::Leaving && find(wanted, id).is_none());
        steps.extend(gone.map(|(_, id, _)| Step::Deregister { backend: id.to_owned() }));
        let gone = current.pools.iter().filter(|(id, _)| !wanted.pools.contains_key(*id));
        steps.extend(gone.map(|(id, pool)| Step::DeletePool {
            pool: id.clone(),
            drain_seconds: pool.settings.drain_seconds,
        }));
    }
    Ok(steps)
}

/// Pool, id and backend.
fn backends(of: &Configuration) -> impl Iterator<Item = (&str, &str, &Backend)> {
    of.pools.iter().flat_map(|(pool, one)| {
        one.backends.iter().map(move |(id, backend)| (pool.as_str(), id.as_str(), backend))
    })
}

/// A backend by its id, which is unique among all pools.
fn find<'c>(of: &'c Configuration, id: &str) -> Option<(&'c str, &'c Backend)> {
    of.pools.iter().find_map(|(pool, one)| Some((pool.as_str(), one.backends.get(id)?)))
}

fn unreachable(current: &Configuration, wanted: &Configuration, prune: bool) -> Vec<String> {
    let mut problems = Vec::new();
    for (pool, id, _) in backends(wanted) {
        if let Some((other, _)) = find(current, id).filter(|(other, _)| *other != pool) {
            problems.push(format!(
                "backend {id} is in pool {other} and cannot move to {pool}: deregister it first"
            ));
        }
    }
    for vip in wanted.vips.keys() {
        let stays = |other: &&VipName| !prune || wanted.vips.contains_key(*other);
        if let Some(other) = current.vips.keys().filter(stays).find(|other| other.ties_with(*vip)) {
            problems.push(format!(
                "VIP {vip} overlaps {other}, which is bound and not in the file: unbind it first"
            ));
        }
    }
    problems
}

fn register(pool: &str, id: &str, want: &Backend) -> Step {
    let (pool, backend) = (pool.to_owned(), id.to_owned());
    Step::Register { pool, backend, wanted: Box::new(want.clone()) }
}

fn update_pool(id: &str, now: &Pool, want: &Pool) -> Option<Step> {
    let mut changes = settings_changes(&now.settings, &want.settings);
    let secret = want.secret.clone().filter(|secret| now.secret.as_ref() != Some(secret));
    if secret.is_some() {
        changes.push("hash_secret".to_owned());
    }
    (!changes.is_empty()).then(|| Step::UpdatePool {
        pool: id.to_owned(),
        settings: Box::new(want.settings.clone()),
        secret,
        changes,
    })
}

/// Adds `key now -> want` when the two differ.
fn change<T: PartialEq + fmt::Display>(changes: &mut Vec<String>, key: &str, now: T, want: T) {
    if now != want {
        changes.push(format!("{key} {now} -> {want}"));
    }
}

fn settings_changes(now: &PoolSettings, want: &PoolSettings) -> Vec<String> {
    let mut changes = Vec::new();
    let list = &mut changes;
    let scheduler = |of: &PoolSettings| word(SCHEDULERS, of.scheduler());
    let forwarding = |of: &PoolSettings| word(FORWARDINGS, of.forwarding());
    change(list, "scheduler", scheduler(now), scheduler(want));
    change(list, "table_size", now.table_size, want.table_size);
    change(list, "forwarding", forwarding(now), forwarding(want));
    change(list, "drain_seconds", now.drain_seconds, want.drain_seconds);
    change(list, "reselect", now.reselect, want.reselect);
    let variant = |of: &PoolSettings| if of.gue_variant_0 { 0 } else { 1 };
    change(list, "gue_variant", variant(now), variant(want));
    change(list, "second_chance", now.second_chance, want.second_chance);
    if !same_quic(&now.quic, &want.quic) {
        list.push("quic".to_owned());
    }
    change(list, "quorum_checkers", now.quorum_checkers, want.quorum_checkers);
    change(list, "quorum_down", now.quorum_down, want.quorum_down);
    change(list, "panic_percent", now.panic_percent, want.panic_percent);
    change(list, "slow_start_seconds", now.slow_start_seconds, want.slow_start_seconds);
    let none = ProbeSettings::default();
    let (now, want) = (now.probe.as_ref().unwrap_or(&none), want.probe.as_ref().unwrap_or(&none));
    let liveness = |of: &ProbeSettings| word(PROBES, of.liveness());
    change(list, "liveness", liveness(now), liveness(want));
    change(list, "interval_ms", now.interval_ms, want.interval_ms);
    change(list, "timeout_ms", now.timeout_ms, want.timeout_ms);
    change(list, "failures_to_down", now.failures_to_down, want.failures_to_down);
    change(list, "passes_to_up", now.passes_to_up, want.passes_to_up);
    change(list, "jitter_percent", now.jitter_percent, want.jitter_percent);
    change(list, "http_expected_status", now.http_expected_status, want.http_expected_status);
    if now.udp_payload != want.udp_payload {
        list.push("udp_payload".to_owned());
    }
    if now.command != want.command {
        list.push(format!("command {:?} -> {:?}", now.command, want.command));
    }
    changes
}

/// A key that is not given stays.
fn same_quic(now: &[QuicConfiguration], want: &[QuicConfiguration]) -> bool {
    let same = |(now, want): (&QuicConfiguration, &QuicConfiguration)| {
        let stays = want.encrypted && want.key.is_empty() && now.encrypted;
        let key = if stays { now.key.clone() } else { want.key.clone() };
        QuicConfiguration { key, ..want.clone() } == *now
    };
    now.len() == want.len() && now.iter().zip(want).all(same)
}

fn update_backend(id: &str, now: &Backend, want: &Backend) -> Option<Step> {
    let mut changes = Vec::new();
    change(&mut changes, "address", now.ip, want.ip);
    change(&mut changes, "port", now.port, want.port);
    change(&mut changes, "weight", now.weight, want.weight);
    if now.readiness_probe_url != want.readiness_probe_url {
        let (now, want) = (&now.readiness_probe_url, &want.readiness_probe_url);
        changes.push(format!("readiness_probe_url {now:?} -> {want:?}"));
    }
    if now.quic_server_ids != want.quic_server_ids {
        changes.push("quic_server_ids".to_owned());
    }
    for (name, value) in &want.labels {
        if now.labels.get(name) != Some(value) {
            changes.push(format!("label {name}={value}"));
        }
    }
    let gone = now.labels.keys().filter(|name| !want.labels.contains_key(*name));
    let remove_labels: Vec<String> = gone.cloned().collect();
    changes.extend(remove_labels.iter().map(|name| format!("no label {name}")));
    (!changes.is_empty()).then(|| Step::UpdateBackend {
        backend: id.to_owned(),
        wanted: Box::new(want.clone()),
        remove_labels,
        changes,
    })
}

#[cfg(test)]
mod tests;
