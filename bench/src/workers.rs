//! Several workers beside one: does the second one add what the first does?
//!
//! Each worker has a core, and a queue that plays the source for it alone, with a flow table of its
//! own, as under RSS: what they share is the tables, the control thread, and the machine's memory.
//! testpmd with as many forwarding threads on the same source says what the machine itself gives.
//! Where there are no more cores than workers, the last one has core 0 with the control thread, which
//! works for some microseconds in each 10 ms; rates are for each second on the core.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use clap::Args;
use config::Config;
use conntrack::{Memory, Table};
use control::node::{Node, PortFacts};
use dataplane::clock::Clock;
use dataplane::counters::WorkerCounters;
use dataplane::handoff;
use dataplane::port::dpdk::{Eal, HugeMemory, Queue, WorkerRegistration};
use dataplane::worker::{Idle, Worker, WorkerOptions};
use serde::{Deserialize, Serialize};

use crate::capture;
use crate::cpu_time::CpuTime;
use crate::figures::{median, round};
use crate::machine::Machine;
use crate::sampled::{DISTANCE, Sample, Sampled};
use crate::scenario::{self, Case};
use crate::testpmd::{self, Mode};
use crate::verify;
use crate::weir::{self, Reading};

/// How often the control thread looks after the node, as in `weir run`.
const STEP: Duration = Duration::from_millis(10);
/// A source that has not gone round twice in this time is broken.
const LONGEST_WARM_UP: Duration = Duration::from_secs(60);
/// The cases, by the flows that each worker has.
const CASES: [(&str, &str); 2] = [("4k", "hit_4k"), ("256k", "hit_256k")];

/// What one run of some workers found out.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// Millions of packets for each second on the cores, all workers together.
    pub mpps: f64,
    /// The same, by worker.
    pub workers: Vec<f64>,
    /// The smallest share of the time that a worker had its core.
    pub core_share: f64,
    /// Packets compared byte by byte, all right.
    pub samples: usize,
}

/// What is asked for.
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// How many are several.
    #[arg(long, default_value_t = 2)]
    pub workers: u16,
    /// Also write the result as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// How often each case is measured.
    #[arg(long, default_value_t = 7)]
    pub rounds: usize,
    /// How long each measurement takes.
    #[arg(long, default_value_t = 2.0)]
    pub seconds: f64,
    /// A folder for the packet sources (25 MB).
    #[arg(long, value_name = "FOLDER")]
    pub work: PathBuf,
}

/// One line of the result.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Line {
    /// Program and flows of each worker.
    pub case: String,
    /// Median with one worker, in millions of packets a second.
    pub one_mpps: f64,
    /// With all.
    pub all_mpps: f64,
    /// The median over the rounds of all by one of the same round.
    pub ratio: f64,
    /// The smallest of these.
    pub min_ratio: f64,
    /// The largest.
    pub max_ratio: f64,
    /// How many rounds.
    pub rounds: usize,
}

/// The core of each of `workers` workers, on a machine of `cores` cores.
fn cores(workers: u16, cores: usize) -> Vec<u16> {
    let cores = u16::try_from(cores).unwrap_or(u16::MAX).max(1);
    (0..workers).map(|worker| (scenario::WORKER_CORE + worker) % cores).collect()
}

fn all_cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Memory for `workers` workers of `case`, in MiB.
pub fn memory_mib(case: Case, workers: u16) -> u32 {
    u32::from(workers) * scenario::memory_mib(case.flows, case.table)
}

/// The most that [`compare`] needs, in MiB.
pub fn most_memory_mib(workers: u16) -> u32 {
    let cases = CASES.iter().filter_map(|(_, name)| Case::named(name));
    cases.map(|case| memory_mib(case, workers)).max().unwrap_or(0)
}

