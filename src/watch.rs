//! A node's way to its controllers: the configuration's `[controller]`, as the watch takes it.

use std::sync::Arc;

use anyhow::Context;
use client::Controllers;
use config::Config;
use control::shared::SharedNode;
use control::watch::{Status, Watch, WatchOptions};
use dataplane::clock::Clock;

use crate::controllers;

/// Checks what `[controller]` names (files included), before any device is touched; `None` for a
/// node whose pools are in its file.
pub(crate) fn controllers(config: &Config) -> anyhow::Result<Option<Controllers>> {
    let Some(section) = &config.controller else { return Ok(None) };
    Controllers::new(controllers::settings(section)).map(Some).context("[controller]")
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
