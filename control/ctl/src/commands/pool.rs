//! `pool list|show|create|update|delete`.

use std::path::PathBuf;

use clap::{ArgGroup, Args, Subcommand};
use proto::v1::{
    CreatePoolReq, DeletePoolReq, Forwarding, GetPoolReq, ListPoolsReq, Pool, PoolSettings,
    ProbeKind, ProbeSettings, Scheduler, UpdatePoolReq,
};

use super::Context;
use crate::failure::Failure;
use crate::output::{Rows, Tone, cell};
use crate::secret::{Secret, unhex};
use crate::{vip, words};

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

/// Settings of a pool; `None` is not given.
#[derive(Clone, Debug, Args)]
pub(super) struct Settings {
    /// maglev, ring or wrr [default: maglev].
    #[arg(long, value_parser = |text: &str| words::value(words::SCHEDULERS, text))]
    scheduler: Option<Scheduler>,
    /// Slots of the table, a prime of at least 100 times the backends [default: 65537].
    #[arg(long, value_name = "PRIME")]
    table_size: Option<u32>,
    /// ipip, gre, gue, l2dsr or nat [default: ipip].
    #[arg(long, value_parser = |text: &str| words::value(words::FORWARDINGS, text))]
    forwarding: Option<Forwarding>,
    /// A file with the 32 hex digits that key the flow hash [default: the controller draws them].
    #[arg(long, value_name = "FILE")]
    hash_secret_file: Option<PathBuf>,
    /// How long the flows of a draining backend may go on [default: 60].
    #[arg(long, value_name = "SECONDS")]
    drain_seconds: Option<u32>,
    /// Whether TCP flows leave unhealthy backends [default: false].
    #[arg(long, value_name = "BOOL")]
    reselect: Option<bool>,
    /// The liveness probe: tcp, http, udp or command [default: tcp].
    #[arg(long, value_parser = |text: &str| words::value(words::PROBES, text))]
    probe: Option<ProbeKind>,
    /// From the start of a probe to the start of the next [default: 1000].
    #[arg(long, value_name = "MILLISECONDS")]
    probe_interval_ms: Option<u32>,
    /// After how long without an answer a probe has failed [default: 1000].
    #[arg(long, value_name = "MILLISECONDS")]
    probe_timeout_ms: Option<u32>,
    /// So many failures in a row make a backend bad [default: 3].
    #[arg(long, value_name = "COUNT")]
    failures_to_down: Option<u32>,
    /// So many passes in a row make it good [default: 2].
    #[arg(long, value_name = "COUNT")]
    passes_to_up: Option<u32>,
    /// Jitter of the interval, up to 20 percent [default: 20].
    #[arg(long, value_name = "PERCENT")]
    jitter_percent: Option<u32>,
    /// What an HTTP probe must be answered with [default: 200].
    #[arg(long, value_name = "STATUS")]
    http_expected_status: Option<u32>,
    /// What a UDP probe sends, in hex digits.
    #[arg(long, value_name = "HEX", value_parser = payload)]
    udp_payload: Option<Payload>,
    /// Name of a command in the checkers' configuration.
    #[arg(long, value_name = "NAME")]
    probe_command: Option<String>,
    /// Checkers assigned to each backend [default: 3].
    #[arg(long, value_name = "COUNT")]
    quorum_checkers: Option<u32>,
    /// So many of them must agree [default: 2].
    #[arg(long, value_name = "COUNT")]
    quorum_down: Option<u32>,
    /// Above this share of bad backends all are served [default: 50].
    #[arg(long, value_name = "PERCENT")]
    panic_percent: Option<u32>,
    /// Ramp of a new backend's weight [default: 0, off].
    #[arg(long, value_name = "SECONDS")]
    slow_start_seconds: Option<u32>,
}

/// Bytes of a datagram. A type of its own: clap takes a `Vec` for several values.
#[derive(Clone, Debug)]
struct Payload(Vec<u8>);

fn payload(text: &str) -> Result<Payload, String> {
    unhex(text).map(Payload).ok_or_else(|| "expected hex digits, two a byte".to_owned())
}

