//! One checker's view of one backend: how many probes make a verdict.
//!
//! A single lost packet must not eject, and a single lucky answer must not admit. So a verdict
//! changes only after a run of equal outcomes: 3 failures down, 2 passes up by default. Liveness
//! (does the process answer at all?) and readiness (does it want load?) are two runs of their
//! own: liveness ejects, readiness admits. What the two mean together is decided where the
//! quorum is ([`crate::pool`]), not in the checker.

use crate::{Millis, SettingsError};

/// How a pool's backends are probed. All times in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeSettings {
    /// From the start of one probe to the start of the next.
    pub interval_ms: Millis,
    /// Each interval is longer by a random share of up to this, in percent, so that checkers do
    /// not fall into step.
    pub jitter_percent: u32,
    /// A probe without an answer for so long has failed.
    pub timeout_ms: Millis,
    /// So many failures in a row make the verdict [`Verdict::Down`].
    pub failures_down: u32,
    /// So many passes in a row make the verdict [`Verdict::Up`].
    pub passes_up: u32,
}

/// What one probe found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Answered as expected, in time.
    Pass,
    /// Refused, timed out, or answered something else.
    Fail,
}

/// What a run of probes says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It answers.
    Up,
    /// It does not.
    Down,
    /// Too few probes so far.
    Unknown,
}

/// A run of equal outcomes, and the verdict it has led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    verdict: Verdict,
    passes: u32,
    failures: u32,
}

/// One checker's view of one backend.
#[derive(Clone, Debug)]
pub struct CheckerView {
    liveness: Run,
    readiness: Option<Run>,
}

impl ProbeSettings {
    /// The longest time from a backend's death to the verdict of a checker that probes on time,
    /// in milliseconds: the death falls just after a probe, every interval has full jitter, and
    /// the last failure is a timeout.
    #[must_use]
    pub fn slowest_verdict_ms(&self) -> Millis {
        let jitter = self.interval_ms.saturating_mul(self.jitter_percent.into()) / 100;
        let interval = self.interval_ms.saturating_add(jitter);
        interval.saturating_mul(self.failures_down.into()).saturating_add(self.timeout_ms)
    }

    /// # Errors
    /// When a value is 0, jitter is above 100 %, or a probe may outlast its interval.
    pub fn validate(&self) -> Result<(), SettingsError> {
        let rule = SettingsError::unless;
        rule(self.interval_ms >= 1, "probe.interval_ms", "at least 1")?;
        rule(self.jitter_percent <= 100, "probe.jitter_percent", "at most 100")?;
        rule(
            (1..=self.interval_ms).contains(&self.timeout_ms),
            "probe.timeout_ms",
            "from 1 to probe.interval_ms: one probe ends before the next begins",
        )?;
        rule(self.failures_down >= 1, "probe.failures_down", "at least 1")?;
        rule(self.passes_up >= 1, "probe.passes_up", "at least 1")
    }
}

impl Default for ProbeSettings {
    fn default() -> Self {
        Self {
            interval_ms: 1_000,
            jitter_percent: 20,
            timeout_ms: 1_000,
            failures_down: 3,
            passes_up: 2,
        }
    }
}

impl Run {
    /// No probe yet.
    #[must_use]
    pub fn new() -> Self {
        Self { verdict: Verdict::Unknown, passes: 0, failures: 0 }
    }

    /// Takes one probe's outcome. True when the verdict changed.
    pub fn probe(&mut self, settings: &ProbeSettings, outcome: Outcome) -> bool {
        match outcome {
            Outcome::Pass => {
                self.passes = self.passes.saturating_add(1);
                self.failures = 0;
            }
            Outcome::Fail => {
                self.failures = self.failures.saturating_add(1);
                self.passes = 0;
            }
        }
        let before = self.verdict;
        self.verdict = match before {
            // It was down, or is new, and has now answered often enough.
            Verdict::Down | Verdict::Unknown if self.passes >= settings.passes_up => Verdict::Up,
            // It was up, or is new, and has now failed often enough.
            Verdict::Up | Verdict::Unknown if self.failures >= settings.failures_down => {
                Verdict::Down
            }
            // A run too short to change anybody's mind.
            verdict => verdict,
        };
        before != self.verdict
    }

    /// The verdict so far.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// Passes in a row up to now; 0 after a failure.
    #[must_use]
    pub fn consecutive_passes(&self) -> u32 {
        self.passes
    }

    /// Failures in a row up to now; 0 after a pass.
    #[must_use]
    pub fn consecutive_failures(&self) -> u32 {
        self.failures
    }
}

impl Default for Run {
    fn default() -> Self {
        Self::new()
    }
}

