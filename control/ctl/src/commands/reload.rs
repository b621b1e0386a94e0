//! `reload`: SIGHUP to a process of this machine.
//!
//! Any other program would die of the signal, so the process must be a `weir` that reloads.

use std::fs;
use std::path::{Path, PathBuf};

use clap::{ArgGroup, Args};
use rustix::process::{Pid, Signal, kill_process};

use crate::failure::Failure;
use crate::output::Output;

#[derive(Clone, Debug, Args)]
#[command(group(ArgGroup::new("process").required(true).args(["pid", "pid_file"])))]
pub(super) struct Arguments {
    /// The process.
    #[arg(long, value_parser = clap::value_parser!(i32).range(1..))]
    pid: Option<i32>,
    /// A file that holds the number of the process.
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
}

pub(super) fn run(arguments: &Arguments, out: &mut Output<'_>) -> Result<(), Failure> {
    let number = match (arguments.pid, &arguments.pid_file) {
        (Some(number), _) => number,
        (None, Some(path)) => read_pid(path)?,
        (None, None) => return Err(Failure::usage("expected --pid or --pid-file")),
    };
    let command = fs::read(format!("/proc/{number}/cmdline"))
        .map_err(|error| Failure::failed(format_args!("no process {number}: {error}")))?;
    if !reloads(&command) {
        return Err(Failure::failed(format_args!(
            "process {number} is no `weir run` and no `weir controller` (the signal would end \
             another program): not sent"
        )));
    }
    let pid = Pid::from_raw(number)
        .ok_or_else(|| Failure::usage(format_args!("{number} is no process")))?;
    kill_process(pid, Signal::HUP)
        .map_err(|error| Failure::failed(format_args!("process {number}: {error}")))?;
    Ok(out.line(format_args!(
        "process {number} was told to read its configuration again; its log says what came of it"
    ))?)
}

fn read_pid(path: &Path) -> Result<i32, Failure> {
    let text = fs::read_to_string(path).map_err(|error| {
        Failure::usage(format_args!("{}: cannot be read: {error}", path.display()))
    })?;
    text.trim().parse().ok().filter(|&number| number > 0).ok_or_else(|| {
        Failure::usage(format_args!("{}: expected the number of a process", path.display()))
    })
}

/// Whether this command line (words, each with a zero byte behind it) is `weir run ...` or
/// `weir controller ...`.
fn reloads(command: &[u8]) -> bool {
    let mut words = command.split(|&byte| byte == 0);
    let program = words.next().and_then(|path| path.rsplit(|&byte| byte == b'/').next());
    program == Some(b"weir".as_slice())
        && words.next().is_some_and(|word| word == b"run" || word == b"controller")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_weir_that_runs_is_signalled() {
        assert!(reloads(b"/usr/bin/weir\0run\0/etc/weir.toml\0"));
        assert!(reloads(b"weir\0controller\0/etc/controller.toml\0"));
        assert!(!reloads(b"/usr/bin/weir\0check\0run\0"));
        assert!(!reloads(b"/usr/bin/weird\0run\0"));
        assert!(!reloads(b""));
    }

    #[test]
    fn this_process_is_no_weir_and_survives() {
        let (mut out, mut notes) = (Vec::new(), Vec::new());
        let pid = i32::try_from(std::process::id()).unwrap();
        let arguments = Arguments { pid: Some(pid), pid_file: None };
        let failure = run(&arguments, &mut Output::new(&mut out, &mut notes)).unwrap_err();
        assert!(failure.to_string().contains("not sent"), "{failure}");
    }
}
