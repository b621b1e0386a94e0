//! One report of a node: its bounds, and what it says of each pool.
//!
//! Pure: the node's last report and the new one go in, what passed between them comes out. Every
//! list and every text of a report is bounded, since it is kept until the next one.

use std::collections::HashMap;

use health::outlier::Signals;
use health::thresholds::Verdict;
use health::{Id, Millis};
use proto::v1::{self, AppliedPool, BackendTraffic, Health};

use super::nodes::MAX_NODES;

/// Pools that one report may hold.
pub(super) const MAX_POOLS: usize = 1024;
/// Backends that one report may hold, over all its pools.
pub(super) const MAX_BACKENDS: usize = 65_536;
/// Names longer than this, in bytes, are refused.
pub(super) const MAX_NAME: usize = 256;
/// Reasons of refusal are cut to so many bytes.
pub(super) const MAX_REASON: usize = 512;

/// What a node runs of one pool.
#[derive(Clone, Debug, Default)]
pub(super) struct Applied {
    pub(super) version: u64,
    pub(super) digest: Vec<u8>,
    pub(super) refused: String,
    pub(super) traffic: HashMap<Id, BackendTraffic>,
}

/// What a node says of one backend.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Heard {
    /// Its flows, and what passed since the node's last report.
    pub(crate) report: health::NodeReport,
    /// What the node's probe through the tunnel says.
    pub(crate) tunnel: Verdict,
}

/// Why a report, or a node, is not taken. Nothing changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// RESOURCE_EXHAUSTED.
    #[error("{MAX_NODES} nodes are known already")]
    Full,
    /// INVALID_ARGUMENT.
    #[error("{field}: {found} in one report, at most {most}")]
    TooMany { field: &'static str, found: usize, most: usize },
    /// INVALID_ARGUMENT.
    #[error("{field}: must have from 1 to {MAX_NAME} bytes")]
    Name { field: &'static str },
    /// INVALID_ARGUMENT.
    #[error("pools.digest: {found} bytes, must be 32, or none where there is no table")]
    Digest { found: usize },
}

impl Applied {
    pub(super) fn to_wire(&self, pool: &Id) -> AppliedPool {
        let mut backends: Vec<BackendTraffic> = self.traffic.values().cloned().collect();
        backends.sort_unstable_by(|a, b| a.backend_id.cmp(&b.backend_id));
        AppliedPool {
            pool_id: pool.to_string(),
            version: self.version,
            digest: self.digest.clone(),
            refused: self.refused.clone(),
            backends,
        }
    }
}

/// Is the report within bounds?
///
/// # Errors
/// The first bound that it breaks.
pub(super) fn check(report: &v1::NodeReport) -> Result<(), Refusal> {
    let most = |field, found, most| {
        if found > most { Err(Refusal::TooMany { field, found, most }) } else { Ok(()) }
    };
    let name = |field, name: &str| {
        if (1..=MAX_NAME).contains(&name.len()) { Ok(()) } else { Err(Refusal::Name { field }) }
    };
    most("pools", report.pools.len(), MAX_POOLS)?;
    most("pools.backends", report.pools.iter().map(|p| p.backends.len()).sum(), MAX_BACKENDS)?;
    for (field, text) in
        [("zone", &report.zone), ("version", &report.version), ("store_id", &report.store_id)]
    {
        if text.len() > MAX_NAME {
            return Err(Refusal::Name { field });
        }
    }
    for pool in &report.pools {
        name("pools.pool_id", &pool.pool_id)?;
        if !matches!(pool.digest.len(), 0 | 32) {
            return Err(Refusal::Digest { found: pool.digest.len() });
        }
        for backend in &pool.backends {
            name("pools.backends.backend_id", &backend.backend_id)?;
        }
    }
    Ok(())
}

/// What the node runs of one pool now, and what that says about its backends.
pub(super) fn take(
    node: &Id,
    pool: AppliedPool,
    old: &Applied,
    at: Millis,
) -> (Applied, Vec<Heard>) {
    let mut traffic = HashMap::with_capacity(pool.backends.len());
    let mut reports = Vec::with_capacity(pool.backends.len());
    for mut now in pool.backends {
        cut(&mut now.tunnel_detail);
        let backend = Id::from(now.backend_id.as_str());
        let seen = old.traffic.get(&backend).map(|before| since(before, &now)).unwrap_or_default();
        let flows = now.active_flows;
        let report =
            health::NodeReport { node: node.clone(), backend: backend.clone(), flows, seen, at };
        reports.push(Heard { report, tunnel: verdict(now.tunnel) });
        traffic.insert(backend, now);
    }
    let (version, digest, mut refused) = (pool.version, pool.digest, pool.refused);
    cut(&mut refused);
    (Applied { version, digest, refused, traffic }, reports)
}

/// Cuts a sentence from outside to [`MAX_REASON`] bytes or a little less.
fn cut(sentence: &mut String) {
    let end = (0..=MAX_REASON.min(sentence.len())).rev().find(|&at| sentence.is_char_boundary(at));
    sentence.truncate(end.unwrap_or(0));
}

/// A verdict that this release does not know is none.
fn verdict(tunnel: i32) -> Verdict {
    match Health::try_from(tunnel) {
        Ok(Health::Healthy) => Verdict::Up,
        Ok(Health::Unhealthy) => Verdict::Down,
        Ok(Health::Unknown | Health::Draining) | Err(_) => Verdict::Unknown,
    }
}

/// What passed between two reports of one backend.
fn since(before: &BackendTraffic, now: &BackendTraffic) -> Signals {
    let restarted = now.new_flows < before.new_flows
        || now.client_resets < before.client_resets
        || now.syn_retransmits < before.syn_retransmits;
    if restarted {
        return Signals {
            new_flows: now.new_flows,
            client_resets: now.client_resets,
            syn_retransmits: now.syn_retransmits,
        };
    }
    Signals {
        new_flows: now.new_flows - before.new_flows,
        client_resets: now.client_resets - before.client_resets,
        syn_retransmits: now.syn_retransmits - before.syn_retransmits,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn traffic(backend: &str) -> BackendTraffic {
        BackendTraffic { backend_id: backend.into(), ..BackendTraffic::default() }
    }

    fn report(pool: &str, backends: Vec<BackendTraffic>) -> v1::NodeReport {
        let pool = AppliedPool { pool_id: pool.into(), version: 1, backends, ..Default::default() };
        v1::NodeReport { store_id: "s".into(), pools: vec![pool], ..Default::default() }
    }

    #[test]
    fn reports_out_of_bounds_are_refused_by_field() {
        let many = |n| vec![AppliedPool { pool_id: "p".into(), ..Default::default() }; n];
        let pools = v1::NodeReport { pools: many(MAX_POOLS + 1), ..Default::default() };
        let backends = report("web", vec![traffic("b"); MAX_BACKENDS + 1]);
        let mut digest = report("web", vec![]);
        digest.pools[0].digest = vec![1; 31];
        let nameless = report("", vec![]);
        let long = report("web", vec![traffic(&"b".repeat(257))]);
        let zone = v1::NodeReport { zone: "z".repeat(257), ..Default::default() };
        for (report, field) in [
            (pools, "pools:"),
            (backends, "pools.backends:"),
            (digest, "pools.digest:"),
            (nameless, "pools.pool_id:"),
            (long, "pools.backends.backend_id:"),
            (zone, "zone:"),
        ] {
            let refusal = check(&report).expect_err(field).to_string();
            assert!(refusal.starts_with(field), "{refusal}");
        }
    }
}