/// Measures `case` with `workers` workers, each over all of `source`, for `seconds`.
///
/// # Errors
/// As [`weir::run`]'s; and when there are not so many cores.
pub fn run(source: &Path, case: Case, workers: u16, seconds: f64) -> Result<Report> {
    let cores = cores(workers, all_cores());
    ensure!(workers > 0 && cores.len() <= all_cores(), "{workers} workers, {} cores", all_cores());
    let text = scenario::configuration(source, case);
    let mut config = Config::parse(&text, "the benchmark's configuration")?.config;
    config.dpdk.memory_mib = memory_mib(case, workers);
    config.dpdk.worker_cores.clone_from(&cores);
    if let Some(port) = config.ports.first_mut() {
        port.device = scenario::device_of_queues(source, cores.len());
    }
    let eal = Eal::start(&weir::eal_options(&config)).context("DPDK did not start")?;
    let (device, pools) = weir::open(&eal, &config, case, workers)?;
    let mut device = device.start(&pools)?;
    let clock = Clock::new();
    let facts = PortFacts { mac: device.mac(), any_mac: false };
    let mut node = Node::new(config, &[facts], clock.now() / 1_000_000)?;
    let stop = Arc::new(AtomicBool::new(false));
    let ends = handoff::connect(cores.len());
    let mut threads = Vec::new();
    for (((number, core), queue), ends) in (0u16..).zip(cores).zip(device.take_queues()).zip(ends) {
        let parts = node.add_worker();
        let counters = Arc::clone(&parts.handle.counters);
        let flows = case.table as usize;
        let layout = Memory::layout(flows)?;
        let memory = HugeMemory::zeroed(&eal, "the conntrack table", layout.size(), 128, -1)?;
        let worker = Worker::new(WorkerOptions {
            ports: vec![Sampled::new(queue, DISTANCE)],
            reader: parts.reader,
            conntrack: Table::in_memory(Memory::from_region(flows, memory.leak())?),
            hash_seed: [0x6b8b_4567_327b_23c6, 0x643c_9869, 0x7454_5daa_1190_cde7, 0x1f16_e9e8],
            number,
            workers,
            link: parts.handle.link,
            counters: Arc::clone(&counters),
        })
        .join(ends, Arc::new([None]))
        .unrecorded();
        let (clock, stop) = (clock.clone(), Arc::clone(&stop));
        let body = move || work(worker, core, &clock, &stop);
        threads.push((std::thread::Builder::new().name(name(number)).spawn(body)?, counters));
    }
    ensure!(threads.len() == usize::from(workers), "the device has {} queues", threads.len());
    let has_ended = || threads.iter().any(|(thread, _)| thread.is_finished());
    let mut step_until = |done: &dyn Fn() -> bool| {
        while !done() && !has_ended() {
            node.step(clock.now() / 1_000_000);
            std::thread::sleep(STEP);
        }
    };
    let start = Instant::now();
    let is_warm = |counters: &WorkerCounters| {
        counters.forwarded.get() >= 2 * u64::from(case.flows)
            && start.elapsed() >= Duration::from_millis(500)
    };
    step_until(&|| {
        threads.iter().all(|(_, counters)| is_warm(counters)) || start.elapsed() > LONGEST_WARM_UP
    });
    let accounts: Vec<_> = (0..workers)
        .map(|number| CpuTime::of_thread(std::process::id(), |thread| thread == name(number)))
        .collect();
    let read = || -> Vec<Reading> {
        let workers = threads.iter().zip(&accounts);
        workers.map(|((_, counters), account)| Reading::of(counters, account.as_ref())).collect()
    };
    let before = read();
    let end = Instant::now() + Duration::from_secs_f64(seconds);
    step_until(&|| Instant::now() >= end);
    let after = read();
    stop.store(true, Ordering::Relaxed);
    let mut report = Report { mpps: 0.0, workers: Vec::new(), core_share: 1.0, samples: 0 };
    for (((thread, _), before), after) in threads.into_iter().zip(&before).zip(&after) {
        let samples = thread.join().map_err(|_| anyhow!("a worker panicked"))??;
        let flows = verify::check(&samples, source, &node, case)?;
        let one = after.since(before, samples.len(), flows);
        weir::check(&one, case)?;
        report.mpps += one.mpps;
        report.workers.push(one.mpps);
        report.core_share = report.core_share.min(one.core_share);
        report.samples += one.samples;
    }
    Ok(report)
}

/// A worker's thread; what it sampled.
fn work(
    mut worker: Worker<Sampled<Queue>>,
    core: u16,
    clock: &Clock,
    stop: &AtomicBool,
) -> Result<Vec<Sample>> {
    let bound = core_affinity::set_for_current(core_affinity::CoreId { id: core.into() });
    ensure!(bound, "core {core} is not there, or not ours to use");
    let _registration = WorkerRegistration::new()?;
    worker.run(clock, Idle::Spin, stop);
    let port = worker.port_mut(0).ok_or_else(|| anyhow!("the worker has no port"))?;
    Ok(port.samples().to_vec())
}

