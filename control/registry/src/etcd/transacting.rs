//! Transactions that happen at most once, although they are tried more than once.
//!
//! An attempt that ends without an answer may still be on its way through etcd: it may have
//! happened, and, which is worse, may happen later, after others. So each transaction also puts
//! its token under the sequence key, and happens only if that key is as this leader last saw it:
//!
//! ```text
//! if   leader created at EPOCH, store is STORE, sequence modified at SEEN, preconditions
//! then the writes, sequence := TOKEN
//! else read leader, store, sequence, and the preconditions' rows
//! ```
//!
//! Whatever comes next moves the sequence on, so that a straggler finds another revision there
//! and does nothing; and an attempt that finds its own token there knows that it has happened.
//! One transaction at a time is under way per leader (`turn`); other leaders are fenced off.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};

use etcd_client::{Compare, CompareOp, GetOptions, KeyValue, Txn, TxnOp, TxnOpResponse};
use tokio::time::timeout_at;
use uuid::Uuid;

use super::calls::{Link, Trouble};
use super::identity::Identity;
use super::{Inner, Keys, signed, unsigned};
use crate::Revision;
use crate::election::{Candidate, Fence};
use crate::error::Error;
use crate::transaction::{Expect, Preconditions, Prepared};

/// How often the sequence may be found elsewhere than expected, within one attempt.
const ROUNDS: usize = 4;

/// One transaction, to be attempted.
struct Attempt<'a> {
    inner: &'a Inner,
    identity: Identity,
    epoch: i64,
    token: String,
    operations: Vec<TxnOp>,
    expected: &'a Preconditions,
    /// Mod revision of the sequence key.
    seen: AtomicI64,
    tried: AtomicU32,
}

/// What one try came to.
enum Outcome {
    Done(i64),
    /// The sequence is elsewhere; it may be tried again at once.
    Moved,
    Failed(Trouble),
}

/// The writes, as etcd's operations.
pub(super) fn operations(keys: &Keys, prepared: &Prepared) -> Vec<TxnOp> {
    let operation = |(key, row): &(String, Option<Vec<u8>>)| {
        let key = format!("{}{key}", keys.rows);
        match row {
            Some(row) => TxnOp::put(key, row.as_slice(), None),
            None => TxnOp::delete(key, None),
        }
    };
    prepared.writes.iter().map(operation).collect()
}

pub(super) async fn apply(
    inner: &Inner,
    what: &'static str,
    mut operations: Vec<TxnOp>,
    expected: &Preconditions,
    fence: &Fence,
) -> Result<Revision, Error> {
    let deadline = inner.calls.deadline();
    let turn = timeout_at(deadline, inner.turn.lock()).await;
    let mut turn = turn.map_err(|_| inner.calls.late(what, "others are writing"))?;
    let token = Uuid::new_v4().to_string();
    operations.push(TxnOp::put(inner.keys.sequence.as_str(), token.as_str(), None));
    let attempt = Attempt {
        inner,
        identity: inner.identity(),
        epoch: signed(fence.epoch()),
        token,
        operations,
        expected,
        seen: AtomicI64::new(*turn),
        tried: AtomicU32::new(0),
    };
    let done = inner.calls.until_done(what, deadline, |link| attempt.run(link)).await;
    *turn = attempt.seen.load(Ordering::Relaxed);
    done
}

