//! The same callers by gRPC and by HTTP, over TLS: one check, one answer.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;

use access::{Access, Entry, Incoming, Listening, Proof, Role, Tls, TlsSettings};
use axum::http::Method;
use proto::v1::lb_control_plane_client::LbControlPlaneClient;
use proto::v1::lb_control_plane_server::LbControlPlaneServer;
use proto::v1::{CreatePoolReq, ListPoolsReq};
use tokio::net::TcpListener;
use tonic::metadata::MetadataValue;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity, Server};
use tonic::{Code, Request};

use crate::certificates::{Ca, Shown, client_tls};
use crate::wire::{self, PATIENCE, Served, request, soon, whole};

const OPERATOR: &str = "operators-token-0123456789";
const VIEWER: &str = "viewers-token-0123456789";

/// One service behind both listeners.
struct Both {
    http: Served,
    grpc: SocketAddr,
    server: tokio::task::JoinHandle<()>,
    ca: Ca,
    folder: tempfile::TempDir,
}

impl Drop for Both {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// How a caller shows who it is.
#[derive(Default)]
struct Caller<'a> {
    certificate: Option<&'a Shown>,
    token: Option<&'a str>,
}

impl Both {
    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The gRPC code of a call; `None` where the handshake failed.
    async fn by_grpc(&self, caller: &Caller<'_>, change: bool) -> Option<Code> {
        let mut tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(self.ca.pem()))
            .domain_name("localhost");
        if let Some(shown) = caller.certificate {
            tls = tls.identity(Identity::from_pem(&shown.certificate, &shown.key));
        }
        let endpoint = Endpoint::from_shared(format!("https://{}", self.grpc)).unwrap();
        let endpoint = endpoint.tls_config(tls).unwrap().connect_timeout(PATIENCE);
        let channel = soon(endpoint.connect()).await.ok()?;
        let mut client = LbControlPlaneClient::new(channel);
        fn show<T>(message: T, token: Option<&str>) -> Request<T> {
            let mut request = Request::new(message);
            if let Some(token) = token {
                let value = MetadataValue::try_from(format!("Bearer {token}")).unwrap();
                request.metadata_mut().insert("authorization", value);
            }
            request
        }
        let answer = if change {
            let create = CreatePoolReq { pool_id: "web".into(), settings: None };
            soon(client.create_pool(show(create, caller.token))).await.map(|_| ())
        } else {
            soon(client.list_pools(show(ListPoolsReq {}, caller.token))).await.map(|_| ())
        };
        match answer {
            Ok(()) => Some(Code::Ok),
            // With TLS 1.3 a refused certificate is learnt of after the client's handshake.
            Err(status) if std::error::Error::source(&status).is_some() => None,
            Err(status) => Some(status.code()),
        }
    }

    /// The same by HTTP, the code taken from the body.
    async fn by_http(&self, caller: &Caller<'_>, change: bool) -> Option<Code> {
        let mut request = if change {
            request(Method::POST, "/v1/pools", r#"{"pool_id": "web"}"#)
        } else {
            request(Method::GET, "/v1/pools", "")
        };
        if let Some(token) = caller.token {
            let value = format!("Bearer {token}").parse().unwrap();
            request.headers_mut().insert("authorization", value);
        }
        let tls = client_tls(&self.ca.pem(), caller.certificate);
        let reply = whole(self.http.open(request, Some(tls)).await.ok()?).await;
        if reply.status == 200 {
            return Some(Code::Ok);
        }
        if reply.status == 401 {
            assert_eq!(reply.header("www-authenticate"), "Bearer");
        }
        for secret in [OPERATOR, VIEWER, "stolen"] {
            assert!(!reply.text.contains(secret), "{}", reply.text);
        }
        Some(Code::from_i32(reply.json()["code"].as_i64().unwrap().try_into().unwrap()))
    }
}

