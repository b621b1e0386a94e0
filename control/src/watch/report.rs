//! What the node says to the controller: which versions it runs, what it refused, what it saw.
//!
//! One `ReportNode` stream: a report a second, and one as soon as a change is in force on every
//! worker. Numbers are totals since the start of the node, so a lost report loses nothing.

use std::sync::Arc;
use std::time::Duration;

use client::{Backoff, Controllers, Next, Peer};
use health::thresholds::Verdict;
use maglev::Scheduler as _;
use proto::v1;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status as CallStatus;

use super::Status;
use super::status::unix_now_ns;
use crate::node::Node;
use crate::shared::SharedNode;
use crate::traffic::{backend_signals, backend_traffic};

/// From report to report.
const EVERY: Duration = Duration::from_secs(1);
/// Reports on their way that the controller has not taken.
const QUEUE: usize = 4;
/// How long a stream may take to open, and the controller to acknowledge anything.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long a report of a change waits for workers to take up the tables.
const CATCH_UP: Duration = Duration::from_millis(100);
const CATCH_UP_STEP: Duration = Duration::from_millis(1);

/// See the module.
pub(super) struct Reporter {
    pub(super) node: SharedNode,
    pub(super) status: Arc<Status>,
    pub(super) controllers: Controllers,
    pub(super) node_id: String,
    pub(super) zone: String,
    pub(super) applied: Arc<Notify>,
}

impl Reporter {
    /// Keeps a stream until the future is dropped.
    pub(super) async fn run(&self) {
        let mut backoff = Backoff::default();
        loop {
            let next = match self.controllers.connect().await {
                Ok((client, peer)) => {
                    let status = self.tell(client, &peer, &mut backoff).await;
                    tracing::debug!(controller = %peer, %status, "reports ended");
                    self.controllers.failed(&peer, &status)
                }
                Err(_) => Next::AfterPause,
            };
            if next == Next::AfterPause {
                sleep(backoff.pause()).await;
            }
        }
    }

    /// Reports on one stream until it ends; returns why it did.
    async fn tell(
        &self,
        mut client: client::Client,
        peer: &Peer,
        backoff: &mut Backoff,
    ) -> CallStatus {
        let (reports, outgoing) = mpsc::channel(QUEUE);
        // The first is there before the call: a server may wait for it.
        self.send(&reports);
        let opened = timeout(PATIENCE, client.report_node(ReceiverStream::new(outgoing))).await;
        let mut acks = match opened {
            Ok(Ok(response)) => response.into_inner(),
            Ok(Err(status)) => return status,
            Err(_) => return CallStatus::deadline_exceeded("the report stream did not open"),
        };
        let own = peer.to_string();
        let mut heard = Instant::now();
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                ack = acks.message() => match ack {
                    Ok(Some(_)) => {
                        heard = Instant::now();
                        self.controllers.worked(peer);
                        *backoff = Backoff::default();
                        self.status.acknowledged();
                    }
                    Ok(None) => return CallStatus::unavailable("the report stream ended"),
                    Err(status) => return status,
                },
                () = self.applied.notified() => {
                    self.until_taken_up().await;
                    if self.status.is_connected_elsewhere(&own) {
                        return moved();
                    }
                    self.send(&reports);
                }
                _ = ticks.tick() => {
                    if self.status.is_connected_elsewhere(&own) {
                        return moved();
                    }
                    if heard.elapsed() >= PATIENCE {
                        let text = format!("no report acknowledged within {PATIENCE:?}");
                        return CallStatus::deadline_exceeded(text);
                    }
                    self.send(&reports);
                }
            }
        }
    }

    /// A controller that does not take reports misses some: the next one says it all again.
    fn send(&self, reports: &mpsc::Sender<v1::NodeReport>) {
        if reports.try_send(self.report()).is_ok() {
            self.status.reported();
        }
    }

    /// Waits until every worker uses the tables published last, for a bounded time: a change that
    /// is reported is one that packets meet.
    async fn until_taken_up(&self) {
        let end = Instant::now() + CATCH_UP;
        while Instant::now() < end {
            let current = {
                let node = self.node.lock();
                let generation = node.generation();
                let mut workers = node.workers().iter();
                workers.all(|worker| worker.counters.tables_generation.get() == generation)
            };
            if current {
                return;
            }
            sleep(CATCH_UP_STEP).await;
        }
    }

    /// The node as it is now.
    fn report(&self) -> v1::NodeReport {
        let view = self.status.view();
        let node = self.node.lock();
        let mut pools: Vec<v1::AppliedPool> = Vec::new();
        for snapshot in node.pools() {
            let id = &snapshot.pool_id;
            // Pools that are gone drain here, and are nobody else's business.
            let Some(version) = view.pools.get(id) else { continue };
            let digest = node.assembler().pool(id).map(|pool| *pool.selector.digest());
            let backends = snapshot.backends.iter().map(|backend| {
                let index = node.assembler().backend_index(id, &backend.id);
                let traffic = backend_traffic(&node, index);
                let signals = backend_signals(&node, index);
                let (tunnel, tunnel_detail) = tunnel(&node, id, &backend.id);
                v1::BackendTraffic {
                    backend_id: backend.id.clone(),
                    active_flows: traffic.active_flows,
                    new_flows: traffic.new_flows,
                    packets: traffic.packets,
                    bytes: traffic.bytes,
                    client_resets: signals.client_resets,
                    syn_retransmits: signals.syn_retransmits,
                    tunnel: tunnel.into(),
                    tunnel_detail,
                }
            });
            pools.push(v1::AppliedPool {
                pool_id: id.clone(),
                version: *version,
                digest: digest.map(|digest| digest.as_bytes().to_vec()).unwrap_or_default(),
                refused: view.refusals.get(id).map(ToString::to_string).unwrap_or_default(),
                backends: backends.collect(),
            });
        }
        for (id, refusal) in view.refusals.iter().filter(|(id, _)| !view.pools.contains_key(*id)) {
            pools.push(v1::AppliedPool {
                pool_id: id.clone(),
                refused: refusal.to_string(),
                ..v1::AppliedPool::default()
            });
        }
        v1::NodeReport {
            node_id: self.node_id.clone(),
            zone: self.zone.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            store_id: view.store_id,
            pools,
            reported_at_ns: unix_now_ns(),
        }
    }
}

/// The watch has found another controller: reports belong there, too.
fn moved() -> CallStatus {
    CallStatus::unavailable("the watch is connected to another controller")
}

/// What the probes through the tunnel say of a backend.
fn tunnel(node: &Node, pool: &str, backend: &str) -> (v1::Health, String) {
    match node.tunnel(pool, backend).filter(|standing| standing.probed) {
        None => (v1::Health::Unknown, String::new()),
        Some(standing) => {
            let health = match standing.verdict {
                Verdict::Up => v1::Health::Healthy,
                Verdict::Down => v1::Health::Unhealthy,
                Verdict::Unknown => v1::Health::Unknown,
            };
            (health, standing.to_string())
        }
    }
}
