//! What happens, for people: published once, heard by whoever listens.

use proto::v1::{Event, WatchEventsReq};
use tokio::sync::broadcast;
use tonic::Status;

use crate::clock::unix_ns;
use crate::office::Office;
use crate::stream::Reply;

/// Events that a slow listener may be behind before it misses some.
const KEPT: usize = 1024;

/// Where events are published. Cheap to clone; outlives terms.
#[derive(Clone, Debug)]
pub(crate) struct Events {
    sender: broadcast::Sender<Event>,
}

impl Events {
    pub(crate) fn new() -> Self {
        Self { sender: broadcast::Sender::new(KEPT) }
    }

    /// Tells everyone who listens.
    pub(crate) fn publish(&self, event: Event) {
        drop(self.sender.send(event));
    }
}

/// An event of now.
pub(crate) fn event(kind: &str, pool: &str, backend: &str, text: impl Into<String>) -> Event {
    Event {
        at_ns: unix_ns(),
        pool_id: pool.to_owned(),
        backend_id: backend.to_owned(),
        kind: kind.to_owned(),
        text: text.into(),
    }
}

/// What the health of a pool has to say.
pub(crate) fn of_health(pool: &str, said: &health::Event) -> Event {
    event("health", pool, "", said.to_string())
}

pub(crate) fn watch_events(
    _office: &Office,
    _request: WatchEventsReq,
) -> Result<Reply<Event>, Status> {
    Err(Status::unimplemented("WatchEvents"))
}
