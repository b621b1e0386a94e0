//! What processes have used, and what checkers count.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Ticks of the times in `/proc/PID/stat` (proc(5)); 100 a second on every architecture that
/// Linux has since 2.6.
const TICK: Duration = Duration::from_millis(10);
/// How long an answer over HTTP may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// User and system time of a process so far.
pub(super) fn cpu_time(process: u32) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The name, in parentheses, may hold anything.
    let fields = stat.rsplit(") ").next().unwrap_or_default();
    let ticks: u64 = fields.split(' ').skip(11).take(2).flat_map(str::parse::<u64>).sum();
    Ok(TICK * u32::try_from(ticks)?)
}

/// Resident memory of a process in MiB: now, and at most.
pub(super) fn memory_mib(process: u32) -> Result<(f64, f64)> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<f64>().ok());
        kib.map(|kib| (kib / 102.4).round() / 10.0).with_context(|| format!("no {name}"))
    };
    Ok((field("VmRSS:")?, field("VmHWM:")?))
}

/// The load of the machine over the last minute; 0 where it is not known.
pub(super) fn load() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().and_then(|load| load.parse().ok()).unwrap_or(0.0)
}

/// Who uses the CPU.
#[derive(Clone, Debug)]
pub(super) struct Usage {
    at: Instant,
    each: Vec<Duration>,
}

impl Usage {
    /// What each has used so far.
    pub(super) fn now(processes: &[u32]) -> Result<Self> {
        let each = processes.iter().map(|process| cpu_time(*process)).collect::<Result<_>>()?;
        Ok(Self { at: Instant::now(), each })
    }

    /// Of each, percent of a core since then.
    pub(super) fn percent_until(&self, later: &Self) -> Vec<f64> {
        let time = later.at.duration_since(self.at).as_secs_f64().max(0.001);
        let both = self.each.iter().zip(&later.each);
        both.map(|(before, after)| after.saturating_sub(*before).as_secs_f64() / time)
            .map(|share| (share * 1000.0).round() / 10.0)
            .collect()
    }
}

/// What all checkers have counted so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Probes {
    at: Option<Instant>,
    /// How many began at most so late, by the bound in seconds; the last bound is infinite.
    late: Vec<(f64, f64)>,
    /// The latest of all, seconds.
    latest: f64,
}

/// Probes between two counts.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct ProbeFigures {
    pub(super) probes_per_s: f64,
    /// Upper bounds of the histogram's buckets.
    pub(super) probe_late_p50_ms: f64,
    pub(super) probe_late_p99_ms: f64,
    /// Since the checkers started.
    pub(super) probe_late_max_ms: f64,
}

impl Probes {
    /// Asks all checkers.
    pub(super) async fn now(addresses: &[String]) -> Result<Self> {
        let mut probes = Self::default();
        for address in addresses {
            probes.add(&get(address, "/metrics").await?);
        }
        probes.at = Some(Instant::now());
        Ok(probes)
    }

    fn add(&mut self, text: &str) {
        let mut bucket = 0;
        for (name, value) in text.lines().filter_map(|line| line.rsplit_once(' ')) {
            let Ok(value) = value.parse::<f64>() else { continue };
            let lateness = "weir_checker_probe_lateness_seconds_bucket{le=\"";
            if let Some(bound) = name.strip_prefix(lateness) {
                let bound = bound.trim_end_matches("\"}").parse().unwrap_or(f64::INFINITY);
                match self.late.get_mut(bucket) {
                    Some((_, count)) => *count += value,
                    None => self.late.push((bound, value)),
                }
                bucket += 1;
            } else if name == "weir_checker_probe_lateness_max_seconds" {
                self.latest = self.latest.max(value);
            }
        }
    }

    /// What happened since then.
    pub(super) fn until(&self, later: &Self) -> ProbeFigures {
        let time = match (self.at, later.at) {
            (Some(before), Some(after)) => after.duration_since(before).as_secs_f64().max(0.001),
            _ => return ProbeFigures::default(),
        };
        let late: Vec<(f64, f64)> = self
            .late
            .iter()
            .zip(&later.late)
            .map(|((bound, before), (_, after))| (*bound, after - before))
            .collect();
        let all = late.last().map_or(0.0, |(_, count)| *count);
        let within = |share: f64| {
            let bucket = late.iter().find(|(_, count)| *count >= all * share);
            bucket.map_or(0.0, |(bound, _)| (bound.min(later.latest) * 10_000.0).round() / 10.0)
        };
        ProbeFigures {
            probes_per_s: (all / time).round(),
            probe_late_p50_ms: within(0.5),
            probe_late_p99_ms: within(0.99),
            probe_late_max_ms: (later.latest * 10_000.0).round() / 10.0,
        }
    }
}

/// The body of an answer over HTTP.
async fn get(address: &str, path: &str) -> Result<String> {
    let asked = async {
        let mut stream = TcpStream::connect(address).await?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        Ok::<_, anyhow::Error>(text)
    };
    timeout(PATIENCE, asked).await.with_context(|| format!("{address}{path}: no answer"))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lateness_is_the_bound_of_the_bucket_that_holds_it() {
        let text = |early: u32, all: u32| {
            format!(
                "weir_checker_probe_lateness_seconds_bucket{{le=\"0.001\"}} {early}\n\
                 weir_checker_probe_lateness_seconds_bucket{{le=\"+Inf\"}} {all}\n\
                 weir_checker_probe_lateness_max_seconds 0.25\n"
            )
        };
        let start = Instant::now();
        let mut before = Probes { at: Some(start), ..Probes::default() };
        before.add(&text(10, 10));
        let mut after = Probes { at: Some(start + Duration::from_secs(2)), ..Probes::default() };
        after.add(&text(100, 200));
        let figures = before.until(&after);
        assert_eq!(figures.probes_per_s, 95.0);
        assert_eq!((figures.probe_late_p50_ms, figures.probe_late_p99_ms), (250.0, 250.0));
    }

    #[test]
    fn this_process_has_used_memory_and_time() {
        let (now, most) = memory_mib(std::process::id()).unwrap();
        assert!(now > 0.5 && most >= now);
        assert!(cpu_time(std::process::id()).unwrap() < Duration::from_secs(3600));
    }
}
