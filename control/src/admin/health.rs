//! `/healthz`: is every worker alive? `/readyz`: should the node get traffic?
//!
//! Readiness fails static (SPEC section 6): a node whose last reload was refused, or whose
//! neighbours are only partly known, goes on to serve what it has, stays ready, and says so.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use tokio::time::{Instant, sleep};

use super::response::text;
use super::{AdminState, token};
use crate::node::{Node, WorkerHandle};
use crate::watch::View;

/// A worker that has not looked at its queues for so long is stalled, in nanoseconds. Thousands
/// of the longest sleeps of an idle worker, and of the longest bursts of a busy one.
const STALLED: u64 = 1_000_000_000;
/// How long `/readyz` waits for workers to take up tables that were published just now.
const CATCH_UP: Duration = Duration::from_millis(100);
const CATCH_UP_STEP: Duration = Duration::from_millis(5);

const PLAIN: &str = "text/plain; charset=utf-8";

pub(super) async fn healthz(State(state): State<Arc<AdminState>>) -> Response {
    let problems = {
        let node = state.lock_node();
        match node.workers() {
            [] => vec!["no worker is running".to_owned()],
            workers => stalled(&state, workers),
        }
    };
    match problems.as_slice() {
        [] => text(StatusCode::OK, PLAIN, "ok\n".to_owned()),
        problems => text(StatusCode::SERVICE_UNAVAILABLE, PLAIN, lines(problems)),
    }
}

pub(super) async fn readyz(State(state): State<Arc<AdminState>>, headers: HeaderMap) -> Response {
    let deadline = Instant::now() + CATCH_UP;
    // A worker takes up new tables with its next round, in microseconds. Only one that does not
    // is worth a word, or every learned neighbour would make the node look unready.
    while !behind(&state.lock_node()).is_empty() && Instant::now() < deadline {
        sleep(CATCH_UP_STEP).await;
    }
    let node = state.lock_node();
    let mut reasons = not_ready(&state, &node);
    reasons.extend(behind(&node));
    let mut warnings = lines(&warnings(&node));
    if !token::may_see(&state, &headers) {
        warnings.clear();
        if !reasons.is_empty() {
            reasons = vec!["not ready; with the admin token this says why".to_owned()];
        }
    }
    if reasons.is_empty() {
        return text(StatusCode::OK, PLAIN, format!("ready\n{warnings}"));
    }
    text(StatusCode::SERVICE_UNAVAILABLE, PLAIN, lines(&reasons) + &warnings)
}

/// Why the node should not get traffic, but for workers that are about to take up new tables.
pub(super) fn not_ready(state: &AdminState, node: &Node) -> Vec<String> {
    let mut reasons = node.not_ready();
    if let Some(feed) = node.feed().map(|feed| feed.view()).filter(|feed| !feed.loaded) {
        let why = feed.last_error.map(|error| format!(": {error}")).unwrap_or_default();
        reasons.push(format!("no snapshot of a controller, and none in the cache{why}"));
    }
    reasons.extend(stalled(state, node.workers()));
    for (port, source) in node.config().ports.iter().zip(&state.ports) {
        if !source.link_up() {
            reasons.push(format!("port \"{}\": the link is down", port.name));
        }
    }
    reasons
}

/// How long ago a worker ticked, in nanoseconds; one that has yet to begin, since the node began.
pub(super) fn tick_age(state: &AdminState, worker: &WorkerHandle) -> u64 {
    let last = worker.counters.last_tick_nanoseconds.get();
    state.now().saturating_sub(last.max(state.started))
}

fn stalled(state: &AdminState, workers: &[WorkerHandle]) -> Vec<String> {
    let ages = workers.iter().map(|worker| tick_age(state, worker)).enumerate();
    ages.filter(|(_, age)| *age > STALLED)
        .map(|(number, age)| {
            format!("worker {number} has not ticked for {:.1} s", age as f64 / 1e9)
        })
        .collect()
}

/// Workers that use other tables than those published last. Those that have none at all are
/// [`Node::not_ready`]'s to name.
fn behind(node: &Node) -> Vec<String> {
    let current = node.generation();
    let generations = node.workers().iter().map(|worker| worker.counters.tables_generation.get());
    generations
        .enumerate()
        .filter(|(_, generation)| *generation != 0 && *generation != current)
        .map(|(number, generation)| {
            format!("worker {number} uses tables of generation {generation}, not {current}")
        })
        .collect()
}

fn warnings(node: &Node) -> Vec<String> {
    let mut warnings = Vec::new();
    if let Some(error) = &node.reloads().last_error {
        let error = error.lines().map(str::trim).filter(|line| !line.is_empty());
        warnings.push(format!(
            "warning: the configuration is stale, the last reload was refused: {}",
            error.collect::<Vec<_>>().join("; ")
        ));
    }
    if let Some(feed) = node.feed() {
        warnings.extend(feed_warnings(&feed.view()));
    }
    for (pool, backend) in node.overrides().iter() {
        warnings.push(format!(
            "warning: backend \"{backend}\" of pool \"{pool}\" is drained on this node"
        ));
    }
    warnings
}

/// What is not as it should be with the controller; what the node has is served all the same.
fn feed_warnings(feed: &View) -> Vec<String> {
    let mut warnings = Vec::new();
    if feed.stale {
        let age = feed.age as f64 / 1e9;
        let source = if feed.from_cache { "the cache's snapshots" } else { "snapshots" };
        let why = feed.last_error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
        warnings.push(format!("warning: stale, {source} of {age:.0} s ago are served{why}"));
    }
    for (pool, refusal) in &feed.refusals {
        let kept = match feed.pools.get(pool) {
            Some(version) => format!("version {version} stays in force"),
            None => "it is not served".to_owned(),
        };
        warnings.push(format!("warning: pool \"{pool}\": snapshot refused, {kept}: {refusal}"));
    }
    if let Some(error) = &feed.cache.error {
        warnings.push(format!("warning: the snapshot cache is not written: {error}"));
    }
    if let Some(problem) = &feed.cache_problem {
        warnings
            .push(format!("warning: the snapshot cache was set aside at the start: it {problem}"));
    }
    warnings
}

fn lines(list: &[String]) -> String {
    list.iter().map(|line| format!("{line}\n")).collect()
}
