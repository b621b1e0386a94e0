//! `weir-bench`: packet sources, single runs and the side-by-side comparison with testpmd.
//!
//! Exit codes: 0 done, 1 failed (or the packets did something else than the case is about),
//! 2 usage.

#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, anyhow};
use bench::frame::Kind;
use bench::scenario::{self, Case};
use bench::{capture, side_by_side, weir};
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
        /// The file to write.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Measure one case; prints one line of JSON.
    Run {
        /// The packet source, made for this case.
        #[arg(long, value_name = "FILE")]
        source: PathBuf,
        /// hit_4k, hit_1m or new.
        #[arg(long)]
        case: String,
        /// How long to measure.
        #[arg(long, default_value_t = 3.0)]
        seconds: f64,
    },
    /// Measure all cases and testpmd, interleaved; prints a table.
    SideBySide {
        /// Also write the result as JSON.
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
        /// How often each case is measured.
        #[arg(long, default_value_t = 5)]
        rounds: usize,
        /// How long each measurement takes.
        #[arg(long, default_value_t = 3.0)]
        seconds: f64,
        /// A folder for the packet sources (100 MB).
        #[arg(long, value_name = "FOLDER")]
        work: PathBuf,
    },
    /// Print how many MiB of hugepages the largest case needs.
    Memory,
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
        Command::Capture { flows, kind, out } => {
            let kind = match kind {
                Segment::Ack => Kind::Ack,
                Segment::Syn => Kind::Syn,
            };
            capture::write(&out, flows, kind)
        }
        Command::Run { source, case, seconds } => {
            let case = Case::named(&case)
                .ok_or_else(|| anyhow!("no case \"{case}\" (expected hit_4k, hit_1m or new)"))?;
            let report = weir::run(&source, case, seconds)?;
            println!("{}", serde_json::to_string(&report)?);
            Ok(())
        }
        Command::SideBySide { json, rounds, seconds, work } => {
            side_by_side::run(&side_by_side::Options { json, rounds, seconds, work })
        }
        Command::Memory => {
            let needed = ["hit_4k", "hit_1m", "new"]
                .into_iter()
                .filter_map(Case::named)
                .map(|case| scenario::memory_mib(case.flows, case.table))
                .max();
            println!("{}", needed.unwrap_or(0));
            Ok(())
        }
    }
}
