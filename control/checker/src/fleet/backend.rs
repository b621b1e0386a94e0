//! One backend as this checker knows it: what it is asked, what it answered, what is said of it.

use std::sync::Arc;
use std::time::Duration;

use health::thresholds::{CheckerView, Outcome, Verdict};
use proto::v1::{Health, HealthReport};

use super::{Answer, Moment, Role};
use crate::probe::{Finding, Probe};
use crate::target::Target;

/// Without an answer for so long, and for three intervals, there is no verdict any more.
pub(super) const SILENCE: Duration = Duration::from_secs(15);
/// Longest detail that is reported, in characters.
const LONGEST_DETAIL: usize = 256;

pub(super) struct Backend {
    pub(super) target: Target,
    view: CheckerView,
    pub(super) liveness: Question,
    pub(super) readiness: Option<Question>,
    checked_at_ns: u64,
    latency: Duration,
    /// When it was last reported, or came.
    pub(super) reported: Moment,
    /// Whether it ever was reported.
    pub(super) told: bool,
}

/// One question, and its place in the schedule.
pub(super) struct Question {
    /// `None`: cannot be asked.
    pub(super) probe: Option<Arc<Probe>>,
    pub(super) due: Option<(Moment, u64)>,
    /// The ticket of the job under way.
    pub(super) asking: Option<u64>,
    /// Came due while it was being asked.
    pub(super) waiting: Option<Moment>,
    /// When a probe last said something about the backend.
    answered: Option<Moment>,
    detail: String,
}

impl Backend {
    pub(super) fn new(target: Target, now: Moment) -> Self {
        Self {
            view: CheckerView::new(target.readiness.is_some()),
            liveness: Question::new(&target.liveness),
            readiness: target.readiness.as_ref().map(Question::new),
            target,
            checked_at_ns: 0,
            latency: Duration::ZERO,
            reported: now,
            told: false,
        }
    }

    pub(super) fn question(&mut self, role: Role) -> Option<&mut Question> {
        match role {
            Role::Liveness => Some(&mut self.liveness),
            Role::Readiness => self.readiness.as_mut(),
        }
    }

    /// Takes an answer. True when a verdict has changed.
    pub(super) fn learn(&mut self, role: Role, answer: Answer, now: Moment) -> bool {
        let silence = silence(&self.target);
        let Some(question) = self.question(role) else { return false };
        question.detail = shortened(&answer.finding.detail());
        let outcome = match answer.finding {
            Finding::Pass => Outcome::Pass,
            Finding::Fail(_) | Finding::Timeout(_) => Outcome::Fail,
            // Says nothing about the backend.
            Finding::NotProbed(_) => return false,
        };
        let before = question.answered.replace(now);
        if before.is_some_and(|at| now.saturating_sub(at) > silence) {
            // What was true before the silence is no beginning for a new verdict.
            self.view = CheckerView::new(self.target.readiness.is_some());
        }
        self.checked_at_ns = answer.checked_at_ns;
        let settings = &self.target.settings;
        match role {
            Role::Liveness => {
                self.latency = answer.latency;
                self.view.liveness_probe(settings, outcome)
            }
            Role::Readiness => self.view.readiness_probe(settings, outcome),
        }
    }

    /// The verdict, while it is young enough to be one.
    pub(super) fn verdict(&self, role: Role, now: Moment) -> Verdict {
        let (question, verdict) = match role {
            Role::Liveness => (Some(&self.liveness), self.view.liveness().verdict()),
            Role::Readiness => (self.readiness.as_ref(), self.view.readiness()),
        };
        let fresh = |at: Moment| now.saturating_sub(at) <= silence(&self.target);
        match question.is_none_or(|question| question.answered.is_some_and(fresh)) {
            true => verdict,
            false => Verdict::Unknown,
        }
    }

    /// What is to be said of it now, as `id` and by `checker_id`.
    pub(super) fn report(&mut self, id: &str, checker_id: &str, now: Moment) -> HealthReport {
        self.reported = now;
        self.told = true;
        let run = self.view.liveness();
        HealthReport {
            backend_id: id.to_owned(),
            state: wire(self.verdict(Role::Liveness, now)).into(),
            checked_at_ns: self.checked_at_ns,
            consecutive_pass: run.consecutive_passes(),
            consecutive_fail: run.consecutive_failures(),
            probe_latency_us: self.latency.as_micros().to_string(),
            checker_id: checker_id.to_owned(),
            readiness: match self.readiness {
                Some(_) => wire(self.verdict(Role::Readiness, now)).into(),
                None => Health::Unknown.into(),
            },
            detail: self.detail(),
        }
    }

    fn detail(&self) -> String {
        let liveness = ("liveness", Some(&self.liveness));
        let readiness = ("readiness", self.readiness.as_ref());
        let mut text = String::new();
        for (name, question) in [liveness, readiness] {
            let detail = question.map(|question| question.detail.as_str()).unwrap_or_default();
            if !detail.is_empty() {
                let separator = if text.is_empty() { "" } else { "; " };
                text.push_str(&format!("{separator}{name}: {detail}"));
            }
        }
        text
    }
}

impl Question {
    fn new(probe: &Result<Arc<Probe>, String>) -> Self {
        let (probe, detail) = match probe {
            Ok(probe) => (Some(Arc::clone(probe)), String::new()),
            Err(why) => (None, shortened(&format!("not probed: {why}"))),
        };
        Self { probe, due: None, asking: None, waiting: None, answered: None, detail }
    }
}

/// Without an answer for so long there is no verdict any more.
fn silence(target: &Target) -> Duration {
    let settings = &target.settings;
    let jittered = settings.interval_ms * u64::from(100 + settings.jitter_percent) / 100;
    Duration::from_millis(3 * jittered + settings.timeout_ms).max(SILENCE)
}

fn wire(verdict: Verdict) -> Health {
    match verdict {
        Verdict::Up => Health::Healthy,
        Verdict::Down => Health::Unhealthy,
        Verdict::Unknown => Health::Unknown,
    }
}

fn shortened(detail: &str) -> String {
    detail.chars().take(LONGEST_DETAIL).collect()
}
