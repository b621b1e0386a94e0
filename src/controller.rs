//! `weir controller`: a controller.
//!
//! Reads what its configuration names (certificates, tokens, passwords), then runs until SIGINT
//! or SIGTERM. Certificates and tokens that are replaced are taken up while it runs, by the
//! controller itself or at SIGHUP; SIGHUP also re-reads who may call, `[[access]]`.
//!
//! With `--renew-store-id` it only gives the registry another id.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use access::{Access, ClientCertificates, Entry, Proof, Role, Tls, TlsSettings};
use anyhow::{Context, anyhow};
use config::{ControllerConfig, Credential, Endpoint, Etcd, ServerTls, Store};
use controller::{FleetTimings, Limits, Renewed, Settings};
use registry::{EtcdSettings, Password, RedbSettings};
use tracing::{error, info, warn};

use crate::cli::ControllerArguments;
use crate::failure::{self, Failure};
use crate::logging;
use crate::service::{Service, Told};

/// Threads of the runtime: one for the desk that decides, one for everybody who calls.
const THREADS: usize = 2;

/// A leader that died leads until its lease is over, and a lease that was restored begins anew.
const LEASES_WAITED_FOR: u32 = 2;
/// And so long is waited beyond it, for the election.
const ELECTION: Duration = Duration::from_secs(5);

/// Runs a controller until it is told to stop.
pub(crate) fn run(arguments: &ControllerArguments) -> Result<(), Failure> {
    let loaded = ControllerConfig::load(&arguments.config).map_err(Failure::configuration)?;
    failure::warn(&loaded.warnings);
    let config = loaded.config;
    let access = Arc::new(access(&config).map_err(|error| wrong(&arguments.config, &error))?);
    let tls = tls(&config, &access).map_err(|error| wrong(&arguments.config, &error))?;
    let store = store(&config).map_err(|error| wrong(&arguments.config, &error))?;
    logging::start();
    make_folders(&config)?;

    let settings = Settings {
        name: config.controller.name.clone(),
        listen: config.controller.listen,
        http: config.controller.http,
        advertise: config.controller.advertise.as_ref().map(Endpoint::to_string),
        store,
        access: Some(Arc::clone(&access)),
        tls: tls.clone(),
        limits: limits(&config.limits),
        fleet: FleetTimings {
            checkers_silent: config.fleet.checkers_silent,
            evicted_shown: config.fleet.evicted_shown,
        },
    };
    let service = Service::new("controller", THREADS)?;
    if arguments.renew_store_id {
        return renew_store_id(service, settings);
    }
    let result = service.run(
        |told| async { Ok(controller::run(settings, told.ended()).await?) },
        || reload(&arguments.config, &config, &access, tls.as_deref()),
    );
    Ok(result?)
}

/// `--renew-store-id`.
fn renew_store_id(service: Service, settings: Settings) -> Result<(), Failure> {
    let patience = match &settings.store {
        controller::Store::Embedded(_) => ELECTION,
        controller::Store::Etcd(etcd) => etcd.lease_ttl * LEASES_WAITED_FOR + ELECTION,
    };
    let settings = &settings;
    let renewal = |told: Told| async move {
        tokio::select! {
            renewed = controller::renew_store_id(settings, patience) => {
                let Renewed { before, after } = renewed?;
                println!("the store {before} is the store {after} now: start the controllers");
                Ok(())
            }
            () = told.ended() => Err(anyhow!("told to stop: the store's id may be as it was")),
        }
    };
    Ok(service.run(renewal, || {})?)
}

/// What a file that the configuration names has wrong is wrong configuration.
fn wrong(file: &Path, error: &anyhow::Error) -> Failure {
    Failure::configuration(format!("{}: {error:#}", file.display()))
}

/// Who may call.
fn access(config: &ControllerConfig) -> anyhow::Result<Access> {
    let entries = config.access.iter().map(|entry| Entry {
        name: entry.name.clone(),
        role: match entry.role {
            config::Role::Operator => Role::Operator,
            config::Role::Checker => Role::Checker,
            config::Role::Node => Role::Node,
            config::Role::Viewer => Role::Viewer,
        },
        proof: match &entry.credential {
            Credential::Certificate(name) => Proof::Certificate(name.clone()),
            Credential::TokenFile(path) => Proof::TokenFile(path.clone()),
        },
    });
    let tls = config.tls.as_ref().map(tls_settings);
    let listeners = [config.controller.listen, config.controller.http];
    Ok(Access::build(entries.collect(), tls.as_ref(), &listeners)?)
}

fn tls(config: &ControllerConfig, access: &Access) -> anyhow::Result<Option<Arc<Tls>>> {
    let Some(tls) = &config.tls else { return Ok(None) };
    Ok(Some(Arc::new(Tls::open(tls_settings(tls), access.client_certificates())?)))
}

