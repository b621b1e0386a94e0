//! `plan ...`: what a change would do, without doing it.

use clap::{ArgGroup, Args, Subcommand};
use proto::v1::plan_req::Change;
use proto::v1::{DeregisterBackendReq, DrainBackendReq, PlanReq, PlanResp, UpdateBackendReq};

use super::{Context, backend, pool};
use crate::failure::Failure;
use crate::output::Output;
use crate::words::clean;

#[derive(Clone, Debug, Subcommand)]
pub(super) enum Command {
    /// Of `backend register`.
    Register(backend::Register),
    /// Of `backend deregister`.
    Deregister {
        /// The backend.
        backend: String,
    },
    /// Of `drain`.
    Drain {
        /// The backend.
        backend: String,
    },
    /// Of another weight.
    Weight {
        /// The backend.
        backend: String,
        /// Share of new flows; 0: none.
        weight: u16,
    },
    /// Of `backend update`.
    Update(backend::Update),
    /// Of `pool update`.
    Pool(PoolChange),
}

#[derive(Clone, Debug, Args)]
#[command(group(ArgGroup::new("change").required(true).multiple(true).args([
    "scheduler", "table_size", "forwarding", "hash_secret_file", "drain_seconds", "reselect",
    "gue_variant", "second_chance",
    "probe", "probe_interval_ms", "probe_timeout_ms", "failures_to_down", "passes_to_up",
    "jitter_percent", "http_expected_status", "udp_payload", "probe_command", "quorum_checkers",
    "quorum_down", "panic_percent", "slow_start_seconds",
])))]
pub(super) struct PoolChange {
    /// The pool.
    pool: String,
    #[command(flatten)]
    settings: pool::Settings,
}

pub(super) async fn run(command: &Command, context: &mut Context<'_, '_>) -> Result<(), Failure> {
    let change = match command {
        Command::Register(register) => Change::Register(register.request()),
        Command::Deregister { backend } => Change::Deregister(DeregisterBackendReq {
            backend_id: backend.clone(),
            ..DeregisterBackendReq::default()
        }),
        Command::Drain { backend } => Change::Drain(DrainBackendReq {
            backend_id: backend.clone(),
            ..DrainBackendReq::default()
        }),
        Command::Weight { backend, weight } => Change::UpdateBackend(UpdateBackendReq {
            backend_id: backend.clone(),
            weight: Some(u32::from(*weight)),
            ..UpdateBackendReq::default()
        }),
        Command::Update(update) => Change::UpdateBackend(update.request()),
        Command::Pool(change) => {
            let current = pool::get(&change.pool, context).await?;
            Change::UpdatePool(change.settings.change(&current)?)
        }
    };
    let plan = context
        .session
        .call("Plan", PlanReq { change: Some(change) }, |mut client, request| async move {
            client.plan(request).await
        })
        .await?;
    if context.json {
        return Ok(context.out.json(&plan)?);
    }
    show(&plan, context.out)
}

fn show(plan: &PlanResp, out: &mut Output<'_>) -> Result<(), Failure> {
    let names = |names: &[String]| match names {
        [] => "none".to_owned(),
        names => clean(&names.join(", ")).into_owned(),
    };
    out.line(format_args!("pool             {}", clean(&plan.pool_id)))?;
    out.line(format_args!("backends in      {}", names(&plan.backends_in)))?;
    out.line(format_args!("backends out     {}", names(&plan.backends_out)))?;
    out.line(format_args!(
        "slots moved      {} of {} ({})",
        plan.slots_moved,
        plan.slots,
        share(plan.slots_moved.into(), plan.slots.into())
    ))?;
    out.line(format_args!(
        "flows on them    about {} of {}",
        plan.flows_on_moved_slots, plan.flows
    ))?;
    for warning in &plan.warnings {
        out.line(format_args!("warning: {}", clean(warning)))?;
    }
    Ok(())
}

/// With one decimal; never "0.0 %" for what is more than nothing.
fn share(part: u64, whole: u64) -> String {
    match (part * 1000).checked_div(whole) {
        None => "-".to_owned(),
        Some(0) if part > 0 => "less than 0.1 %".to_owned(),
        Some(tenths) => format!("{}.{} %", tenths / 10, tenths % 10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_in_words() {
        let plan = PlanResp {
            pool_id: "web".into(),
            backends_in: vec!["a".into()],
            slots: 65_537,
            slots_moved: 21_800,
            flows: 1_000,
            flows_on_moved_slots: 330,
            warnings: vec!["fewer than 100 slots a backend".into()],
            ..PlanResp::default()
        };
        let (mut out, mut notes) = (Vec::new(), Vec::new());
        show(&plan, &mut Output::new(&mut out, &mut notes)).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "pool             web\n\
             backends in      a\n\
             backends out     none\n\
             slots moved      21800 of 65537 (33.2 %)\n\
             flows on them    about 330 of 1000\n\
             warning: fewer than 100 slots a backend\n"
        );
    }

    #[test]
    fn shares_do_not_hide_what_is_small() {
        assert_eq!(share(1, 65_537), "less than 0.1 %");
        assert_eq!(share(0, 65_537), "0.0 %");
        assert_eq!(share(0, 0), "-");
    }
}
