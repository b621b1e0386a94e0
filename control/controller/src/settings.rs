//! What a controller is started with.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use access::{Access, Tls};
use registry::{EtcdSettings, RedbSettings};

/// What a controller is started with. [`Settings::new`] gives the defaults.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its name in the election; with etcd, unique among the controllers.
    pub name: String,
    /// Where gRPC is served; port 0 takes any that is free.
    pub listen: SocketAddr,
    /// Where HTTP is served: `/healthz`, `/readyz`, `/metrics`, and the calls as JSON.
    pub http: SocketAddr,
    /// The URL under which clients reach `listen`; `None`: the address itself.
    pub advertise: Option<String>,
    /// Where rows are kept.
    pub store: Store,
    /// Who may call, built for both listeners; `None`: everybody, which only loopback listeners
    /// allow.
    pub access: Option<Arc<Access>>,
    /// TLS of both listeners.
    pub tls: Option<Arc<Tls>>,
    /// What one controller takes on.
    pub limits: Limits,
    /// How long the fleet is waited for.
    pub fleet: FleetTimings,
}

/// Where rows are kept.
#[derive(Clone, Debug)]
pub enum Store {
    /// In a file of its own: this controller always leads.
    Embedded(RedbSettings),
    /// In etcd, where several controllers elect a leader.
    Etcd(EtcdSettings),
}

/// What one controller takes on; beyond it callers are told to back off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Streams at a time, of all kinds together.
    pub streams: usize,
    /// Bytes of one request; a report of a node may have 32 MiB.
    pub request_bytes: usize,
    /// Changes a second that each caller may ask for, and a tenth of its other calls; twice as many
    /// at once.
    pub requests_per_second: u32,
    /// Health reports of one stream that are not acknowledged yet.
    pub health_window: usize,
}

/// How long the fleet is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FleetTimings {
    /// Reports older than this are UNKNOWN, and a checker silent for so long is not counted on.
    pub checkers_silent: Duration,
    /// How long an EVICTED backend stays in snapshots, so that every node can reset its flows.
    pub evicted_shown: Duration,
}

impl Settings {
    /// The defaults: loopback, ports 9190 and 9191.
    pub fn new(name: impl Into<String>, store: Store) -> Self {
        Self {
            name: name.into(),
            listen: SocketAddr::from(([127, 0, 0, 1], 9190)),
            http: SocketAddr::from(([127, 0, 0, 1], 9191)),
            advertise: None,
            store,
            access: None,
            tls: None,
            limits: Limits::default(),
            fleet: FleetTimings::default(),
        }
    }
}

impl Store {
    /// Bound of every call to it.
    pub(crate) fn timeout(&self) -> Duration {
        match self {
            Self::Embedded(settings) => settings.timeout,
            Self::Etcd(settings) => settings.timeout,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            streams: 512,
            request_bytes: 4 * 1024 * 1024,
            requests_per_second: 200,
            health_window: 4096,
        }
    }
}

impl Default for FleetTimings {
    fn default() -> Self {
        Self { checkers_silent: Duration::from_secs(15), evicted_shown: Duration::from_secs(60) }
    }
}
