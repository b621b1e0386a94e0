//! A controller on a real socket that says what it is told to.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use proto::v1;
use proto::v1::lb_control_plane_server::{LbControlPlane, LbControlPlaneServer};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};

type Answer<T> = Result<Response<T>, Status>;
type Sender = mpsc::Sender<Result<v1::PoolSnapshot, Status>>;

/// Longer than anything takes, also where there is much else to do.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// What the server does and has seen.
#[derive(Default)]
pub(crate) struct Script {
    /// What a watcher is sent first.
    pub(crate) initial: Vec<v1::PoolSnapshot>,
    /// The leader that a watcher is sent to instead.
    pub(crate) leader: Option<String>,
    pub(crate) requests: Vec<v1::WatchPoolReq>,
    pub(crate) reports: Vec<v1::NodeReport>,
    watchers: Vec<Sender>,
}

/// A running controller; dropped, it and its connections are gone.
pub(crate) struct Controller {
    pub(crate) script: Arc<Mutex<Script>>,
    pub(crate) address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Controller {
    pub(crate) fn start(initial: Vec<v1::PoolSnapshot>) -> Self {
        Self::start_at("127.0.0.1:0".parse().expect("an address"), initial)
    }

    /// Starts at an address that another one may just have left.
    pub(crate) fn start_at(address: SocketAddr, initial: Vec<v1::PoolSnapshot>) -> Self {
        let script = Arc::new(Mutex::new(Script { initial, ..Script::default() }));
        let service = Service(Arc::clone(&script));
        let (stop, stopped) = oneshot::channel::<()>();
        let (bound, address_of) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async {
                let end = Instant::now() + PATIENCE;
                let listener = loop {
                    match TcpListener::bind(address).await {
                        Ok(listener) => break listener,
                        Err(error) if Instant::now() > end => panic!("{error}"),
                        Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                    }
                };
                bound.send(listener.local_addr().expect("an address")).expect("a receiver");
                let server = tonic::transport::Server::builder()
                    .add_service(LbControlPlaneServer::new(service))
                    .serve_with_incoming(TcpListenerStream::new(listener));
                tokio::select! {
                    result = server => result.expect("a server"),
                    _ = stopped => {}
                }
            });
        });
        let address = address_of.recv_timeout(PATIENCE).expect("it starts");
        Self { script, address, stop: Some(stop), thread: Some(thread) }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Sends to all that watch.
    pub(crate) fn send(&self, message: v1::PoolSnapshot) {
        let mut script = self.script.lock().expect("the script");
        script.watchers.retain(|watcher| watcher.try_send(Ok(message.clone())).is_ok());
    }

    /// Ends all streams.
    pub(crate) fn cut(&self) {
        self.script.lock().expect("the script").watchers.clear();
    }

    /// Waits for something of the script.
    pub(crate) fn wait<T>(&self, what: &str, mut found: impl FnMut(&Script) -> Option<T>) -> T {
        wait(what, || found(&self.script.lock().expect("the script")))
    }

    /// Waits for a report that says that a pool runs at a version, and returns it.
    pub(crate) fn applied(&self, pool: &str, version: u64) -> v1::AppliedPool {
        self.wait(&format!("{pool} at {version}"), |script| {
            let pools = script.reports.iter().rev().flat_map(|report| &report.pools);
            pools.clone().find(|p| p.pool_id == pool && p.version == version).cloned()
        })
    }
}

