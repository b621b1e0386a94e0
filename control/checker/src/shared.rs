//! What the tasks of a checker share: the fleet, the outbox, and what there is to show.
//!
//! One lock over fleet and outbox, held for microseconds and never across an `await`.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use fastrand::Rng;
use proto::v1::HealthReport;
use tokio::sync::Notify;

use crate::Settings;
use crate::fleet::{Fleet, Moment};
use crate::metrics::Metrics;
use crate::outbox::{Outbox, Urgency};
use crate::probe::Prober;

pub(crate) struct Shared {
    pub(crate) settings: Settings,
    /// What the limit of open files leaves of the setting.
    pub(crate) max_in_flight: usize,
    pub(crate) metrics: Metrics,
    pub(crate) prober: Prober,
    /// The schedule has changed.
    pub(crate) rescheduled: Notify,
    /// The outbox may have something to send.
    pub(crate) filled: Notify,
    started: Instant,
    state: Mutex<State>,
}

pub(crate) struct State {
    pub(crate) fleet: Fleet,
    pub(crate) outbox: Outbox,
    pub(crate) assignments: Link,
    pub(crate) reports: Link,
    /// Version of the assignments; `None` before the first.
    pub(crate) version: Option<u64>,
    /// When the probing task last looked at the schedule.
    pub(crate) probed: Moment,
}

/// One stream to the controller, to be shown.
#[derive(Clone, Debug, Default)]
pub(crate) struct Link {
    /// The controller; `None`: not connected.
    pub(crate) peer: Option<String>,
    /// Since when it has been so.
    pub(crate) since: Moment,
    /// Why it is not connected.
    pub(crate) problem: String,
    /// How often it was opened.
    pub(crate) opened: u64,
}

impl Shared {
    pub(crate) fn new(settings: Settings, max_in_flight: usize, prober: Prober) -> Self {
        let state = State {
            fleet: Fleet::new(settings.id.clone(), Rng::new()),
            outbox: Outbox::new(),
            assignments: Link::default(),
            reports: Link::default(),
            version: None,
            probed: Moment::ZERO,
        };
        Self {
            settings,
            max_in_flight,
            metrics: Metrics::default(),
            prober,
            rescheduled: Notify::new(),
            filled: Notify::new(),
            started: Instant::now(),
            state: Mutex::new(state),
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Time since the start, on a clock that never goes back.
    pub(crate) fn now(&self) -> Moment {
        self.started.elapsed()
    }

    /// That moment on the clock of the runtime.
    pub(crate) fn at(&self, moment: Moment) -> tokio::time::Instant {
        (self.started + moment).into()
    }

    /// Puts reports into the outbox.
    pub(crate) fn put(&self, reports: impl IntoIterator<Item = HealthReport>, urgency: Urgency) {
        let mut state = self.lock();
        for report in reports {
            state.outbox.put(report, urgency);
        }
        drop(state);
        self.filled.notify_one();
    }
}

impl Link {
    pub(crate) fn open(&mut self, peer: String, now: Moment) {
        *self =
            Self { peer: Some(peer), since: now, problem: String::new(), opened: self.opened + 1 };
    }

    /// True when it is news that it is closed, or why.
    pub(crate) fn close(&mut self, problem: &str, now: Moment) -> bool {
        let was_open = self.peer.take().is_some();
        if was_open {
            self.since = now;
        }
        let news = was_open || self.problem != problem;
        problem.clone_into(&mut self.problem);
        news
    }
}

/// Wall clock, since 1970, in nanoseconds: for people to read.
pub(crate) fn wall_clock_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
