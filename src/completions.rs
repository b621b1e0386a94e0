//! `weir completions`: what a shell needs to complete the command line.

use std::io::Write;

use clap::CommandFactory;

use crate::cli::{Cli, CompletionsArguments};
use crate::failure::Failure;

/// Prints the script for one shell.
pub(crate) fn completions(arguments: &CompletionsArguments) -> Result<(), Failure> {
    // Made whole first: the generator does not expect that nobody reads what it writes.
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Cli::command(), "weir", &mut script);
    std::io::stdout().write_all(&script)?;
    Ok(())
}
