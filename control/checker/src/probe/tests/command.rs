//! Programs that end well, badly, or not at all.

use std::os::unix::fs::PermissionsExt;
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::*;

fn sh(script: &str) -> Probe {
    Probe::Command(["/bin/sh", "-c", script].map(str::to_owned).to_vec())
}

#[tokio::test]
async fn a_command_passes_with_0_and_fails_with_anything_else() {
    assert_eq!(finding(&sh("exit 0"), LONG).await, Finding::Pass);
    assert_eq!(failed(finding(&sh("exit 7"), LONG).await), "ended with 7");
    assert_eq!(failed(finding(&sh("kill -9 $$"), LONG).await), "killed by signal 9");
    let why = failed(finding(&sh("echo no quorum >&2; echo more >&2; exit 2"), LONG).await);
    assert_eq!(why, "ended with 2: no quorum");
}

#[tokio::test]
async fn a_command_gets_its_arguments_as_they_are_and_nothing_of_our_environment() {
    let argv = [
        "/bin/sh",
        "-c",
        "test \"$1\" = 'a b; $(x)' && test -z \"$CARGO_MANIFEST_DIR\"",
        "sh",
        "a b; $(x)",
    ];
    assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some());
    let probe = Probe::Command(argv.map(str::to_owned).to_vec());
    assert_eq!(finding(&probe, LONG).await, Finding::Pass);
    assert_eq!(finding(&sh("test -n \"$PATH\" && ! read line"), LONG).await, Finding::Pass);
}

#[tokio::test]
async fn a_command_that_writes_without_end_neither_blocks_nor_fills_memory() {
    let probe = sh("head -c 10000000 /dev/zero >&2; head -c 10000000 /dev/zero; exit 3");
    let why = failed(finding(&probe, LONG).await);
    assert!(why.starts_with("ended with 3") && why.len() < 1000, "{}", why.len());
}

#[tokio::test]
async fn a_command_that_hangs_is_killed_with_all_it_started() {
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("pids");
    let script = format!("sleep 600 & echo $$ $! > {}; wait", file.display());
    let limit = Duration::from_secs(3);
    assert_eq!(finding(&sh(&script), limit).await, Finding::Timeout(limit));
    let pids = std::fs::read_to_string(&file).expect("it ran");
    for pid in pids.split_whitespace() {
        // An orphan is reaped by whoever is its parent now; a zombie has no command line.
        let gone = || std::fs::read(format!("/proc/{pid}/cmdline")).map_or(true, |c| c.is_empty());
        let start = Instant::now();
        while !gone() {
            assert!(start.elapsed() < LONG, "process {pid} is still there");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

#[tokio::test]
async fn a_command_that_leaves_a_child_with_its_pipe_ends_when_it_ends() {
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("pid");
    let script = format!("sleep 600 & echo $! > {}; exit 0", file.display());
    let found = finding(&sh(&script), LONG).await;
    let pid = std::fs::read_to_string(&file).expect("it ran").trim().parse().expect("a number");
    let pid = Pid::from_raw(pid).expect("a process");
    kill_process(pid, Signal::KILL).expect("it was left");
    assert_eq!(found, Finding::Pass);
}

#[tokio::test]
async fn a_command_that_cannot_be_started_says_nothing_about_the_backend() {
    let folder = TempDir::new().expect("a folder");
    let missing = folder.path().join("missing").display().to_string();
    let why = not_probed(finding(&Probe::Command(vec![missing.clone()]), LONG).await);
    assert!(why.contains(&missing), "{why}");
    let forbidden = folder.path().join("forbidden");
    std::fs::write(&forbidden, "").expect("written");
    std::fs::set_permissions(&forbidden, PermissionsExt::from_mode(0o600)).expect("set");
    not_probed(finding(&Probe::Command(vec![forbidden.display().to_string()]), LONG).await);
}

#[tokio::test]
async fn only_so_many_commands_run_at_once_and_the_others_wait_their_turn() {
    let prober = Prober::new(None, 1).expect("a prober");
    let (slow, quick) = (sh("sleep 1"), sh("exit 0"));
    let mut waited = None;
    let start = Instant::now();
    let (first, second) = tokio::join!(
        prober.probe(&slow, LONG, || {}),
        prober.probe(&quick, LONG, || waited = Some(start.elapsed()))
    );
    assert_eq!((first, second), (Finding::Pass, Finding::Pass));
    assert!(waited.expect("started") >= Duration::from_millis(900), "{waited:?}");
    let (_, third) = tokio::join!(prober.probe(&slow, LONG, || {}), async {
        prober.probe(&quick, Duration::from_millis(50), || {}).await
    });
    not_probed(third);
}
