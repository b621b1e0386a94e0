//! Datagrams whose fragments are passing by, and the fragments that wait for the first of theirs.
//!
//! ```text
//!  slots   | 8 ways | 8 ways | ...      a datagram in the set that its keyed hash names
//!              │ chain of places
//!  waiting | p | p |   | p | ...        a ring, filled in turn: the next place is the oldest
//! ```
//!
//! All memory is taken at the start, and every way it can run out has a stated loser:
//!
//! - A full set gives up a timed-out datagram, else one of the newcomer's own sender, else one of
//!   which a single fragment has come, else any; of equals the oldest. So one sender costs all
//!   others together at most one slot in a set, an eighth, whatever it sends; from forged senders,
//!   datagrams of which more has come are the last to go.
//! - A waiting fragment is pushed out after [`WAITING`] newer ones have come, and not before.
//! - A datagram has at most [`WAITING_PER_DATAGRAM`] waiting, and one sender (a keyed hash of it,
//!   to be exact) at most [`WAITING_PER_SENDER`], a quarter.
//!
//! A datagram that loses one fragment is lost to its receiver: the rest is not forwarded either.
//! One that is complete is forgotten at once, so that its identification is free again.

use conntrack::FlowKey;

use super::Piece;
use super::coverage::{Added, BITMAP, Bitmap, Coverage};
use super::waiting::{Chain, Waiting, WaitingRing};
use crate::verdict::DropReason;

/// Datagrams that one worker remembers.
pub const DATAGRAMS: usize = 1024;
/// Slots of a set.
const WAYS: usize = 8;
/// Fragments that wait at one worker.
pub const WAITING: usize = 512;
/// Fragments of one datagram that wait: of 65,535 bytes in packets of 1,280, and some.
pub const WAITING_PER_DATAGRAM: u16 = 64;
/// Fragments of one sender that wait.
pub const WAITING_PER_SENDER: u16 = 128;
/// Slots looked at in each round for datagrams whose time is over.
const SWEEP: usize = 4;

/// What is known of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Free,
    /// Its first fragment has not come; others wait.
    Headless,
    /// Its first fragment was of this flow.
    Flow(FlowKey),
    /// It goes to this backend: VIP, index, generation.
    Bound(u32, u32, u16),
    /// It is dropped, with whatever comes of it.
    Discarded(DropReason),
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    name: FlowKey,
    state: State,
    since_ms: u32,
    /// Which of all datagrams it was: in a flood many come in a millisecond.
    number: u32,
    sender: u64,
    coverage: Coverage,
    chain: Chain,
}

/// A fragment that has come.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// Its datagram's name.
    pub name: FlowKey,
    /// Keyed hash of that name.
    pub hash: u64,
    /// Keyed hash of its sender.
    pub sender: u64,
    /// What part of the datagram it is.
    pub piece: Piece,
    /// Of the first fragment: its flow.
    pub flow: Option<FlowKey>,
}

/// What is to be done with a fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entered {
    /// It is the first: forward it, then all of [`Datagrams::next_released`] of this slot.
    First(u16),
    /// Forward it as one of this flow.
    Later(FlowKey),
    /// Forward it to this backend: VIP, index, generation.
    Bound(u32, u32, u16),
    /// The first has not come: [`Datagrams::wait`] or [`Datagrams::bind`] with this slot.
    Headless(u16),
    /// Drop it.
    Drop(DropReason),
}

/// Fragments that waited and were dropped, since it was last asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// Their datagram's first fragment did not come in time.
    pub timeout: u64,
    /// They had to make room.
    pub no_room: u64,
    /// Their datagram contradicted itself.
    pub overlap: u64,
}

/// The table of one worker; see the module.
#[derive(Debug)]
pub struct Datagrams<B> {
    slots: Box<[Slot]>,
    /// By slot. Pages that no datagram was ever noted in cost nothing.
    bitmaps: Box<[u64]>,
    waiting: WaitingRing<B>,
    len: usize,
    opened: u32,
    sweep: usize,
    losses: Losses,
}

impl Default for Slot {
    fn default() -> Self {
        let nobody = std::net::Ipv4Addr::UNSPECIFIED;
        Self {
            name: FlowKey::v4(nobody, nobody, 0, 0, 0),
            state: State::Free,
            since_ms: 0,
            number: 0,
            sender: 0,
            coverage: Coverage::default(),
            chain: Chain::default(),
        }
    }
}

