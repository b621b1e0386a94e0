//! What happens in the control plane, told to whoever watches.
//!
//! One bounded broadcast, and a ring of the last events for those who come late. Nobody who
//! publishes ever waits: a watcher that is too slow loses the oldest events it has not read, and
//! is told how many, by an event of kind [`MISSED`]. Events are for people and their tools, not
//! for state: who needs state lists it, or watches snapshots.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use proto::v1::{Event, WatchEventsReq};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tonic::Status;

use crate::clock::unix_ns;
use crate::office::Office;
use crate::stream::{Reply, fed};

/// Events that a watcher may be behind before it loses the oldest.
const CHANNEL: usize = 1024;
/// Events kept for watchers that come late.
pub(crate) const RECENT: usize = 256;
/// Events on their way to one caller.
const QUEUE: usize = 16;
/// The kind of the event that stands for lost ones.
pub(crate) const MISSED: &str = "missed";

/// The broadcast. Cheap to clone; all clones are one.
#[derive(Clone, Debug)]
pub(crate) struct Events {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// Oldest first. Held while sending too, so that a watcher sees replayed and new events
    /// without a gap or a repetition between them.
    recent: Mutex<VecDeque<Event>>,
    sender: broadcast::Sender<Event>,
}

/// One watcher's place in the broadcast.
#[derive(Debug)]
pub(crate) struct Subscription {
    replay: VecDeque<Event>,
    receiver: broadcast::Receiver<Event>,
}

impl Events {
    /// Nothing has happened yet.
    pub(crate) fn new() -> Self {
        Self::with_room(CHANNEL)
    }

    fn with_room(room: usize) -> Self {
        let (sender, _) = broadcast::channel(room);
        Self { shared: Arc::new(Shared { recent: Mutex::default(), sender }) }
    }

    /// Tells all watchers. An event without a time gets that of now.
    pub(crate) fn publish(&self, mut event: Event) {
        if event.at_ns == 0 {
            event.at_ns = unix_ns();
        }
        let mut recent = self.shared.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if recent.len() >= RECENT {
            recent.pop_front();
        }
        recent.push_back(event.clone());
        // An error says that nobody watches.
        let _ = self.shared.sender.send(event);
    }

    /// Everything from now on, after up to `replay` (at most [`RECENT`]) events of before.
    pub(crate) fn subscribe(&self, replay: usize) -> Subscription {
        let recent = self.shared.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let skip = recent.len().saturating_sub(replay);
        Subscription {
            replay: recent.iter().skip(skip).cloned().collect(),
            receiver: self.shared.sender.subscribe(),
        }
    }
}

impl Subscription {
    /// The next event; `None` when there will be no more.
    pub(crate) async fn next(&mut self) -> Option<Event> {
        if let Some(event) = self.replay.pop_front() {
            return Some(event);
        }
        match self.receiver.recv().await {
            Ok(event) => Some(event),
            Err(RecvError::Lagged(missed)) => Some(event(
                MISSED,
                "",
                "",
                format!("{missed} events were lost: this watcher read too slowly"),
            )),
            Err(RecvError::Closed) => None,
        }
    }
}

/// An event of now. `pool` and `backend` are empty when it is about none.
pub(crate) fn event(kind: &str, pool: &str, backend: &str, text: impl Into<String>) -> Event {
    Event {
        at_ns: unix_ns(),
        pool_id: pool.to_owned(),
        backend_id: backend.to_owned(),
        kind: kind.to_owned(),
        text: text.into(),
    }
}

/// What the health of a pool has to say, in the words of the wire.
pub(crate) fn of_health(pool: &str, said: &health::Event) -> Event {
    use health::Event as Said;
    let (kind, backend) = match said {
        Said::Changed(change) if change.from == Some(change.to) => {
            ("backend_ready", Some(&change.backend))
        }
        Said::Changed(change) => ("backend_state", Some(&change.backend)),
        Said::PanicEntered { .. } => ("panic_entered", None),
        Said::PanicLeft { .. } => ("panic_left", None),
        Said::Frozen { .. } => ("frozen", None),
        Said::Thawed => ("thawed", None),
        Said::FewCheckers { .. } => ("few_checkers", None),
        Said::Held { backend, .. } => ("backend_held", Some(backend)),
        Said::TunnelLost { backend, .. } => ("tunnel_lost", Some(backend)),
        Said::TunnelBack { backend } | Said::TunnelNotProbed { backend } => {
            ("tunnel_back", Some(backend))
        }
        Said::OutlierEjected { backend, .. } => ("outlier_ejected", Some(backend)),
        Said::OutlierReturned { backend } => ("outlier_returned", Some(backend)),
        Said::OutlierCapped { backend } => ("outlier_capped", Some(backend)),
    };
    event(kind, pool, backend.map_or("", |id| id), said.to_string())
}

/// `WatchEvents`: the last `replay` events, then everything from now on.
pub(crate) fn watch_events(
    office: &Office,
    request: WatchEventsReq,
) -> Result<Reply<Event>, Status> {
    let replay = usize::try_from(request.replay).unwrap_or(usize::MAX);
    let mut events = office.events.subscribe(replay);
    Ok(fed(QUEUE, |answers| async move {
        loop {
            let next = tokio::select! {
                next = events.next() => next,
                () = answers.closed() => return,
            };
            let Some(event) = next else { return };
            if answers.send(Ok(event)).await.is_err() {
                return;
            }
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbered(n: usize) -> Event {
        event("test", "web", "", n.to_string())
    }

    #[tokio::test]
    async fn all_watchers_see_all_events_in_order() {
        let events = Events::new();
        let (mut one, mut two) = (events.subscribe(0), events.clone().subscribe(0));
        for n in 0..10 {
            events.publish(numbered(n));
        }
        for n in 0..10 {
            assert_eq!(one.next().await.expect("an event").text, n.to_string());
            assert_eq!(two.next().await.expect("an event").text, n.to_string());
        }
        drop(events);
        assert_eq!(one.next().await, None);
    }

    #[tokio::test]
    async fn a_late_watcher_sees_recent_events_then_new_ones() {
        let events = Events::new();
        for n in 0..RECENT + 7 {
            events.publish(numbered(n));
        }
        let mut late = events.subscribe(3);
        events.publish(numbered(RECENT + 7));
        for n in RECENT + 4..RECENT + 8 {
            assert_eq!(late.next().await.expect("an event").text, n.to_string());
        }
        let mut greedy = events.subscribe(usize::MAX);
        assert_eq!(greedy.next().await.expect("an event").text, "8", "the ring is bounded");
    }

    #[tokio::test]
    async fn a_slow_watcher_is_told_how_many_it_missed() {
        let events = Events::with_room(4);
        let mut slow = events.subscribe(0);
        for n in 0..9 {
            events.publish(numbered(n));
        }
        let missed = slow.next().await.expect("an event");
        assert_eq!(missed.kind, MISSED);
        assert!(missed.text.starts_with("5 events"), "{}", missed.text);
        assert_eq!(slow.next().await.expect("an event").text, "5");
    }

    #[test]
    fn health_speaks_in_kinds_that_programs_can_match() {
        let said = health::Event::Frozen { backends: 2, of: 3 };
        let event = of_health("web", &said);
        assert_eq!((event.kind.as_str(), event.pool_id.as_str()), ("frozen", "web"));
        let said = health::Event::OutlierReturned { backend: "b1".into() };
        let event = of_health("web", &said);
        assert_eq!((event.kind.as_str(), event.backend_id.as_str()), ("outlier_returned", "b1"));
        assert_eq!(event.text, said.to_string());
    }
}
