//! `WatchAssignments`: what each checker is to probe.
//!
//! A checker gets its whole list at once, and again whenever it changes. Changes are coalesced
//! twice: lists are made once a tick, however many rows changed, and a checker that reads slowly
//! finds the newest list and none of those between.

use std::collections::BTreeMap;
use std::sync::Arc;

use access::Identity;
use health::Id;
use proto::v1::{Assignment, Assignments, WatchAssignmentsReq};
use tokio::sync::watch;
use tonic::Status;

use super::{closed, opened};
use crate::office::{Office, invalid};
use crate::picture::Picture;
use crate::stream::{Answers, Reply, fed};
use crate::wire;

/// Bytes of a checker's name, and of a zone's.
pub(super) const MAX_NAME: usize = 256;
/// A checker that names no zone stands in this one.
const DEFAULT_ZONE: &str = "default";

/// The lists of all checkers that watch theirs.
#[derive(Debug, Default)]
pub(crate) struct Work {
    lists: BTreeMap<Id, watch::Sender<Arc<Assignments>>>,
    outdated: bool,
}

impl Work {
    /// Something has changed that may be in a list.
    pub(crate) fn outdated(&mut self) {
        self.outdated = true;
    }
}

/// Makes the lists anew, if something has changed.
pub(crate) fn hand_out(picture: &mut Picture) {
    if !std::mem::take(&mut picture.fleet.work.outdated) {
        return;
    }
    let mut lists = std::mem::take(&mut picture.fleet.work.lists);
    lists.retain(|_, list| list.receiver_count() > 0);
    for (checker, list) in &lists {
        let assignments = assignments_of(picture, checker);
        list.send_if_modified(|last| {
            let changed = last.assignments != assignments;
            if changed {
                let version = last.version.saturating_add(1);
                *last = Arc::new(Assignments { version, assignments });
            }
            changed
        });
    }
    picture.fleet.work.lists = lists;
}

/// In the order of pools and backends.
fn assignments_of(picture: &Picture, checker: &str) -> Vec<Assignment> {
    let mut assignments = Vec::new();
    for (pool, health) in &picture.health {
        let Some(settings) = picture.rows.pools.get(pool).map(|found| &found.row.settings) else {
            continue;
        };
        for id in health.probes_of(checker) {
            let Some(row) = picture.rows.backends.get(&**id).map(|found| &found.row) else {
                continue;
            };
            assignments.push(Assignment {
                backend_id: row.id.clone(),
                pool_id: pool.clone(),
                ip: row.ip.to_string(),
                port: u32::from(row.port),
                readiness_probe_url: row.readiness_probe_url.clone(),
                settings: Some(wire::proto_probe(&settings.probe)),
            });
        }
    }
    assignments
}

/// Opens a stream of `checker` and gives it its list.
fn subscribe(
    picture: &mut Picture,
    checker: &Id,
    zone: &Id,
) -> Result<watch::Receiver<Arc<Assignments>>, Status> {
    opened(picture, checker, Some(zone))?;
    // Others may have to give backends away to it: with the next tick.
    let assignments = assignments_of(picture, checker);
    let list = picture.fleet.work.lists.entry(checker.clone()).or_insert_with(|| {
        watch::Sender::new(Arc::new(Assignments { version: 1, assignments: Vec::new() }))
    });
    list.send_if_modified(|last| {
        let changed = last.assignments != assignments;
        if changed {
            let version = last.version.saturating_add(1);
            *last = Arc::new(Assignments { version, assignments });
        }
        changed
    });
    Ok(list.subscribe())
}

/// The assignments of one checker, now and at each change.
pub(crate) fn watch_assignments(
    office: &Office,
    caller: Identity,
    request: WatchAssignmentsReq,
) -> Result<Reply<Assignments>, Status> {
    let WatchAssignmentsReq { checker_id, zone } = request;
    if !(1..=MAX_NAME).contains(&checker_id.len()) {
        return Err(invalid("checker_id", format!("must have 1 to {MAX_NAME} bytes")));
    }
    if zone.len() > MAX_NAME {
        return Err(invalid("zone", format!("must have at most {MAX_NAME} bytes")));
    }
    caller.require_name("checker_id", &checker_id)?;
    let desk = office.desk.clone();
    let checker = Id::from(checker_id);
    let zone = Id::from(if zone.is_empty() { DEFAULT_ZONE } else { zone.as_str() });
    Ok(fed(1, |answers| async move {
        let id = checker.clone();
        match desk.see(move |picture| subscribe(picture, &id, &zone)).await.flatten() {
            Ok(list) => {
                tell(list, &answers).await;
                // Refused when the term is over, and all it knew with it.
                let _over = desk.see(move |picture| closed(picture, &checker)).await;
            }
            Err(status) => {
                let _gone = answers.send(Err(status)).await;
            }
        }
    }))
}

/// Until the caller, or the term, is gone.
async fn tell(mut list: watch::Receiver<Arc<Assignments>>, answers: &Answers<Assignments>) {
    loop {
        let newest = Arc::clone(&list.borrow_and_update());
        if answers.send(Ok((*newest).clone())).await.is_err() {
            return;
        }
        tokio::select! {
            changed = list.changed() => if changed.is_err() { return },
            () = answers.closed() => return,
        }
    }
}
