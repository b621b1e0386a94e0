//! Which path is answered by whom.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::CONTENT_LENGTH;
use axum::http::{StatusCode, Uri};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};

use super::response::{Refusal, text};
use super::{AdminState, drain, flows, health, metrics, pools, token};

/// Paths and what they show: the index page, and the list in the answer to unknown paths.
const PATHS: &[(&str, &str)] = &[
    ("/healthz", "200 while every worker ticks"),
    ("/readyz", "200 while the node should get traffic; else one reason a line"),
    ("/metrics", "Prometheus text format"),
    ("/admin/pools", "all pools, JSON"),
    ("/admin/pools/{id}", "one pool: VIPs, backends, table statistics, JSON"),
    (
        "/admin/pools/{id}/drain/{backend}",
        "POST: no new flows for it from this node; DELETE: again",
    ),
    ("/admin/flows?vip=&backend=&limit=", "a sample of the tracked flows, JSON"),
];

/// Bytes of a request body that are let pass (and ignored).
const MAX_BODY: u64 = 4096;

/// All paths of the admin interface.
pub fn router(state: Arc<AdminState>) -> Router {
    Router::new()
        .route("/", get(index))
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(show_metrics))
        .route("/admin/pools", get(pools::list))
        .route("/admin/pools/{id}", get(pools::show))
        .route("/admin/pools/{id}/drain/{backend}", post(drain::drain).delete(drain::undo))
        .route("/admin/flows", get(flows::show))
        .fallback(unknown_path)
        .method_not_allowed_fallback(|| async { Refusal::MethodNotAllowed })
        .layer(middleware::from_fn(refuse_long_bodies))
        .layer(middleware::from_fn_with_state(Arc::clone(&state), token::ask_for_token))
        .with_state(state)
}

async fn index() -> Response {
    let mut body = "weir node, admin interface\n\n".to_owned();
    for (path, what) in PATHS {
        body.push_str(&format!("{path:<40}{what}\n"));
    }
    text(StatusCode::OK, "text/plain; charset=utf-8", body)
}

async fn show_metrics(State(state): State<Arc<AdminState>>) -> Response {
    text(StatusCode::OK, metrics::CONTENT_TYPE, metrics::render(&state))
}

async fn unknown_path(uri: Uri) -> Refusal {
    Refusal::NotFound {
        what: format!("there is no path \"{}\"", uri.path()),
        known: Some(("paths", PATHS.iter().map(|(path, _)| (*path).to_owned()).collect())),
    }
}

/// Nobody reads a body here, so a long one is refused before it is sent.
async fn refuse_long_bodies(request: Request, next: Next) -> Response {
    let length = request.headers().get(CONTENT_LENGTH).map(|value| {
        value.to_str().ok().and_then(|text| text.parse::<u64>().ok()).unwrap_or(u64::MAX)
    });
    if length.is_some_and(|length| length > MAX_BODY) {
        return Refusal::BodyTooLong.into_response();
    }
    next.run(request).await
}
