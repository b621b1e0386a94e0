//! The task that tells the controller.
//!
//! One stream; on a new one everything is said again, because the controller at its other end may
//! know nothing. A controller that says RESOURCE_EXHAUSTED is left in peace for a while; one that
//! acknowledges nothing for [`PATIENCE`] is given up.

use std::sync::Arc;
use std::time::Duration;

use client::{Backoff, Controllers, Next, Peer};
use proto::v1::{HealthAck, HealthReport};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use crate::outbox::Urgency;
use crate::shared::Shared;

/// Bound on the wait for the stream to open.
const OPENING: Duration = Duration::from_secs(10);
/// So long may reports stay without any acknowledgement.
const PATIENCE: Duration = Duration::from_secs(15);
/// How often it is looked which backends have to be reported once more.
const REPEAT: Duration = Duration::from_millis(250);
/// Reports between the outbox and the connection; few, as nothing replaces them there.
const ON_THE_WAY: usize = 16;

/// Reports for ever.
pub(crate) async fn report(shared: &Arc<Shared>, controllers: &Controllers) {
    let mut backoff = Backoff::default();
    let mut exhausted = Backoff::new(Duration::from_secs(1), Duration::from_secs(8));
    loop {
        let (problem, pause) = match controllers.connect().await {
            Err(error) => (error.to_string(), Some(backoff.pause())),
            Ok((client, peer)) => {
                let status = converse(shared, controllers, client, &peer, &mut backoff).await;
                let next = controllers.failed(&peer, &status);
                let pause = match (status.code(), next) {
                    (Code::ResourceExhausted, _) => {
                        shared.lock().outbox.exhausted();
                        // Not less than half of it: the controller asked for time.
                        Some(exhausted.ceiling() / 2 + exhausted.pause() / 2)
                    }
                    (_, Next::Now) => None,
                    (_, Next::AfterPause) => Some(backoff.pause()),
                };
                if status.code() != Code::ResourceExhausted {
                    exhausted.reset();
                }
                let problem =
                    format!("controller {peer}: {:?}: {}", status.code(), status.message());
                (problem, pause)
            }
        };
        if shared.lock().reports.close(&problem, shared.now()) {
            tracing::warn!(problem, "reports do not reach the controller");
        }
        if let Some(pause) = pause {
            sleep(pause).await;
        }
    }
}

/// Reports over one stream until it ends, and says why it did.
async fn converse(
    shared: &Arc<Shared>,
    controllers: &Controllers,
    mut client: client::Client,
    peer: &Peer,
    backoff: &mut Backoff,
) -> Status {
    {
        let mut state = shared.lock();
        state.outbox.broken();
        for report in state.fleet.everything(shared.now()) {
            state.outbox.put(report, Urgency::Repeated);
        }
    }
    let (reports, receiver) = mpsc::channel(ON_THE_WAY);
    // Some controllers open the stream with the first report only.
    fill(shared, &reports);
    let opened = client.report_health(ReceiverStream::new(receiver));
    let acks = match timeout(OPENING, opened).await {
        Ok(Ok(acks)) => acks.into_inner(),
        Ok(Err(status)) => return status,
        Err(_) => return Status::deadline_exceeded(format!("not open within {OPENING:?}")),
    };
    shared.lock().reports.open(peer.to_string(), shared.now());
    let status = exchange(shared, controllers, &reports, acks, peer, backoff).await;
    shared.lock().outbox.broken();
    status
}

async fn exchange(
    shared: &Arc<Shared>,
    controllers: &Controllers,
    reports: &mpsc::Sender<HealthReport>,
    mut acks: Streaming<HealthAck>,
    peer: &Peer,
    backoff: &mut Backoff,
) -> Status {
    let mut repeat = interval(REPEAT);
    repeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // Since when something is unacknowledged; moved on by each acknowledgement.
    let mut heard = Instant::now();
    loop {
        fill(shared, reports);
        let (more, silent) = {
            let state = shared.lock();
            let outbox = &state.outbox;
            let room = outbox.unacknowledged() < outbox.window();
            (room && outbox.waiting() > 0, outbox.unacknowledged() == 0)
        };
        if silent {
            heard = Instant::now();
        }
        tokio::select! {
            message = acks.message() => match message {
                Ok(Some(ack)) => {
                    heard = Instant::now();
                    controllers.worked(peer);
                    backoff.reset();
                    acknowledged(shared, &ack);
                }
                Ok(None) => return Status::unavailable("the stream ended"),
                Err(status) => return status,
            },
            // There is more to send than the connection takes at the moment.
            permit = reports.reserve(), if more => match permit {
                Ok(_place) => {}
                Err(_) => return ended(acks).await,
            },
            () = shared.filled.notified() => {}
            _ = repeat.tick() => {
                let overdue = shared.lock().fleet.overdue(shared.now());
                if !overdue.is_empty() {
                    shared.put(overdue, Urgency::Repeated);
                }
            }
            () = sleep_until(heard + PATIENCE), if !silent => {
                return Status::deadline_exceeded(format!("no acknowledgement within {PATIENCE:?}"));
            }
        }
    }
}

/// Moves reports from the outbox to the connection, while both window and connection allow.
fn fill(shared: &Arc<Shared>, reports: &mpsc::Sender<HealthReport>) {
    let mut state = shared.lock();
    while let Ok(place) = reports.try_reserve() {
        match state.outbox.take() {
            Some(report) => place.send(report),
            None => return,
        }
    }
}

fn acknowledged(shared: &Arc<Shared>, ack: &HealthAck) {
    shared.lock().outbox.acknowledged(ack.accepted);
    if !ack.accepted {
        tracing::debug!(backend = ack.backend_id, reason = ack.reason, "report refused");
    }
}

/// The connection takes no more: its last word says why.
async fn ended(mut acks: Streaming<HealthAck>) -> Status {
    loop {
        match timeout(Duration::from_secs(1), acks.message()).await {
            Ok(Ok(Some(_))) => {}
            Ok(Err(status)) => return status,
            Ok(Ok(None)) | Err(_) => return Status::unavailable("the stream ended"),
        }
    }
}
