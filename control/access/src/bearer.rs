//! One token before a whole router: what a node's admin interface needs.

use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use http::header::{CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};

use crate::identity::Role;
use crate::list::{Access, AccessError, Entry, Proof};

/// The tokens of one file, each of which opens everything.
#[derive(Clone, Debug)]
pub struct Bearer(Arc<Access>);

impl Bearer {
    /// Reads the file: one token a line.
    ///
    /// # Errors
    /// [`AccessError::Token`] if it cannot be used.
    pub fn open(token_file: impl Into<PathBuf>) -> Result<Self, AccessError> {
        let proof = Proof::TokenFile(token_file.into());
        let entry = Entry { name: "admin".to_owned(), role: Role::Operator, proof };
        Ok(Self(Arc::new(Access::new(vec![entry])?)))
    }

    /// Reads the file again. True if anything changed.
    ///
    /// # Errors
    /// As [`Bearer::open`]; the tokens are then what they were.
    pub fn reload(&self) -> Result<bool, AccessError> {
        self.0.reload()
    }

    /// The list behind it, for [`crate::keep_fresh`].
    #[must_use]
    pub fn access(&self) -> &Arc<Access> {
        &self.0
    }

    /// Puts the token before all routes of `router`: without it they answer 401 and
    /// `{"error": ...}`.
    pub fn protect<S: Clone + Send + Sync + 'static>(&self, router: Router<S>) -> Router<S> {
        router.layer(from_fn_with_state(Arc::clone(&self.0), check))
    }
}

async fn check(State(access): State<Arc<Access>>, request: Request, next: Next) -> Response {
    let (head, body) = request.into_parts();
    let Err(refused) = access.http_caller(&head) else {
        return next.run(Request::from_parts(head, body)).await;
    };
    let body = serde_json::json!({ "error": refused.message() }).to_string();
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = StatusCode::UNAUTHORIZED;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    response
}
