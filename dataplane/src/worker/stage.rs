//! The stages of a worker's round, and who is told when each is over.
//!
//! The worker is generic over its [`Meter`]: the one that `weir run` uses, [`Unmetered`], does
//! nothing and has no size, so that the path of a node is compiled without any of it. A benchmark
//! puts a clock there. A stage takes a whole burst, so a meter is asked once a burst and stage, not
//! once a packet.

/// A part of a worker's round, in the order a burst meets them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Taking a burst from the port.
    Receive,
    /// Headers into values, each checked; the flow's hash; its tags asked for.
    Parse,
    /// The slot of each flow; its entry asked for, or what a new one will be made of.
    Probe,
    /// The VIP and the entry of each flow, or a new one; its state and its backend; the outer header;
    /// all counters.
    Forward,
    /// Handing the packets to their ports: a burst all of which goes to one, and at the end of the round
    /// what else waits.
    Transmit,
    /// A slice of the flow table gone through for flows whose time is over.
    Reap,
    /// All else: what is rare, what is asked for between bursts, the clock, the pin.
    Rest,
}

impl Stage {
    /// All of them, in order.
    pub const ALL: [Self; 7] = [
        Self::Receive,
        Self::Parse,
        Self::Probe,
        Self::Forward,
        Self::Transmit,
        Self::Reap,
        Self::Rest,
    ];

    /// Its name, in lower case.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Receive => "receive",
            Self::Parse => "parse",
            Self::Probe => "probe",
            Self::Forward => "forward",
            Self::Transmit => "transmit",
            Self::Reap => "reap",
            Self::Rest => "rest",
        }
    }
}

/// Is told when a stage is over: all time since it was told before belongs to that stage.
pub trait Meter {
    /// `stage` is over.
    fn passed(&mut self, stage: Stage);
}

/// No meter.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unmetered;

impl Meter for Unmetered {
    #[inline(always)]
    fn passed(&mut self, _: Stage) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_are_listed_once_and_in_order() {
        assert!(Stage::ALL.is_sorted_by(|before, after| before < after));
        let last = Stage::ALL.len() - 1;
        assert_eq!(Stage::ALL.map(|stage| stage as usize)[last], last);
    }

    #[test]
    fn no_meter_takes_no_room() {
        assert_eq!(size_of::<Unmetered>(), 0);
    }
}
