//! The two clocks: one for decisions, which never goes back, and one for people.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use health::Millis;

/// Milliseconds since the controller's start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// For decisions.
    pub(crate) fn now(&self) -> Millis {
        millis(self.start.elapsed())
    }
}

/// For display and for rows: nanoseconds since 1970.
pub(crate) fn unix_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// Whole milliseconds.
pub(crate) fn millis(duration: Duration) -> Millis {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
