//! Changes in a fleet of full size: how long from the operator's call until every node has it in
//! force.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::Serialize;
use tokio::time::{sleep, timeout};

use super::assembly::{Fleet, Places, PoolPlan, Size, address, say};
use super::figures::Distribution;
use super::metrics::{ProbeFigures, Probes, Usage, load, memory_mib};
use super::observer::Wanted;
use super::operator::{Change, Member};

const POOL: &str = "web";
/// The fleet is looked at for so long without any change.
const QUIET: Duration = Duration::from_secs(10);
/// Rounds of [`ROUND`] changes, one after another.
const ROUNDS: usize = 40;
/// Of each: four weights, a drain, its undoing, a registration, a removal.
const ROUND: usize = 8;
/// Bursts, and changes of each, all called at once.
const BURSTS: usize = 10;
const BURST: usize = 25;
/// The longest that a change is waited for.
const PATIENCE: Duration = Duration::from_secs(30);
/// No further changes are begun after so long.
const LONGEST: Duration = Duration::from_secs(150);
/// Fewer are too few for a p99.
const LEAST: usize = 500;
/// The bound of SPEC section 6 on the 99th percentile.
const BOUND_MS: f64 = 3000.0;

/// What came out.
#[derive(Debug, Serialize)]
struct Report {
    applied_p50_ms: f64,
    applied_p99_ms: f64,
    applied_max_ms: f64,
    changes: usize,
    backends: usize,
    nodes: usize,
    checkers: usize,
    #[serde(flatten)]
    probes: ProbeFigures,
    controller_rss_mib: f64,
    controller_rss_max_mib: f64,
    /// While changes were made one after another, or in bursts.
    controller_cpu_percent: f64,
    controller_cpu_quiet_percent: f64,
    /// All of them together.
    checkers_cpu_percent: f64,
    /// This process: the nodes, the backends, who looks.
    driver_cpu_percent: f64,
    driver_cpu_quiet_percent: f64,
    changes_per_s: f64,
    /// Distributions by what is measured: see docs/benchmarks.md.
    distributions: BTreeMap<String, Distribution>,
    cores: usize,
    load_before: f64,
    load_after: f64,
}

/// One change, in times since its call.
#[derive(Clone, Copy, Debug)]
struct Measured {
    kind: &'static str,
    called: Instant,
    answered: Instant,
    published: Instant,
    acknowledged: Instant,
}

