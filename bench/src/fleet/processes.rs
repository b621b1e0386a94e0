//! Processes of `weir`: started, found in their logs, paused, and ended by their ids.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

/// How long a process may take to say that it listens.
const START: Duration = Duration::from_secs(30);
/// How long it may take to end by itself.
const END: Duration = Duration::from_secs(3);

/// A running `weir`; dropped, it ends.
#[derive(Debug)]
pub(super) struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// `weir COMMAND` with `configuration`; its files are `NAME.toml` and `NAME.log` in `folder`,
    /// and its id is a line of `pids` there, for who cleans up after a driver that was killed.
    pub(super) fn start(
        weir: &Path,
        command: &str,
        name: &str,
        configuration: &str,
        folder: &Path,
    ) -> Result<Self> {
        let file = folder.join(format!("{name}.toml"));
        fs::write(&file, configuration).with_context(|| file.display().to_string())?;
        let log = folder.join(format!("{name}.log"));
        let errors = File::create(&log).with_context(|| log.display().to_string())?;
        let child = Command::new(weir)
            .arg(command)
            .arg(&file)
            .env("WEIR_LOG", "info")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(errors)
            .spawn()
            .with_context(|| format!("{} {command}", weir.display()))?;
        let process = Self { name: name.to_owned(), child, log };
        let mut pids = File::options().create(true).append(true).open(folder.join("pids"))?;
        writeln!(pids, "{}", process.id())?;
        Ok(process)
    }

    /// The process's id.
    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The value of `field` in the first line of the log that holds `text`; waits for it.
    pub(super) fn says(&mut self, text: &str, field: &str) -> Result<String> {
        let end = Instant::now() + START;
        loop {
            let log = fs::read_to_string(&self.log)?;
            let line = log.lines().find(|line| line.contains(text));
            let value = line.and_then(|line| line.split_once(&format!("{field}=")));
            if let Some((_, rest)) = value {
                let value = rest.split_whitespace().next().unwrap_or_default();
                return Ok(value.trim_matches('"').to_owned());
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended ({status}); its log:\n{log}", self.name);
            }
            if Instant::now() >= end {
                bail!("{}: no {text:?} within {START:?}; its log:\n{log}", self.name);
            }
            sleep(Duration::from_millis(20));
        }
    }

    /// Cuts it off: it runs no more, and says nothing.
    pub(super) fn pause(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// It goes on where it was.
    pub(super) fn resume(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let id = i32::try_from(self.id()).ok().and_then(Pid::from_raw);
        let id = id.with_context(|| format!("{}: no id", self.name))?;
        kill_process(id, signal).with_context(|| format!("signal {signal:?} to {}", self.name))
    }

    /// Tells it to end, without waiting.
    pub(super) fn tell_to_end(&self) {
        // One that has gone already is what was wanted.
        let _ = self.signal(Signal::TERM);
        let _ = self.signal(Signal::CONT);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.tell_to_end();
        let end = Instant::now() + END;
        while Instant::now() < end {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
