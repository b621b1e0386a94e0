//! Metrics of what an operator has many of: VIPs, pools, backends. Added up over the workers.

use dataplane::tables::BackendState;
use maglev::{Scheduler as _, Selector, Statistics};

use super::catalogue::*;
use super::exposition::{Exposition, Metric};
use crate::admin::pools::{self, Shares};
use crate::node::Node;
use crate::snapshot::BackendEntry;
use crate::traffic::{Signals, Traffic, backend_signals, backend_traffic, vip_traffic};

const BACKEND_STATES: [BackendState; 4] =
    [BackendState::Active, BackendState::Draining, BackendState::Unhealthy, BackendState::Evicted];

type Column = (&'static Metric, fn(&Traffic) -> u64);
type SignalColumn = (&'static Metric, fn(&Signals) -> u64);

pub(super) fn vips(text: &mut Exposition, node: &Node) {
    let mut rows: Vec<(String, &str, Traffic)> = Vec::new();
    for pool in node.pools() {
        for vip in &pool.vips {
            let name = vip.name();
            let traffic = vip_traffic(node, node.assembler().vip_index(&name));
            rows.push((name, &pool.pool_id, traffic));
        }
    }
    let columns: [Column; 4] = [
        (&VIP_PACKETS, |traffic| traffic.packets),
        (&VIP_BYTES, |traffic| traffic.bytes),
        (&VIP_NEW_FLOWS, |traffic| traffic.new_flows),
        (&VIP_ACTIVE_FLOWS, |traffic| traffic.active_flows),
    ];
    for (metric, value) in columns {
        let mut family = text.family(metric);
        for (name, pool, traffic) in &rows {
            family.sample(&[name, pool], value(traffic));
        }
    }
}

pub(super) fn pools(text: &mut Exposition, node: &Node) {
    let mut family = text.family(&POOL_VERSION);
    for pool in node.pools() {
        family.sample(&[&pool.pool_id], pool.version);
    }
    let built: Vec<(&str, &Selector, Statistics)> = node
        .pools()
        .filter_map(|pool| {
            let selector = &node.assembler().pool(&pool.pool_id)?.selector;
            Some((pool.pool_id.as_str(), selector, Statistics::of(selector)))
        })
        .collect();
    let mut family = text.family(&POOL_DIGEST);
    for (pool, selector, _) in &built {
        family.sample(&[pool, &selector.digest().to_string()], 1u64);
    }
    let mut family = text.family(&POOL_SLOTS);
    for (pool, selector, _) in &built {
        family.sample(&[pool], selector.len());
    }
    let mut family = text.family(&POOL_ELIGIBLE);
    for (pool, _, statistics) in &built {
        family.sample(&[pool], statistics.eligible);
    }
    let mut family = text.family(&POOL_IMBALANCE);
    for (pool, _, statistics) in &built {
        family.sample(&[pool], statistics.max_over_expected);
    }
}

struct BackendRow<'a> {
    pool: &'a str,
    backend: &'a BackendEntry,
    traffic: Traffic,
    signals: Signals,
    slots: u32,
    reachable: bool,
}

pub(super) fn backends(text: &mut Exposition, node: &Node) {
    let rows = backend_rows(node);
    let mut family = text.family(&BACKEND_INFO);
    for BackendRow { pool, backend, .. } in &rows {
        family.sample(&[pool, &backend.id, &backend.address.to_string()], 1u64);
    }
    let columns: [Column; 4] = [
        (&BACKEND_PACKETS, |traffic| traffic.packets),
        (&BACKEND_BYTES, |traffic| traffic.bytes),
        (&BACKEND_NEW_FLOWS, |traffic| traffic.new_flows),
        (&BACKEND_ACTIVE_FLOWS, |traffic| traffic.active_flows),
    ];
    for (metric, value) in columns {
        let mut family = text.family(metric);
        for row in &rows {
            family.sample(&[row.pool, &row.backend.id], value(&row.traffic));
        }
    }
    let columns: [SignalColumn; 2] = [
        (&BACKEND_CLIENT_RESETS, |signals| signals.client_resets),
        (&BACKEND_SYN_RETRANSMITS, |signals| signals.syn_retransmits),
    ];
    for (metric, value) in columns {
        let mut family = text.family(metric);
        for row in &rows {
            family.sample(&[row.pool, &row.backend.id], value(&row.signals));
        }
    }
    let mut family = text.family(&BACKEND_STATE);
    for BackendRow { pool, backend, .. } in &rows {
        for state in BACKEND_STATES {
            let labels = [*pool, backend.id.as_str(), pools::state_name(state)];
            family.sample(&labels, backend.state == state);
        }
    }
    let mut family = text.family(&BACKEND_REACHABLE);
    for row in &rows {
        family.sample(&[row.pool, &row.backend.id], row.reachable);
    }
    let mut family = text.family(&BACKEND_WEIGHT);
    for row in &rows {
        family.sample(&[row.pool, &row.backend.id], row.backend.weight);
    }
    let mut family = text.family(&BACKEND_SLOTS);
    for row in &rows {
        family.sample(&[row.pool, &row.backend.id], row.slots);
    }
}

fn backend_rows(node: &Node) -> Vec<BackendRow<'_>> {
    let mut rows = Vec::new();
    for pool in node.pools() {
        let built = node.assembler().pool(&pool.pool_id);
        let statistics = built.map(|built| Statistics::of(&built.selector));
        let shares = Shares::of(statistics.as_ref());
        for backend in &pool.backends {
            let index = node.assembler().backend_index(&pool.pool_id, &backend.id);
            let record = index.and_then(|index| node.tables().backend(index));
            rows.push(BackendRow {
                pool: &pool.pool_id,
                backend,
                traffic: backend_traffic(node, index),
                signals: backend_signals(node, index),
                slots: shares.get(index).map_or(0, |share| share.share.slots),
                reachable: record.is_some_and(|record| record.reachable),
            });
        }
    }
    rows
}
