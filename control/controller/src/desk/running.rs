//! The loop of the desk.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use registry::{Change, Commit, Error, Fence, Key, Registry, Revision, Snapshot, Write};
use tokio::time::{MissedTickBehavior, interval, sleep};
use tonic::{Code, Status};

use super::duties::{self, Duty};
use super::{Decision, Desk, Inbox, Proposal, Settle};
use crate::clock::Clock;
use crate::fleet;
use crate::office::elsewhere;
use crate::picture::Picture;
use crate::snapshots::Press;

/// Between two ticks of health.
const TICK: Duration = Duration::from_millis(100);
/// Between two attempts to reach a registry that did not answer.
const RETRY: Duration = Duration::from_millis(500);
/// What nodes are to be told waits no longer than this for a write that is under way.
const PATIENCE: Duration = Duration::from_secs(1);
/// Changes at most between two compactions, and their least spacing.
const COMPACT_AFTER: u64 = 10_000;
const COMPACT_EVERY: Duration = Duration::from_secs(300);

/// A desk at work.
pub(crate) struct Running {
    picture: Picture,
    inbox: Inbox,
    registry: Arc<dyn Registry>,
    fence: Fence,
    press: Press,
    clock: Clock,
    /// The write under way.
    write: Option<Pin<Box<dyn Future<Output = Written> + Send>>>,
    began: Instant,
    /// The write before was a duty: a change that waits is next.
    duty_was_last: bool,
    /// A write had no answer: settle what is true before the next.
    doubt: bool,
    /// Duties could not be written: nodes are told all the same, and it is tried again later.
    hold_duties_until: Option<Instant>,
    compacted: (Revision, Instant),
    term_end: Option<String>,
}

/// How a write ended, and what it was.
type Written = (Result<Revision, Error>, What);

enum What {
    Change { changes: Vec<Change>, settle: Settle },
    Duty(Duty, Vec<Change>),
    Recovered(Result<Snapshot, Error>),
    Compacted(Revision),
}

impl Running {
    /// A desk over `picture`; `bound` is the registry's.
    pub(crate) fn new(
        mut picture: Picture,
        registry: Arc<dyn Registry>,
        fence: Fence,
        press: Press,
        clock: Clock,
        bound: Duration,
    ) -> (Self, Desk) {
        let (desk, inbox) = Desk::new(bound);
        let compacted = (picture.rows.revision, Instant::now());
        picture.now = clock.now();
        let mut running = Self {
            picture,
            inbox,
            registry,
            fence,
            press,
            clock,
            write: None,
            began: Instant::now(),
            duty_was_last: false,
            doubt: false,
            hold_duties_until: None,
            compacted,
            term_end: None,
        };
        // Everything once, so that the press has work before anyone asks.
        running.tick();
        running.publish();
        (running, desk)
    }

    /// Works until `ending`, or until the registry says that the term is over. Answers why it
    /// ended, and the write that was under way: its caller is told how it ends, so it is to be
    /// waited for.
    pub(crate) async fn run(
        mut self,
        ending: impl Future<Output = String>,
    ) -> (String, impl Future<Output = ()>) {
        tokio::pin!(ending);
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let why = loop {
            if let Some(why) = self.term_end.take() {
                break why;
            }
            self.begin_write();
            let idle = self.write.is_none();
            tokio::select! {
                why = &mut ending => break why,
                written = ended(&mut self.write) => self.settle(written),
                _ = ticks.tick() => self.tick(),
                Some(sight) = self.inbox.sights.recv() => {
                    self.picture.now = self.clock.now();
                    sight(&mut self.picture);
                }
                Some(decision) = self.inbox.changes.recv(), if idle => self.decide(decision),
            }
            self.picture.now = self.clock.now();
            self.picture.tick_touched();
            self.publish();
        };
        // No more is accepted; what waits is told that the term is over.
        drop(self.inbox);
        let (write, mut picture) = (self.write, self.picture);
        let last_write = async move {
            let Some(write) = write else { return };
            let (outcome, what) = write.await;
            if let What::Change { changes, settle } = what {
                match outcome {
                    Ok(revision) => {
                        picture.commit(&Commit { revision, changes });
                        settle(Ok((&mut picture, revision)));
                    }
                    Err(error) => settle(Err(status(&error))),
                }
            }
        };
        (why, last_write)
    }

