//! States of a flow, and how they are inferred from the client's half alone.
//!
//! Under Direct Server Return the backend's SYN+ACK, FIN and RST never cross the node, so the
//! states of RFC 9293 section 3.3.2 are guessed from what the client sends:
//!
//! - SYN_RECV: a SYN was seen. Whether the backend answered is unknown.
//! - ESTABLISHED: the client sent something else, so it has the SYN+ACK, or the flow came
//!   here from another node in mid-life.
//! - FIN_WAIT: the client sent FIN. It may have closed first or second, and data towards it
//!   may go on for long: its acknowledgements keep the entry alive.
//! - TIME_WAIT: the client sent RST. If the backend did not accept that RST (RFC 5961
//!   section 3), the flow's packets still follow the entry; only its protection from
//!   eviction, and its backend at the next SYN, are given up.
//!
//! Protocols without a handshake have one state, by their idle time: UDP or OTHER.

const TCP: u8 = 6;
const UDP: u8 = 17;

/// What one packet means for its flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Segment {
    /// TCP with SYN and neither ACK nor RST: the client opens.
    Syn,
    /// TCP without SYN, FIN and RST; and SYN+ACK, which no client of a server sends.
    Ack,
    /// TCP with FIN: the client has no more to send.
    Fin,
    /// TCP with RST, whatever else is set: the client aborts.
    Rst,
    /// A packet of a protocol without connections, or one whose TCP flags are not visible.
    Datagram,
}

impl Segment {
    pub(crate) const COUNT: usize = 5;

    /// Classifies the flags octet of a TCP header (RFC 9293 section 3.1).
    #[inline]
    pub const fn from_tcp_flags(flags: u8) -> Segment {
        const FIN: u8 = 0x01;
        const SYN: u8 = 0x02;
        const RST: u8 = 0x04;
        const ACK: u8 = 0x10;
        if flags & RST != 0 {
            Segment::Rst
        } else if flags & (SYN | ACK) == SYN {
            Segment::Syn
        } else if flags & FIN != 0 {
            Segment::Fin
        } else {
            Segment::Ack
        }
    }
}

/// A packet as the table sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// What it means for the flow's state.
    pub segment: Segment,
    /// Bytes it adds to the flow's byte counter: the length of an IP packet.
    pub length: u16,
}

/// Where a flow stands. Each state has an idle timeout in [`Timeouts`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum State {
    /// SYN seen, nothing after it.
    SynReceived = 0,
    /// The client sends data or acknowledgements.
    Established = 1,
    /// The client sent FIN.
    FinWait = 2,
    /// The client sent RST.
    TimeWait = 3,
    /// UDP.
    Udp = 4,
    /// Any other protocol, on a VIP that takes all of them.
    Other = 5,
}

impl State {
    /// Number of states.
    pub const COUNT: usize = 6;

    /// The name used in dumps and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            State::SynReceived => "syn_recv",
            State::Established => "established",
            State::FinWait => "fin_wait",
            State::TimeWait => "time_wait",
            State::Udp => "udp",
            State::Other => "other",
        }
    }

    /// Whether the client has ended the connection.
    #[inline]
    pub const fn is_closing(self) -> bool {
        matches!(self, State::FinWait | State::TimeWait)
    }

    /// The state of a flow whose first packet seen here is `segment`.
    #[inline]
    pub const fn opening(protocol: u8, segment: Segment) -> State {
        match (protocol, segment) {
            (TCP, Segment::Syn) => State::SynReceived,
            // A flow that another node knew, or whose entry was lost or evicted.
            (TCP, Segment::Ack | Segment::Datagram) => State::Established,
            (TCP, Segment::Fin) => State::FinWait,
            (TCP, Segment::Rst) => State::TimeWait,
            (UDP, _) => State::Udp,
            (_, _) => State::Other,
        }
    }

    #[inline]
    pub(crate) const fn from_bits(bits: u8) -> State {
        match bits {
            0 => State::SynReceived,
            1 => State::Established,
            2 => State::FinWait,
            3 => State::TimeWait,
            4 => State::Udp,
            _ => State::Other,
        }
    }
}

