//! The HTTP listener: health for everybody, the rest for who is known, and bounded patience.

use std::sync::Arc;

use access::{Access, Bearer, Incoming, Peer, Role, Tls, serve_http};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::routing::get as route;
use axum::{Extension, Router};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_stream::StreamExt;

use crate::common::*;

const TOKEN: &str = "a-token-of-some-length";

/// `/who` names the caller; `/healthz` does not ask.
fn names(access: Arc<Access>) -> Router {
    let who = move |request: Request| async move {
        let (head, _) = request.into_parts();
        assert!(head.extensions.get::<Peer>().unwrap().address.is_some());
        match access.http_caller(&head) {
            Ok(identity) => identity.name().to_owned(),
            Err(status) => status.message().to_owned(),
        }
    };
    Router::new().route("/who", route(who)).route("/healthz", route(|| async { "ok" }))
}

#[tokio::test]
async fn over_tls_health_is_open_and_callers_have_names() {
    let ca = Ca::new("ours");
    let files = Files::new();
    let settings = files.server(&ca.signs("localhost"), Some(&ca));
    // No tokens: gRPC insists on certificates, HTTP does not.
    let access = Arc::new(Access::new(vec![by_certificate("op.example", Role::Operator)]).unwrap());
    let tls = Arc::new(Tls::open(settings, access.client_certificates()).unwrap());
    let (listening, address) = listening(Some(tls), 10).await;
    let server = tokio::spawn(serve_http(listening, names(access)));

    let stranger = || Some(client_tls(&ca, None));
    let known = || Some(client_tls(&ca, Some(&ca.signs("op.example"))));
    let ok = (200, "ok".to_owned());
    assert_eq!(soon(get(address, stranger(), "/healthz", None)).await.unwrap(), ok);
    assert_eq!(soon(get(address, known(), "/healthz", None)).await.unwrap(), ok);
    let (_, who) = soon(get(address, known(), "/who", None)).await.unwrap();
    assert_eq!(who, "op.example");
    let (_, who) = soon(get(address, stranger(), "/who", None)).await.unwrap();
    assert!(who.contains("expected a client certificate"), "{who}");
    let theirs = Ca::new("theirs").signs("op.example");
    let theirs = Some(client_tls(&ca, Some(&theirs)));
    assert!(soon(get(address, theirs, "/healthz", None)).await.is_err());
    // Without TLS there is nothing to talk to.
    assert!(soon(get(address, None, "/healthz", None)).await.is_err());
    server.abort();
}

#[tokio::test]
async fn one_token_guards_a_whole_router() {
    let files = Files::new();
    let path = files.write("token", TOKEN);
    let bearer = Bearer::open(&path).unwrap();
    let router = Router::new().route("/admin", route(|| async { "secret" }));
    let open = Router::new().route("/healthz", route(|| async { "ok" }));
    let (listening, address) = listening(None, 10).await;
    let server = tokio::spawn(serve_http(listening, bearer.protect(router).merge(open)));

    let (status, body) = soon(get(address, None, "/admin", None)).await.unwrap();
    assert_eq!(status, 401);
    assert!(body.starts_with("{\"error\":"), "{body}");
    let (status, body) =
        soon(get(address, None, "/admin", Some("not-the-token-at-all"))).await.unwrap();
    assert_eq!((status, body.contains("the token is not known")), (401, true));
    let (status, body) = soon(get(address, None, "/admin", Some(TOKEN))).await.unwrap();
    assert_eq!((status, body.as_str()), (200, "secret"));
    assert_eq!(soon(get(address, None, "/healthz", None)).await.unwrap().0, 200);

    files.write("token", "another-token-of-some-length");
    assert!(bearer.reload().unwrap());
    assert_eq!(soon(get(address, None, "/admin", Some(TOKEN))).await.unwrap().0, 401);
    assert!(Bearer::open(files.path("none")).is_err());
    server.abort();
}

/// A call that is let in came over this connection.
fn known(peer: &Peer) {
    let mut request = axum::http::Request::new(());
    request.extensions_mut().insert(peer.clone());
    let access = Access::open(([127, 0, 0, 1], 0).into()).unwrap();
    access.http_caller(&request.into_parts().0).unwrap();
}

