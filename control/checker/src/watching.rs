//! The task that hears from the controller what there is to probe.
//!
//! A list is complete, so the newest is all that counts. When the controller is away, the last
//! list stays: probing goes on.

use std::sync::Arc;
use std::time::Duration;

use client::{Backoff, Controllers, Peer};
use proto::v1::{Assignments, WatchAssignmentsReq};
use tokio::time::{sleep, timeout};
use tonic::{Status, Streaming};

use crate::shared::Shared;
use crate::target::Target;

/// Bound on the wait for a stream to open, and for its first list.
const OPENING: Duration = Duration::from_secs(10);

/// Watches for ever.
pub(crate) async fn watch(shared: &Arc<Shared>, controllers: &Controllers) {
    let mut backoff = Backoff::default();
    loop {
        let problem = match controllers.connect().await {
            Err(error) => error.to_string(),
            Ok((mut client, peer)) => {
                let request = WatchAssignmentsReq {
                    checker_id: shared.settings.id.clone(),
                    zone: shared.settings.zone.clone(),
                };
                let status = match timeout(OPENING, client.watch_assignments(request)).await {
                    Ok(Ok(stream)) => {
                        let stream = stream.into_inner();
                        follow(shared, controllers, &peer, stream, &mut backoff).await
                    }
                    Ok(Err(status)) => status,
                    Err(_) => Status::deadline_exceeded(format!("not open within {OPENING:?}")),
                };
                let next = controllers.failed(&peer, &status);
                let problem =
                    format!("controller {peer}: {:?}: {}", status.code(), status.message());
                if next == client::Next::Now {
                    shared.lock().assignments.close(&problem, shared.now());
                    continue;
                }
                problem
            }
        };
        if shared.lock().assignments.close(&problem, shared.now()) {
            tracing::warn!(problem, "no assignments; going on with the last ones");
        }
        sleep(backoff.pause()).await;
    }
}

/// Takes lists until the stream ends, and says why it did.
async fn follow(
    shared: &Arc<Shared>,
    controllers: &Controllers,
    peer: &Peer,
    mut stream: Streaming<Assignments>,
    backoff: &mut Backoff,
) -> Status {
    let mut message = match timeout(OPENING, stream.message()).await {
        Ok(message) => message,
        Err(_) => return Status::deadline_exceeded(format!("no list within {OPENING:?}")),
    };
    shared.lock().assignments.open(peer.to_string(), shared.now());
    loop {
        match message {
            Ok(Some(assignments)) => {
                controllers.worked(peer);
                backoff.reset();
                take(shared, assignments);
            }
            Ok(None) => return Status::unavailable("the stream ended"),
            Err(status) => return status,
        }
        message = stream.message().await;
    }
}

fn take(shared: &Arc<Shared>, assignments: Assignments) {
    let version = assignments.version;
    let targets: Vec<Target> = assignments
        .assignments
        .into_iter()
        .filter(|assignment| !assignment.backend_id.is_empty())
        .map(|assignment| Target::new(assignment, &shared.settings.commands))
        .collect();
    let mut state = shared.lock();
    let state = &mut *state;
    state.fleet.assign(targets, shared.now());
    state.outbox.keep(|id| state.fleet.has(id));
    state.version = Some(version);
    shared.prober.keep_names(&state.fleet.hosts());
    let (backends, unusable) = state.fleet.sizes();
    tracing::info!(version, backends, unusable, "assignments");
    shared.rescheduled.notify_one();
}
