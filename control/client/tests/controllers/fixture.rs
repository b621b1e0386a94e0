//! A real tonic server that plays a controller: leads, follows, hangs, refuses, dies.
//!
//! It serves two of the calls: `GetPool` as the unary one, `WatchPool` as the stream. Each server
//! has a runtime of its own, so that dropping it closes its connections as a kill would.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use client::{LEADER_METADATA, Settings};
use proto::v1::{GetPoolReq, Pool, PoolSnapshot, WatchPoolReq};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service, http};
use tonic::server::{Grpc, NamedService};
use tonic::transport::{Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;

/// More than any machine needs, less than anyone wants to wait.
pub(crate) const LONG: Duration = Duration::from_secs(30);

/// How a controller behaves at the moment.
#[derive(Clone, Debug)]
pub(crate) enum Role {
    Leads,
    /// And names this leader.
    Follows(Option<String>),
    /// Takes requests, and never answers.
    Hangs,
    /// Answers with this code.
    Answers(tonic::Code),
}

pub(crate) struct Controller {
    pub(crate) address: String,
    played: Arc<Mutex<Played>>,
    runtime: Option<Runtime>,
}

struct Played {
    role: Role,
    calls: usize,
    authorization: Option<String>,
    streams: Vec<mpsc::Sender<Result<PoolSnapshot, Status>>>,
}

impl Controller {
    pub(crate) fn start(role: Role) -> Self {
        Self::start_with(role, None)
    }

    /// `tls`: PEM of certificate and key.
    pub(crate) fn start_with(role: Role, tls: Option<(&str, &str)>) -> Self {
        let scheme = if tls.is_some() { "https" } else { "http" };
        let played = Played { role, calls: 0, authorization: None, streams: Vec::new() };
        let played = Arc::new(Mutex::new(played));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let mut server = Server::builder();
        if let Some((certificate, key)) = tls {
            let identity = Identity::from_pem(certificate, key);
            server = server.tls_config(ServerTlsConfig::new().identity(identity)).expect("TLS");
        }
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        listener.set_nonblocking(true).expect("non-blocking");
        let at: SocketAddr = listener.local_addr().expect("an address");
        let service = Dispatch { played: played.clone() };
        runtime.spawn(async move {
            let incoming = TcpListenerStream::new(TcpListener::from_std(listener).expect("tokio"));
            server.add_service(service).serve_with_incoming(incoming).await
        });
        Self { address: format!("{scheme}://{at}"), played, runtime: Some(runtime) }
    }

    pub(crate) fn becomes(&self, role: Role) {
        self.played.lock().expect("lock").role = role;
    }

    pub(crate) fn calls(&self) -> usize {
        self.played.lock().expect("lock").calls
    }

    /// The `authorization` of the last request.
    pub(crate) fn authorization(&self) -> Option<String> {
        self.played.lock().expect("lock").authorization.clone()
    }

    /// Ends all open streams with `status`.
    pub(crate) async fn end_streams(&self, status: &Status) {
        let streams = std::mem::take(&mut self.played.lock().expect("lock").streams);
        for stream in streams {
            let _gone = stream.send(Err(status.clone())).await;
        }
    }

    /// As a kill would: no goodbye.
    pub(crate) fn dies(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // On a thread of its own, since a runtime's end may not be awaited inside of another.
            let ending = std::thread::spawn(move || runtime.shutdown_timeout(LONG));
            ending.join().expect("ended");
        }
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        self.dies();
    }
}

/// Settings with these controllers, in this order.
pub(crate) fn settings(controllers: &[&Controller]) -> Settings {
    Settings::new(controllers.iter().map(|controller| controller.address.clone()))
}

pub(crate) fn not_the_leader(leader: Option<&str>) -> Status {
    let mut status = Status::unavailable("not the leader");
    if let Some(leader) = leader {
        status.metadata_mut().insert(LEADER_METADATA, leader.parse().expect("ASCII"));
    }
    status
}

/// What the generated server does, for the two calls.
#[derive(Clone)]
struct Dispatch {
    played: Arc<Mutex<Played>>,
}

impl Dispatch {
    /// The role's answer to a request.
    async fn admit<T>(self, request: &Request<T>) -> Result<(), Status> {
        let role = {
            let mut played = self.played.lock().expect("lock");
            played.calls += 1;
            let authorization = request.metadata().get("authorization");
            played.authorization =
                authorization.map(|value| value.to_str().expect("ASCII").to_owned());
            played.role.clone()
        };
        match role {
            Role::Leads => Ok(()),
            Role::Follows(leader) => Err(not_the_leader(leader.as_deref())),
            Role::Hangs => std::future::pending().await,
            Role::Answers(code) => Err(Status::new(code, "as told")),
        }
    }
}

impl NamedService for Dispatch {
    const NAME: &'static str = "weir.v1.LBControlPlane";
}

impl Service<http::Request<Body>> for Dispatch {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            Ok(match request.uri().path().rsplit('/').next() {
                Some("GetPool") => {
                    let codec = ProstCodec::<Pool, GetPoolReq>::default();
                    Grpc::new(codec).unary(GetPool(this), request).await
                }
                Some("WatchPool") => {
                    let codec = ProstCodec::<PoolSnapshot, WatchPoolReq>::default();
                    Grpc::new(codec).server_streaming(WatchPool(this), request).await
                }
                _ => Status::unimplemented("not played").into_http(),
            })
        })
    }
}

struct GetPool(Dispatch);

impl tonic::server::UnaryService<GetPoolReq> for GetPool {
    type Response = Pool;
    type Future = BoxFuture<Response<Pool>, Status>;

    fn call(&mut self, request: Request<GetPoolReq>) -> Self::Future {
        let this = self.0.clone();
        Box::pin(async move {
            this.admit(&request).await?;
            let pool_id = request.into_inner().pool_id;
            Ok(Response::new(Pool { pool_id, ..Pool::default() }))
        })
    }
}

struct WatchPool(Dispatch);

impl tonic::server::ServerStreamingService<WatchPoolReq> for WatchPool {
    type Response = PoolSnapshot;
    type ResponseStream =
        Pin<Box<dyn tokio_stream::Stream<Item = Result<PoolSnapshot, Status>> + Send>>;
    type Future = BoxFuture<Response<Self::ResponseStream>, Status>;

    fn call(&mut self, request: Request<WatchPoolReq>) -> Self::Future {
        let this = self.0.clone();
        Box::pin(async move {
            this.clone().admit(&request).await?;
            let (sender, receiver) = mpsc::channel(4);
            let first = PoolSnapshot { pool_id: "p".to_owned(), ..PoolSnapshot::default() };
            sender.send(Ok(first)).await.expect("open");
            this.played.lock().expect("lock").streams.push(sender);
            let stream: Self::ResponseStream = Box::pin(ReceiverStream::new(receiver));
            Ok(Response::new(stream))
        })
    }
}
