//! A controller: where it listens, where it keeps what it must not forget, and who may call.

use super::{ClientTls, Identity};
use crate::Endpoint;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// A whole controller.
///
/// Either both listeners are loopback, or there are `tls` and at least one `access`. Without any
/// `access` everybody on the machine may do everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControllerConfig {
    /// `[controller]`
    pub controller: Controller,
    /// `[registry]`
    pub registry: Registry,
    /// `[tls]`
    pub tls: Option<ServerTls>,
    /// `[[access]]`, in the order of the file; credentials unique, a name has one role.
    pub access: Vec<Access>,
    /// `[limits]`
    pub limits: Limits,
    /// `[fleet]`
    pub fleet: Fleet,
}

/// Who this controller is, and where it listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Controller {
    /// Its name in elections, metrics and logs.
    pub name: String,
    /// Where gRPC is served. Port 0 lets the kernel choose.
    pub listen: SocketAddr,
    /// Where HTTP-JSON, health and metrics are served. Port 0 lets the kernel choose.
    pub http: SocketAddr,
    /// Where others reach `listen`; `https` with `tls`, else `http`. Always there when `listen`
    /// is an unspecified address. `None`: see [`Endpoint::of`].
    pub advertise: Option<Endpoint>,
    /// Where the controller keeps files between runs; absolute.
    pub state_dir: PathBuf,
}

/// What the controller must not forget is kept here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registry {
    /// Where.
    pub store: Store,
    /// Bound of every call, 0.1 to 60 s.
    pub timeout: Duration,
}

/// Where the registry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Store {
    /// In one file of this machine, for a controller that stands alone.
    Embedded {
        /// The file; absolute.
        path: PathBuf,
    },
    /// In etcd, for several controllers that elect a leader.
    Etcd(Etcd),
}

/// How to reach etcd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Etcd {
    /// The members: 1 to 16, none twice, all `http` or all `https`.
    pub endpoints: Vec<Endpoint>,
    /// All keys begin with it; begins and ends with a slash.
    pub prefix: String,
    /// A leader that is silent for so long leads no more; whole seconds, 2 to 60.
    pub lease: Duration,
    /// Whether the leader discards old revisions: of all that is in this etcd, as it has but one
    /// history.
    pub compact: bool,
    /// There if and only if the endpoints are `https`.
    pub tls: Option<ClientTls>,
    /// Where etcd wants one.
    pub user: Option<EtcdUser>,
}

/// A user of etcd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EtcdUser {
    /// Its name.
    pub name: String,
    /// Holds its password; absolute.
    pub password_file: PathBuf,
}

/// How the controller's listeners speak TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerTls {
    /// What it shows of itself.
    pub identity: Identity,
    /// The authorities that clients' certificates must come from; absolute. `None`: no client
    /// certificates, tokens only.
    pub client_ca: Option<PathBuf>,
}

/// Somebody who may call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// Its name; of a checker its `[checker] id`, of a node its `[node] name`.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// How it is known.
    pub credential: Credential,
}

/// What a caller may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Everything.
    Operator,
    /// Reports health.
    Checker,
    /// Watches pools, reports what it applied.
    Node,
    /// Reads what an operator may read.
    Viewer,
}

/// How a caller is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// A DNS name of its certificate, or the common name of one that has none. There is a
    /// `client_ca` then.
    Certificate(String),
    /// A bearer token of this file; absolute.
    TokenFile(PathBuf),
}

/// Bounds on what callers may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Open streams of all callers together.
    pub streams: u32,
    /// Longest request, in bytes.
    pub request_bytes: u32,
    /// Writes a second of each caller; twice as many at once.
    pub requests_per_second: u32,
    /// Health reports of a stream that wait for their acknowledgement.
    pub health_window: u32,
}

/// What is expected of checkers and nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fleet {
    /// A backend without any report for so long is UNKNOWN, and its pool freezes; whole seconds,
    /// at least 3.
    pub checkers_silent: Duration,
    /// An EVICTED backend stays in snapshots for so long, so that every node hears of it; whole
    /// seconds, at least 1.
    pub evicted_shown: Duration,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Operator => "operator",
            Self::Checker => "checker",
            Self::Node => "node",
            Self::Viewer => "viewer",
        })
    }
}