impl CheckerView {
    /// No probe yet. `probes_readiness` is false for a backend without a readiness probe: it
    /// then counts as always ready.
    #[must_use]
    pub fn new(probes_readiness: bool) -> Self {
        Self { liveness: Run::new(), readiness: probes_readiness.then(Run::new) }
    }

    /// Takes a liveness probe's outcome. True when a verdict changed: report at once.
    pub fn liveness_probe(&mut self, settings: &ProbeSettings, outcome: Outcome) -> bool {
        self.liveness.probe(settings, outcome)
    }

    /// Takes a readiness probe's outcome. True when a verdict changed: report at once. Ignored
    /// for a backend without a readiness probe.
    pub fn readiness_probe(&mut self, settings: &ProbeSettings, outcome: Outcome) -> bool {
        self.readiness.as_mut().is_some_and(|run| run.probe(settings, outcome))
    }

    /// The run of liveness probes.
    #[must_use]
    pub fn liveness(&self) -> &Run {
        &self.liveness
    }

    /// The verdict on readiness.
    #[must_use]
    pub fn readiness(&self) -> Verdict {
        self.readiness.map_or(Verdict::Up, |run| run.verdict)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The verdict after a word of `p` (pass) and `f` (fail).
    fn after(word: &str) -> Verdict {
        let mut run = Run::new();
        for letter in word.chars() {
            let outcome = if letter == 'p' { Outcome::Pass } else { Outcome::Fail };
            run.probe(&ProbeSettings::default(), outcome);
        }
        run.verdict()
    }

    #[test]
    fn three_failures_down_two_passes_up() {
        for word in ["", "p", "ff", "fpf", "pp", "ppff", "fff", "ppfff", "fffp", "fffpp", "ppffpff"]
        {
            let expected = match word {
                "" | "p" | "ff" | "fpf" => Verdict::Unknown, // too short a run to know
                "pp" | "ppff" | "ppffpff" => Verdict::Up,    // a blip, or two
                "fff" | "ppfff" | "fffp" => Verdict::Down,   // dead, or one lucky answer
                "fffpp" => Verdict::Up,                      // back again
                _ => unreachable!("every word has an arm"),
            };
            assert_eq!(after(word), expected, "{word:?}");
        }
    }

    #[test]
    fn liveness_and_readiness_are_runs_of_their_own() {
        let settings = ProbeSettings::default();
        let mut view = CheckerView::new(true);
        for _ in 0..3 {
            view.liveness_probe(&settings, Outcome::Pass);
            view.readiness_probe(&settings, Outcome::Fail);
        }
        assert_eq!((view.liveness().verdict(), view.readiness()), (Verdict::Up, Verdict::Down));
        assert_eq!(view.liveness().consecutive_passes(), 3);
    }

    #[test]
    fn without_a_readiness_probe_a_backend_counts_as_ready() {
        let mut view = CheckerView::new(false);
        assert!(!view.readiness_probe(&ProbeSettings::default(), Outcome::Fail));
        assert_eq!(view.readiness(), Verdict::Up);
    }

    #[test]
    fn the_slowest_verdict_at_the_defaults_is_under_five_seconds() {
        assert_eq!(ProbeSettings::default().slowest_verdict_ms(), 4_600);
    }

    #[test]
    fn a_probe_may_not_outlast_its_interval() {
        let settings = ProbeSettings { timeout_ms: 1_001, ..ProbeSettings::default() };
        let error = settings.validate().expect_err("refused").to_string();
        assert!(error.starts_with("probe.timeout_ms"), "{error}");
    }

    proptest! {
        #[test]
        fn the_verdict_is_that_of_the_last_long_enough_run(
            passes in prop::collection::vec(any::<bool>(), 0..80),
            failures_down in 1u32..5,
            passes_up in 1u32..5,
        ) {
            let settings = ProbeSettings { failures_down, passes_up, ..ProbeSettings::default() };
            let mut run = Run::new();
            let mut oracle = Verdict::Unknown;
            for end in 1..=passes.len() {
                let outcome = if passes[end - 1] { Outcome::Pass } else { Outcome::Fail };
                let changed = run.probe(&settings, outcome);
                let tail = |n: u32, pass: bool| {
                    let n = n as usize;
                    end >= n && passes[end - n..end].iter().all(|&p| p == pass)
                };
                let before = oracle;
                if tail(passes_up, true) {
                    oracle = Verdict::Up;
                } else if tail(failures_down, false) {
                    oracle = Verdict::Down;
                }
                prop_assert_eq!(run.verdict(), oracle);
                prop_assert_eq!(changed, before != oracle);
            }
        }
    }
}
