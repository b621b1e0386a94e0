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
    program == Some(b"weir".as_slice()) && matches!(words.next(), Some(b"run" | b"controller"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};
    use std::os::unix::process::CommandExt;
    use std::process::{Child, Command, Stdio};

    #[test]
    fn only_a_weir_that_reloads_is_signalled() {
        assert!(reloads(b"/usr/bin/weir\0run\0/etc/weir.toml\0"));
        assert!(reloads(b"weir\0controller\0/etc/weir.toml\0"));
        assert!(!reloads(b"/usr/bin/weir\0check\0/etc/run\0"));
        assert!(!reloads(b"/usr/bin/weird\0run\0"));
        assert!(!reloads(b""));
    }

    fn reload(arguments: &Arguments) -> Result<(), Failure> {
        let (mut out, mut notes) = (Vec::new(), Vec::new());
        run(arguments, &mut Output::new(&mut out, &mut notes))
    }

    #[test]
    fn another_program_is_left_alone() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let failure = reload(&Arguments { pid: Some(pid), pid_file: None }).unwrap_err();
        assert!(failure.to_string().contains("not sent"), "{failure}");
    }

    /// Ends with the test.
    struct Process(Child);

    impl Drop for Process {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    /// Whether this process was started without hang-ups (`nohup`): a shell then has none either.
    fn hang_ups_are_ignored() -> bool {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap();
        u64::from_str_radix(ignored.trim(), 16).unwrap() & 1 != 0
    }

    #[test]
    fn the_process_of_a_pid_file_is_told() {
        if hang_ups_are_ignored() {
            eprintln!("run under nohup: no shell can be told to reload here");
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        // A shell that looks like `weir run`, and ends with 7 when it is told to reload.
        let script = "trap 'exit 7' HUP; echo ready; while :; do sleep 0.05; done\n";
        fs::write(folder.path().join("run"), script).unwrap();
        let child = Command::new("sh")
            .arg0("weir")
            .arg("run")
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut process = Process(child);
        let mut line = String::new();
        BufReader::new(process.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        let pid_file = folder.path().join("pid");
        fs::write(&pid_file, format!("{}\n", process.0.id())).unwrap();
        reload(&Arguments { pid: None, pid_file: Some(pid_file.clone()) }).unwrap();
        assert_eq!(process.0.wait().unwrap().code(), Some(7));

        fs::write(&pid_file, "none").unwrap();
        let failure = reload(&Arguments { pid: None, pid_file: Some(pid_file) }).unwrap_err();
        assert_eq!(failure.exit_code(), 2);
    }
}
