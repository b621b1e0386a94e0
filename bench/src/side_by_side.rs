//! All cases, interleaved, several rounds: what is compared ran in the same minute.
//!
//! Each measurement is a process of its own (DPDK's environment starts once per process). The
//! figure of a case is the median of its rounds; a ratio is taken between medians, to `macswap` on
//! the same source.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde::Serialize;
use serde_json::Value;

use crate::capture;
use crate::figures::{median, round};
use crate::machine::Machine;
use crate::scenario::Case;
use crate::testpmd::{self, Mode};

/// Between two exchanges of the table, in milliseconds.
const SWAP_EVERY_MS: u64 = 100;
/// A smaller share of the core than this means that something else ran on it.
const QUIET: f64 = 0.97;

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the JSON goes, if anywhere.
    pub json: Option<PathBuf>,
    /// How often each case is measured.
    pub rounds: usize,
    /// How long each measurement takes.
    pub seconds: f64,
    /// A folder for the packet sources.
    pub work: PathBuf,
}

/// What the JSON holds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// What it was measured on.
    pub machine: Machine,
    /// In the order of a round.
    pub cases: Vec<Line>,
}

/// One line of the result.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Line {
    /// Name of the case.
    pub case: &'static str,
    /// Median, in millions of packets a second.
    pub mpps: f64,
    /// Nanoseconds a packet at that rate.
    pub ns: f64,
    /// `mpps` over that of `macswap` on the same source.
    pub ratio_to_macswap: f64,
    /// How many times it was measured.
    pub rounds: usize,
    /// The slowest round.
    pub min_mpps: f64,
    /// The fastest.
    pub max_mpps: f64,
    /// Of the case whose table is exchanged, what that did.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub swaps: Option<Swaps>,
}

/// What exchanging the table under load did.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Swaps {
    /// Median, in millions of packets a second, between the exchanges' slices of time.
    pub steady_mpps: f64,
    /// What the exchanges cost, in percent of that: the median over the rounds.
    pub loss_percent: f64,
    /// Packets lost, in all rounds.
    pub lost: u64,
    /// Tables put in force, in all rounds.
    pub swaps: u64,
}

enum Program {
    Testpmd(Mode),
    Weir,
    /// Weir, with tables exchanged half of the time.
    Swap,
}

struct Entry {
    name: &'static str,
    program: Program,
    /// As [`Case::named`] knows it; of testpmd's cases only the source counts.
    case: &'static str,
    /// The case that is the yardstick.
    to: &'static str,
}

const fn testpmd_entry(
    name: &'static str,
    mode: Mode,
    case: &'static str,
    to: &'static str,
) -> Entry {
    Entry { name, program: Program::Testpmd(mode), case, to }
}

const fn weir_entry(name: &'static str, case: &'static str, to: &'static str) -> Entry {
    Entry { name, program: Program::Weir, case, to }
}

const MACSWAP_4K: &str = "testpmd_macswap_4k";
const MACSWAP_1M: &str = "testpmd_macswap_1m";
const MACSWAP_V6_1M: &str = "testpmd_macswap_v6_1m";

/// In the order of a round.
const ENTRIES: [Entry; 10] = [
    testpmd_entry("testpmd_io_4k", Mode::Io, "hit_4k", MACSWAP_4K),
    testpmd_entry(MACSWAP_4K, Mode::MacSwap, "hit_4k", MACSWAP_4K),
    weir_entry("weir_ipip_hit_4k", "hit_4k", MACSWAP_4K),
    Entry { name: "weir_ipip_swap", program: Program::Swap, case: "swap", to: MACSWAP_4K },
    testpmd_entry(MACSWAP_1M, Mode::MacSwap, "hit_1m", MACSWAP_1M),
    weir_entry("weir_ipip_hit_1m", "hit_1m", MACSWAP_1M),
    weir_entry("weir_gue_hit_1m", "gue_hit_1m", MACSWAP_1M),
    weir_entry("weir_ipip_new", "new", MACSWAP_1M),
    testpmd_entry(MACSWAP_V6_1M, Mode::MacSwap, "v6_hit_1m", MACSWAP_V6_1M),
    weir_entry("weir_v6_hit_1m", "v6_hit_1m", MACSWAP_V6_1M),
];

