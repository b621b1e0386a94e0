//! How nodes, checkers and operators reach the controller that leads.
//!
//! Only the leader of the controllers answers; the others say UNAVAILABLE and name it in the
//! metadata `weir-leader`. The one idea: all users of a process share one [`Controllers`], which
//! remembers where the leader was last seen. What one user learns, the others know.
//!
//! - A unary call goes through [`Controllers::call`]: it follows the leader, tries the other
//!   endpoints, and pauses with jitter, until its time is over. It may repeat a request whose
//!   answer was lost: every call of `weir.v1` is idempotent.
//! - A long stream takes a client from [`Controllers::connect`]. When the stream breaks, its user
//!   says so with [`Controllers::failed`], pauses by its [`Backoff`], and connects again. When
//!   messages flow, it says [`Controllers::worked`].
//!
//! What holds:
//! - **A wait has an end.** Connecting takes at most [`Settings::connect_timeout`]; a dead peer is
//!   noticed within `keep_alive_interval + keep_alive_timeout` also when nothing is sent.
//! - **A hint is only a hint.** A named leader is used with the same TLS settings as the
//!   endpoints. It never leads from `https` to `http`, and never takes a token in clear to
//!   another machine. Controllers that name each other in a circle cost pauses, not a hot loop.
//! - **Secrets stay inside.** Token and key are in no log line, no error and no `Debug`.

#![forbid(unsafe_code)]

mod address;
mod backoff;
mod controllers;
mod credentials;
mod error;
mod leading;
mod settings;

pub use address::Address;
pub use backoff::Backoff;
pub use controllers::{Client, Controllers, LEADER_METADATA, Peer};
pub use credentials::Bearer;
pub use error::Error;
pub use leading::Next;
pub use settings::{Settings, Tls};
