//! The server's side of TLS: certificate, key and client CA, read from files and read again.
//!
//! Both listeners, gRPC and HTTP, use the same files; they differ in the protocol they agree on,
//! and in that the HTTP one never insists on a certificate, since health and metrics are open to
//! probes that have none ([`crate::Access`] refuses the rest). Sessions are not resumed: each
//! connection proves its certificate anew.
//!
//! [`Tls::reload`] puts a new certificate, key or client CA into use for connections from then on;
//! those that exist go on. A bad file changes nothing.
//!
//! TLS 1.2 and 1.3 by rustls, with the ring provider.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier, danger::ClientCertVerifier};
use rustls::{RootCertStore, ServerConfig};
use sha2::{Digest, Sha256};

use crate::files::{self, FileError, Kind};
use crate::peer;

/// Bytes of a certificate, key or CA file.
const FILE_LIMIT: u64 = 1024 * 1024;

/// The files of `[tls]`, in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSettings {
    /// The listener's certificate, with what is between it and its root.
    pub certificate: PathBuf,
    /// Its private key; readable by the program's user and group alone.
    pub key: PathBuf,
    /// Certificates that sign clients' ones; without it clients show tokens.
    pub client_ca: Option<PathBuf>,
}

/// Whether the gRPC listener talks to clients without a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientCertificates {
    /// The handshake fails without one.
    Required,
    /// A client without one may show a token.
    Optional,
}

/// What a connection is for; said in the handshake (RFC 7301).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/2.
    Grpc,
    /// HTTP/1.1.
    Http,
}

/// Why TLS cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file that cannot be used.
    #[error("tls: {0}")]
    File(#[from] FileError),
    /// Files that do not fit together.
    #[error("tls: {}, {}: {problem}", certificate.display(), key.display())]
    Pair {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// What rustls said.
        problem: String,
    },
}

/// TLS of a server's listeners, replaceable while it runs.
pub struct Tls {
    settings: TlsSettings,
    clients: ClientCertificates,
    loaded: RwLock<Arc<Loaded>>,
}

/// One reading of the files.
struct Loaded {
    grpc: Arc<ServerConfig>,
    http: Arc<ServerConfig>,
    /// Of the files' contents.
    digest: [u8; 32],
    valid_until: i64,
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// [`TlsError::File`] for a file that cannot be read, a key that others can read, and what is
    /// no PEM; [`TlsError::Pair`] for a key that is not the certificate's.
    pub fn open(settings: TlsSettings, clients: ClientCertificates) -> Result<Self, TlsError> {
        let loaded = RwLock::new(Arc::new(load(&settings, clients)?));
        Ok(Self { settings, clients, loaded })
    }

    /// Reads the files again. True if anything changed.
    ///
    /// # Errors
    /// As [`Tls::open`]; what was in use stays.
    pub fn reload(&self) -> Result<bool, TlsError> {
        let fresh = load(&self.settings, self.clients)?;
        let changed = fresh.digest != self.loaded().digest;
        if changed {
            *self.loaded.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(fresh);
        }
        Ok(changed)
    }

    /// When the certificate in use expires, in seconds since 1970.
    #[must_use]
    pub fn valid_until(&self) -> i64 {
        self.loaded().valid_until
    }

    /// What the next handshake uses.
    pub(crate) fn config(&self, protocol: Protocol) -> Arc<ServerConfig> {
        let loaded = self.loaded();
        Arc::clone(match protocol {
            Protocol::Grpc => &loaded.grpc,
            Protocol::Http => &loaded.http,
        })
    }

    fn loaded(&self) -> Arc<Loaded> {
        Arc::clone(&self.loaded.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut form = formatter.debug_struct("Tls");
        form.field("settings", &self.settings).field("clients", &self.clients);
        form.finish_non_exhaustive()
    }
}

fn load(settings: &TlsSettings, clients: ClientCertificates) -> Result<Loaded, TlsError> {
    let mut contents = Sha256::new();
    let mut content = |path: &Path, kind| {
        let bytes = files::read(path, kind, FILE_LIMIT)?;
        contents.update((bytes.len() as u64).to_be_bytes());
        contents.update(&bytes);
        Ok::<_, FileError>(bytes)
    };
    let chain =
        certificates(&settings.certificate, &content(&settings.certificate, Kind::Public)?)?;
    let key = PrivateKeyDer::from_pem_slice(&content(&settings.key, Kind::Secret)?)
        .map_err(|_| FileError::content(&settings.key, "expected a private key in PEM"))?;
    let roots = match &settings.client_ca {
        Some(path) => Some((path, certificates(path, &content(path, Kind::Public)?)?)),
        None => None,
    };
    let valid_until =
        chain.first().and_then(peer::ProvenNames::read).map_or(i64::MAX, |leaf| leaf.valid_until);
    let build = |protocol, clients| {
        let verifier = match &roots {
            Some((path, roots)) => Some(verifier(path, roots, clients)?),
            None => None,
        };
        config(settings, verifier, chain.clone(), key.clone_key(), protocol)
    };
    let grpc = build(Protocol::Grpc, clients)?;
    let http = build(Protocol::Http, ClientCertificates::Optional)?;
    Ok(Loaded { grpc, http, digest: contents.finalize().into(), valid_until })
}

fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, FileError> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match chain {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        _ => Err(FileError::content(path, "expected certificates in PEM")),
    }
}

fn verifier(
    path: &Path,
    roots: &[CertificateDer<'static>],
    clients: ClientCertificates,
) -> Result<Arc<dyn ClientCertVerifier>, FileError> {
    let refuse = |problem: String| FileError::content(path, problem);
    let mut store = RootCertStore::empty();
    for root in roots {
        store.add(root.clone()).map_err(|error| refuse(format!("no client CA: {error}")))?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(store), provider());
    let builder = match clients {
        ClientCertificates::Required => builder,
        ClientCertificates::Optional => builder.allow_unauthenticated(),
    };
    builder.build().map_err(|error| refuse(format!("no client CA: {error}")))
}

fn config(
    settings: &TlsSettings,
    verifier: Option<Arc<dyn ClientCertVerifier>>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    protocol: Protocol,
) -> Result<Arc<ServerConfig>, TlsError> {
    let refuse = |error: rustls::Error| TlsError::Pair {
        certificate: settings.certificate.clone(),
        key: settings.key.clone(),
        problem: error.to_string(),
    };
    let builder = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(refuse)?;
    let builder = match verifier {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_single_cert(chain, key).map_err(refuse)?;
    config.alpn_protocols = vec![match protocol {
        Protocol::Grpc => b"h2".to_vec(),
        Protocol::Http => b"http/1.1".to_vec(),
    }];
    // A resumed session would not look at the client's certificate again.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(ring::default_provider())
}
