//! The fragments that wait for the first of their datagram: a ring of places, filled in turn, in
//! which those of one datagram are chained.
//!
//! Places are filled in the order of time, so the next one to be filled holds what has waited the
//! longest, if it holds anything: a fragment is pushed out after [`WAITING`] newer ones have come,
//! and not before. Whoever loses one of a datagram's fragments gives up the datagram, so chains are
//! only ever taken from the front.

use super::datagrams::{WAITING, WAITING_PER_DATAGRAM, WAITING_PER_SENDER};
use crate::parse::Parsed;

/// Senders are counted by so many values of a keyed hash.
const SENDERS: usize = 1024;
/// No place.
const NONE: u16 = u16::MAX;

/// A fragment that waits, as it came.
#[derive(Debug)]
pub struct Waiting<B> {
    /// The packet.
    pub buffer: B,
    /// Index of the port it came in at.
    pub port: u8,
    /// What the parser found.
    pub parsed: Parsed,
}

#[derive(Debug)]
struct Place<B> {
    waiting: Waiting<B>,
    slot: u16,
    since_ms: u32,
    next: u16,
}

/// The places of one datagram: first, last, and how many.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chain {
    head: u16,
    tail: u16,
    length: u16,
}

impl Default for Chain {
    fn default() -> Self {
        Self { head: NONE, tail: NONE, length: 0 }
    }
}

/// All places; allocated once.
#[derive(Debug)]
pub(super) struct WaitingRing<B> {
    places: Box<[Option<Place<B>>]>,
    /// The place to be filled next.
    cursor: usize,
    /// Nothing that waits is older than what is in the places from here to the cursor.
    oldest: usize,
    len: usize,
    senders: Box<[u16]>,
}

impl<B> Default for WaitingRing<B> {
    fn default() -> Self {
        Self {
            places: (0..WAITING).map(|_| None).collect(),
            cursor: 0,
            oldest: 0,
            len: 0,
            senders: vec![0; SENDERS].into(),
        }
    }
}

impl<B> WaitingRing<B> {
    /// Fragments that wait.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Whether one more of this chain and of this sender may wait.
    pub(super) fn may_wait(&self, chain: &Chain, sender: u64) -> bool {
        let count = self.senders.get(sender as usize % SENDERS).copied().unwrap_or(0);
        chain.length < WAITING_PER_DATAGRAM && count < WAITING_PER_SENDER
    }

    /// Whose fragment has to go before another can wait: the slot.
    pub(super) fn in_the_way(&self) -> Option<usize> {
        let place = self.places.get(self.cursor)?.as_ref()?;
        Some(usize::from(place.slot))
    }

    /// Appends a fragment to the chain of `slot`; nothing may be in the way.
    pub(super) fn push(
        &mut self,
        chain: &mut Chain,
        (slot, sender): (u16, u64),
        waiting: Waiting<B>,
        now_ms: u32,
    ) {
        if self.len == 0 {
            self.oldest = self.cursor;
        } else if self.oldest == self.cursor {
            self.oldest = (self.cursor + 1) % WAITING;
        }
        let Some(place) = self.places.get_mut(self.cursor) else { return };
        *place = Some(Place { waiting, slot, since_ms: now_ms, next: NONE });
        let here = self.cursor as u16;
        match self.places.get_mut(usize::from(chain.tail)) {
            Some(Some(last)) => last.next = here,
            _ => chain.head = here,
        }
        chain.tail = here;
        chain.length += 1;
        if let Some(count) = self.senders.get_mut(sender as usize % SENDERS) {
            *count += 1;
        }
        self.cursor = (self.cursor + 1) % WAITING;
        self.len += 1;
    }

    /// Takes the first of a chain, which is of `sender`.
    pub(super) fn pop(&mut self, chain: &mut Chain, sender: u64) -> Option<Waiting<B>> {
        let place = self.places.get_mut(usize::from(chain.head))?.take()?;
        chain.head = place.next;
        chain.length -= 1;
        if chain.head == NONE {
            chain.tail = NONE;
        }
        if let Some(count) = self.senders.get_mut(sender as usize % SENDERS) {
            *count -= 1;
        }
        self.len -= 1;
        Some(place.waiting)
    }

    /// The slot of a fragment that has waited for `wait_ms`, if any has.
    pub(super) fn overdue(&mut self, wait_ms: u32, now_ms: u32) -> Option<usize> {
        while self.len > 0 {
            if let Some(Some(place)) = self.places.get(self.oldest) {
                let over = now_ms.wrapping_sub(place.since_ms) >= wait_ms;
                return over.then_some(usize::from(place.slot));
            }
            self.oldest = (self.oldest + 1) % WAITING;
        }
        None
    }
}
