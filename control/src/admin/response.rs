//! The forms of an answer: text, JSON, and an error that says what was wrong with the request.

use axum::Json;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::json;

/// Why a request was not answered; sent as `{"error": ..}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// A parameter cannot be understood: its name and what is wrong.
    BadParameter {
        /// The parameter's name as it was sent.
        parameter: String,
        /// What is wrong, and what was expected.
        problem: String,
    },
    /// What was asked for is not there.
    NotFound {
        /// What there is not.
        what: String,
        /// What there is: a word for the kind of thing, and the names.
        known: Option<(&'static str, Vec<String>)>,
    },
    /// Too many requests of this kind.
    TooMany {
        /// When to come back, in seconds.
        retry_after: u32,
    },
    /// The path is there, the method is not.
    MethodNotAllowed,
    /// The request has a body, and too long a one.
    BodyTooLong,
    /// The token was not shown.
    NoToken,
    /// A change that could not be made, and why.
    Failed(String),
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, body) = match &self {
            Self::BadParameter { parameter, problem } => {
                (StatusCode::BAD_REQUEST, json!({ "error": problem, "parameter": parameter }))
            }
            Self::NotFound { what, known } => {
                let mut body = json!({ "error": what });
                if let (Some((kind, names)), Some(body)) = (known, body.as_object_mut()) {
                    body.insert((*kind).to_owned(), json!(names));
                }
                (StatusCode::NOT_FOUND, body)
            }
            Self::TooMany { retry_after } => (
                StatusCode::TOO_MANY_REQUESTS,
                json!({ "error": format!("too many dumps, try again in {retry_after} s") }),
            ),
            Self::MethodNotAllowed => (
                StatusCode::METHOD_NOT_ALLOWED,
                json!({ "error": "this path does not understand the method; / lists what there is" }),
            ),
            Self::BodyTooLong => {
                (StatusCode::PAYLOAD_TOO_LARGE, json!({ "error": "no request here needs a body" }))
            }
            Self::NoToken => (
                StatusCode::UNAUTHORIZED,
                json!({ "error": "expected the header \"authorization: Bearer ...\" with this node's admin token" }),
            ),
            Self::Failed(what) => (StatusCode::CONFLICT, json!({ "error": what })),
        };
        let mut response = (status, Json(body)).into_response();
        if let Self::TooMany { retry_after } = &self {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(*retry_after));
        }
        if self == Self::NoToken {
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// A JSON answer that no cache keeps.
pub(super) fn json(body: impl Serialize) -> Response {
    ([(CACHE_CONTROL, "no-store")], Json(body)).into_response()
}

/// A text answer that no cache keeps.
pub(super) fn text(status: StatusCode, content_type: &'static str, body: String) -> Response {
    (status, [(CONTENT_TYPE, content_type), (CACHE_CONTROL, "no-store")], body).into_response()
}
