//! Between messages and rows: what callers give is checked here, field by field, and defaults are
//! filled in; what they see is made here. Nothing else knows both.

mod backends;
mod quic;
mod settings;
mod vips;

use registry::rows::BackendState;
use tonic::Status;

use crate::office::invalid;

pub(crate) use backends::{MAX_LABELS, address, label, port, probe_url, proto_backend, weight};
pub(crate) use quic::{proto_server_ids, server_ids};
pub(crate) use settings::{
    health_settings, new_settings, proto_probe, proto_settings, replaced_settings, updated_settings,
};
pub(crate) use vips::{proto_vip, vip_key, vip_row};

/// Bytes of an id.
const MAX_ID: usize = 255;

/// An id of a pool, backend, node or checker: 1 to 255 bytes that can be shown.
///
/// # Errors
/// INVALID_ARGUMENT, naming `field`.
pub(crate) fn id(field: &str, id: &str) -> Result<(), Status> {
    if id.is_empty() {
        return Err(invalid(field, "is missing"));
    }
    if id.len() > MAX_ID {
        return Err(invalid(field, format!("{} bytes, at most {MAX_ID}", id.len())));
    }
    let fits = |c: char| c.is_alphanumeric() || "-_.:@".contains(c);
    if !id.chars().all(fits) {
        return Err(invalid(field, "letters, digits and - _ . : @ only"));
    }
    Ok(())
}

/// A row's state, for health.
pub(crate) fn health_state(state: BackendState) -> health::lifecycle::State {
    use health::lifecycle::State;
    match state {
        BackendState::Pending => State::Pending,
        BackendState::Healthy => State::Healthy,
        BackendState::Draining => State::Draining,
        BackendState::Unhealthy => State::Unhealthy,
        BackendState::Evicted => State::Evicted,
    }
}

/// Health's state, for a row.
pub(crate) fn row_state(state: health::lifecycle::State) -> BackendState {
    use health::lifecycle::State;
    match state {
        State::Pending => BackendState::Pending,
        State::Healthy => BackendState::Healthy,
        State::Draining => BackendState::Draining,
        State::Unhealthy => BackendState::Unhealthy,
        State::Evicted => BackendState::Evicted,
    }
}

/// A row's state, for callers.
pub(crate) fn proto_state(state: BackendState) -> proto::v1::BackendState {
    use proto::v1::BackendState as Of;
    match state {
        BackendState::Pending => Of::Pending,
        BackendState::Healthy => Of::Healthy,
        BackendState::Draining => Of::Draining,
        BackendState::Unhealthy => Of::Unhealthy,
        BackendState::Evicted => Of::Evicted,
    }
}
