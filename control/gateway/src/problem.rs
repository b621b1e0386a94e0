//! Errors as HTTP: the status code that goes with a gRPC one, and a JSON body with both.

use axum::body::Body;
use axum::http::header::{ALLOW, CONTENT_TYPE, WWW_AUTHENTICATE};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode};
use axum::response::Response;
use serde_json::{Value, json};
use tonic::{Code, Status};

/// The metadata, header and body field that name the leader.
const LEADER: &str = "weir-leader";

/// A request that is not answered with what it asked for.
#[derive(Debug)]
pub(crate) struct Problem {
    status: Status,
    http: StatusCode,
    header: Option<(HeaderName, HeaderValue)>,
}

impl From<Status> for Problem {
    fn from(status: Status) -> Self {
        let http = http_status(status.code());
        let header = (status.code() == Code::Unauthenticated)
            .then(|| (WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")));
        Self { status, http, header }
    }
}

impl Problem {
    /// The request is not of its form.
    pub(crate) fn argument(what: impl Into<String>) -> Self {
        Status::invalid_argument(what).into()
    }

    /// As [`Problem::argument`], for what HTTP has a code of its own.
    pub(crate) fn argument_with(http: StatusCode, what: impl Into<String>) -> Self {
        Self { http, ..Self::argument(what) }
    }

    /// Nothing is there.
    pub(crate) fn path(path: &str) -> Self {
        Status::not_found(format!("no such path: {path}: see /v1/openapi.json")).into()
    }

    /// The path is for other methods.
    pub(crate) fn method(method: &Method, allowed: &[&Method]) -> Self {
        let allowed: Vec<&str> = allowed.iter().map(|method| method.as_str()).collect();
        let allowed = allowed.join(", ");
        let status = Status::unimplemented(format!("no {method} here: expected {allowed}"));
        let header = HeaderValue::from_str(&allowed).ok().map(|value| (ALLOW, value));
        Self { status, http: StatusCode::METHOD_NOT_ALLOWED, header }
    }

    pub(crate) fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(body(&self.status).to_string()));
        *response.status_mut() = self.http;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.extend(self.header);
        if let Some(leader) = self.status.metadata().get(LEADER)
            && let Ok(value) = HeaderValue::from_bytes(leader.as_bytes())
        {
            headers.insert(LEADER, value);
        }
        response
    }
}

/// `{code, status, message}`, and `leader` where it is known: the gRPC address of the controller
/// that leads.
pub(crate) fn body(status: &Status) -> Value {
    let code = status.code();
    let mut body =
        json!({ "code": code as i32, "status": name(code), "message": status.message() });
    let leader = status.metadata().get(LEADER).and_then(|leader| leader.to_str().ok());
    if let (Some(leader), Some(fields)) = (leader, body.as_object_mut()) {
        fields.insert("leader".to_owned(), leader.into());
    }
    body
}

/// The mapping of `google/rpc/code.proto`.
fn http_status(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => {
            StatusCode::BAD_REQUEST
        }
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        // Not registered: "client closed request".
        Code::Cancelled => StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST),
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::Unknown | Code::Internal | Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// The word of `google/rpc/code.proto`.
pub(crate) fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