fn name(worker: u16) -> String {
    format!("worker-{worker}")
}

/// One worker and `options.workers`, and testpmd with as many threads, interleaved; prints a table.
///
/// # Errors
/// At the first measurement that fails.
pub fn compare(options: &Options) -> Result<()> {
    ensure!(options.rounds > 0, "--rounds: at least 1");
    std::fs::create_dir_all(&options.work)
        .with_context(|| format!("{}: cannot be made", options.work.display()))?;
    let mut lines = Vec::new();
    let counts = [1, options.workers];
    for (flows, name) in CASES {
        let case = Case::named(name).ok_or_else(|| anyhow!("no case \"{name}\""))?;
        let source = options.work.join(case.source_name());
        capture::write(&source, case.flows, case.ip, case.kind())?;
        let mut rates = [[Vec::new(), Vec::new()], [Vec::new(), Vec::new()]];
        for number in 1..=options.rounds {
            for (count, at) in counts.into_iter().zip(0..) {
                let cores = cores(count, all_cores());
                let seconds = options.seconds;
                let testpmd =
                    testpmd::run_on(&cores, &source, case.flows, Mode::MacSwap, seconds)?.mpps;
                let weir = in_a_process(&source, name, count, seconds)?.mpps;
                eprintln!(
                    "round {number}/{}  {flows} flows, {count} threads: testpmd {testpmd:.2} Mpps, \
                     weir {weir:.2} Mpps",
                    options.rounds
                );
                rates[0][at].push(testpmd);
                rates[1][at].push(weir);
            }
        }
        let names = ["testpmd_macswap", "weir_ipip_hit"];
        for (program, [one, all]) in names.into_iter().zip(rates) {
            lines.push(line(format!("{program}_{flows}"), &one, &all));
        }
    }
    println!("{}", Machine::here());
    println!(
        "1 and {} workers, {} rounds of {} s",
        options.workers, options.rounds, options.seconds
    );
    println!();
    println!("case                     one Mpps  all Mpps   ratio     min     max");
    for Line { case, one_mpps, all_mpps, ratio, min_ratio, max_ratio, .. } in &lines {
        println!(
            "{case:<24} {one_mpps:>8.2} {all_mpps:>9.2} {ratio:>7.2} {min_ratio:>7.2} \
             {max_ratio:>7.2}"
        );
    }
    if let Some(path) = &options.json {
        let mut text = serde_json::to_string_pretty(&lines)?;
        text.push('\n');
        std::fs::write(path, text)
            .with_context(|| format!("{}: cannot be written", path.display()))?;
    }
    Ok(())
}

/// [`run`], in a process of its own: DPDK starts once in each.
fn in_a_process(source: &Path, case: &str, workers: u16, seconds: f64) -> Result<Report> {
    let output = Command::new(std::env::current_exe()?)
        .args(["run", "--case", case, "--workers", &workers.to_string()])
        .args(["--seconds", &seconds.to_string(), "--source"])
        .arg(source)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()?;
    ensure!(output.status.success(), "the run failed: {}", output.status);
    serde_json::from_slice(&output.stdout).context("the run's report")
}

fn line(case: String, one: &[f64], all: &[f64]) -> Line {
    let ratios: Vec<f64> = all.iter().zip(one).map(|(all, one)| all / one).collect();
    Line {
        case,
        one_mpps: round(median(one), 3),
        all_mpps: round(median(all), 3),
        ratio: round(median(&ratios), 3),
        min_ratio: round(ratios.iter().copied().fold(f64::INFINITY, f64::min), 3),
        max_ratio: round(ratios.iter().copied().fold(0.0, f64::max), 3),
        rounds: ratios.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_have_a_core_each_and_the_control_threads_last() {
        assert_eq!(cores(1, 2), [1]);
        assert_eq!(cores(2, 2), [1, 0]);
        assert_eq!(cores(3, 8), [1, 2, 3]);
    }

    #[test]
    fn a_ratio_is_of_the_same_round() {
        let line = line("x".to_owned(), &[10.0, 20.0, 10.0], &[20.0, 36.0, 19.0]);
        assert_eq!((line.ratio, line.min_ratio, line.max_ratio), (1.9, 1.8, 2.0));
        assert_eq!((line.one_mpps, line.all_mpps, line.rounds), (10.0, 20.0, 3));
    }
}
