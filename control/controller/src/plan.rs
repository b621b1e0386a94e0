//! What a change would do, without doing it.
//!
//! The change is decided by the very code that decides the real call, up to the rows it would
//! write. Those rows are carried into a copy of the pool's health, and the two pools, as it is and
//! as it would be, are compared ([`effect`]) on a thread of their own, since that builds two tables.
//!
//! A change that the real call would refuse as a request (INVALID_ARGUMENT, NOT_FOUND) is refused
//! here with the same status. One that is refused for what the pool is (FAILED_PRECONDITION,
//! ALREADY_EXISTS) is a plan whose warning says so: to learn that is what a plan is for.

mod effect;
mod tables;
mod turns;
mod warnings;

use std::collections::BTreeMap;
use std::sync::Arc;

use health::lifecycle::State;
use health::{Id, Millis, Row as HealthRow};
use proto::v1::plan_req::Change;
use proto::v1::{PlanReq, PlanResp};
use registry::rows::{Backend, BackendState};
use registry::{Key, Row, Write};
use tonic::{Code, Status};

use crate::calls;
use crate::clock::unix_ns;
use crate::desk::{Decide, Plan};
use crate::office::{Office, invalid, not_found};
use crate::picture::Picture;
use crate::snapshots::Board;
use crate::wire;
#[cfg(test)]
pub(crate) use effect::tests;
use effect::{Side, What, effect};
pub(crate) use turns::Turns;

/// What the blocking part works on.
struct Prepared {
    pool: String,
    before: Side,
    after: Side,
    what: What,
    flows: BTreeMap<Id, u64>,
    /// Why it cannot be done.
    refused: Option<String>,
    now: Millis,
}

/// `Plan`: what a change would do.
pub(crate) async fn plan(office: &Office, request: PlanReq) -> Result<PlanResp, Status> {
    let change = request.change.ok_or_else(|| invalid("change", "is missing"))?;
    let turn = office.plans.take().await?;
    let board = Arc::clone(&office.board);
    let prepared = office.desk.see(move |picture| prepare(picture, board, change)).await??;
    let compared = tokio::task::spawn_blocking(move || {
        let Prepared { pool, mut before, mut after, what, flows, refused, now } = prepared;
        before.health.tick(now);
        after.health.tick(now);
        let mut plan = effect(&pool, &before, &after, &what, &flows);
        if let Some(why) = refused {
            plan.warnings = vec![format!("cannot be applied: {why}")];
        }
        drop(turn);
        plan
    });
    compared.await.map_err(|_| Status::internal("the plan could not be made"))
}

/// Everything that has to be read at the desk.
fn prepare(picture: &Picture, board: Arc<Board>, change: Change) -> Result<Prepared, Status> {
    let pool = pool_of(picture, &change)?;
    let (writes, refused) = match decide(picture, board, change) {
        Ok(writes) => (writes, None),
        Err(status) if matches!(status.code(), Code::FailedPrecondition | Code::AlreadyExists) => {
            (Vec::new(), Some(status.message().to_owned()))
        }
        Err(status) => return Err(status),
    };
    let before = side(picture, &pool)?;
    let mut after = before.clone();
    let what = carry(picture, &mut after, &writes);
    let rows = picture.rows.backends.values().filter(|found| found.row.pool_id == pool);
    let flows = rows
        .map(|found| (Id::from(found.row.id.as_str()), picture.fleet.active_flows(&found.row.id)))
        .collect();
    Ok(Prepared { pool, before, after, what, flows, refused, now: picture.now })
}

/// What the real call would write.
fn decide(picture: &Picture, board: Arc<Board>, change: Change) -> Result<Vec<Write>, Status> {
    match change {
        Change::Register(request) => writes(picture, calls::registering(request)?),
        Change::Deregister(request) => writes(picture, calls::deregistering(request)?),
        Change::Drain(request) => writes(picture, calls::draining(request)?),
        Change::UpdateBackend(request) => writes(picture, calls::updating(request)?),
        Change::UpdatePool(request) => writes(picture, calls::updating_pool(board, request)?),
    }
}

