//! A real gRPC server behind the listener, and clients with every kind of certificate and token.

use std::net::SocketAddr;
use std::sync::Arc;

use access::{Access, Identity, Incoming, Role, Tls, TlsSettings};
use tonic::metadata::MetadataValue;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Server};
use tonic::{Code, Request, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::HealthService;

use crate::common::*;

/// A health service for nodes, which names its caller in the refusal of everybody else.
struct Served {
    address: SocketAddr,
    tls: Arc<Tls>,
    access: Arc<Access>,
    server: tokio::task::JoinHandle<()>,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(settings: TlsSettings, access: Access) -> Served {
    let access = Arc::new(access);
    let tls = Arc::new(Tls::open(settings, access.client_certificates()).unwrap());
    let (listening, address) = listening(Some(Arc::clone(&tls)), 100).await;
    let list = Arc::clone(&access);
    let check = move |request: Request<()>| -> Result<Request<()>, Status> {
        let caller: Identity = list.caller(&request)?;
        caller.require(&[Role::Node])?;
        Ok(request)
    };
    let service = HealthServer::new(HealthService::from_health_reporter(
        tonic_health::server::HealthReporter::new(),
    ));
    let service = tonic::service::interceptor::InterceptedService::new(service, check);
    let incoming = Incoming::grpc(listening);
    let server = tokio::spawn(async move {
        Server::builder().serve_with_incoming(service, incoming).await.unwrap();
    });
    Served { address, tls, access, server }
}

impl Served {
    async fn connect(&self, ca: &Ca, shown: Option<&Shown>) -> Result<Channel, String> {
        let mut tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(ca.pem()))
            .domain_name("localhost");
        if let Some(shown) = shown {
            tls =
                tls.identity(tonic::transport::Identity::from_pem(&shown.certificate, &shown.key));
        }
        let endpoint = Endpoint::from_shared(format!("https://{}", self.address)).unwrap();
        let endpoint = endpoint.tls_config(tls).unwrap().connect_timeout(PATIENCE);
        soon(endpoint.connect()).await.map_err(|error| format!("{error:?}"))
    }

    /// The code of a call over a connection of its own; `None`: there was no connection.
    async fn call(&self, ca: &Ca, shown: Option<&Shown>, token: Option<&str>) -> Option<Code> {
        match self.connect(ca, shown).await {
            Ok(channel) => call(channel, token).await,
            Err(_) => None,
        }
    }
}

/// `None` for a connection that the server ended: with TLS 1.3 a client believes in its handshake
/// before the server has looked at its certificate.
async fn call(channel: Channel, token: Option<&str>) -> Option<Code> {
    let mut request = Request::new(HealthCheckRequest::default());
    if let Some(token) = token {
        let value = MetadataValue::try_from(format!("Bearer {token}")).unwrap();
        request.metadata_mut().insert("authorization", value);
    }
    match soon(HealthClient::new(channel).check(request)).await {
        Ok(_) => Some(Code::Ok),
        Err(status) if std::error::Error::source(&status).is_some() => None,
        Err(status) => Some(status.code()),
    }
}

const TOKEN: &str = "a-token-of-some-length";

#[tokio::test]
async fn with_mutual_tls_only_certificates_of_the_client_ca_get_through() {
    let (ca, other) = (Ca::new("ours"), Ca::new("theirs"));
    let files = Files::new();
    let settings = files.server(&ca.signs("localhost"), Some(&ca));
    let entries = vec![
        by_certificate("lb-a1.example", Role::Node),
        by_certificate("viewer.example", Role::Viewer),
    ];
    let server = serve(settings, Access::new(entries).unwrap()).await;
    for (shown, expected) in [
        (Some(ca.signs("lb-a1.example")), Some(Code::Ok)),
        (Some(ca.signs("viewer.example")), Some(Code::PermissionDenied)),
        (Some(ca.signs("nobody.example")), Some(Code::Unauthenticated)),
        (Some(ca.signed_long_ago("lb-a1.example")), None),
        (Some(other.signs("lb-a1.example")), None),
        (None, None),
    ] {
        assert_eq!(server.call(&ca, shown.as_ref(), None).await, expected);
    }
    // The client looks at the server too.
    assert!(server.connect(&other, Some(&ca.signs("lb-a1.example"))).await.is_err());
}

#[tokio::test]
async fn where_tokens_exist_a_certificate_is_optional() {
    let ca = Ca::new("ours");
    let files = Files::new();
    let settings = files.server(&ca.signs("localhost"), Some(&ca));
    let entries = vec![
        by_certificate("lb-a1.example", Role::Node),
        by_token("lb-a2", Role::Node, &files.write("token", TOKEN)),
        by_token("checker", Role::Checker, &files.write("other", &format!("{TOKEN}-2"))),
    ];
    let server = serve(settings, Access::new(entries).unwrap()).await;
    let certificate = ca.signs("lb-a1.example");
    for (shown, token, expected) in [
        (Some(&certificate), None, Some(Code::Ok)),
        (None, Some(TOKEN), Some(Code::Ok)),
        (None, Some("a-token-of-some-length-2"), Some(Code::PermissionDenied)),
        (None, Some("a-token-of-no-meaning"), Some(Code::Unauthenticated)),
        (Some(&certificate), Some("a-token-of-no-meaning"), Some(Code::Unauthenticated)),
        (None, None, Some(Code::Unauthenticated)),
        (Some(&Ca::new("theirs").signs("lb-a1.example")), Some(TOKEN), None),
    ] {
        assert_eq!(server.call(&ca, shown, token).await, expected, "{token:?}");
    }
}

#[tokio::test]
async fn certificates_and_tokens_change_while_the_server_runs() {
    let (old, new) = (Ca::new("old"), Ca::new("new"));
    let files = Files::new();
    let settings = files.server(&old.signs("localhost"), Some(&old));
    let token = files.write("token", TOKEN);
    let entries =
        vec![by_certificate("lb-a1.example", Role::Node), by_token("lb-a2", Role::Node, &token)];
    let server = serve(settings, Access::new(entries).unwrap()).await;
    let (before, after) = (old.signs("lb-a1.example"), new.signs("lb-a1.example"));
    let lasting = server.connect(&old, Some(&before)).await.unwrap();
    assert_eq!(call(lasting.clone(), None).await, Some(Code::Ok));
    assert!(!server.tls.reload().unwrap(), "nothing has changed");

    // A key without its certificate: nothing changes, and calls go on.
    let fresh = new.signs("localhost");
    files.write("server.key", &fresh.key);
    let error = server.tls.reload().unwrap_err().to_string();
    assert!(error.contains("server.pem") && error.contains("server.key"), "{error}");
    assert_eq!(server.call(&old, Some(&before), None).await, Some(Code::Ok));

    // The certificate follows; both client CAs for a while.
    files.write("server.pem", &fresh.certificate);
    files.write("client-ca.pem", &(old.pem() + &new.pem()));
    assert!(server.tls.reload().unwrap());
    assert!(server.connect(&old, Some(&before)).await.is_err(), "the server has a new CA");
    assert_eq!(server.call(&new, Some(&before), None).await, Some(Code::Ok));
    assert_eq!(server.call(&new, Some(&after), None).await, Some(Code::Ok));

    // The old client CA is gone; the connection from before goes on.
    files.write("client-ca.pem", &new.pem());
    assert!(server.tls.reload().unwrap());
    assert_eq!(server.call(&new, Some(&before), None).await, None);
    assert_eq!(server.call(&new, Some(&after), None).await, Some(Code::Ok));
    assert_eq!(call(lasting.clone(), None).await, Some(Code::Ok));

    // A token is replaced, also for connections that exist.
    assert_eq!(call(lasting.clone(), Some(TOKEN)).await, Some(Code::Ok));
    files.write("token", "another-token-of-some-length");
    assert!(server.access.reload().unwrap());
    assert_eq!(call(lasting.clone(), Some(TOKEN)).await, Some(Code::Unauthenticated));
    assert_eq!(call(lasting, Some("another-token-of-some-length")).await, Some(Code::Ok));
}

#[tokio::test]
async fn files_are_picked_up_by_themselves() {
    let ca = Ca::new("ours");
    let files = Files::new();
    let settings = files.server(&ca.signs("localhost"), None);
    let entries = vec![by_token("lb-a1", Role::Node, &files.write("token", TOKEN))];
    let server = serve(settings, Access::new(entries).unwrap()).await;
    let fresh = access::keep_fresh(
        Arc::clone(&server.access),
        Some(Arc::clone(&server.tls)),
        std::time::Duration::from_millis(20),
    );
    let fresh = tokio::spawn(fresh);
    let first = server.tls.valid_until();
    let short = ca.signed_long_ago("localhost");
    files.write("server.key", &short.key);
    files.write("server.pem", &short.certificate);
    soon(async {
        while server.tls.valid_until() == first {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    })
    .await;
    fresh.abort();
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let ca = Ca::new("ours");
    let files = Files::new();
    let good = files.server(&ca.signs("localhost"), Some(&ca));
    let certificates = access::ClientCertificates::Required;
    assert!(Tls::open(good.clone(), certificates).is_ok());
    let garbage = files.write("garbage.pem", "-----BEGIN NOTHING-----");
    let open = files.write("open.key", &ca.signs("localhost").key);
    std::fs::set_permissions(&open, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    for (settings, expected) in [
        (TlsSettings { certificate: files.path("none"), ..good.clone() }, "none: cannot be read"),
        (
            TlsSettings { certificate: garbage.clone(), ..good.clone() },
            "garbage.pem: expected cert",
        ),
        (TlsSettings { key: garbage.clone(), ..good.clone() }, "garbage.pem: expected a private"),
        (TlsSettings { key: open, ..good.clone() }, "open.key: holds a secret and has the mode"),
        (TlsSettings { client_ca: Some(garbage), ..good.clone() }, "garbage.pem: expected cert"),
        (TlsSettings { key: good.certificate.clone(), ..good }, "expected a private key"),
    ] {
        let error = Tls::open(settings, certificates).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}