/// A service with a token and a certificate for each of two roles.
async fn both() -> Both {
    let ca = Ca::new("ours");
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, content: &str| {
        let path = folder.path().join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    };
    let shown = ca.signs("localhost");
    let settings = TlsSettings {
        certificate: write("server.pem", &shown.certificate),
        key: write("server.key", &shown.key),
        client_ca: Some(write("client-ca.pem", &ca.pem())),
    };
    let entry = |name: &str, role, proof| Entry { name: name.to_owned(), role, proof };
    let entries = vec![
        entry("alice", Role::Operator, Proof::TokenFile(write("operator", OPERATOR))),
        entry("screen", Role::Viewer, Proof::TokenFile(write("viewer", VIEWER))),
        entry("ops", Role::Operator, Proof::Certificate("ops.example".to_owned())),
        entry("lb-a1", Role::Node, Proof::Certificate("lb-a1.example".to_owned())),
    ];
    let address = "0.0.0.0:0".parse().unwrap();
    let access = Arc::new(Access::build(entries, Some(&settings), &[address]).unwrap());
    let tls = Arc::new(Tls::open(settings, access.client_certificates()).unwrap());
    let http = wire::serve(access, Some(Arc::clone(&tls))).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let grpc = listener.local_addr().unwrap();
    let incoming = Incoming::grpc(Listening { listener, tls: Some(tls), max_connections: 100 });
    let service = LbControlPlaneServer::from_arc(Arc::clone(&http.service));
    let server = tokio::spawn(async move {
        Server::builder().add_service(service).serve_with_incoming(incoming).await.unwrap();
    });
    Both { http, grpc, server, ca, folder }
}

#[tokio::test]
async fn a_caller_may_the_same_by_grpc_and_by_http() {
    let both = both().await;
    let (ops, node) = (both.ca.signs("ops.example"), both.ca.signs("lb-a1.example"));
    let nobody = both.ca.signs("nobody.example");
    let (old, theirs) = (both.ca.signed_long_ago("ops.example"), Ca::new("x").signs("ops.example"));
    let token = |token| Caller { token: Some(token), ..Caller::default() };
    let shows = |shown| Caller { certificate: Some(shown), ..Caller::default() };
    let (ok, denied, unknown) =
        (Some(Code::Ok), Some(Code::PermissionDenied), Some(Code::Unauthenticated));
    for (caller, reads, changes) in [
        (token(OPERATOR), ok, ok),
        (token(VIEWER), ok, denied),
        (token("stolen-token-0123456789"), unknown, unknown),
        (shows(&ops), ok, ok),
        (shows(&node), denied, denied),
        (shows(&nobody), unknown, unknown),
        (shows(&old), None, None),
        (shows(&theirs), None, None),
        (Caller::default(), unknown, unknown),
        // A token decides alone, also for what its certificate may not.
        (Caller { certificate: Some(&node), token: Some(OPERATOR) }, ok, ok),
        (Caller { certificate: Some(&ops), token: Some(VIEWER) }, ok, denied),
    ] {
        for (change, expected) in [(false, reads), (true, changes)] {
            assert_eq!(both.by_grpc(&caller, change).await, expected);
            assert_eq!(both.by_http(&caller, change).await, expected);
        }
    }
}

#[tokio::test]
async fn strangers_are_refused_before_their_body_is_read() {
    let both = both().await;
    let endless = request(Method::POST, "/v1/pools", &"x".repeat(wire::MAX_BODY * 100));
    let tls = client_tls(&both.ca.pem(), None);
    let reply = whole(both.http.open(endless, Some(tls)).await.unwrap()).await;
    assert_eq!(reply.status, 401, "{}", reply.text);
    assert!(both.file("operator").exists());
}

#[tokio::test]
async fn the_document_is_for_everybody() {
    let both = both().await;
    let tls = client_tls(&both.ca.pem(), None);
    let asked = request(Method::GET, "/v1/openapi.json", "");
    let reply = whole(both.http.open(asked, Some(tls)).await.unwrap()).await;
    assert_eq!((reply.status, &reply.json()["openapi"]), (200, &"3.1.0".into()));
}