fn writes<T>(picture: &Picture, decide: impl Decide<T>) -> Result<Vec<Write>, Status> {
    Ok(match decide(picture)? {
        Plan::Already(_) => Vec::new(),
        Plan::Write { writes, .. } => writes,
    })
}

/// The pool that the change is about.
fn pool_of(picture: &Picture, change: &Change) -> Result<String, Status> {
    let of_backend = |id: &str| {
        let found = picture.rows.backends.get(id);
        found
            .map(|found| found.row.pool_id.clone())
            .ok_or_else(|| not_found("backend_id", format!("backend \"{id}\"")))
    };
    match change {
        Change::Register(request) => Ok(request.pool_id.clone()),
        Change::Deregister(request) => of_backend(&request.backend_id),
        Change::Drain(request) => of_backend(&request.backend_id),
        Change::UpdateBackend(request) => of_backend(&request.backend_id),
        Change::UpdatePool(request) => Ok(request.pool_id.clone()),
    }
}

/// The pool as it is, but for slow starts: those are over.
fn side(picture: &Picture, pool: &str) -> Result<Side, Status> {
    let missing = || not_found("pool_id", format!("pool \"{pool}\""));
    let settings = picture.rows.pools.get(pool).ok_or_else(missing)?.row.settings.clone();
    let mut side = Side { settings, health: picture.health.get(pool).ok_or_else(missing)?.clone() };
    configure(picture, &mut side);
    Ok(side)
}

fn configure(picture: &Picture, side: &mut Side) {
    let mut settings = wire::health_settings(&side.settings, &picture.timings);
    settings.slow_start.duration_ms = 0;
    // What cannot be is refused before it becomes a row.
    let _valid = side.health.configure(settings);
}

/// Carries what would be written into the copy, and says what it was.
fn carry(picture: &Picture, after: &mut Side, writes: &[Write]) -> What {
    let mut what = What::Settings;
    for write in writes {
        match write {
            Write::Put(Row::Pool(row)) => {
                after.settings = row.settings.clone();
                configure(picture, after);
            }
            Write::Put(Row::Backend(row)) => what = carry_backend(picture, after, row),
            Write::Remove(Key::Backend(id)) => {
                let _evicted = after.health.deregister(id, picture.now);
                let _gone = after.health.forget(id);
                what = What::Deregister { backend: id.clone(), drain_seconds: None };
            }
            Write::Put(Row::Vip(_)) | Write::Remove(_) => {}
        }
    }
    what
}

fn carry_backend(picture: &Picture, after: &mut Side, row: &Backend) -> What {
    let (now, id, backend) = (picture.now, row.id.as_str(), row.id.clone());
    let before = picture.rows.backends.get(id).map(|found| &found.row);
    let seconds = row.drain_until_ns.unwrap_or(0).saturating_sub(unix_ns()).div_ceil(1_000_000_000);
    let drain_seconds = u32::try_from(seconds).unwrap_or(u32::MAX);
    use BackendState::{Draining, Evicted, Pending};
    // The copy refuses what its own rules refuse; then it stays as it is, as the real one would.
    let what = match (before.map(|row| row.state), row.state) {
        (None | Some(Evicted), Pending) => {
            let admitted = HealthRow {
                weight: u32::from(row.weight),
                state: State::Healthy,
                ready: true,
                drain_left_ms: 0,
            };
            after.health.restore(id, admitted, now);
            What::Register { backend }
        }
        (Some(Draining), Pending) => {
            let _undrained = after.health.undrain(id, now);
            What::Undrain { backend }
        }
        (_, Draining) => {
            let _drained = after.health.drain(id, Some(seconds.saturating_mul(1_000)), now);
            match row.deregistered {
                true => What::Deregister { backend, drain_seconds: Some(drain_seconds) },
                false => What::Drain { backend, drain_seconds },
            }
        }
        (_, Evicted) => {
            let _evicted = after.health.deregister(id, now);
            What::Deregister { backend, drain_seconds: None }
        }
        _ => What::Update { backend, address: before.is_some_and(|before| before.ip != row.ip) },
    };
    // It is there: registered, or restored.
    let _known = after.health.set_weight(id, u32::from(row.weight));
    what
}