    fn tick(&mut self) {
        self.picture.now = self.clock.now();
        fleet::tick(&mut self.picture);
        self.picture.tick_all();
        let board = self.press.board();
        self.picture.look_at_evicted(|pool| board.version(pool));
        self.compact();
    }

    /// Hands over every pool with news whose states are written.
    fn publish(&mut self) {
        // A registry that does not answer must not keep a dead backend in the tables. What nodes
        // are told then is written later, by this leader or found again by the next.
        let slow = self.write.is_some() && self.began.elapsed() >= PATIENCE;
        let impatient = slow || self.doubt || self.hold_duties_until.is_some();
        for draft in self.picture.drafts(impatient) {
            self.press.submit(draft);
        }
    }

    /// What comes before any change: doubt, then what health has to write.
    fn begin_write(&mut self) {
        if self.write.is_some() {
            return;
        }
        if self.doubt {
            let (registry, fence) = (Arc::clone(&self.registry), self.fence.clone());
            self.start(async move {
                let (outcome, rows) = settle_truth(&*registry, &fence).await;
                (outcome, What::Recovered(rows))
            });
            return;
        }
        // However much health has to write, operators get every other turn.
        if std::mem::take(&mut self.duty_was_last)
            && let Ok(decision) = self.inbox.changes.try_recv()
        {
            self.decide(decision);
            if self.write.is_some() {
                return;
            }
        }
        if self.hold_duties_until.is_some_and(|until| Instant::now() < until) {
            return;
        }
        if let Some(duty) = duties::next(&mut self.picture) {
            let changes = changes(&duty.writes);
            let (registry, fence) = (Arc::clone(&self.registry), self.fence.clone());
            let (writes, expected) = (duty.writes.clone(), duty.expected.clone());
            self.duty_was_last = true;
            self.start(async move {
                let outcome = registry.apply(writes, expected, &fence).await;
                (outcome, What::Duty(duty, changes))
            });
        }
    }

    fn decide(&mut self, decision: Decision) {
        self.picture.now = self.clock.now();
        let Some(Proposal { writes, expected, settle }) = decision(&self.picture) else { return };
        let changes = changes(&writes);
        let (registry, fence) = (Arc::clone(&self.registry), self.fence.clone());
        self.start(async move {
            let outcome = registry.apply(writes, expected, &fence).await;
            (outcome, What::Change { changes, settle })
        });
    }

    /// To be called when no write is under way.
    fn start(
        &mut self,
        write: impl Future<Output = (Result<Revision, Error>, What)> + Send + 'static,
    ) {
        self.began = Instant::now();
        self.write = Some(Box::pin(write));
    }

    fn settle(&mut self, (outcome, what): Written) {
        self.write = None;
        self.picture.now = self.clock.now();
        self.picture.metrics.registry_took(self.began.elapsed(), outcome.is_ok());
        match &outcome {
            // It changed nothing, and says nothing of what was written.
            Err(_) if matches!(what, What::Compacted(_)) => {}
            Err(error) => self.judge(error),
            Ok(_) => {}
        }
        match what {
            What::Change { changes, settle } => match outcome {
                Ok(revision) => {
                    self.picture.commit(&Commit { revision, changes });
                    self.picture.tick_touched();
                    settle(Ok((&mut self.picture, revision)));
                }
                Err(error) => settle(Err(status(&error))),
            },
            What::Duty(duty, changes) => match outcome {
                Ok(revision) => {
                    self.hold_duties_until = None;
                    duty.over(&mut self.picture, true);
                    self.picture.commit(&Commit { revision, changes });
                }
                Err(error) => {
                    tracing::warn!(%error, "states of backends could not be written");
                    self.hold_duties_until = Some(Instant::now() + RETRY);
                    duty.over(&mut self.picture, false);
                }
            },
            What::Recovered(Ok(rows)) => {
                self.doubt = false;
                self.hold_duties_until = None;
                self.picture.reread(rows);
            }
            What::Recovered(Err(error)) => self.judge(&error),
            What::Compacted(until) => {
                if outcome.is_ok() {
                    self.compacted = (until, Instant::now());
                }
            }
        }
    }

