//! Tables exchanged under load, side by side with none exchanged, in one run.
//!
//! The worker forwards all the time; slices in which the control thread, on the other core, builds
//! and publishes one table after another alternate with slices in which it does not. Both meet the
//! same cache, clock and neighbours on the machine, so what differs is what the exchanges cost:
//! packets for each second on the core, and how long the worker was away from its port.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use config::Config;
use serde::Serialize;

use crate::capture;
use crate::gaps::{GapFigures, Gaps};
use crate::sampled::{DISTANCE, Sampled};
use crate::scenario::{self, Case};
use crate::verify;
use crate::weir::{self, Reading, Running};

/// The phases, as [`Gaps`] counts them.
const STEADY: usize = 0;
const SWAPPING: usize = 1;
/// Between the phases: nothing is counted.
const BETWEEN: usize = 2;
/// How long one slice takes.
const SLICE: Duration = Duration::from_millis(500);
/// Pause between two slices, in which an exchange that is under way comes to its end.
const PAUSE: Duration = Duration::from_millis(50);

/// What a run found out.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Packets forwarded in slices with exchanges.
    pub packets: u64,
    /// Of them, those whose flow had an entry.
    pub hits: u64,
    /// Those whose flow had none.
    pub misses: u64,
    /// Packets dropped in the whole run.
    pub drops: u64,
    /// Packets of the whole run that came in and went nowhere.
    pub lost: u64,
    /// Tables that were put in force.
    pub swaps: u64,
    /// Milliseconds of the longest build and publication.
    pub longest_swap_ms: f64,
    /// Millions of packets for each second on the core while tables were exchanged: the median of
    /// the slices.
    pub mpps: f64,
    /// The same while none was.
    pub steady_mpps: f64,
    /// What the exchanges cost, in percent: the median over pairs of neighbouring slices.
    pub loss_percent: f64,
    /// The smallest share of a slice that the worker had its core.
    pub core_share: f64,
    /// Between polls, with exchanges.
    pub gaps: GapFigures,
    /// Between polls, without.
    pub steady_gaps: GapFigures,
    /// Packets compared byte by byte, all right.
    pub samples: usize,
    /// Flows that these were of.
    pub sampled_flows: usize,
}

/// Measures case `swap` over `source`, for `seconds` of slices of each kind; between the end of
/// one exchange and the beginning of the next are at least `pause`, and `every` between two
/// beginnings.
///
/// # Errors
/// As [`weir::run`]'s; and when a packet was lost.
pub fn run(source: &Path, seconds: f64, every: Duration) -> Result<Report> {
    let case = Case::named("swap").context("the case \"swap\"")?;
    let pairs = ((seconds / SLICE.as_secs_f64()).ceil() as usize).max(2);
    let phase = Arc::new(AtomicUsize::new(BETWEEN));
    let shared = Arc::clone(&phase);
    let (slices, (gaps, samples, totals), node) = weir::on_a_node(
        source,
        case,
        move |queue, clock| Gaps::new(Sampled::new(queue, DISTANCE), clock, shared),
        |port, counters| {
            let figures = port.figures();
            let totals = (counters.received_packets.get(), counters.forwarded.get());
            (figures, port.inner_mut().samples().to_vec(), (totals, counters.total_drops()))
        },
        |running| {
            running.warm_up(case)?;
            let mut tables = Turns::new(source, case)?;
            let mut slices = Vec::new();
            for _ in 0..pairs {
                let steady = slice(running, &phase, STEADY, None)?;
                let swapping = slice(running, &phase, SWAPPING, Some((&mut tables, every)))?;
                slices.push([steady, swapping]);
            }
            tables.back(running)?;
            Ok((slices, tables.swaps, tables.longest))
        },
    )?;
    let ((received, forwarded), drops) = totals;
    let (slices, swaps, longest) = slices;
    let lost = received - forwarded;
    ensure!(lost == 0, "{lost} of {received} packets were lost, {drops} of them dropped");
    // The flows were given their backends by the table that is in force again now.
    let sampled_flows = verify::check(&samples, source, &node, case)?;
    ensure!(!samples.is_empty(), "no packet was sampled: measure for longer");
    let median_of = |kind: usize| median(slices.iter().map(|pair| pair[kind].mpps()).collect());
    let ratios = slices.iter().map(|[steady, swapping]| swapping.mpps() / steady.mpps()).collect();
    let sum = |count: fn(&Slice) -> u64| slices.iter().map(|pair| count(&pair[SWAPPING])).sum();
    let report = Report {
        packets: sum(|slice| slice.packets),
        hits: sum(|slice| slice.hits),
        misses: sum(|slice| slice.misses),
        drops,
        lost,
        swaps,
        longest_swap_ms: longest.as_secs_f64() * 1e3,
        mpps: median_of(SWAPPING),
        steady_mpps: median_of(STEADY),
        loss_percent: (1.0 - median(ratios)) * 100.0,
        core_share: slices.iter().flatten().map(|slice| slice.core_share).fold(1.0, f64::min),
        gaps: gaps[SWAPPING],
        steady_gaps: gaps[STEADY],
        samples: samples.len(),
        sampled_flows,
    };
    ensure!(report.misses * 1000 <= report.packets, "{} misses", report.misses);
    Ok(report)
}

