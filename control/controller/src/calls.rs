//! What operators ask for: decided against the picture, written, answered.
//!
//! One file a noun. Each change is a function from the picture to a [`Plan`](crate::desk::Plan):
//! refused with a status that names the field, true already, or writes with what they expect.

mod backends;
mod pools;
mod vips;

pub(crate) use backends::{
    deregister_backend, deregistering, drain_backend, draining, get_backend, list_backends,
    register_backend, registering, update_backend, updating,
};
pub(crate) use pools::{
    create_pool, delete_pool, get_pool, list_pools, update_pool, updating_pool,
};
pub(crate) use vips::{bind_vip, list_vips, unbind_vip};

use proto::v1::Ack;
use registry::{Preconditions, Row, Versioned, Write};
use tonic::Status;

use crate::desk::Plan;
use crate::office::not_found;
use crate::picture::Picture;

/// Most backends that a pool of this table size can have: SPEC section 3, M / 50.
pub(crate) fn capacity(table_size: u32) -> usize {
    usize::try_from(table_size / 50).unwrap_or(usize::MAX).max(1)
}

fn ack(revision: u64) -> Ack {
    Ack { revision }
}

/// A write that is answered with its revision alone.
fn written(writes: Vec<Write>, expected: Preconditions) -> Plan<Ack> {
    Plan::Write { writes, expected, answer: Box::new(|_, revision| ack(revision)) }
}

fn put(row: impl Into<RowOf>) -> Write {
    Write::Put(row.into().0)
}

/// So that [`put`] takes any kind of row.
struct RowOf(Row);

impl From<registry::rows::Pool> for RowOf {
    fn from(row: registry::rows::Pool) -> Self {
        Self(Row::Pool(row))
    }
}

impl From<registry::rows::Backend> for RowOf {
    fn from(row: registry::rows::Backend) -> Self {
        Self(Row::Backend(row))
    }
}

impl From<registry::rows::VipBinding> for RowOf {
    fn from(row: registry::rows::VipBinding) -> Self {
        Self(Row::Vip(row))
    }
}

fn pool<'a>(picture: &'a Picture, id: &str) -> Result<&'a Versioned<registry::rows::Pool>, Status> {
    picture.rows.pools.get(id).ok_or_else(|| not_found("pool_id", format!("pool \"{id}\"")))
}

fn backend<'a>(
    picture: &'a Picture,
    id: &str,
) -> Result<&'a Versioned<registry::rows::Backend>, Status> {
    let found = picture.rows.backends.get(id);
    found.ok_or_else(|| not_found("backend_id", format!("backend \"{id}\"")))
}
