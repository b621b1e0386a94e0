//! `backend list|show|register|update|deregister`.

use std::net::IpAddr;

use clap::{ArgGroup, Args, Subcommand};
use proto::v1::{
    Backend, DeregisterBackendReq, GetBackendReq, ListBackendsReq, QuicServerIds,
    RegisterBackendReq, UpdateBackendReq,
};

use super::Context;
use crate::failure::Failure;
use crate::output::{Rows, Tone, cell};
use crate::secret::{hex, unhex};
use crate::words;

#[derive(Clone, Debug, Subcommand)]
pub(super) enum Command {
    /// All backends, or those of a pool.
    List {
        /// Only this pool's.
        #[arg(long)]
        pool: Option<String>,
    },
    /// One backend, with all that is known of it.
    Show {
        /// The backend.
        backend: String,
    },
    /// Add a backend to a pool; it serves once its checkers pass it.
    Register(Register),
    /// Change a backend; what is not given stays.
    Update(Update),
    /// Drain a backend, evict it, and forget it.
    Deregister {
        /// The backend.
        backend: String,
        /// Do not drain: reset its flows at once.
        #[arg(long)]
        now: bool,
    },
}

#[derive(Clone, Debug, Args)]
pub(super) struct Register {
    /// The pool.
    pool: String,
    /// The backend's name: stable (it survives a change of address), unique among all pools.
    backend: String,
    /// Where packets go.
    #[arg(long)]
    ip: IpAddr,
    /// Where checkers connect to; flows keep the port their client dialled.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
    /// Share of new flows relative to the pool's others, 1 to 65535 [default: 100].
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    weight: Option<u16>,
    /// A label; az, rack and version mean something to Weir. May be given several times.
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
    /// http:// or https:// URL that answers 200 when the backend is ready.
    #[arg(long, value_name = "URL")]
    readiness_probe_url: Option<String>,
    /// What it is called in QUIC connection ids, in hex digits. May be given several times.
    #[arg(long = "quic-server-id", value_name = "HEX", value_parser = server_id)]
    quic_server_ids: Vec<ServerId>,
}

#[derive(Clone, Debug, Args)]
#[command(group(ArgGroup::new("change").required(true).multiple(true).args(
    ["ip", "port", "weight", "labels", "remove_labels", "readiness_probe_url", "quic_server_ids",
     "no_quic_server_ids"]
)))]
pub(super) struct Update {
    /// The backend.
    backend: String,
    /// Where packets go.
    #[arg(long)]
    ip: Option<IpAddr>,
    /// Where checkers connect to.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
    /// Share of new flows; 0: none.
    #[arg(long)]
    weight: Option<u16>,
    /// Set or replace a label. May be given several times.
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
    /// Remove a label. May be given several times.
    #[arg(long = "remove-label", value_name = "NAME")]
    remove_labels: Vec<String>,
    /// The readiness probe; an empty one: none.
    #[arg(long, value_name = "URL")]
    readiness_probe_url: Option<String>,
    /// What it is called in QUIC connection ids, in hex digits, in place of all that there are. May
    /// be given several times.
    #[arg(long = "quic-server-id", value_name = "HEX", value_parser = server_id)]
    quic_server_ids: Vec<ServerId>,
    /// It is called nothing in QUIC connection ids.
    #[arg(long, conflicts_with = "quic_server_ids")]
    no_quic_server_ids: bool,
}

/// A type of its own: clap takes a `Vec` for several values.
#[derive(Clone, Debug)]
struct ServerId(Vec<u8>);

fn server_id(text: &str) -> Result<ServerId, String> {
    let octets = unhex(text).filter(|octets| (1..=15).contains(&octets.len()));
    octets.map(ServerId).ok_or_else(|| "expected 2 to 30 hex digits, two a byte".to_owned())
}

fn octets(ids: &[ServerId]) -> Vec<Vec<u8>> {
    ids.iter().map(|id| id.0.clone()).collect()
}

fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("expected NAME=VALUE".to_owned()),
    }
}

impl Register {
    pub(super) fn request(&self) -> RegisterBackendReq {
        RegisterBackendReq {
            pool_id: self.pool.clone(),
            backend_id: self.backend.clone(),
            ip: self.ip.to_string(),
            port: self.port.into(),
            weight: self.weight.unwrap_or(0).into(),
            labels: self.labels.iter().cloned().collect(),
            readiness_probe_url: self.readiness_probe_url.clone().unwrap_or_default(),
            quic_server_ids: octets(&self.quic_server_ids),
        }
    }
}

impl Update {
    pub(super) fn request(&self) -> UpdateBackendReq {
        UpdateBackendReq {
            backend_id: self.backend.clone(),
            weight: self.weight.map(u32::from),
            ip: self.ip.map(|ip| ip.to_string()),
            port: self.port.map(u32::from),
            readiness_probe_url: self.readiness_probe_url.clone(),
            labels: self.labels.iter().cloned().collect(),
            remove_labels: self.remove_labels.clone(),
            quic_server_ids: (self.no_quic_server_ids || !self.quic_server_ids.is_empty())
                .then(|| QuicServerIds { ids: octets(&self.quic_server_ids) }),
        }
    }
}

