//! Packets that wait for their next hop's link address: a bounded few, for a bounded time.

use std::collections::VecDeque;

use crate::parse::Parsed;
use crate::verdict::Outcome;

/// Packets one worker keeps waiting, over all next hops.
pub const HOLD_TOTAL: usize = 256;
/// Packets one worker keeps waiting for one next hop (RFC 1122 section 2.3.2.2 asks for one).
pub const HOLD_PER_HOP: usize = 32;
/// How long a packet waits, in milliseconds.
pub const HOLD_MS: u32 = 3_000;

/// A waiting packet, not yet rewritten.
#[derive(Debug)]
pub struct Held<B> {
    /// The packet as it came.
    pub buffer: B,
    /// What the parser found.
    pub parsed: Parsed,
    /// The flow's hash.
    pub flow_hash: u64,
    /// VIP and backend.
    pub outcome: Outcome,
    /// The backend's next hop.
    pub next_hop: u32,
    /// Generation of the backend's index when it was chosen.
    pub generation: u16,
    /// When it is given up, on the worker's wrapping clock of milliseconds.
    pub deadline_ms: u32,
}

/// The queue of one worker; allocated once.
#[derive(Debug)]
pub struct HoldQueue<B> {
    held: VecDeque<Held<B>>,
}

impl<B> Default for HoldQueue<B> {
    fn default() -> Self {
        Self { held: VecDeque::with_capacity(HOLD_TOTAL) }
    }
}

impl<B> HoldQueue<B> {
    /// Keeps a packet; gives it back when there is no room.
    ///
    /// # Errors
    /// The packet, when the queue or the next hop's share of it is full.
    pub fn push(&mut self, held: Held<B>) -> Result<(), Held<B>> {
        let waiting = self.held.iter().filter(|other| other.next_hop == held.next_hop).count();
        if self.held.len() >= HOLD_TOTAL || waiting >= HOLD_PER_HOP {
            return Err(held);
        }
        self.held.push_back(held);
        Ok(())
    }

    /// Takes out, in order, at most one packet for which `ready` holds or whose time is over.
    pub fn pop(&mut self, now_ms: u32, ready: impl Fn(&Held<B>) -> bool) -> Option<Held<B>> {
        let at = self.held.iter().position(|held| ready(held) || held.is_over(now_ms))?;
        self.held.remove(at)
    }

    /// Packets waiting.
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }
}

impl<B> Held<B> {
    /// Whether the packet has waited for too long.
    pub fn is_over(&self, now_ms: u32) -> bool {
        // Wrapping: a deadline in the past is less than half the range behind.
        now_ms.wrapping_sub(self.deadline_ms) < u32::MAX / 2
    }
}
