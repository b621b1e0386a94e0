//! How a subcommand fails: what is printed, and the exit code.

use std::fmt::Display;
use std::path::Path;
use std::process::ExitCode;

use config::Config;

/// Why the program ends without success.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Wrong usage or configuration: exit code 2.
    Configuration(String),
    /// Something failed: exit code 1.
    Failed(anyhow::Error),
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

/// Reads a configuration; prints its warnings.
pub(crate) fn load(path: &Path) -> Result<Config, Failure> {
    let loaded = Config::load(path).map_err(Failure::configuration)?;
    for warning in &loaded.warnings {
        eprintln!("warning: {warning}");
    }
    Ok(loaded.config)
}
