//! The HTTP listener: is it alive, does it lead, and what it counts.
//!
//! `/healthz` the process runs; `/readyz` this controller leads and serves (a follower is 503 and
//! says who leads); `/metrics` the Prometheus text format, `http/metrics.rs`; `/v1/` the calls of
//! the gRPC service as JSON, by the `gateway`.

mod metrics;

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::sync::watch;

use metrics::Glance;
pub(crate) use metrics::Metrics;

use crate::office::Standing;
use crate::service::Service;

#[derive(Clone)]
struct Shown {
    standing: watch::Receiver<Standing>,
    metrics: Arc<Metrics>,
    glance: Arc<Glance>,
}

/// All paths of the listener.
pub(crate) fn router(
    service: Service,
    calls: gateway::Settings,
    standing: watch::Receiver<Standing>,
    metrics: Arc<Metrics>,
) -> Router {
    let own = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(exposition))
        .with_state(Shown { standing, metrics, glance: Arc::default() });
    own.merge(gateway::router(Arc::new(service), calls))
}

async fn readyz(State(shown): State<Shown>) -> impl IntoResponse {
    let standing = shown.standing.borrow().clone();
    match standing {
        Standing::Leading(office) => (StatusCode::OK, format!("leads, term {}\n", office.epoch)),
        Standing::Following { leader, why } => {
            let leader = leader.unwrap_or_else(|| "not known".to_owned());
            (StatusCode::SERVICE_UNAVAILABLE, format!("{why}; leader: {leader}\n"))
        }
    }
}

async fn exposition(State(shown): State<Shown>) -> impl IntoResponse {
    let standing = shown.standing.borrow().clone();
    let text = metrics::render(&shown.metrics, standing, &shown.glance, Instant::now()).await;
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text)
}
