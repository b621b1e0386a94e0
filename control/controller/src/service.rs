//! The gRPC service: who calls, may they, and which part of the controller answers.
//!
//! Every call takes the same way: the caller is identified and its role looked up in
//! [`Call::roles`]; it is counted against the rate; the term under way is found, or the
//! leader's address told. What a call does stands elsewhere.

use std::sync::Arc;
use std::time::{Duration, Instant};

use access::{Access, Identity, RateLimiter, Role, Share, Streams};
use proto::v1::lb_control_plane_server::LbControlPlane;
use proto::v1::{
    Ack, Assignments, Backend, BindVipReq, CreatePoolReq, DeletePoolReq, DeregisterBackendReq,
    DrainBackendReq, Event, GetBackendReq, GetPoolReq, HealthAck, HealthReport, ListBackendsReq,
    ListBackendsResp, ListNodesReq, ListNodesResp, ListPoolsReq, ListPoolsResp, ListViPsReq,
    ListViPsResp, NodeAck, NodeReport, PlanReq, PlanResp, Pool, PoolSnapshot, RegisterBackendReq,
    RegisterBackendResp, UnbindVipReq, UpdateBackendReq, UpdatePoolReq, WatchAssignmentsReq,
    WatchEventsReq, WatchPoolReq,
};
use tokio::sync::watch;
use tokio::time::timeout;
use tonic::{Request, Response, Status, Streaming};

use crate::http::Metrics;
use crate::office::{Office, Standing, over};
use crate::settings::Limits;
use crate::snapshots::watch_pool;
use crate::stream::{Reply, served};
use crate::{calls, events, fleet, plan, reports};

/// How long the first snapshot of a new pool may take.
const ON_BOARD: Duration = Duration::from_secs(10);

/// Calls that change nothing, for each one that does: they too are answered by the task that ejects
/// backends.
const LOOKS: u32 = 10;

/// Kinds of calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    /// Of operators, changing something.
    Change,
    /// Of operators and viewers.
    Look,
    /// Of checkers.
    Check,
    /// Of nodes.
    Serve,
}

impl Call {
    /// Who may, besides operators.
    fn roles(self) -> &'static [Role] {
        match self {
            Self::Change => &[],
            Self::Look => &[Role::Viewer],
            Self::Check => &[Role::Checker],
            Self::Serve => &[Role::Node],
        }
    }

    /// Whose places its stream takes: the role's. Where everybody has every role, the call says.
    fn share(self, caller: &Identity) -> Share {
        let role = match (caller.is_open(), self) {
            (true, Self::Check) => Role::Checker,
            (true, Self::Serve) => Role::Node,
            _ => caller.role(),
        };
        match role {
            Role::Operator | Role::Viewer => Share::People,
            Role::Checker => Share::Checkers,
            Role::Node => Share::Nodes,
        }
    }
}

/// The service; all clones are one.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    standing: watch::Receiver<Standing>,
    access: Arc<Access>,
    /// How fast each caller may change things.
    changes: Arc<RateLimiter>,
    /// How fast each may look at things, and begin streams.
    looks: Arc<RateLimiter>,
    streams: Streams,
    metrics: Arc<Metrics>,
}

type Answer<T> = Result<Response<T>, Status>;

impl Service {
    pub(crate) fn new(
        standing: watch::Receiver<Standing>,
        access: Arc<Access>,
        limits: &Limits,
        metrics: Arc<Metrics>,
    ) -> Self {
        let per_second = limits.requests_per_second;
        let bucket =
            |per_second: u32| Arc::new(RateLimiter::new(per_second, per_second.saturating_mul(2)));
        let looks = bucket(per_second.saturating_mul(LOOKS));
        let streams = Streams::new(limits.streams);
        Self { standing, access, changes: bucket(per_second), looks, streams, metrics }
    }

    /// Who calls, and the term that serves it.
    fn admit<T>(
        &self,
        request: &Request<T>,
        call: Call,
    ) -> Result<(Arc<Office>, Identity), Status> {
        let caller = self.access.caller(request)?;
        caller.require(call.roles())?;
        let rate = if call == Call::Change { &self.changes } else { &self.looks };
        rate.take(&caller, Instant::now())?;
        let office = self.standing.borrow().office()?;
        Ok((office, caller))
    }

    /// As [`Service::admit`], for unary calls.
    fn office<T>(&self, request: Request<T>, call: Call) -> Result<(Arc<Office>, T), Status> {
        let (office, _) = self.admit(&request, call)?;
        Ok((office, request.into_inner()))
    }

    /// A stream that takes a place and ends with the term.
    fn serve<T: Send + 'static>(
        &self,
        office: &Office,
        call: Call,
        caller: &Identity,
        make: impl FnOnce() -> Result<Reply<T>, Status>,
    ) -> Answer<Reply<T>> {
        let place = self.streams.enter(call.share(caller), caller)?;
        let over = over(self.standing.clone(), office.epoch);
        Ok(Response::new(served(make()?, over, place)))
    }
}

#[tonic::async_trait]
impl LbControlPlane for Service {
    async fn register_backend(
        &self,
        request: Request<RegisterBackendReq>,
    ) -> Answer<RegisterBackendResp> {
        let (office, request) = self.office(request, Call::Change)?;
        calls::register_backend(&office, request).await.map(Response::new)
    }

    async fn deregister_backend(&self, request: Request<DeregisterBackendReq>) -> Answer<Ack> {
        let (office, request) = self.office(request, Call::Change)?;
        calls::deregister_backend(&office, request).await.map(Response::new)
    }

    async fn drain_backend(&self, request: Request<DrainBackendReq>) -> Answer<Ack> {
        let (office, request) = self.office(request, Call::Change)?;
        calls::drain_backend(&office, request).await.map(Response::new)
    }

