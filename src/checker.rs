//! `weir checker`: a checker.
//!
//! Runs until SIGINT or SIGTERM. Certificates and tokens are read again for each connection to a
//! controller; everything else needs a restart, so SIGHUP changes nothing.

use checker::{Checker, Error, Settings};
use config::CheckerConfig;
use tracing::{info, warn};

use crate::cli::ServiceArguments;
use crate::failure::{self, Failure};
use crate::service::Service;
use crate::{controllers, logging};

/// Runs a checker until it is told to stop.
pub(crate) fn run(arguments: &ServiceArguments) -> Result<(), Failure> {
    let loaded = CheckerConfig::load(&arguments.config).map_err(Failure::configuration)?;
    failure::warn(&loaded.warnings);
    let config = loaded.config;
    logging::start();
    let service = Service::new("checker", usize::from(config.checker.workers))?;
    let checker = service.wait(Checker::new(settings(&config)));
    let checker = checker.map_err(|error| match error {
        Error::Setting { .. } | Error::Controllers(_) | Error::ProbeCa { .. } => {
            Failure::configuration(format!("{}: {error}", arguments.config.display()))
        }
        Error::Listen { .. } | Error::Descriptors { .. } => Failure::from(error),
    })?;
    if let Some(http) = checker.http_address() {
        info!(%http, "checker listens");
    }
    let result = service.run(
        |told| async {
            checker.run(told.ended()).await;
            Ok(())
        },
        || warn!("SIGHUP changes nothing: a changed configuration needs a restart"),
    );
    Ok(result?)
}

fn settings(config: &CheckerConfig) -> Settings {
    let commands = config.commands.iter();
    Settings {
        zone: config.checker.zone.clone(),
        http: Some(config.checker.http),
        commands: commands.map(|command| (command.name.clone(), command.argv.clone())).collect(),
        max_in_flight: config.checker.max_in_flight as usize,
        max_commands: config.checker.max_commands as usize,
        probe_ca: config.checker.probe_ca.clone(),
        ..Settings::new(config.checker.id.clone(), controllers::settings(&config.controller))
    }
}
