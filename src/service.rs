//! A program of the control plane as the system sees it: a runtime, and signals.
//!
//! SIGINT and SIGTERM end it well; told a second time, it ends at once. SIGHUP is the program's.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use anyhow::bail;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tracing::info;

/// What still runs after the end, such as a read from a file system that hangs, is left behind
/// after so long.
const LAST_WAIT: Duration = Duration::from_secs(1);

/// A runtime whose signals are heard from the start: one that comes early is obeyed once the
/// program runs, instead of ending it half way.
pub(crate) struct Service {
    runtime: Runtime,
    hangup: Signal,
    interrupt: Signal,
    terminate: Signal,
}

impl Service {
    /// `threads` work for it, named after the program.
    pub(crate) fn new(name: &str, threads: usize) -> std::io::Result<Self> {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(threads).thread_name(name).enable_all().build()?;
        let entered = runtime.enter();
        let hangup = signal(SignalKind::hangup())?;
        let interrupt = signal(SignalKind::interrupt())?;
        let terminate = signal(SignalKind::terminate())?;
        drop(entered);
        Ok(Self { runtime, hangup, interrupt, terminate })
    }

    /// Waits for what comes before the program runs, such as binding its listeners.
    pub(crate) fn wait<F: Future>(&self, first: F) -> F::Output {
        self.runtime.block_on(first)
    }

    /// Runs `program` until it ends; the future it is given ends when it is to stop. `hung_up` is
    /// called at each SIGHUP, and may block for as long as a file takes to be read.
    pub(crate) fn run<F: Future<Output = anyhow::Result<()>>>(
        mut self,
        program: impl FnOnce(Told) -> F,
        mut hung_up: impl FnMut(),
    ) -> anyhow::Result<()> {
        let (tell, told) = oneshot::channel();
        let ended = self.runtime.block_on(async {
            let mut program = pin!(program(Told(told)));
            let mut tell = Some(tell);
            loop {
                tokio::select! {
                    ended = &mut program => return ended,
                    _ = self.hangup.recv() => {
                        hung_up();
                        continue;
                    }
                    _ = self.interrupt.recv() => {}
                    _ = self.terminate.recv() => {}
                }
                match tell.take() {
                    Some(tell) => {
                        info!("told to stop");
                        // It may have ended just now.
                        let _ = tell.send(());
                    }
                    None => bail!("told to stop a second time: ended at once"),
                }
            }
        });
        self.runtime.shutdown_timeout(LAST_WAIT);
        if ended.is_ok() {
            info!("stopped");
        }
        ended
    }
}

/// Ends when the program is to stop.
pub(crate) struct Told(oneshot::Receiver<()>);

impl Told {
    /// Waits until then.
    pub(crate) async fn ended(self) {
        // An error is a sender that is gone: nobody is left to run for.
        let _ = self.0.await;
    }
}
