//! How a subcommand fails: what is printed, and the exit code.

use std::fmt::Display;
use std::path::Path;
use std::process::ExitCode;

use config::{Config, Problem};

/// Permission bits that a secret's file may not have: anything for others, write for the group.
pub(crate) const TOO_OPEN: u32 = 0o027;

/// Why the program ends without success.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Wrong usage or configuration: exit code 2.
    Configuration(String),
    /// Something failed: exit code 1.
    Failed(anyhow::Error),
    /// `weir ctl` knows its own reasons and exit codes.
    Ctl(ctl::Failure),
}

impl Failure {
    /// A failure of the configuration.
    pub(crate) fn configuration(problem: impl Display) -> Self {
        Self::Configuration(problem.to_string())
    }

    /// Prints the failure and gives its exit code.
    pub(crate) fn report(&self) -> ExitCode {
        match self {
            Self::Configuration(problem) => {
                eprintln!("{problem}");
                ExitCode::from(2)
            }
            Self::Ctl(failure) => {
                if let Some(message) = failure.message() {
                    eprintln!("weir: {message}");
                }
                ExitCode::from(failure.exit_code())
            }
            Self::Failed(error) => {
                // A closed pipe is how `weir replay | head` ends; nobody is left to be told.
                let closed = error.chain().any(|cause| {
                    cause
                        .downcast_ref::<std::io::Error>()
                        .is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
                });
                if !closed {
                    eprintln!("weir: {error:#}");
                }
                ExitCode::from(1)
            }
        }
    }
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// Reads the configuration of a node; prints its warnings.
pub(crate) fn load(path: &Path) -> Result<Config, Failure> {
    let loaded = Config::load(path).map_err(Failure::configuration)?;
    warn(&loaded.warnings);
    Ok(loaded.config)
}

/// As [`load`], for what needs the pools and VIPs that are in the file.
pub(crate) fn load_static(path: &Path) -> Result<Config, Failure> {
    let config = load(path)?;
    if config.controller.is_some() {
        return Err(Failure::configuration(format!(
            "{}: [controller]: the pools and VIPs of this node are not in the file (expected \
             [[pool]] and [[vip]])",
            path.display()
        )));
    }
    Ok(config)
}

/// Prints what is doubtful about a configuration.
pub(crate) fn warn(warnings: &[Problem]) {
    for warning in warnings {
        eprintln!("warning: {warning}");
    }
}
