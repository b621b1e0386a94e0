//! The desk: one task that owns the picture of a term, and everything that happens to it.
//!
//! Three kinds of work come to it. [`Desk::see`] looks at the picture or notes a report: done at
//! once. Ticks of health come every 100 ms, and after whatever touched a pool. [`Desk::change`]
//! writes: it is decided against the picture, written to the registry under the fence, and only
//! then part of the picture and answered. One write is under way at a time, and while it is, the
//! other two kinds go on: a slow registry delays nothing but writes, and those no longer than its
//! bound.
//!
//! A write without an answer may have happened. Its caller is told DEADLINE_EXCEEDED, and before
//! anything else is written the desk settles what is true: one more (empty) write, after which the
//! lost one cannot happen any more, then all rows are read again.
//!
//! The loop is in `desk/running.rs`, what health has to write in `desk/duties.rs`.

mod duties;
mod running;

use std::time::Duration;

use registry::{Preconditions, Revision, Write};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tonic::Status;

use crate::picture::Picture;
pub(crate) use running::Running;

/// Looks and reports that wait.
const SIGHTS: usize = 1024;
/// Changes that wait; beyond them callers wait outside.
const CHANGES: usize = 256;
/// What a caller waits longer than the registry's own bound.
const GRACE: Duration = Duration::from_millis(500);

type Sight = Box<dyn FnOnce(&mut Picture) + Send>;
/// Decides: `None` when it is answered already.
type Decision = Box<dyn FnOnce(&Picture) -> Option<Proposal> + Send>;
type Settle = Box<dyn FnOnce(Result<(&mut Picture, Revision), Status>) + Send>;

/// The way to the desk. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Desk {
    sights: mpsc::Sender<Sight>,
    changes: mpsc::Sender<Decision>,
    patience: Duration,
}

/// From the picture that holds a change, and the revision that did it.
type Answer<T> = Box<dyn FnOnce(&mut Picture, Revision) -> T + Send>;

/// What a change comes to.
pub(crate) enum Plan<T> {
    /// It is so already.
    Already(T),
    /// It has to be written.
    Write {
        /// All or nothing.
        writes: Vec<Write>,
        /// What must hold.
        expected: Preconditions,
        /// What its caller is told.
        answer: Answer<T>,
    },
}

/// From the picture to what a change comes to.
pub(crate) trait Decide<T>:
    FnOnce(&Picture) -> Result<Plan<T>, Status> + Send + 'static
{
}

impl<T, F> Decide<T> for F where F: FnOnce(&Picture) -> Result<Plan<T>, Status> + Send + 'static {}

struct Proposal {
    writes: Vec<Write>,
    expected: Preconditions,
    settle: Settle,
}

/// Ends of the desk's queues that its task reads.
struct Inbox {
    sights: mpsc::Receiver<Sight>,
    changes: mpsc::Receiver<Decision>,
}

impl Desk {
    /// A desk whose registry answers, or fails, within `bound`.
    fn new(bound: Duration) -> (Self, Inbox) {
        let (sights, seen) = mpsc::channel(SIGHTS);
        let (changes, changed) = mpsc::channel(CHANGES);
        let patience = bound.saturating_add(GRACE);
        (Self { sights, changes, patience }, Inbox { sights: seen, changes: changed })
    }

    /// Looks at the picture, or notes something in it; [`Picture::touch`] the pools for which
    /// that has consequences.
    ///
    /// # Errors
    /// UNAVAILABLE when the term is over.
    pub(crate) async fn see<T: Send + 'static>(
        &self,
        look: impl FnOnce(&mut Picture) -> T + Send + 'static,
    ) -> Result<T, Status> {
        let (reply, answer) = oneshot::channel();
        let sight: Sight = Box::new(move |picture| drop(reply.send(look(picture))));
        self.sights.send(sight).await.map_err(|_| term_over())?;
        answer.await.map_err(|_| term_over())
    }

    /// Decides on a change, writes it, and answers.
    ///
    /// # Errors
    /// What `decide` refuses with; DEADLINE_EXCEEDED when the registry did not answer in time (the
    /// change may have happened); UNAVAILABLE when the term is over.
    pub(crate) async fn change<T: Send + 'static>(
        &self,
        decide: impl Decide<T>,
    ) -> Result<T, Status> {
        let (reply, answer) = oneshot::channel();
        let decision: Decision = Box::new(move |picture| {
            // Who does not wait any more has been told that it was not done in time.
            if reply.is_closed() {
                return None;
            }
            match decide(picture) {
                Err(status) => drop(reply.send(Err(status))),
                Ok(Plan::Already(value)) => drop(reply.send(Ok(value))),
                Ok(Plan::Write { writes, expected, answer }) => {
                    let settle: Settle = Box::new(move |outcome| {
                        let result = outcome.map(|(picture, revision)| answer(picture, revision));
                        drop(reply.send(result));
                    });
                    return Some(Proposal { writes, expected, settle });
                }
            }
            None
        });
        let whole = async {
            self.changes.send(decision).await.map_err(|_| term_over())?;
            answer.await.map_err(|_| term_over())?
        };
        match timeout(self.patience, whole).await {
            Ok(result) => result,
            Err(_) => Err(Status::deadline_exceeded(format!(
                "the registry did not answer within {:?}; the change may have happened",
                self.patience
            ))),
        }
    }
}

fn term_over() -> Status {
    Status::unavailable("this controller does not lead any more")
}
