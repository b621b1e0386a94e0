//! Who may write: one leader at a time, and a fence that outlives its mistakes.
//!
//! A lease alone does not keep two leaders apart: a leader that is paused (stopped, swapped out,
//! its machine suspended) wakes up long after its lease has passed and believes it leads. So each
//! term has an epoch that only goes up, every write carries the epoch of its term, and the store
//! compares it in the same transaction. With etcd the epoch is the revision that created the
//! leader's key; with redb it is a row of the file.
//!
//! The invariant: of two terms the later has the greater epoch, and once the later has begun no
//! write of the earlier succeeds.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::error::Error;

/// Who stands for election.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// Of the controller.
    pub id: String,
    /// Where clients reach it.
    pub address: String,
}

/// Who leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leader {
    /// Of the controller.
    pub id: String,
    /// Where clients reach it.
    pub address: String,
    /// Of its term.
    pub epoch: u64,
}

/// Proof of having been elected, to be shown with every write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fence {
    epoch: u64,
}

/// How a campaign ended.
#[derive(Debug)]
pub enum Campaign {
    /// This candidate leads now.
    Elected(Leadership),
    /// It was waited for long enough; this one leads still.
    Following(Leader),
}

/// A term of office. Dropping it lets the lease run out; [`Leadership::resign`] ends it at once.
pub struct Leadership {
    fence: Fence,
    lost: watch::Receiver<bool>,
    end: Resign,
}

/// What ends a term when it is awaited; given by the store.
pub(crate) type Resign = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Tells when a term is over. Cloned freely.
#[derive(Clone, Debug)]
pub struct Lost(watch::Receiver<bool>);

/// How a store elects.
#[async_trait]
pub trait Election: Send + Sync + fmt::Debug {
    /// Tries to become the leader for up to `patience` (and the store's timeout). Called in a
    /// loop by a controller that wants to lead.
    ///
    /// # Errors
    /// [`Error::Timeout`] when the store did not answer, so that nobody knows who leads.
    async fn campaign(&self, candidate: Candidate, patience: Duration) -> Result<Campaign, Error>;

    /// Who leads now, if anybody.
    ///
    /// # Errors
    /// [`Error::Timeout`].
    async fn leader(&self) -> Result<Option<Leader>, Error>;
}

impl Fence {
    pub(crate) fn new(epoch: u64) -> Self {
        Self { epoch }
    }

    /// Only goes up from term to term of one store, and stays below 2^53; versions made of it
    /// (epoch first, then a count within the term) never go back.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }
}

impl Leadership {
    pub(crate) fn new(fence: Fence, lost: watch::Receiver<bool>, end: Resign) -> Self {
        Self { fence, lost, end }
    }

    /// To be shown with every write of this term.
    pub fn fence(&self) -> &Fence {
        &self.fence
    }

    /// Tells when the term is over. It may end without telling: [`Error::Fenced`] says so too.
    pub fn lost(&self) -> Lost {
        Lost(self.lost.clone())
    }

    /// Ends the term at once, so that another may begin; within the store's timeout.
    pub async fn resign(self) {
        self.end.await;
    }
}

impl Lost {
    /// Whether the term is over.
    pub fn is_lost(&self) -> bool {
        *self.0.borrow() || self.0.has_changed().is_err()
    }

    /// Ends when the term does.
    pub async fn wait(&mut self) {
        // An error is a sender that is gone: nobody keeps the term alive any more.
        drop(self.0.wait_for(|lost| *lost).await);
    }
}

impl fmt::Debug for Leadership {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Leadership").field("fence", &self.fence).finish_non_exhaustive()
    }
}
