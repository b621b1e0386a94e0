//! Which backends get new flows, and why: the decisions of the control plane, without its I/O.
//!
//! Everything here is a plain value with plain methods. There is no clock (times are
//! [`Millis`] since a start of the caller's choosing, never going back), no network, no thread,
//! and no chance: the same inputs give the same decisions, so that a story from production can
//! be told again in a test.
//!
//! # The way of a probe
//!
//! 1. A checker probes a backend and keeps a [`thresholds::CheckerView`] of it: 3 failures down,
//!    2 passes up, for liveness and readiness apart. It probes those backends that
//!    [`assign::assign`] gives it: each backend has 3 checkers, in different zones.
//! 2. It reports its verdicts to the controller, which puts them into the [`PoolHealth`] of the
//!    backend's pool. There, [`quorum::Votes`] counts: 2 of 3 decide, reports older than 15 s
//!    count for nothing, and without a quorum the backend is frozen as last known.
//! 3. [`PoolHealth::tick`] draws the conclusions. **Liveness ejects; readiness admits**: dead is
//!    UNHEALTHY; live and ready is HEALTHY; HEALTHY and not ready gets no new flows and keeps its
//!    state. [`lifecycle::step`] is the one place that knows the allowed transitions, and lets
//!    only an operator's act end in EVICTED.
//! 4. What is admitted may still wait: [`debounce`] holds flapping backends down, [`slow_start`]
//!    ramps weights, [`outlier`] takes out, for a while, those that fail clients though not
//!    probes, and [`tunnel`] those that nodes miss at their VIP.
//! 5. [`panic`] has the last word: when more than half of the pool is bad, all serve.
//! 6. Drains run beside all this: [`drain`] ends one when its window is over or no flow is left.
//!
//! What comes out: the [`Effective`] list (who is in the table, with which weight, and why in
//! words), [`Transition`]s to be written to the registry, and [`Event`]s for operators.
//!
//! # What holds
//!
//! - Without an operator's drain or deregister nothing becomes EVICTED.
//! - One checker, lying or cut off, changes nothing.
//! - The state, readiness and weight of a frozen backend change only by an operator's act.
//! - An ejection is never delayed: not by debouncing, not by outlier caps, not by panic (which
//!   serves the backend, and still says UNHEALTHY).
//! - The order of reports between two ticks does not matter.

#![forbid(unsafe_code)]

pub mod assign;
pub mod debounce;
pub mod drain;
mod event;
pub mod lifecycle;
pub mod outlier;
pub mod panic;
pub mod pool;
pub mod quorum;
mod settings;
pub mod slow_start;
pub mod thresholds;
pub mod tunnel;

use std::sync::Arc;

pub use event::{Event, Transition};
pub use pool::{Effective, NodeReport, Outcome, PoolHealth, Report, Row};
pub use settings::{Settings, SettingsError};

/// The name of a backend, checker, zone or node. Cheap to clone.
pub type Id = Arc<str>;

/// Milliseconds since a start that the caller chose once. Never goes back.
pub type Millis = u64;
