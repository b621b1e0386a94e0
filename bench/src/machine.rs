//! What a figure was measured on: it stands at the head of every table and in every JSON.
//!
//! The clock is measured, not asked for: guests often have no `cpufreq`, and where there is one it
//! tells the clock that was wanted. A chain of additions, each of which needs the result of the one
//! before, takes one cycle for each on all CPUs of today, whatever else they can do at a time.

use std::fmt;
use std::hint::black_box;
use std::path::Path;
use std::process::Command;

use dataplane::clock::Clock;
use serde::Serialize;

/// Additions of a chain: about half a millisecond, so that most tries are not interrupted.
const CHAIN: u64 = 2_000_000;
/// Tries; the quickest counts, as an interruption only makes a chain slower.
const TRIES: usize = 40;

/// A machine, as far as figures depend on it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Machine {
    /// The CPU's name, family and model.
    pub cpu: String,
    /// Cores that this process may use.
    pub cores: usize,
    /// The rate of the counter that time is read from (x86: the time stamp counter), in MHz.
    pub tsc_mhz: f64,
    /// The clock of the core, as measured, in MHz.
    pub core_mhz: f64,
    /// The kernel's release.
    pub kernel: String,
    /// The version of libdpdk, as pkg-config knows it.
    pub dpdk: String,
    /// The default size of a hugepage, in KiB.
    pub hugepage_kib: u64,
    /// The commit that the source is of; with `+` when files are not as in it.
    pub commit: String,
}

impl Machine {
    /// This one; takes some tens of milliseconds on a core.
    pub fn here() -> Self {
        let clock = Clock::new();
        Self {
            cpu: cpu(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            tsc_mhz: tsc_mhz(&clock).round(),
            core_mhz: core_mhz(&clock).round(),
            kernel: first_line("/proc/sys/kernel/osrelease"),
            dpdk: said("pkg-config", &["--modversion", "libdpdk"]),
            hugepage_kib: hugepage_kib(&read("/proc/meminfo")),
            commit: commit(),
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cpu, cores, tsc_mhz, core_mhz, kernel, dpdk, hugepage_kib, commit } = self;
        writeln!(out, "{cpu}, {cores} cores; core at {core_mhz:.0} MHz, TSC at {tsc_mhz:.0} MHz")?;
        write!(out, "Linux {kernel}; DPDK {dpdk}; hugepages of {hugepage_kib} KiB; commit {commit}")
    }
}

/// The rate of the counter behind `clock`, in MHz.
pub fn tsc_mhz(clock: &Clock) -> f64 {
    const TICKS: u64 = 1 << 40;
    TICKS as f64 * 1e3 / clock.nanoseconds(TICKS) as f64
}

/// The clock of the core that this thread is on, in MHz: the best of some tries.
pub fn core_mhz(clock: &Clock) -> f64 {
    let fastest = (0..TRIES)
        .map(|_| {
            let start = clock.ticks();
            black_box(chain(CHAIN));
            clock.ticks().wrapping_sub(start)
        })
        .min()
        .unwrap_or(0);
    CHAIN as f64 * 1e3 / clock.nanoseconds(fastest).max(1) as f64
}

/// `length` additions, a multiple of 16, each of two registers and depending on the one before:
/// Fibonacci's numbers, which no compiler knows how to leave out.
#[inline(never)]
fn chain(length: u64) -> u64 {
    let (mut even, mut odd) = black_box((0u64, 1u64));
    for _ in 0..length / 16 {
        for _ in 0..8 {
            even = even.wrapping_add(odd);
            odd = odd.wrapping_add(even);
        }
    }
    odd
}

/// The CPU's name, from the kernel.
fn cpu() -> String {
    let text = read("/proc/cpuinfo");
    let field = |key: &str| {
        let line = text.lines().find(|line| line.starts_with(key))?;
        line.split_once(':').map(|(_, value)| value.trim().to_owned())
    };
    let name = field("model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    match (field("cpu family"), field("model\t")) {
        (Some(family), Some(model)) => format!("{name} (family {family}, model {model})"),
        _ => name,
    }
}

fn hugepage_kib(meminfo: &str) -> u64 {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("Hugepagesize:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// The commit of the folder that this program was built in.
fn commit() -> String {
    let folder = env!("CARGO_MANIFEST_DIR");
    let commit = said("git", &["-C", folder, "rev-parse", "--short=12", "HEAD"]);
    let changed = said("git", &["-C", folder, "status", "--porcelain", "--untracked-files=no"]);
    if commit != UNKNOWN && changed != UNKNOWN { format!("{commit}+") } else { commit }
}

/// What cannot be found out.
const UNKNOWN: &str = "unknown";

/// The first line that a command says, [`UNKNOWN`] where it says none or is not there.
fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    first_of(&text.unwrap_or_default())
}

fn first_line(path: impl AsRef<Path>) -> String {
    first_of(&read(path))
}

fn first_of(text: &str) -> String {
    match text.lines().next() {
        Some(line) if !line.trim().is_empty() => line.trim().to_owned(),
        _ => UNKNOWN.to_owned(),
    }
}

fn read(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_has_as_many_additions_as_it_says() {
        // Fibonacci's F(1) = 1; each addition goes one further.
        assert_eq!(chain(0), 1);
        assert_eq!(chain(16), 1597);
        assert_eq!(chain(32), 3_524_578);
    }

    #[test]
    fn clocks_are_those_of_a_computer() {
        let clock = Clock::new();
        assert!((1.0..10_000.0).contains(&tsc_mhz(&clock)));
        assert!(core_mhz(&clock) > 1.0);
    }

    #[test]
    fn what_is_not_known_is_said() {
        assert_eq!(said("no-such-program-anywhere", &[]), UNKNOWN);
        assert_eq!(first_line("/nonexistent"), UNKNOWN);
        assert_eq!(hugepage_kib("MemTotal: 7 kB\nHugepagesize:       2048 kB\n"), 2048);
        assert_eq!(hugepage_kib(""), 0);
    }

    #[test]
    fn the_head_of_a_table_names_all_that_matters() {
        let machine = Machine {
            cpu: "Some CPU".to_owned(),
            cores: 2,
            tsc_mhz: 2600.0,
            core_mhz: 4100.0,
            kernel: "6.1.0".to_owned(),
            dpdk: "22.11.7".to_owned(),
            hugepage_kib: 2048,
            commit: "0123456789ab".to_owned(),
        };
        let head = machine.to_string();
        for part in ["Some CPU", "2 cores", "4100 MHz", "2600", "6.1.0", "22.11.7", "2048", "0123"]
        {
            assert!(head.contains(part), "{part}: {head}");
        }
    }
}