impl<B> Default for Datagrams<B> {
    fn default() -> Self {
        Self {
            slots: vec![Slot::default(); DATAGRAMS].into(),
            bitmaps: vec![0; DATAGRAMS * BITMAP].into(),
            waiting: WaitingRing::default(),
            len: 0,
            opened: 0,
            sweep: 0,
            losses: Losses::default(),
        }
    }
}

impl<B> Datagrams<B> {
    /// Takes note of a fragment.
    pub fn enter(&mut self, arrival: &Arrival, timeout_ms: u32, now_ms: u32) -> Entered {
        let at = match self.find(arrival, timeout_ms, now_ms) {
            Some(at) => at,
            None => self.open(arrival, timeout_ms, now_ms),
        };
        let Some(slot) = self.slots.get_mut(at) else {
            return Entered::Drop(DropReason::FragmentNoRoom);
        };
        if let State::Discarded(reason) = slot.state {
            return Entered::Drop(reason);
        }
        let (bitmaps, _) = self.bitmaps.as_chunks_mut::<BITMAP>();
        let Some(bitmap) = bitmaps.get_mut(at) else {
            return Entered::Drop(DropReason::FragmentNoRoom);
        };
        let added = slot.coverage.add(bitmap, &arrival.piece);
        // Two first fragments of different flows: one of them is not this datagram's.
        let other =
            matches!((slot.state, arrival.flow), (State::Flow(known), Some(new)) if known != new);
        if added == Added::Overlap || other {
            self.discard(at, DropReason::FragmentOverlap);
            return Entered::Drop(DropReason::FragmentOverlap);
        }
        let complete = slot.coverage.is_complete();
        match (slot.state, arrival.flow) {
            (State::Headless, None) if added == Added::Copy => {
                Entered::Drop(DropReason::FragmentDuplicate)
            }
            (State::Headless, None) => Entered::Headless(at as u16),
            (State::Headless | State::Flow(_), Some(flow)) => {
                slot.state = State::Flow(flow);
                Entered::First(at as u16)
            }
            (State::Flow(flow), None) => {
                if complete {
                    self.free(at);
                }
                Entered::Later(flow)
            }
            (State::Bound(vip, backend, generation), _) => {
                if complete {
                    self.free(at);
                }
                Entered::Bound(vip, backend, generation)
            }
            (State::Free | State::Discarded(_), _) => Entered::Drop(DropReason::FragmentNoRoom),
        }
    }

    /// Keeps a fragment of a datagram whose first has not come.
    ///
    /// # Errors
    /// The fragment, when its datagram or its sender has enough of them waiting; the datagram is
    /// given up.
    pub fn wait(&mut self, at: u16, waiting: Waiting<B>, now_ms: u32) -> Result<(), Waiting<B>> {
        let place = usize::from(at);
        let Some(slot) = self.slots.get(place) else { return Err(waiting) };
        if !self.waiting.may_wait(&slot.chain, slot.sender) {
            self.discard(place, DropReason::FragmentNoRoom);
            return Err(waiting);
        }
        if let Some(older) = self.waiting.in_the_way() {
            self.discard(older, DropReason::FragmentNoRoom);
            if older == place {
                return Err(waiting);
            }
        }
        if let Some(slot) = self.slots.get_mut(place) {
            self.waiting.push(&mut slot.chain, (at, slot.sender), waiting, now_ms);
        }
        Ok(())
    }

    /// Sends the datagram, with whatever will come of it, to this backend.
    pub fn bind(&mut self, at: u16, vip: u32, backend: u32, generation: u16) {
        if let Some(slot) = self.slots.get_mut(usize::from(at)) {
            slot.state = State::Bound(vip, backend, generation);
        }
    }

    /// The next fragment that waited for this slot's first one, which has come; after the last of
    /// them the datagram is forgotten if it is complete.
    pub fn next_released(&mut self, at: u16) -> Option<Waiting<B>> {
        let at = usize::from(at);
        let released = self.unchain(at);
        if released.is_none() && self.slots.get(at).is_some_and(|slot| slot.coverage.is_complete())
        {
            self.free(at);
        }
        released
    }

