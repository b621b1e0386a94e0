//! A small controller in memory: pools, backends and VIPs as the real one keeps them, roles as
//! the real one asks for them; no health, no nodes.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use access::{Access, Guarded, Role, Share, Streams};
use proto::v1::lb_control_plane_server::LbControlPlane;
use proto::v1::*;
use tokio::sync::broadcast;
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::{Stream, StreamExt};
use tonic::metadata::MetadataValue;
use tonic::{Request, Response, Status, Streaming};

type Answer<T> = Result<Response<T>, Status>;
type Messages<T> = Guarded<Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>>;

#[derive(Debug)]
pub(crate) struct Memory {
    access: Arc<Access>,
    rows: Mutex<Rows>,
    events: broadcast::Sender<Event>,
    pub(crate) streams: Streams,
    /// Somebody else leads.
    pub(crate) follows: Mutex<Option<&'static str>>,
}

#[derive(Debug, Default)]
struct Rows {
    revision: u64,
    pools: BTreeMap<String, PoolSettings>,
    backends: BTreeMap<String, Backend>,
    vips: Vec<BoundVip>,
}

const OPERATOR: &[Role] = &[];
const READER: &[Role] = &[Role::Viewer];

impl Memory {
    pub(crate) fn new(access: Arc<Access>) -> Self {
        Self {
            access,
            rows: Mutex::default(),
            events: broadcast::channel(100).0,
            streams: Streams::new(3),
            follows: Mutex::default(),
        }
    }

    fn admit<T>(&self, request: Request<T>, roles: &[Role]) -> Result<T, Status> {
        self.access.caller(&request)?.require(roles)?;
        if let Some(leader) = *self.follows.lock().unwrap() {
            let mut status = Status::unavailable("this controller is not the leader");
            status.metadata_mut().insert("weir-leader", MetadataValue::from_static(leader));
            return Err(status);
        }
        Ok(request.into_inner())
    }

    fn change<T>(&self, make: impl FnOnce(&mut Rows) -> Result<T, Status>) -> Answer<T> {
        let mut rows = self.rows.lock().unwrap();
        let made = make(&mut rows)?;
        rows.revision += 1;
        let event = Event { kind: "change".into(), at_ns: rows.revision, ..Event::default() };
        // Nobody may be listening.
        let _ = self.events.send(event);
        Ok(Response::new(made))
    }

    fn ack(&self, make: impl FnOnce(&mut Rows) -> Result<(), Status>) -> Answer<Ack> {
        self.change(|rows| make(rows).map(|()| Ack { revision: rows.revision + 1 }))
    }

    fn stream<T: 'static>(
        &self,
        messages: impl Stream<Item = Result<T, Status>> + Send + 'static,
    ) -> Answer<Messages<T>> {
        let anybody = Access::open(([127, 0, 0, 1], 0).into()).expect("loopback");
        let anybody = anybody.caller(&Request::new(()))?;
        let place = self.streams.enter(Share::Nodes, &anybody)?;
        Ok(Response::new(place.hold(Box::pin(messages))))
    }
}

impl Rows {
    fn backend(&mut self, id: &str) -> Result<&mut Backend, Status> {
        let missing = || Status::not_found(format!("backend_id: no backend {id:?}"));
        self.backends.get_mut(id).ok_or_else(missing)
    }

    fn pool(&self, id: &str) -> Result<Pool, Status> {
        let missing = || Status::not_found(format!("pool_id: no pool {id:?}"));
        let settings = self.pools.get(id).ok_or_else(missing)?;
        let backends = self.backends.values().filter(|backend| backend.pool_id == id);
        let vips = self.vips.iter().filter(|bound| bound.pool_id == id);
        Ok(Pool {
            pool_id: id.to_owned(),
            version: self.revision,
            settings: Some(settings.clone()),
            backends: backends.cloned().collect(),
            vips: vips.filter_map(|bound| bound.vip.clone()).collect(),
            ..Pool::default()
        })
    }
}

/// A stream that says when it was polled last, and never ends by itself.
struct Endless<S>(S);

impl<S: Stream + Unpin> Stream for Endless<S> {
    type Item = S::Item;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<S::Item>> {
        match Pin::new(&mut self.0).poll_next(cx) {
            Poll::Ready(None) => Poll::Pending,
            other => other,
        }
    }
}

