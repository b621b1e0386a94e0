//! The fleet: nodes, checkers, and what follows when they come and go.
//!
//! [`Fleet`] is the part of the picture that nobody writes to the registry: after a change of the
//! leader it fills again within seconds, as nodes and checkers come to the new one. What they say
//! goes straight into the health of the pools; the desk calls [`tick`] every 100 ms for what
//! follows from silence, and [`rows_changed`] when there is something else to probe.
//!
//! Nodes are in `fleet/nodes.rs`, what one report says in `fleet/report.rs`, whether they agree in
//! `fleet/agreement.rs`, their streams in `fleet/reporting.rs`; checkers, their reports and assignments in `reports/`.

mod agreement;
mod nodes;
mod report;
mod reporting;

use std::collections::{BTreeMap, BTreeSet};

use health::{Id, Millis};
use proto::v1::{ListNodesResp, NodeReport};
use tonic::Status;

use crate::clock::{millis, unix_ns};
use crate::events::event;
use crate::fleet::agreement::disagreements;
use crate::fleet::nodes::{Gone, Nodes};
use crate::fleet::report::Refusal;
use crate::office::Office;
use crate::picture::Picture;
use crate::reports::{Checkers, Work};
use crate::settings::FleetTimings;

pub(crate) use reporting::report_node;

/// Between two looks at whether nodes agree.
const AGREEMENT_EVERY: Millis = 1_000;

/// What is known of the fleet in this term; part of the [`Picture`].
#[derive(Debug)]
pub(crate) struct Fleet {
    nodes: Nodes,
    pub(crate) checkers: Checkers,
    /// What checkers are to probe.
    pub(crate) work: Work,
    /// Pools whose health knows the checkers there are.
    equipped: BTreeSet<String>,
    /// Of the registry; versions of another one are no versions.
    store_id: String,
    /// Disagreements that were told: pool and version.
    told: BTreeMap<(Id, u64), String>,
    looked: Millis,
}

/// What of the fleet is counted, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Numbers {
    /// Nodes with a stream open.
    pub(crate) nodes: usize,
    /// Checkers with a stream open.
    pub(crate) checkers: usize,
    /// Pools and versions at which nodes disagree.
    pub(crate) disagreements: usize,
}

impl Fleet {
    pub(crate) fn new(timings: &FleetTimings) -> Self {
        Self {
            nodes: Nodes::default(),
            checkers: Checkers::new(millis(timings.checkers_silent)),
            work: Work::default(),
            equipped: BTreeSet::new(),
            store_id: String::new(),
            told: BTreeMap::new(),
            looked: 0,
        }
    }

    /// The sum of what nodes report for a backend.
    pub(crate) fn active_flows(&self, backend: &str) -> u64 {
        self.nodes.flows(backend)
    }

    /// Whether every connected node that serves the pool runs at least this version of it.
    pub(crate) fn applied(&self, pool: &str, version: u64) -> bool {
        self.nodes.applied(&self.store_id, pool, version)
    }

    /// For metrics; disagreements as of the last look.
    pub(crate) fn numbers(&self) -> Numbers {
        Numbers {
            nodes: self.nodes.connected(),
            checkers: self.checkers.connected(),
            disagreements: self.told.len(),
        }
    }
}

/// Called by the desk every 100 ms, before pools tick.
pub(crate) fn tick(picture: &mut Picture) {
    let now = picture.now;
    for gone in picture.fleet.nodes.expire(now) {
        node_gone(picture, &gone);
    }
    let left = picture.fleet.checkers.expire(now);
    for id in &left {
        let said = format!("{id} is silent: its backends go to the other checkers");
        picture.events.publish(event("checker_gone", "", "", said));
    }
    if !left.is_empty() {
        fleet_changed(picture);
    }
    crate::reports::hand_out(picture);
    if now.saturating_sub(picture.fleet.looked) >= AGREEMENT_EVERY {
        picture.fleet.looked = now;
        look_at_agreement(picture);
    }
}

/// Called by the desk after rows of pools or backends have changed.
pub(crate) fn rows_changed(picture: &mut Picture) {
    picture.fleet.store_id = picture.rows.store_id.to_string();
    picture.fleet.equipped.retain(|pool| picture.health.contains_key(pool));
    equip(picture);
    picture.fleet.work.outdated();
}

