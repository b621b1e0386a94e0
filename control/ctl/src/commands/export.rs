//! `export`: the whole configuration as TOML.
//!
//! Pools are listed without their secrets: controllers show those to nodes alone. With `--secrets`
//! they are taken from the snapshots that a node gets, which needs a node's token unless the
//! controllers take everybody for everything (a loopback listener without TLS).

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use proto::v1::{PoolSettings, PoolSnapshot, QuicConfiguration, WatchPoolReq};
use tokio::time::timeout;

use super::{Context, pool};
use crate::configuration::{Configuration, write};
use crate::failure::Failure;
use crate::output::Output;
use crate::session::{Connection, Follow, Session};

/// Until all snapshots have come.
const COMPLETE: Duration = Duration::from_secs(60);

#[derive(Clone, Debug, Args)]
pub(super) struct Arguments {
    /// Write to this file instead of the standard output.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// With the hash secrets: who reads the file can aim flows at backends.
    #[arg(long)]
    secrets: bool,
    /// A node, where controllers show secrets to nodes alone.
    #[arg(long, value_name = "NODE", requires_all = ["secrets", "node_token_file"])]
    node: Option<String>,
    /// The token of that node.
    #[arg(long, value_name = "FILE", requires = "node")]
    node_token_file: Option<PathBuf>,
}

pub(super) async fn run(
    arguments: &Arguments,
    connection: &Connection,
    context: &mut Context<'_, '_>,
) -> Result<(), Failure> {
    let mut pools = pool::all(context).await?;
    if arguments.secrets {
        let as_node = match &arguments.node_token_file {
            Some(token) => Some(Session::new(&connection.with_token(token.clone()))?),
            None => None,
        };
        let session = as_node.as_ref().unwrap_or(&context.session);
        let node = arguments.node.clone().unwrap_or_default();
        let mut secrets = secrets(session, node, context.out).await?;
        for pool in &mut pools {
            let secrets = secrets.remove(&pool.pool_id).filter(|secrets| !secrets.hash.is_empty());
            let secrets = secrets.ok_or_else(|| {
                Failure::failed(format_args!(
                    "the controller does not show the secret of pool {} to this caller \
                     (nodes are shown them: --node NODE --node-token-file FILE)",
                    pool.pool_id
                ))
            })?;
            secrets.put_into(pool.settings.get_or_insert_default());
        }
    }
    let configuration = Configuration::from_pools(&pools).map_err(Failure::failed)?;
    let text = write(&configuration).map_err(Failure::failed)?;
    match &arguments.file {
        None => context.out.text(&text)?,
        Some(path) => {
            save(path, &text).map_err(|error| {
                Failure::failed(format_args!("{}: cannot be written: {error}", path.display()))
            })?;
            let (pools, vips) = (configuration.pools.len(), configuration.vips.len());
            let path = path.display();
            context.out.note(format_args!("{path}: {pools} pools, {vips} VIPs"))?;
        }
    }
    Ok(())
}

/// The secrets of a pool.
#[derive(Default)]
pub(super) struct Secrets {
    hash: Vec<u8>,
    /// With their keys.
    quic: Vec<QuicConfiguration>,
}

impl Secrets {
    /// In place of what is shown without them.
    pub(super) fn put_into(self, settings: &mut PoolSettings) {
        settings.hash_secret = self.hash;
        for shown in &mut settings.quic {
            if let Some(whole) = self.quic.iter().find(|one| one.config_id == shown.config_id) {
                shown.key.clone_from(&whole.key);
            }
        }
    }
}

/// The secrets of all pools as a node is told them; empty ones where the caller is shown none.
pub(super) async fn secrets(
    session: &Session,
    node_id: String,
    out: &mut Output<'_>,
) -> Result<BTreeMap<String, Secrets>, Failure> {
    let mut secrets = BTreeMap::new();
    let open = |mut client: client::Client| {
        let request = WatchPoolReq { node_id: node_id.clone(), ..WatchPoolReq::default() };
        async move { client.watch_pool(request).await }
    };
    let collect = session.follow("WatchPool", out, open, |_, snapshot: PoolSnapshot| {
        if snapshot.initial_set_complete {
            return Ok(Follow::Enough);
        }
        let settings = snapshot.settings.unwrap_or_default();
        let of_pool = Secrets { hash: settings.hash_secret, quic: settings.quic };
        secrets.insert(snapshot.pool_id, of_pool);
        Ok(Follow::On)
    });
    timeout(COMPLETE, collect).await.map_err(|_| {
        Failure::failed("WatchPool: the snapshots, which hold the secrets, are not complete")
    })??;
    Ok(secrets)
}

/// Readable by its owner alone: it may hold secrets. A file that is there is replaced whole, and
/// what an export that was killed left beside it is not written into: its mode is another's choice.
fn save(path: &Path, text: &str) -> std::io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let new = PathBuf::from(name);
    match std::fs::remove_file(&new) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let result = (|| {
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&new, path)
    })();
    if result.is_err() {
        // The first error is the one to tell.
        let _ = std::fs::remove_file(&new);
    }
    result
}