#[tonic::async_trait]
impl LbControlPlane for Memory {
    async fn register_backend(
        &self,
        request: Request<RegisterBackendReq>,
    ) -> Answer<RegisterBackendResp> {
        let request = self.admit(request, OPERATOR)?;
        self.change(|rows| {
            rows.pool(&request.pool_id)?;
            if rows.backends.contains_key(&request.backend_id) {
                return Err(Status::already_exists(format!("backend_id: {}", request.backend_id)));
            }
            let backend = Backend {
                pool_id: request.pool_id,
                backend_id: request.backend_id.clone(),
                ip: request.ip,
                port: request.port,
                weight: request.weight,
                labels: request.labels,
                readiness_probe_url: request.readiness_probe_url,
                state: BackendState::Pending.into(),
                reason: "no checker has passed it".to_owned(),
                registered_at_ns: u64::MAX,
                ..Backend::default()
            };
            rows.backends.insert(request.backend_id, backend.clone());
            Ok(RegisterBackendResp { backend: Some(backend), revision: rows.revision + 1 })
        })
    }

    async fn deregister_backend(&self, request: Request<DeregisterBackendReq>) -> Answer<Ack> {
        let request = self.admit(request, OPERATOR)?;
        self.ack(|rows| {
            rows.backend(&request.backend_id)?;
            if !request.immediately {
                return Err(Status::failed_precondition("a drain takes time: ask immediately"));
            }
            rows.backends.remove(&request.backend_id);
            Ok(())
        })
    }

    async fn drain_backend(&self, request: Request<DrainBackendReq>) -> Answer<Ack> {
        let request = self.admit(request, OPERATOR)?;
        self.ack(|rows| {
            let backend = rows.backend(&request.backend_id)?;
            backend.state = BackendState::Draining.into();
            backend.drain_until_ns = request.drain_seconds.into();
            Ok(())
        })
    }

    async fn update_backend(&self, request: Request<UpdateBackendReq>) -> Answer<Ack> {
        let request = self.admit(request, OPERATOR)?;
        self.ack(|rows| {
            let backend = rows.backend(&request.backend_id)?;
            backend.weight = request.weight.unwrap_or(backend.weight);
            backend.labels.extend(request.labels);
            Ok(())
        })
    }

    async fn get_backend(&self, request: Request<GetBackendReq>) -> Answer<Backend> {
        let request = self.admit(request, READER)?;
        let mut rows = self.rows.lock().unwrap();
        rows.backend(&request.backend_id).cloned().map(Response::new)
    }

    async fn list_backends(&self, request: Request<ListBackendsReq>) -> Answer<ListBackendsResp> {
        let request = self.admit(request, READER)?;
        let rows = self.rows.lock().unwrap();
        let all = rows.backends.values();
        let of = all.filter(|row| request.pool_id.is_empty() || row.pool_id == request.pool_id);
        Ok(Response::new(ListBackendsResp { backends: of.cloned().collect() }))
    }

    type ReportHealthStream = Messages<HealthAck>;

    async fn report_health(
        &self,
        _: Request<Streaming<HealthReport>>,
    ) -> Answer<Self::ReportHealthStream> {
        Err(Status::unimplemented("not here"))
    }

    type WatchAssignmentsStream = Messages<Assignments>;

    async fn watch_assignments(
        &self,
        request: Request<WatchAssignmentsReq>,
    ) -> Answer<Self::WatchAssignmentsStream> {
        let request = self.admit(request, &[Role::Checker])?;
        let rows = self.rows.lock().unwrap();
        let assignments = rows.backends.values().map(|backend| Assignment {
            backend_id: backend.backend_id.clone(),
            pool_id: request.checker_id.clone(),
            settings: Some(ProbeSettings { udp_payload: vec![0, 255], ..ProbeSettings::default() }),
            ..Assignment::default()
        });
        let all = Assignments { version: rows.revision, assignments: assignments.collect() };
        self.stream(tokio_stream::once(Ok(all)))
    }

    async fn create_pool(&self, request: Request<CreatePoolReq>) -> Answer<Pool> {
        let request = self.admit(request, OPERATOR)?;
        self.change(|rows| {
            if request.pool_id.is_empty() {
                return Err(Status::invalid_argument("pool_id: expected a name"));
            }
            let settings = request.settings.unwrap_or_default();
            rows.pools.insert(request.pool_id.clone(), settings);
            rows.pool(&request.pool_id)
        })
    }

    async fn update_pool(&self, request: Request<UpdatePoolReq>) -> Answer<Pool> {
        let request = self.admit(request, OPERATOR)?;
        self.change(|rows| {
            rows.pool(&request.pool_id)?;
            rows.pools.insert(request.pool_id.clone(), request.settings.unwrap_or_default());
            rows.pool(&request.pool_id)
        })
    }

    async fn get_pool(&self, request: Request<GetPoolReq>) -> Answer<Pool> {
        let request = self.admit(request, READER)?;
        self.rows.lock().unwrap().pool(&request.pool_id).map(Response::new)
    }

