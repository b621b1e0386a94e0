//! How long a thread was on a CPU, from the kernel.
//!
//! Rates are packets for each second that the forwarding thread had its core. On a quiet machine
//! this is the wall clock's second; where others compete for the core, the rate stays meaningful,
//! and the share of the time that the thread had is shown beside it.

use std::path::PathBuf;

/// The accounting of one thread.
#[derive(Clone, Debug)]
pub struct CpuTime {
    /// Its `schedstat` (Documentation/scheduler/sched-stats in the kernel's sources): nanoseconds
    /// on a CPU, nanoseconds waiting for one, time slices.
    file: PathBuf,
}

impl CpuTime {
    /// The first thread of `process` whose name satisfies `is_wanted`; `None` when there is none,
    /// or the kernel keeps no such accounts.
    pub fn of_thread(process: u32, is_wanted: impl Fn(&str) -> bool) -> Option<Self> {
        let tasks = std::fs::read_dir(format!("/proc/{process}/task")).ok()?;
        let thread = tasks.filter_map(Result::ok).map(|task| task.path()).find(|task| {
            let name = std::fs::read_to_string(task.join("comm")).unwrap_or_default();
            is_wanted(name.trim())
        })?;
        let found = Self { file: thread.join("schedstat") };
        found.nanoseconds().map(|_| found)
    }

    /// Nanoseconds on a CPU so far. A running thread's account is some milliseconds old.
    pub fn nanoseconds(&self) -> Option<u64> {
        let text = std::fs::read_to_string(&self.file).ok()?;
        text.split_whitespace().next()?.parse().ok()
    }
}

/// The share, above 0 and up to 1, of `seconds` that lay between two readings of an account. 1
/// where nothing is known.
pub fn share(before: Option<u64>, after: Option<u64>, seconds: f64) -> f64 {
    match (before, after) {
        (Some(before), Some(after)) if after > before && seconds > 0.0 => {
            ((after - before) as f64 / 1e9 / seconds).min(1.0)
        }
        _ => 1.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_works_is_charged_for_it() {
        let (name, process) = ("charged", std::process::id());
        let work = move || {
            let account = CpuTime::of_thread(process, |thread| thread == name);
            let Some(account) = account else { return };
            let before = account.nanoseconds().unwrap();
            let mut sum = 0u64;
            for rounds in 0..1000 {
                sum += (0..100_000u64).fold(rounds, |sum, step| std::hint::black_box(sum ^ step));
                std::thread::yield_now();
                if account.nanoseconds().unwrap() > before {
                    return;
                }
            }
            panic!("nothing charged for {sum}");
        };
        std::thread::Builder::new().name(name.to_owned()).spawn(work).unwrap().join().unwrap();
    }

    #[test]
    fn shares_are_of_the_wall_clock_and_never_more() {
        assert_eq!(share(Some(0), Some(500_000_000), 1.0), 0.5);
        assert_eq!(share(Some(0), Some(1_010_000_000), 1.0), 1.0);
        assert_eq!(share(None, Some(7), 1.0), 1.0);
        assert_eq!(share(Some(7), Some(7), 1.0), 1.0);
    }
}
