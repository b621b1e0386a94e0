//! `/healthz`, `/readyz` and `/metrics`, on loopback: few connections, each with an end.

use std::fmt::Write as _;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::metrics;
use crate::shared::{Link, Shared};

/// Connections at a time; others wait.
const MOST: usize = 32;
/// A request has to be sent within this.
const HEAD: Duration = Duration::from_secs(10);
/// A connection ends after this, whatever it does.
const LONGEST: Duration = Duration::from_secs(300);
/// The schedule was not looked at for so long: something is very wrong.
const STALLED: Duration = Duration::from_secs(10);

/// Serves until it is dropped, and closes its connections then.
pub(crate) async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let router = Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(all_metrics))
        .with_state(shared);
    let places = Arc::new(Semaphore::new(MOST));
    let mut connections = JoinSet::new();
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                if error.kind() != io::ErrorKind::ConnectionAborted {
                    tracing::warn!(%error, "http: accept failed");
                    sleep(Duration::from_millis(100)).await;
                }
                continue;
            }
        };
        let service = TowerToHyperService::new(router.clone());
        connections.spawn(async move {
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD)
                .max_buf_size(16 << 10)
                .serve_connection(TokioIo::new(stream), service);
            // A client that breaks off is no news, and one that stays for ever has to come anew.
            let _ended = timeout(LONGEST, connection).await;
            drop(place);
        });
        while connections.try_join_next().is_some() {}
    }
}

/// Whether the task that probes still runs.
async fn healthz(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    let silent = shared.now().saturating_sub(shared.lock().probed);
    match silent <= STALLED {
        true => (StatusCode::OK, "ok\n".to_owned()),
        false => {
            (StatusCode::SERVICE_UNAVAILABLE, format!("no probe was scheduled for {silent:?}\n"))
        }
    }
}

/// Whether the controller is heard, and hears.
async fn readyz(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    let now = shared.now();
    let state = shared.lock();
    let mut ready = true;
    let mut body = String::new();
    for (name, link) in [("assignments", &state.assignments), ("reports", &state.reports)] {
        ready &= link.peer.is_some();
        let _ = writeln!(body, "{name}: {}", described(link, now.saturating_sub(link.since)));
    }
    match state.version {
        Some(version) => {
            let (backends, unusable) = state.fleet.sizes();
            let [up, down, unknown] = state.fleet.verdicts(now);
            let _ = writeln!(
                body,
                "probing {backends} backends of version {version}: \
                 {up} up, {down} down, {unknown} unknown, {unusable} that cannot be probed here"
            );
        }
        None => {
            ready = false;
            body.push_str("no assignments yet\n");
        }
    }
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, body)
}

fn described(link: &Link, since: Duration) -> String {
    let seconds = since.as_secs();
    match &link.peer {
        Some(peer) => format!("{peer}, for {seconds} s"),
        None if link.problem.is_empty() => format!("not connected, for {seconds} s"),
        None => format!("not connected, for {seconds} s: {}", link.problem),
    }
}

async fn all_metrics(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    let format = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, format)], metrics::render(&shared))
}
