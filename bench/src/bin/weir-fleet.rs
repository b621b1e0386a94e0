//! `weir-fleet`: a whole fleet on one machine, measured. Run by `bench/control-scale.sh` and
//! `bench/ejection.sh`, which build it and clean up after it.
//!
//! Exit codes: 0 done, 1 failed, or a bound does not hold, 2 usage.

#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use bench::fleet::{Places, Size, ejection, scale};
use clap::{Parser, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};

/// A whole fleet on one machine, measured.
#[derive(Debug, Parser)]
#[command(name = "weir-fleet", arg_required_else_help = true)]
struct Cli {
    /// What to measure.
    #[arg(value_enum)]
    what: What,
    /// The program `weir`.
    #[arg(long, value_name = "FILE")]
    weir: PathBuf,
    /// An empty folder for configurations, logs and the registry.
    #[arg(long, value_name = "FOLDER")]
    work: PathBuf,
    /// Also write the result as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Backends of the pool.
    #[arg(long, default_value_t = 750, value_parser = clap::value_parser!(u16).range(250..=1200))]
    backends: u16,
    /// Nodes without ports.
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u16).range(1..=64))]
    nodes: u16,
    /// Checker processes.
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u16).range(3..=16))]
    checkers: u16,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum What {
    /// From a change to its tables in force on all nodes.
    Scale,
    /// From a backend's death to the same; and who must not be ejected.
    Ejection,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = runtime.map_err(Into::into).and_then(|runtime| runtime.block_on(run(&cli)));
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("weir-fleet: a bound does not hold");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("weir-fleet: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: &Cli) -> Result<bool> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let places = Places { weir: cli.weir.clone(), work: cli.work.clone() };
    let size = Size {
        backends: cli.backends.into(),
        nodes: cli.nodes.into(),
        checkers: cli.checkers.into(),
    };
    let measured = async {
        match cli.what {
            What::Scale => scale::run(&places, &size).await,
            What::Ejection => ejection::run(&places, &size).await,
        }
    };
    // Who is dropped ends all that it has started.
    let (report, holds) = tokio::select! {
        result = measured => result?,
        _ = interrupt.recv() => bail!("interrupted"),
        _ = terminate.recv() => bail!("told to end"),
    };
    if let Some(file) = &cli.json {
        let text = serde_json::to_string_pretty(&report)? + "\n";
        std::fs::write(file, text).with_context(|| file.display().to_string())?;
    }
    Ok(holds)
}
