//! A node's way to its controllers: the configuration's `[controller]`, as the watch takes it.

use std::sync::Arc;

use anyhow::Context;
use client::{Controllers, Settings, Tls};
use config::{Config, ControllerClient};
use control::shared::SharedNode;
use control::watch::{Status, Watch, WatchOptions};
use dataplane::clock::Clock;

/// Checks what `[controller]` names (files included), before any device is touched; `None` for a
/// node whose pools are in its file.
pub(crate) fn controllers(config: &Config) -> anyhow::Result<Option<Controllers>> {
    let Some(section) = &config.controller else { return Ok(None) };
    Controllers::new(settings(section)).map(Some).context("[controller]")
}

/// Starts with the cache, and watches until the watch is dropped.
pub(crate) fn start(
    config: &Config,
    controllers: Controllers,
    node: SharedNode,
    clock: &Clock,
) -> anyhow::Result<Watch> {
    let clock = clock.clone();
    let status = Arc::new(Status::new(move || clock.now()));
    let options = WatchOptions {
        controllers,
        node_id: config.node.name.clone(),
        zone: config.node.zone.clone(),
        state_dir: Some(config.node.state_dir.clone()),
        core: Some(usize::from(config.dpdk.main_core)),
    };
    Watch::start(node, status, options).context("the watch of the controller")
}

fn settings(section: &ControllerClient) -> Settings {
    Settings {
        tls: section.tls.as_ref().map(|tls| Tls {
            ca: Some(tls.ca.clone()),
            certificate: tls.identity.as_ref().map(|identity| identity.certificate.clone()),
            key: tls.identity.as_ref().map(|identity| identity.key.clone()),
            server_name: tls.server_name.clone(),
        }),
        token_file: section.token_file.clone(),
        ..Settings::new(section.endpoints.iter().map(ToString::to_string))
    }
}
