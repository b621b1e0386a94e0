//! `pool list|show|create|update|delete`.

mod settings;

use clap::{ArgGroup, Args, Subcommand};
use proto::v1::{
    CreatePoolReq, DeletePoolReq, GetPoolReq, ListPoolsReq, Pool, PoolSettings, ProbeKind,
};

use super::Context;
use crate::failure::Failure;
use crate::output::{Rows, Tone, cell};
use crate::secret::Secret;
use crate::{vip, words};

pub(super) use settings::Settings;

#[derive(Clone, Debug, Subcommand)]
pub(super) enum Command {
    /// All pools.
    List,
    /// One pool with its settings, VIPs and backends.
    Show {
        /// The pool.
        pool: String,
    },
    /// Create a pool; what is not given is the default.
    Create {
        /// The pool's name: stable, it is in every snapshot and metric.
        pool: String,
        #[command(flatten)]
        settings: Settings,
    },
    /// Change settings; what is not given stays, 0 is the default.
    Update(Update),
    /// Delete a pool that has no VIP and no backend left.
    Delete {
        /// The pool.
        pool: String,
    },
}

#[derive(Clone, Debug, Args)]
#[command(group(ArgGroup::new("change").required(true).multiple(true).args([
    "scheduler", "table_size", "forwarding", "hash_secret_file", "drain_seconds", "reselect",
    "gue_variant", "second_chance",
    "probe", "probe_interval_ms", "probe_timeout_ms", "failures_to_down", "passes_to_up",
    "jitter_percent", "http_expected_status", "udp_payload", "probe_command", "quorum_checkers",
    "quorum_down", "panic_percent", "slow_start_seconds", "rotate_secret",
])))]
pub(super) struct Update {
    /// The pool.
    pool: String,
    #[command(flatten)]
    settings: Settings,
    /// Draw a new hash secret: flows that nodes track stay, others are spread anew.
    #[arg(long, conflicts_with = "hash_secret_file")]
    rotate_secret: bool,
}

pub(super) async fn run(command: &Command, context: &mut Context<'_, '_>) -> Result<(), Failure> {
    match command {
        Command::List => list(context).await,
        Command::Show { pool } => {
            let pool = get(pool, context).await?;
            show(&pool, context)
        }
        Command::Create { pool, settings } => {
            let mut wanted = PoolSettings::default();
            settings.lay_over(&mut wanted)?;
            let request = CreatePoolReq { pool_id: pool.clone(), settings: Some(wanted) };
            let pool = context
                .session
                .call("CreatePool", request, |mut client, request| async move {
                    client.create_pool(request).await
                })
                .await?;
            done(&pool, "created", context)
        }
        Command::Update(update) => {
            let current = get(&update.pool, context).await?;
            let mut request = update.settings.change(&current)?;
            if update.rotate_secret {
                let secret = Secret::draw().map_err(Failure::failed)?;
                request.settings.get_or_insert_default().hash_secret = secret.to_bytes();
            }
            let pool = context
                .session
                .call("UpdatePool", request, |mut client, request| async move {
                    client.update_pool(request).await
                })
                .await?;
            done(&pool, "updated", context)
        }
        Command::Delete { pool } => {
            let request = DeletePoolReq { pool_id: pool.clone() };
            let ack = context
                .session
                .call("DeletePool", request, |mut client, request| async move {
                    client.delete_pool(request).await
                })
                .await?;
            context.done(&ack, format_args!("pool {pool} deleted"))
        }
    }
}

/// The pool as it is.
pub(super) async fn get(pool: &str, context: &Context<'_, '_>) -> Result<Pool, Failure> {
    let request = GetPoolReq { pool_id: pool.to_owned() };
    context
        .session
        .call(
            "GetPool",
            request,
            |mut client, request| async move { client.get_pool(request).await },
        )
        .await
}

/// All pools, whole.
pub(super) async fn all(context: &Context<'_, '_>) -> Result<Vec<Pool>, Failure> {
    let answer = context
        .session
        .call("ListPools", ListPoolsReq {}, |mut client, request| async move {
            client.list_pools(request).await
        })
        .await?;
    Ok(answer.pools)
}

