//! The server: real sockets, clients that behave and clients that do not.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::lab::Lab;

/// Long enough for a busy machine; only a failing test waits so long.
const PATIENCE: Duration = Duration::from_secs(20);

/// Serves a lab at a socket, on the test's own thread as in a node.
async fn served() -> (Lab, std::net::SocketAddr, tokio::task::JoinHandle<std::io::Result<()>>) {
    let lab = Lab::new(1);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a socket");
    let address = listener.local_addr().expect("an address");
    let server = tokio::spawn(control::admin::serve(listener, Arc::clone(&lab.state)));
    (lab, address, server)
}

async fn converse(address: std::net::SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("in time").expect("an answer");
    String::from_utf8(answer).expect("text")
}

#[tokio::test]
async fn a_request_over_a_socket_is_answered() {
    let (_lab, address, _server) = served().await;
    let answer = converse(address, "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let answer = answer.await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\nok\n"), "{answer}");
}

#[tokio::test]
async fn one_connection_serves_many_requests() {
    let (_lab, address, _server) = served().await;
    let request = "GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n".repeat(3)
        + "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let answer = converse(address, &request).await;
    assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 4);
    assert!(answer.contains("# TYPE weir_drops_total counter\n"));
}

#[tokio::test]
async fn what_is_not_http_ends_its_connection_and_no_other() {
    let (_lab, address, server) = served().await;
    for rubbish in ["\r\n\r\n\r\nx\r\n\r\n", "GET / SMTP/1.0\r\n\r\n", "\u{0}\u{1}\u{2}\r\n\r\n"] {
        let answer = converse(address, rubbish).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400"), "{answer}");
    }
    let long = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(100_000));
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    // The server may close before all is written.
    let _ = stream.write_all(long.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("in time");
    let good = converse(address, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    assert!(good.starts_with("HTTP/1.1 200 OK"), "{good}");
    assert!(!server.is_finished());
}

#[tokio::test]
async fn connections_beyond_the_bound_wait_and_are_served_when_others_go() {
    let (_lab, address, _server) = served().await;
    let mut idle = Vec::new();
    for _ in 0..64 {
        let mut stream = TcpStream::connect(address).await.expect("a connection");
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("sent");
        let mut first = [0; 15];
        timeout(PATIENCE, stream.read_exact(&mut first)).await.expect("in time").expect("read");
        assert_eq!(&first, b"HTTP/1.1 200 OK");
        idle.push(stream);
    }
    let request = "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let late = converse(address, request);
    tokio::pin!(late);
    let waited = timeout(Duration::from_millis(50), &mut late).await;
    assert!(waited.is_err(), "there is no place for it yet");
    idle.pop();
    let answer = timeout(PATIENCE, late).await.expect("in time");
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
}

#[tokio::test]
async fn dropping_the_server_closes_its_connections() {
    let (_lab, address, server) = served().await;
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("sent");
    let mut first = [0; 15];
    timeout(PATIENCE, stream.read_exact(&mut first)).await.expect("in time").expect("read");
    server.abort();
    let mut rest = Vec::new();
    let _ = timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("closed in time");
}

#[tokio::test]
async fn index_names_every_path_and_unknown_ones_are_a_404_that_does() {
    let lab = Lab::new(1);
    let index = lab.get("/").await;
    assert_eq!(index.status, StatusCode::OK);
    let paths = ["/healthz", "/readyz", "/metrics", "/admin/pools", "/admin/flows"];
    for path in paths {
        assert!(index.body.contains(path), "{path}");
    }
    for path in ["/metric", "/admin", "/admin/pools/web/x", "/%2e%2e/etc/passwd", "//"] {
        let reply = lab.get(path).await;
        assert_eq!(reply.status, StatusCode::NOT_FOUND, "{path}");
        assert!(reply.json()["paths"].as_array().is_some_and(|list| list.len() >= paths.len()));
    }
}

#[tokio::test]
async fn nothing_can_be_changed_and_a_long_body_is_refused() {
    let lab = Lab::new(1);
    for method in [Method::POST, Method::PUT, Method::DELETE] {
        let request = Request::builder().method(&method).uri("/admin/pools/web");
        let reply = lab.request(request.body(Body::empty()).expect("a request")).await;
        assert_eq!(reply.status, StatusCode::METHOD_NOT_ALLOWED, "{method}");
        assert!(reply.json()["error"].is_string());
    }
    let request = Request::get("/healthz").header("content-length", "4097");
    let reply = lab.request(request.body(Body::empty()).expect("a request")).await;
    assert_eq!(reply.status, StatusCode::PAYLOAD_TOO_LARGE);
    let request = Request::head("/metrics").body(Body::empty()).expect("a request");
    let reply = lab.request(request).await;
    assert_eq!((reply.status, reply.body.as_str()), (StatusCode::OK, ""));
}