/// Measures everything and prints the table.
///
/// # Errors
/// At the first measurement that fails: figures that lack one are not comparable.
pub fn run(options: &Options) -> Result<()> {
    ensure!(options.rounds > 0, "--rounds: at least 1");
    ensure!(options.seconds >= 0.1, "--seconds: at least 0.1");
    std::fs::create_dir_all(&options.work)
        .with_context(|| format!("{}: cannot be made", options.work.display()))?;
    for case in ["hit_4k", "hit_1m", "new", "v6_hit_1m"] {
        let (path, case) = source(options, case)?;
        capture::write(&path, case.flows, case.ip, case.kind())?;
    }
    let machine = Machine::here();
    let mut rates: Vec<Vec<f64>> = vec![Vec::new(); ENTRIES.len()];
    let mut notes: Vec<Fates> = vec![Fates::NONE; ENTRIES.len()];
    for round in 1..=options.rounds {
        for (entry, (rates, fates)) in ENTRIES.iter().zip(rates.iter_mut().zip(&mut notes)) {
            let mpps = measure(entry, options, fates).with_context(|| entry.name)?;
            eprintln!("round {round}/{}  {:<22} {mpps:>7.2} Mpps", options.rounds, entry.name);
            rates.push(mpps);
        }
    }
    let mut lines = lines(&rates);
    for (line, fates) in lines.iter_mut().zip(&notes) {
        line.swaps = fates.swaps();
    }
    print(&machine, &lines, &notes, options);
    if let Some(path) = &options.json {
        let mut text = serde_json::to_string_pretty(&Comparison { machine, cases: lines })?;
        text.push('\n');
        std::fs::write(path, text)
            .with_context(|| format!("{}: cannot be written", path.display()))?;
    }
    Ok(())
}

/// What became of the packets of a case, over all rounds.
#[derive(Clone, Debug)]
struct Fates {
    /// The smallest share of the time that the forwarding thread had its core in.
    core_share: f64,
    packets: u64,
    hits: u64,
    misses: u64,
    inserts: u64,
    evictions: u64,
    drops: u64,
    samples: u64,
    /// Of each round with exchanges: the rate without, and what they cost in percent.
    steady: Vec<f64>,
    losses: Vec<f64>,
    lost: u64,
    swaps: u64,
}

impl Fates {
    const NONE: Self = Self {
        core_share: 1.0,
        packets: 0,
        hits: 0,
        misses: 0,
        inserts: 0,
        evictions: 0,
        drops: 0,
        samples: 0,
        steady: Vec::new(),
        losses: Vec::new(),
        lost: 0,
        swaps: 0,
    };

    fn swaps(&self) -> Option<Swaps> {
        (self.swaps > 0).then(|| Swaps {
            steady_mpps: round(median(&self.steady), 3),
            loss_percent: round(median(&self.losses), 2),
            lost: self.lost,
            swaps: self.swaps,
        })
    }

    fn had(&mut self, core_share: f64) {
        self.core_share = self.core_share.min(core_share);
    }
}

fn source(options: &Options, name: &str) -> Result<(PathBuf, Case)> {
    let case = Case::named(name).ok_or_else(|| anyhow!("no case \"{name}\""))?;
    Ok((options.work.join(case.source_name()), case))
}

fn measure(entry: &Entry, options: &Options, fates: &mut Fates) -> Result<f64> {
    let (source, case) = source(options, entry.case)?;
    match entry.program {
        Program::Testpmd(mode) => {
            let rate = testpmd::run(&source, case.flows, mode, options.seconds)?;
            fates.had(rate.core_share);
            Ok(rate.mpps)
        }
        Program::Weir => run_weir(&["run", "--case", entry.case], &source, options.seconds, fates),
        Program::Swap => {
            let every = SWAP_EVERY_MS.to_string();
            run_weir(&["swap", "--every-ms", &every], &source, options.seconds, fates)
        }
    }
}

/// A command of `weir-bench` in a process of its own; its limits are its own.
fn run_weir(command: &[&str], source: &Path, seconds: f64, fates: &mut Fates) -> Result<f64> {
    let output = Command::new(std::env::current_exe()?)
        .args(command)
        .args(["--seconds", &seconds.to_string(), "--source"])
        .arg(source)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        bail!("the run failed: {}", output.status);
    }
    let report: Value = serde_json::from_slice(&output.stdout).context("the run's report")?;
    let number = |key: &str| report.get(key).and_then(Value::as_u64).unwrap_or(0);
    fates.packets += number("packets");
    fates.hits += number("hits");
    fates.misses += number("misses");
    fates.inserts += number("inserts");
    fates.evictions += number("evictions");
    fates.drops += number("drops");
    fates.samples += number("samples");
    fates.lost += number("lost");
    fates.swaps += number("swaps");
    let rate = |key: &str| report.get(key).and_then(Value::as_f64);
    fates.steady.extend(rate("steady_mpps"));
    fates.losses.extend(rate("loss_percent"));
    fates.had(rate("core_share").unwrap_or(1.0));
    rate("mpps").ok_or_else(|| anyhow!("a report without a rate"))
}

