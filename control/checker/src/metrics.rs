//! What the checker counts, in the Prometheus text format.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use crate::fleet::Role;
use crate::histogram::{BOUNDS_US, Histogram};
use crate::probe::{Finding, Kind};
use crate::shared::{Link, Shared};

/// Counters that the probes move.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    /// By kind, role and finding.
    probes: [[[AtomicU64; 4]; 2]; 4],
    lateness: Histogram,
    duration: Histogram,
    in_flight: AtomicUsize,
}

impl Metrics {
    /// A probe has started so much later than planned.
    pub(crate) fn started(&self, late: Duration) {
        self.lateness.record(late);
    }

    /// A probe has ended.
    pub(crate) fn ended(&self, kind: Kind, role: Role, finding: &Finding, took: Duration) {
        let by_role = self.probes.get(kind as usize).and_then(|roles| roles.get(role as usize));
        if let Some(count) = by_role.and_then(|findings| findings.get(finding.index())) {
            count.fetch_add(1, Relaxed);
        }
        self.duration.record(took);
    }

    /// So many probes are under way.
    pub(crate) fn in_flight(&self, probes: usize) {
        self.in_flight.store(probes, Relaxed);
    }
}

/// All metrics, as text.
pub(crate) fn render(shared: &Shared) -> String {
    let mut text = Text::default();
    probes(&mut text, shared);
    let metrics = &shared.metrics;
    text.histogram(
        "weir_checker_probe_lateness_seconds",
        "How much later than planned probes started.",
        &metrics.lateness,
    );
    text.one(
        "weir_checker_probe_lateness_max_seconds",
        "gauge",
        "The latest start of a probe since the checker runs.",
        metrics.lateness.largest().as_secs_f64(),
    );
    text.histogram(
        "weir_checker_probe_duration_seconds",
        "How long probes took, up to their timeout.",
        &metrics.duration,
    );
    let in_flight = metrics.in_flight.load(Relaxed);
    text.one("weir_checker_probes_in_flight", "gauge", "Probes under way.", in_flight as f64);
    text.one(
        "weir_checker_probes_in_flight_limit",
        "gauge",
        "Most probes under way at once.",
        shared.max_in_flight as f64,
    );
    state(&mut text, shared);
    text.0
}

fn probes(text: &mut Text, shared: &Shared) {
    let name = "weir_checker_probes_total";
    text.head(name, "counter", "Probes, by kind, by question and by what they found.");
    for (kind, roles) in Kind::ALL.iter().zip(&shared.metrics.probes) {
        for (role, findings) in ["liveness", "readiness"].iter().zip(roles) {
            for (finding, count) in Finding::NAMES.iter().zip(findings) {
                let labels =
                    format!("kind=\"{}\",role=\"{role}\",result=\"{finding}\"", kind.name());
                text.sample(name, &labels, count.load(Relaxed) as f64);
            }
        }
    }
}

fn state(text: &mut Text, shared: &Shared) {
    let state = shared.lock();
    let now = shared.now();
    let (backends, unusable) = state.fleet.sizes();
    text.one("weir_checker_assignments", "gauge", "Backends to probe.", backends as f64);
    text.one(
        "weir_checker_assignments_unusable",
        "gauge",
        "Backends with a probe that this checker cannot make, reported as UNKNOWN.",
        unusable as f64,
    );
    text.one(
        "weir_checker_assignments_version",
        "gauge",
        "Version of the list of assignments, 0 before the first.",
        state.version.unwrap_or(0) as f64,
    );
    let name = "weir_checker_verdicts";
    text.head(name, "gauge", "Backends by verdict on their liveness.");
    for (verdict, count) in ["up", "down", "unknown"].iter().zip(state.fleet.verdicts(now)) {
        text.sample(name, &format!("verdict=\"{verdict}\""), count as f64);
    }
    text.one(
        "weir_checker_respread_total",
        "counter",
        "Probes left out after a stall of more than an interval, and spread anew.",
        state.fleet.respread as f64,
    );
    let links: [(&str, &Link); 2] =
        [("assignments", &state.assignments), ("reports", &state.reports)];
    let name = "weir_checker_controller_connected";
    text.head(name, "gauge", "1: the stream to the controller is open.");
    for (stream, link) in links {
        text.sample(
            name,
            &format!("stream=\"{stream}\""),
            f64::from(u8::from(link.peer.is_some())),
        );
    }
    let name = "weir_checker_controller_streams_total";
    text.head(name, "counter", "Streams to controllers that were opened.");
    for (stream, link) in links {
        text.sample(name, &format!("stream=\"{stream}\""), link.opened as f64);
    }
    let counts = state.outbox.counts;
    let name = "weir_checker_reports_total";
    text.head(name, "counter", "Reports to the controller, by what became of them.");
    for (event, count) in [
        ("sent", counts.sent),
        ("acknowledged", counts.acknowledged),
        ("refused", counts.refused),
        ("superseded", counts.superseded),
        ("lost", counts.lost),
    ] {
        text.sample(name, &format!("event=\"{event}\""), count as f64);
    }
    let name = "weir_checker_reports";
    text.head(name, "gauge", "Reports that wait to be sent, or to be acknowledged.");
    text.sample(name, "state=\"waiting\"", state.outbox.waiting() as f64);
    text.sample(name, "state=\"unacknowledged\"", state.outbox.unacknowledged() as f64);
}

/// The text so far. Names, labels and helps are ours, and need no escapes.
#[derive(Default)]
struct Text(String);

impl Text {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &str, value: f64) {
        let _ = match labels {
            "" => writeln!(self.0, "{name} {value}"),
            labels => writeln!(self.0, "{name}{{{labels}}} {value}"),
        };
    }

    fn one(&mut self, name: &str, kind: &str, help: &str, value: f64) {
        self.head(name, kind, help);
        self.sample(name, "", value);
    }

    fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) {
        self.head(name, "histogram", help);
        let counts = histogram.cumulative();
        let bucket = format!("{name}_bucket");
        for (bound, count) in BOUNDS_US.iter().zip(&counts) {
            let seconds = Duration::from_micros(*bound).as_secs_f64();
            self.sample(&bucket, &format!("le=\"{seconds}\""), *count as f64);
        }
        let all = counts.last().copied().unwrap_or(0) as f64;
        self.sample(&bucket, "le=\"+Inf\"", all);
        self.sample(&format!("{name}_sum"), "", histogram.sum().as_secs_f64());
        self.sample(&format!("{name}_count"), "", all);
    }
}
