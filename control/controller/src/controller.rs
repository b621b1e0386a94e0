//! The controller as a whole: listeners, servers, and the life in the election.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use access::{Access, AccessError, Incoming, Listening, keep_fresh, serve_http};
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tonic::transport::Server;
use tonic_health::ServingStatus;

use crate::clock::Clock;
use crate::events::Events;
use crate::http::{self, Metrics};
use crate::office::Standing;
use crate::plane::Plane;
use crate::service::Service;
use crate::settings::{Settings, Store};
use crate::term::{self, Life, Stores};

/// Connections at a time, of each listener: streams and some more.
const SPARE_CONNECTIONS: usize = 256;
/// A peer that is silent for so long is asked, and given so long again to answer.
const KEEPALIVE: Duration = Duration::from_secs(5);
/// Between two attempts to reach etcd at the start.
const RECONNECT: Duration = Duration::from_secs(1);
/// How long streams may take to hear that this controller ends.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// How often certificates and tokens are looked at for newer ones.
const RENEWAL: Duration = Duration::from_secs(60);
/// The service's name in the standard health service.
const SERVICE: &str = "weir.v1.LBControlPlane";

/// Why a controller cannot start, or had to end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The registry's file cannot be used.
    #[error("registry: {0}")]
    Registry(#[from] registry::Error),
    /// An address cannot be listened on.
    #[error("{what} address {address}: {source}")]
    Listen {
        /// `listen` or `http`.
        what: &'static str,
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// A listener that strangers could reach.
    #[error("{0}")]
    Access(#[from] AccessError),
    /// The gRPC server ended.
    #[error("gRPC: {0}")]
    Server(#[from] tonic::transport::Error),
    /// Reflection's descriptors.
    #[error("reflection: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// A task ended as it must not.
    #[error("the controller's task ended: {0}")]
    Task(#[from] tokio::task::JoinError),
}

/// A controller that runs. Dropping it ends it in the background; [`Controller::stop`] waits.
#[derive(Debug)]
pub struct Controller {
    grpc: SocketAddr,
    http: SocketAddr,
    stop: watch::Sender<bool>,
    standing: watch::Receiver<Standing>,
    task: JoinHandle<Result<(), Error>>,
}

/// Runs a controller until `shutdown` ends.
///
/// # Errors
/// As [`Controller::start`]; [`Error::Server`].
pub async fn run(settings: Settings, shutdown: impl Future<Output = ()>) -> Result<(), Error> {
    let mut controller = Controller::start(settings).await?;
    tokio::select! {
        ended = &mut controller.task => return ended?,
        () = shutdown => {}
    }
    controller.stop().await
}

impl Controller {
    /// Opens the registry (etcd is waited for in the background), binds both listeners and begins
    /// to stand for election. Needs a tokio runtime.
    ///
    /// # Errors
    /// [`Error::Registry`], [`Error::Listen`], [`Error::Access`].
    pub async fn start(settings: Settings) -> Result<Self, Error> {
        let access = match &settings.access {
            Some(access) => Arc::clone(access),
            None => Arc::new(Access::build(Vec::new(), None, &[settings.listen, settings.http])?),
        };
        // A file that is locked or damaged is to be said at once; etcd may come later.
        let stores = match &settings.store {
            Store::Embedded(_) => Some(term::open(&settings.store).await?),
            Store::Etcd(_) => None,
        };
        let (grpc_listener, grpc) = bind("listen", settings.listen).await?;
        let (http_listener, http) = bind("http", settings.http).await?;
        let scheme = if settings.tls.is_some() { "https" } else { "http" };
        let address = settings.advertise.clone().unwrap_or_else(|| format!("{scheme}://{grpc}"));
        tracing::info!(name = settings.name, %grpc, %http, address, "controller listens");
        let (stop, stopped) = watch::channel(false);
        let starting = Standing::Following { leader: None, why: "starting".to_owned() };
        let (sender, standing) = watch::channel(starting);
        let metrics = Arc::new(Metrics::default());
        let settings = Arc::new(settings);
        let life = Life {
            settings: Arc::clone(&settings),
            address,
            events: Events::new(),
            metrics: Arc::clone(&metrics),
            clock: Clock::start(),
            standing: sender,
        };
        let service = Service::new(
            standing.clone(),
            Arc::clone(&access),
            &settings.limits,
            Arc::clone(&metrics),
        );
        let calls = gateway::Settings {
            access: Arc::clone(&access),
            max_body: settings.limits.request_bytes,
        };
        let router = http::router(service.clone(), calls, standing.clone(), metrics);
        let max_connections = settings.limits.streams.saturating_add(SPARE_CONNECTIONS);
        let listening =
            |listener| Listening { listener, tls: settings.tls.clone(), max_connections };
        let incoming = Incoming::grpc(listening(grpc_listener));
        let http_server = serve_http(listening(http_listener), router);
        let whole = Whole { life, stores, service, access, standing: standing.clone(), incoming };
        let task = tokio::spawn(whole.run(http_server, stopped));
        Ok(Self { grpc, http, stop, standing, task })
    }

    /// Where gRPC is served.
    pub fn grpc_address(&self) -> SocketAddr {
        self.grpc
    }

    /// Where HTTP is served.
    pub fn http_address(&self) -> SocketAddr {
        self.http
    }

    /// Waits until this controller leads and serves.
    pub async fn leads(&self) {
        let leading = |standing: &Standing| matches!(standing, Standing::Leading(_));
        drop(self.standing.clone().wait_for(leading).await);
    }

    /// Ends streams with UNAVAILABLE, resigns, and closes the listeners and the registry.
    ///
    /// # Errors
    /// [`Error::Server`] if the server had ended by itself.
    pub async fn stop(self) -> Result<(), Error> {
        self.stop.send_replace(true);
        self.task.await?
    }
}

/// All that runs.
struct Whole {
    life: Life,
    stores: Option<Stores>,
    service: Service,
    access: Arc<Access>,
    standing: watch::Receiver<Standing>,
    incoming: Incoming,
}

impl Whole {
    async fn run(
        self,
        http_server: impl Future<Output = ()>,
        stop: watch::Receiver<bool>,
    ) -> Result<(), Error> {
        let limits = self.life.settings.limits;
        let (access, tls) = (self.access, self.life.settings.tls.clone());
        let (health, health_service) = tonic_health::server::health_reporter();
        let reflection = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(proto::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .build_v1()?;
        let (ended, over) = oneshot::channel::<()>();
        let plane = Plane::new(self.service, limits.request_bytes);
        let server = Server::builder()
            .http2_keepalive_interval(Some(KEEPALIVE))
            .http2_keepalive_timeout(Some(KEEPALIVE))
            .add_service(health_service)
            .add_service(reflection)
            .add_service(plane)
            .serve_with_incoming_shutdown(self.incoming, async { drop(over.await) });
        let life = live(self.life, self.stores, stop);
        tokio::pin!(server);
        let mut standing = self.standing;
        let telling = async {
            loop {
                let leads = matches!(*standing.borrow_and_update(), Standing::Leading(_));
                let status = if leads { ServingStatus::Serving } else { ServingStatus::NotServing };
                health.set_service_status(SERVICE, status).await;
                if standing.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        tokio::select! {
            ended = &mut server => return ended.map_err(Error::Server),
            () = life => {}
            () = http_server => {}
            () = telling => {}
            () = keep_fresh(access, tls, RENEWAL) => {}
        }
        // Streams have been told; their last words are to arrive.
        drop(ended);
        match timeout(LAST_WORDS, server).await {
            Ok(ended) => ended.map_err(Error::Server),
            Err(_) => Ok(()),
        }
    }
}

/// Reaches the store, then lives in the election.
async fn live(life: Life, stores: Option<Stores>, mut stop: watch::Receiver<bool>) {
    let stores = match stores {
        Some(stores) => stores,
        None => loop {
            let opened = tokio::select! {
                opened = term::open(&life.settings.store) => opened,
                _ = stop.wait_for(|stop| *stop) => return,
            };
            match opened {
                Ok(stores) => break stores,
                Err(error) => {
                    tracing::warn!(%error, "the registry cannot be reached");
                    life.follow(None, &format!("the registry cannot be reached: {error}"));
                    sleep(RECONNECT).await;
                }
            }
        },
    };
    life.live(stores, stop).await;
}

async fn bind(what: &'static str, address: SocketAddr) -> Result<(TcpListener, SocketAddr), Error> {
    let failed = |source| Error::Listen { what, address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}