    async fn update_backend(&self, request: Request<UpdateBackendReq>) -> Answer<Ack> {
        let (office, request) = self.office(request, Call::Change)?;
        calls::update_backend(&office, request).await.map(Response::new)
    }

    async fn get_backend(&self, request: Request<GetBackendReq>) -> Answer<Backend> {
        let (office, request) = self.office(request, Call::Look)?;
        calls::get_backend(&office, request).await.map(Response::new)
    }

    async fn list_backends(&self, request: Request<ListBackendsReq>) -> Answer<ListBackendsResp> {
        let (office, request) = self.office(request, Call::Look)?;
        calls::list_backends(&office, request).await.map(Response::new)
    }

    type ReportHealthStream = Reply<HealthAck>;

    async fn report_health(
        &self,
        request: Request<Streaming<HealthReport>>,
    ) -> Answer<Self::ReportHealthStream> {
        let (office, caller) = self.admit(&request, Call::Check)?;
        self.serve(&office, Call::Check, &caller.clone(), || {
            reports::report_health(&office, caller, request.into_inner())
        })
    }

    type WatchAssignmentsStream = Reply<Assignments>;

    async fn watch_assignments(
        &self,
        request: Request<WatchAssignmentsReq>,
    ) -> Answer<Self::WatchAssignmentsStream> {
        let (office, caller) = self.admit(&request, Call::Check)?;
        self.serve(&office, Call::Check, &caller.clone(), || {
            reports::watch_assignments(&office, caller, request.into_inner())
        })
    }

    async fn create_pool(&self, request: Request<CreatePoolReq>) -> Answer<Pool> {
        let (office, request) = self.office(request, Call::Change)?;
        calls::create_pool(&office, request).await.map(Response::new)
    }

    async fn update_pool(&self, request: Request<UpdatePoolReq>) -> Answer<Pool> {
        let (office, request) = self.office(request, Call::Change)?;
        calls::update_pool(&office, request).await.map(Response::new)
    }

    async fn get_pool(&self, request: Request<GetPoolReq>) -> Answer<Pool> {
        let (office, request) = self.office(request, Call::Look)?;
        calls::get_pool(&office, request).await.map(Response::new)
    }

    async fn list_pools(&self, request: Request<ListPoolsReq>) -> Answer<ListPoolsResp> {
        let (office, _) = self.office(request, Call::Look)?;
        calls::list_pools(&office).await.map(Response::new)
    }

    async fn delete_pool(&self, request: Request<DeletePoolReq>) -> Answer<Ack> {
        let (office, request) = self.office(request, Call::Change)?;
        calls::delete_pool(&office, request).await.map(Response::new)
    }

    async fn bind_vip_to_pool(&self, request: Request<BindVipReq>) -> Answer<Ack> {
        let (office, request) = self.office(request, Call::Change)?;
        calls::bind_vip(&office, request).await.map(Response::new)
    }

    async fn unbind_vip(&self, request: Request<UnbindVipReq>) -> Answer<Ack> {
        let (office, request) = self.office(request, Call::Change)?;
        calls::unbind_vip(&office, request).await.map(Response::new)
    }

    async fn list_vi_ps(&self, request: Request<ListViPsReq>) -> Answer<ListViPsResp> {
        let (office, request) = self.office(request, Call::Look)?;
        calls::list_vips(&office, request).await.map(Response::new)
    }

    type WatchPoolStream = Reply<PoolSnapshot>;

    async fn watch_pool(&self, request: Request<WatchPoolReq>) -> Answer<Self::WatchPoolStream> {
        let (office, caller) = self.admit(&request, Call::Serve)?;
        let request = request.into_inner();
        caller.require_name("node_id", &request.node_id)?;
        // Only nodes are shown the secrets.
        let secrets = caller.is_open() || caller.role() == Role::Node;
        let (board, metrics) = (Arc::clone(&office.board), Arc::clone(&self.metrics));
        // A pool whose creation was answered is on the board before the node is told "that is
        // all"; its first table may be under way.
        let pools = office.desk.see(|picture| picture.rows.pools.keys().cloned().collect()).await?;
        let pools: Vec<String> = pools;
        if timeout(ON_BOARD, board.filled(&pools)).await.is_err() {
            return Err(Status::unavailable("the first snapshots are not ready"));
        }
        self.serve(&office, Call::Serve, &caller, || watch_pool(board, request, secrets, metrics))
    }

    type ReportNodeStream = Reply<NodeAck>;

    async fn report_node(
        &self,
        request: Request<Streaming<NodeReport>>,
    ) -> Answer<Self::ReportNodeStream> {
        let (office, caller) = self.admit(&request, Call::Serve)?;
        self.serve(&office, Call::Serve, &caller.clone(), || {
            fleet::report_node(&office, caller, request.into_inner())
        })
    }

    async fn list_nodes(&self, request: Request<ListNodesReq>) -> Answer<ListNodesResp> {
        let (office, _) = self.office(request, Call::Look)?;
        fleet::list_nodes(&office).await.map(Response::new)
    }

    async fn plan(&self, request: Request<PlanReq>) -> Answer<PlanResp> {
        let (office, request) = self.office(request, Call::Look)?;
        plan::plan(&office, request).await.map(Response::new)
    }

    type WatchEventsStream = Reply<Event>;

    async fn watch_events(
        &self,
        request: Request<WatchEventsReq>,
    ) -> Answer<Self::WatchEventsStream> {
        let (office, caller) = self.admit(&request, Call::Look)?;
        self.serve(&office, Call::Look, &caller, || {
            events::watch_events(&office, request.into_inner())
        })
    }
}
