//! Fetching flows from the workers, a slice of their tables at a time.
//!
//! A worker answers [`Command::ShowFlows`] with records in a bounded queue, the last of which is
//! [`FlowRecord::End`]; it says nothing about which command it answers. So a worker has one
//! command at a time: after a dump that was given up (the worker was slow, the client went away)
//! the next one first throws away what comes up to that dump's `End`, and only then asks. Records
//! of two dumps therefore never mix.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use conntrack::Entry;
use dataplane::link::{Command, FlowFilter, FlowRecord, WorkerLink};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, sleep};

use super::lock;

/// Between the beginnings of two dumps: what a dump costs the workers is bounded by it.
const MIN_INTERVAL_NS: u64 = 250_000_000;
/// When a client that came too early should come back, in seconds.
const RETRY_AFTER: u32 = 1;
/// How long workers may take. An idle worker looks at 256 slots between two sleeps of 250 us or
/// a little more: a table of 2 million flows takes it about 3 s.
const WAIT: Duration = Duration::from_secs(10);
/// Between two looks at the queues.
const STEP: Duration = Duration::from_millis(1);

/// Keeps dumps apart.
pub(super) struct Dumps {
    one_at_a_time: Semaphore,
    progress: Mutex<Progress>,
}

#[derive(Default)]
struct Progress {
    /// When the last dump began, in nanoseconds.
    begun: Option<u64>,
    /// By worker: it has a command whose `End` has not come.
    owes_an_end: Vec<bool>,
}

impl Default for Dumps {
    fn default() -> Self {
        Self { one_at_a_time: Semaphore::new(1), progress: Mutex::default() }
    }
}

/// The right to a dump, given back when dropped.
pub(super) struct Turn<'a> {
    progress: &'a Mutex<Progress>,
    _permit: SemaphorePermit<'a>,
}

/// What one worker said.
#[derive(Debug, Default)]
pub(super) struct Shown {
    /// Entries, and for how many milliseconds they had been idle.
    pub(super) flows: Vec<(Entry, u32)>,
    /// That was all of them, up to the limit.
    pub(super) complete: bool,
}

/// Where a worker is with its answer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The answer to an earlier dump is on its way.
    Clearing,
    /// To be asked.
    Unasked,
    /// Its answer comes.
    Answering,
    /// Its answer has come.
    Answered,
}

impl Dumps {
    /// Lets one dump begin; or says in how many seconds to come back.
    pub(super) fn begin(&self, now: u64) -> Result<Turn<'_>, u32> {
        let permit = self.one_at_a_time.try_acquire().map_err(|_| RETRY_AFTER)?;
        let mut progress = lock(&self.progress);
        if progress.begun.is_some_and(|begun| now.saturating_sub(begun) < MIN_INTERVAL_NS) {
            return Err(RETRY_AFTER);
        }
        progress.begun = Some(now);
        Ok(Turn { progress: &self.progress, _permit: permit })
    }
}

impl Turn<'_> {
    /// Asks all workers and waits for their answers, at most [`WAIT`]. By worker; at most
    /// `filter.limit` flows of each.
    pub(super) async fn collect(self, links: &[Arc<WorkerLink>], filter: FlowFilter) -> Vec<Shown> {
        let mut shown: Vec<Shown> = links.iter().map(|_| Shown::default()).collect();
        let mut stages: Vec<Stage> = {
            let mut progress = lock(self.progress);
            progress.owes_an_end.resize(links.len(), false);
            let owing = progress.owes_an_end.iter();
            owing.map(|owes| if *owes { Stage::Clearing } else { Stage::Unasked }).collect()
        };
        let deadline = Instant::now() + WAIT;
        loop {
            for (number, link) in links.iter().enumerate() {
                let (Some(shown), Some(stage)) = (shown.get_mut(number), stages.get_mut(number))
                else {
                    continue;
                };
                self.advance(number, link, stage, shown, filter);
            }
            let done = stages.iter().all(|stage| *stage == Stage::Answered);
            if done || Instant::now() >= deadline {
                return shown;
            }
            sleep(STEP).await;
        }
    }

    /// Takes what a worker has said since, and asks it when it is time.
    fn advance(
        &self,
        number: usize,
        link: &WorkerLink,
        stage: &mut Stage,
        shown: &mut Shown,
        filter: FlowFilter,
    ) {
        if *stage == Stage::Clearing && drain(link, |_, _| {}) {
            self.owes(number, false);
            *stage = Stage::Unasked;
        }
        // A full queue of commands is tried again at the next look.
        if *stage == Stage::Unasked && link.commands.push(Command::ShowFlows(filter)).is_ok() {
            self.owes(number, true);
            *stage = Stage::Answering;
        }
        if *stage == Stage::Answering && drain(link, |entry, idle| shown.flows.push((entry, idle)))
        {
            self.owes(number, false);
            *stage = Stage::Answered;
            shown.complete = true;
        }
    }

    fn owes(&self, number: usize, owes: bool) {
        if let Some(place) = lock(self.progress).owes_an_end.get_mut(number) {
            *place = owes;
        }
    }
}

/// Takes records up to and including an `End`; returns whether there was one. Bounded by what
/// the queue holds at a time.
fn drain(link: &WorkerLink, mut take: impl FnMut(Entry, u32)) -> bool {
    for _ in 0..link.flows.capacity() {
        match link.flows.pop() {
            Some(FlowRecord::Flow(entry, idle)) => take(entry, idle),
            Some(FlowRecord::End) => return true,
            None => return false,
        }
    }
    false
}
