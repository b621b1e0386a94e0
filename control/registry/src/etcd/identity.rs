//! Which store this is, in etcd.
//!
//! The id is drawn once and kept under a key, with the id of the cluster it was drawn in. etcd
//! data restored from a backup into a new cluster brings the key with it, but not the cluster's
//! id; then another id is drawn. A backup restored with members and token as before looks the
//! same: a running controller notices by the revision going back, a new one cannot, hence
//! `Registry::renew_store_id`.

use etcd_client::{Compare, CompareOp, Txn, TxnOp};
use serde::{Deserialize, Serialize};

use super::Keys;
use super::calls::{Calls, Trouble};
use crate::StoreId;
use crate::encoding::FORMAT;
use crate::error::Error;

/// The store that a handle works on.
#[derive(Clone)]
pub(super) struct Identity {
    pub(super) store_id: StoreId,
    pub(super) cluster_id: u64,
    /// The value under the key, which each transaction compares.
    pub(super) stored: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    format: u32,
    store_id: StoreId,
    cluster_id: u64,
}

/// Reads the store's identity; draws it where there is none, or one of another cluster, or still
/// that of `outlived`, a store which is known to have been restored from a backup since.
pub(super) async fn find_or_draw(
    calls: &Calls,
    keys: &Keys,
    outlived: Option<StoreId>,
) -> Result<Identity, Error> {
    calls
        .until_done("connect", calls.deadline(), |mut link| async move {
            let found = link.kv.get(keys.store.as_str(), None).await?;
            link.check(found.header(), None)?;
            let cluster_id = found.header().map_or(0, etcd_client::ResponseHeader::cluster_id);
            let pair = found.kvs().first();
            if let Some(pair) = pair {
                let known = Identity::read(pair.value())?;
                if known.cluster_id == cluster_id && outlived != Some(known.store_id) {
                    return Ok(known);
                }
                tracing::warn!(old = %known.store_id, "registry restored from a backup");
            }
            let drawn = Identity::draw(cluster_id)?;
            let before = pair.map_or(0, etcd_client::KeyValue::mod_revision);
            let same = Compare::mod_revision(keys.store.as_str(), CompareOp::Equal, before);
            let swap = Txn::new().when([same]).and_then([drawn.put(keys)]);
            match link.kv.txn(swap).await?.succeeded() {
                true => Ok(drawn),
                false => Err(Trouble::Again("another controller is naming the store".into())),
            }
        })
        .await
}

impl Identity {
    fn draw(cluster_id: u64) -> Result<Self, Error> {
        let store_id = StoreId::draw();
        let stored = serde_json::to_vec(&Stored { format: FORMAT, store_id, cluster_id })
            .map_err(|error| Error::storage("store id", error))?;
        Ok(Self { store_id, cluster_id, stored })
    }

    pub(super) fn renewed(&self) -> Result<Self, Error> {
        Self::draw(self.cluster_id)
    }

    pub(super) fn put(&self, keys: &Keys) -> TxnOp {
        TxnOp::put(keys.store.as_str(), self.stored.as_slice(), None)
    }

    fn read(value: &[u8]) -> Result<Self, Error> {
        let stored: Stored =
            serde_json::from_slice(value).map_err(|error| Error::corrupt("store id", error))?;
        if stored.format > FORMAT {
            let what = "the registry in etcd".to_owned();
            return Err(Error::NewerFormat { what, found: stored.format, known: FORMAT });
        }
        let (store_id, cluster_id) = (stored.store_id, stored.cluster_id);
        Ok(Self { store_id, cluster_id, stored: value.to_owned() })
    }
}
