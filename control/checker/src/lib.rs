//! Probes backends and reports to the controller.
//!
//! ```text
//!  controller ──WatchAssignments──▶ watching ──▶ fleet (what, when, verdicts)
//!                                                  │  ▲
//!                                     probing ◀────┘  │ findings
//!                                        └── probe ───┘
//!                                                  │ changed and repeated verdicts
//!  controller ◀───ReportHealth─── reporting ◀── outbox
//! ```
//!
//! The one idea: `fleet` and `outbox` are plain values that know neither clock nor network; three
//! tasks around them do the waiting. So the checker goes on probing when the controller is away,
//! and when it is back it hears what is true then, not what has piled up.
//!
//! What holds:
//! - A probe that this machine could not make is no vote against a backend.
//! - Memory is bounded by the number of assigned backends, probes under way by
//!   [`Settings::max_in_flight`], and that by the limit of open files.
//! - Every wait has an end, and every program that was started is killed with its group, at its
//!   timeout or with the checker.

#![forbid(unsafe_code)]

mod descriptors;
mod fleet;
mod histogram;
mod listener;
mod metrics;
mod outbox;
mod probe;
mod probing;
mod reporting;
mod settings;
mod shared;
mod target;
mod watching;

use std::net::SocketAddr;
use std::sync::Arc;

use client::Controllers;
use tokio::net::TcpListener;

pub use settings::{Error, Settings};

use crate::probe::Prober;
use crate::shared::Shared;

/// A checker that has all it needs, and has not begun.
pub struct Checker {
    shared: Arc<Shared>,
    controllers: Controllers,
    listener: Option<TcpListener>,
}

/// Runs a checker until `shutdown` is done.
///
/// # Errors
/// When the settings are wrong, a file cannot be read, or the HTTP address cannot be listened on.
/// Once it runs, nothing ends it but `shutdown`.
pub async fn run(settings: Settings, shutdown: impl Future<Output = ()>) -> Result<(), Error> {
    Checker::new(settings).await?.run(shutdown).await;
    Ok(())
}

impl Checker {
    /// Checks the settings, reads files, raises the limit of open files, and listens.
    ///
    /// # Errors
    /// As [`run`].
    pub async fn new(settings: Settings) -> Result<Self, Error> {
        settings.validate()?;
        let controllers = Controllers::new(settings.controllers.clone())?;
        let prober = Prober::new(settings.probe_ca.as_deref(), settings.max_commands)?;
        let max_in_flight = descriptors::room_for(settings.max_in_flight, settings.max_commands)?;
        let listener = match settings.http {
            Some(address) => Some(
                TcpListener::bind(address)
                    .await
                    .map_err(|source| Error::Listen { address, source })?,
            ),
            None => None,
        };
        let shared = Arc::new(Shared::new(settings, max_in_flight, prober));
        Ok(Self { shared, controllers, listener })
    }

    /// Where health and metrics are served.
    #[must_use]
    pub fn http_address(&self) -> Option<SocketAddr> {
        self.listener.as_ref().and_then(|listener| listener.local_addr().ok())
    }

    /// Works until `shutdown` is done.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let Self { shared, controllers, listener } = self;
        tracing::info!(
            id = shared.settings.id,
            zone = shared.settings.zone,
            max_in_flight = shared.max_in_flight,
            "checker runs"
        );
        let serve = async {
            match listener {
                Some(listener) => listener::serve(listener, Arc::clone(&shared)).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = shutdown => {}
            () = watching::watch(&shared, &controllers) => {}
            () = reporting::report(&shared, &controllers) => {}
            () = probing::probe_all(&shared) => {}
            () = serve => {}
        }
        tracing::info!(id = shared.settings.id, "checker ends");
    }
}
