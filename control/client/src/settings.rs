//! Where the controllers are, and how to be known there.

use std::path::PathBuf;
use std::time::Duration;

/// Where the controllers are, who may be trusted to be one, and how to be known there.
///
/// Files are named, not held: they are read by [`crate::Controllers::new`], and again for each
/// new connection, so that renewed certificates and tokens need no restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// URLs of all controllers, `http://HOST:PORT` or `https://HOST:PORT`; one scheme for all.
    pub endpoints: Vec<String>,
    /// For `https` endpoints; `None` is [`Tls::default`]. Refused with `http` endpoints, where it
    /// would protect nothing.
    pub tls: Option<Tls>,
    /// A file whose text, less white space around it, is the bearer token. With `http`, only
    /// loopback endpoints get it.
    pub token_file: Option<PathBuf>,
    /// Bound on one attempt to connect: name, TCP and TLS together.
    pub connect_timeout: Duration,
    /// So often an HTTP/2 ping goes out, also while no call is open.
    pub keep_alive_interval: Duration,
    /// A connection whose ping is not answered for so long is dead.
    pub keep_alive_timeout: Duration,
    /// The largest message that is accepted, in bytes.
    pub largest_message: usize,
}

/// TLS towards the controllers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// PEM file of the certificates that sign the controllers' ones; `None`: the roots that the
    /// system trusts.
    pub ca: Option<PathBuf>,
    /// PEM file of our own certificate and what signs it, the own one first. Needs `key`.
    pub certificate: Option<PathBuf>,
    /// PEM file of our own private key. Needs `certificate`.
    pub key: Option<PathBuf>,
    /// The name that all controllers' certificates bear; `None`: the host of each URL.
    pub server_name: Option<String>,
}

impl Settings {
    /// These endpoints, and the defaults for the rest.
    #[must_use]
    pub fn new(endpoints: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { endpoints: endpoints.into_iter().map(Into::into).collect(), ..Self::default() }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            endpoints: vec!["http://127.0.0.1:9190".to_owned()],
            tls: None,
            token_file: None,
            connect_timeout: Duration::from_secs(2),
            keep_alive_interval: Duration::from_secs(5),
            keep_alive_timeout: Duration::from_secs(5),
            // A snapshot with a table of 655,373 slots of up to 5 bytes and 13,000 backends.
            largest_message: 64 << 20,
        }
    }
}
