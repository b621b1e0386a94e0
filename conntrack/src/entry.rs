//! One flow in one cache line.
//!
//! Invariant: an entry is plain bytes; every bit pattern is a valid entry. Whether a slot holds a
//! flow at all is said by its tag, and for those who do not ask it ([`crate::Entries::steady_v4`]) by
//! the word of state and flags, which is 0 in every slot that holds none: what no packet finds steady.

use core::fmt;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::key::FlowKey;
use crate::state::{Packet, Segment, State, Step, Turn, step};

/// Traffic both opened the flow and continued it.
const CONFIRMED: u8 = 1;
/// The flow's backend was evicted; stragglers are answered, not forwarded.
const TOMBSTONE: u8 = 2;
/// The byte counter has 48 bits. It cannot pass its end: it stops with the packet counter, and
/// 2^32 - 1 packets of 65,535 bytes are less.
const BYTES: u64 = (1 << STANDING) - 1;

/// Where a flow is pinned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pin {
    /// Dense index of the backend.
    pub backend: u32,
    /// Generation of that index, so that a reused index is not taken for its predecessor.
    pub generation: u16,
    /// Dense index of the VIP the flow came in on.
    pub vip: u32,
}

/// A tracked flow: 64 bytes, one cache line.
///
/// ```text
///  0        38    40      46   47    48     52        56        60    64
///  | key    | gen | bytes | st | fl | seen | packets | backend | vip |
/// ```
///
/// Bytes, state and flags are one word, little end first: a packet that changes neither state nor
/// flags is told by one comparison, and counted by one addition.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(64))]
pub struct Entry {
    key: FlowKey,
    generation: u16,
    /// Bits 0 to 47: bytes; 48 to 55: state; 56 to 63: flags.
    word: u64,
    last_seen: u32,
    packets: u32,
    backend: u32,
    vip: u32,
}

/// Where state and flags begin in [`Entry::word`].
const STANDING: u32 = 48;

/// State and flags of a flow that goes on as it did, by what its packet says. No flow stands at
/// [`RESTLESS`].
const STEADY: [u16; Segment::COUNT] = {
    let mut steady = [RESTLESS; Segment::COUNT];
    steady[Segment::Ack as usize] = standing(State::Established, CONFIRMED);
    steady[Segment::Datagram as usize] = standing(State::Udp, CONFIRMED);
    steady
};
const RESTLESS: u16 = u16::MAX;

const fn standing(state: State, flags: u8) -> u16 {
    (flags as u16) << 8 | state as u16
}

// An entry that was cleared, and memory that was zeroed, is steady for no packet.
const _: () = {
    let mut segment = 0;
    while segment < Segment::COUNT {
        assert!(STEADY[segment] != 0);
        segment += 1;
    }
};
const _: () = assert!(size_of::<Entry>() == 64 && align_of::<Entry>() == 64);

/// What a packet did to its entry.
pub(crate) enum Observed {
    Forward,
    Complaint,
    Expired,
    Reopened,
}

impl Entry {
    /// An entry for the first packet of a flow.
    #[inline]
    pub(crate) fn open(key: FlowKey, pin: Pin, packet: Packet, now: u32) -> Entry {
        Entry {
            key,
            generation: pin.generation,
            word: (standing(State::opening(key.protocol(), packet.segment), 0) as u64) << STANDING
                | u64::from(packet.length),
            last_seen: now,
            packets: 1,
            backend: pin.backend,
            vip: pin.vip,
        }
    }

    /// Makes this no flow's entry: it is steady for no packet.
    #[inline]
    pub(crate) fn clear(&mut self) {
        self.word = 0;
    }

    /// Whether it is no flow's entry.
    pub(crate) fn is_clear(&self) -> bool {
        self.word == 0
    }

    /// The flow's 5-tuple.
    #[inline]
    pub fn key(&self) -> &FlowKey {
        &self.key
    }

    /// Backend, generation and VIP.
    #[inline]
    pub fn pin(&self) -> Pin {
        Pin { backend: self.backend, generation: self.generation, vip: self.vip }
    }

    /// Dense index of the backend.
    #[inline]
    pub fn backend(&self) -> u32 {
        self.backend
    }