fn lines(rates: &[Vec<f64>]) -> Vec<Line> {
    let medians: Vec<f64> = rates.iter().map(|rates| median(rates)).collect();
    let of = |name: &str| {
        ENTRIES.iter().zip(&medians).find(|(entry, _)| entry.name == name).map_or(0.0, |(_, m)| *m)
    };
    ENTRIES
        .iter()
        .zip(rates.iter().zip(&medians))
        .map(|(entry, (rates, &mpps))| Line {
            case: entry.name,
            mpps: round(mpps, 3),
            ns: round(1e3 / mpps, 2),
            ratio_to_macswap: round(mpps / of(entry.to), 3),
            rounds: rates.len(),
            min_mpps: round(rates.iter().copied().fold(f64::INFINITY, f64::min), 3),
            max_mpps: round(rates.iter().copied().fold(0.0, f64::max), 3),
            swaps: None,
        })
        .collect()
}

fn print(machine: &Machine, lines: &[Line], fates: &[Fates], options: &Options) {
    println!("{machine}");
    println!(
        "{} rounds of {} s; one worker, bursts of {}, 64-byte frames",
        options.rounds,
        options.seconds,
        dataplane::port::BURST
    );
    println!();
    println!("case                      Mpps  ns/packet  to macswap      min      max   core");
    for (line, fates) in lines.iter().zip(fates) {
        println!(
            "{:<22} {:>7.2} {:>10.2} {:>11.3} {:>8.2} {:>8.2} {:>5.0}%",
            line.case,
            line.mpps,
            line.ns,
            line.ratio_to_macswap,
            line.min_mpps,
            line.max_mpps,
            fates.core_share * 100.0
        );
    }
    if fates.iter().any(|fates| fates.core_share < QUIET) {
        println!();
        println!("The machine was not quiet: a forwarding thread had its core for less than");
        println!(
            "{:.0} % of the time. Rates are per second on the core, but caches were shared.",
            QUIET * 100.0
        );
    }
    for line in lines {
        if let Some(Swaps { steady_mpps, loss_percent, lost, swaps }) = line.swaps {
            println!();
            println!(
                "{}: {swaps} tables put in force, {lost} packets lost, {:+.2} % against the \
                 rate without ({steady_mpps:.2} Mpps)",
                line.case, -loss_percent
            );
        }
    }
    println!();
    println!("what became of Weir's packets, all rounds together:");
    println!(
        "case                      packets       hits     misses    inserts  evictions  drops  verified"
    );
    for (line, fates) in lines.iter().zip(fates).filter(|(_, fates)| fates.packets > 0) {
        let Fates { packets, hits, misses, inserts, evictions, drops, samples, .. } = fates;
        println!(
            "{:<22} {packets:>10} {hits:>10} {misses:>10} {inserts:>10} {evictions:>10} \
             {drops:>6} {samples:>9}",
            line.case
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_to_macswap_on_the_same_source() {
        let rates = [120.0, 100.0, 50.0, 45.0, 40.0, 10.0, 12.0, 8.0, 32.0, 16.0];
        let lines = lines(&rates.map(|rate| vec![rate]));
        let ratios: Vec<f64> = lines.iter().map(|line| line.ratio_to_macswap).collect();
        assert_eq!(ratios, [1.2, 1.0, 0.5, 0.45, 1.0, 0.25, 0.3, 0.2, 1.0, 0.5]);
        assert_eq!(lines[2].ns, 20.0);
    }

    #[test]
    fn json_has_the_agreed_keys() {
        let rates = vec![vec![1.0]; ENTRIES.len()];
        let mut lines = lines(&rates);
        let fates = Fates { swaps: 7, steady: vec![2.0], losses: vec![0.5], ..Fates::NONE };
        lines[3].swaps = fates.swaps();
        let json = Comparison { machine: Machine::here(), cases: lines };
        let json = serde_json::to_value(json).unwrap();
        let machine = json["machine"].as_object().unwrap();
        let expected =
            ["commit", "core_mhz", "cores", "cpu", "dpdk", "hugepage_kib", "kernel", "tsc_mhz"];
        assert!(expected.iter().all(|key| machine.contains_key(*key)), "{machine:?}");
        let json = &json["cases"];
        let mut keys: Vec<&String> = json[0].as_object().unwrap().keys().collect();
        keys.sort();
        let expected = ["case", "max_mpps", "min_mpps", "mpps", "ns", "ratio_to_macswap", "rounds"];
        assert_eq!(keys, expected.iter().collect::<Vec<_>>());
        let swap = json[3].as_object().unwrap();
        let more = ["steady_mpps", "loss_percent", "lost", "swaps"];
        assert!(more.iter().all(|key| swap.contains_key(*key)) && swap.len() == 11, "{swap:?}");
    }
}