impl Attempt<'_> {
    async fn run(&self, mut link: Link<'_>) -> Result<Revision, Trouble> {
        for _ in 0..ROUNDS {
            match self.round(&mut link).await {
                Outcome::Done(revision) => return Ok(unsigned(revision)),
                Outcome::Moved => {}
                Outcome::Failed(trouble) => return Err(trouble),
            }
        }
        Err(Trouble::Again("the sequence keeps moving".into()))
    }

    async fn round(&self, link: &mut Link<'_>) -> Outcome {
        let doubtful = self.tried.fetch_add(1, Ordering::Relaxed) > 0;
        let response = match link.kv.txn(self.transaction()).await {
            Ok(response) => response,
            Err(error) => return Outcome::Failed(error.into()),
        };
        if let Err(trouble) = link.check(response.header(), Some(&self.identity)) {
            return Outcome::Failed(trouble);
        }
        if response.succeeded() {
            let revision = response.header().map_or(0, etcd_client::ResponseHeader::revision);
            self.seen.store(revision, Ordering::Relaxed);
            return Outcome::Done(revision);
        }
        self.explain(&Found::read(response.op_responses()), doubtful)
    }

    fn transaction(&self) -> Txn {
        let keys = &self.inner.keys;
        let seen = self.seen.load(Ordering::Relaxed);
        let equal = CompareOp::Equal;
        let mut when = vec![
            Compare::create_revision(keys.leader.as_str(), equal, self.epoch),
            Compare::value(keys.store.as_str(), equal, self.identity.stored.as_slice()),
            Compare::mod_revision(keys.sequence.as_str(), equal, seen),
        ];
        let mut otherwise = vec![
            TxnOp::get(keys.leader.as_str(), None),
            TxnOp::get(keys.store.as_str(), None),
            TxnOp::get(keys.sequence.as_str(), None),
        ];
        for (key, expect) in self.expected.iter() {
            let key = format!("{}{key}", keys.rows);
            otherwise.push(TxnOp::get(key.as_str(), Some(GetOptions::new().with_keys_only())));
            when.push(match expect {
                Expect::Absent => Compare::create_revision(key, equal, 0),
                Expect::Present => Compare::create_revision(key, CompareOp::Greater, 0),
                Expect::At(version) => Compare::mod_revision(key, equal, signed(version)),
            });
        }
        Txn::new().when(when).and_then(self.operations.as_slice()).or_else(otherwise)
    }

    /// Why it did not happen, or that it had happened before. `doubtful`: a try before this one
    /// ended without an answer.
    fn explain(&self, found: &Found, doubtful: bool) -> Outcome {
        let keys = &self.inner.keys;
        let fatal = |error: Error| Outcome::Failed(Trouble::Fatal(error));
        if found.value(&keys.store) != Some(self.identity.stored.as_slice()) {
            return fatal(Error::StoreReplaced);
        }
        let seen = found.get(&keys.sequence).map_or(0, KeyValue::mod_revision);
        let moved = self.seen.swap(seen, Ordering::Relaxed) != seen;
        if found.value(&keys.sequence) == Some(self.token.as_bytes()) {
            return Outcome::Done(seen);
        }
        let leader = found.get(&keys.leader);
        if leader.map_or(0, KeyValue::create_revision) != self.epoch {
            let address = leader
                .and_then(|leader| serde_json::from_slice::<Candidate>(leader.value()).ok())
                .map(|leader| leader.address);
            // The next leader may have written over the token of a try that did happen.
            return fatal(match doubtful && moved {
                true => self.inner.calls.late("apply", "another leader was elected meanwhile"),
                false => Error::Fenced { leader: address },
            });
        }
        let checked = self.expected.check(|key| -> Result<Option<Revision>, Error> {
            let row = found.get(&format!("{}{key}", keys.rows));
            Ok(row.map(|row| unsigned(row.mod_revision())))
        });
        match checked {
            Err(error) => fatal(error),
            Ok(()) if moved => Outcome::Moved,
            Ok(()) => Outcome::Failed(Trouble::Again("etcd contradicts itself".into())),
        }
    }
}

/// What the else branch read, by key.
struct Found(HashMap<Vec<u8>, KeyValue>);

impl Found {
    fn read(responses: Vec<TxnOpResponse>) -> Self {
        let mut found = HashMap::new();
        for response in responses {
            if let TxnOpResponse::Get(mut read) = response {
                found.extend(read.take_kvs().into_iter().map(|pair| (pair.key().to_owned(), pair)));
            }
        }
        Self(found)
    }

    fn get(&self, key: &str) -> Option<&KeyValue> {
        self.0.get(key.as_bytes())
    }

    fn value(&self, key: &str) -> Option<&[u8]> {
        self.get(key).map(KeyValue::value)
    }
}
