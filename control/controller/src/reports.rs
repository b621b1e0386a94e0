//! The checkers: who they are, what they are to probe, and what they found.
//!
//! Every controller computes the same assignment from the same fleet (`health::assign`), so
//! nothing about it is stored. A checker asks with `WatchAssignments` and reports with
//! `ReportHealth`; reports count only where it is assigned, and are opinions, no decisions: those
//! fall in the pool's health, where a quorum is needed.
//!
//! Who counts as a checker is in `reports/checkers.rs`, what each one is to do in
//! `reports/assignments.rs`, what a report means in `reports/verdict.rs`, and the stream with its
//! window in `reports/reporting.rs`.

mod assignments;
mod checkers;
mod reporting;
mod verdict;

use health::Id;
use health::quorum::Recorded;
use proto::v1::{HealthAck, HealthReport};
use tonic::Status;

use crate::events::event;
use crate::fleet::fleet_changed;
use crate::picture::Picture;

pub(crate) use assignments::{Work, hand_out, watch_assignments};
pub(crate) use checkers::Checkers;
pub(crate) use reporting::report_health;

/// A report as its stream hands it on.
#[derive(Debug)]
struct Incoming {
    report: HealthReport,
    /// It says something else than the last one on this backend.
    new: bool,
}

/// A stream of `checker` opens; `zone` is known when it is one of assignments.
///
/// # Errors
/// RESOURCE_EXHAUSTED when there are too many checkers.
fn opened(picture: &mut Picture, checker: &Id, zone: Option<&Id>) -> Result<(), Status> {
    let changed = picture.fleet.checkers.opened(checker, zone, picture.now).map_err(|_| {
        let most = checkers::MAX_CHECKERS;
        Status::resource_exhausted(format!("checker_id: {most} checkers are known already"))
    })?;
    if let Some(zone) = zone.filter(|_| changed) {
        let said = format!("{checker} in zone {zone} is of the fleet");
        picture.events.publish(event("checker_joined", "", "", said));
        fleet_changed(picture);
    }
    Ok(())
}

/// A stream of `checker` has ended.
fn closed(picture: &mut Picture, checker: &str) {
    picture.fleet.checkers.closed(checker, picture.now);
}

/// Takes reports in their order, and answers each. `None`: it was not heard of a backend.
fn record(picture: &mut Picture, checker: &Id, batch: Vec<Incoming>) -> Vec<HealthAck> {
    batch.into_iter().map(|incoming| record_one(picture, checker, incoming)).collect()
}

fn record_one(picture: &mut Picture, checker: &Id, incoming: Incoming) -> HealthAck {
    let Incoming { report, new } = incoming;
    let refusal = match hear(picture, checker, &report) {
        Ok(pool) => {
            if new {
                picture.touch(&pool);
            }
            None
        }
        Err(why) => Some(why),
    };
    picture.metrics.reported(refusal.is_none());
    HealthAck {
        backend_id: report.backend_id,
        checked_at_ns: report.checked_at_ns,
        accepted: refusal.is_none(),
        reason: refusal.unwrap_or_default().to_owned(),
    }
}

/// The pool of the backend that the report is about, when it counts.
fn hear(
    picture: &mut Picture,
    checker: &Id,
    report: &HealthReport,
) -> Result<String, &'static str> {
    const NO_BACKEND: &str = "no such backend";
    let row = &picture.rows.backends.get(&report.backend_id).ok_or(NO_BACKEND)?.row;
    let probed = !row.readiness_probe_url.is_empty();
    let said = verdict::of(report, checker, probed, picture.now)
        .ok_or("state or readiness: a value that this controller does not know")?;
    let health = picture.health.get_mut(&row.pool_id).ok_or(NO_BACKEND)?;
    match health.report(&said) {
        Recorded::Counted => Ok(row.pool_id.clone()),
        Recorded::Outdated => Err("a newer report of this checker is there already"),
        Recorded::NotAssigned => Err("this checker is not assigned to the backend"),
        Recorded::NoBackend => Err(NO_BACKEND),
    }
}
