//! Backends.

use std::collections::BTreeMap;

use proto::v1::{
    Ack, Backend, DeregisterBackendReq, DrainBackendReq, GetBackendReq, ListBackendsReq,
    ListBackendsResp, RegisterBackendReq, RegisterBackendResp, UpdateBackendReq,
};
use registry::rows::{self, BackendState, Unknown};
use registry::{Key, Preconditions, Versioned};
use tonic::Status;

use super::pools::members;
use super::{ack, backend, capacity, pool, put, written};
use crate::clock::unix_ns;
use crate::desk::{Decide, Plan};
use crate::events::event;
use crate::office::{Office, invalid, not_found};
use crate::picture::Picture;
use crate::wire;

/// Backends, of all pools, that a node can have.
const MAX_BACKENDS: usize = 65_536;
/// A drain of more than a day is a mistyped unit.
const MAX_DRAIN: u32 = 86_400;

/// Adds a backend, as PENDING. The same registration again is OK.
pub(crate) async fn register_backend(
    office: &Office,
    request: RegisterBackendReq,
) -> Result<RegisterBackendResp, Status> {
    office.desk.change(registering(request)?).await?
}

/// What a registration comes to.
pub(crate) fn registering(
    request: RegisterBackendReq,
) -> Result<impl Decide<Result<RegisterBackendResp, Status>>, Status> {
    let wanted = wanted(request)?;
    Ok(move |picture: &Picture| {
        let found_pool = pool(picture, &wanted.pool_id)?;
        let id = wanted.id.clone();
        let key = Key::Backend(id.clone());
        let there =
            Preconditions::default().at(Key::Pool(wanted.pool_id.clone()), found_pool.version);
        own_server_ids(picture, &wanted)?;
        let expected = match picture.rows.backends.get(&id) {
            None => there.absent(key),
            // A new life: its flows have been reset, so nothing of the old one matters.
            Some(found) if found.row.state == BackendState::Evicted => there.at(key, found.version),
            Some(found) => {
                if let Some(field) = difference(&wanted, &found.row) {
                    return Err(Status::already_exists(format!(
                        "backend_id: \"{id}\" is registered with another {field}"
                    )));
                }
                if found.row.deregistered {
                    return Err(Status::failed_precondition(format!(
                        "backend_id: \"{id}\" is being deregistered; wait until it is EVICTED, \
                             or take its drain back"
                    )));
                }
                return Ok(Plan::Already(registered(picture, &id, found.version)));
            }
        };
        let size = found_pool.row.settings.table_size;
        let (count, most) = (members(picture, &wanted.pool_id), capacity(size));
        if count >= most {
            return Err(Status::failed_precondition(format!(
                "pool_id: pool \"{}\" is at capacity: {count} backends, at most {most} for a \
                     table of {size} slots",
                wanted.pool_id
            )));
        }
        if picture.rows.backends.len() >= MAX_BACKENDS {
            return Err(Status::failed_precondition(format!(
                "backend_id: {MAX_BACKENDS} backends are registered, the most that a node can have"
            )));
        }
        let pool_id = wanted.pool_id.clone();
        Ok(Plan::Write {
            writes: vec![put(wanted)],
            expected,
            answer: Box::new(move |picture, revision| {
                let answer = registered(picture, &id, revision)?;
                warn_of_small_table(picture, count + 1, size, &pool_id);
                Ok(answer)
            }),
        })
    })
}

/// Drains a backend, or evicts it at once; in the end its row goes.
pub(crate) async fn deregister_backend(
    office: &Office,
    request: DeregisterBackendReq,
) -> Result<Ack, Status> {
    office.desk.change(deregistering(request)?).await
}

/// What a deregistration comes to.
pub(crate) fn deregistering(request: DeregisterBackendReq) -> Result<impl Decide<Ack>, Status> {
    let DeregisterBackendReq { backend_id: id, immediately } = request;
    wire::id("backend_id", &id)?;
    Ok(move |picture: &Picture| {
        let found = backend(picture, &id)?;
        let mut row = found.row.clone();
        row.deregistered = true;
        match (immediately, row.state) {
            (_, BackendState::Evicted) => {}
            (true, _) => change_state(&mut row, BackendState::Evicted, None),
            (false, BackendState::Draining) => {}
            (false, _) => {
                let until = drain_until(picture, &row, 0);
                change_state(&mut row, BackendState::Draining, Some(until));
            }
        }
        Ok(rewritten(found, row))
    })
}

/// Drains a backend, or takes its drain back.
pub(crate) async fn drain_backend(
    office: &Office,
    request: DrainBackendReq,
) -> Result<Ack, Status> {
    office.desk.change(draining(request)?).await
}

