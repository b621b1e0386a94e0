//! The other side of a connection: its address, and the names its certificate proves.
//!
//! Certificates reach this file only after rustls has verified them against the client CA, so what
//! is read here is what the CA has signed. The names are the DNS names of the subject alternative
//! name extension; a certificate without any is known by its common name (RFC 6125, section
//! 6.4.4), since a CA limited to some DNS names is not limited in common names.
//!
//! Names are read once a connection. The end of a certificate's life is kept beside them, since a
//! connection may outlive it: from then on its calls are refused.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use tonic::transport::server::{TcpConnectInfo, TlsConnectInfo};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::seats::Whose;

/// Most names of a certificate that are looked at.
const MAX_NAMES: usize = 32;

/// Who is at the other end of a connection; in the extensions of each of its requests.
#[derive(Clone, Debug, Default)]
pub struct Peer {
    /// Where it connects from; unknown for connections inside a process.
    pub address: Option<SocketAddr>,
    /// What it proved when the connection began; `None` without TLS or a certificate.
    pub certificate: Option<Arc<ProvenNames>>,
    /// To be told whose the connection is.
    pub(crate) whose: Whose,
}

/// The names of a verified certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProvenNames {
    /// DNS names, in lower case, or the common name as it is.
    pub names: Vec<String>,
    /// Seconds since 1970 after which it proves nothing.
    pub valid_until: i64,
}

impl Peer {
    /// The peer of a connection with `address`, whose verified chain begins with `chain[0]`.
    #[must_use]
    pub fn new(address: Option<SocketAddr>, chain: Option<&[CertificateDer<'_>]>) -> Self {
        let certificate =
            chain.and_then(<[_]>::first).and_then(|leaf| ProvenNames::read(leaf)).map(Arc::new);
        Self { address, certificate, whose: Whose::default() }
    }

    /// The peer of a request: what [`crate::listen`] left there, else what tonic's own TLS did.
    #[must_use]
    pub fn of(extensions: &http::Extensions) -> Self {
        if let Some(peer) = extensions.get::<Self>() {
            return peer.clone();
        }
        if let Some(info) = extensions.get::<TlsConnectInfo<TcpConnectInfo>>() {
            let chain = info.peer_certs();
            return Self::new(info.get_ref().remote_addr(), chain.as_ref().map(|c| c.as_slice()));
        }
        let address = extensions.get::<TcpConnectInfo>().and_then(TcpConnectInfo::remote_addr);
        Self::new(address, None)
    }
}

impl ProvenNames {
    /// The names of a certificate in DER; `None` if it cannot be read or has none.
    #[must_use]
    pub fn read(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
        let mut names = Vec::new();
        if let Ok(Some(alternatives)) = certificate.subject_alternative_name() {
            for name in &alternatives.value.general_names {
                if let GeneralName::DNSName(name) = name {
                    names.push(name.to_ascii_lowercase());
                }
            }
        }
        if names.is_empty() {
            let common = certificate.subject().iter_common_name().next()?;
            names.push(common.as_str().ok()?.to_owned());
        }
        names.truncate(MAX_NAMES);
        let valid_until = certificate.validity().not_after.timestamp();
        Some(Self { names, valid_until })
    }

    /// Whether the certificate is known by `name`; DNS names do not tell case apart.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.names.iter().any(|own| own.eq_ignore_ascii_case(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    fn certificate(dns: &[&str], common_name: Option<&str>) -> CertificateDer<'static> {
        let names: Vec<String> = dns.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        if let Some(name) = common_name {
            params.distinguished_name.push(DnType::CommonName, name);
        }
        params.subject_alt_names.push(SanType::IpAddress("192.0.2.1".parse().unwrap()));
        params.not_after = rcgen::date_time_ymd(2030, 1, 1);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    fn names(dns: &[&str], common_name: Option<&str>) -> Option<Vec<String>> {
        ProvenNames::read(&certificate(dns, common_name)).map(|proven| proven.names)
    }

    #[test]
    fn dns_names_come_before_the_common_name() {
        assert_eq!(names(&["Lb-A1.example", "b"], Some("c")).unwrap(), ["lb-a1.example", "b"]);
        assert_eq!(names(&[], Some("checker-1")).unwrap(), ["checker-1"]);
        assert_eq!(names(&[], None), None);
    }

    #[test]
    fn the_end_of_its_life_is_read() {
        let proven = ProvenNames::read(&certificate(&["a"], None)).unwrap();
        assert_eq!(proven.valid_until, 1_893_456_000);
        assert!(proven.has("A") && !proven.has("b"));
    }

    #[test]
    fn what_is_no_certificate_proves_nothing() {
        assert_eq!(ProvenNames::read(&CertificateDer::from(vec![0x30, 0x82, 0xff])), None);
        assert!(Peer::new(None, Some(&[])).certificate.is_none());
    }
}
