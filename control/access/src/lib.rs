//! Who calls the control plane, and what they may: certificates, tokens, roles.
//!
//! The one idea: a connection says who its peer *is* (the names in a certificate that the client
//! CA signed), a request may *show* a token, and [`Access`], built from the `[[access]]` entries,
//! turns either into an [`Identity`] with a role. Handlers ask `access.caller(&request)?` and then
//! `identity.require(&[Role::Node])?`; the same two lines serve gRPC and HTTP, because both carry
//! the same [`Peer`] in the request's extensions and the same `authorization` header.
//!
//! Invariants: without entries nothing but a loopback address may be listened on; a secret is kept
//! as its SHA-256 alone and is in no error, log line or `Debug` form; whatever a stranger can make
//! grow (connections, handshakes, streams, rates) has a bound.
//!
//! In order of a call: [`listen`] accepts and shakes hands ([`tls`]), [`Peer`] names the other
//! side, [`Access`] finds the entry, [`Identity`] answers what it may, [`limits`] how much.
//! [`serve_http`] is the HTTP listener, [`Bearer`] the one-token form for a node's admin interface.

#![forbid(unsafe_code)]

pub mod limits;
pub mod listen;
pub mod tls;

mod bearer;
mod files;
mod fresh;
mod http;
mod identity;
mod list;
mod peer;
mod seats;
mod token;

pub use bearer::Bearer;
pub use files::FileError;
pub use fresh::keep_fresh;
pub use http::serve_http;
pub use identity::{Identity, Role};
pub use limits::{Guarded, RateLimiter, Share, StreamPlace, Streams};
pub use list::{Access, AccessError, Entry, Proof};
pub use listen::{Connection, Incoming, Listening};
pub use peer::Peer;
pub use tls::{ClientCertificates, Tls, TlsError, TlsSettings};
