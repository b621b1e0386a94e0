//! Election over etcd: a key under a lease.
//!
//! Whoever creates the key leads, for as long as the lease is kept alive; its create revision is
//! the term's epoch. Followers look every [`LOOK`] whether the key is gone, through a quorum
//! rather than by a watch: a watch on a member that is cut off would tell nothing, in silence.
//!
//! The leader holds itself to its lease: it counts the lease's time from when it *asked* for the
//! last extension that was granted, so by its own clock it steps down before etcd lets anyone
//! else be elected. A leader whose clock stood still (paused, suspended) does not notice, and is
//! fenced.

use std::sync::Arc;
use std::time::Duration;

use etcd_client::{Compare, CompareOp, KeyValue, PutOptions, Txn, TxnOp, TxnOpResponse};
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep, sleep_until};

use super::Inner;
use super::calls::{Backoff, Link, Trouble};
use super::unsigned;
use crate::election::{Campaign, Candidate, Fence, Leader, Leadership};
use crate::error::Error;

/// How often followers look.
const LOOK: Duration = Duration::from_millis(200);

/// A lease, and since when it is known to run.
#[derive(Clone, Copy)]
struct Lease {
    id: i64,
    ttl: Duration,
    confirmed: Instant,
}

/// What a keep-alive was answered.
enum Kept {
    Extended,
    Gone,
}

pub(super) async fn campaign(
    inner: &Arc<Inner>,
    candidate: &Candidate,
    until: Instant,
) -> Result<Campaign, Error> {
    loop {
        match leader(inner).await? {
            Some(leader) => {
                let left = until.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Ok(Campaign::Following(leader));
                }
                sleep(LOOK.mul_f64(0.75 + fastrand::f64() / 2.0).min(left)).await;
            }
            None => {
                if let Some(leadership) = stand(inner, candidate).await? {
                    return Ok(Campaign::Elected(leadership));
                }
            }
        }
    }
}

pub(super) async fn leader(inner: &Inner) -> Result<Option<Leader>, Error> {
    let identity = inner.identity();
    inner
        .calls
        .until_done("leader", inner.calls.deadline(), |mut link| {
            let identity = &identity;
            async move {
                let found = link.kv.get(inner.keys.leader.as_str(), None).await?;
                link.check(found.header(), Some(identity))?;
                Ok(found.kvs().first().map(read_leader).transpose()?)
            }
        })
        .await
}

fn read_leader(pair: &KeyValue) -> Result<Leader, Error> {
    let Candidate { id, address } = serde_json::from_slice(pair.value())
        .map_err(|error| Error::corrupt("the leader's key", error))?;
    Ok(Leader { id, address, epoch: unsigned(pair.create_revision()) })
}

/// Takes the key, unless somebody else is faster.
async fn stand(inner: &Arc<Inner>, candidate: &Candidate) -> Result<Option<Leadership>, Error> {
    let seconds = i64::try_from(inner.lease_ttl.as_secs()).unwrap_or(i64::MAX).max(1);
    let deadline = inner.calls.deadline();
    let lease = inner
        .calls
        .until_done("campaign", deadline, |mut link| async move {
            let confirmed = Instant::now();
            let granted = link.lease.grant(seconds, None).await?;
            let ttl = Duration::from_secs(unsigned(granted.ttl()));
            Ok(Lease { id: granted.id(), ttl, confirmed })
        })
        .await?;
    let value =
        serde_json::to_vec(candidate).map_err(|error| Error::storage("the leader's key", error))?;
    let taken = inner
        .calls
        .until_done("campaign", deadline, |link| take(inner, link, &value, lease.id))
        .await;
    match taken {
        Ok(Some(epoch)) => Ok(Some(hold(inner, lease, epoch))),
        Ok(None) => {
            give_back(inner, lease.id).await;
            Ok(None)
        }
        Err(error) => {
            // It may have been taken without our being told; nobody should wait for that.
            let inner = Arc::clone(inner);
            tokio::spawn(async move { give_back(&inner, lease.id).await });
            Err(error)
        }
    }
}

