//! Certificates, servers and clients for the tests of this crate, all real.

use std::fs;
use std::future::Future;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use access::{Entry, Listening, Proof, Role, Tls, TlsSettings};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// More than anything here takes on a slow machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// What a server or client shows.
#[derive(Clone)]
pub(crate) struct Shown {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

pub(crate) struct Ca(CertifiedIssuer<'static, KeyPair>);

impl Ca {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    pub(crate) fn signs(&self, name: &str) -> Shown {
        self.signs_until(name, 2090)
    }

    pub(crate) fn signed_long_ago(&self, name: &str) -> Shown {
        self.signs_until(name, 2020)
    }

    fn signs_until(&self, name: &str, year: i32) -> Shown {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap().pem();
        Shown { certificate, key: key.serialize_pem() }
    }
}

/// The files of a server.
pub(crate) struct Files(tempfile::TempDir);

impl Files {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    pub(crate) fn server(&self, shown: &Shown, client_ca: Option<&Ca>) -> TlsSettings {
        TlsSettings {
            certificate: self.write("server.pem", &shown.certificate),
            key: self.write("server.key", &shown.key),
            client_ca: client_ca.map(|ca| self.write("client-ca.pem", &ca.pem())),
        }
    }
}

pub(crate) fn entry(name: &str, role: Role, proof: Proof) -> Entry {
    Entry { name: name.to_owned(), role, proof }
}

pub(crate) fn by_certificate(name: &str, role: Role) -> Entry {
    entry(name, role, Proof::Certificate(name.to_owned()))
}

pub(crate) fn by_token(name: &str, role: Role, path: &Path) -> Entry {
    entry(name, role, Proof::TokenFile(path.to_owned()))
}

pub(crate) async fn listening(
    tls: Option<Arc<Tls>>,
    max_connections: usize,
) -> (Listening, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (Listening { listener, tls, max_connections }, address)
}

/// Fails the test instead of hanging.
pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(PATIENCE, what).await.expect("took too long")
}

/// A client's TLS that trusts `ca`, and shows a certificate or none.
pub(crate) fn client_tls(ca: &Ca, shown: Option<&Shown>) -> rustls::ClientConfig {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.pem().as_bytes()).unwrap()).unwrap();
    let builder = rustls::ClientConfig::builder_with_provider(Arc::new(
        rustls::crypto::ring::default_provider(),
    ))
    .with_safe_default_protocol_versions()
    .unwrap()
    .with_root_certificates(roots);
    match shown {
        None => builder.with_no_client_auth(),
        Some(shown) => builder
            .with_client_auth_cert(
                vec![CertificateDer::from_pem_slice(shown.certificate.as_bytes()).unwrap()],
                PrivateKeyDer::from_pem_slice(shown.key.as_bytes()).unwrap(),
            )
            .unwrap(),
    }
}

/// Status and body of a GET, over TLS if a configuration is given.
pub(crate) async fn get(
    address: SocketAddr,
    tls: Option<rustls::ClientConfig>,
    path: &str,
    token: Option<&str>,
) -> Result<(u16, String), Box<dyn std::error::Error + Send + Sync>> {
    let stream = TcpStream::connect(address).await?;
    let mut request = hyper::Request::get(path).header("host", "localhost");
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let request = request.body(Empty::<hyper::body::Bytes>::new())?;
    match tls {
        None => exchange(TokioIo::new(stream), request).await,
        Some(config) => {
            let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
            let name = ServerName::try_from("localhost")?;
            exchange(TokioIo::new(connector.connect(name, stream).await?), request).await
        }
    }
}

async fn exchange<I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static>(
    io: I,
    request: hyper::Request<Empty<hyper::body::Bytes>>,
) -> Result<(u16, String), Box<dyn std::error::Error + Send + Sync>> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await?;
    let connection = tokio::spawn(connection);
    let response = sender.send_request(request).await?;
    let status = response.status().as_u16();
    let body = response.into_body().collect().await?.to_bytes();
    connection.abort();
    Ok((status, String::from_utf8(body.to_vec())?))
}
