//! What a VIP's clients are known by, against the pool that has to know it.

use crate::model::{Affinity, Protocol};
use crate::report::{Report, quote};
use crate::section::pool::PoolEntry;
use crate::section::vip::VipEntry;
use std::collections::{HashMap, HashSet};

/// VIPs with `affinity = "quic"` are for UDP, and their pools say how connection ids are made.
pub(crate) fn check(report: &mut Report<'_>, pools: &[PoolEntry], vips: &[VipEntry]) {
    let by_id: HashMap<&str, &PoolEntry> =
        pools.iter().map(|entry| (entry.pool.id.as_str(), entry)).collect();
    let mut used = HashSet::new();
    for entry in vips.iter().filter(|entry| entry.vip.affinity == Affinity::Quic) {
        let vip = &entry.vip;
        used.insert(vip.pool.as_str());
        if vip.protocol != Protocol::Udp {
            let protocol = vip.protocol;
            report.problem(
                entry.affinity_line,
                format!(
                    "vip {vip}: affinity = \"quic\" is for UDP, and protocol is \"{protocol}\" \
                     (expected protocol = \"udp\")"
                ),
            );
        }
        // A pool that is not there is another problem, and reported as such.
        if let Some(pool) = by_id.get(vip.pool.as_str())
            && pool.pool.quic.is_empty()
        {
            report.problem(
                entry.affinity_line,
                format!(
                    "vip {vip}: affinity = \"quic\" cannot work: pool {} at line {} has no \
                     [[pool.quic]] (expected one, and quic_server_ids of its backends)",
                    quote(&vip.pool),
                    pool.line
                ),
            );
        }
    }
    for PoolEntry { pool, line, .. } in pools {
        if !pool.quic.is_empty() && !used.contains(pool.id.as_str()) {
            let message = format!(
                "pool {}: has [[pool.quic]], and no vip with affinity = \"quic\" uses it",
                quote(&pool.id)
            );
            report.warning(*line, message);
        }
    }
}
