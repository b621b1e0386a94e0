//! `weir`: a layer-4 load balancer for bare-metal networks.
//!
//! One binary, one file per subcommand; the work is done in the workspace's crates. Exit codes:
//! 0 done, 1 failed, 2 usage or configuration.

mod check;
mod checker;
mod cli;
mod completions;
mod controller;
mod controllers;
mod ctl;
mod exception;
mod explain;
mod failure;
mod logging;
mod memory;
mod replay;
mod run;
mod service;
mod watch;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        Command::Run(arguments) => run::run(&arguments),
        Command::Controller(arguments) => controller::run(&arguments),
        Command::Checker(arguments) => checker::run(&arguments),
        Command::Check(arguments) => check::check(&arguments),
        Command::Replay(arguments) => replay::replay(&arguments),
        Command::Explain(arguments) => explain::explain(&arguments),
        Command::Ctl(arguments) => ctl::run(&arguments),
        Command::Completions(arguments) => completions::completions(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
