//! The five states of a backend, and who may move it between them.
//!
//! One function, [`step`], knows every allowed transition. Operators register, drain, undrain and
//! deregister; a quorum of checkers admits and ejects; the drain timer ends a drain. The
//! invariant: **only what an operator began ends in EVICTED.** Ejection is reversible and touches
//! no TCP flow; eviction resets flows, so no probe, no readiness answer and no passive signal can
//! cause it, however many backends are bad at once.
//!
//! ```text
//!            register            admitted              ejected
//!   (none) ───────────▶ PENDING ──────────▶ HEALTHY ◀──────────▶ UNHEALTHY
//!      ▲                 │  ▲                  │      admitted        │
//!      │                 │  │ undrain          │ drain                │ drain
//!      │                 │  │                  ▼                      │
//!      │                 └──┴──drain───▶ DRAINING ◀───────────────────┘
//!      │ forget                              │ window over, or no flow left
//!      └───────────────── EVICTED ◀──────────┘  (and from any state: deregister)
//!                            └──register──▶ PENDING
//! ```

use std::fmt;

use thiserror::Error;

/// Where a backend is in its life. Kept in the registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum State {
    /// Registered, not yet admitted by a quorum of its checkers.
    Pending,
    /// Admitted. Gets new flows, unless it is not ready, held as an outlier, or of weight 0.
    Healthy,
    /// An operator is taking it out: no new flows, existing ones go on.
    Draining,
    /// Ejected by a quorum of its checkers: no new flows.
    Unhealthy,
    /// Taken out by an operator: its flows are reset.
    Evicted,
}

/// What a data-plane node does with flows that a backend already has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ExistingFlows {
    /// Every packet of the flow goes on to the backend.
    Stay,
    /// TCP goes on (the client sees the death itself); UDP is selected afresh. A pool may ask for
    /// TCP to be selected afresh too.
    TcpStays,
    /// TCP stragglers are answered with a RST, UDP is selected afresh.
    Reset,
}

/// Why a backend changes its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// An operator registered it.
    Register,
    /// An operator drains it.
    Drain,
    /// An operator takes a drain back.
    Undrain,
    /// An operator takes it out at once.
    Deregister,
    /// A quorum of its checkers finds it live and ready.
    Admitted,
    /// A quorum of its checkers finds it dead.
    Ejected,
    /// A quorum of its checkers says that it is ready, or is not: the state stays.
    Readiness,
    /// The bleed-out window of its drain is over.
    WindowOver,
    /// All nodes report that it has no flow left.
    FlowsGone,
}

/// Who stands behind a [`Cause`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Author {
    /// A person or a program that uses the API with the operator's role.
    Operator,
    /// A quorum of the backend's checkers.
    Quorum,
    /// The timer that an operator's drain started.
    DrainTimer,
}

/// Why a transition is not made. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
pub enum Refusal {
    /// No backend of this id (gRPC: NOT_FOUND).
    #[error("no such backend")]
    NotRegistered,
    /// The id is taken by a backend with other settings (gRPC: ALREADY_EXISTS).
    #[error("a backend of this id is registered with other settings")]
    AlreadyRegistered,
    /// The backend is EVICTED and can only be registered again (gRPC: FAILED_PRECONDITION).
    #[error("the backend is evicted: register it again")]
    IsEvicted,
    /// Only a DRAINING backend can be undrained (gRPC: FAILED_PRECONDITION).
    #[error("the backend is not draining")]
    NotDraining,
    /// Only an EVICTED backend can be forgotten (gRPC: FAILED_PRECONDITION).
    #[error("the backend is not evicted: drain or deregister it first")]
    NotEvicted,
    /// The cause means nothing in this state, as a verdict on a draining backend.
    #[error("this has no effect in the backend's state")]
    NoEffect,
}

/// The state after `cause`, from `from` (`None`: no such backend).
///
/// `Ok` of the same state means that the call is idempotent there and changes nothing.
///
/// # Errors
/// A [`Refusal`] when the transition does not exist.
pub fn step(from: Option<State>, cause: Cause) -> Result<State, Refusal> {
    use Cause::*;
    use State::*;
    match (from, cause) {
        // A new backend, or a new life for one that was taken out.
        (None | Some(Evicted), Register) => Ok(Pending),
        // An agent that registers its host again and again changes nothing by it; above all, it
        // does not undo an operator's drain.
        (Some(state), Register) => Ok(state),
        (None, _) => Err(Refusal::NotRegistered),

        // Taken out gracefully, whether it served or not: flows may be left from when it did.
        (Some(Pending | Healthy | Unhealthy), Drain) => Ok(Draining),
        // A second drain does not restart the window.
        (Some(Draining), Drain) => Ok(Draining),
        (Some(Evicted), Drain | Undrain) => Err(Refusal::IsEvicted),

        // A drain taken back: the checkers decide again, at once if they find it live and ready.
        (Some(Draining), Undrain) => Ok(Pending),
        (Some(Pending | Healthy | Unhealthy), Undrain) => Err(Refusal::NotDraining),

        // Taken out at once, with its flows.
        (Some(_), Deregister) => Ok(Evicted),

        // First found live and ready, or again after an ejection.
        (Some(Pending | Unhealthy), Admitted) => Ok(Healthy),
        // Found dead while it served.
        (Some(Healthy), Ejected) => Ok(Unhealthy),
        // Ready or not, a state never changes for it.
        (Some(Healthy), Readiness) => Ok(Healthy),
        // Never served: there is nothing to eject it from.
        (Some(Pending), Ejected | Readiness) => Err(Refusal::NoEffect),
        (Some(Healthy), Admitted) => Err(Refusal::NoEffect),
        (Some(Unhealthy), Ejected | Readiness) => Err(Refusal::NoEffect),
        // What checkers find does not matter once an operator has decided.
        (Some(Draining | Evicted), Admitted | Ejected | Readiness) => Err(Refusal::NoEffect),

        // The end of what an operator's drain began.
        (Some(Draining), WindowOver | FlowsGone) => Ok(Evicted),
        // No drain, no timer: nothing else may evict.
        (Some(Pending | Healthy | Unhealthy | Evicted), WindowOver | FlowsGone) => {
            Err(Refusal::NoEffect)
        }
    }
}