/// Puts up the fleet, makes changes, prints a table; returns the report as JSON, and whether the
/// bound holds.
///
/// # Errors
/// When the fleet does not come up, a change is refused or takes half a minute, or the nodes do
/// not agree at the end.
pub async fn run(places: &Places, size: &Size) -> Result<(serde_json::Value, bool)> {
    let load_before = load();
    let addresses = (0..size.backends + ROUNDS).map(|number| address(0, number));
    let addresses = addresses.collect::<Result<Vec<Ipv4Addr>>>()?;
    let member = |number: usize, port: u16| -> Result<Member> {
        let id = format!("backend-{number:04}");
        Ok(Member { id, address: address(0, number)?, port, readiness: false })
    };
    let pools = |port: u16| {
        let members = (0..size.backends).map(|number| member(number, port));
        let vip = Ipv4Addr::new(203, 0, 113, 1);
        Ok(vec![PoolPlan { id: POOL, vip, members: members.collect::<Result<_>>()? }])
    };
    let fleet = Fleet::start(places, size, pools, &addresses).await?;
    let mut processes = fleet.ids();
    processes.push(std::process::id());

    say(&format!("looking at it without changes for {} s", QUIET.as_secs()));
    let quiet = Usage::now(&processes)?;
    sleep(QUIET).await;
    let began = Usage::now(&processes)?;
    let quiet = quiet.percent_until(&began);

    say(&format!("making {} changes, one after another", ROUNDS * ROUND));
    let before = Probes::now(&fleet.processes.addresses).await?;
    let start = Instant::now();
    let mut sequence = Vec::new();
    for round in 0..ROUNDS {
        if start.elapsed() >= LONGEST {
            break;
        }
        let port = fleet.backends.port();
        let new = member(size.backends + round, port)?;
        for (change, wanted) in changes_of(round, size.backends, new) {
            sequence.push(one(&fleet, change, wanted).await?);
        }
    }
    say(&format!("making {BURSTS} bursts of {BURST} changes at once"));
    let mut bursts = Vec::new();
    for burst in 0..BURSTS {
        let calls = (0..BURST).map(|number| {
            let which = ROUNDS + (burst * BURST + number) % (size.backends - ROUNDS);
            let weight = 200 + u32::try_from(burst).unwrap_or(0);
            let change = Change::Weight(format!("backend-{which:04}"), weight);
            one(&fleet, change, Wanted::Weight(weight))
        });
        bursts.extend(all(calls).await?);
    }
    let took = start.elapsed();
    let ended = Usage::now(&processes)?;
    let after = Probes::now(&fleet.processes.addresses).await?;
    let used = began.percent_until(&ended);
    fleet.agrees(&[POOL]).await?;
    let (controller_rss_mib, controller_rss_max_mib) = memory_mib(fleet.processes.controller.id())?;

    let changes: Vec<Measured> = sequence.iter().chain(&bursts).copied().collect();
    if changes.len() < LEAST {
        bail!("{} changes in {took:?}: too few (expected {LEAST})", changes.len());
    }
    let applied = of(&changes, Measured::applied);
    let cpu = |percents: &[f64], from: usize, to: usize| -> f64 {
        let sum: f64 = percents.iter().skip(from).take(to - from).sum();
        (sum * 10.0).round() / 10.0
    };
    let last = processes.len() - 1;
    let report = Report {
        applied_p50_ms: applied.p50_ms,
        applied_p99_ms: applied.p99_ms,
        applied_max_ms: applied.max_ms,
        changes: changes.len(),
        backends: size.backends,
        nodes: size.nodes,
        checkers: size.checkers,
        probes: before.until(&after),
        controller_rss_mib,
        controller_rss_max_mib,
        controller_cpu_percent: cpu(&used, 0, 1),
        controller_cpu_quiet_percent: cpu(&quiet, 0, 1),
        checkers_cpu_percent: cpu(&used, 1, last),
        driver_cpu_percent: cpu(&used, last, last + 1),
        driver_cpu_quiet_percent: cpu(&quiet, last, last + 1),
        changes_per_s: (changes.len() as f64 / took.as_secs_f64() * 10.0).round() / 10.0,
        distributions: distributions(&changes, &sequence, &bursts),
        cores: std::thread::available_parallelism().map_or(0, usize::from),
        load_before,
        load_after: load(),
    };
    print(&report);
    Ok((serde_json::to_value(&report)?, report.applied_p99_ms <= BOUND_MS))
}

/// The changes of a round, each with what every node is to have then.
fn changes_of(round: usize, backends: usize, new: Member) -> Vec<(Change, Wanted)> {
    let id = |number: usize| format!("backend-{:04}", number % backends);
    let weight = |number: usize, weight: u32| {
        (Change::Weight(id(ROUNDS + number), weight), Wanted::Weight(weight))
    };
    let drained = id(backends - 1 - round);
    let mut changes: Vec<(Change, Wanted)> =
        [0, 1, 2, 3].map(|number| weight(4 * round + number, 50)).into();
    changes.push((Change::Drain(drained.clone()), Wanted::Out));
    changes.push((Change::Undrain(drained), Wanted::Eligible));
    changes.push((Change::Register(new), Wanted::Known));
    changes.push((Change::Deregister(id(round)), Wanted::Evicted));
    changes
}

/// Makes a change, and waits until every node has it, and has said so.
async fn one(fleet: &Fleet, change: Change, wanted: Wanted) -> Result<Measured> {
    let (kind, backend) = match &change {
        Change::Weight(id, _) => ("weight", id),
        Change::Drain(id) => ("drain", id),
        Change::Undrain(id) => ("undo of a drain", id),
        Change::Register(member) => ("registration", &member.id),
        Change::Deregister(id) => ("removal", id),
    };
    let told = fleet.observer.expect(backend, wanted);
    let called = Instant::now();
    fleet.operator.change(POOL, &change).await.with_context(|| format!("{change:?}"))?;
    let answered = Instant::now();
    let applied = timeout(PATIENCE, told).await;
    let applied = applied.with_context(|| format!("{change:?}: not applied in {PATIENCE:?}"))??;
    let (published, acknowledged) = (applied.published, applied.acknowledged);
    Ok(Measured { kind, called, answered, published, acknowledged })
}

