//! The `WatchPool` stream: opened, heard, and opened again for as long as the node lives.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use client::{Backoff, Controllers, Next, Peer};
use proto::v1;
use tokio::sync::Notify;
use tokio::time::{Instant, interval, sleep, timeout};
use tonic::Status as CallStatus;

use super::{Feed, Status};

/// How long a stream may take to open.
const OPEN: Duration = Duration::from_secs(10);
/// How long an opened stream may take to send the whole initial set.
const INITIAL_SET: Duration = Duration::from_secs(60);
/// How often the feed looks after what is due.
const TICK: Duration = Duration::from_secs(1);
/// Messages that are there already are taken together, up to this many.
const TOGETHER: usize = 64;

/// See the module.
pub(super) struct Stream {
    pub(super) feed: Feed,
    pub(super) status: Arc<Status>,
    pub(super) controllers: Controllers,
    pub(super) node_id: String,
    /// Told at each change that came into force.
    pub(super) applied: Arc<Notify>,
}

impl Stream {
    /// Keeps a stream until the future is dropped.
    pub(super) async fn run(&mut self) {
        let mut backoff = Backoff::default();
        loop {
            let next = match self.controllers.connect().await {
                Ok((client, peer)) => {
                    let status = self.hear(client, &peer, &mut backoff).await;
                    let text = format!("controller {peer}: {}", status.message());
                    tracing::warn!(controller = %peer, code = ?status.code(), "watch ended: {}", status.message());
                    self.status.lost(text);
                    self.controllers.failed(&peer, &status)
                }
                Err(error) => {
                    tracing::debug!(%error, "no controller");
                    self.status.lost(error.to_string());
                    Next::AfterPause
                }
            };
            if next == Next::AfterPause {
                self.pause(backoff.pause()).await;
            }
        }
    }

    /// Waits, while what is due still happens.
    async fn pause(&mut self, pause: Duration) {
        let mut end = pin!(sleep(pause));
        loop {
            tokio::select! {
                () = &mut end => return,
                () = sleep(TICK) => self.poll(),
            }
        }
    }

    /// Hears one stream to its end; returns why it ended.
    async fn hear(
        &mut self,
        mut client: client::Client,
        peer: &Peer,
        backoff: &mut Backoff,
    ) -> CallStatus {
        let (store_id, versions) = self.feed.begin();
        let request = v1::WatchPoolReq {
            pool_id: String::new(),
            node_id: self.node_id.clone(),
            store_id,
            versions,
        };
        let mut messages = match timeout(OPEN, client.watch_pool(request)).await {
            Ok(Ok(response)) => response.into_inner(),
            Ok(Err(status)) => return status,
            Err(_) => return CallStatus::deadline_exceeded(format!("no stream within {OPEN:?}")),
        };
        self.status.connected(peer.to_string());
        tracing::info!(controller = %peer, "watching pools");
        let mut deadline = Some(Instant::now() + INITIAL_SET);
        let mut ticks = interval(TICK);
        loop {
            let first = tokio::select! {
                message = messages.message() => message,
                _ = ticks.tick() => {
                    self.poll();
                    if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                        let text = format!("no complete set of pools within {INITIAL_SET:?}");
                        return CallStatus::deadline_exceeded(text);
                    }
                    continue;
                }
            };
            let first = match first {
                Ok(Some(message)) => message,
                Ok(None) => return CallStatus::unavailable("the stream ended"),
                Err(status) => return status,
            };
            self.controllers.worked(peer);
            *backoff = Backoff::default();
            self.status.heard();
            let mut together = vec![first];
            // What a burst has sent already is built once. An error behind it is told only once.
            let mut ended = None;
            while together.len() < TOGETHER && ended.is_none() {
                match timeout(Duration::ZERO, messages.message()).await {
                    Ok(Ok(Some(message))) => together.push(message),
                    Ok(Ok(None)) => ended = Some(CallStatus::unavailable("the stream ended")),
                    Ok(Err(status)) => ended = Some(status),
                    Err(_) => break,
                }
            }
            if together.iter().any(|message| message.initial_set_complete) {
                deadline = None;
            }
            if self.feed.take(together) {
                self.applied.notify_one();
            }
            if let Some(status) = ended {
                return status;
            }
        }
    }

    fn poll(&mut self) {
        if self.feed.poll() {
            self.applied.notify_one();
        }
    }
}