/// Idle times in milliseconds after which an entry counts as gone, one for each state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    milliseconds: [u32; State::COUNT],
}

impl Timeouts {
    /// The idle time of a state, milliseconds.
    #[inline]
    pub const fn of(&self, state: State) -> u32 {
        self.milliseconds[state as usize]
    }

    /// The shortest of them, milliseconds.
    pub fn shortest(&self) -> u32 {
        self.milliseconds.iter().copied().min().unwrap_or(0)
    }

    /// The same timeouts with one of them changed. An entry is gone once it was idle for
    /// `milliseconds`; 0 keeps no entry in that state. Below 2^31 (24 days).
    #[must_use]
    pub const fn with(mut self, state: State, milliseconds: u32) -> Timeouts {
        self.milliseconds[state as usize] = milliseconds;
        self
    }
}

impl Default for Timeouts {
    /// SYN_RECV 30 s, ESTABLISHED 5 min, all others 60 s.
    fn default() -> Timeouts {
        Timeouts { milliseconds: [60_000; State::COUNT] }
            .with(State::SynReceived, 30_000)
            .with(State::Established, 300_000)
    }
}

/// What a packet does to a live entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) next: State,
    /// The packet continues what an earlier one opened.
    pub(crate) confirms: bool,
    /// What else follows from it.
    pub(crate) turn: Turn,
}

/// What a packet means beyond its flow's state. One field, so that the common packet is told from
/// all others by one comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Turn {
    /// Nothing.
    GoesOn,
    /// The client says that the backend fails it: see [`crate::Lookup::Complaint`].
    Complains,
    /// The packet opens a new connection on a closed 5-tuple: the entry is over.
    Reopens,
}

/// The step for a live entry in `state`. A table lookup, because a jump on what the next
/// packet happens to be would be mispredicted.
#[inline]
pub(crate) const fn step(state: State, segment: Segment) -> Step {
    STEPS[state as usize][segment as usize]
}

static STEPS: [[Step; Segment::COUNT]; State::COUNT] = {
    const SEGMENTS: [Segment; Segment::COUNT] =
        [Segment::Syn, Segment::Ack, Segment::Fin, Segment::Rst, Segment::Datagram];
    let mut steps = [[transition(State::Other, Segment::Datagram); Segment::COUNT]; State::COUNT];
    let mut state = 0;
    while state < State::COUNT {
        let mut segment = 0;
        while segment < Segment::COUNT {
            steps[state][segment] = transition(State::from_bits(state as u8), SEGMENTS[segment]);
            segment += 1;
        }
        state += 1;
    }
    steps
};

