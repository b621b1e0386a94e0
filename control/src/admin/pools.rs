//! `/admin/pools` and `/admin/pools/{id}`: who is in a pool, and how flows are spread over it.
//!
//! Membership comes from the snapshots, the spread from the tables built of them, traffic from
//! the workers' counters, added up. Of a pool's hash secret only its effect is shown, the digest.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use dataplane::neighbour::{NeighbourState, NextHop};
use dataplane::tables::{BackendState, Forwarding};
use dataplane::wire::MacAddress;
use maglev::{Scheduler as _, ShareStatistics, Statistics};
use serde::Serialize;

use super::AdminState;
use super::response::{Refusal, json};
use crate::node::Node;
use crate::snapshot::{BackendEntry, PoolSnapshot, Scheduler};
use crate::traffic::{Signals, Traffic, backend_signals, backend_traffic, vip_traffic};

/// What a pool is, in short.
#[derive(Serialize)]
struct Summary<'a> {
    id: &'a str,
    version: u64,
    scheduler: &'static str,
    /// Slots of the table; `null` for a ring.
    table_size: Option<u32>,
    forwarding: &'static str,
    /// Names the choice made for every flow: equal on nodes that agree.
    digest: Option<String>,
    vips: Vec<String>,
    /// Backends by state.
    backend_states: BTreeMap<&'static str, usize>,
    /// Those drained by this node's operator.
    drained_here: Vec<&'a str>,
    /// Why the last snapshot was refused; `null` when it was not.
    refused: Option<String>,
}

#[derive(Serialize)]
struct Details<'a> {
    id: &'a str,
    version: u64,
    scheduler: &'static str,
    table_size: Option<u32>,
    forwarding: &'static str,
    digest: Option<String>,
    /// Of the node's tables, all pools together.
    generation: u64,
    refused: Option<String>,
    balance: Option<Balance>,
    vips: Vec<VipRow>,
    backends: Vec<BackendRow<'a>>,
}

/// How even the spread is; 1 is exact.
#[derive(Serialize)]
struct Balance {
    /// Backends in the table.
    eligible: usize,
    /// Slots of the table, points of the ring.
    slots: usize,
    /// The largest share over the mean one: for equal weights.
    max_over_mean: f64,
    /// The largest ratio of a share to what the weight asks for, and the least.
    max_over_expected: f64,
    min_over_expected: f64,
}

#[derive(Serialize)]
struct VipRow {
    name: String,
    #[serde(flatten)]
    traffic: Traffic,
}

#[derive(Serialize)]
struct BackendRow<'a> {
    id: &'a str,
    address: IpAddr,
    state: &'static str,
    /// By this node's operator, whatever the snapshot says.
    drained_here: bool,
    weight: u32,
    slots: u32,
    /// The part of new flows that its weight asks for, 0 to 1.
    share_expected: f64,
    /// The part it gets.
    share_actual: f64,
    #[serde(flatten)]
    traffic: Traffic,
    /// What the probes through the tunnel say; `null`: it is not asked.
    tunnel: Option<Tunnel>,
    #[serde(flatten)]
    signals: Signals,
    /// `null`: there is no way to its address.
    next_hop: Option<Hop>,
}

#[derive(Serialize)]
struct Tunnel {
    /// `up`, `down` or `unknown`.
    state: &'static str,
    detail: String,
}

#[derive(Serialize)]
struct Hop {
    port: String,
    address: String,
    state: &'static str,
    mac: Option<String>,
}

/// `GET /admin/pools`.
pub(super) async fn list(State(state): State<Arc<AdminState>>) -> Response {
    let node = state.lock_node();
    let pools: Vec<Summary<'_>> = node.pools().map(|pool| summary(&node, pool)).collect();
    json(serde_json::json!({ "generation": node.generation(), "pools": pools }))
}

/// `GET /admin/pools/{id}`.
pub(super) async fn show(
    State(state): State<Arc<AdminState>>,
    Path(id): Path<String>,
) -> Result<Response, Refusal> {
    let node = state.lock_node();
    let Some(pool) = node.pools().find(|pool| pool.pool_id == id) else {
        return Err(Refusal::NotFound {
            what: format!("there is no pool \"{id}\""),
            known: Some(("pools", node.pools().map(|pool| pool.pool_id.clone()).collect())),
        });
    };
    Ok(json(details(&node, pool)))
}

fn summary<'a>(node: &Node, pool: &'a PoolSnapshot) -> Summary<'a> {
    let (scheduler, table_size) = scheduler(pool);
    let mut backend_states = BTreeMap::new();
    for backend in &pool.backends {
        *backend_states.entry(state_name(backend.state)).or_default() += 1;
    }
    let drained = pool.backends.iter();
    let drained = drained.filter(|backend| node.overrides().is_drained(&pool.pool_id, &backend.id));
    Summary {
        id: &pool.pool_id,
        version: pool.version,
        scheduler,
        table_size,
        forwarding: forwarding(pool),
        digest: digest(node, pool),
        vips: pool.vips.iter().map(|vip| vip.name()).collect(),
        backend_states,
        drained_here: drained.map(|backend| backend.id.as_str()).collect(),
        refused: refused(node, pool),
    }
}

