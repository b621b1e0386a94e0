//! `POST` and `DELETE` of `/admin/pools/{id}/drain/{backend}`: the operator's escape hatch.
//!
//! See [`crate::overrides`]. Both are idempotent for `POST`, and in force when they are answered.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use serde_json::json;

use super::AdminState;
use super::response::{Refusal, json};
use crate::overrides::{self, OverrideError};

pub(super) async fn drain(
    State(state): State<Arc<AdminState>>,
    Path((pool, backend)): Path<(String, String)>,
) -> Result<Response, Refusal> {
    set(state, pool, backend, true).await
}

pub(super) async fn undo(
    State(state): State<Arc<AdminState>>,
    Path((pool, backend)): Path<(String, String)>,
) -> Result<Response, Refusal> {
    set(state, pool, backend, false).await
}

async fn set(
    state: Arc<AdminState>,
    pool: String,
    backend: String,
    drained: bool,
) -> Result<Response, Refusal> {
    // A table may have to be built: not on the thread that steps the node.
    let built = tokio::task::spawn_blocking(move || {
        let result = overrides::set_drained(&state.node, &pool, &backend, drained);
        let generation = state.lock_node().generation();
        result.map(|()| json!({ "pool": pool, "backend": backend, "drained": drained, "generation": generation }))
    });
    match built.await {
        Ok(Ok(answer)) => Ok(json(answer)),
        Ok(Err(error)) => Err(refusal(error)),
        Err(error) => Err(Refusal::Failed(error.to_string())),
    }
}

fn refusal(error: OverrideError) -> Refusal {
    let what = error.to_string();
    match error {
        OverrideError::NoPool { known, .. } => {
            Refusal::NotFound { what, known: Some(("pools", known)) }
        }
        OverrideError::NoBackend { known, .. } => {
            Refusal::NotFound { what, known: Some(("backends", known)) }
        }
        OverrideError::NotDrained { .. } => Refusal::NotFound { what, known: None },
        OverrideError::TooMany | OverrideError::Assemble(_) | OverrideError::Busy => {
            Refusal::Failed(what)
        }
    }
}
