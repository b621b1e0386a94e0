//! A node's file: its sections, then what spans them.

use super::{Document, reader, table_or_empty, tables, top};
use crate::model::{Config, ControllerClient, Dpdk};
use crate::reader::{Reader, TableAt, label};
use crate::report::{Report, Reported};
use crate::schema::client;
use crate::schema::keys::{
    self, CONNTRACK, DPDK, ENCAPSULATION, FRAGMENTS, ICMP, NODE, POOL, PORT, TOP, VIP, top as names,
};
use crate::section::pool::PoolEntry;
use crate::section::port::PortEntry;
use crate::section::vip::VipEntry;
use crate::section::{client as client_section, encapsulation, node, pool, port, vip};
use crate::{affinity, cross};
use std::collections::{HashMap, HashSet};

/// The most ports a node can have; DPDK's own limit, RTE_MAX_ETHPORTS.
const MOST_PORTS: usize = 32;

/// Reads the sections, then compares those that are whole.
pub(super) fn read<'d>(report: &mut Report<'d>, document: Document<'d>) -> Option<Config> {
    let mut top = top(report, &TOP, document);
    let mut table = |key| table_or_empty(&mut top, document, key);
    let node = table(&names::NODE);
    let dpdk = table(&names::DPDK);
    let encapsulation = table(&names::ENCAPSULATION);
    let icmp = table(&names::ICMP);
    let conntrack = table(&names::CONNTRACK);
    let fragments = table(&names::FRAGMENTS);
    let ports = tables(&mut top, &names::PORT);
    let pools = tables(&mut top, &names::POOL);
    let vips = tables(&mut top, &names::VIP);
    let controller = top.table(&names::CONTROLLER);
    let one_source = check_one_source(&mut top);

    let node = node.and_then(|at| node::read_node(reader(report, &NODE, at)));
    let dpdk = dpdk.and_then(|at| node::read_dpdk(reader(report, &DPDK, at)));
    let encapsulation =
        encapsulation.and_then(|at| encapsulation::read(reader(report, &ENCAPSULATION, at)));
    let icmp = icmp.and_then(|at| encapsulation::read_icmp(reader(report, &ICMP, at)));
    let conntrack = conntrack.and_then(|at| node::read_conntrack(reader(report, &CONNTRACK, at)));
    let fragments = fragments.and_then(|at| node::read_fragments(reader(report, &FRAGMENTS, at)));
    let ports = ports.and_then(|ports| read_ports(report, &ports, dpdk.as_ref().ok()));
    let pools = pools.and_then(|pools| read_pools(report, &pools));
    let vips = vips.and_then(|vips| read_vips(report, &vips));
    let controller = controller.and_then(|at| read_controller(report, at));

    if let (Ok(pools), Ok(ports)) = (&pools, &ports) {
        cross::check_backends(report, &pools.entries, ports);
    }
    if let (Ok(vips), Ok(ports)) = (&vips, &ports) {
        cross::check_vip_addresses(report, vips, ports);
    }
    if let (Ok(pools), Ok(vips)) = (&pools, &vips) {
        cross::check_pool_names(report, vips, &pools.ids);
        if pools.whole {
            cross::check_backends_outside_vips(report, &pools.entries, vips);
            affinity::check(report, &pools.entries, vips);
            if let Ok(None) = controller {
                cross::warn_of_idle_ends(report, &pools.entries, vips);
            }
        }
    }
    one_source.ok()?;
    let pools = pools.ok().filter(|pools| pools.whole)?;
    Some(Config {
        node: node.ok()?,
        dpdk: dpdk.ok()?,
        ports: ports.ok()?.into_iter().map(|entry| entry.port).collect(),
        encapsulation: encapsulation.ok()?,
        icmp: icmp.ok()?,
        conntrack: conntrack.ok()?,
        fragments: fragments.ok()?,
        pools: pools.entries.into_iter().map(|entry| entry.pool).collect(),
        vips: vips.ok()?.into_iter().map(|entry| entry.vip).collect(),
        controller: controller.ok()?,
    })
}

