//! What is read from files: whom to trust, and how to be known.
//!
//! Each file is checked by itself, so that an error names the file that is wrong and not a
//! handshake that failed an hour later.

use std::fmt;
use std::fs;
use std::io::Read;
use std::path::Path;

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::transport::{Certificate, ClientTlsConfig, Identity};
use tonic::{Request, Status};

use crate::{Error, Settings, Tls};

/// Far above any certificate bundle; below what would hurt.
const LARGEST_FILE: u64 = 4 << 20;
/// What fits into a header.
const LONGEST_TOKEN: usize = 4096;

/// What the files said when they were last read.
#[derive(Clone)]
pub(crate) struct Credentials {
    /// `None`: plain `http`.
    pub(crate) tls: Option<ClientTlsConfig>,
    pub(crate) bearer: Bearer,
}

/// Puts `authorization: Bearer TOKEN` into each request, where there is a token.
#[derive(Clone, Default)]
pub struct Bearer {
    authorization: Option<MetadataValue<Ascii>>,
}

impl Credentials {
    /// Reads the files of `settings`; `secure` says that the endpoints are `https`.
    pub(crate) fn read(settings: &Settings, secure: bool) -> Result<Self, Error> {
        let bearer = match &settings.token_file {
            Some(path) => Bearer::read(path)?,
            None => Bearer::default(),
        };
        let tls = match secure {
            true => {
                let tls = client_tls(settings.tls.as_ref().unwrap_or(&Tls::default()))?;
                Some(tls.timeout(settings.connect_timeout))
            }
            false => None,
        };
        Ok(Self { tls, bearer })
    }
}

impl Bearer {
    fn read(path: &Path) -> Result<Self, Error> {
        let bytes = read("token_file", path)?;
        let token = bytes.trim_ascii();
        let wrong = |problem: &str| file_error("token_file", path, problem);
        if token.is_empty() {
            return Err(wrong("is empty, expected a token"));
        }
        if token.len() > LONGEST_TOKEN {
            return Err(wrong("is longer than 4096 bytes, expected a token"));
        }
        if !token.iter().all(u8::is_ascii_graphic) {
            return Err(wrong("expected one token of visible ASCII characters"));
        }
        let header = [b"Bearer ", token].concat();
        let mut authorization: MetadataValue<Ascii> = MetadataValue::try_from(header)
            .map_err(|_| wrong("expected one token of visible ASCII characters"))?;
        // Kept out of Debug output, and out of HPACK's tables.
        authorization.set_sensitive(true);
        Ok(Self { authorization: Some(authorization) })
    }
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(authorization) = &self.authorization {
            request.metadata_mut().insert("authorization", authorization.clone());
        }
        Ok(request)
    }
}

impl fmt::Debug for Bearer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.authorization.is_some() { "Bearer(...)" } else { "Bearer(none)" })
    }
}

fn client_tls(tls: &Tls) -> Result<ClientTlsConfig, Error> {
    let mut config = match &tls.ca {
        Some(path) => {
            let pem = read("ca", path)?;
            let mut roots = RootCertStore::empty();
            for certificate in certificates("ca", path, &pem)? {
                roots.add(certificate).map_err(|error| {
                    file_error("ca", path, &format!("holds an unusable certificate: {error}"))
                })?;
            }
            ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem))
        }
        None => ClientTlsConfig::new().with_native_roots(),
    };
    match (&tls.certificate, &tls.key) {
        (Some(certificate), Some(key)) => {
            let certificate_pem = read("certificate", certificate)?;
            certificates("certificate", certificate, &certificate_pem)?;
            let key_pem = read("key", key)?;
            PrivateKeyDer::from_pem_slice(&key_pem)
                .map_err(|_| file_error("key", key, "holds no private key in PEM"))?;
            config = config.identity(Identity::from_pem(certificate_pem, key_pem));
        }
        (None, None) => {}
        (Some(_), None) => {
            return Err(Error::HalfIdentity { given: "certificate", missing: "key" });
        }
        (None, Some(_)) => {
            return Err(Error::HalfIdentity { given: "key", missing: "certificate" });
        }
    }
    if let Some(name) = &tls.server_name {
        config = config.domain_name(name);
    }
    Ok(config)
}

/// The certificates of a PEM file; at least one.
fn certificates(
    role: &'static str,
    path: &Path,
    pem: &[u8],
) -> Result<Vec<CertificateDer<'static>>, Error> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| file_error(role, path, &format!("is not PEM: {error}")))?;
    if found.is_empty() {
        return Err(file_error(role, path, "holds no certificate in PEM"));
    }
    Ok(found)
}

fn read(role: &'static str, path: &Path) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    fs::File::open(path)
        .and_then(|file| file.take(LARGEST_FILE + 1).read_to_end(&mut bytes))
        .map_err(|error| file_error(role, path, &error.to_string()))?;
    if bytes.len() as u64 > LARGEST_FILE {
        return Err(file_error(role, path, "is larger than 4 MiB"));
    }
    Ok(bytes)
}

fn file_error(role: &'static str, path: &Path, problem: &str) -> Error {
    Error::File { role, path: path.to_owned(), problem: problem.to_owned() }
}