impl State {
    /// All states.
    pub const ALL: [Self; 5] =
        [Self::Pending, Self::Healthy, Self::Draining, Self::Unhealthy, Self::Evicted];

    /// May a backend in this state be in the pool's table, when nothing else speaks against it?
    #[must_use]
    pub fn eligible(self) -> bool {
        self == Self::Healthy
    }

    /// Do checkers have a say about a backend in this state?
    #[must_use]
    pub fn checked(self) -> bool {
        matches!(self, Self::Pending | Self::Healthy | Self::Unhealthy)
    }

    /// What nodes do with the flows that such a backend already has.
    #[must_use]
    pub fn existing_flows(self) -> ExistingFlows {
        match self {
            Self::Pending | Self::Healthy | Self::Draining => ExistingFlows::Stay,
            Self::Unhealthy => ExistingFlows::TcpStays,
            Self::Evicted => ExistingFlows::Reset,
        }
    }
}

impl fmt::Display for State {
    /// As in the registry and the API: `PENDING`, `HEALTHY`, ...
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pending => "PENDING",
            Self::Healthy => "HEALTHY",
            Self::Draining => "DRAINING",
            Self::Unhealthy => "UNHEALTHY",
            Self::Evicted => "EVICTED",
        })
    }
}

impl Cause {
    /// All causes.
    pub const ALL: [Self; 9] = [
        Self::Register,
        Self::Drain,
        Self::Undrain,
        Self::Deregister,
        Self::Admitted,
        Self::Ejected,
        Self::Readiness,
        Self::WindowOver,
        Self::FlowsGone,
    ];

    /// Who stands behind it.
    #[must_use]
    pub fn author(self) -> Author {
        match self {
            Self::Register | Self::Drain | Self::Undrain | Self::Deregister => Author::Operator,
            Self::Admitted | Self::Ejected | Self::Readiness => Author::Quorum,
            Self::WindowOver | Self::FlowsGone => Author::DrainTimer,
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Register => "registered by an operator",
            Self::Drain => "drained by an operator",
            Self::Undrain => "drain taken back by an operator",
            Self::Deregister => "deregistered by an operator",
            Self::Admitted => "a quorum of checkers finds it live and ready",
            Self::Ejected => "a quorum of checkers finds it dead",
            Self::Readiness => "a quorum of checkers changed its mind on readiness",
            Self::WindowOver => "the bleed-out window is over",
            Self::FlowsGone => "no flow is left on any node",
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_transition_is_in_this_table() {
        use Cause::*;
        use State::*;
        let states = [None, Some(Pending), Some(Healthy), Some(Draining), Some(Unhealthy)];
        for from in states.into_iter().chain([Some(Evicted)]) {
            for cause in Cause::ALL {
                let moved = match step(from, cause) {
                    Ok(to) if Some(to) != from => Some(to),
                    _ => None,
                };
                let expected = match (from, cause) {
                    (None | Some(Evicted), Register) | (Some(Draining), Undrain) => Some(Pending),
                    (Some(Pending | Unhealthy), Admitted) => Some(Healthy),
                    (Some(Healthy), Ejected) => Some(Unhealthy),
                    (Some(Pending | Healthy | Unhealthy), Drain) => Some(Draining),
                    (Some(Pending | Healthy | Unhealthy | Draining), Deregister) => Some(Evicted),
                    (Some(Draining), WindowOver | FlowsGone) => Some(Evicted),
                    _ => None,
                };
                assert_eq!(moved, expected, "{from:?} on {cause:?}");
            }
        }
    }

    #[test]
    fn what_a_state_means_for_the_table_and_for_flows() {
        for state in State::ALL {
            let (eligible, flows) = match state {
                State::Pending => (false, ExistingFlows::Stay),
                State::Healthy => (true, ExistingFlows::Stay),
                State::Draining => (false, ExistingFlows::Stay),
                State::Unhealthy => (false, ExistingFlows::TcpStays),
                State::Evicted => (false, ExistingFlows::Reset),
            };
            assert_eq!((state.eligible(), state.existing_flows()), (eligible, flows), "{state}");
        }
    }

    #[test]
    fn refusals_say_what_is_wrong() {
        assert_eq!(step(None, Cause::Drain), Err(Refusal::NotRegistered));
        assert_eq!(step(Some(State::Evicted), Cause::Drain), Err(Refusal::IsEvicted));
        assert_eq!(step(Some(State::Healthy), Cause::Undrain), Err(Refusal::NotDraining));
        assert_eq!(step(Some(State::Draining), Cause::Ejected), Err(Refusal::NoEffect));
    }

    proptest! {
        #[test]
        fn without_an_operator_nothing_is_ever_evicted(
            start in prop::sample::select(vec![State::Pending, State::Healthy, State::Unhealthy]),
            causes in prop::collection::vec(prop::sample::select(Cause::ALL.to_vec()), 0..64),
        ) {
            let mut state = start;
            for cause in causes.into_iter().filter(|c| c.author() != Author::Operator) {
                state = step(Some(state), cause).unwrap_or(state);
                prop_assert!(state.checked());
            }
        }
    }
}