/// Pools and VIPs are a controller's or the file's, never some of both: nobody could say which
/// of two pools of one name is meant.
fn check_one_source(top: &mut Reader<'_, '_>) -> Result<(), Reported> {
    if !top.is_present(&names::CONTROLLER) {
        return Ok(());
    }
    let line = top.line_of(&names::CONTROLLER);
    let mut reported = None;
    for (key, title) in [(&names::POOL, "[[pool]]"), (&names::VIP, "[[vip]]")] {
        if top.is_present(key) {
            let at = top.line_of_first(key);
            let message = format!(
                "{title} stands beside [controller] at line {line} (expected pools and VIPs from \
                 the controller or from the file, not from both)"
            );
            reported = Some(top.report.problem(at, message));
        }
    }
    reported.map_or(Ok(()), Err)
}

fn read_controller<'d>(
    report: &mut Report<'d>,
    at: Option<TableAt<'d>>,
) -> Result<Option<ControllerClient>, Reported> {
    let Some(at) = at else { return Ok(None) };
    client_section::read(reader(report, &client::CONTROLLER, at)).map(Some)
}

fn read_ports<'d>(
    report: &mut Report<'d>,
    tables: &[TableAt<'d>],
    dpdk: Option<&Dpdk>,
) -> Result<Vec<PortEntry>, Reported> {
    let before = report.problem_count();
    if !(1..=MOST_PORTS).contains(&tables.len()) {
        let line = tables.get(MOST_PORTS).map_or(1, |at| at.line);
        let found = format!("{} [[port]] tables (expected 1 to {MOST_PORTS})", tables.len());
        return Err(report.problem(line, found));
    }
    let mut ports = Vec::with_capacity(tables.len());
    for (index, &at) in tables.iter().enumerate() {
        let label = label("port", at, &keys::port::NAME, index);
        if let Ok(port) = port::read(Reader::new(report, &PORT, label, at)) {
            ports.push(port);
        }
    }
    cross::check_ports(report, &ports, dpdk);
    if report.problem_count() == before { Ok(ports) } else { Err(Reported) }
}

/// The pools that could be read, and the names of all.
struct Pools {
    entries: Vec<PoolEntry>,
    /// Ids of all tables, those with problems too.
    ids: HashSet<String>,
    /// Whether every table could be read.
    whole: bool,
}

fn read_pools<'d>(report: &mut Report<'d>, tables: &[TableAt<'d>]) -> Result<Pools, Reported> {
    let before = report.problem_count();
    let mut entries = Vec::with_capacity(tables.len());
    let mut lines: HashMap<String, usize> = HashMap::new();
    for (index, &at) in tables.iter().enumerate() {
        let label = label("pool", at, &keys::pool::ID, index);
        let mut reader = Reader::new(report, &POOL, label, at);
        // Only the id: whether it is a good one is for the reader to say.
        if let Some(id) = reader.peek_text(&keys::pool::ID) {
            let line = reader.line_of(&keys::pool::ID);
            if let Some(first) = lines.get(id) {
                let what = format!("is already the id of the pool at line {first}");
                reader.fault(&keys::pool::ID, &what, "a unique id");
            } else {
                lines.insert(id.to_owned(), line);
            }
        }
        if let Ok(pool) = pool::read(reader) {
            entries.push(pool);
        }
    }
    let whole = report.problem_count() == before;
    Ok(Pools { entries, ids: lines.into_keys().collect(), whole })
}

fn read_vips<'d>(
    report: &mut Report<'d>,
    tables: &[TableAt<'d>],
) -> Result<Vec<VipEntry>, Reported> {
    let before = report.problem_count();
    let mut vips = Vec::with_capacity(tables.len());
    for (index, &at) in tables.iter().enumerate() {
        let label = label("vip", at, &keys::vip::ADDRESS, index);
        if let Ok(vip) = vip::read(Reader::new(report, &VIP, label, at)) {
            vips.push(vip);
        }
    }
    cross::check_ties(report, &vips);
    if report.problem_count() == before { Ok(vips) } else { Err(Reported) }
}