    async fn list_pools(&self, request: Request<ListPoolsReq>) -> Answer<ListPoolsResp> {
        self.admit(request, READER)?;
        let rows = self.rows.lock().unwrap();
        let pools = rows.pools.keys().map(|id| rows.pool(id)).collect::<Result<_, _>>()?;
        Ok(Response::new(ListPoolsResp { pools }))
    }

    async fn delete_pool(&self, request: Request<DeletePoolReq>) -> Answer<Ack> {
        let request = self.admit(request, OPERATOR)?;
        self.ack(|rows| {
            let pool = rows.pool(&request.pool_id)?;
            if !pool.backends.is_empty() || !pool.vips.is_empty() {
                return Err(Status::failed_precondition("the pool is in use"));
            }
            rows.pools.remove(&request.pool_id);
            Ok(())
        })
    }

    async fn bind_vip_to_pool(&self, request: Request<BindVipReq>) -> Answer<Ack> {
        let request = self.admit(request, OPERATOR)?;
        self.ack(|rows| {
            rows.pool(&request.pool_id)?;
            rows.vips.push(BoundVip { pool_id: request.pool_id, vip: request.vip });
            Ok(())
        })
    }

    async fn unbind_vip(&self, request: Request<UnbindVipReq>) -> Answer<Ack> {
        let request = self.admit(request, OPERATOR)?;
        self.ack(|rows| {
            let before = rows.vips.len();
            rows.vips.retain(|bound| bound.vip != request.vip);
            if rows.vips.len() == before {
                return Err(Status::not_found("vip: no such VIP"));
            }
            Ok(())
        })
    }

    async fn list_vi_ps(&self, request: Request<ListViPsReq>) -> Answer<ListViPsResp> {
        self.admit(request, READER)?;
        let vips = self.rows.lock().unwrap().vips.clone();
        Ok(Response::new(ListViPsResp { vips }))
    }

    type WatchPoolStream = Messages<PoolSnapshot>;

    async fn watch_pool(&self, request: Request<WatchPoolReq>) -> Answer<Self::WatchPoolStream> {
        let request = self.admit(request, &[Role::Node])?;
        let rows = self.rows.lock().unwrap();
        let pools =
            rows.pools.keys().filter(|id| request.pool_id.is_empty() || **id == request.pool_id);
        let mut snapshots = Vec::new();
        for id in pools {
            let pool = rows.pool(id)?;
            snapshots.push(Ok(PoolSnapshot {
                pool_id: pool.pool_id,
                version: pool.version,
                settings: pool.settings,
                vips: pool.vips,
                table: Some(MaglevTable { size: 65537, slots: Vec::new(), digest: vec![7; 32] }),
                store_id: request.node_id.clone(),
                ..PoolSnapshot::default()
            }));
        }
        snapshots.push(Ok(PoolSnapshot { initial_set_complete: true, ..PoolSnapshot::default() }));
        self.stream(tokio_stream::iter(snapshots))
    }

    type ReportNodeStream = Messages<NodeAck>;

    async fn report_node(
        &self,
        _: Request<Streaming<NodeReport>>,
    ) -> Answer<Self::ReportNodeStream> {
        Err(Status::unimplemented("not here"))
    }

    async fn list_nodes(&self, request: Request<ListNodesReq>) -> Answer<ListNodesResp> {
        self.admit(request, READER)?;
        let traffic =
            BackendTraffic { backend_id: "b".into(), packets: 1 << 60, ..Default::default() };
        let pool = AppliedPool { backends: vec![traffic], ..AppliedPool::default() };
        let node = Node { node_id: "lb-a1".into(), pools: vec![pool], ..Node::default() };
        Ok(Response::new(ListNodesResp { nodes: vec![node], disagreements: vec!["web".into()] }))
    }

    async fn plan(&self, request: Request<PlanReq>) -> Answer<PlanResp> {
        let request = self.admit(request, READER)?;
        let Some(plan_req::Change::Drain(drain)) = request.change else {
            return Err(Status::invalid_argument("change: expected a drain"));
        };
        let warnings = vec!["only a test".to_owned()];
        Ok(Response::new(PlanResp {
            backends_out: vec![drain.backend_id],
            warnings,
            ..PlanResp::default()
        }))
    }

    type WatchEventsStream = Messages<Event>;

    async fn watch_events(
        &self,
        request: Request<WatchEventsReq>,
    ) -> Answer<Self::WatchEventsStream> {
        self.admit(request, READER)?;
        let events = BroadcastStream::new(self.events.subscribe())
            .map(|event| event.map_err(|error| Status::data_loss(error.to_string())));
        self.stream(Endless(events))
    }
}
