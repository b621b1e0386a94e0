//! How many plans are made at a time, and how many may wait: each one builds two tables.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::Status;

/// Plans that are made at a time.
const MADE: usize = 2;
/// Plans that wait their turn.
const WAITING: usize = 4;

/// The turns of plans. All clones are one.
#[derive(Clone, Debug)]
pub(crate) struct Turns {
    places: Arc<Semaphore>,
    turns: Arc<Semaphore>,
}

/// Held as long as a plan is being made, also when nobody waits for it any more.
pub(super) struct Turn {
    _place: OwnedSemaphorePermit,
    _turn: OwnedSemaphorePermit,
}

impl Turns {
    pub(crate) fn new() -> Self {
        let of = |permits| Arc::new(Semaphore::new(permits));
        Self { places: of(MADE + WAITING), turns: of(MADE) }
    }

    /// Waits behind at most [`WAITING`] others.
    ///
    /// # Errors
    /// RESOURCE_EXHAUSTED when as many wait.
    pub(super) async fn take(&self) -> Result<Turn, Status> {
        let place = Arc::clone(&self.places).try_acquire_owned();
        let _place = place.map_err(|_| {
            Status::resource_exhausted(format!(
                "{MADE} plans are being made and {WAITING} wait, the most there may be: back off"
            ))
        })?;
        let closed = |_| Status::unavailable("the controller is shutting down");
        let _turn = Arc::clone(&self.turns).acquire_owned().await.map_err(closed)?;
        Ok(Turn { _place, _turn })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic::Code;

    #[tokio::test]
    async fn a_few_plans_wait_and_the_next_is_refused() {
        let plans = Turns::new();
        let made = [plans.take().await.unwrap(), plans.take().await.unwrap()];
        let mut waiting = tokio::task::JoinSet::new();
        for _ in 0..WAITING {
            let plans = plans.clone();
            waiting.spawn(async move { plans.take().await.map(drop) });
        }
        while plans.places.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        let refused = plans.take().await.err().unwrap();
        assert_eq!(refused.code(), Code::ResourceExhausted);
        assert!(refused.message().contains("4 wait"), "{refused}");
        drop(made);
        while let Some(turn) = waiting.join_next().await {
            turn.unwrap().unwrap();
        }
        plans.take().await.unwrap();
    }
}