/// All at the same time.
async fn all<F: Future<Output = Result<Measured>>>(
    calls: impl Iterator<Item = F>,
) -> Result<Vec<Measured>> {
    let mut waiting: Vec<_> = calls.map(Box::pin).collect();
    let mut done = Vec::with_capacity(waiting.len());
    while !waiting.is_empty() {
        let next = std::future::poll_fn(|context| {
            for (index, call) in waiting.iter_mut().enumerate() {
                if let std::task::Poll::Ready(result) = call.as_mut().poll(context) {
                    return std::task::Poll::Ready((index, result));
                }
            }
            std::task::Poll::Pending
        });
        let (index, result) = next.await;
        drop(waiting.swap_remove(index));
        done.push(result?);
    }
    Ok(done)
}

impl Measured {
    fn applied(&self) -> Duration {
        self.published.duration_since(self.called)
    }

    fn applied_after_answer(&self) -> Duration {
        self.published.saturating_duration_since(self.answered)
    }

    fn reported(&self) -> Duration {
        self.acknowledged.duration_since(self.called)
    }

    fn answered(&self) -> Duration {
        self.answered.duration_since(self.called)
    }
}

fn of(changes: &[Measured], measure: impl Fn(&Measured) -> Duration) -> Distribution {
    Distribution::of(changes.iter().map(measure))
}

fn distributions(
    changes: &[Measured],
    sequence: &[Measured],
    bursts: &[Measured],
) -> BTreeMap<String, Distribution> {
    let mut all = BTreeMap::from([
        ("applied: all".to_owned(), of(changes, Measured::applied)),
        ("applied: one after another".to_owned(), of(sequence, Measured::applied)),
        (format!("applied: {BURST} at once"), of(bursts, Measured::applied)),
        ("call answered".to_owned(), of(changes, Measured::answered)),
        ("from the answer to applied".to_owned(), of(changes, Measured::applied_after_answer)),
        ("applied and reported".to_owned(), of(changes, Measured::reported)),
    ]);
    let mut kinds: BTreeMap<&str, Vec<Measured>> = BTreeMap::new();
    for change in sequence {
        kinds.entry(change.kind).or_default().push(*change);
    }
    for (kind, changes) in kinds {
        all.insert(format!("applied, one by one: {kind}"), of(&changes, Measured::applied));
    }
    all
}

fn print(report: &Report) {
    let Report { backends, nodes, checkers, changes, .. } = report;
    println!(
        "{backends} backends, {nodes} nodes, {checkers} checkers, {changes} changes \
         ({} a second) on {} cores, load {} before and {} after\n",
        report.changes_per_s, report.cores, report.load_before, report.load_after
    );
    println!("{}", Distribution::head("milliseconds from the call"));
    for (what, distribution) in &report.distributions {
        println!("{}", distribution.line(what));
    }
    let probes = &report.probes;
    println!(
        "\nprobes: {} a second; late by at most {} ms (p50), {} ms (p99), {} ms (all)",
        probes.probes_per_s,
        probes.probe_late_p50_ms,
        probes.probe_late_p99_ms,
        probes.probe_late_max_ms
    );
    println!(
        "controller: {} MiB ({} at most), {} % of a core under changes, {} % without",
        report.controller_rss_mib,
        report.controller_rss_max_mib,
        report.controller_cpu_percent,
        report.controller_cpu_quiet_percent
    );
    println!(
        "checkers together: {} % of a core; the bench with its {nodes} nodes: {} %, {} % without \
         changes",
        report.checkers_cpu_percent, report.driver_cpu_percent, report.driver_cpu_quiet_percent
    );
    println!("\np99 of all: {} ms (bound {BOUND_MS} ms)", report.applied_p99_ms);
}
