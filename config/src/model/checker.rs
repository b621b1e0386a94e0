//! A checker: who it is, whom it reports to, and which commands pools may name.

use super::ControllerClient;
use std::net::SocketAddr;
use std::path::PathBuf;

/// A whole checker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckerConfig {
    /// `[checker]`
    pub checker: Checker,
    /// `[controller]`
    pub controller: ControllerClient,
    /// `[[command]]`, in the order of the file, names unique.
    pub commands: Vec<Command>,
}

/// Who this checker is, and how much it does at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checker {
    /// Its name in assignments and reports; no other checker has it.
    pub id: String,
    /// The failure domain it stands in.
    pub zone: String,
    /// Where health and metrics are served; a loopback address. Port 0 lets the kernel choose.
    pub http: SocketAddr,
    /// Threads that probe, 1 to 64.
    pub workers: u16,
    /// Most probes under way at once, 1 to 65,536.
    pub max_in_flight: u32,
    /// Most of them that are commands, 1 to 4096.
    pub max_commands: u32,
    /// Authorities that HTTPS backends' certificates may come from, beside the system's own;
    /// absolute.
    pub probe_ca: Option<PathBuf>,
}

/// A command that a pool's health check may name. What is run is said here, on the checker's own
/// machine, and never by the controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// What pools call it.
    pub name: String,
    /// The program, an absolute path, and its arguments: 1 to 64, none holds a NUL. `{ip}`,
    /// `{port}` and `{backend_id}` stand for the backend's.
    pub argv: Vec<String>,
}
