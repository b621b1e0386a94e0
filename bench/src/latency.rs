//! How long a packet is in the node, at shares of what the path can do.
//!
//! The generator is at the near end of a [`crate::cable`], one worker at the far end. A round begins
//! with the **capacity**: as many packets as the worker takes. Then, at each share of it, packets are
//! sent evenly for a slice of time, in both idle modes and over the ring that leads back, one after
//! the other. A figure is the median over the rounds: what else a machine does now
//! and then is in few of them, and shown in the spread.
//!
//! What is **added** by the node is the time through it less the time over the ring that leads back:
//! the same generator, the same rate, the same kind of ring.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use dataplane::port::dpdk::Queue;
use dataplane::worker::Idle;
use serde::Serialize;

use crate::cable::{self, Cable, Setup};
use crate::flows::{VIP_PORT, VIPS};
use crate::generator::sizes::SizeMix;
use crate::generator::traffic::{Destinations, Families, Mix, Protocols};
use crate::generator::{Figures, Generator, Report, Run};
use crate::machine::Machine;
use crate::scenario::{Case, Link, NODE_MAC, ROUTER_MAC, WORKER_CORE};

/// Shares of the capacity, in percent.
const LOADS: [u64; 4] = [10, 50, 80, 95];
/// A rate at which a worker that backs off sleeps between any two packets.
const TRICKLE: u64 = 10_000;
/// Before a slice is measured its traffic flows for so long.
const WARM_UP: Duration = Duration::from_millis(50);
/// How long packets can be under way in memory.
const PATIENCE: Duration = Duration::from_millis(20);
/// For each round that counts, at most so many are repeated because the host has moved the guest.
const MOST_MOVED: usize = 3;
/// What the generator catches up with: a burst, so that its own pauses make no queue.
const MOST_OWED: u64 = 64;

/// What a spinning node may add at 80 %, 99th percentile, nanoseconds.
const MOST_ADDED: u64 = 50_000;

/// In fewer rounds no bound is held to.
const LEAST_ROUNDS: usize = 5;

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Options {
    /// Also write the result as JSON.
    pub json: Option<PathBuf>,
    /// How often each point is measured.
    pub rounds: usize,
    /// Seconds of each time.
    pub seconds: f64,
    /// Flows that the packets are of.
    pub flows: u32,
    /// With real-time priority, where other work is on the machine.
    pub realtime: bool,
}

/// One point: a load and who was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Point {
    /// `spin`, `backoff`, or `loopback`: the ring without a node.
    pub mode: &'static str,
    /// Percent of the capacity; `None`: 10,000 packets a second.
    pub load_percent: Option<u64>,
    /// Millions of packets sent a second, those included that were refused.
    pub mpps: f64,
    /// Rounds.
    pub rounds: usize,
    /// Packets sent, in all rounds.
    pub sent: u64,
    /// Packets that did not come back, in all rounds: `sent` less those received.
    pub lost: u64,
    /// Of them, those that the worker had no room for in its receive ring.
    pub refused: u64,
    /// Packets never made, as the generator was away, or too slow, when they were due.
    pub skipped: u64,
    /// Medians over the rounds, nanoseconds.
    pub p50_ns: u64,
    /// 90 in a hundred packets took no longer.
    pub p90_ns: u64,
    /// 99 in a hundred.
    pub p99_ns: u64,
    /// 999 in a thousand.
    pub p999_ns: u64,
    /// The slowest packet of a round.
    pub max_ns: u64,
    /// The p99 of each round.
    pub p99_rounds_ns: Vec<u64>,
    /// Less the loopback's at the same rate: what the node adds. p50, p90, p99, p99.9, max.
    pub added_ns: [u64; 5],
    /// The share of the time that the worker was busy with packets; 0 for the loopback.
    pub worker_busy: f64,
    /// The median of how long the generator itself was away at the longest, nanoseconds.
    pub longest_away_ns: u64,
}

