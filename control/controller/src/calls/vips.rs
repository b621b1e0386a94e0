//! VIPs and the pools that serve them.

use proto::v1::{Ack, BindVipReq, BoundVip, ListViPsReq, ListViPsResp, UnbindVipReq};
use registry::{Key, Preconditions, VipKey, Write};
use tonic::Status;

use super::{ack, pool, put, written};
use crate::desk::Plan;
use crate::office::{Office, invalid, not_found};
use crate::picture::Picture;
use crate::wire;

/// VIPs that a node can have.
const MAX_VIPS: usize = 65_536;

/// Binds a VIP, or moves it here from the pool that is named. The same again is OK; other idle
/// times replace those there are.
pub(crate) async fn bind_vip(office: &Office, request: BindVipReq) -> Result<Ack, Status> {
    let BindVipReq { pool_id, vip, from_pool } = request;
    wire::id("pool_id", &pool_id)?;
    if let Some(from_pool) = &from_pool {
        wire::id("from_pool", from_pool)?;
    }
    let vip = vip.ok_or_else(|| invalid("vip", "is missing"))?;
    let mut row = wire::vip_row(&pool_id, &vip)?;
    office
        .desk
        .change(move |picture| {
            let found_pool = pool(picture, &pool_id)?;
            let key = row.key();
            let there = Preconditions::default().at(Key::Pool(pool_id.clone()), found_pool.version);
            if let Some(found) = picture.rows.vips.get(&key) {
                let bound = &found.row.pool_id;
                if *bound != pool_id && from_pool.as_ref() != Some(bound) {
                    let what = format!("vip: {key} is bound to pool \"{bound}\"");
                    return Err(match &from_pool {
                        None => Status::already_exists(what),
                        Some(from) => not_in(from, what),
                    });
                }
                row.unknown = found.row.unknown.clone();
                row.idle.unknown = found.row.idle.unknown.clone();
                if row == found.row {
                    return Ok(Plan::Already(ack(found.version)));
                }
                let expected = there.at(Key::Vip(key), found.version);
                return Ok(written(vec![put(row)], expected));
            }
            if let Some(from) = &from_pool {
                return Err(not_in(from, format!("vip: {key} is bound to no pool")));
            }
            if let Some((other, bound)) = overlapping(picture, &key) {
                return Err(Status::already_exists(format!(
                    "vip: {key} overlaps {other} of pool \"{bound}\"; neither is the more specific"
                )));
            }
            if picture.rows.vips.len() >= MAX_VIPS {
                let what = format!("vip: {MAX_VIPS} VIPs are bound, the most that a node can have");
                return Err(Status::failed_precondition(what));
            }
            Ok(written(vec![put(row)], there.absent(Key::Vip(key))))
        })
        .await
}

/// A VIP is not where its caller takes it from.
fn not_in(from: &str, what: String) -> Status {
    Status::failed_precondition(format!("{what}, expected from_pool \"{from}\""))
}

pub(crate) async fn unbind_vip(office: &Office, request: UnbindVipReq) -> Result<Ack, Status> {
    let vip = request.vip.ok_or_else(|| invalid("vip", "is missing"))?;
    let key = wire::vip_key(&vip)?;
    office
        .desk
        .change(move |picture| {
            let Some(found) = picture.rows.vips.get(&key) else {
                return Err(not_found("vip", format!("VIP {key} is bound")));
            };
            let expected = Preconditions::default().at(Key::Vip(key), found.version);
            Ok(written(vec![Write::Remove(Key::Vip(key))], expected))
        })
        .await
}

pub(crate) async fn list_vips(
    office: &Office,
    request: ListViPsReq,
) -> Result<ListViPsResp, Status> {
    let ListViPsReq { pool_id } = request;
    office
        .desk
        .see(move |picture| {
            if !pool_id.is_empty() {
                pool(picture, &pool_id)?;
            }
            let rows = picture.rows.vips.values().map(|found| &found.row);
            let wanted = rows.filter(|row| pool_id.is_empty() || row.pool_id == pool_id);
            let bound = |row: &registry::rows::VipBinding| BoundVip {
                pool_id: row.pool_id.clone(),
                vip: Some(wire::proto_vip(row)),
            };
            Ok(ListViPsResp { vips: wanted.map(bound).collect() })
        })
        .await?
}

/// A VIP that matches some of the packets of `key` with the same rank. The longest prefix wins,
/// then the exact port over a range over any, then the exact protocol over any; so two tie only
/// within one prefix and protocol, as ranges that intersect.
fn overlapping<'a>(picture: &'a Picture, key: &VipKey) -> Option<(VipKey, &'a str)> {
    let is_range = |ports: (u16, u16)| ports.0 != ports.1;
    if !is_range(key.ports) {
        return None;
    }
    picture.rows.vips.iter().find_map(|(other, found)| {
        let tie = other.address == key.address
            && other.protocol == key.protocol
            && is_range(other.ports)
            && other.ports.0 <= key.ports.1
            && key.ports.0 <= other.ports.1;
        tie.then_some((*other, found.row.pool_id.as_str()))
    })
}
