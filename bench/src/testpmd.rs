//! DPDK's own `testpmd` on the same source: the yardstick.
//!
//! It runs with a prompt, and the prompt is a pipe: `show port stats all` at the beginning and the
//! end of the measured time. Every answer is waited for with a limit, and the process is ended by
//! its own handle whatever happens.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use dataplane::port::BURST;

use crate::cpu_time::{self, CpuTime};
use crate::scenario::{self, DESCRIPTORS, WORKER_CORE};

/// testpmd reads the whole capture before it answers.
const LONGEST_START: Duration = Duration::from_secs(60);
/// For any answer after that.
const LONGEST_ANSWER: Duration = Duration::from_secs(10);
/// Forwarding before the measurement.
const WARM_UP: Duration = Duration::from_millis(500);

/// How testpmd forwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Without touching the packet.
    Io,
    /// Source and destination MAC addresses swapped: each packet is read and written.
    MacSwap,
}

impl Mode {
    fn name(self) -> &'static str {
        match self {
            Self::Io => "io",
            Self::MacSwap => "macswap",
        }
    }
}

/// What a run found out.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    /// Millions of packets received for each second on the core.
    pub mpps: f64,
    /// Share of the time that the forwarding thread had its core: 1 on a quiet machine.
    pub core_share: f64,
}

/// How many packets a second testpmd forwards from `source`, a capture of `flows` frames.
///
/// # Errors
/// When it is not installed, does not start (no hugepages, most likely), or does not answer.
pub fn run(source: &Path, flows: u32, mode: Mode, seconds: f64) -> Result<Rate> {
    run_on(&[WORKER_CORE], source, flows, mode, seconds)
}

/// The same with a forwarding thread on each of `cores`, each with a queue and `source` of its own.
///
/// # Errors
/// As [`run`]'s.
pub fn run_on(cores: &[u16], source: &Path, flows: u32, mode: Mode, seconds: f64) -> Result<Rate> {
    let mut testpmd = Testpmd::start(cores, source, flows, mode)?;
    testpmd.say("start")?;
    testpmd.expect("packet forwarding - ports=", LONGEST_START)?;
    std::thread::sleep(WARM_UP);
    // "lcore-worker-1", "rte-worker-1" or "dpdk-worker1", by release.
    let account = |number: usize| {
        let number = number.to_string();
        CpuTime::of_thread(testpmd.child.id(), |name| {
            name.strip_suffix(&number)
                .is_some_and(|name| name.trim_end_matches('-').ends_with("worker"))
        })
    };
    let accounts: Vec<_> = (1..=cores.len()).map(account).collect();
    let before = testpmd.read(&accounts)?;
    std::thread::sleep(Duration::from_secs_f64(seconds));
    let after = testpmd.read(&accounts)?;
    testpmd.say("quit")?;
    testpmd.wait();
    let seconds = (after.at - before.at).as_secs_f64();
    let packets = after.packets.saturating_sub(before.packets);
    if packets == 0 {
        bail!("testpmd received nothing");
    }
    let shares = before.on_core.iter().zip(&after.on_core);
    let shares = shares.map(|(before, after)| cpu_time::share(*before, *after, seconds));
    let core_share = shares.sum::<f64>() / cores.len() as f64;
    Ok(Rate { mpps: packets as f64 / (seconds * core_share) / 1e6, core_share })
}

/// testpmd's counters at one moment.
struct Reading {
    at: Instant,
    /// By forwarding thread.
    on_core: Vec<Option<u64>>,
    packets: u64,
}

/// A running testpmd. Dropping it ends the process.
struct Testpmd {
    child: Child,
    prompt: ChildStdin,
    lines: Receiver<String>,
}

