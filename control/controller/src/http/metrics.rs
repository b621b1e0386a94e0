//! What the controller counts. `docs/controller.md` lists it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use health::pool::Freeze;
use tokio::sync::Mutex;

use crate::fleet::Numbers;
use crate::office::Standing;
use crate::picture::Picture;

/// How long a look at the picture is good for.
const FRESH: Duration = Duration::from_secs(1);

/// Counters; they live as long as the controller.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    terms: AtomicU64,
    builds: Sum,
    writes: Sum,
    failed_writes: AtomicU64,
    watchers: AtomicU64,
    accepted_reports: AtomicU64,
    refused_reports: AtomicU64,
    full_windows: AtomicU64,
}

/// Durations, counted and summed up.
#[derive(Debug, Default)]
struct Sum {
    count: AtomicU64,
    microseconds: AtomicU64,
}

impl Metrics {
    /// A table was built.
    pub(crate) fn built(&self, took: Duration) {
        self.builds.add(took);
    }

    /// The registry has answered a write, or has not.
    pub(crate) fn registry_took(&self, took: Duration, done: bool) {
        self.writes.add(took);
        if !done {
            self.failed_writes.fetch_add(1, Relaxed);
        }
    }

    /// A term began.
    pub(crate) fn term_began(&self) {
        self.terms.fetch_add(1, Relaxed);
    }

    /// A checker's report was taken into account, or was not.
    pub(crate) fn reported(&self, accepted: bool) {
        match accepted {
            true => self.accepted_reports.fetch_add(1, Relaxed),
            false => self.refused_reports.fetch_add(1, Relaxed),
        };
    }

    fn reports(&self, accepted: bool) -> u64 {
        if accepted { &self.accepted_reports } else { &self.refused_reports }.load(Relaxed)
    }

    /// A stream of health reports ended because its window was full.
    pub(crate) fn window_full(&self) {
        self.full_windows.fetch_add(1, Relaxed);
    }

    /// A stream of snapshots began, or ended.
    pub(crate) fn watching(&self, began: bool) {
        match began {
            true => self.watchers.fetch_add(1, Relaxed),
            false => self.watchers.fetch_sub(1, Relaxed),
        };
    }
}

impl Sum {
    fn add(&self, took: Duration) {
        self.count.fetch_add(1, Relaxed);
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.microseconds.fetch_add(micros, Relaxed);
    }
}

/// What the picture shows.
#[derive(Clone, Debug, Default)]
struct Seen {
    revision: u64,
    pools: usize,
    vips: usize,
    panicking: usize,
    frozen: usize,
    backends: BTreeMap<&'static str, usize>,
    fleet: Numbers,
}

/// The last look at the picture, so that scrapes, which need no name, cost the desk one look a
/// second and no more.
#[derive(Debug, Default)]
pub(super) struct Glance(Mutex<Option<(u64, Instant, Seen)>>);

impl Glance {
    /// What the picture of this term shows to `look`, or showed up to [`FRESH`] before `now`. Who
    /// asks meanwhile waits for the same look.
    async fn at(&self, term: u64, now: Instant, look: impl Future<Output = Seen>) -> Seen {
        let mut last = self.0.lock().await;
        if let Some((of, at, seen)) = &*last
            && *of == term
            && now.saturating_duration_since(*at) < FRESH
        {
            return seen.clone();
        }
        let seen = look.await;
        *last = Some((term, now, seen.clone()));
        seen
    }
}

