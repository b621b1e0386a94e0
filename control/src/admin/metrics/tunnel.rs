//! Metrics of the probes through the tunnel ([`crate::probe`]).

use health::thresholds::Verdict;

use super::catalogue::*;
use super::exposition::Exposition;
use crate::node::Node;
use crate::probe::Probes;
use crate::probe::schedule::Standing;

pub(super) fn probes(text: &mut Exposition, node: &Node) {
    let rows: Vec<(&str, &str, Option<Standing>)> = node
        .pools()
        .flat_map(|pool| pool.backends.iter().map(|backend| (&*pool.pool_id, &*backend.id)))
        .map(|(pool, backend)| (pool, backend, node.tunnel(pool, backend)))
        .collect();
    let mut family = text.family(&TUNNEL_PROBE_DOWN);
    for (pool, backend, standing) in &rows {
        family.sample(&[pool, backend], standing.is_some_and(|s| s.verdict == Verdict::Down));
    }
    let mut family = text.family(&TUNNEL_PROBE_REFUSED);
    for (pool, backend, standing) in &rows {
        family.sample(&[pool, backend], standing.is_some_and(|s| s.refused.is_some()));
    }
    let counts = node.probes().map(Probes::counts).unwrap_or_default();
    text.family(&TUNNEL_PROBE_RESULTS)
        .sample(&["accepted"], counts.accepted)
        .sample(&["refused"], counts.refused)
        .sample(&["silent"], counts.silent)
        .sample(&["unreachable"], counts.unreachable)
        .sample(&["late"], counts.late)
        .sample(&["put_off"], counts.put_off);
    let workers = || node.workers().iter().map(|worker| &worker.counters.probes);
    let resets = node.probes().map_or(0, Probes::resets_lost);
    text.family(&TUNNEL_PROBE_LOST)
        .sample(&["answer"], workers().map(|probes| probes.lost.get()).sum::<u64>())
        .sample(&["packet"], workers().map(|probes| probes.unsent.get()).sum::<u64>() + resets);
}