/// Waits until there is something.
pub(crate) fn wait<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(Instant::now() < end, "waited for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Service(Arc<Mutex<Script>>);

fn no<T>() -> Answer<T> {
    Err(Status::unimplemented("not in this test"))
}

/// Calls that no node makes.
macro_rules! not_here {
    ($($call:ident($request:ty) -> $answer:ty;)*) => {
        #[tonic::async_trait]
        impl LbControlPlane for Service {
            $(async fn $call(&self, _: Request<$request>) -> Answer<$answer> { no() })*

            type ReportHealthStream = ReceiverStream<Result<v1::HealthAck, Status>>;
            type WatchAssignmentsStream = ReceiverStream<Result<v1::Assignments, Status>>;
            type WatchEventsStream = ReceiverStream<Result<v1::Event, Status>>;
            type WatchPoolStream = ReceiverStream<Result<v1::PoolSnapshot, Status>>;
            type ReportNodeStream = ReceiverStream<Result<v1::NodeAck, Status>>;

            async fn watch_pool(
                &self,
                request: Request<v1::WatchPoolReq>,
            ) -> Answer<Self::WatchPoolStream> {
                self.watch(request.into_inner())
            }

            async fn report_node(
                &self,
                request: Request<Streaming<v1::NodeReport>>,
            ) -> Answer<Self::ReportNodeStream> {
                self.hear(request.into_inner())
            }
        }
    };
}

not_here! {
    register_backend(v1::RegisterBackendReq) -> v1::RegisterBackendResp;
    deregister_backend(v1::DeregisterBackendReq) -> v1::Ack;
    drain_backend(v1::DrainBackendReq) -> v1::Ack;
    update_backend(v1::UpdateBackendReq) -> v1::Ack;
    get_backend(v1::GetBackendReq) -> v1::Backend;
    list_backends(v1::ListBackendsReq) -> v1::ListBackendsResp;
    report_health(Streaming<v1::HealthReport>) -> ReceiverStream<Result<v1::HealthAck, Status>>;
    watch_assignments(v1::WatchAssignmentsReq) -> ReceiverStream<Result<v1::Assignments, Status>>;
    create_pool(v1::CreatePoolReq) -> v1::Pool;
    update_pool(v1::UpdatePoolReq) -> v1::Pool;
    get_pool(v1::GetPoolReq) -> v1::Pool;
    list_pools(v1::ListPoolsReq) -> v1::ListPoolsResp;
    delete_pool(v1::DeletePoolReq) -> v1::Ack;
    bind_vip_to_pool(v1::BindVipReq) -> v1::Ack;
    unbind_vip(v1::UnbindVipReq) -> v1::Ack;
    list_vi_ps(v1::ListViPsReq) -> v1::ListViPsResp;
    list_nodes(v1::ListNodesReq) -> v1::ListNodesResp;
    plan(v1::PlanReq) -> v1::PlanResp;
    watch_events(v1::WatchEventsReq) -> ReceiverStream<Result<v1::Event, Status>>;
}

impl Service {
    fn watch(
        &self,
        request: v1::WatchPoolReq,
    ) -> Answer<ReceiverStream<Result<v1::PoolSnapshot, Status>>> {
        let mut script = self.0.lock().expect("the script");
        script.requests.push(request);
        if let Some(leader) = &script.leader {
            let mut status = Status::unavailable("not the leader");
            status.metadata_mut().insert("weir-leader", leader.parse().expect("an address"));
            return Err(status);
        }
        let (sender, receiver) = mpsc::channel(script.initial.len() + 256);
        for message in &script.initial {
            sender.try_send(Ok(message.clone())).expect("room");
        }
        script.watchers.push(sender);
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    fn hear(
        &self,
        mut reports: Streaming<v1::NodeReport>,
    ) -> Answer<ReceiverStream<Result<v1::NodeAck, Status>>> {
        if self.0.lock().expect("the script").leader.is_some() {
            return Err(Status::unavailable("not the leader"));
        }
        let (sender, receiver) = mpsc::channel(16);
        let script = Arc::clone(&self.0);
        tokio::spawn(async move {
            while let Some(Ok(report)) = reports.next().await {
                let ack = v1::NodeAck { reported_at_ns: report.reported_at_ns };
                script.lock().expect("the script").reports.push(report);
                if sender.send(Ok(ack)).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}
