//! The HTTP server: a bounded number of connections, each with bounded patience.
//!
//! The interface is for a few scrapers and operators. Whoever opens many connections, or sends
//! half a request, or does not read the answer, takes a place and loses it again; the workers
//! never notice.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::{AdminState, router};

/// Connections served at a time; others wait to be accepted.
const MAX_CONNECTIONS: usize = 64;
/// How long a connection may take to send a request's head, or be idle before it.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of a request's head, and of what is read ahead.
const MAX_HEAD: usize = 16 * 1024;
/// After this long a connection is closed at the end of its request.
const MAX_AGE: Duration = Duration::from_secs(600);
/// How long that end may take.
const LAST_REQUEST: Duration = Duration::from_secs(10);
/// Pause after an accept that failed for want of file descriptors or memory.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Serves the admin interface on `listener` until the future is dropped, which closes all
/// connections.
///
/// # Errors
/// None in the course of things: what goes wrong with one connection ends that connection, and an
/// accept that fails is tried again.
pub async fn serve(listener: TcpListener, state: Arc<AdminState>) -> io::Result<()> {
    let router = router(state);
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let place = Arc::clone(&places).acquire_owned().await.map_err(io::Error::other)?;
        let stream = loop {
            match listener.accept().await {
                Ok((stream, _)) => break stream,
                // The peer gave up while it was queued.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    tracing::warn!(%error, "admin interface: accept failed");
                    sleep(ACCEPT_RETRY).await;
                }
            }
        };
        let router = router.clone();
        connections.spawn(async move {
            converse(stream, router).await;
            drop(place);
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn converse(stream: TcpStream, router: Router) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    tokio::pin!(connection);
    tokio::select! {
        result = connection.as_mut() => {
            if let Err(error) = result {
                tracing::debug!(%error, "admin interface: connection ended");
            }
            return;
        }
        () = sleep(MAX_AGE) => connection.as_mut().graceful_shutdown(),
    }
    let _ = timeout(LAST_REQUEST, connection).await;
}
