//! What a checker is told at its start, and why it may refuse.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

/// What a checker is told at its start.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its name in assignments and reports: what its certificate or token says, and no other
    /// checker's.
    pub id: String,
    /// The failure domain it stands in.
    pub zone: String,
    /// Where health and metrics are served, a loopback address; port 0 lets the kernel choose.
    /// `None`: nowhere.
    pub http: Option<SocketAddr>,
    /// The programs that pools may name, as name and argument list, the program first. `{ip}`,
    /// `{port}` and `{backend_id}` in arguments stand for the backend's.
    pub commands: BTreeMap<String, Vec<String>>,
    /// Most probes under way at once; bounded below what the limit of open files allows.
    pub max_in_flight: usize,
    /// Most programs running at once, of those probes.
    pub max_commands: usize,
    /// PEM file of certificates that sign those of HTTPS backends, trusted beside the system's.
    pub probe_ca: Option<PathBuf>,
    /// The controllers.
    pub controllers: client::Settings,
}

/// Why a checker does not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A setting is out of its range.
    #[error("{field}: {problem}")]
    Setting {
        /// Which one.
        field: &'static str,
        /// What is wrong, and what was expected.
        problem: String,
    },
    /// The way to the controllers.
    #[error(transparent)]
    Controllers(#[from] client::Error),
    /// No HTTP listener.
    #[error("http {address}: {source}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// The file of certificates.
    #[error("probe_ca {}: {problem}", path.display())]
    ProbeCa {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// Too few open files are allowed.
    #[error(
        "the limit of open files is {limit}, expected at least {needed}: raise it (LimitNOFILE)"
    )]
    Descriptors {
        /// The limit.
        limit: u64,
        /// The least that a checker can work with.
        needed: u64,
    },
}

impl Settings {
    /// A checker of this name, with the defaults for the rest.
    #[must_use]
    pub fn new(id: impl Into<String>, controllers: client::Settings) -> Self {
        Self {
            id: id.into(),
            zone: "default".to_owned(),
            http: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 9192))),
            commands: BTreeMap::new(),
            max_in_flight: 4096,
            max_commands: 64,
            probe_ca: None,
            controllers,
        }
    }

    /// # Errors
    /// [`Error::Setting`], with the field.
    pub fn validate(&self) -> Result<(), Error> {
        let rule = |holds: bool, field, expected: &str| match holds {
            true => Ok(()),
            false => Err(Error::Setting { field, problem: format!("expected {expected}") }),
        };
        rule((1..=256).contains(&self.id.len()), "id", "1 to 256 bytes")?;
        rule((1..=256).contains(&self.zone.len()), "zone", "1 to 256 bytes")?;
        rule((1..=65_536).contains(&self.max_in_flight), "max_in_flight", "1 to 65536")?;
        rule((1..=4096).contains(&self.max_commands), "max_commands", "1 to 4096")?;
        let loopback = self.http.is_none_or(|address| address.ip().is_loopback());
        rule(loopback, "http", "a loopback address: it is served without TLS, to anybody")?;
        for (name, argv) in &self.commands {
            let usable = argv.first().is_some_and(|program| !program.is_empty());
            let clean = argv.iter().all(|argument| !argument.contains('\0'));
            if !usable || !clean {
                let problem = format!("{name:?}: expected a program and arguments without NUL");
                return Err(Error::Setting { field: "commands", problem });
            }
        }
        Ok(())
    }
}
