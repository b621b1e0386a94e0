//! `drain BACKEND`: no new flows at once, eviction after the bleed-out window or the last flow.
//!
//! With `--wait` the command stays until the backend is evicted, and shows what is left. Its
//! bound is measured here, on the monotonic clock; the controller's times are only shown.

use std::time::Duration;

use clap::Args;
use proto::v1::{Backend, BackendState, DrainBackendReq, GetBackendReq};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tonic::Code;

use super::Context;
use crate::failure::Failure;
use crate::words;

/// Beyond the window, for the controller to notice its end and write it down.
const GRACE: Duration = Duration::from_secs(30);

#[derive(Clone, Debug, Args)]
pub(super) struct Arguments {
    /// The backend.
    backend: String,
    /// How long existing flows may go on [default: the pool's drain_seconds].
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..))]
    seconds: Option<u32>,
    /// Stay until it is evicted, and show what is left; exit code 1 when that takes longer than
    /// this [default: the window and 30 s].
    #[arg(
        long,
        value_name = "SECONDS",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "0"
    )]
    wait: Option<u64>,
    /// Take a drain back while it lasts.
    #[arg(long, conflicts_with_all = ["seconds", "wait"])]
    undo: bool,
}

pub(super) async fn run(
    arguments: &Arguments,
    context: &mut Context<'_, '_>,
) -> Result<(), Failure> {
    let backend = &arguments.backend;
    let request = DrainBackendReq {
        backend_id: backend.clone(),
        drain_seconds: arguments.seconds.unwrap_or(0),
        undo: arguments.undo,
    };
    let began = Instant::now();
    let ack = context
        .session
        .call("DrainBackend", request, |mut client, request| async move {
            client.drain_backend(request).await
        })
        .await?;
    match arguments.wait {
        None if arguments.undo => {
            context.done(&ack, format_args!("backend {backend} drains no more"))
        }
        None => context.done(&ack, format_args!("backend {backend} drains: no new flows")),
        Some(bound) => {
            let bound = (bound > 0).then(|| Duration::from_secs(bound));
            let result = wait(backend, began, bound, context).await;
            if !context.json {
                context.out.end_progress()?;
            }
            result
        }
    }
}

async fn wait(
    backend: &str,
    began: Instant,
    bound: Option<Duration>,
    context: &mut Context<'_, '_>,
) -> Result<(), Failure> {
    // Until the controller has said how long the window is.
    let mut end = began + bound.unwrap_or(GRACE);
    let mut window_known = bound.is_some();
    let mut second = interval(Duration::from_secs(1));
    second.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        second.tick().await;
        let request = GetBackendReq { backend_id: backend.to_owned() };
        let answer = context
            .session
            .ask(request, |mut client, request| async move { client.get_backend(request).await })
            .await;
        match answer {
            Ok(row) => {
                if context.json {
                    context.out.json(&row)?;
                }
                let left = left(&row, words::now_ns());
                match row.state() {
                    BackendState::Evicted => {
                        return done(backend, "is evicted", began, context);
                    }
                    BackendState::Draining => {
                        if !std::mem::replace(&mut window_known, true) {
                            end = Instant::now() + left + GRACE;
                        }
                        if !context.json {
                            let flows = row.active_flows;
                            let left = words::duration(left);
                            context.out.progress(format_args!(
                                "{backend}: {flows} flows left, at most {left}"
                            ))?;
                        }
                    }
                    state => {
                        let (state, _) = words::state(state);
                        return Err(Failure::failed(format_args!(
                            "backend {backend} is {state}: the drain was taken back"
                        )));
                    }
                }
            }
            Err(status) if status.code() == Code::NotFound => {
                return done(backend, "is evicted and forgotten", began, context);
            }
            // The drain goes on without us; the leader may be back in a moment.
            Err(status) if status.code() == Code::Unavailable && Instant::now() < end => {
                context.out.note(context.session.failure("GetBackend", &status))?;
            }
            Err(status) => return Err(context.session.failure("GetBackend", &status)),
        }
        if Instant::now() >= end {
            let waited = words::duration(began.elapsed());
            return Err(Failure::failed(format_args!(
                "backend {backend} is not evicted after {waited}; its drain goes on \
                 (drain --undo takes it back)"
            )));
        }
    }
}

fn done(
    backend: &str,
    what: &str,
    began: Instant,
    context: &mut Context<'_, '_>,
) -> Result<(), Failure> {
    if context.json {
        return Ok(());
    }
    let took = words::duration(began.elapsed());
    Ok(context.out.progress(format_args!("{backend}: {what} after {took}"))?)
}

/// What is left of the window by this machine's clock, and never more than the window: clocks
/// differ.
fn left(row: &Backend, now_ns: u64) -> Duration {
    let window = row.drain_until_ns.saturating_sub(row.last_state_change_ns);
    Duration::from_nanos(row.drain_until_ns.saturating_sub(now_ns).min(window))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_behind_does_not_prolong_the_window() {
        let row = Backend { last_state_change_ns: 100, drain_until_ns: 160, ..Backend::default() };
        assert_eq!(left(&row, 130), Duration::from_nanos(30));
        assert_eq!(left(&row, 0), Duration::from_nanos(60));
        assert_eq!(left(&row, 200), Duration::ZERO);
    }
}