/// Every pool's health learns who probes. Lists of assignments follow with the next tick.
pub(crate) fn fleet_changed(picture: &mut Picture) {
    picture.fleet.equipped.clear();
    equip(picture);
    picture.fleet.work.outdated();
}

/// Tells the pools that do not know yet: all backends of such a pool are assigned anew.
fn equip(picture: &mut Picture) {
    let fleet = picture.fleet.checkers.fleet();
    for (pool, health) in &mut picture.health {
        if !picture.fleet.equipped.contains(pool) {
            health.set_fleet(fleet.clone());
            picture.fleet.equipped.insert(pool.clone());
        }
    }
}

/// A stream of `node` opens.
///
/// # Errors
/// RESOURCE_EXHAUSTED when there are too many nodes.
fn node_opened(picture: &mut Picture, node: &Id) -> Result<(), Status> {
    let gone =
        picture.fleet.nodes.opened(node, picture.now).map_err(|refusal| refused(&refusal))?;
    if let Some(gone) = gone {
        node_gone(picture, &gone);
    }
    Ok(())
}

/// A stream of `node` has ended.
fn node_closed(picture: &mut Picture, node: &str) {
    picture.fleet.nodes.closed(node, picture.now);
}

/// Takes a node's report.
///
/// # Errors
/// INVALID_ARGUMENT when it is out of bounds.
fn node_report(picture: &mut Picture, node: &Id, report: NodeReport) -> Result<(), Status> {
    let now = picture.now;
    let news = picture.fleet.nodes.report(node, report, now, unix_ns());
    let news = news.map_err(|refusal| refused(&refusal))?;
    for (pool, heard) in news.pools {
        let Some(health) = picture.health.get_mut(&*pool) else { continue };
        health.node_joined(node);
        for heard in heard {
            health.node_report(&heard.report);
            health.tunnel_report(node, &heard.report.backend, heard.tunnel, now);
        }
    }
    for pool in news.left {
        if let Some(health) = picture.health.get_mut(&*pool) {
            health.node_gone(node);
        }
    }
    for (pool, version, why) in news.refusals {
        let said =
            format!("{node} refuses a snapshot of {pool} and keeps version {version}: {why}");
        picture.events.publish(event("snapshot_refused", &pool, "", said));
    }
    Ok(())
}

fn node_gone(picture: &mut Picture, gone: &Gone) {
    for pool in &gone.pools {
        if let Some(health) = picture.health.get_mut(&**pool) {
            health.node_gone(&gone.node);
        }
    }
    let said = format!("{} was silent for long: it is not waited for any more", gone.node);
    picture.events.publish(event("node_gone", "", "", said));
}

/// Says what is new, and what is over.
fn look_at_agreement(picture: &mut Picture) {
    let found: BTreeMap<(Id, u64), String> = disagreements(&picture.fleet.nodes)
        .into_iter()
        .map(|d| ((d.pool.clone(), d.version), d.to_string()))
        .collect();
    for ((pool, version), said) in &found {
        if !picture.fleet.told.contains_key(&(pool.clone(), *version)) {
            picture.events.publish(event("nodes_disagree", pool, "", said.as_str()));
        }
    }
    for (pool, version) in picture.fleet.told.keys() {
        if !found.contains_key(&(pool.clone(), *version)) {
            let said = format!("pool {pool}: no two nodes disagree at version {version} any more");
            picture.events.publish(event("nodes_agree", pool, "", said));
        }
    }
    picture.fleet.told = found;
}

/// `ListNodes`: who runs what.
pub(crate) async fn list_nodes(office: &Office) -> Result<ListNodesResp, Status> {
    let look = |picture: &mut Picture| {
        let mut pools: Vec<String> =
            disagreements(&picture.fleet.nodes).iter().map(|d| d.pool.to_string()).collect();
        pools.dedup();
        ListNodesResp { nodes: picture.fleet.nodes.list(), disagreements: pools }
    };
    office.desk.see(look).await
}

fn refused(refusal: &Refusal) -> Status {
    match refusal {
        Refusal::Full => Status::resource_exhausted(refusal.to_string()),
        _ => Status::invalid_argument(refusal.to_string()),
    }
}
