//! What a program that runs says about itself: one line an event, on standard error.
//!
//! `WEIR_LOG` chooses how much, `info` by default: `debug`, or by part, `info,control=debug`.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// From here on events are shown. Once for each process.
pub(crate) fn start() {
    let filter = EnvFilter::try_from_env("WEIR_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let ansi = std::io::stderr().is_terminal();
    let format = tracing_subscriber::fmt().with_ansi(ansi).with_writer(std::io::stderr);
    format.with_env_filter(filter).init();
}