pub(super) async fn render(
    metrics: &Metrics,
    standing: Standing,
    glance: &Glance,
    now: Instant,
) -> String {
    let (leader, term, seen) = match standing {
        Standing::Leading(office) => {
            let look = office.desk.see(|picture| Seen::of(picture));
            let look = async { look.await.unwrap_or_default() };
            (1, office.epoch, glance.at(office.epoch, now, look).await)
        }
        Standing::Following { .. } => (0, 0, Seen::default()),
    };
    let mut text = String::new();
    let mut put = |name: &str, kind: &str, help: &str, samples: &[(String, String)]| {
        // Writing to a string does not fail.
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, value) in samples {
            let _ = writeln!(text, "{name}{labels} {value}");
        }
    };
    let one = |value: u64| vec![(String::new(), value.to_string())];
    let many = |value: usize| vec![(String::new(), value.to_string())];
    put("weir_controller_leader", "gauge", "1 while this controller leads.", &one(leader));
    put("weir_controller_term", "gauge", "Epoch of the term under way; 0 in none.", &one(term));
    let terms = metrics.terms.load(Relaxed);
    put("weir_controller_terms_total", "counter", "Terms that this controller led.", &one(terms));
    let help = "Revision of the registry that the picture holds.";
    put("weir_controller_registry_revision", "gauge", help, &one(seen.revision));
    put("weir_controller_pools", "gauge", "Pools.", &many(seen.pools));
    put("weir_controller_vips", "gauge", "VIPs bound to pools.", &many(seen.vips));
    let help = "Pools served as if all were healthy, because too many are not.";
    put("weir_controller_pools_panicking", "gauge", help, &many(seen.panicking));
    let help = "Pools that stay as last known, because checkers are silent.";
    put("weir_controller_pools_frozen", "gauge", help, &many(seen.frozen));
    let states: Vec<_> = seen
        .backends
        .iter()
        .map(|(state, count)| (format!("{{state=\"{state}\"}}"), count.to_string()))
        .collect();
    put("weir_controller_backends", "gauge", "Backends, by state.", &states);
    let Numbers { nodes, checkers, disagreements } = seen.fleet;
    put("weir_controller_nodes", "gauge", "Nodes that report.", &many(nodes));
    let help = "Checkers with a stream of assignments or reports.";
    put("weir_controller_checkers", "gauge", help, &many(checkers));
    let help = "Versions of pools at which nodes run different tables; never anything but 0.";
    put("weir_controller_node_disagreements", "gauge", help, &many(disagreements));
    let reports = |accepted| (format!("{{accepted=\"{accepted}\"}}"), metrics.reports(accepted));
    let reports: Vec<_> =
        [true, false].map(reports).map(|(label, value)| (label, value.to_string())).into();
    let help = "Health reports of checkers.";
    put("weir_controller_health_reports_total", "counter", help, &reports);
    let help = "Streams of health reports that ended because their window was full.";
    let full = metrics.full_windows.load(Relaxed);
    put("weir_controller_health_windows_full_total", "counter", help, &one(full));
    let help = "Streams of snapshots.";
    put("weir_controller_watchers", "gauge", help, &one(metrics.watchers.load(Relaxed)));
    let sums = [
        ("weir_controller_table_build_seconds", "Tables built for digests.", &metrics.builds),
        ("weir_controller_registry_write_seconds", "Writes to the registry.", &metrics.writes),
    ];
    for (name, help, sum) in sums {
        let seconds = sum.microseconds.load(Relaxed) as f64 / 1e6;
        let count = sum.count.load(Relaxed);
        let _ = writeln!(
            text,
            "# HELP {name} {help}\n# TYPE {name} summary\n{name}_sum {seconds}\n{name}_count {count}"
        );
    }
    let failed = metrics.failed_writes.load(Relaxed);
    let _ = writeln!(
        text,
        "# HELP weir_controller_registry_failures_total Writes that failed or had no answer.\n\
         # TYPE weir_controller_registry_failures_total counter\n\
         weir_controller_registry_failures_total {failed}"
    );
    text
}

impl Seen {
    fn of(picture: &Picture) -> Self {
        let names = ["pending", "healthy", "draining", "unhealthy", "evicted"];
        let mut backends: BTreeMap<&'static str, usize> =
            names.into_iter().map(|name| (name, 0)).collect();
        for found in picture.rows.backends.values() {
            use registry::rows::BackendState::{Draining, Evicted, Healthy, Pending, Unhealthy};
            let name = match found.row.state {
                Pending => "pending",
                Healthy => "healthy",
                Draining => "draining",
                Unhealthy => "unhealthy",
                Evicted => "evicted",
            };
            *backends.entry(name).or_default() += 1;
        }
        let pools = || picture.health.values();
        Self {
            revision: picture.rows.revision,
            pools: picture.rows.pools.len(),
            vips: picture.rows.vips.len(),
            panicking: pools().filter(|pool| pool.in_panic()).count(),
            frozen: pools().filter(|pool| pool.freeze() == Freeze::All).count(),
            backends,
            fleet: picture.fleet.numbers(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_desk_is_looked_at_once_a_second_and_anew_in_a_new_term() {
        let (glance, start) = (Glance::default(), Instant::now());
        let looks = AtomicU64::new(0);
        let look = async || Seen { revision: looks.fetch_add(1, Relaxed) + 1, ..Seen::default() };
        for (term, milliseconds, expected) in
            [(7, 0, 1), (7, 999, 1), (7, 1000, 2), (7, 500, 2), (8, 1001, 3), (8, 1500, 3)]
        {
            let now = start + Duration::from_millis(milliseconds);
            let seen = glance.at(term, now, look()).await;
            assert_eq!(seen.revision, expected, "{term} {milliseconds}");
        }
    }
}