impl Settings {
    /// What was given, over `settings`.
    ///
    /// # Errors
    /// The file of the secret cannot be read.
    fn lay_over(&self, settings: &mut PoolSettings) -> Result<(), Failure> {
        fn set<T: Clone>(field: &mut T, given: Option<&T>) {
            if let Some(value) = given {
                field.clone_from(value);
            }
        }
        if let Some(scheduler) = self.scheduler {
            settings.set_scheduler(scheduler);
        }
        if let Some(forwarding) = self.forwarding {
            settings.set_forwarding(forwarding);
        }
        if let Some(path) = &self.hash_secret_file {
            settings.hash_secret = Secret::read(path).map_err(Failure::usage)?.to_bytes();
        }
        set(&mut settings.table_size, self.table_size.as_ref());
        set(&mut settings.drain_seconds, self.drain_seconds.as_ref());
        set(&mut settings.reselect, self.reselect.as_ref());
        set(&mut settings.quorum_checkers, self.quorum_checkers.as_ref());
        set(&mut settings.quorum_down, self.quorum_down.as_ref());
        set(&mut settings.panic_percent, self.panic_percent.as_ref());
        set(&mut settings.slow_start_seconds, self.slow_start_seconds.as_ref());
        let mut probe = settings.probe.take().unwrap_or_default();
        if let Some(kind) = self.probe {
            probe.set_liveness(kind);
        }
        set(&mut probe.interval_ms, self.probe_interval_ms.as_ref());
        set(&mut probe.timeout_ms, self.probe_timeout_ms.as_ref());
        set(&mut probe.failures_to_down, self.failures_to_down.as_ref());
        set(&mut probe.passes_to_up, self.passes_to_up.as_ref());
        set(&mut probe.jitter_percent, self.jitter_percent.as_ref());
        set(&mut probe.http_expected_status, self.http_expected_status.as_ref());
        set(&mut probe.udp_payload, self.udp_payload.as_ref().map(|payload| &payload.0));
        set(&mut probe.command, self.probe_command.as_ref());
        settings.probe = (probe != ProbeSettings::default()).then_some(probe);
        Ok(())
    }

    /// Whether a given value is the interface's "not given", so that only all settings together
    /// can say it.
    fn takes_back(&self) -> bool {
        let numbers = [
            self.table_size,
            self.drain_seconds,
            self.probe_interval_ms,
            self.probe_timeout_ms,
            self.failures_to_down,
            self.passes_to_up,
            self.jitter_percent,
            self.http_expected_status,
            self.quorum_checkers,
            self.quorum_down,
            self.panic_percent,
            self.slow_start_seconds,
        ];
        numbers.contains(&Some(0))
            || self.reselect == Some(false)
            || self.udp_payload.as_ref().is_some_and(|payload| payload.0.is_empty())
            || self.probe_command.as_ref().is_some_and(String::is_empty)
    }

    /// The request that changes what was given, of a pool as it is.
    ///
    /// # Errors
    /// As [`Settings::lay_over`].
    pub(super) fn change(&self, current: &Pool) -> Result<UpdatePoolReq, Failure> {
        let replace = self.takes_back();
        let mut settings = match replace {
            true => current.settings.clone().unwrap_or_default(),
            false => PoolSettings::default(),
        };
        self.lay_over(&mut settings)?;
        let pool_id = current.pool_id.clone();
        Ok(UpdatePoolReq { pool_id, settings: Some(settings), replace })
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Program {
        #[command(flatten)]
        settings: Settings,
    }

    fn settings(line: &str) -> Settings {
        let words = std::iter::once("x").chain(line.split_whitespace());
        Program::try_parse_from(words).unwrap().settings
    }

    fn current() -> Pool {
        let probe = ProbeSettings { interval_ms: 500, ..ProbeSettings::default() };
        let settings = PoolSettings {
            reselect: true,
            drain_seconds: 30,
            probe: Some(probe),
            ..PoolSettings::default()
        };
        Pool { pool_id: "web".into(), settings: Some(settings), ..Pool::default() }
    }

    #[test]
    fn an_update_sends_only_what_was_given() {
        let request =
            settings("--drain-seconds 5 --probe-timeout-ms 9").change(&current()).unwrap();
        let probe = ProbeSettings { timeout_ms: 9, ..ProbeSettings::default() };
        let expected =
            PoolSettings { drain_seconds: 5, probe: Some(probe), ..PoolSettings::default() };
        assert_eq!((request.settings, request.replace), (Some(expected), false));
    }

    #[test]
    fn what_is_taken_back_needs_all_settings() {
        let request = settings("--reselect false").change(&current()).unwrap();
        let mut expected = current().settings.unwrap();
        expected.reselect = false;
        assert_eq!((request.settings, request.replace), (Some(expected), true));
        assert!(settings("--slow-start-seconds 0").takes_back());
        assert!(!settings("--slow-start-seconds 1").takes_back());
    }
}
