//! Who may see the admin interface: whoever shows the token, where there is one.
//!
//! `/healthz` and `/readyz` answer anybody with their status, as load balancers and routing daemons
//! ask for no more; the reasons, and everything else, are for those with the token.

use std::path::Path;
use std::sync::Arc;
use std::{fmt, fs, io};

use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};

use super::AdminState;
use super::response::Refusal;

/// A bearer token (RFC 6750), kept as its SHA-256. `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Token([u8; 32]);

impl Token {
    /// The token in a file: its text without white space around it.
    ///
    /// # Errors
    /// When the file cannot be read, or holds nothing, or what cannot stand in a header.
    pub fn read(path: &Path) -> io::Result<Self> {
        let text = fs::read_to_string(path)?;
        Self::new(&text).ok_or_else(|| {
            let what = "holds no token (expected one line of visible ASCII characters)";
            io::Error::new(io::ErrorKind::InvalidData, what)
        })
    }

    /// A token; `None` for a text that cannot be one.
    pub fn new(text: &str) -> Option<Self> {
        let token = text.trim();
        let visible = token.bytes().all(|byte| byte.is_ascii_graphic());
        (visible && !token.is_empty()).then(|| Self::digest(token.as_bytes()))
    }

    fn digest(token: &[u8]) -> Self {
        Self(Sha256::digest(token).into())
    }

    /// Whether the request shows it. Digests are compared, so the time this takes says nothing
    /// about how much of a guess is right.
    pub(super) fn is_shown(&self, headers: &HeaderMap) -> bool {
        let Some(header) = headers.get(AUTHORIZATION) else { return false };
        let Some((scheme, token)) = header.as_bytes().split_at_checked(7) else { return false };
        scheme.eq_ignore_ascii_case(b"bearer ") && Self::digest(token.trim_ascii()) == *self
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// Whether a request may see everything.
pub(super) fn may_see(state: &AdminState, headers: &HeaderMap) -> bool {
    state.token.as_ref().is_none_or(|token| token.is_shown(headers))
}

/// Lets requests with the token through, and those to the two open paths.
pub(super) async fn ask_for_token(
    State(state): State<Arc<AdminState>>,
    request: Request,
    next: Next,
) -> Response {
    let open = matches!(request.uri().path(), "/healthz" | "/readyz");
    if open || may_see(&state, request.headers()) {
        return next.run(request).await;
    }
    Refusal::NoToken.into_response()
}
