//! `/admin/flows`: a sample of the tracked flows.
//!
//! A sample, because a table is walked in slices while it changes: an entry that moves meanwhile
//! is missed or shown twice. Entries lie where a keyed hash puts them, so a limited dump is a
//! fair choice of flows. Flows that are over but not yet reaped are left out.

use std::sync::Arc;

use axum::extract::{Query, State};
use axum::response::Response;
use conntrack::Entry;
use dataplane::link::FlowFilter;
use dataplane::select::idle_limit;
use dataplane::wire::IpProtocol;
use serde::Serialize;

use super::AdminState;
use super::dump::Shown;
use super::response::{Refusal, json};
use crate::assemble::Assembler;
use crate::node::Node;

/// Flows shown when the request does not say how many.
const DEFAULT_LIMIT: u32 = 100;
/// The most flows shown.
const MAX_LIMIT: u32 = 10_000;
/// Names given in the answer to a wrong name.
const MAX_NAMES: usize = 100;

#[derive(Serialize)]
struct Answer {
    /// Every worker answered in time.
    complete: bool,
    /// Workers that did not; some of their flows may be there.
    unanswered_workers: Vec<usize>,
    /// The limit was reached: there may be more.
    limited: bool,
    limit: u32,
    flows: Vec<Flow>,
}

#[derive(Serialize)]
struct Flow {
    protocol: String,
    source: String,
    source_port: u16,
    destination: String,
    destination_port: u16,
    /// `null`: the VIP is gone.
    vip: Option<String>,
    /// `null`, as `backend`: the backend is gone.
    pool: Option<String>,
    backend: Option<String>,
    state: &'static str,
    idle_ms: u32,
    packets: u32,
    bytes: u64,
    worker: usize,
    confirmed: bool,
    tombstone: bool,
}

/// `GET /admin/flows?vip=&backend=&limit=`.
pub(super) async fn show(
    State(state): State<Arc<AdminState>>,
    Query(parameters): Query<Vec<(String, String)>>,
) -> Result<Response, Refusal> {
    let (filter, links) = {
        let node = state.lock_node();
        let filter = read_filter(&parameters, node.assembler())?;
        let links: Vec<_> = node.workers().iter().map(|worker| Arc::clone(&worker.link)).collect();
        (filter, links)
    };
    let turn =
        state.dumps.begin(state.now()).map_err(|retry_after| Refusal::TooMany { retry_after })?;
    let shown = turn.collect(&links, filter).await;
    let unanswered_workers: Vec<usize> =
        shown.iter().enumerate().filter(|(_, shown)| !shown.complete).map(|(n, _)| n).collect();
    let limit = filter.limit as usize;
    let limited = shown.iter().any(|shown| shown.flows.len() >= limit);
    let node = state.lock_node();
    let mut flows = in_turns(shown)
        .filter(|(_, entry, idle)| is_live(&node, entry, *idle, filter))
        .map(|(worker, entry, idle)| describe(&node, worker, &entry, idle));
    let answer = Answer {
        complete: unanswered_workers.is_empty(),
        unanswered_workers,
        flows: flows.by_ref().take(limit).collect(),
        limited: limited || flows.next().is_some(),
        limit: filter.limit,
    };
    Ok(json(answer))
}

fn bad(parameter: &str, problem: String) -> Refusal {
    Refusal::BadParameter { parameter: parameter.to_owned(), problem }
}

fn read_filter(
    parameters: &[(String, String)],
    assembler: &Assembler,
) -> Result<FlowFilter, Refusal> {
    let mut filter = FlowFilter { limit: DEFAULT_LIMIT, ..FlowFilter::default() };
    for (place, (name, value)) in parameters.iter().enumerate() {
        if parameters.iter().take(place).any(|(earlier, _)| earlier == name) {
            return Err(bad(name, format!("\"{name}\" is given twice")));
        }
        match name.as_str() {
            // An empty one is no filter, so that the path of the index can be used as it is.
            "vip" | "backend" | "limit" if value.is_empty() => {}
            "vip" => filter.vip = Some(find_vip(assembler, value)?),
            "backend" => filter.backend = Some(find_backend(assembler, value)?),
            "limit" => {
                let limit = value.parse().ok().filter(|limit| (1..=MAX_LIMIT).contains(limit));
                let problem = || {
                    bad(name, format!("limit = \"{value}\" is not a number of 1 to {MAX_LIMIT}"))
                };
                filter.limit = limit.ok_or_else(problem)?;
            }
            _ => {
                let problem = format!("\"{name}\" is unknown (expected vip, backend or limit)");
                return Err(bad(name, problem));
            }
        }
    }
    Ok(filter)
}