#[tokio::test]
async fn strangers_make_way_and_never_keep_a_caller_out() {
    let files = Files::new();
    let entries = vec![by_token("a", Role::Viewer, &files.write("token", TOKEN))];
    let access = Arc::new(Access::new(entries).unwrap());
    let (listening, address) = listening(None, 2).await;
    let who = |State(access): State<Arc<Access>>, parts: Parts| async move {
        access.http_caller(&parts).map(drop).map_err(|_| StatusCode::UNAUTHORIZED)
    };
    let router = Router::new().route("/", route(who)).with_state(access);
    let server = tokio::spawn(serve_http(listening, router));
    let call =
        format!("GET / HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {TOKEN}\r\n\r\n");
    let mut caller = TcpStream::connect(address).await.unwrap();
    let mut status = [0; 12];
    caller.write_all(call.as_bytes()).await.unwrap();
    soon(caller.read_exact(&mut status)).await.unwrap();
    assert_eq!(&status, b"HTTP/1.1 200");
    // Each stranger takes the other place from the one before: one is wrong about the token, the
    // others say nothing.
    let mut strangers = Vec::new();
    for _ in 0..20 {
        let mut stranger = TcpStream::connect(address).await.unwrap();
        let wrong = call.replace(TOKEN, "not-the-token-at-all");
        if strangers.is_empty() {
            stranger.write_all(wrong.as_bytes()).await.unwrap();
        }
        strangers.push(stranger);
    }
    for mut stranger in strangers.drain(..19) {
        // Closed, or reset with what was not read: over, either way.
        let _over = soon(stranger.read_to_end(&mut Vec::new())).await;
    }
    // A caller gets in, and the first one was never in question.
    let (status, _) = soon(get(address, None, "/", Some(TOKEN))).await.unwrap();
    assert_eq!(status, 200);
    let mut rest = Vec::new();
    caller
        .write_all(call.replace("\r\n\r\n", "\r\nconnection: close\r\n\r\n").as_bytes())
        .await
        .unwrap();
    soon(caller.read_to_end(&mut rest)).await.unwrap();
    assert!(String::from_utf8_lossy(&rest).contains("HTTP/1.1 200"), "{rest:?}");
    server.abort();
}

#[tokio::test]
async fn callers_beyond_the_bound_wait_for_a_place() {
    let (listening, address) = listening(None, 1).await;
    let mut incoming = Incoming::grpc(listening);
    let _first = TcpStream::connect(address).await.unwrap();
    let first = soon(incoming.next()).await.unwrap().unwrap();
    known(first.peer());
    let second = TcpStream::connect(address).await.unwrap();
    tokio::select! {
        biased;
        _ = incoming.next() => panic!("two connections in one place"),
        () = async { for _ in 0..1000 { tokio::task::yield_now().await } } => {}
    }
    drop(first);
    let served = soon(incoming.next()).await.unwrap().unwrap();
    assert_eq!(served.peer().address, Some(second.local_addr().unwrap()));
}

#[tokio::test]
async fn half_a_handshake_and_half_a_head_lose_their_place_in_time() {
    let ca = Ca::new("ours");
    let files = Files::new();
    let settings = files.server(&ca.signs("localhost"), None);
    let access = Access::new(vec![by_token("a", Role::Viewer, &files.write("token", TOKEN))]);
    let tls = Arc::new(Tls::open(settings, access.unwrap().client_certificates()).unwrap());
    for (tls, said) in [
        (Some(tls), &b"\x16\x03\x01"[..]),
        (None, &b"GET /healthz HT"[..]),
        (None, &b""[..]),
        (None, &b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n"[..]),
    ] {
        let (listening, address) = listening(tls, 1).await;
        let router = Router::new().route("/healthz", route(|| async { "ok" }));
        let server = tokio::spawn(serve_http(listening, router));
        let mut slow = TcpStream::connect(address).await.unwrap();
        slow.write_all(said).await.unwrap();
        tokio::time::pause();
        // The clock jumps to the next timer whenever nothing else is to be done.
        let mut rest = Vec::new();
        let ended = tokio::time::timeout(PATIENCE * 100, slow.read_to_end(&mut rest)).await;
        tokio::time::resume();
        assert!(ended.is_ok(), "still connected");
        server.abort();
    }
}

#[tokio::test]
async fn a_reader_that_does_not_read_loses_its_connection() {
    let (listening, address) = listening(None, 1).await;
    let endless = |peer: Extension<Peer>| async move {
        known(&peer);
        let pieces = tokio_stream::iter(std::iter::repeat_n("x".repeat(65_536), 10_000));
        axum::body::Body::from_stream(pieces.map(Ok::<_, std::io::Error>))
    };
    let server = tokio::spawn(serve_http(listening, Router::new().route("/", route(endless))));
    let mut lazy = TcpStream::connect(address).await.unwrap();
    lazy.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let mut byte = [0];
    soon(lazy.read_exact(&mut byte)).await.unwrap();
    // Its place is the only one: the next is served once it is taken away.
    let mut next = TcpStream::connect(address).await.unwrap();
    next.write_all(b"GET /none HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    tokio::time::pause();
    let served = tokio::time::timeout(PATIENCE * 100, next.read_exact(&mut byte)).await;
    tokio::time::resume();
    assert!(matches!(served, Ok(Ok(1))), "{served:?}");
    server.abort();
}