fn done(pool: &Pool, what: &str, context: &mut Context<'_, '_>) -> Result<(), Failure> {
    if context.json {
        return Ok(context.out.json(pool)?);
    }
    context.out.line(format_args!("pool {} {what}", words::clean(&pool.pool_id)))?;
    Ok(())
}

async fn list(context: &mut Context<'_, '_>) -> Result<(), Failure> {
    let pools = all(context).await?;
    if context.json {
        return Ok(context.out.json(&proto::v1::ListPoolsResp { pools })?);
    }
    Ok(context.out.rows(&table(&pools), "no pools")?)
}

/// A line a pool.
pub(super) fn table(pools: &[Pool]) -> Rows {
    let mut rows = Rows::new(&[
        "POOL",
        "VERSION",
        "SCHEDULER",
        "FORWARDING",
        "SLOTS",
        "BACKENDS",
        "ELIGIBLE",
        "VIPS",
        "CONDITION",
    ]);
    for pool in pools {
        let settings = pool.settings.clone().unwrap_or_default();
        let eligible = pool.backends.iter().filter(|backend| backend.eligible).count();
        let tone = match eligible {
            0 => Tone::Bad,
            _ if eligible < pool.backends.len() => Tone::Warning,
            _ => Tone::Good,
        };
        rows.push(vec![
            cell(&pool.pool_id),
            cell(pool.version),
            cell(words::word(words::SCHEDULERS, settings.scheduler())),
            cell(words::word(words::FORWARDINGS, settings.forwarding())),
            cell(settings.table_size),
            cell(pool.backends.len()),
            (eligible.to_string(), tone),
            cell(pool.vips.len()),
            condition(pool),
        ]);
    }
    rows
}

fn condition(pool: &Pool) -> (String, Tone) {
    match (pool.panicking, pool.frozen) {
        (false, false) => ("ok".to_owned(), Tone::Good),
        (true, false) => ("panic".to_owned(), Tone::Bad),
        (false, true) => ("frozen".to_owned(), Tone::Warning),
        (true, true) => ("panic, frozen".to_owned(), Tone::Bad),
    }
}

fn show(pool: &Pool, context: &mut Context<'_, '_>) -> Result<(), Failure> {
    if context.json {
        return Ok(context.out.json(pool)?);
    }
    let settings = pool.settings.clone().unwrap_or_default();
    let probe = settings.probe.clone().unwrap_or_default();
    let liveness = match probe.liveness() {
        ProbeKind::Command => format!("command {}", probe.command),
        kind => words::word(words::PROBES, kind).to_owned(),
    };
    let mut rows = Rows::new(&["SETTING", "VALUE"]);
    let mut row = |name: &str, value: String| rows.push(vec![cell(name), cell(value)]);
    row("pool", pool.pool_id.clone());
    row("version", pool.version.to_string());
    row("condition", condition(pool).0);
    row("scheduler", words::word(words::SCHEDULERS, settings.scheduler()).to_owned());
    row("table_size", settings.table_size.to_string());
    row("forwarding", words::word(words::FORWARDINGS, settings.forwarding()).to_owned());
    if settings.gue_variant_0 {
        row("gue_variant", "0".to_owned());
        row("second_chance", settings.second_chance.to_string());
    }
    for one in &settings.quic {
        let how = if one.encrypted { "encrypted" } else { "plain" };
        let (id, server, nonce) = (one.config_id, one.server_id_length, one.nonce_length);
        row("quic", format!("config {id}: server ids of {server}, nonces of {nonce}, {how}"));
    }
    row("drain_seconds", settings.drain_seconds.to_string());
    row("reselect", settings.reselect.to_string());
    row("probe", liveness);
    row("interval", format!("{} ms, up to {} % jitter", probe.interval_ms, probe.jitter_percent));
    row("timeout", format!("{} ms", probe.timeout_ms));
    row(
        "thresholds",
        format!("{} failures down, {} passes up", probe.failures_to_down, probe.passes_to_up),
    );
    row("quorum", format!("{} of {} checkers", settings.quorum_down, settings.quorum_checkers));
    row("panic_percent", settings.panic_percent.to_string());
    row("slow_start_seconds", settings.slow_start_seconds.to_string());
    for one in &pool.vips {
        row("vip", vip::describe(one));
    }
    context.out.rows(&rows, "")?;
    context.out.line("")?;
    Ok(context.out.rows(&super::backend::table(&pool.backends), "no backends")?)
}
