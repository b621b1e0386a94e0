//! The stages of all cases side by side: what [`crate::stages`] finds, several times, interleaved.
//!
//! Each measurement is a process of its own, as DPDK's environment starts once per process, and
//! pages lie differently in each. A figure is the median over all slices of all rounds.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::Args;
use dataplane::worker::Stage;
use serde::Serialize;

use crate::capture;
use crate::figures::{median, round};
use crate::machine::Machine;
use crate::scenario::Case;
use crate::stages::Slices;

/// Cases that have a profile.
pub const CASES: [&str; 5] = ["hit_4k", "hit_1m", "new", "v6_hit_1m", "gue_hit_1m"];

/// What is asked for.
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// Only this case (hit_4k, hit_1m, new, v6_hit_1m or gue_hit_1m); may be repeated.
    #[arg(long = "case", value_name = "CASE", value_parser = CASES)]
    pub cases: Vec<String>,
    /// Also write the result as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// How often each case is measured.
    #[arg(long, default_value_t = 3)]
    pub rounds: usize,
    /// How long each measurement takes.
    #[arg(long, default_value_t = 4.0)]
    pub seconds: f64,
    /// A folder for the packet sources.
    #[arg(long, value_name = "FOLDER")]
    pub work: PathBuf,
}

/// What the JSON holds.
#[derive(Clone, Debug, Serialize)]
pub struct Profile {
    /// What it was measured on.
    pub machine: Machine,
    /// By case.
    pub cases: BTreeMap<String, CaseProfile>,
}

/// The stages of one case. Cycles are those of the core, a packet.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CaseProfile {
    /// By stage, in the order that a burst meets them.
    pub stages: Vec<StageProfile>,
    /// All stages together.
    pub sum_cycles: f64,
    /// The whole round, measured without reading stages.
    pub whole_cycles: f64,
    /// The same in nanoseconds.
    pub whole_ns: f64,
    /// The quickest and the slowest slice.
    pub whole_min_ns: f64,
    /// The slowest.
    pub whole_max_ns: f64,
    /// What one reading of the counter costs; it is taken off.
    pub reading_cycles: f64,
    /// Packets of a burst.
    pub burst: f64,
    /// Slices of each kind.
    pub slices: usize,
}

/// One stage of one case.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StageProfile {
    /// Its name.
    pub stage: &'static str,
    /// Cycles a packet: the median of the slices.
    pub cycles: f64,
    /// The same in nanoseconds.
    pub ns: f64,
    /// The least of the slices, in cycles.
    pub min_cycles: f64,
    /// The most.
    pub max_cycles: f64,
    /// Its share of the sum, in percent.
    pub percent: f64,
}

/// Measures and prints.
///
/// # Errors
/// At the first measurement that fails.
pub fn run(options: &Options) -> Result<()> {
    ensure!(options.rounds > 0, "--rounds: at least 1");
    let names = match options.cases.is_empty() {
        true => CASES.map(str::to_owned).to_vec(),
        false => options.cases.clone(),
    };
    std::fs::create_dir_all(&options.work)
        .with_context(|| format!("{}: cannot be made", options.work.display()))?;
    let machine = Machine::here();
    let mut sources = Vec::new();
    for name in &names {
        let case = Case::named(name).ok_or_else(|| anyhow!("no case \"{name}\""))?;
        let path = options.work.join(case.source_name());
        capture::write(&path, case.flows, case.ip, case.kind())?;
        sources.push(path);
    }
    let mut found = vec![Slices::default(); names.len()];
    for round in 1..=options.rounds {
        for ((name, source), all) in names.iter().zip(&sources).zip(&mut found) {
            let slices = measure(name, source, options.seconds).with_context(|| name.clone())?;
            let ns = median(&slices.whole);
            eprintln!("round {round}/{}  {name:<12} {ns:>6.1} ns a packet", options.rounds);
            add(all, slices);
        }
    }
    let profiles = found.iter().map(|slices| profile(slices, machine.core_mhz));
    let cases = names.iter().cloned().zip(profiles).collect();
    let profile = Profile { machine, cases };
    print(&profile, &names, options);
    if let Some(path) = &options.json {
        let mut text = serde_json::to_string_pretty(&profile)?;
        text.push('\n');
        std::fs::write(path, text)
            .with_context(|| format!("{}: cannot be written", path.display()))?;
    }
    Ok(())
}

fn measure(case: &str, source: &Path, seconds: f64) -> Result<Slices> {
    let output = Command::new(std::env::current_exe()?)
        .args(["stage-run", "--case", case, "--seconds", &seconds.to_string(), "--source"])
        .arg(source)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        bail!("the run failed: {}", output.status);
    }
    serde_json::from_slice(&output.stdout).context("the run's report")
}

