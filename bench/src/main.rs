//! `weir-bench`: packet sources, single runs and the side-by-side comparison with testpmd.
//!
//! Exit codes: 0 done, 1 failed (or the packets did something else than the case is about),
//! 2 usage.

#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, anyhow};
use bench::flows::Ip;
use bench::frame::Kind;
use bench::scenario::{self, Case};
use bench::{
    capture, generate, instructions, latency, side_by_side, stage_table, stages, swaps, weir,
    workers,
};
use clap::{Parser, Subcommand, ValueEnum};

/// Whole-path benchmarks of Weir.
#[derive(Debug, Parser)]
#[command(name = "weir-bench", arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write a packet source: a capture of one 64-byte frame for each flow.
    Capture {
        /// How many flows.
        #[arg(long)]
        flows: u32,
        /// What each frame carries.
        #[arg(long, value_enum, default_value = "ack")]
        kind: Segment,
        /// Over IPv6.
        #[arg(long)]
        ipv6: bool,
        /// The file to write.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Measure one case; prints one line of JSON.
    Run {
        /// The packet source, made for this case.
        #[arg(long, value_name = "FILE")]
        source: PathBuf,
        /// hit_4k, hit_256k, hit_1m, new, v6_hit_1m or gue_hit_1m.
        #[arg(long)]
        case: String,
        /// How many workers, each with all of the source; reports less of each.
        #[arg(long)]
        workers: Option<u16>,
        /// How long to measure.
        #[arg(long, default_value_t = 3.0)]
        seconds: f64,
    },
    /// Exchange tables under load, in turns with slices of time without; prints one line of JSON.
    Swap {
        /// The packet source, made for the case hit_4k.
        #[arg(long, value_name = "FILE")]
        source: PathBuf,
        /// How long to measure with, and without.
        #[arg(long, default_value_t = 3.0)]
        seconds: f64,
        /// Milliseconds from one exchange to the next; 0: without a pause.
        #[arg(long, default_value_t = 100)]
        every_ms: u64,
    },
    /// The same without a pause, as a table: how long the worker is away from its port.
    BuildDelay {
        /// How long to measure with, and without.
        #[arg(long, default_value_t = 10.0)]
        seconds: f64,
        /// Also write the result as JSON.
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
        /// A folder for the packet source.
        #[arg(long, value_name = "FOLDER")]
        work: PathBuf,
    },
    /// Measure all cases and testpmd, interleaved; prints a table.
    SideBySide {
        /// Also write the result as JSON.
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
        /// How often each case is measured.
        #[arg(long, default_value_t = 7)]
        rounds: usize,
        /// How long each measurement takes.
        #[arg(long, default_value_t = 3.0)]
        seconds: f64,
        /// A folder for the packet sources (100 MB).
        #[arg(long, value_name = "FOLDER")]
        work: PathBuf,
    },
    /// Send packets over a device, receive them, and tell how many came back, how late.
    Generate(generate::Options),
    /// Measure how long packets are in the node, at shares of its capacity; prints a table.
    Latency {
        /// Also write the result as JSON.
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
        /// How often each point is measured.
        #[arg(long, default_value_t = 9)]
        rounds: usize,
        /// How long each measurement takes.
        #[arg(long, default_value_t = 0.2)]
        seconds: f64,
        /// How many flows.
        #[arg(long, default_value_t = 4096)]
        flows: u32,
        /// With real-time priority, where the machine is not quiet.
        #[arg(long)]
        realtime: bool,
        /// Print how many MiB of hugepages that needs, instead.
        #[arg(long)]
        memory: bool,
    },
    /// Measure one worker and several, and testpmd with as many threads, interleaved.
    Workers(workers::Options),
    /// Where the cycles go, stage by stage; prints a table.
    Stages(stage_table::Options),
    /// One measurement of these; prints one line of JSON.
    StageRun {
        /// The packet source, made for this case.
        #[arg(long, value_name = "FILE")]
        source: PathBuf,
        /// hit_4k, hit_1m, new, v6_hit_1m or gue_hit_1m.
        #[arg(long)]
        case: String,
        /// How long to measure.
        #[arg(long, default_value_t = 4.0)]
        seconds: f64,
    },
    /// Count instructions a packet under valgrind's callgrind; prints a table for each case.
    Instructions(instructions::Options),
    /// What of it runs under valgrind: the path, for some bursts; prints one line of JSON.
    InstructionRun {
        /// The packet source, made for this case.
        #[arg(long, value_name = "FILE")]
        source: PathBuf,
        /// hit_4k, hit_64k, new_64k, v6_hit_64k or gue_hit_64k.
        #[arg(long)]
        case: String,
        /// Bursts, after those in which every flow gets its entry.
        #[arg(long)]
        bursts: u32,
    },
    /// Print the configuration of a case's node at another device, for `weir run`.
    Configuration {
        /// hit_4k, hit_1m, new, v6_hit_1m, gue_hit_1m or swap.
        #[arg(long)]
        case: String,
        /// The device, as DPDK names it: 0000:3b:00.0.
        #[arg(long)]
        device: String,
    },
    /// Print how many MiB of hugepages a case needs.
    Memory {
        /// The case; without, the one that needs most.
        #[arg(long)]
        case: Option<String>,
        /// What `workers` needs with so many.
        #[arg(long)]
        workers: Option<u16>,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Segment {
    Ack,
    Syn,
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("weir-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Capture { flows, kind, ipv6, out } => {
            let kind = match kind {
                Segment::Ack => Kind::Ack,
                Segment::Syn => Kind::Syn,
            };
            capture::write(&out, flows, if ipv6 { Ip::V6 } else { Ip::V4 }, kind)
        }
        Command::Run { source, case, workers, seconds } => {
            let case = named(&case)?;
            let report = match workers {
                None => serde_json::to_string(&weir::run(&source, case, seconds)?)?,
                Some(workers) => {
                    serde_json::to_string(&workers::run(&source, case, workers, seconds)?)?
                }
            };
            println!("{report}");
            Ok(())
        }
        Command::Swap { source, seconds, every_ms } => {
            let report = swaps::run(&source, seconds, Duration::from_millis(every_ms))?;
            println!("{}", serde_json::to_string(&report)?);
            Ok(())
        }
        Command::BuildDelay { seconds, json, work } => {
            swaps::build_delay(&work, seconds, json.as_deref())
        }
        Command::SideBySide { json, rounds, seconds, work } => {
            side_by_side::run(&side_by_side::Options { json, rounds, seconds, work })
        }
        Command::Generate(options) => generate::run(&options),
        Command::Latency { flows, memory: true, .. } => {
            println!("{}", latency::memory(flows));
            Ok(())
        }
        Command::Latency { json, rounds, seconds, flows, realtime, memory: false } => {
            latency::run(&latency::Options { json, rounds, seconds, flows, realtime })
        }
        Command::Workers(options) => workers::compare(&options),
        Command::Stages(options) => stage_table::run(&options),
        Command::StageRun { source, case, seconds } => {
            let slices = stages::run(&source, named(&case)?, seconds)?;
            println!("{}", serde_json::to_string(&slices)?);
            Ok(())
        }
        Command::Instructions(options) => instructions::count(&options),
        Command::InstructionRun { source, case, bursts } => {
            let done = instructions::run(&source, instructions::named(&case)?, bursts)?;
            println!("{}", serde_json::to_string(&done)?);
            Ok(())
        }
        Command::Configuration { case, device } => {
            print!("{}", scenario::configuration_at(&device, named(&case)?, scenario::WEIGHT));
            Ok(())
        }
        Command::Memory { workers: Some(workers), .. } => {
            println!("{}", workers::most_memory_mib(workers));
            Ok(())
        }
        Command::Memory { case, .. } => {
            let needed = Case::NAMES
                .into_iter()
                .filter(|name| case.as_deref().is_none_or(|case| case == *name))
                .filter_map(Case::named)
                .map(|case| scenario::memory_mib(case.flows, case.table))
                .max();
            println!("{}", needed.unwrap_or(0));
            Ok(())
        }
    }
}

fn named(case: &str) -> Result<Case> {
    let names = Case::NAMES.join(", ");
    Case::named(case).ok_or_else(|| anyhow!("no case \"{case}\" (expected one of {names})"))
}