/// The whole result.
#[derive(Clone, Debug, Serialize)]
pub struct Latency {
    /// What it ran on.
    pub machine: Machine,
    /// Flows of the packets.
    pub flows: u32,
    /// Millions of packets a second: the most that came through, median of the rounds.
    pub capacity_mpps: f64,
    /// The share of the time that the worker was busy then: below 0.9 the generator is the limit.
    pub capacity_worker_busy: f64,
    /// Millions of packets a second that the generator sends and receives without a node.
    pub generator_mpps: f64,
    /// Nanoseconds that a cache line takes from core to core and back.
    pub round_trip_ns: u64,
    /// All points.
    pub points: Vec<Point>,
    /// The first three by round: on a guest they can differ, when its host moves it.
    pub rounds: Vec<Round>,
    /// Rounds that do not count, as it moved it meanwhile.
    pub moved: usize,
}

/// What each round begins with.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Round {
    /// Millions of packets a second through the node; the loads are shares of it.
    pub capacity_mpps: f64,
    /// Without one.
    pub generator_mpps: f64,
    /// A cache line from core to core and back.
    pub round_trip_ns: u64,
}

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    Loopback,
    Node(Idle),
}

impl Who {
    const ALL: [Self; 3] = [Self::Loopback, Self::Node(Idle::Spin), Self::Node(Idle::Backoff)];

    fn name(self) -> &'static str {
        match self {
            Self::Loopback => "loopback",
            Self::Node(Idle::Spin) => "spin",
            Self::Node(Idle::Backoff) => "backoff",
        }
    }
}

/// One slice.
struct Slice {
    figures: Figures,
    busy: f64,
}

/// Measures, prints a table, and writes JSON if asked to.
///
/// # Errors
/// When DPDK cannot be set up, or packets did something else than to go through.
pub fn run(options: &Options) -> Result<()> {
    ensure!(options.rounds > 0, "0 rounds (expected 1 or more)");
    ensure!(options.seconds > 0.0, "{} seconds (expected more than 0)", options.seconds);
    let case = Case {
        flows: options.flows,
        table: table(options.flows),
        ..Case::named("hit_4k").context("the case \"hit_4k\"")?
    };
    let link = Link { memory_mib: cable::memory_mib(case.table), ..Link::ordinary(case) };
    let setup = Setup { case, link, core: Some(usize::from(WORKER_CORE)) };
    // Before DPDK binds this thread to one core.
    let machine = Machine::here();
    let result = cable::with_a_node(&setup, |cable| {
        if options.realtime {
            become_realtime()?;
        }
        measure(cable, options, machine)
    })?;
    print!("{}", table_of(&result));
    if let Some(path) = &options.json {
        write(path, &result)?;
    }
    let is_bound = |point: &&Point| point.load_percent == Some(80) && point.mode == "spin";
    let [_, _, p99, ..] =
        result.points.iter().find(is_bound).map_or([0; 5], |point| point.added_ns);
    ensure!(
        p99 <= MOST_ADDED || options.rounds < LEAST_ROUNDS,
        "at 80 % the node adds {} us (expected {} at most)",
        p99 / 1000,
        MOST_ADDED / 1000
    );
    Ok(())
}

