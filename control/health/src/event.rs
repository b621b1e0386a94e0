//! What the pool's health says to the registry and to operators.

use std::fmt;

use crate::lifecycle::{Cause, State};
use crate::outlier::Signal;
use crate::{Id, Millis};

/// A change of a backend's row in the registry. [`crate::PoolHealth`] has applied it already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    /// Whose row.
    pub backend: Id,
    /// The state before; `None` for a new backend. The same as `to` when only `ready` changed.
    pub from: Option<State>,
    /// The state now.
    pub to: State,
    /// The last known readiness, kept so that a new leader starts from it.
    pub ready: bool,
    /// Why.
    pub cause: Cause,
    /// When.
    pub at: Millis,
}

/// Something that an operator should be able to read afterwards. `Display` gives a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A backend changed its state or its readiness.
    Changed(Transition),
    /// More than the threshold's share is bad: all are served.
    PanicEntered {
        /// UNHEALTHY or not ready.
        bad: usize,
        /// Backends that count.
        of: usize,
    },
    /// Only good ones are served again.
    PanicLeft {
        /// UNHEALTHY or not ready.
        bad: usize,
        /// Backends that count.
        of: usize,
    },
    /// Some or all backends are frozen: too few of their checkers report. Said again when "some"
    /// turns to "all" or back.
    Frozen {
        /// Frozen ones.
        backends: usize,
        /// Of those that are checked.
        of: usize,
    },
    /// No backend is frozen any more.
    Thawed,
    /// The fleet has fewer checkers or zones than wanted.
    FewCheckers {
        /// Checkers that each backend has.
        checkers: usize,
        /// Checkers that each should have, in as many zones.
        wanted: usize,
        /// Zones that they stand in.
        zones: usize,
    },
    /// The backend flaps and is held down.
    Held {
        /// Who.
        backend: Id,
        /// For how long, in milliseconds.
        for_ms: Millis,
    },
    /// The backend fails clients and is out of the table for a while.
    OutlierEjected {
        /// Who.
        backend: Id,
        /// Which rate stood out.
        signal: Signal,
        /// The rate, per 1,000 new flows.
        permille: u64,
        /// The pool's median of it.
        median: u64,
        /// For how long, in milliseconds.
        for_ms: Millis,
    },
    /// Its time is over.
    OutlierReturned {
        /// Who.
        backend: Id,
    },
    /// Most nodes do not reach the backend through the tunnel, though its checkers may: it lost
    /// its VIP or its tunnel. No new flows.
    TunnelLost {
        /// Who.
        backend: Id,
        /// Nodes that get no answer.
        down: usize,
        /// Nodes that have a verdict.
        of: usize,
    },
    /// Enough nodes reach the backend again.
    TunnelBack {
        /// Who.
        backend: Id,
    },
    /// No node can say any more whether it reaches the backend, so that is no reason to keep it
    /// out.
    TunnelNotProbed {
        /// Who.
        backend: Id,
    },
    /// The backend fails clients, and stays because too many are out or bad already.
    OutlierCapped {
        /// Who.
        backend: Id,
    },
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Changed(t) if t.from == Some(t.to) => {
                let ready = if t.ready { "ready again" } else { "not ready: no new flows" };
                write!(f, "{}: {ready} ({})", t.backend, t.cause)
            }
            Self::Changed(t) => match t.from {
                Some(from) => write!(f, "{}: {from} -> {} ({})", t.backend, t.to, t.cause),
                None => write!(f, "{}: {} ({})", t.backend, t.to, t.cause),
            },
            Self::PanicEntered { bad, of } => {
                write!(f, "panic: {bad} of {of} backends are bad; all are served")
            }
            Self::PanicLeft { bad, of } => {
                write!(f, "panic is over: {bad} of {of} backends are bad; they are not served")
            }
            Self::Frozen { backends, of } => write!(
                f,
                "frozen: {backends} of {of} backends stay as last known; too few checkers report"
            ),
            Self::Thawed => write!(f, "thawed: every backend has a quorum of checkers again"),
            Self::FewCheckers { checkers, wanted, zones } => write!(
                f,
                "each backend has {checkers} of {wanted} checkers, in {zones} zone(s): \
                 one failure may leave no quorum"
            ),
            Self::Held { backend, for_ms } => {
                write!(f, "{backend}: flaps; held down for {} s", for_ms.div_ceil(1_000))
            }
            Self::OutlierEjected { backend, signal, permille, median, for_ms } => write!(
                f,
                "{backend}: outlier, {permille} {signal} per 1,000 new flows (median {median}); \
                 out for {} s",
                for_ms.div_ceil(1_000)
            ),
            Self::TunnelLost { backend, down, of } => write!(
                f,
                "{backend}: {down} of {of} nodes get no answer from its VIP through the tunnel: \
                 no new flows"
            ),
            Self::TunnelBack { backend } => {
                write!(f, "{backend}: answers to its VIP through the tunnel again")
            }
            Self::TunnelNotProbed { backend } => write!(
                f,
                "{backend}: no node probes its VIP through the tunnel any more: not kept out for it"
            ),
            Self::OutlierReturned { backend } => write!(f, "{backend}: outlier returns"),
            Self::OutlierCapped { backend } => {
                write!(f, "{backend}: outlier stays: too many are out or bad already")
            }
        }
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ClientResets => "client RSTs",
            Self::SynRetransmits => "SYN retransmits",
        })
    }
}
