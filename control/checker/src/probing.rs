//! The task that starts probes when they are due.
//!
//! One timer for all: it sleeps until the first entry of the schedule. Each probe is a task for
//! as long as it lasts, and no more of them run than there are descriptors for; what is due and
//! finds no room starts late, and is seen in the lateness.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio::time::sleep_until;

use crate::fleet::{Answer, Job};
use crate::outbox::Urgency;
use crate::shared::{Shared, wall_clock_ns};

/// The schedule is looked at at least so often.
const LOOK: Duration = Duration::from_secs(1);

/// Probes for ever.
pub(crate) async fn probe_all(shared: &Arc<Shared>) {
    let mut under_way = JoinSet::new();
    loop {
        let next = {
            let mut state = shared.lock();
            let now = shared.now();
            state.probed = now;
            while under_way.len() < shared.max_in_flight {
                let Some(job) = state.fleet.take_due(now) else { break };
                under_way.spawn(probe(Arc::clone(shared), job));
            }
            // Without room, the end of a probe is what to wait for. A look a second shows that
            // this task is alive.
            let room = under_way.len() < shared.max_in_flight;
            let due = state.fleet.next_due().filter(|_| room);
            due.unwrap_or(Duration::MAX).min(now + LOOK)
        };
        shared.metrics.in_flight(under_way.len());
        tokio::select! {
            () = sleep_until(shared.at(next)) => {}
            () = shared.rescheduled.notified() => {}
            Some(ended) = under_way.join_next() => {
                if let Err(error) = ended {
                    tracing::error!(%error, "a probe broke down");
                }
                while under_way.try_join_next().is_some() {}
            }
        }
    }
}

async fn probe(shared: Arc<Shared>, job: Job) {
    let mut start = Instant::now();
    let mut checked_at_ns = 0;
    let finding = shared
        .prober
        .probe(&job.probe, job.timeout, || {
            start = Instant::now();
            checked_at_ns = wall_clock_ns();
            shared.metrics.started(shared.now().saturating_sub(job.planned));
        })
        .await;
    let latency = start.elapsed();
    shared.metrics.ended(job.probe.kind(), job.role, &finding, latency);
    let answer = Answer { finding, latency, checked_at_ns };
    let report = {
        let mut state = shared.lock();
        let before = state.fleet.next_due();
        let report = state.fleet.answer(&job, answer, shared.now());
        if state.fleet.next_due() != before {
            shared.rescheduled.notify_one();
        }
        report
    };
    if let Some(report) = report {
        tracing::info!(
            backend = report.backend_id,
            state = ?report.state(),
            readiness = ?report.readiness(),
            detail = report.detail,
            "verdict"
        );
        shared.put([report], Urgency::News);
    }
}