/// Gives all threads of this process a priority above all other work. Not before they have started:
/// what DPDK asks of the kernel then can need the cores that they would not leave.
fn become_realtime() -> Result<()> {
    let process = std::process::id().to_string();
    let output = Command::new("chrt")
        .args(["--all-tasks", "--fifo", "--pid", "50", &process])
        .output()
        .context("chrt (of util-linux) cannot be run")?;
    ensure!(
        output.status.success(),
        "no real-time priority: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}

/// Memory that is needed, in MiB.
pub fn memory(flows: u32) -> u32 {
    cable::memory_mib(table(flows))
}

/// Flows that the table holds: as in the benchmarks of the same flows.
fn table(flows: u32) -> u32 {
    if flows <= 1 << 14 { 1 << 16 } else { flows.saturating_mul(2).max(2_000_000) }
}

/// The shortest frames of TCP over IPv4, that go on, to the node's VIPs.
fn mix(flows: u32) -> Result<Mix> {
    Ok(Mix {
        families: Families::V4,
        protocols: Protocols::Tcp,
        flows,
        syn_share: 0.0,
        sizes: SizeMix::parse("64")?,
        destinations: Destinations::vips(VIPS, VIP_PORT),
        to: NODE_MAC,
        from: ROUTER_MAC,
    })
}

fn measure(mut cable: Cable, options: &Options, machine: Machine) -> Result<Latency> {
    let mix = mix(options.flows)?;
    let ends = cable.near.take().zip(cable.loopback.take());
    let (near, back) = ends.context("the cable's ends are taken")?;
    let mut through = Generator::new(near, &mix, cable.clock.clone())?;
    let mut around = Generator::new(back, &mix, cable.clock.clone())?;
    let slice = Duration::from_secs_f64(options.seconds);
    let flat_out = Run {
        rate: None,
        time: slice,
        most_owed: MOST_OWED,
        most_packets: u64::MAX,
        patience: PATIENCE,
    };

    // Every flow gets its entry.
    let all = Run {
        time: Duration::from_secs(60),
        most_packets: 2 * u64::from(options.flows),
        ..flat_out
    };
    one(&mut cable, &mut through, &mut around, Who::Node(Idle::Spin), &all)?;
    let misses = cable.counters.conntrack.misses.get();

    let loads: Vec<Option<u64>> = LOADS.into_iter().map(Some).chain([None]).collect();
    let mut slices: Vec<Vec<Slice>> = Vec::new();
    slices.resize_with(loads.len() * Who::ALL.len(), Vec::new);
    let (mut rounds, mut busy) = (Vec::new(), Vec::new());
    let mut moved = 0;
    while rounds.len() < options.rounds {
        let round_trip_ns = round_trip(&mut cable)?;
        let found = one(&mut cable, &mut through, &mut around, Who::Node(Idle::Spin), &flat_out)?;
        let own = one(&mut cable, &mut through, &mut around, Who::Loopback, &flat_out)?;
        let capacity = found.figures.received_mpps;
        ensure!(capacity > 0.1, "only {capacity:.3} million packets a second came through");
        let rate_of =
            |load: Option<u64>| load.map_or(TRICKLE, |percent| (capacity * 1e4) as u64 * percent);
        let points = loads.iter().flat_map(|load| Who::ALL.map(|who| (*load, who)));
        let mut of_round = Vec::new();
        for (load, who) in points {
            let run = Run { rate: Some(rate_of(load)), ..flat_out };
            one(&mut cable, &mut through, &mut around, who, &Run { time: WARM_UP, ..run })?;
            of_round.push(one(&mut cable, &mut through, &mut around, who, &run)?);
        }
        // Its loads are shares of a capacity that is another one now.
        let ends = [round_trip_ns, round_trip(&mut cable)?];
        if is_moved(ends) && moved < MOST_MOVED * options.rounds {
            moved += 1;
            continue;
        }
        busy.push(found.busy);
        rounds.push(Round {
            capacity_mpps: capacity,
            generator_mpps: own.figures.received_mpps,
            round_trip_ns,
        });
        for (slice, slices) in of_round.into_iter().zip(&mut slices) {
            slices.push(slice);
        }
    }
    let missed = cable.counters.conntrack.misses.get() - misses;
    let forwarded = cable.counters.forwarded.get();
    ensure!(missed * 1000 <= forwarded, "{missed} of {forwarded} packets found no entry");
    let mut points = Vec::new();
    for (load, group) in loads.iter().zip(slices.chunks(Who::ALL.len())) {
        let [baseline, ..] = group else { continue };
        for (who, slices) in Who::ALL.into_iter().zip(group) {
            points.push(point(*load, who, slices, baseline));
        }
    }
    let of = |value: fn(&Round) -> f64| median(&rounds.iter().map(value).collect::<Vec<_>>());
    Ok(Latency {
        machine,
        flows: options.flows,
        capacity_mpps: of(|round| round.capacity_mpps),
        capacity_worker_busy: median(&busy),
        generator_mpps: of(|round| round.generator_mpps),
        round_trip_ns: of(|round| round.round_trip_ns as f64) as u64,
        points,
        rounds,
        moved,
    })
}

/// Nanoseconds that a cache line takes to the worker's core and back: the least of a few tries, as
/// all others were interrupted.
fn round_trip(cable: &mut Cable) -> Result<u64> {
    let tries: Result<Vec<u64>> = (0..5).map(|_| cable.round_trip()).collect();
    Ok(tries?.into_iter().min().unwrap_or_default())
}

/// Whether the host has moved the guest to cores that are nearer to each other, or farther away.
fn is_moved([before, after]: [u64; 2]) -> bool {
    before.max(after) * 2 > before.min(after) * 3
}

/// One slice.
fn one(
    cable: &mut Cable,
    through: &mut Generator<Queue>,
    around: &mut Generator<Queue>,
    who: Who,
    run: &Run,
) -> Result<Slice> {
    match who {
        Who::Loopback => {
            // The node is looked after in both, so that both have the pauses that it makes.
            let report = around.run(run, |now, _| {
                cable.step(now);
                true
            });
            Ok(Slice { figures: report.figures(), busy: 0.0 })
        }
        Who::Node(idle) => {
            let counters = cable.counters.clone();
            let before = counters.busy_nanoseconds.get();
            let report: Report = cable.while_working(idle, |cable| {
                through.run(run, |now, _| {
                    cable.step(now);
                    true
                })
            })?;
            let busy = (counters.busy_nanoseconds.get() - before) as f64 / 1e9;
            Ok(Slice { figures: report.figures(), busy: busy / report.seconds.max(1e-9) })
        }
    }
}

fn point(load_percent: Option<u64>, who: Who, slices: &[Slice], baseline: &[Slice]) -> Point {
    let sum = |value: fn(&Figures) -> u64| slices.iter().map(|slice| value(&slice.figures)).sum();
    let of = |slices: &[Slice], value: fn(&Figures) -> u64| {
        let values: Vec<f64> = slices.iter().map(|slice| value(&slice.figures) as f64).collect();
        median(&values) as u64
    };
    let figures: [fn(&Figures) -> u64; 5] =
        [|f| f.p50_ns, |f| f.p90_ns, |f| f.p99_ns, |f| f.p999_ns, |f| f.max_ns];
    let [p50_ns, p90_ns, p99_ns, p999_ns, max_ns] = figures.map(|value| of(slices, value));
    let rates: Vec<f64> = slices.iter().map(|slice| slice.figures.sent_mpps).collect();
    let busy: Vec<f64> = slices.iter().map(|slice| slice.busy).collect();
    Point {
        mode: who.name(),
        load_percent,
        mpps: median(&rates),
        rounds: slices.len(),
        sent: sum(|f| f.sent),
        lost: sum(|f| f.lost + f.refused),
        refused: sum(|f| f.refused),
        skipped: sum(|f| f.skipped),
        p50_ns,
        p90_ns,
        p99_ns,
        p999_ns,
        max_ns,
        p99_rounds_ns: slices.iter().map(|slice| slice.figures.p99_ns).collect(),
        added_ns: figures.map(|value| of(slices, value).saturating_sub(of(baseline, value))),
        worker_busy: median(&busy),
        longest_away_ns: of(slices, |f| f.longest_away_ns),
    }
}

fn table_of(result: &Latency) -> String {
    let mut text = String::new();
    let mut line = |arguments: std::fmt::Arguments<'_>| {
        // Writing to a String cannot fail.
        let _ = text.write_fmt(arguments);
        text.push('\n');
    };
    let Latency { machine, flows, capacity_mpps, capacity_worker_busy, generator_mpps, .. } =
        result;
    let trips = result.rounds.iter().map(|round| round.round_trip_ns);
    line(format_args!("{machine}\n"));
    line(format_args!(
        "a cache line from core to core and back takes {} ns ({} to {})",
        result.round_trip_ns,
        trips.clone().min().unwrap_or(0),
        trips.max().unwrap_or(0)
    ));
    line(format_args!(
        "capacity {capacity_mpps:.2} Mpps (64-byte frames of {flows} flows, ipip; the worker busy \
         {:.0} %); the generator alone {generator_mpps:.2} Mpps",
        capacity_worker_busy * 100.0
    ));
    line(format_args!("microseconds, medians of the rounds; added: less the loopback's"));
    line(format_args!(
        "  load mode         Mpps     p50     p90     p99   p99.9      max   added: p50     p99   \
         p99.9    p99 from..to       lost  skipped  busy"
    ));
    let us = |ns: u64| ns as f64 / 1e3;
    for point in &result.points {
        let load = point.load_percent.map_or("10 kpps".to_owned(), |load| format!("{load} %"));
        let [added50, _, added99, added999, _] = point.added_ns.map(us);
        let least = us(point.p99_rounds_ns.iter().copied().min().unwrap_or(0));
        let most = us(point.p99_rounds_ns.iter().copied().max().unwrap_or(0));
        line(format_args!(
            "{load:>6} {:<9} {:>7.2} {:>7.2} {:>7.2} {:>7.2} {:>7.2} {:>8.1} {added50:>12.2} \
             {added99:>7.2} {added999:>7.2} {least:>7.2}..{most:<8.2} {:>7} {:>8} {:>4.0}%",
            point.mode,
            point.mpps,
            us(point.p50_ns),
            us(point.p90_ns),
            us(point.p99_ns),
            us(point.p999_ns),
            us(point.max_ns),
            point.lost,
            point.skipped,
            point.worker_busy * 100.0,
        ));
    }
    text
}

fn write(path: &Path, result: &Latency) -> Result<()> {
    let text = serde_json::to_string_pretty(result)? + "\n";
    std::fs::write(path, text).with_context(|| format!("{}: cannot be written", path.display()))
}

/// The middle one, or between the two in the middle; 0 where there are none.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match (sorted.get(sorted.len().saturating_sub(1) / 2), sorted.get(sorted.len() / 2)) {
        (Some(low), Some(high)) => (low + high) / 2.0,
        _ => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slice(p99_ns: u64, sent: u64) -> Slice {
        let figures = Figures { p50_ns: p99_ns / 2, p99_ns, sent, lost: 1, ..Figures::default() };
        Slice { figures, busy: 0.5 }
    }

    #[test]
    fn what_is_added_is_the_difference_of_medians_and_never_negative() {
        let slices = [slice(9_000, 10), slice(5_000, 20), slice(100_000, 30)];
        let baseline = [slice(2_000, 10), slice(1_000, 10), slice(500_000, 10)];
        let found = point(Some(80), Who::Node(Idle::Spin), &slices, &baseline);
        assert_eq!((found.p50_ns, found.p99_ns), (4_500, 9_000));
        assert_eq!(found.added_ns, [3_500, 0, 7_000, 0, 0]);
        assert_eq!((found.sent, found.lost, found.rounds), (60, 3, 3));
        assert_eq!(found.p99_rounds_ns, [9_000, 5_000, 100_000]);
        let found = point(None, Who::Loopback, &baseline, &slices);
        assert_eq!(found.added_ns, [0; 5]);
    }

    #[test]
    fn a_round_during_which_the_cores_moved_does_not_count() {
        assert!(is_moved([100, 450]) && is_moved([450, 100]) && is_moved([100, 151]));
        assert!(!is_moved([100, 150]) && !is_moved([450, 400]));
    }

    #[test]
    fn many_flows_get_a_table_that_has_room_for_them() {
        assert_eq!((table(4096), table(1 << 20)), (1 << 16, 2_097_152));
        assert!(table(40_000_000) >= 40_000_000);
        assert!(memory(1 << 20) > memory(4096));
    }
}
