//! Makes a call on the service, exactly as a gRPC connection would: the headers are the metadata,
//! and the extensions, the caller's [`access::Peer`] among them, come along.

use axum::http::request::Parts;
use axum::response::Response;
use proto::v1::lb_control_plane_server::LbControlPlane;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::timeout;
use tokio_stream::Stream;
use tonic::metadata::MetadataMap;
use tonic::{Request, Status};

use crate::PATIENCE;
use crate::answer::{self, Framing};
use crate::problem::Problem;
use crate::routes::Rpc;

pub(crate) async fn invoke<S: LbControlPlane>(
    service: &S,
    rpc: Rpc,
    head: Parts,
    message: Value,
) -> Result<Response, Problem> {
    let call = Call { framing: Framing::accepted(&head.headers), head, message };
    match rpc {
        Rpc::RegisterBackend => call.one(|request| service.register_backend(request)).await,
        Rpc::DeregisterBackend => call.one(|request| service.deregister_backend(request)).await,
        Rpc::DrainBackend => call.one(|request| service.drain_backend(request)).await,
        Rpc::UpdateBackend => call.one(|request| service.update_backend(request)).await,
        Rpc::GetBackend => call.one(|request| service.get_backend(request)).await,
        Rpc::ListBackends => call.one(|request| service.list_backends(request)).await,
        Rpc::WatchAssignments => call.many(|request| service.watch_assignments(request)).await,
        Rpc::CreatePool => call.one(|request| service.create_pool(request)).await,
        Rpc::UpdatePool => call.one(|request| service.update_pool(request)).await,
        Rpc::GetPool => call.one(|request| service.get_pool(request)).await,
        Rpc::ListPools => call.one(|request| service.list_pools(request)).await,
        Rpc::DeletePool => call.one(|request| service.delete_pool(request)).await,
        Rpc::BindVipToPool => call.one(|request| service.bind_vip_to_pool(request)).await,
        Rpc::UnbindVip => call.one(|request| service.unbind_vip(request)).await,
        Rpc::ListVips => call.one(|request| service.list_vi_ps(request)).await,
        Rpc::WatchPool => call.many(|request| service.watch_pool(request)).await,
        Rpc::ListNodes => call.one(|request| service.list_nodes(request)).await,
        Rpc::Plan => call.one(|request| service.plan(request)).await,
        Rpc::WatchEvents => call.many(|request| service.watch_events(request)).await,
    }
}

/// A call whose message is not typed yet.
struct Call {
    head: Parts,
    message: Value,
    framing: Framing,
}

type Answer<T> = Result<tonic::Response<T>, Status>;

impl Call {
    async fn one<M, R, F>(self, call: impl FnOnce(Request<M>) -> F) -> Result<Response, Problem>
    where
        M: DeserializeOwned,
        R: Serialize,
        F: Future<Output = Answer<R>>,
    {
        let response = answered(call(self.request()?)).await?;
        answer::one(response.get_ref())
    }

    async fn many<M, T, R, F>(self, call: impl FnOnce(Request<M>) -> F) -> Result<Response, Problem>
    where
        M: DeserializeOwned,
        T: Stream<Item = Result<R, Status>> + Send + 'static,
        R: Serialize + 'static,
        F: Future<Output = Answer<T>>,
    {
        let framing = self.framing;
        let response = answered(call(self.request()?)).await?;
        Ok(answer::many(response.into_inner(), framing))
    }

    fn request<M: DeserializeOwned>(self) -> Result<Request<M>, Problem> {
        let message = serde_path_to_error::deserialize(self.message).map_err(|error| {
            let path = error.path().to_string();
            match path.as_str() {
                "." => Problem::argument(error.into_inner().to_string()),
                path => Problem::argument(format!("{path}: {}", error.inner())),
            }
        })?;
        let metadata = MetadataMap::from_headers(self.head.headers);
        Ok(Request::from_parts(metadata, self.head.extensions, message))
    }
}

/// A service that does not answer is an answer too.
async fn answered<T>(call: impl Future<Output = Answer<T>>) -> Answer<T> {
    timeout(PATIENCE, call)
        .await
        .map_err(|_| Status::deadline_exceeded("the controller did not answer in time"))?
}
