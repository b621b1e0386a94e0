//! One controller in this process, with a file of its own, and a client of it.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use controller::{Controller, Settings, Store};
use proto::v1::lb_control_plane_client::LbControlPlaneClient;
use proto::v1::{
    Backend, BackendState, CreatePoolReq, DeregisterBackendReq, Event, GetBackendReq, GetPoolReq,
    ListBackendsReq, Pool, RegisterBackendReq, WatchEventsReq,
};
use registry::RedbSettings;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tonic::Streaming;
use tonic::transport::{Channel, Endpoint};

pub(crate) type Client = LbControlPlaneClient<Channel>;

/// Nothing here takes so long on any machine.
const LONG: Duration = Duration::from_secs(60);

/// A controller that leads.
pub(crate) struct Lab {
    pub(crate) client: Client,
    controller: Controller,
    _state: TempDir,
}

/// What a watcher of events sees.
pub(crate) struct Events(Streaming<Event>);

impl Lab {
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let state = tempfile::tempdir().expect("a directory");
        let store = Store::Embedded(RedbSettings::new(state.path().join("registry.redb")));
        let mut settings = Settings::new("lab", store);
        settings.listen = SocketAddr::from(([127, 0, 0, 1], 0));
        settings.http = settings.listen;
        change(&mut settings);
        let controller = Controller::start(settings).await.expect("a controller");
        within("it leads", controller.leads()).await;
        let client = connect(&controller, |endpoint| endpoint).await;
        Self { client, controller, _state: state }
    }

    /// A client whose connection takes so many bytes of a stream that it does not read.
    pub(crate) async fn narrow_client(&self, bytes: u32) -> Client {
        connect(&self.controller, |endpoint| endpoint.initial_stream_window_size(bytes)).await
    }

    /// A pool of these backends.
    pub(crate) async fn pool(&self, pool: &str, backends: &[&str]) {
        let request = CreatePoolReq { pool_id: pool.into(), settings: None };
        self.client.clone().create_pool(request).await.expect("a pool");
        for (host, backend) in (1u8..).zip(backends) {
            self.register(pool, backend, host).await;
        }
    }

    /// A backend with a readiness probe.
    pub(crate) async fn register(&self, pool: &str, backend: &str, host: u8) {
        let ip = format!("192.0.2.{host}");
        let request = RegisterBackendReq {
            pool_id: pool.into(),
            backend_id: backend.into(),
            readiness_probe_url: format!("http://{ip}:8080/ready"),
            ip,
            port: 8080,
            ..RegisterBackendReq::default()
        };
        self.client.clone().register_backend(request).await.expect("a backend");
    }

    pub(crate) async fn deregister(&self, backend: &str) {
        let request = DeregisterBackendReq { backend_id: backend.into(), immediately: true };
        self.client.clone().deregister_backend(request).await.expect("deregistered");
    }

    pub(crate) async fn backend(&self, backend: &str) -> Backend {
        let request = GetBackendReq { backend_id: backend.into() };
        self.client.clone().get_backend(request).await.expect("a backend").into_inner()
    }

    pub(crate) async fn backends(&self, pool: &str) -> Vec<Backend> {
        let request = ListBackendsReq { pool_id: pool.into() };
        self.client.clone().list_backends(request).await.expect("a list").into_inner().backends
    }

    /// In the order of backends.
    pub(crate) async fn states(&self, pool: &str) -> Vec<BackendState> {
        self.backends(pool).await.iter().map(Backend::state).collect()
    }

    pub(crate) async fn get_pool(&self, pool: &str) -> Pool {
        let request = GetPoolReq { pool_id: pool.into() };
        self.client.clone().get_pool(request).await.expect("a pool").into_inner()
    }

    /// The value of a metric, named with its labels.
    pub(crate) async fn metric(&self, name: &str) -> f64 {
        let mut stream = TcpStream::connect(self.controller.http_address()).await.expect("HTTP");
        let request = b"GET /metrics HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n";
        stream.write_all(request).await.expect("sent");
        let mut text = String::new();
        within("metrics", stream.read_to_string(&mut text)).await.expect("text");
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{name} is not in:\n{text}")).parse().expect("a number")
    }

    /// Waits until a backend is in this state.
    pub(crate) async fn state(&self, backend: &str, state: BackendState) {
        let what = format!("{backend} is {state:?}");
        self.until(&what, async || self.backend(backend).await.state() == state).await;
    }

    /// Waits until something holds.
    pub(crate) async fn until(&self, what: &str, mut holds: impl AsyncFnMut() -> bool) {
        within(what, async {
            while !holds().await {
                sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
    }

    pub(crate) async fn events(&self, replay: u32) -> Events {
        let watched = self.client.clone().watch_events(WatchEventsReq { replay }).await;
        Events(watched.expect("events").into_inner())
    }
}

impl Events {
    /// The next event of this kind.
    pub(crate) async fn until(&mut self, kind: &str) -> Event {
        within(kind, async {
            loop {
                let event = self.0.message().await.expect("the stream lives").expect("no end");
                if event.kind == kind {
                    return event;
                }
            }
        })
        .await
    }
}

async fn connect(controller: &Controller, set: impl FnOnce(Endpoint) -> Endpoint) -> Client {
    let url = format!("http://{}", controller.grpc_address());
    let endpoint = set(Endpoint::from_shared(url).expect("a URL"));
    let channel = within("a connection", endpoint.connect()).await.expect("connects");
    LbControlPlaneClient::new(channel)
}

/// Waits, but not for ever.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match timeout(LONG, future).await {
        Ok(value) => value,
        Err(_) => panic!("not within {LONG:?}: {what}"),
    }
}
