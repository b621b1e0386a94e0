//! External command: a program that ends with 0.
//!
//! It is started without a shell, with the arguments one by one, an environment of nothing but
//! PATH, no input, and its output thrown away but for the first line of what it complains about.
//! It leads a process group of its own, and at the timeout the whole group is killed, so that
//! what it started goes too. A program that cannot be started says nothing about the backend.

use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;
use tokio::time::timeout;

use super::Finding;

/// How much of the complaint is kept, in bytes.
const KEPT: usize = 256;

/// A process group that is killed when this is dropped.
struct Group(Option<Pid>);

pub(super) async fn probe(argv: &[String], limit: Duration) -> Finding {
    let Some((program, arguments)) = argv.split_first() else {
        return Finding::NotProbed("the command is empty".to_owned());
    };
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    if let Some(path) = std::env::var_os("PATH") {
        command.env("PATH", path);
    }
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => return Finding::NotProbed(format!("{program}: {error}")),
    };
    // Declared after the child, so dropped before it: until the child is waited for, nobody
    // else can have its number.
    let mut group = Group(child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)));
    let mut complaint = Vec::new();
    let mut stderr = child.stderr.take();
    let ended = timeout(limit, async {
        tokio::select! {
            status = child.wait() => status,
            // Never ends; a child of the child may hold the pipe open for ever.
            () = drain(stderr.as_mut(), &mut complaint) => child.wait().await,
        }
    })
    .await;
    match ended {
        Ok(Ok(status)) => {
            group.0 = None;
            // What was written just before the end.
            if let Some(stderr) = &mut stderr {
                let rest = read_some(stderr, &mut complaint);
                let _nothing_more = timeout(Duration::from_millis(1), rest).await;
            }
            finding(status, &complaint)
        }
        Ok(Err(error)) => Finding::NotProbed(format!("{program}: {error}")),
        Err(_) => {
            group.kill();
            // Reaped here, so that no zombie is left; SIGKILL is not long in coming.
            let _reaped = timeout(Duration::from_secs(1), child.wait()).await;
            Finding::Timeout(limit)
        }
    }
}

impl Group {
    fn kill(&mut self) {
        if let Some(group) = self.0.take() {
            // It may have ended by itself.
            let _gone = kill_process_group(group, Signal::KILL);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Reads all there is, keeps the beginning, and never ends.
async fn drain(stderr: Option<&mut (impl AsyncRead + Unpin)>, kept: &mut Vec<u8>) {
    if let Some(stderr) = stderr {
        while read_some(stderr, kept).await {}
    }
    std::future::pending::<()>().await;
}

/// False at the end.
async fn read_some(stderr: &mut (impl AsyncRead + Unpin), kept: &mut Vec<u8>) -> bool {
    let mut buffer = [0; 1024];
    match stderr.read(&mut buffer).await {
        Ok(0) | Err(_) => false,
        Ok(read) => {
            let room = KEPT.saturating_sub(kept.len());
            kept.extend(buffer.iter().take(read.min(room)));
            true
        }
    }
}

fn finding(status: ExitStatus, complaint: &[u8]) -> Finding {
    if status.success() {
        return Finding::Pass;
    }
    let ended = match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => "ended".to_owned(),
    };
    let complaint = String::from_utf8_lossy(complaint);
    Finding::Fail(match complaint.lines().next().map(str::trim) {
        None | Some("") => ended,
        Some(line) => format!("{ended}: {}", line.replace(char::is_control, "?")),
    })
}