fn tls_settings(tls: &ServerTls) -> TlsSettings {
    TlsSettings {
        certificate: tls.identity.certificate.clone(),
        key: tls.identity.key.clone(),
        client_ca: tls.client_ca.clone(),
    }
}

fn store(config: &ControllerConfig) -> anyhow::Result<controller::Store> {
    let timeout = config.registry.timeout;
    Ok(match &config.registry.store {
        Store::Embedded { path } => {
            controller::Store::Embedded(RedbSettings { path: path.clone(), timeout })
        }
        Store::Etcd(etcd) => controller::Store::Etcd(etcd_settings(etcd, timeout)?),
    })
}

fn etcd_settings(etcd: &Etcd, timeout: Duration) -> anyhow::Result<EtcdSettings> {
    let user = match &etcd.user {
        Some(user) => Some((user.name.clone(), password(&user.password_file)?)),
        None => None,
    };
    let tls = match &etcd.tls {
        Some(tls) => Some(registry::TlsSettings {
            authorities_pem: read(&tls.ca)?,
            identity_pem: match &tls.identity {
                Some(identity) => Some((read(&identity.certificate)?, read_secret(&identity.key)?)),
                None => None,
            },
            domain: tls.server_name.clone(),
        }),
        None => None,
    };
    Ok(EtcdSettings {
        endpoints: etcd.endpoints.iter().map(Endpoint::to_string).collect(),
        prefix: etcd.prefix.clone(),
        timeout,
        lease_ttl: etcd.lease,
        compact: etcd.compact,
        user,
        tls,
    })
}

/// The first line of the file.
fn password(path: &Path) -> anyhow::Result<Password> {
    let text = String::from_utf8(read_secret(path)?).map_err(|_| {
        // The error of the conversion holds the bytes.
        anyhow!("[registry]: {}: is not text (expected a password)", path.display())
    })?;
    let password = text.lines().next().unwrap_or_default();
    if password.is_empty() {
        return Err(anyhow!("[registry]: {}: is empty (expected a password)", path.display()));
    }
    Ok(Password(password.to_owned()))
}

fn read_secret(path: &Path) -> anyhow::Result<Vec<u8>> {
    let metadata = fs::metadata(path).with_context(|| format!("[registry]: {}", path.display()))?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & failure::TOO_OPEN != 0 {
        return Err(anyhow!(
            "[registry]: {}: holds a secret and has the mode {mode:04o} (expected 0600 or 0640)",
            path.display()
        ));
    }
    read(path)
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("[registry]: {}", path.display()))
}

fn limits(limits: &config::Limits) -> Limits {
    Limits {
        streams: limits.streams as usize,
        request_bytes: limits.request_bytes as usize,
        requests_per_second: limits.requests_per_second,
        health_window: limits.health_window as usize,
    }
}

/// The state directory, and that of the embedded registry, for nobody else.
fn make_folders(config: &ControllerConfig) -> anyhow::Result<()> {
    let state_dir = config.controller.state_dir.as_path();
    let registry = match &config.registry.store {
        Store::Embedded { path } => path.parent(),
        Store::Etcd(_) => None,
    };
    for folder in [Some(state_dir), registry].into_iter().flatten() {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.with_context(|| format!("{}: cannot be made", folder.display()))?;
    }
    Ok(())
}

/// SIGHUP: who may call changes as a whole, or not at all; certificates and tokens are read again.
fn reload(path: &Path, running: &ControllerConfig, access: &Access, tls: Option<&Tls>) {
    match again(path, running, access) {
        Ok(()) => info!("who may call was read again"),
        Err(error) => error!("reload refused, nothing has changed:\n{error:#}"),
    }
    match tls.map(Tls::reload) {
        Some(Err(error)) => warn!(%error, "certificates stay as they were"),
        Some(Ok(true)) => info!("certificates were replaced"),
        Some(Ok(false)) | None => {}
    }
}

fn again(path: &Path, running: &ControllerConfig, access: &Access) -> anyhow::Result<()> {
    let loaded = ControllerConfig::load(path)?;
    for warning in &loaded.warnings {
        warn!("{warning}");
    }
    let restart = running.restart_required(&loaded.config);
    if !restart.is_empty() {
        return Err(anyhow!("{}: needs a restart: {}", path.display(), restart.join(", ")));
    }
    let fresh = self::access(&loaded.config)?;
    // The listeners have been told whether to talk to callers without certificates.
    if access.client_certificates() == ClientCertificates::Required
        && fresh.client_certificates() == ClientCertificates::Optional
        && running.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some())
    {
        return Err(anyhow!(
            "{}: needs a restart: the first [[access]] with a token_file",
            path.display()
        ));
    }
    access.replace(&fresh);
    Ok(())
}
