//! The control plane's calls as HTTP and JSON, with their OpenAPI document.
//!
//! The one idea: one table of routes ([`routes`]) says which call answers which method and path;
//! the router, the document and the tests are all read from it and from the descriptors of the
//! `.proto` file. A call is made on the very service that gRPC serves, in process, with the
//! caller's headers and [`access::Peer`] passed on, so that roles, limits and leadership are
//! checked in one place.
//!
//! In order of a request: [`routes`] finds the call, `admission` asks who is there before a body is
//! read, `request` makes one JSON message of path, query and body, `call` invokes the service,
//! `answer` writes JSON, a stream of JSON, or an error.
//!
//! Bodies are protobuf's JSON mapping (`proto`); errors carry the gRPC code. What is not a call of
//! the service's (health, metrics) is the owner's to put beside it.

#![forbid(unsafe_code)]

pub mod openapi;
pub mod routes;

mod admission;
mod answer;
mod call;
mod descriptors;
mod problem;
mod request;

use std::sync::Arc;
use std::time::Duration;

use access::Access;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::response::Response;
use axum::routing::{any, get};
use proto::v1::lb_control_plane_server::LbControlPlane;
use tokio::time::timeout;
use tonic::Status;

use crate::problem::Problem;
use crate::routes::Found;

/// How long a request's body, and then a call that is no stream, may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a gateway is made with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Who may call; the same list that the service asks.
    pub access: Arc<Access>,
    /// Bytes of a request's body.
    pub max_body: usize,
}

/// The routes under `/v1/`, calling `service`.
///
/// Serve it with [`access::serve_http`], or put an [`access::Peer`] into each request's extensions
/// by other means: certificates are found there.
pub fn router<S: LbControlPlane>(service: Arc<S>, settings: Settings) -> Router {
    let document = Bytes::from(openapi::document().to_string());
    let document = move || {
        let mut response = Response::new(Body::from(document.clone()));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        async move { response }
    };
    let calls = move |request: Request| {
        let (service, settings) = (Arc::clone(&service), settings.clone());
        async move {
            match handle(service.as_ref(), &settings, request).await {
                Ok(response) => response,
                Err(problem) => problem.into_response(),
            }
        }
    };
    Router::new().route("/v1/openapi.json", get(document)).route("/v1/{*call}", any(calls))
}

async fn handle<S: LbControlPlane>(
    service: &S,
    settings: &Settings,
    request: Request,
) -> Result<Response, Problem> {
    let (head, body) = request.into_parts();
    let (route, parameters) = match routes::find(&head.method, head.uri.path()) {
        Found::Route(route, parameters) => (route, parameters),
        Found::OtherMethods(allowed) => return Err(Problem::method(&head.method, &allowed)),
        Found::Nothing => return Err(Problem::path(head.uri.path())),
    };
    admission::check(&settings.access, &head)?;
    let read = request::read(route, &parameters, &head, body, settings.max_body);
    let message = timeout(PATIENCE, read)
        .await
        .map_err(|_| Problem::from(Status::deadline_exceeded("the body did not come in time")))??;
    call::invoke(service, route.rpc, head, message).await
}
