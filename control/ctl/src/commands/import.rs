//! `import FILE`: makes the controllers' configuration what the file says.
//!
//! The file is validated whole, then compared with what the controllers hold, and only then
//! changes begin, one call after the other in a safe order. Every step is idempotent and the
//! difference is computed anew each time: an import that failed half-way is run again.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use proto::v1::{
    BindVipReq, CreatePoolReq, DeletePoolReq, DeregisterBackendReq, DrainBackendReq, QuicServerIds,
    RegisterBackendReq, UnbindVipReq, UpdateBackendReq, UpdatePoolReq,
};
use serde::Serialize;
use tokio::time::{Instant, sleep};
use tonic::{Code, Status};

use super::{Context, export, pool};
use crate::configuration::{Backend, Configuration, Pool, Step, read, steps};
use crate::failure::Failure;
use crate::words;

/// The longest file that is read, in bytes.
const LONGEST_FILE: u64 = 64 << 20;
/// Beyond a pool's drain: how long evicted backends may still be in it.
const EVICTED_STAY: Duration = Duration::from_secs(120);

#[derive(Clone, Debug, Args)]
pub(super) struct Arguments {
    /// As `export` writes it.
    file: PathBuf,
    /// Only say what would be done.
    #[arg(long)]
    dry_run: bool,
    /// Remove what the file does not name; without it nothing is removed.
    #[arg(long)]
    prune: bool,
    /// Backends that are removed are not drained: their flows are reset at once.
    #[arg(long, requires = "prune")]
    now: bool,
}

/// What `--json` prints, a line a step.
#[derive(Serialize)]
struct StepLine<'s> {
    action: &'s str,
    text: String,
    applied: bool,
}

pub(super) async fn run(
    arguments: &Arguments,
    context: &mut Context<'_, '_>,
) -> Result<(), Failure> {
    let wanted = load(&arguments.file)?;
    let current = current(&wanted, context).await?;
    let steps = steps(&current, &wanted, arguments.prune)
        .map_err(|problems| Failure::failed(problems.join("\n")))?;
    let count = steps.len();
    for (done, step) in steps.into_iter().enumerate() {
        if !arguments.dry_run
            && let Err(failure) = apply(&step, arguments.now, context).await
        {
            return Err(Failure::failed(format_args!(
                "{step}: {failure}\n{done} of {count} steps were done; run the import again when \
                 the cause is gone"
            )));
        }
        if context.json {
            let text = step.to_string();
            let applied = !arguments.dry_run;
            context.out.json(&StepLine { action: step.action(), text, applied })?;
        } else {
            context.out.line(words::clean(&step.to_string()))?;
        }
    }
    if !context.json {
        context.out.line(match (count, arguments.dry_run) {
            (0, _) => "nothing to do".to_owned(),
            (_, true) => format!("{count} steps to do; nothing was changed"),
            (_, false) => format!("{count} steps done"),
        })?;
    }
    Ok(())
}

fn load(path: &std::path::Path) -> Result<Configuration, Failure> {
    let name = path.display().to_string();
    let unreadable = |why: &dyn std::fmt::Display| Failure::usage(format!("{name}: {why}"));
    let length = std::fs::metadata(path).map_err(|error| unreadable(&error))?.len();
    if length > LONGEST_FILE {
        return Err(unreadable(&format_args!("is longer than {} MiB", LONGEST_FILE >> 20)));
    }
    let text = std::fs::read_to_string(path).map_err(|error| unreadable(&error))?;
    read(&text, &name).map_err(Failure::usage)
}

/// What the controllers hold. When the file names secrets, theirs too, if the caller is shown
/// them; else they are sent, and it is the controller that finds them the same.
async fn current(
    wanted: &Configuration,
    context: &mut Context<'_, '_>,
) -> Result<Configuration, Failure> {
    let mut pools = pool::all(context).await?;
    if wanted.pools.values().any(Pool::names_secrets)
        && let Ok(mut secrets) = export::secrets(&context.session, String::new(), context.out).await
    {
        for pool in &mut pools {
            let secrets = secrets.remove(&pool.pool_id).unwrap_or_default();
            secrets.put_into(pool.settings.get_or_insert_default());
        }
    }
    Configuration::from_pools(&pools).map_err(Failure::failed)
}