pub(super) async fn run(command: &Command, context: &mut Context<'_, '_>) -> Result<(), Failure> {
    match command {
        Command::List { pool } => list(pool.clone().unwrap_or_default(), context).await,
        Command::Show { backend } => show(backend, context).await,
        Command::Register(register) => {
            let answer = context
                .session
                .call("RegisterBackend", register.request(), |mut client, request| async move {
                    client.register_backend(request).await
                })
                .await?;
            let Register { backend, pool, .. } = register;
            context.done(&answer, format_args!("backend {backend} registered in pool {pool}"))
        }
        Command::Update(update) => {
            let ack = context
                .session
                .call("UpdateBackend", update.request(), |mut client, request| async move {
                    client.update_backend(request).await
                })
                .await?;
            context.done(&ack, format_args!("backend {} updated", update.backend))
        }
        Command::Deregister { backend, now } => {
            let request = DeregisterBackendReq { backend_id: backend.clone(), immediately: *now };
            let ack = context
                .session
                .call("DeregisterBackend", request, |mut client, request| async move {
                    client.deregister_backend(request).await
                })
                .await?;
            let how = if *now { "is evicted and forgotten" } else { "drains, then is forgotten" };
            context.done(&ack, format_args!("backend {backend} {how}"))
        }
    }
}

async fn list(pool_id: String, context: &mut Context<'_, '_>) -> Result<(), Failure> {
    let answer = context
        .session
        .call("ListBackends", ListBackendsReq { pool_id }, |mut client, request| async move {
            client.list_backends(request).await
        })
        .await?;
    if context.json {
        return Ok(context.out.json(&answer)?);
    }
    Ok(context.out.rows(&table(&answer.backends), "no backends")?)
}

/// A line a backend.
pub(super) fn table(backends: &[Backend]) -> Rows {
    let mut rows =
        Rows::new(&["BACKEND", "POOL", "ADDRESS", "WEIGHT", "STATE", "FLOWS", "LABELS", "REASON"]);
    for backend in backends {
        rows.push(vec![
            cell(&backend.backend_id),
            cell(&backend.pool_id),
            cell(words::address(backend)),
            cell(backend.weight),
            state(backend),
            cell(backend.active_flows),
            cell(words::labels(backend)),
            cell(if backend.reason.is_empty() { "-" } else { &backend.reason }),
        ]);
    }
    rows
}

/// The state, and whether the backend gets new flows in spite of it, or not.
fn state(backend: &Backend) -> (String, Tone) {
    use proto::v1::BackendState::Healthy;
    let (word, tone) = words::state(backend.state());
    match (backend.eligible, backend.state()) {
        (false, Healthy) => (format!("{word}, no new flows"), Tone::Warning),
        (true, state) if state != Healthy => (format!("{word}, serves"), Tone::Warning),
        _ => (word, tone),
    }
}

async fn show(backend: &str, context: &mut Context<'_, '_>) -> Result<(), Failure> {
    let request = GetBackendReq { backend_id: backend.to_owned() };
    let backend = context
        .session
        .call("GetBackend", request, |mut client, request| async move {
            client.get_backend(request).await
        })
        .await?;
    if context.json {
        return Ok(context.out.json(&backend)?);
    }
    let mut rows = Rows::new(&["FIELD", "VALUE"]);
    let mut row = |name: &str, value: (String, Tone)| rows.push(vec![cell(name), value]);
    let time = |at_ns: u64| match at_ns {
        0 => cell("-"),
        _ => cell(format_args!(
            "{} ({} ago)",
            words::time(at_ns),
            words::age(at_ns, words::now_ns())
        )),
    };
    row("backend", cell(&backend.backend_id));
    row("pool", cell(&backend.pool_id));
    row("address", cell(words::address(&backend)));
    row("weight", cell(backend.weight));
    row("state", state(&backend));
    row("new flows", cell(if backend.eligible { "yes" } else { "no" }));
    row("reason", cell(&backend.reason));
    row("flows", cell(backend.active_flows));
    row("labels", cell(words::labels(&backend)));
    row("readiness probe", cell(&backend.readiness_probe_url));
    for id in &backend.quic_server_ids {
        row("QUIC server id", cell(hex(id)));
    }
    row("registered", time(backend.registered_at_ns));
    row("state since", time(backend.last_state_change_ns));
    if backend.drain_until_ns != 0 {
        row("drains until", cell(words::time(backend.drain_until_ns)));
    }
    Ok(context.out.rows(&rows, "")?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::v1::BackendState;

    #[test]
    fn a_state_says_when_it_and_the_new_flows_differ() {
        let word = |state: BackendState, eligible| {
            let backend = Backend { state: state.into(), eligible, ..Backend::default() };
            super::state(&backend).0
        };
        assert_eq!(word(BackendState::Healthy, true), "healthy");
        assert_eq!(word(BackendState::Healthy, false), "healthy, no new flows");
        assert_eq!(word(BackendState::Unhealthy, true), "unhealthy, serves");
        assert_eq!(word(BackendState::Draining, false), "draining");
    }
}