    /// Generation of the backend's index.
    #[inline]
    pub fn generation(&self) -> u16 {
        self.generation
    }

    /// Dense index of the VIP.
    #[inline]
    pub fn vip(&self) -> u32 {
        self.vip
    }

    /// Where the flow stands.
    #[inline]
    pub fn state(&self) -> State {
        State::from_bits((self.word >> STANDING) as u8)
    }

    #[inline]
    fn flags(&self) -> u8 {
        (self.word >> (STANDING + 8)) as u8
    }

    #[inline]
    fn stand(&mut self, state: State, flags: u8) {
        self.word = (standing(state, flags) as u64) << STANDING | self.bytes();
    }

    /// Whether traffic both opened the flow and continued it.
    #[inline]
    pub fn confirmed(&self) -> bool {
        self.flags() & CONFIRMED != 0
    }

    /// Whether the flow's backend was evicted.
    #[inline]
    pub fn tombstone(&self) -> bool {
        self.flags() & TOMBSTONE != 0
    }

    /// Time of the last packet, milliseconds on the caller's wrapping clock.
    #[inline]
    pub fn last_seen(&self) -> u32 {
        self.last_seen
    }

    /// Milliseconds since the last packet.
    #[inline]
    pub fn idle(&self, now: u32) -> u32 {
        now.wrapping_sub(self.last_seen)
    }

    /// Packets seen; stays at `u32::MAX`.
    #[inline]
    pub fn packets(&self) -> u32 {
        self.packets
    }

    /// Bytes of these packets; stays as it is when their number does.
    #[inline]
    pub fn bytes(&self) -> u64 {
        self.word & BYTES
    }

    /// Whether an entry that may idle for `limit` milliseconds is over.
    #[inline]
    pub(crate) fn expired(&self, now: u32, limit: u32) -> bool {
        self.idle(now) >= limit
    }

    /// Takes one packet of the flow: counts it and moves the state, if the entry is live and
    /// the packet belongs to the same connection; else leaves the entry alone.
    #[inline]
    pub(crate) fn observe(&mut self, packet: Packet, now: u32, limit: u32) -> Observed {
        if self.expired(now, limit) {
            return Observed::Expired;
        }
        let step = step(self.state(), packet.segment);
        // A SYN for a tombstone: the client took the RST and dials again.
        let dials_again = self.tombstone() && packet.segment == crate::Segment::Syn;
        if step.turn == Turn::GoesOn && !dials_again {
            self.advance(step, packet, now);
            return Observed::Forward;
        }
        if step.turn == Turn::Reopens || dials_again {
            return Observed::Reopened;
        }
        self.advance(step, packet, now);
        Observed::Complaint
    }

    #[inline(always)]
    fn advance(&mut self, step: Step, packet: Packet, now: u32) {
        let Step { next, confirms, .. } = step;
        let flags = self.flags() | (confirms as u8 * CONFIRMED);
        self.stand(next, flags);
        self.count(packet, now);
    }

    /// Whether the packet changes neither state nor flags of this entry, and it was idle for less
    /// than `shortest_idle`: what nearly every packet of a flow finds. [`Entry::count`] is then
    /// all there is to do.
    #[inline(always)]
    pub(crate) fn is_steady(&self, packet: Packet, now: u32, shortest_idle: u32) -> bool {
        (self.word >> STANDING) as u16 == STEADY[packet.segment as usize]
            && self.idle(now) < shortest_idle
    }

    /// Takes a packet for which the entry is steady.
    #[inline(always)]
    pub(crate) fn count(&mut self, packet: Packet, now: u32) {
        self.last_seen = now;
        // As many packets as that, of the longest there are, do not carry out of the bytes.
        if self.packets != u32::MAX {
            self.packets += 1;
            self.word += u64::from(packet.length);
        }
    }

    #[inline]
    pub(crate) fn repin(&mut self, backend: u32, generation: u16) {
        self.backend = backend;
        self.generation = generation;
        self.stand(self.state(), self.flags() & !TOMBSTONE);
    }