/// [`run`] without a pause between two builds, over a source made in `work`; prints a table, and
/// writes the report as JSON, if asked to.
///
/// # Errors
/// As [`run`]'s.
pub fn build_delay(work: &Path, seconds: f64, json: Option<&Path>) -> Result<()> {
    std::fs::create_dir_all(work).with_context(|| format!("{}: cannot be made", work.display()))?;
    let case = Case::named("swap").context("the case \"swap\"")?;
    let source = work.join(case.source_name());
    capture::write(&source, case.flows, case.ip, case.kind())?;
    let report = run(&source, seconds, Duration::ZERO)?;
    println!("tables of 65537 slots for {} backends, built and published without", case.backends);
    println!(
        "a pause on core 0, beside one worker at full load on core {}:",
        scenario::WORKER_CORE
    );
    println!(
        "{} of them, the slowest in {:.1} ms; {} packets lost; {:.2} % of the rate",
        report.swaps, report.longest_swap_ms, report.lost, report.loss_percent
    );
    println!();
    println!("from one poll to the next, microseconds");
    println!("                  polls     Mpps      p50      p99    p99.9  p99.9*      longest");
    for (name, mpps, gaps) in [
        ("without builds", report.steady_mpps, report.steady_gaps),
        ("with builds", report.mpps, report.gaps),
    ] {
        let us = |ns: u64| ns as f64 / 1e3;
        println!(
            "{name:<14} {:>8} {mpps:>8.2} {:>8.2} {:>8.2} {:>8.2} {:>7.2} {:>12.1}",
            gaps.polls,
            us(gaps.p50_ns),
            us(gaps.p99_ns),
            us(gaps.p999_ns),
            us(gaps.time_p999_ns),
            us(gaps.max_ns)
        );
    }
    println!();
    println!("* of the time, not of the polls: what 999 of 1000 packets that come at any moment");
    println!(
        "wait at the most. The worker had its core for at least {:.1} % of a slice;",
        report.core_share * 100.0
    );
    println!("what else ran there is in both lines.");
    if let Some(path) = json {
        let text = serde_json::to_string_pretty(&report)? + "\n";
        std::fs::write(path, text)
            .with_context(|| format!("{}: cannot be written", path.display()))?;
    }
    Ok(())
}

/// One slice, measured.
struct Slice {
    packets: u64,
    hits: u64,
    misses: u64,
    /// Seconds on the core.
    seconds: f64,
    core_share: f64,
}

impl Slice {
    fn mpps(&self) -> f64 {
        self.packets as f64 / self.seconds / 1e6
    }
}

/// The two tables that take turns: they differ in the weight of one backend.
struct Turns {
    configs: [Config; 2],
    /// Which one is in force.
    current: usize,
    swaps: u64,
    longest: Duration,
}

impl Turns {
    fn new(source: &Path, case: Case) -> Result<Self> {
        let parse = |weight| -> Result<Config> {
            let text = scenario::configuration_with(source, case, weight);
            Ok(Config::parse(&text, "the benchmark's configuration")?.config)
        };
        let configs = [parse(scenario::WEIGHT)?, parse(scenario::WEIGHT / 2)?];
        Ok(Self { configs, current: 0, swaps: 0, longest: Duration::ZERO })
    }

    /// Builds the other table and publishes it.
    fn swap(&mut self, running: &mut Running<'_>) -> Result<()> {
        self.current ^= 1;
        let config = self.configs[self.current].clone();
        let start = Instant::now();
        running.reload(config)?;
        self.longest = self.longest.max(start.elapsed());
        self.swaps += 1;
        Ok(())
    }

    /// Puts the first table in force.
    fn back(&mut self, running: &mut Running<'_>) -> Result<()> {
        if self.current != 0 { self.swap(running) } else { Ok(()) }
    }
}

fn slice(
    running: &mut Running<'_>,
    phase: &AtomicUsize,
    number: usize,
    mut swaps: Option<(&mut Turns, Duration)>,
) -> Result<Slice> {
    running.step_for(PAUSE);
    let before = running.reading();
    phase.store(number, Ordering::Relaxed);
    let end = Instant::now() + SLICE;
    while Instant::now() < end {
        match &mut swaps {
            Some((turns, every)) => {
                let start = Instant::now();
                turns.swap(running)?;
                running.step_for(every.saturating_sub(start.elapsed()));
            }
            None => running.step_for(end.saturating_duration_since(Instant::now())),
        }
    }
    phase.store(BETWEEN, Ordering::Relaxed);
    let after = running.reading();
    Ok(Slice::between(&before, &after))
}

impl Slice {
    fn between(before: &Reading, after: &Reading) -> Self {
        let core_share = after.core_share_since(before);
        Self {
            packets: after.packets - before.packets,
            hits: after.hits - before.hits,
            misses: after.misses - before.misses,
            seconds: (after.at - before.at).as_secs_f64() * core_share,
            core_share,
        }
    }
}

/// The middle value, or the upper of the two in the middle.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