/// What a drain, or its end, comes to.
pub(crate) fn draining(request: DrainBackendReq) -> Result<impl Decide<Ack>, Status> {
    let DrainBackendReq { backend_id: id, drain_seconds, undo } = request;
    wire::id("backend_id", &id)?;
    if drain_seconds > MAX_DRAIN {
        let what = format!("{drain_seconds} is above {MAX_DRAIN} (a day)");
        return Err(invalid("drain_seconds", what));
    }
    if undo && drain_seconds > 0 {
        return Err(invalid("drain_seconds", "means nothing when a drain is taken back"));
    }
    Ok(move |picture: &Picture| {
        let found = backend(picture, &id)?;
        let mut row = found.row.clone();
        match (undo, now(picture, &row)) {
            (_, BackendState::Evicted) => {
                return Err(Status::failed_precondition(format!(
                    "backend_id: \"{id}\" is EVICTED: register it again"
                )));
            }
            // The first window stands.
            (false, BackendState::Draining) => {}
            (false, _) => {
                let until = drain_until(picture, &row, drain_seconds);
                change_state(&mut row, BackendState::Draining, Some(until));
            }
            (true, BackendState::Draining) => {
                row.deregistered = false;
                change_state(&mut row, BackendState::Pending, None);
            }
            (true, _) => {
                return Err(Status::failed_precondition(format!(
                    "undo: backend \"{id}\" is not draining"
                )));
            }
        }
        Ok(rewritten(found, row))
    })
}

/// Changes what is given.
pub(crate) async fn update_backend(
    office: &Office,
    request: UpdateBackendReq,
) -> Result<Ack, Status> {
    office.desk.change(updating(request)?).await
}

/// What a change of a backend comes to.
pub(crate) fn updating(request: UpdateBackendReq) -> Result<impl Decide<Ack>, Status> {
    let UpdateBackendReq {
        backend_id,
        weight,
        ip,
        port,
        readiness_probe_url,
        labels,
        remove_labels,
        quic_server_ids,
    } = request;
    wire::id("backend_id", &backend_id)?;
    let weight = weight.map(|weight| wire::weight("weight", Some(weight))).transpose()?;
    let ip = ip.map(|ip| wire::address("ip", &ip)).transpose()?;
    let port = port.map(|port| wire::port("port", port)).transpose()?;
    if let Some(url) = &readiness_probe_url {
        wire::probe_url(url)?;
    }
    for (name, value) in &labels {
        wire::label(name, value)?;
    }
    let server_ids = quic_server_ids.map(|given| wire::server_ids(given.ids)).transpose()?;
    Ok(move |picture: &Picture| {
        let found = backend(picture, &backend_id)?;
        let mut row = found.row.clone();
        row.weight = weight.unwrap_or(row.weight);
        row.ip = ip.unwrap_or(row.ip);
        row.port = port.unwrap_or(row.port);
        if let Some(url) = readiness_probe_url {
            row.readiness_probe_url = url;
        }
        row.labels.retain(|name, _| !remove_labels.contains(name));
        row.labels.extend(labels);
        few_labels(&row.labels)?;
        row.quic_server_ids = server_ids.unwrap_or(row.quic_server_ids);
        own_server_ids(picture, &row)?;
        Ok(rewritten(found, row))
    })
}

pub(crate) async fn get_backend(
    office: &Office,
    request: GetBackendReq,
) -> Result<Backend, Status> {
    let GetBackendReq { backend_id: id } = request;
    wire::id("backend_id", &id)?;
    office
        .desk
        .see(move |picture| {
            let gone = || not_found("backend_id", format!("backend \"{id}\""));
            picture.backend(&id).ok_or_else(gone)
        })
        .await?
}

pub(crate) async fn list_backends(
    office: &Office,
    request: ListBackendsReq,
) -> Result<ListBackendsResp, Status> {
    let ListBackendsReq { pool_id } = request;
    office
        .desk
        .see(move |picture| {
            if !pool_id.is_empty() {
                pool(picture, &pool_id)?;
                return Ok(ListBackendsResp { backends: picture.backends(&pool_id) });
            }
            let all = picture.rows.pools.keys().flat_map(|pool| picture.backends(pool));
            Ok(ListBackendsResp { backends: all.collect() })
        })
        .await?
}

/// Says so once, when a pool outgrows its table's 100 slots a backend.
fn warn_of_small_table(picture: &Picture, members: usize, size: u32, pool: &str) {
    let before = maglev::undersized(members.saturating_sub(1), size);
    if let (None, Some(small)) = (before, maglev::undersized(members, size)) {
        picture.events.publish(event("table_small", pool, "", small.to_string()));
    }
}