    /// Drops what has waited for too long, and forgets a few datagrams whose time is over.
    pub fn expire(&mut self, wait_ms: u32, timeout_ms: u32, now_ms: u32) {
        // Each discards a fragment at least.
        for _ in 0..WAITING {
            let Some(slot) = self.waiting.overdue(wait_ms, now_ms) else { break };
            self.discard(slot, DropReason::FragmentTimeout);
        }
        for _ in 0..SWEEP {
            self.sweep = (self.sweep + 1) % DATAGRAMS;
            self.forget_if_over(self.sweep, timeout_ms, now_ms);
        }
    }

    /// Datagrams remembered.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Fragments that wait.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Fragments that were lost while they waited, since this was last called.
    pub fn take_losses(&mut self) -> Losses {
        std::mem::take(&mut self.losses)
    }

    fn find(&mut self, arrival: &Arrival, timeout_ms: u32, now_ms: u32) -> Option<usize> {
        let set = Self::set(arrival.hash);
        let at = set.clone().find(|at| {
            self.slots
                .get(*at)
                .is_some_and(|slot| slot.state != State::Free && slot.name == arrival.name)
        })?;
        if self.forget_if_over(at, timeout_ms, now_ms) { None } else { Some(at) }
    }

    fn set(hash: u64) -> std::ops::Range<usize> {
        let first = (hash as usize % (DATAGRAMS / WAYS)) * WAYS;
        first..first + WAYS
    }

    /// Makes a slot the datagram's; see the module for whose it was.
    fn open(&mut self, arrival: &Arrival, timeout_ms: u32, now_ms: u32) -> usize {
        self.opened = self.opened.wrapping_add(1);
        let opened = self.opened;
        let rank = |slot: &Slot| {
            let age = now_ms.wrapping_sub(slot.since_ms);
            let class = match slot.state {
                State::Free => 4,
                _ if age >= timeout_ms => 3,
                _ if slot.sender == arrival.sender => 2,
                _ if slot.coverage.pieces() <= 1 => 1,
                _ => 0,
            };
            (class, opened.wrapping_sub(slot.number))
        };
        let set = Self::set(arrival.hash);
        let victim = set.clone().max_by_key(|at| self.slots.get(*at).map(rank));
        let at = victim.unwrap_or(set.start);
        self.drop_chain(at, DropReason::FragmentNoRoom);
        self.free(at);
        if let Some(slot) = self.slots.get_mut(at) {
            *slot = Slot {
                name: arrival.name,
                state: State::Headless,
                since_ms: now_ms,
                number: opened,
                sender: arrival.sender,
                ..Slot::default()
            };
            self.len += 1;
        }
        let (bitmaps, _): (&mut [Bitmap], _) = self.bitmaps.as_chunks_mut();
        if let Some(bitmap) = bitmaps.get_mut(at) {
            bitmap.fill(0);
        }
        at
    }

    fn forget_if_over(&mut self, at: usize, timeout_ms: u32, now_ms: u32) -> bool {
        let Some(slot) = self.slots.get(at) else { return false };
        let over = slot.state != State::Free && now_ms.wrapping_sub(slot.since_ms) >= timeout_ms;
        if over {
            self.drop_chain(at, DropReason::FragmentTimeout);
            self.free(at);
        }
        over
    }

    fn free(&mut self, at: usize) {
        if let Some(slot) = self.slots.get_mut(at)
            && slot.state != State::Free
        {
            slot.state = State::Free;
            self.len -= 1;
        }
    }

    /// Gives a datagram up: what waits is dropped, and what comes will be.
    fn discard(&mut self, at: usize, reason: DropReason) {
        self.drop_chain(at, reason);
        if let Some(slot) = self.slots.get_mut(at) {
            slot.state = State::Discarded(reason);
        }
    }

    fn drop_chain(&mut self, at: usize, reason: DropReason) {
        while let Some(waiting) = self.unchain(at) {
            drop(waiting);
            match reason {
                DropReason::FragmentTimeout => self.losses.timeout += 1,
                DropReason::FragmentOverlap => self.losses.overlap += 1,
                _ => self.losses.no_room += 1,
            }
        }
    }

    /// The first fragment of a slot's chain.
    fn unchain(&mut self, at: usize) -> Option<Waiting<B>> {
        let slot = self.slots.get_mut(at)?;
        self.waiting.pop(&mut slot.chain, slot.sender)
    }
}

#[cfg(test)]
mod tests;
