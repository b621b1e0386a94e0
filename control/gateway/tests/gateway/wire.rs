//! A server with the gateway, and a client that speaks plain HTTP/1.1 to it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use access::{Access, Listening, Tls};
use axum::http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::service::Memory;

/// More than anything here takes on a slow machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
pub(crate) const MAX_BODY: usize = 4096;

/// Fails the test instead of hanging.
pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(PATIENCE, what).await.expect("took too long")
}

pub(crate) struct Served {
    pub(crate) address: SocketAddr,
    pub(crate) service: Arc<Memory>,
    server: tokio::task::JoinHandle<()>,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// Open access on loopback.
pub(crate) async fn open() -> Served {
    let access = Access::open("127.0.0.1:0".parse().unwrap()).unwrap();
    serve(Arc::new(access), None).await
}

pub(crate) async fn serve(access: Arc<Access>, tls: Option<Arc<Tls>>) -> Served {
    let service = Arc::new(Memory::new(Arc::clone(&access)));
    let router =
        gateway::router(Arc::clone(&service), gateway::Settings { access, max_body: MAX_BODY });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let listening = Listening { listener, tls, max_connections: 100 };
    let server = tokio::spawn(access::serve_http(listening, router));
    Served { address, service, server }
}

/// What came back, whole.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: axum::http::HeaderMap,
    pub(crate) text: String,
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    /// Of newline-delimited JSON, keep-alives left out.
    pub(crate) fn lines(&self) -> Vec<Value> {
        let lines = self.text.lines().filter(|line| !line.is_empty());
        lines.map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// A request with the usual headers; a body makes it JSON.
pub(crate) fn request(method: Method, target: &str, body: &str) -> Request<Full<Bytes>> {
    let mut request = Request::builder().method(method).uri(target).header("host", "localhost");
    if !body.is_empty() {
        request = request.header("content-type", "application/json");
    }
    request.body(Full::from(body.to_owned())).unwrap()
}

impl Served {
    pub(crate) async fn ask(&self, method: Method, target: &str, body: &str) -> Reply {
        self.send(request(method, target, body)).await
    }

    pub(crate) async fn send(&self, request: Request<Full<Bytes>>) -> Reply {
        whole(self.open(request, None).await.unwrap()).await
    }

    /// The head, with the body still to come.
    pub(crate) async fn open(
        &self,
        request: Request<Full<Bytes>>,
        tls: Option<rustls::ClientConfig>,
    ) -> Result<Response<Incoming>, Box<dyn std::error::Error>> {
        self.open_as("localhost", request, tls).await
    }

    /// As [`Served::open`], of a server whose certificate is for `name`.
    pub(crate) async fn open_as(
        &self,
        name: &str,
        request: Request<Full<Bytes>>,
        tls: Option<rustls::ClientConfig>,
    ) -> Result<Response<Incoming>, Box<dyn std::error::Error>> {
        let stream = TcpStream::connect(self.address).await?;
        match tls {
            None => exchange(TokioIo::new(stream), request).await,
            Some(config) => {
                let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
                let stream =
                    connector.connect(ServerName::try_from(name.to_owned())?, stream).await?;
                exchange(TokioIo::new(stream), request).await
            }
        }
    }
}

pub(crate) async fn whole(response: Response<Incoming>) -> Reply {
    let (head, body) = response.into_parts();
    let body = soon(body.collect()).await.unwrap().to_bytes();
    let text = String::from_utf8(body.to_vec()).unwrap();
    Reply { status: head.status.as_u16(), headers: head.headers, text }
}

async fn exchange<I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static>(
    io: I,
    request: Request<Full<Bytes>>,
) -> Result<Response<Incoming>, Box<dyn std::error::Error>> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await?;
    // Ends with the response's body.
    tokio::spawn(connection);
    Ok(timeout(PATIENCE, sender.send_request(request)).await??)
}
