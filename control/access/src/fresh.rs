//! Picks up new certificates and tokens while the program runs.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use crate::list::Access;
use crate::tls::Tls;

/// Reads all files again every `every`, until the future is dropped: the contents are compared,
/// so it does not matter how they were replaced. A file that cannot be used is logged, and what was
/// in use stays.
pub async fn keep_fresh(access: Arc<Access>, tls: Option<Arc<Tls>>, every: Duration) {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    loop {
        ticks.tick().await;
        let (access, tls) = (Arc::clone(&access), tls.clone());
        // Files may be on a file system that hangs.
        let read = tokio::task::spawn_blocking(move || refresh(&access, tls.as_deref()));
        if let Err(error) = read.await {
            tracing::error!(%error, "reading certificates and tokens again failed");
        }
    }
}

fn refresh(access: &Access, tls: Option<&Tls>) {
    match access.reload() {
        Ok(true) => tracing::info!("tokens were replaced"),
        Ok(false) => {}
        Err(error) => tracing::warn!(%error, "tokens stay as they were"),
    }
    match tls.map(Tls::reload) {
        Some(Ok(true)) => tracing::info!("certificates were replaced"),
        Some(Err(error)) => tracing::warn!(%error, "certificates stay as they were"),
        Some(Ok(false)) | None => {}
    }
}