fn find_vip(assembler: &Assembler, name: &str) -> Result<u32, Refusal> {
    assembler.vip_index(name).ok_or_else(|| Refusal::NotFound {
        what: format!("there is no VIP \"{name}\" (expected as in 203.0.113.1:80/tcp)"),
        known: Some((
            "vips",
            assembler.vip_names().take(MAX_NAMES).map(|(_, name)| name.to_owned()).collect(),
        )),
    })
}

/// A backend by `pool/id`, or by its id where only one pool has one of that id.
fn find_backend(assembler: &Assembler, name: &str) -> Result<u32, Refusal> {
    let exact = name.split_once('/').and_then(|(pool, id)| assembler.backend_index(pool, id));
    if let Some(index) = exact {
        return Ok(index);
    }
    let mut found = assembler.backend_names().filter(|(_, _, id)| *id == name);
    match (found.next(), found.next()) {
        (Some((index, _, _)), None) => Ok(index),
        (Some((_, first, _)), Some((_, second, _))) => Err(bad(
            "backend",
            format!(
                "\"{name}\" is a backend of several pools (expected pool/id, as in \
                 {first}/{name} or {second}/{name})"
            ),
        )),
        (None, _) => {
            let names = assembler.backend_names().take(MAX_NAMES);
            Err(Refusal::NotFound {
                what: format!("there is no backend \"{name}\" (expected id or pool/id)"),
                known: Some((
                    "backends",
                    names.map(|(_, pool, id)| format!("{pool}/{id}")).collect(),
                )),
            })
        }
    }
}

/// One flow of each worker after the other, so that a limit cuts all workers alike.
fn in_turns(shown: Vec<Shown>) -> impl Iterator<Item = (usize, Entry, u32)> {
    let longest = shown.iter().map(|shown| shown.flows.len()).max().unwrap_or(0);
    (0..longest).flat_map(move |place| {
        let row = shown.iter().enumerate().filter_map(|(worker, shown)| {
            shown.flows.get(place).map(|(entry, idle)| (worker, *entry, *idle))
        });
        row.collect::<Vec<_>>()
    })
}

/// The flow is not over, and its backend is the one asked for, not an earlier one of that index.
fn is_live(node: &Node, entry: &Entry, idle: u32, filter: FlowFilter) -> bool {
    idle < idle_limit(node.tables(), entry) && (filter.backend.is_none() || is_current(node, entry))
}

fn is_current(node: &Node, entry: &Entry) -> bool {
    let backend = node.tables().backend(entry.backend());
    backend.is_some_and(|backend| backend.generation == entry.generation())
}

fn describe(node: &Node, worker: usize, entry: &Entry, idle_ms: u32) -> Flow {
    let assembler = node.assembler();
    let backend = match is_current(node, entry) {
        true => assembler.backend_name(entry.backend()),
        false => None,
    };
    let key = entry.key();
    Flow {
        protocol: match IpProtocol(key.protocol()) {
            IpProtocol::TCP => "tcp".to_owned(),
            IpProtocol::UDP => "udp".to_owned(),
            IpProtocol(number) => number.to_string(),
        },
        source: key.source().to_string(),
        source_port: key.source_port(),
        destination: key.destination().to_string(),
        destination_port: key.destination_port(),
        vip: assembler.vip_name(entry.vip()).map(str::to_owned),
        pool: backend.map(|(pool, _)| pool.to_owned()),
        backend: backend.map(|(_, id)| id.to_owned()),
        state: entry.state().name(),
        idle_ms,
        packets: entry.packets(),
        bytes: entry.bytes(),
        worker,
        confirmed: entry.confirmed(),
        tombstone: entry.tombstone(),
    }
}
