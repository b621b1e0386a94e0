//! Whom HTTPS probes trust: the system's roots, and a CA of the operator's own.
//!
//! There is no way to skip the verification: a probe that believes any certificate would call a
//! backend ready that clients refuse.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use crate::Error;

pub(super) fn config(probe_ca: Option<&Path>) -> Result<Arc<ClientConfig>, Error> {
    let mut roots = RootCertStore::empty();
    let system = rustls_native_certs::load_native_certs();
    for error in &system.errors {
        tracing::warn!(%error, "some of the system's root certificates are not used");
    }
    roots.add_parsable_certificates(system.certs);
    if let Some(path) = probe_ca {
        let wrong = |problem: String| Error::ProbeCa { path: path.to_owned(), problem };
        let pem = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
        let mut found = 0;
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            let certificate = certificate.map_err(|error| wrong(format!("is not PEM: {error}")))?;
            roots.add(certificate).map_err(|error| wrong(format!("is unusable: {error}")))?;
            found += 1;
        }
        if found == 0 {
            return Err(wrong("holds no certificate in PEM".to_owned()));
        }
    }
    if roots.is_empty() {
        tracing::warn!("no root certificates: every HTTPS probe will fail");
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::Setting { field: "probe_ca", problem: error.to_string() })?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}