/// The row that a registration asks for.
fn wanted(request: RegisterBackendReq) -> Result<rows::Backend, Status> {
    wire::id("pool_id", &request.pool_id)?;
    wire::id("backend_id", &request.backend_id)?;
    let ip = wire::address("ip", &request.ip)?;
    let port = wire::port("port", request.port)?;
    // Here 0 is not a weight but the default.
    let weight = wire::weight("weight", Some(request.weight).filter(|weight| *weight > 0))?;
    for (name, value) in &request.labels {
        wire::label(name, value)?;
    }
    wire::probe_url(&request.readiness_probe_url)?;
    let labels: BTreeMap<String, String> = request.labels.into_iter().collect();
    few_labels(&labels)?;
    let quic_server_ids = wire::server_ids(request.quic_server_ids)?;
    let now = unix_ns();
    Ok(rows::Backend {
        pool_id: request.pool_id,
        id: request.backend_id,
        ip,
        port,
        weight,
        labels,
        readiness_probe_url: request.readiness_probe_url,
        state: BackendState::Pending,
        ready: false,
        registered_at_ns: now,
        last_state_change_ns: now,
        drain_until_ns: None,
        deregistered: false,
        quic_server_ids,
        unknown: Unknown::default(),
    })
}

/// No other backend of the pool that may have flows has one of these server ids.
fn own_server_ids(picture: &Picture, row: &rows::Backend) -> Result<(), Status> {
    if row.quic_server_ids.is_empty() {
        return Ok(());
    }
    let others = picture.rows.backends.values().map(|found| &found.row).filter(|other| {
        other.pool_id == row.pool_id && other.id != row.id && other.state != BackendState::Evicted
    });
    for other in others {
        if other.quic_server_ids.iter().any(|id| row.quic_server_ids.contains(id)) {
            return Err(Status::already_exists(format!(
                "quic_server_ids: backend \"{}\" has one of them",
                other.id
            )));
        }
    }
    Ok(())
}

/// The first field in which two registrations differ.
fn difference(one: &rows::Backend, other: &rows::Backend) -> Option<&'static str> {
    [
        (one.pool_id != other.pool_id, "pool_id"),
        (one.ip != other.ip, "ip"),
        (one.port != other.port, "port"),
        (one.weight != other.weight, "weight"),
        (one.labels != other.labels, "labels"),
        (one.readiness_probe_url != other.readiness_probe_url, "readiness_probe_url"),
        (one.quic_server_ids != other.quic_server_ids, "quic_server_ids"),
    ]
    .into_iter()
    .find_map(|(differs, field)| differs.then_some(field))
}

fn registered(picture: &Picture, id: &str, revision: u64) -> Result<RegisterBackendResp, Status> {
    let gone = || not_found("backend_id", format!("backend \"{id}\""));
    let backend = picture.backend(id).ok_or_else(gone)?;
    Ok(RegisterBackendResp { backend: Some(backend), revision })
}

/// The row in place of the one that was found; nothing, if it is the same.
fn rewritten(found: &Versioned<rows::Backend>, row: rows::Backend) -> Plan<Ack> {
    if row == found.row {
        return Plan::Already(ack(found.version));
    }
    let expected = Preconditions::default().at(Key::Backend(row.id.clone()), found.version);
    written(vec![put(row)], expected)
}

/// The state as health has it, which may be ahead of the row.
fn now(picture: &Picture, row: &rows::Backend) -> BackendState {
    let health = picture.health.get(&row.pool_id);
    health.and_then(|health| health.state(&row.id)).map_or(row.state, wire::row_state)
}

fn change_state(row: &mut rows::Backend, state: BackendState, drain_until_ns: Option<u64>) {
    row.state = state;
    row.drain_until_ns = drain_until_ns;
    row.last_state_change_ns = unix_ns();
}

/// When a drain that begins now ends; `seconds` of 0: the pool's window.
fn drain_until(picture: &Picture, row: &rows::Backend, seconds: u32) -> u64 {
    let pool = picture.rows.pools.get(&row.pool_id);
    let window = match seconds {
        0 => pool.map_or(0, |pool| pool.row.settings.drain_seconds),
        given => given,
    };
    unix_ns().saturating_add(u64::from(window).saturating_mul(1_000_000_000))
}

fn few_labels(labels: &BTreeMap<String, String>) -> Result<(), Status> {
    match labels.len() {
        0..=wire::MAX_LABELS => Ok(()),
        many => Err(invalid("labels", format!("{many}, at most {}", wire::MAX_LABELS))),
    }
}