const fn transition(state: State, segment: Segment) -> Step {
    use Segment::{Ack, Datagram, Fin, Rst, Syn};
    use State::{Established, FinWait, Other, SynReceived, TimeWait, Udp};
    const fn keep(next: State) -> Step {
        Step { next, confirms: false, turn: Turn::GoesOn }
    }
    const fn confirm(next: State) -> Step {
        Step { next, confirms: true, turn: Turn::GoesOn }
    }
    const fn complain(next: State) -> Step {
        Step { next, confirms: false, turn: Turn::Complains }
    }
    match (state, segment) {
        // The SYN again: the SYN+ACK is late or lost, or a flood repeats itself.
        (SynReceived, Syn) => complain(SynReceived),
        // The client has the SYN+ACK.
        (SynReceived, Ack | Datagram) => confirm(Established),
        // RFC 5961 section 4: the backend answers with a challenge ACK. If the client did
        // restart, its RST in reply to that challenge closes the flow here as well.
        (Established, Syn) => keep(Established),
        // The connection at work.
        (Established, Ack | Datagram) => confirm(Established),
        // The client is done sending; the backend may not be.
        (SynReceived | Established, Fin) => keep(FinWait),
        // The client retransmits its FIN, or acknowledges what the backend still sends.
        (FinWait, Fin | Ack | Datagram) => keep(FinWait),
        // The client gives up.
        (SynReceived | Established, Rst) => complain(TimeWait),
        // A socket that the client has closed answers a straggler.
        (FinWait, Rst) => keep(TimeWait),
        // Reordered stragglers of an aborted connection, or the backend ignored the RST.
        (TimeWait, Ack | Fin | Rst | Datagram) => keep(TimeWait),
        // The client uses its port again: a new connection, with a fresh choice of backend.
        (FinWait | TimeWait, Syn) => {
            Step { next: SynReceived, confirms: false, turn: Turn::Reopens }
        }
        // No handshake: the second packet is what continues the first.
        (Udp, _) => confirm(Udp),
        (Other, _) => confirm(Other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Segment::*;
    use State::*;

    #[test]
    fn the_state_table_is_the_documented_one() {
        // Columns: Syn, Ack, Fin, Rst, Datagram. `None` is a new connection.
        let expected: [(State, [Option<State>; 5]); 6] = [
            (SynReceived, [SynReceived, Established, FinWait, TimeWait, Established].map(Some)),
            (Established, [Established, Established, FinWait, TimeWait, Established].map(Some)),
            (FinWait, [None, Some(FinWait), Some(FinWait), Some(TimeWait), Some(FinWait)]),
            (TimeWait, [None, Some(TimeWait), Some(TimeWait), Some(TimeWait), Some(TimeWait)]),
            (Udp, [Some(Udp); 5]),
            (Other, [Some(Other); 5]),
        ];
        for (state, row) in expected {
            for (segment, want) in [Syn, Ack, Fin, Rst, Datagram].into_iter().zip(row) {
                let step = step(state, segment);
                let got = if step.turn == Turn::Reopens { None } else { Some(step.next) };
                assert_eq!(got, want, "{state:?} on {segment:?}");
            }
        }
    }

    #[test]
    fn a_client_complains_by_a_second_syn_and_by_a_reset_before_its_fin() {
        for state in [SynReceived, Established, FinWait, TimeWait, Udp, Other] {
            for segment in [Syn, Ack, Fin, Rst, Datagram] {
                let complains = matches!(
                    (state, segment),
                    (SynReceived, Syn) | (SynReceived | Established, Rst)
                );
                let turn = step(state, segment).turn;
                assert_eq!(turn == Turn::Complains, complains, "{state:?} on {segment:?}");
            }
        }
    }

    #[test]
    fn only_packets_that_continue_a_flow_confirm_it() {
        for state in [SynReceived, Established] {
            assert!(!step(state, Syn).confirms);
            assert!(!step(state, Rst).confirms);
            assert!(!step(state, Fin).confirms);
            assert!(step(state, Ack).confirms);
        }
        assert!(step(Udp, Datagram).confirms);
        assert!(step(Other, Datagram).confirms);
    }

    #[test]
    fn tcp_flags_are_read_with_rst_first_and_syn_ack_as_no_opening() {
        let cases = [
            (0x02, Syn),
            (0xc2, Syn),
            (0x03, Syn),
            (0x12, Ack),
            (0x10, Ack),
            (0x18, Ack),
            (0x00, Ack),
            (0x11, Fin),
            (0x01, Fin),
            (0x04, Rst),
            (0x14, Rst),
            (0x06, Rst),
            (0xff, Rst),
        ];
        for (flags, segment) in cases {
            assert_eq!(Segment::from_tcp_flags(flags), segment, "{flags:#04x}");
        }
    }

    #[test]
    fn a_flow_opens_in_the_state_its_first_packet_shows() {
        assert_eq!(State::opening(6, Syn), SynReceived);
        assert_eq!(State::opening(6, Ack), Established);
        assert_eq!(State::opening(6, Fin), FinWait);
        assert_eq!(State::opening(6, Rst), TimeWait);
        assert_eq!(State::opening(17, Datagram), Udp);
        assert_eq!(State::opening(47, Datagram), Other);
    }

    #[test]
    fn default_timeouts_are_those_of_the_manual() {
        let timeouts = Timeouts::default();
        let all = [SynReceived, Established, FinWait, TimeWait, Udp, Other].map(|s| timeouts.of(s));
        assert_eq!(all, [30_000, 300_000, 60_000, 60_000, 60_000, 60_000]);
        assert_eq!(timeouts.with(Udp, 120_000).of(Udp), 120_000);
    }
}
