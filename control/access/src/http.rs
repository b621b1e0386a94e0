//! The HTTP listener: an axum router over [`crate::listen`], with bounded patience.
//!
//! Whoever sends half a request, or does not read the answer, takes a place and loses it again.
//! Answers may be streams without an end (events); they live as long as their reader reads.

use std::convert::Infallible;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming as Received;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::task::JoinSet;
use tokio_stream::StreamExt;

use crate::listen::{Connection, Incoming, Listening};
use crate::tls::Protocol;

/// How long a connection may take to send a request's head, or be idle before it.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of a request's head, and of what is read ahead.
const MAX_HEAD: usize = 16 * 1024;

/// Serves `router` until the future is dropped, which closes all connections. Each request has
/// its [`crate::Peer`] among its extensions.
///
/// What goes wrong with one connection ends that connection, and an accept that fails is tried
/// again.
pub async fn serve_http(listening: Listening, router: Router) {
    let mut incoming = Incoming::new(listening, Protocol::Http);
    let mut connections = JoinSet::new();
    while let Some(Ok(connection)) = incoming.next().await {
        connections.spawn(converse(connection, router.clone()));
        while connections.try_join_next().is_some() {}
    }
}

async fn converse(connection: Connection, router: Router) {
    let peer = connection.peer().clone();
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: hyper::Request<Received>| {
        request.extensions_mut().insert(peer.clone());
        let answer = router.call(request.map(Body::new));
        async move { Ok::<_, Infallible>(answer.await.unwrap_or_else(|never| match never {})) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(connection), service);
    if let Err(error) = served.await {
        tracing::debug!(%error, "HTTP connection ended");
    }
}