/// One round more.
fn add(all: &mut Slices, more: Slices) {
    all.stages.resize(more.stages.len(), Vec::new());
    for (all, more) in all.stages.iter_mut().zip(more.stages) {
        all.extend(more);
    }
    all.whole.extend(more.whole);
    all.samples += more.samples;
    all.reading = more.reading;
    all.burst = more.burst;
}

fn profile(slices: &Slices, core_mhz: f64) -> CaseProfile {
    let cycles = |ns: f64| ns * core_mhz / 1e3;
    let least = |values: &[f64]| values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = |values: &[f64]| values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sums: Vec<f64> = (0..slices.whole.len())
        .map(|slice| slices.stages.iter().filter_map(|stage| stage.get(slice)).sum())
        .collect();
    let sum = median(&sums);
    let stages = Stage::ALL.iter().zip(&slices.stages).map(|(stage, values)| {
        let ns = median(values);
        StageProfile {
            stage: stage.name(),
            cycles: round(cycles(ns), 1),
            ns: round(ns, 2),
            min_cycles: round(cycles(least(values)), 1),
            max_cycles: round(cycles(most(values)), 1),
            percent: round(ns / sum * 100.0, 1),
        }
    });
    let whole = median(&slices.whole);
    CaseProfile {
        stages: stages.collect(),
        sum_cycles: round(cycles(sum), 1),
        whole_cycles: round(cycles(whole), 1),
        whole_ns: round(whole, 2),
        whole_min_ns: round(least(&slices.whole), 2),
        whole_max_ns: round(most(&slices.whole), 2),
        reading_cycles: round(cycles(slices.reading), 1),
        burst: round(slices.burst, 1),
        slices: slices.whole.len(),
    }
}

fn print(profile: &Profile, names: &[String], options: &Options) {
    let cases: Vec<&CaseProfile> =
        names.iter().filter_map(|name| profile.cases.get(name)).collect();
    println!("{}", profile.machine);
    println!(
        "cycles of the core a packet; medians of {} slices of time, {} rounds of {} s",
        cases.first().map_or(0, |case| case.slices),
        options.rounds,
        options.seconds
    );
    println!();
    let line = |what: &str, value: &dyn Fn(&CaseProfile) -> Option<f64>| {
        print!("{what:<22}");
        for case in &cases {
            print!(" {:>11.1}", value(case).unwrap_or(f64::NAN));
        }
        println!();
    };
    print!("{:<22}", "stage");
    for name in names {
        print!(" {name:>11}");
    }
    println!();
    for (place, stage) in Stage::ALL.iter().enumerate() {
        line(stage.name(), &|case| case.stages.get(place).map(|stage| stage.cycles));
    }
    line("sum of the stages", &|case| Some(case.sum_cycles));
    line("the whole round", &|case| Some(case.whole_cycles));
    println!();
    line("whole round, ns", &|case| Some(case.whole_ns));
    line("  quickest slice", &|case| Some(case.whole_min_ns));
    line("  slowest slice", &|case| Some(case.whole_max_ns));
    line("packets of a burst", &|case| Some(case.burst));
    line("one reading, cycles", &|case| Some(case.reading_cycles));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cycles_are_of_the_core_and_medians_of_the_slices() {
        let mut all = Slices::default();
        for scale in [1.0, 3.0, 2.0] {
            add(
                &mut all,
                Slices {
                    stages: (1..=Stage::ALL.len())
                        .map(|stage| vec![stage as f64 * scale])
                        .collect(),
                    whole: vec![50.0 * scale],
                    reading: 10.0,
                    burst: 64.0,
                    samples: 1,
                },
            );
        }
        assert_eq!(all.samples, 3);
        let profile = profile(&all, 4000.0);
        assert_eq!(profile.slices, 3);
        assert_eq!(profile.whole_ns, 100.0);
        assert_eq!((profile.whole_min_ns, profile.whole_max_ns), (50.0, 150.0));
        assert_eq!(profile.whole_cycles, 400.0);
        let sum = (1..=Stage::ALL.len()).sum::<usize>() as f64;
        assert_eq!(profile.sum_cycles, sum * 2.0 * 4.0);
        assert_eq!(profile.reading_cycles, 40.0);
        let receive = &profile.stages[0];
        assert_eq!((receive.stage, receive.cycles, receive.ns), ("receive", 8.0, 2.0));
        assert_eq!((receive.min_cycles, receive.max_cycles), (4.0, 12.0));
        assert_eq!(receive.percent, round(100.0 / sum, 1));
    }

    #[test]
    fn every_case_is_one() {
        assert!(CASES.iter().all(|name| Case::named(name).is_some()));
    }
}
