//! `weir check`: validates a configuration and touches no device.
//!
//! The file may be a node's, a controller's or a checker's. The certificates, keys, tokens and
//! programs that it names are looked at from outside: whether they are there and whether secrets
//! are kept from others. That is a warning only, as the file may be checked on another machine
//! than the one it is for.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;

use config::{CheckerConfig, Config, Configuration, Content, ControllerConfig, NamedFile, Store};
use control::node::Node;

use crate::cli::CheckArguments;
use crate::failure::{Failure, TOO_OPEN, warn};

/// Prints what the file amounts to, or every problem in it.
pub(crate) fn check(arguments: &CheckArguments) -> Result<(), Failure> {
    let loaded = Configuration::load(&arguments.config).map_err(Failure::configuration)?;
    warn(&loaded.warnings);
    let name = arguments.config.display();
    let summary = match &loaded.config {
        Configuration::Node(config) => {
            Node::check(config).map_err(Failure::configuration)?;
            node(config)
        }
        Configuration::Controller(config) => controller(config),
        Configuration::Checker(config) => checker(config),
    };
    for file in loaded.config.files() {
        if let Some(doubt) = doubt(&file) {
            eprintln!("warning: {name}: {} = {:?} {doubt}", file.place, file.path);
        }
    }
    println!("{name}: ok: {summary}");
    Ok(())
}

fn node(config: &Config) -> String {
    let pools = match &config.controller {
        Some(controller) => {
            format!("pools and VIPs from {} controllers", controller.endpoints.len())
        }
        None => format!(
            "{} pools with {} backends, {} VIPs",
            config.pools.len(),
            config.pools.iter().map(|pool| pool.backends.len()).sum::<usize>(),
            config.vips.len()
        ),
    };
    format!(
        "{} ports, {} workers, {pools}, {} flows",
        config.ports.len(),
        config.dpdk.worker_cores.len(),
        config.conntrack.flows,
    )
}

fn controller(config: &ControllerConfig) -> String {
    let store = match &config.registry.store {
        Store::Embedded { path } => format!("the registry in {path:?}"),
        Store::Etcd(etcd) => format!("the registry in etcd, {} members", etcd.endpoints.len()),
    };
    let callers = match config.access.len() {
        0 => "everybody on this machine".to_owned(),
        count => format!("{count} callers"),
    };
    let tls = if config.tls.is_some() { "TLS" } else { "no TLS" };
    let listen = config.controller.listen;
    format!("a controller at {listen}, {tls}, {callers}, {store}")
}

fn checker(config: &CheckerConfig) -> String {
    format!(
        "the checker {}, {} controllers, {} commands",
        config.checker.id,
        config.controller.endpoints.len(),
        config.commands.len()
    )
}

/// What is wrong with a file that the configuration names, as far as can be seen from outside.
fn doubt(file: &NamedFile<'_>) -> Option<String> {
    let metadata = match fs::metadata(file.path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Some("is not there".to_owned());
        }
        Err(error) => return Some(format!("cannot be looked at: {error}")),
    };
    let mode = metadata.permissions().mode() & 0o777;
    if !metadata.is_file() {
        return Some("is not a regular file".to_owned());
    }
    match file.content {
        Content::Secret if mode & TOO_OPEN != 0 => {
            Some(format!("holds a secret and has the mode {mode:04o} (expected 0600 or 0640)"))
        }
        Content::Program if mode & 0o111 == 0 => {
            Some(format!("is to be run and has the mode {mode:04o} (expected 0755)"))
        }
        Content::Secret | Content::Program | Content::Public => None,
    }
}