    #[inline]
    pub(crate) fn rebind(&mut self, vip: u32) {
        self.vip = vip;
    }

    #[inline]
    pub(crate) fn bury(&mut self) {
        self.stand(self.state(), self.flags() | TOMBSTONE);
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry")
            .field("key", &self.key)
            .field("pin", &self.pin())
            .field("state", &self.state())
            .field("confirmed", &self.confirmed())
            .field("tombstone", &self.tombstone())
            .field("last_seen", &self.last_seen)
            .field("packets", &self.packets)
            .field("bytes", &self.bytes())
            .finish()
    }
}

/// Why an entry left the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Idle past its timeout.
    Expired,
    /// Evicted to make room, while closing or a tombstone.
    Closing,
    /// Evicted to make room, before traffic had confirmed it.
    Unconfirmed,
    /// A new connection took over the 5-tuple.
    Superseded,
}

/// An entry that left the table: what gauges of active flows need to stay right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Removed {
    /// Where the flow was pinned.
    pub pin: Pin,
    /// The state it was in.
    pub state: State,
    /// Whether it was a tombstone.
    pub tombstone: bool,
    /// Why it left.
    pub cause: Cause,
}

impl Removed {
    #[inline]
    pub(crate) fn new(entry: &Entry, cause: Cause) -> Removed {
        Removed { pin: entry.pin(), state: entry.state(), tombstone: entry.tombstone(), cause }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Segment;
    use core::net::Ipv4Addr;

    fn entry(segment: Segment) -> Entry {
        let key = FlowKey::v4(Ipv4Addr::LOCALHOST, Ipv4Addr::BROADCAST, 1, 2, 6);
        let pin = Pin { backend: 7, generation: 3, vip: 9 };
        Entry::open(key, pin, Packet { segment, length: 60 }, 1000)
    }

    #[test]
    fn counters_stop_at_their_ends_and_leave_the_state_alone() {
        let mut entry = entry(Segment::Ack);
        entry.packets = u32::MAX - 2;
        entry.word += u64::from(u32::MAX - 3) * u64::from(u16::MAX);
        for _ in 0..4 {
            entry.observe(Packet { segment: Segment::Ack, length: u16::MAX }, 1000, 10);
        }
        let bytes = 60 + u64::from(u32::MAX - 1) * u64::from(u16::MAX);
        assert_eq!((entry.packets(), entry.bytes()), (u32::MAX, bytes));
        assert_eq!((entry.state(), entry.confirmed()), (State::Established, true));
    }

    #[test]
    fn the_short_way_is_for_what_goes_on_and_was_not_long_idle() {
        let ack = Packet { segment: Segment::Ack, length: 60 };
        let mut entry = entry(Segment::Syn);
        assert!(!entry.is_steady(ack, 1000, 10), "not yet confirmed");
        entry.observe(ack, 1000, 10);
        assert!(entry.is_steady(ack, 1009, 10) && !entry.is_steady(ack, 1010, 10));
        for segment in [Segment::Syn, Segment::Fin, Segment::Rst, Segment::Datagram] {
            assert!(!entry.is_steady(Packet { segment, length: 60 }, 1000, 10), "{segment:?}");
        }
        entry.bury();
        assert!(!entry.is_steady(ack, 1000, 10), "a tombstone");
    }

    #[test]
    fn an_entry_lives_for_its_timeout_and_not_a_millisecond_longer() {
        for last_seen in [0, 1000, u32::MAX - 5, u32::MAX] {
            let mut entry = entry(Segment::Ack);
            entry.last_seen = last_seen;
            assert!(!entry.expired(last_seen, 30), "at once");
            assert!(!entry.expired(last_seen.wrapping_add(29), 30), "just before");
            assert!(entry.expired(last_seen.wrapping_add(30), 30), "at the timeout");
        }
    }

    #[test]
    fn repinning_raises_a_flow_from_the_dead() {
        let mut entry = entry(Segment::Ack);
        entry.bury();
        assert!(entry.tombstone());
        entry.repin(8, 4);
        assert_eq!(entry.pin(), Pin { backend: 8, generation: 4, vip: 9 });
        assert!(!entry.tombstone());
    }
}
