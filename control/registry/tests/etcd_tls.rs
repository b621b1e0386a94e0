//! etcd behind mutual TLS: who is shown the right certificate gets in, and nobody else.

mod common;

use std::fs;
use std::time::Duration;

use common::etcd::Cluster;
use common::{elected, numbered, put, settings};
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use registry::{EtcdStore, Registry, Status, TlsSettings};

struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    /// A certificate for `name`, and its key.
    fn issue(&self, name: &str) -> (String, String) {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mutual_tls_lets_in_who_shows_the_right_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let (authority, stranger) = (Authority::new(), Authority::new());
    let (certificate, key) = authority.issue("127.0.0.1");
    let mut arguments = vec!["--client-cert-auth".to_owned()];
    for (option, name, content) in [
        ("--trusted-ca-file", "ca.pem", &authority.pem),
        ("--cert-file", "member.pem", &certificate),
        ("--key-file", "member.key", &key),
    ] {
        let path = folder.path().join(name);
        fs::write(&path, content).unwrap();
        arguments.extend([option.to_owned(), path.display().to_string()]);
    }
    let cluster = Cluster::start_with(1, "https", arguments);

    let mut with = settings(cluster.endpoints());
    let own = |from: &Authority| {
        let (certificate, key) = from.issue("controller");
        Some((certificate.into_bytes(), key.into_bytes()))
    };
    let tls = |trusted: &Authority, identity_pem| TlsSettings {
        authorities_pem: trusted.pem.clone().into_bytes(),
        identity_pem,
        domain: None,
    };
    with.tls = Some(tls(&authority, own(&authority)));
    let store = EtcdStore::connect(with.clone()).await.unwrap();
    let term = elected(&store, "a").await;
    let start = store.snapshot().await.unwrap().revision;
    let mut watch = store.watch(start);
    put(&store, term.fence(), vec![numbered("b", 1)]).await;
    common::soon("a commit", watch.next()).await.unwrap();
    assert!(!format!("{with:?}").contains("PRIVATE"), "a key in the logs");

    with.timeout = Duration::from_millis(900);
    for wrong in
        [tls(&authority, None), tls(&authority, own(&stranger)), tls(&stranger, own(&authority))]
    {
        with.tls = Some(wrong);
        let error = EtcdStore::connect(with.clone()).await.unwrap_err();
        assert_eq!(error.status(), Status::DeadlineExceeded, "{error}");
    }
}
