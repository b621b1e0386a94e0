//! Fragments on their way through a worker (see [`crate::fragment`]).
//!
//! ```text
//!  came in ──▶ meet at the worker that the datagram's name gives ──▶ go to the one that has the
//!              flow, which the first of them names                    flow, and from there out
//! ```

use super::notes::Work;
use super::{Core, Meter};
use crate::buffer::Buffer;
use crate::fragment::datagrams::Arrival;
use crate::fragment::piece::{Piece, sender};
use crate::fragment::{Early, Entered, Losses, Waiting};
use crate::handoff::{Errand, Handed};
use crate::parse::Parsed;
use crate::port::Port;
use crate::select;
use crate::tables::{BackendState, Tables};
use crate::verdict::{DropReason, NO_BACKEND, Outcome, Verdict};

impl<P: Port, M: Meter> Core<P, M> {
    /// Deals with a fragment to a VIP's address, or has it dealt with where its datagram's meet.
    #[cold]
    pub(super) fn take_fragment(
        &mut self,
        packet: P::Buffer,
        parsed: &Parsed,
        port_index: u8,
        tables: &Tables,
        now_ms: u32,
    ) -> Outcome {
        let dropped = |reason| Outcome::early(Verdict::Drop(reason));
        let Some(piece) = Piece::read(packet.data(), parsed) else {
            return dropped(DropReason::BadFragment);
        };
        let name = piece.datagram(parsed);
        let hash = self.hasher.hash(&name);
        let meeting = (hash >> 32) as usize % self.handoff.workers();
        if meeting != self.handoff.number() {
            return Outcome::early(
                self.give(meeting, Handed::arriving(packet, Errand::Meet, parsed, port_index)),
            );
        }
        let arrival = Arrival {
            name,
            hash,
            sender: self.hasher.hash(&sender(parsed)),
            piece,
            flow: piece.is_first().then_some(parsed.key),
        };
        let options = &tables.fragments;
        self.counters.fragments.received.add(1);
        match self.datagrams.enter(&arrival, options.timeout_ms, now_ms) {
            Entered::First(slot) => {
                let errand = Errand::FirstFragment;
                let outcome = self.bring(packet, errand, parsed, port_index, tables, now_ms);
                self.release_waiting(slot, &parsed.key, tables, now_ms);
                outcome
            }
            Entered::Later(flow) => {
                let parsed = Parsed { key: flow, ..*parsed };
                self.bring(packet, Errand::LaterFragment, &parsed, port_index, tables, now_ms)
            }
            Entered::Bound(vip, backend, generation) => self.forward_bound(
                packet,
                parsed,
                (vip, backend, generation),
                port_index,
                tables,
                now_ms,
            ),
            Entered::Headless(slot) => {
                if options.early == Early::Hash
                    && let Some(pin) = select::by_addresses(parsed, tables)
                {
                    let bound = (pin.vip, pin.backend, pin.generation);
                    self.datagrams.bind(slot, bound.0, bound.1, bound.2);
                    self.release_bound(slot, bound, tables, now_ms);
                    return self.forward_bound(packet, parsed, bound, port_index, tables, now_ms);
                }
                let waiting = Waiting { buffer: packet, port: port_index, parsed: *parsed };
                match self.datagrams.wait(slot, waiting, now_ms) {
                    Ok(()) => {
                        self.counters.fragments.waited.add(1);
                        Outcome::early(Verdict::Hold)
                    }
                    Err(_) => dropped(DropReason::FragmentNoRoom),
                }
            }
            Entered::Drop(reason) => dropped(reason),
        }
    }

    /// Sends what waited for the first fragment, which was of `flow`, after it.
    fn release_waiting(
        &mut self,
        slot: u16,
        flow: &conntrack::FlowKey,
        tables: &Tables,
        now_ms: u32,
    ) {
        while let Some(Waiting { buffer, port, parsed }) = self.datagrams.next_released(slot) {
            let parsed = Parsed { key: *flow, ..parsed };
            let outcome = self.bring(buffer, Errand::LaterFragment, &parsed, port, tables, now_ms);
            self.count_handed(outcome.verdict);
        }
    }

    /// Sends what waited of a datagram that goes by its addresses from now on: because of a reload,
    /// or because its pool has a backend again.
    fn release_bound(&mut self, slot: u16, bound: (u32, u32, u16), tables: &Tables, now_ms: u32) {
        while let Some(Waiting { buffer, port, parsed }) = self.datagrams.next_released(slot) {
            let outcome = self.forward_bound(buffer, &parsed, bound, port, tables, now_ms);
            self.count_handed(outcome.verdict);
        }
    }

    /// Forwards a fragment of a datagram that goes by its addresses.
    fn forward_bound(
        &mut self,
        packet: P::Buffer,
        parsed: &Parsed,
        (vip, index, generation): (u32, u32, u16),
        port_index: u8,
        tables: &Tables,
        now_ms: u32,
    ) -> Outcome {
        let there = tables.backend(index).is_some_and(|backend| {
            backend.generation == generation
                && !matches!(backend.state, BackendState::Evicted | BackendState::Gone)
        });
        if !there {
            let verdict = Verdict::Drop(DropReason::NoBackend);
            return Outcome { verdict, vip, backend: NO_BACKEND };
        }
        let work = Work::of(*parsed, vip, self.hasher.hash(&parsed.key), index);
        self.forward(packet, &work, vip, index, Some(port_index), tables, now_ms)
    }

    /// Lets go of fragments and datagrams whose time is over, and counts what was lost.
    #[cold]
    pub(super) fn expire_fragments(&mut self, tables: &Tables, now_ms: u32) {
        let options = &tables.fragments;
        self.datagrams.expire(options.wait_ms, options.timeout_ms, now_ms);
        let Losses { timeout, no_room, overlap } = self.datagrams.take_losses();
        let counters = &self.counters;
        counters.count_drops(DropReason::FragmentTimeout, timeout);
        counters.count_drops(DropReason::FragmentNoRoom, no_room);
        counters.count_drops(DropReason::FragmentOverlap, overlap);
        counters.fragments.datagrams.set(self.datagrams.len() as u64);
        counters.fragments.waiting.set(self.datagrams.waiting() as u64);
    }
}