fn details<'a>(node: &Node, pool: &'a PoolSnapshot) -> Details<'a> {
    let (scheduler, table_size) = scheduler(pool);
    let built = node.assembler().pool(&pool.pool_id);
    let statistics = built.map(|built| Statistics::of(&built.selector));
    let shares = Shares::of(statistics.as_ref());
    let neighbours: Known =
        node.neighbours().iter().map(|(hop, state, mac)| (hop, (state, mac))).collect();
    let vips = pool.vips.iter().map(|vip| {
        let name = vip.name();
        VipRow { traffic: vip_traffic(node, node.assembler().vip_index(&name)), name }
    });
    let rows = pool.backends.iter().map(|backend| {
        let index = node.assembler().backend_index(&pool.pool_id, &backend.id);
        let share = shares.get(index);
        BackendRow {
            id: &backend.id,
            address: backend.address,
            state: state_name(backend.state),
            drained_here: node.overrides().is_drained(&pool.pool_id, &backend.id),
            weight: backend.weight,
            slots: share.map_or(0, |share| share.share.slots),
            share_expected: share.map_or(0.0, |share| share.expected),
            share_actual: share.map_or(0.0, |share| share.share.fraction),
            traffic: backend_traffic(node, index),
            tunnel: node
                .tunnel(&pool.pool_id, &backend.id)
                .map(|standing| Tunnel { state: standing.name(), detail: standing.to_string() }),
            signals: backend_signals(node, index),
            next_hop: next_hop(node, &neighbours, backend),
        }
    });
    Details {
        id: &pool.pool_id,
        version: pool.version,
        scheduler,
        table_size,
        forwarding: forwarding(pool),
        digest: digest(node, pool),
        generation: node.generation(),
        refused: refused(node, pool),
        vips: vips.collect(),
        backends: rows.collect(),
        balance: statistics.as_ref().zip(built).map(|(statistics, built)| Balance {
            eligible: statistics.eligible,
            slots: built.selector.len(),
            max_over_mean: statistics.max_over_mean,
            max_over_expected: statistics.max_over_expected,
            min_over_expected: statistics.min_over_expected,
        }),
    }
}

/// Shares of a pool's table by backend index.
pub(super) struct Shares<'a>(BTreeMap<u32, &'a ShareStatistics>);

impl<'a> Shares<'a> {
    pub(super) fn of(statistics: Option<&'a Statistics>) -> Self {
        let members = statistics.map(|statistics| statistics.members.as_slice());
        let members = members.unwrap_or_default().iter();
        Self(members.map(|member| (member.share.index, member)).collect())
    }

    /// `None` for a backend that is not in the table.
    pub(super) fn get(&self, index: Option<u32>) -> Option<&'a ShareStatistics> {
        self.0.get(&index?).copied()
    }
}

/// What is known of all next hops.
type Known = BTreeMap<NextHop, (NeighbourState, Option<MacAddress>)>;

fn next_hop(node: &Node, known: &Known, backend: &BackendEntry) -> Option<Hop> {
    let hop = node.assembler().links().next_hop(backend.address, node.neighbours())?;
    let (state, mac) = known.get(&hop).copied().unwrap_or((NeighbourState::Incomplete, None));
    Some(Hop {
        port: port_name(node, hop.port),
        address: hop.address.to_string(),
        state: state.name(),
        mac: mac.map(|mac| mac.to_string()),
    })
}

/// The name of a port by its index.
pub(super) fn port_name(node: &Node, index: u8) -> String {
    let port = node.config().ports.get(usize::from(index));
    port.map_or_else(|| index.to_string(), |port| port.name.clone())
}

fn scheduler(pool: &PoolSnapshot) -> (&'static str, Option<u32>) {
    match pool.settings.scheduler {
        Scheduler::Maglev { table_size } => ("maglev", Some(table_size)),
        Scheduler::Ring => ("ring", None),
    }
}

fn forwarding(pool: &PoolSnapshot) -> &'static str {
    match pool.settings.forwarding {
        Forwarding::Ipip => "ipip",
        Forwarding::Gre => "gre",
        Forwarding::Gue | Forwarding::GueWithHeader => "gue",
        Forwarding::L2dsr => "l2dsr",
    }
}

fn refused(node: &Node, pool: &PoolSnapshot) -> Option<String> {
    let refusals = node.feed()?.view().refusals;
    refusals.get(&pool.pool_id).map(ToString::to_string)
}

fn digest(node: &Node, pool: &PoolSnapshot) -> Option<String> {
    let built = node.assembler().pool(&pool.pool_id)?;
    Some(built.selector.digest().to_string())
}

/// The word for a backend's state in JSON and metrics.
pub(super) fn state_name(state: BackendState) -> &'static str {
    match state {
        BackendState::Active => "active",
        BackendState::Draining => "draining",
        BackendState::Unhealthy => "unhealthy",
        BackendState::Evicted => "evicted",
        BackendState::Gone => "gone",
    }
}
