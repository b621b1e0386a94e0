//! Backends: fields as callers give them, rows as callers see them.

use std::net::IpAddr;

use health::Effective;
use proto::v1::Backend;
use registry::rows;
use tonic::Status;

use super::{proto_state, row_state};
use crate::office::invalid;

/// Labels of a backend.
pub(crate) const MAX_LABELS: usize = 64;
/// Bytes of a label's name and of its value.
const MAX_LABEL: usize = 256;
/// Bytes of a probe's URL.
const MAX_URL: usize = 2048;
/// When none is given.
const DEFAULT_WEIGHT: u16 = 100;

/// # Errors
/// INVALID_ARGUMENT for what is no address of one machine.
pub(crate) fn address(field: &str, text: &str) -> Result<IpAddr, Status> {
    if text.is_empty() {
        return Err(invalid(field, "is missing"));
    }
    let address: IpAddr =
        text.parse().map_err(|_| invalid(field, format!("\"{text}\" is no IP address")))?;
    match super::vips::not_unicast(address) {
        Some(what) => Err(invalid(field, format!("{address} {what}"))),
        None => Ok(address),
    }
}

/// # Errors
/// INVALID_ARGUMENT for 0 and above 65535.
pub(crate) fn port(field: &str, port: u32) -> Result<u16, Status> {
    match u16::try_from(port) {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(invalid(field, format!("{port} is not from 1 to 65535"))),
    }
}

/// # Errors
/// INVALID_ARGUMENT above 65535.
pub(crate) fn weight(field: &str, weight: Option<u32>) -> Result<u16, Status> {
    let Some(weight) = weight else { return Ok(DEFAULT_WEIGHT) };
    u16::try_from(weight).map_err(|_| invalid(field, format!("{weight} is above 65535")))
}

/// # Errors
/// INVALID_ARGUMENT for a name without a byte, or more than 256 bytes.
pub(crate) fn label(name: &str, value: &str) -> Result<(), Status> {
    if name.is_empty() {
        return Err(invalid("labels", "a label without a name"));
    }
    if name.len() > MAX_LABEL || value.len() > MAX_LABEL {
        return Err(invalid("labels", format!("\"{name}\": at most {MAX_LABEL} bytes")));
    }
    Ok(())
}

/// # Errors
/// INVALID_ARGUMENT for what is neither empty nor an http or https URL.
pub(crate) fn probe_url(url: &str) -> Result<(), Status> {
    const FIELD: &str = "readiness_probe_url";
    if url.is_empty() {
        return Ok(());
    }
    if url.len() > MAX_URL {
        return Err(invalid(FIELD, format!("{} bytes, at most {MAX_URL}", url.len())));
    }
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    let host = rest.and_then(|rest| rest.split(['/', '?']).next());
    let plain = url.chars().all(|c| c.is_ascii_graphic());
    match host {
        Some(host) if !host.is_empty() && !host.contains('@') && plain => Ok(()),
        Some(host) if host.contains('@') => Err(invalid(FIELD, "no user or password in it")),
        _ => Err(invalid(FIELD, "not of the form http://host/path or https://host/path")),
    }
}

/// A backend as callers see it.
pub(crate) fn proto_backend(row: &rows::Backend, view: Option<&Effective>, flows: u64) -> Backend {
    // The row, unless health is ahead of it.
    let state = view.map_or(row.state, |view| row_state(view.state));
    let draining = state == rows::BackendState::Draining;
    Backend {
        pool_id: row.pool_id.clone(),
        backend_id: row.id.clone(),
        ip: row.ip.to_string(),
        port: u32::from(row.port),
        weight: u32::from(row.weight),
        labels: row.labels.clone().into_iter().collect(),
        readiness_probe_url: row.readiness_probe_url.clone(),
        state: proto_state(state).into(),
        eligible: view.is_some_and(|view| view.eligible && view.weight > 0),
        reason: view.map(|view| view.reason.clone()).unwrap_or_default(),
        registered_at_ns: row.registered_at_ns,
        last_state_change_ns: row.last_state_change_ns,
        drain_until_ns: row.drain_until_ns.filter(|_| draining).unwrap_or(0),
        active_flows: flows,
        deregistered: row.deregistered,
        quic_server_ids: super::proto_server_ids(row),
    }
}
