//! Pools.

use std::sync::Arc;

use proto::v1::{
    Ack, CreatePoolReq, DeletePoolReq, GetPoolReq, ListPoolsResp, Pool, UpdatePoolReq,
};
use registry::rows::{self, BackendState, HashSecret, Unknown};
use registry::{Key, MAX_WRITES, Preconditions, Write};
use tonic::Status;

use super::{capacity, pool, put, written};
use crate::clock::unix_ns;
use crate::desk::{Decide, Plan};
use crate::office::{Office, not_found};
use crate::picture::Picture;
use crate::snapshots::Board;
use crate::wire;

/// Adds a pool. The same again is OK; a secret that is not given is drawn, and matches any.
pub(crate) async fn create_pool(office: &Office, request: CreatePoolReq) -> Result<Pool, Status> {
    let CreatePoolReq { pool_id: id, settings: given } = request;
    wire::id("pool_id", &id)?;
    let given = given.unwrap_or_default();
    let secret = draw_secret()?;
    let board = Arc::clone(&office.board);
    office
        .desk
        .change(move |picture| {
            if let Some(found) = picture.rows.pools.get(&id) {
                let have = &found.row.settings;
                let wanted = wire::replaced_settings(have, &given, &picture.timings)?;
                // What a newer release keeps in it is no difference.
                let wanted = rows::PoolSettings {
                    unknown: have.unknown.clone(),
                    probe: rows::ProbeSettings {
                        unknown: have.probe.unknown.clone(),
                        ..wanted.probe
                    },
                    ..wanted
                };
                if wanted != *have {
                    return Err(Status::already_exists(format!(
                        "pool_id: pool \"{id}\" exists with other settings"
                    )));
                }
                return shown(picture, &board, &id).map(Plan::Already);
            }
            let settings = wire::new_settings(&given, secret, &picture.timings)?;
            let unknown = Unknown::default();
            let row = rows::Pool { id: id.clone(), settings, created_at_ns: unix_ns(), unknown };
            let expected = Preconditions::default().absent(Key::Pool(id.clone()));
            Ok(writing_pool(row, expected, board))
        })
        .await?
}

/// Changes the settings that are given; all of them when they replace.
pub(crate) async fn update_pool(office: &Office, request: UpdatePoolReq) -> Result<Pool, Status> {
    office.desk.change(updating_pool(Arc::clone(&office.board), request)?).await?
}

/// What a change of settings comes to.
pub(crate) fn updating_pool(
    board: Arc<Board>,
    request: UpdatePoolReq,
) -> Result<impl Decide<Result<Pool, Status>>, Status> {
    let UpdatePoolReq { pool_id: id, settings: given, replace } = request;
    wire::id("pool_id", &id)?;
    let given = given.unwrap_or_default();
    Ok(move |picture: &Picture| {
        let found = pool(picture, &id)?;
        let have = &found.row.settings;
        let timings = &picture.timings;
        let mut settings = match replace {
            true => wire::replaced_settings(have, &given, timings)?,
            false => wire::updated_settings(have, &given, timings)?,
        };
        settings.unknown = have.unknown.clone();
        settings.probe.unknown = have.probe.unknown.clone();
        let (count, most) = (members(picture, &id), capacity(settings.table_size));
        if settings.table_size != have.table_size && count > most {
            let size = settings.table_size;
            return Err(Status::failed_precondition(format!(
                "settings.table_size: {size} slots are for at most {most} backends; the pool \
                     has {count}"
            )));
        }
        if settings == *have {
            return shown(picture, &board, &id).map(Plan::Already);
        }
        let expected = Preconditions::default().at(Key::Pool(id.clone()), found.version);
        Ok(writing_pool(rows::Pool { settings, ..found.row.clone() }, expected, board))
    })
}

pub(crate) async fn get_pool(office: &Office, request: GetPoolReq) -> Result<Pool, Status> {
    let board = Arc::clone(&office.board);
    wire::id("pool_id", &request.pool_id)?;
    office.desk.see(move |picture| shown(picture, &board, &request.pool_id)).await??
}

pub(crate) async fn list_pools(office: &Office) -> Result<ListPoolsResp, Status> {
    let board = Arc::clone(&office.board);
    office
        .desk
        .see(move |picture| {
            let ids = picture.rows.pools.keys();
            let pools = ids.filter_map(|id| picture.pool(id, board.version(id))).collect();
            ListPoolsResp { pools }
        })
        .await
}

/// Removes a pool that nothing is left of but backends that were deregistered and are EVICTED.
pub(crate) async fn delete_pool(office: &Office, request: DeletePoolReq) -> Result<Ack, Status> {
    let DeletePoolReq { pool_id: id } = request;
    wire::id("pool_id", &id)?;
    office
        .desk
        .change(move |picture| {
            let found = pool(picture, &id)?;
            let vips = picture.rows.vips.values().filter(|vip| vip.row.pool_id == id).count();
            if vips > 0 {
                return Err(in_use(&id, format!("{vips} VIP(s) are bound to it")));
            }
            let key = Key::Pool(id.clone());
            let mut expected = Preconditions::default().at(key.clone(), found.version);
            let mut writes = vec![Write::Remove(key)];
            for found in picture.rows.backends.values().filter(|found| found.row.pool_id == id) {
                let row = &found.row;
                if !row.deregistered || row.state != BackendState::Evicted {
                    return Err(in_use(&id, format!("backend \"{}\" is in it", row.id)));
                }
                let key = Key::Backend(row.id.clone());
                expected = expected.at(key.clone(), found.version);
                writes.push(Write::Remove(key));
            }
            if writes.len() > MAX_WRITES {
                let what = format!("{} evicted backends are still shown", writes.len() - 1);
                return Err(in_use(&id, what));
            }
            Ok(written(writes, expected))
        })
        .await
}

/// Backends of a pool that may have flows.
pub(super) fn members(picture: &Picture, pool: &str) -> usize {
    let rows = picture.rows.backends.values().map(|found| &found.row);
    rows.filter(|row| row.pool_id == pool && row.state != BackendState::Evicted).count()
}

fn writing_pool(
    row: rows::Pool,
    expected: Preconditions,
    board: Arc<Board>,
) -> Plan<Result<Pool, Status>> {
    let id = row.id.clone();
    let answer = move |picture: &mut Picture, _| shown(picture, &board, &id).and_then(|pool| pool);
    Plan::Write { writes: vec![put(row)], expected, answer: Box::new(answer) }
}

fn shown(picture: &Picture, board: &Board, id: &str) -> Result<Result<Pool, Status>, Status> {
    let gone = || not_found("pool_id", format!("pool \"{id}\""));
    Ok(picture.pool(id, board.version(id)).ok_or_else(gone))
}

fn in_use(id: &str, why: String) -> Status {
    Status::failed_precondition(format!("pool_id: pool \"{id}\" is in use: {why}"))
}

/// 128 bits from the operating system.
fn draw_secret() -> Result<HashSecret, Status> {
    let mut secret = [0; 16];
    getrandom::fill(&mut secret)
        .map_err(|error| Status::internal(format!("no random numbers for a secret: {error}")))?;
    Ok(HashSecret(secret))
}
