//! A checker without probes: it follows its assignments and reports what the test tells it to.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proto::v1::{Assignments, Health, HealthReport, WatchAssignmentsReq};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::interval;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;

use crate::lab::{Client, within};

/// Liveness and readiness of backends; what is not in it is healthy and ready.
pub(crate) type World = Arc<Mutex<HashMap<String, (Health, Health)>>>;

/// Reports every assigned backend, again and again, until it is dropped.
pub(crate) struct Checker {
    /// What this one sees.
    pub(crate) world: World,
    assignments: watch::Receiver<Assignments>,
    /// Accepted reports so far.
    accepted: watch::Receiver<u64>,
    tasks: Vec<JoinHandle<()>>,
}

impl Checker {
    pub(crate) async fn start(client: &Client, id: &str, zone: &str, world: World) -> Self {
        let (mut client, id, zone) = (client.clone(), id.to_owned(), zone.to_owned());
        let request = WatchAssignmentsReq { checker_id: id.clone(), zone };
        let mut lists = client.watch_assignments(request).await.expect("assignments").into_inner();
        let (list, assignments) = watch::channel(Assignments::default());
        let following = tokio::spawn(async move {
            while let Some(Ok(newest)) = lists.next().await {
                list.send_replace(newest);
            }
        });
        let (reports, queue) = mpsc::channel(64);
        let (count, accepted) = watch::channel(0);
        let acks = client.report_health(ReceiverStream::new(queue)).await.expect("a stream");
        let mut acks = acks.into_inner();
        let counting = tokio::spawn(async move {
            while let Some(Ok(ack)) = acks.next().await {
                count.send_modify(|count| *count += u64::from(ack.accepted));
            }
        });
        let (seen, mine) = (Arc::clone(&world), assignments.clone());
        let reporting = tokio::spawn(async move {
            let mut rounds = interval(Duration::from_millis(50));
            let mut checked_at_ns = 0;
            loop {
                rounds.tick().await;
                let list = mine.borrow().assignments.clone();
                for assignment in list {
                    checked_at_ns += 1;
                    let backend_id = assignment.backend_id;
                    let healthy = (Health::Healthy, Health::Healthy);
                    let (state, readiness) =
                        seen.lock().expect("lock").get(&backend_id).copied().unwrap_or(healthy);
                    let report = HealthReport {
                        backend_id,
                        state: state.into(),
                        readiness: readiness.into(),
                        checked_at_ns,
                        checker_id: id.clone(),
                        ..HealthReport::default()
                    };
                    if reports.send(report).await.is_err() {
                        return;
                    }
                }
            }
        });
        Self { world, assignments, accepted, tasks: vec![following, counting, reporting] }
    }

    /// The ids of the backends that it is to probe now.
    pub(crate) fn assigned(&self) -> Vec<String> {
        self.assignments.borrow().assignments.iter().map(|a| a.backend_id.clone()).collect()
    }

    pub(crate) fn list(&self) -> Assignments {
        self.assignments.borrow().clone()
    }

    pub(crate) fn sees(&self, backend: &str, liveness: Health, readiness: Health) {
        self.world.lock().expect("lock").insert(backend.to_owned(), (liveness, readiness));
    }

    pub(crate) fn sees_all_well(&self) {
        self.world.lock().expect("lock").clear();
    }

    /// Waits until `more` further reports have been accepted.
    pub(crate) async fn reports(&self, more: u64) {
        let mut accepted = self.accepted.clone();
        let enough = *accepted.borrow() + more;
        within("reports are accepted", accepted.wait_for(|count| *count >= enough))
            .await
            .expect("the stream lives");
    }
}

impl Drop for Checker {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}
