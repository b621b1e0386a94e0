//! Where the controllers are, for those who call them: nodes and checkers.

use crate::Endpoint;
use std::path::PathBuf;

/// `[controller]` of a node or a checker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControllerClient {
    /// The controllers: 1 to 16, none twice, all `http` or all `https`.
    pub endpoints: Vec<Endpoint>,
    /// There if and only if the endpoints are `https`.
    pub tls: Option<ClientTls>,
    /// Holds the bearer token; absolute. With `http` endpoints only if they are loopback.
    pub token_file: Option<PathBuf>,
}

/// How a client of TLS knows the server, and what it shows of itself. Paths are absolute, the
/// files PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientTls {
    /// The authorities that the server's certificate must come from.
    pub ca: PathBuf,
    /// For mutual TLS.
    pub identity: Option<Identity>,
    /// The name to expect in the server's certificate; `None`: the host of the endpoint.
    pub server_name: Option<String>,
}

/// A certificate with its private key, both absolute paths of PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The certificate, followed by those that lead to its authority.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}
