//! `export`: the whole configuration as TOML.
//!
//! Pools are listed without their secrets. With `--secrets` they are taken from where they are
//! shown: the snapshots that nodes get.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::Args;
use proto::v1::{Pool, PoolSnapshot, WatchPoolReq};

use super::{Context, pool};
use crate::configuration::{Configuration, write};
use crate::failure::Failure;
use crate::session::Follow;

#[derive(Clone, Debug, Args)]
pub(super) struct Arguments {
    /// Write to this file instead of the standard output.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// With the hash secrets: who reads the file can aim flows at backends.
    #[arg(long)]
    secrets: bool,
}

pub(super) async fn run(
    arguments: &Arguments,
    context: &mut Context<'_, '_>,
) -> Result<(), Failure> {
    let configuration = current(arguments.secrets, context).await?;
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

/// What the controllers hold; with secrets when asked for.
pub(super) async fn current(
    secrets: bool,
    context: &mut Context<'_, '_>,
) -> Result<Configuration, Failure> {
    let mut pools = pool::all(context).await?;
    if secrets && !pools.is_empty() {
        fill_in_secrets(&mut pools, context).await?;
    }
    Configuration::from_pools(&pools).map_err(Failure::failed)
}

async fn fill_in_secrets(pools: &mut [Pool], context: &mut Context<'_, '_>) -> Result<(), Failure> {
    let mut secrets = BTreeMap::new();
    let open = |mut client: client::Client| async move {
        client.watch_pool(WatchPoolReq::default()).await
    };
    let collect = context.session.follow("WatchPool", context.out, open, |_, message| {
        let snapshot: PoolSnapshot = message;
        if snapshot.initial_set_complete {
            return Ok(Follow::Enough);
        }
        let settings = snapshot.settings.unwrap_or_default();
        secrets.insert(snapshot.pool_id, settings.hash_secret);
        Ok(Follow::On)
    });
    let limit = std::time::Duration::from_secs(60);
    tokio::time::timeout(limit, collect).await.map_err(|_| {
        Failure::failed("WatchPool: the snapshots, which hold the secrets, are not complete")
    })??;
    for pool in pools {
        let secret = secrets.remove(&pool.pool_id).filter(|secret| !secret.is_empty());
        let secret = secret.ok_or_else(|| {
            Failure::failed(format_args!(
                "the controller does not show the secret of pool {} (is the caller an operator?)",
                pool.pool_id
            ))
        })?;
        pool.settings.get_or_insert_default().hash_secret = secret;
    }
    Ok(())
}

/// Readable by its owner alone: it may hold secrets. A file that is there is replaced whole.
fn save(path: &Path, text: &str) -> std::io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let new = PathBuf::from(name);
    let result = (|| {
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&new)?;
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