async fn apply(step: &Step, now: bool, context: &mut Context<'_, '_>) -> Result<(), Failure> {
    let session = &context.session;
    let told = |call: &str, status: &Status| session.failure(call, status);
    match step {
        Step::CreatePool { pool, settings, secret } => {
            let mut settings = (**settings).clone();
            settings.hash_secret = secret.as_ref().map(|one| one.to_bytes()).unwrap_or_default();
            let request = CreatePoolReq { pool_id: pool.clone(), settings: Some(settings) };
            let send = |mut client: client::Client, request| async move {
                client.create_pool(request).await
            };
            session.call("CreatePool", request, send).await?;
        }
        Step::UpdatePool { pool, settings, secret, .. } => {
            let mut settings = (**settings).clone();
            settings.hash_secret = secret.as_ref().map(|one| one.to_bytes()).unwrap_or_default();
            let settings = Some(settings);
            let request = UpdatePoolReq { pool_id: pool.clone(), settings, replace: true };
            let send = |mut client: client::Client, request| async move {
                client.update_pool(request).await
            };
            session.call("UpdatePool", request, send).await?;
        }
        Step::Register { pool, backend, wanted } => {
            let send = |mut client: client::Client, request| async move {
                client.register_backend(request).await
            };
            session.call("RegisterBackend", register(pool, backend, wanted), send).await?;
            if wanted.weight == 0 {
                update(context, backend, wanted, &[]).await?;
            }
        }
        Step::UpdateBackend { backend, wanted, remove_labels, .. } => {
            update(context, backend, wanted, remove_labels).await?;
        }
        Step::Drain { backend } => drain(context, backend, false).await?,
        Step::UndoDrain { backend } => drain(context, backend, true).await?,
        Step::Bind { vip, pool, idle, affinity, mss_clamp, from } => {
            let mut message = vip.to_message();
            idle.lay_over(&mut message);
            message.set_affinity(*affinity);
            mss_clamp.lay_over(&mut message);
            // In one step: a VIP that moves is some pool's all the time.
            let from_pool = from.clone().filter(|from| from != pool);
            let request = BindVipReq { pool_id: pool.clone(), vip: Some(message), from_pool };
            let send = |mut client: client::Client, request| async move {
                client.bind_vip_to_pool(request).await
            };
            session.call("BindVIPToPool", request, send).await?;
        }
        Step::Unbind { vip } => {
            let request = UnbindVipReq { vip: Some(vip.to_message()) };
            let send = |mut client: client::Client, request| async move {
                client.unbind_vip(request).await
            };
            gone(session.ask(request, send).await).map_err(|status| told("UnbindVIP", &status))?;
        }
        Step::Deregister { backend } => {
            let request = DeregisterBackendReq { backend_id: backend.clone(), immediately: now };
            let send = |mut client: client::Client, request| async move {
                client.deregister_backend(request).await
            };
            gone(session.ask(request, send).await)
                .map_err(|status| told("DeregisterBackend", &status))?;
        }
        Step::DeletePool { pool, drain_seconds } => {
            let drain = Duration::from_secs(u64::from(*drain_seconds));
            delete_pool(pool, drain + EVICTED_STAY, context).await?;
        }
    }
    Ok(())
}

/// What is gone already need not be removed.
fn gone<T>(answer: Result<T, Status>) -> Result<(), Status> {
    match answer {
        Err(status) if status.code() != Code::NotFound => Err(status),
        _ => Ok(()),
    }
}

/// A weight of 0 is no weight to register with: the least one stands in until the update, and
/// nothing is sent to a backend that is pending.
fn register(pool: &str, backend: &str, wanted: &Backend) -> RegisterBackendReq {
    RegisterBackendReq {
        pool_id: pool.to_owned(),
        backend_id: backend.to_owned(),
        ip: wanted.ip.to_string(),
        port: wanted.port.into(),
        weight: wanted.weight.max(1).into(),
        labels: wanted.labels.clone(),
        readiness_probe_url: wanted.readiness_probe_url.clone(),
        quic_server_ids: wanted.quic_server_ids.clone(),
    }
}

async fn update(
    context: &Context<'_, '_>,
    backend: &str,
    wanted: &Backend,
    remove_labels: &[String],
) -> Result<(), Failure> {
    let request = UpdateBackendReq {
        backend_id: backend.to_owned(),
        weight: Some(wanted.weight.into()),
        ip: Some(wanted.ip.to_string()),
        port: Some(wanted.port.into()),
        readiness_probe_url: Some(wanted.readiness_probe_url.clone()),
        labels: wanted.labels.clone(),
        remove_labels: remove_labels.to_vec(),
        quic_server_ids: Some(QuicServerIds { ids: wanted.quic_server_ids.clone() }),
    };
    let send =
        |mut client: client::Client, request| async move { client.update_backend(request).await };
    context.session.call("UpdateBackend", request, send).await.map(drop)
}

async fn drain(context: &Context<'_, '_>, backend: &str, undo: bool) -> Result<(), Failure> {
    let request =
        DrainBackendReq { backend_id: backend.to_owned(), undo, ..DrainBackendReq::default() };
    let send =
        |mut client: client::Client, request| async move { client.drain_backend(request).await };
    context.session.call("DrainBackend", request, send).await.map(drop)
}

/// A pool can be deleted once its backends are gone, and those drain first.
async fn delete_pool(
    pool: &str,
    longest: Duration,
    context: &mut Context<'_, '_>,
) -> Result<(), Failure> {
    let end = Instant::now() + longest;
    let mut told = false;
    loop {
        let request = DeletePoolReq { pool_id: pool.to_owned() };
        let send =
            |mut client: client::Client, request| async move { client.delete_pool(request).await };
        let status = match gone(context.session.ask(request, send).await) {
            Ok(()) => return Ok(()),
            Err(status) => status,
        };
        if status.code() != Code::FailedPrecondition || Instant::now() >= end {
            return Err(context.session.failure("DeletePool", &status));
        }
        if !std::mem::replace(&mut told, true) {
            let longest = words::duration(longest);
            context.out.note(format_args!(
                "pool {pool}: waiting for its backends to go, at most {longest}"
            ))?;
        }
        sleep(Duration::from_millis(500)).await;
    }
}