/// The epoch of the key taken under `lease`, now or at an attempt that had no answer.
async fn take(
    inner: &Inner,
    mut link: Link<'_>,
    value: &[u8],
    lease: i64,
) -> Result<Option<i64>, Trouble> {
    let (key, store) = (inner.keys.leader.as_str(), inner.keys.store.as_str());
    let identity = inner.identity();
    let options = Some(PutOptions::new().with_lease(lease));
    let transaction = Txn::new()
        .when([
            Compare::create_revision(key, CompareOp::Equal, 0),
            Compare::value(store, CompareOp::Equal, identity.stored.as_slice()),
        ])
        .and_then([TxnOp::put(key, value, options)])
        .or_else([TxnOp::get(key, None), TxnOp::get(store, None)]);
    let response = link.kv.txn(transaction).await?;
    link.check(response.header(), Some(&identity))?;
    if response.succeeded() {
        return Ok(response.header().map(etcd_client::ResponseHeader::revision));
    }
    let mut found = response.op_responses().into_iter().map(|response| match response {
        TxnOpResponse::Get(mut read) => read.take_kvs().pop(),
        _ => None,
    });
    let (holder, named) = (found.next().flatten(), found.next().flatten());
    if named.is_none_or(|named| named.value() != identity.stored) {
        return Err(Error::StoreReplaced.into());
    }
    Ok(holder.filter(|holder| holder.lease() == lease).map(|holder| holder.create_revision()))
}

/// Begins the term.
fn hold(inner: &Arc<Inner>, lease: Lease, epoch: i64) -> Leadership {
    let (lost, told) = watch::channel(false);
    let (resign, resigned) = oneshot::channel::<oneshot::Sender<()>>();
    let keeper = Arc::clone(inner);
    tokio::spawn(async move {
        let asked = keep(&keeper, lease, resigned).await;
        lost.send_replace(true);
        if let Some(done) = asked {
            give_back(&keeper, lease.id).await;
            let _ = done.send(());
        }
    });
    let end = async move {
        let (done, ended) = oneshot::channel();
        if resign.send(done).is_ok() {
            drop(ended.await);
        }
    };
    Leadership::new(Fence::new(unsigned(epoch)), told, Box::pin(end))
}

/// Keeps the lease alive until it is lost (`None`), dropped (`None`), or resigned.
async fn keep(
    inner: &Inner,
    mut lease: Lease,
    mut resigned: oneshot::Receiver<oneshot::Sender<()>>,
) -> Option<oneshot::Sender<()>> {
    let interval = lease.ttl / 3;
    let mut next = lease.confirmed + interval;
    let mut backoff = Backoff::new();
    loop {
        let over = lease.confirmed + lease.ttl;
        tokio::select! {
            asked = &mut resigned => return asked.ok(),
            () = sleep_until(next.min(over)) => {}
        }
        let asked_at = Instant::now();
        let limit = interval.min(over.saturating_duration_since(asked_at));
        if limit.is_zero() {
            tracing::warn!("leadership lost: etcd did not extend the lease in time");
            return None;
        }
        let kept = tokio::select! {
            asked = &mut resigned => return asked.ok(),
            kept = inner.calls.once(limit, |link| extend(link, lease.id)) => kept,
        };
        match kept {
            Ok(Kept::Extended) => {
                lease.confirmed = asked_at;
                next = asked_at + interval;
                backoff = Backoff::new();
            }
            Ok(Kept::Gone) => {
                tracing::warn!("leadership lost: the lease has run out");
                return None;
            }
            Err(Trouble::Again(why)) => {
                tracing::info!(why, "keeping the lease alive failed, trying again");
                next = Instant::now() + backoff.pause();
            }
            Err(Trouble::Fatal(error)) => {
                tracing::warn!(%error, "keeping the lease alive failed, trying again");
                next = Instant::now() + backoff.pause();
            }
        }
    }
}

async fn extend(mut link: Link<'_>, lease: i64) -> Result<Kept, Trouble> {
    match link.lease.keep_alive(lease).await {
        Ok(_) => Ok(Kept::Extended),
        // The client's word for an answer with no time left.
        Err(etcd_client::Error::LeaseKeepAliveError(_)) => Ok(Kept::Gone),
        Err(error) => Err(error.into()),
    }
}

/// Best effort: a lease that stays runs out by itself.
async fn give_back(inner: &Inner, lease: i64) {
    let revoked = inner
        .calls
        .until_done("resign", inner.calls.deadline(), |mut link| async move {
            match link.lease.revoke(lease).await {
                Ok(_) => Ok(()),
                Err(etcd_client::Error::GRpcStatus(status))
                    if status.message().contains("lease not found") =>
                {
                    Ok(())
                }
                Err(error) => Err(error.into()),
            }
        })
        .await;
    if let Err(error) = revoked {
        tracing::info!(%error, "a lease could not be given back; it runs out by itself");
    }
}