impl Testpmd {
    fn start(cores: &[u16], source: &Path, flows: u32, mode: Mode) -> Result<Self> {
        let count = cores.len() as u32;
        // The prompt's thread sleeps, so that it may have its core with another.
        let threads: String =
            (1..).zip(cores).map(|(thread, core)| format!(",{thread}@{core}")).collect();
        // Through a pipe its lines would come in blocks of 4 KiB; `stdbuf` replaces itself with
        // testpmd, so that the child is testpmd.
        let mut child = Command::new("stdbuf")
            .args(["-oL", "dpdk-testpmd", "--in-memory", "--no-pci", "--no-telemetry"])
            .args(["--log-level=warning", "--main-lcore=0"])
            .arg(format!("--lcores=0@0{threads}"))
            .arg(format!("-m{}", count * scenario::memory_mib(flows, 0)))
            .arg(format!("--file-prefix=weir-testpmd-{}", std::process::id()))
            .arg(format!("--vdev={}", scenario::device_of_queues(source, cores.len())))
            .args(["--", "--interactive", "--port-topology=loop"])
            .args([format!("--nb-cores={count}"), format!("--rxq={count}")])
            .arg(format!("--txq={count}"))
            .args(["--no-flush-rx", &format!("--forward-mode={}", mode.name())])
            .args([format!("--burst={BURST}"), format!("--mbcache={}", 4 * BURST)])
            .args([format!("--rxd={DESCRIPTORS}"), format!("--txd={DESCRIPTORS}")])
            .arg(format!("--total-num-mbufs={}", count * scenario::mbufs(flows)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("stdbuf (package coreutils) did not start")?;
        let (sender, lines) = channel();
        let streams: [Option<Box<dyn std::io::Read + Send>>; 2] = [
            child.stdout.take().map(|stream| Box::new(stream) as _),
            child.stderr.take().map(|stream| Box::new(stream) as _),
        ];
        for stream in streams.into_iter().flatten() {
            let sender = sender.clone();
            // Ends with the stream, which ends with the process.
            std::thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    if sender.send(line).is_err() {
                        return;
                    }
                }
            });
        }
        match child.stdin.take() {
            Some(prompt) => Ok(Self { child, prompt, lines }),
            None => Err(anyhow!("testpmd has no prompt")),
        }
    }

    fn say(&mut self, command: &str) -> Result<()> {
        writeln!(self.prompt, "{command}").context("testpmd has ended")
    }

    /// The rest of the first line that contains `what`, behind it.
    fn expect(&mut self, what: &str, limit: Duration) -> Result<String> {
        let end = Instant::now() + limit;
        let mut heard: Vec<String> = Vec::new();
        loop {
            match self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) => match line.split_once(what) {
                    Some((_, rest)) => return Ok(rest.trim().to_owned()),
                    None => heard.push(line),
                },
                Err(reason) => {
                    let why = match reason {
                        RecvTimeoutError::Timeout => "does not answer",
                        RecvTimeoutError::Disconnected => {
                            "ended (package dpdk-dev installed? hugepages?)"
                        }
                    };
                    bail!("testpmd {why}; it said:\n{}", heard.join("\n"));
                }
            }
        }
    }

    fn read(&mut self, accounts: &[Option<CpuTime>]) -> Result<Reading> {
        let on_core = accounts.iter().map(|one| one.as_ref()?.nanoseconds()).collect();
        let at = Instant::now();
        self.say("show port stats all")?;
        let text = self.expect("RX-packets:", LONGEST_ANSWER)?;
        let number = text.split_whitespace().next().unwrap_or_default();
        let packets = number.parse().with_context(|| format!("testpmd's count: \"{text}\""))?;
        Ok(Reading { at, on_core, packets })
    }

    /// Waits for the end, within limits.
    fn wait(&mut self) {
        let end = Instant::now() + LONGEST_ANSWER;
        while Instant::now() < end {
            match self.child.try_wait() {
                Ok(None) => std::thread::sleep(Duration::from_millis(20)),
                Ok(Some(_)) | Err(_) => return,
            }
        }
    }
}

impl Drop for Testpmd {
    fn drop(&mut self) {
        // Neither fails in a way that matters: the process may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