    /// What an error means for the term.
    fn judge(&mut self, error: &Error) {
        match error {
            Error::Fenced { .. } | Error::StoreReplaced | Error::Closed => {
                self.term_end = Some(error.to_string());
            }
            // Refused whole, for what was in it.
            Error::Invalid(_) => {}
            // The picture, or the registry, is not what was thought.
            _ => self.doubt = true,
        }
    }

    fn compact(&mut self) {
        let (until, last) = self.compacted;
        let newest = self.picture.rows.revision;
        let due = newest.saturating_sub(until) >= COMPACT_AFTER
            || newest > until && last.elapsed() >= COMPACT_EVERY;
        if !due || self.write.is_some() || self.doubt {
            return;
        }
        self.compacted = (until, Instant::now());
        let registry = Arc::clone(&self.registry);
        self.start(async move {
            let outcome = registry.compact(newest).await.map(|()| newest);
            (outcome, What::Compacted(newest))
        });
    }
}

/// One more write, which changes nothing: none before it can happen after it. Then all rows.
async fn settle_truth(
    registry: &dyn Registry,
    fence: &Fence,
) -> (Result<Revision, Error>, Result<Snapshot, Error>) {
    // No pool has an empty id.
    let nothing = vec![Write::Remove(Key::Pool(String::new()))];
    match registry.apply(nothing, Default::default(), fence).await {
        Ok(revision) => {
            let rows = registry.snapshot().await;
            if rows.is_err() {
                sleep(RETRY).await;
            }
            (Ok(revision), rows)
        }
        Err(error) => {
            sleep(RETRY).await;
            let unread = Error::Storage { what: "registry".into(), why: error.to_string() };
            (Err(error), Err(unread))
        }
    }
}

/// The write under way; never, when there is none.
async fn ended(write: &mut Option<Pin<Box<dyn Future<Output = Written> + Send>>>) -> Written {
    match write {
        Some(write) => write.await,
        None => std::future::pending().await,
    }
}

/// What the writes will have done, each key once.
fn changes(writes: &[Write]) -> Vec<Change> {
    let change = |write: &Write| match write {
        Write::Put(row) => (row.key(), Change::Put(row.clone())),
        Write::Remove(key) => (key.clone(), Change::Removed(key.clone())),
    };
    writes.iter().map(change).collect::<BTreeMap<_, _>>().into_values().collect()
}

/// What callers are told of an error of the registry.
fn status(error: &Error) -> Status {
    use registry::Status as Of;
    let code = match error.status() {
        // Only after a write of which nothing is known. Nothing was done: the same again will do.
        Of::Aborted => Code::Unavailable,
        Of::AlreadyExists => Code::AlreadyExists,
        Of::DataLoss => Code::DataLoss,
        Of::DeadlineExceeded => Code::DeadlineExceeded,
        Of::FailedPrecondition => Code::FailedPrecondition,
        Of::Internal => Code::Internal,
        Of::InvalidArgument => Code::InvalidArgument,
        Of::NotFound => Code::NotFound,
        Of::Unavailable => {
            let leader = match error {
                Error::Fenced { leader } => leader.as_deref(),
                _ => None,
            };
            return elsewhere(leader, &error.to_string());
        }
    };
    Status::new(code, error.to_string())
}
