//! `weir ctl`: what an operator says to the controllers, from a command line.
//!
//! [`Arguments`] is a clap subcommand for the program to embed, [`run`] does what it says. Every
//! command is a file of `commands/` that holds its arguments, its calls and how the answer is
//! shown; what they share is beside them, in the order of a command's life: `session` reaches the
//! leader, `vip`, `secret` and `words` are the notations, `output` shows tables to people and
//! JSON to scripts, `failure` says why not. `configuration/` is the whole of a controller's
//! configuration as one TOML file: export, import and the difference between two.
//!
//! What holds:
//!
//! * Exit codes: 0 done, 1 failed, 2 usage or configuration ([`Failure::exit_code`]).
//! * Every command ends within its bounds, whatever a controller does or does not do; only
//!   `watch` and a drain that is waited for go on, and show that they are alive.
//! * `--json` prints one JSON value a line: the messages of `weir.v1` in the protobuf JSON
//!   mapping, so that names are those of the `.proto` file and stay.
//! * Secrets are read from files and written to none, unless `export --secrets` asks for it.

#![forbid(unsafe_code)]

mod commands;
mod configuration;
mod failure;
mod mss;
mod output;
mod secret;
mod session;
mod vip;
mod words;

pub use crate::commands::Arguments;
pub use crate::failure::Failure;
pub use crate::output::Output;

/// Does what the arguments say, on a runtime of its own.
///
/// # Errors
/// Why it was not done; [`Failure::exit_code`] is what the program ends with.
pub fn run(arguments: &Arguments, out: &mut Output<'_>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("no runtime: {error}")))?;
    runtime.block_on(execute(arguments, out))
}

/// [`run`], inside a runtime that is there already.
///
/// # Errors
/// As [`run`].
pub async fn execute(arguments: &Arguments, out: &mut Output<'_>) -> Result<(), Failure> {
    commands::execute(arguments, out).await
}
