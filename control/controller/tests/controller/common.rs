//! A controller on a file of its own, and short forms of what tests ask of it.

use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use controller::{Controller, FleetTimings, Settings, Store};
use proto::v1::lb_control_plane_client::LbControlPlaneClient;
use proto::v1::{
    Backend, BackendState, BindVipReq, CreatePoolReq, DrainBackendReq, GetBackendReq, Pool,
    PoolSettings, PoolSnapshot, Protocol, RegisterBackendReq, Vip, WatchPoolReq,
};
use registry::RedbSettings;
use tempfile::TempDir;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

/// How long anything may take.
const SOON: Duration = Duration::from_secs(30);

pub(crate) type Client = LbControlPlaneClient<Channel>;

/// A controller, its file, and a client of it.
pub(crate) struct Lab {
    pub(crate) controller: Controller,
    pub(crate) client: Client,
    pub(crate) folder: TempDir,
}

impl Lab {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub(crate) async fn start_with(change: impl FnOnce(&mut Settings)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self::begin(folder, change).await
    }

    pub(crate) async fn begin(folder: TempDir, change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = settings(folder.path());
        change(&mut settings);
        let controller = soon("a controller", Controller::start(settings)).await.unwrap();
        soon("its leadership", controller.leads()).await;
        let client = connect(controller.grpc_address()).await;
        Self { controller, client, folder }
    }

    /// Stops the controller and starts another on the same file.
    pub(crate) async fn restart(self) -> Self {
        soon("the end", self.controller.stop()).await.unwrap();
        Self::begin(self.folder, |_| {}).await
    }

    pub(crate) async fn pool(&mut self, id: &str) -> Pool {
        create(&mut self.client, id, PoolSettings::default()).await.unwrap()
    }

    pub(crate) async fn register(&mut self, pool: &str, id: &str) -> Result<Backend, Status> {
        let request = registration(pool, id);
        let answer = soon("RegisterBackend", self.client.register_backend(request)).await?;
        Ok(answer.into_inner().backend.unwrap())
    }

    pub(crate) async fn drain(&mut self, id: &str, seconds: u32) -> Result<u64, Status> {
        let request =
            DrainBackendReq { backend_id: id.into(), drain_seconds: seconds, undo: false };
        Ok(soon("DrainBackend", self.client.drain_backend(request)).await?.into_inner().revision)
    }

    pub(crate) async fn backend(&mut self, id: &str) -> Result<Backend, Status> {
        let request = GetBackendReq { backend_id: id.into() };
        Ok(soon("GetBackend", self.client.get_backend(request)).await?.into_inner())
    }

    pub(crate) async fn watch(&mut self, request: WatchPoolReq) -> Streaming<PoolSnapshot> {
        soon("WatchPool", self.client.watch_pool(request)).await.unwrap().into_inner()
    }

    /// All that a new node is sent before the marker.
    pub(crate) async fn initial(&mut self, request: WatchPoolReq) -> Vec<PoolSnapshot> {
        let mut stream = self.watch(request).await;
        until_complete(&mut stream).await
    }
}

pub(crate) fn settings(folder: &Path) -> Settings {
    let store = Store::Embedded(RedbSettings::new(folder.join("registry.redb")));
    let mut settings = Settings::new("c1", store);
    settings.listen = any_port();
    settings.http = any_port();
    settings.fleet =
        FleetTimings { evicted_shown: Duration::from_millis(300), ..FleetTimings::default() };
    settings.limits.requests_per_second = 100_000;
    settings
}

pub(crate) fn any_port() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

pub(crate) async fn connect(address: SocketAddr) -> Client {
    let channel = Channel::from_shared(format!("http://{address}")).unwrap();
    let channel = soon("a connection", channel.connect()).await.unwrap();
    LbControlPlaneClient::new(channel)
}

/// A client whose connection takes so many bytes of a stream that are not read.
pub(crate) async fn narrow(address: SocketAddr, bytes: u32) -> Client {
    let endpoint = Channel::from_shared(format!("http://{address}")).unwrap();
    let endpoint = endpoint.initial_stream_window_size(bytes);
    LbControlPlaneClient::new(soon("a connection", endpoint.connect()).await.unwrap())
}

pub(crate) async fn create(
    client: &mut Client,
    id: &str,
    settings: PoolSettings,
) -> Result<Pool, Status> {
    let request = CreatePoolReq { pool_id: id.into(), settings: Some(settings) };
    Ok(soon("CreatePool", client.create_pool(request)).await?.into_inner())
}

pub(crate) fn registration(pool: &str, id: &str) -> RegisterBackendReq {
    RegisterBackendReq {
        pool_id: pool.into(),
        backend_id: id.into(),
        ip: "192.0.2.11".into(),
        port: 8080,
        ..RegisterBackendReq::default()
    }
}

pub(crate) fn vip(address: &str, first: u32, last: u32) -> Vip {
    Vip {
        address: address.into(),
        first_port: first,
        last_port: last,
        protocol: Protocol::Tcp.into(),
        ..Vip::default()
    }
}

pub(crate) fn binding(pool: &str, vip: Vip) -> BindVipReq {
    BindVipReq { pool_id: pool.into(), vip: Some(vip), from_pool: None }
}

/// A node that has nothing yet.
pub(crate) fn everything() -> WatchPoolReq {
    WatchPoolReq { node_id: "node-1".into(), ..WatchPoolReq::default() }
}

/// Fails the test when `future` takes too long.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(SOON, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what} took more than {SOON:?}"),
    }
}

/// Asks again and again until `is` holds.
pub(crate) async fn eventually<T, F: Future<Output = T>>(
    what: &str,
    mut ask: impl FnMut() -> F,
    is: impl Fn(&T) -> bool,
) -> T {
    soon(what, async {
        loop {
            let value = ask().await;
            if is(&value) {
                return value;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
}

pub(crate) async fn next(stream: &mut Streaming<PoolSnapshot>) -> PoolSnapshot {
    soon("a snapshot", stream.message()).await.unwrap().expect("the stream goes on")
}

pub(crate) async fn until_complete(stream: &mut Streaming<PoolSnapshot>) -> Vec<PoolSnapshot> {
    let mut snapshots = Vec::new();
    loop {
        let snapshot = next(stream).await;
        if snapshot.initial_set_complete {
            return snapshots;
        }
        snapshots.push(snapshot);
    }
}

/// The next snapshot for which `is` holds; those before it are skipped.
pub(crate) async fn until(
    stream: &mut Streaming<PoolSnapshot>,
    is: impl Fn(&PoolSnapshot) -> bool,
) -> PoolSnapshot {
    loop {
        let snapshot = next(stream).await;
        if is(&snapshot) {
            return snapshot;
        }
    }
}

/// The state of a backend in a snapshot.
pub(crate) fn state(snapshot: &PoolSnapshot, id: &str) -> Option<BackendState> {
    let entry = snapshot.backends.iter().find(|entry| entry.backend_id == id)?;
    Some(entry.state())
}
