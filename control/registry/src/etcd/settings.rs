//! How to reach etcd.

use std::fmt;
use std::time::Duration;

/// Where etcd is, and how long to wait for it.
#[derive(Clone, Debug)]
pub struct EtcdSettings {
    /// `http://` or `https://` URLs of the members.
    pub endpoints: Vec<String>,
    /// All keys begin with it; ends with a slash. Two fleets may share one etcd: see `compact`.
    pub prefix: String,
    /// Bound of every call. A third of it is waited for one endpoint.
    pub timeout: Duration,
    /// A leader that is not heard of for so long is not the leader any more. Whole seconds; etcd
    /// raises it to its own least (2 s as delivered).
    pub lease_ttl: Duration,
    /// Whether `Registry::compact` discards old revisions. etcd has one history for all that is in
    /// it, so this takes other tenants' too. Without it etcd has to do so by itself, or its history
    /// grows until it is full.
    pub compact: bool,
    /// Name and password, where etcd wants them.
    pub user: Option<(String, Password)>,
    /// For `https://` endpoints.
    pub tls: Option<TlsSettings>,
}

/// Not shown by `Debug`.
#[derive(Clone)]
pub struct Password(pub String);

/// Certificates, in PEM.
#[derive(Clone)]
pub struct TlsSettings {
    /// The authorities that signed the members' certificates.
    pub authorities_pem: Vec<u8>,
    /// This controller's certificate and its private key, for mutual TLS.
    pub identity_pem: Option<(Vec<u8>, Vec<u8>)>,
    /// The name that the members' certificates carry, where it is not that of the URL.
    pub domain: Option<String>,
}

impl EtcdSettings {
    /// The defaults: prefix `/weir/v1/`, 5 s for calls, 5 s for the lease, compaction, no user, no TLS.
    pub fn new(endpoints: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            endpoints: endpoints.into_iter().map(Into::into).collect(),
            prefix: "/weir/v1/".into(),
            timeout: Duration::from_secs(5),
            lease_ttl: Duration::from_secs(5),
            compact: true,
            user: None,
            tls: None,
        }
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Password(..)")
    }
}

impl fmt::Debug for TlsSettings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mutual = self.identity_pem.is_some();
        formatter
            .debug_struct("TlsSettings")
            .field("mutual", &mutual)
            .field("domain", &self.domain)
            .finish_non_exhaustive()
    }
}
