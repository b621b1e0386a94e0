//! Packets that another worker has to deal with, given and taken (see [`crate::handoff`]).
//!
//! **Whose is a flow?** Where the device's choice of queue can be computed ([`crate::rss`]), the
//! worker of that queue: it has seen the flow's ordinary packets, so its conntrack entry, if there
//! is one, is there. Elsewhere the flow is *asked for*: the packet goes round the workers, and the
//! first that has an entry keeps it. The round ends at the flow's home, which its hash names; the
//! home decides as for a new flow, and has the entry next time. So every packet of one flow that
//! is handed over meets the same answer, and a round is at most as long as there are workers.
//!
//! A packet that came through a ring lies in another worker's buffer. It is copied into one of
//! this worker's own before anything else is done with it, and the other goes straight back to
//! its pool: transmit queues free to one pool only, and caches of a thread hold buffers of its own
//! pool only.

use super::notes::Work;
use super::{Core, Meter};
use crate::buffer::Buffer;
use crate::handoff::{ARRIVED, Errand, Handed};
use crate::parse::Parsed;
use crate::port::{BURST, Port};
use crate::select::{Selection, Selector, Tally};
use crate::tables::Tables;
use crate::verdict::{DropReason, NO_BACKEND, Outcome, Verdict};

impl<P: Port, M: Meter> Core<P, M> {
    /// Has a packet of the flow `parsed.key` dealt with by the worker that has the flow: here and
    /// now, or there.
    pub(super) fn bring(
        &mut self,
        packet: P::Buffer,
        errand: Errand,
        parsed: &Parsed,
        port_index: u8,
        tables: &Tables,
        now_ms: u32,
    ) -> Outcome {
        let workers = self.handoff.workers();
        if workers == 1 {
            return self.perform(packet, errand, parsed, port_index, tables, now_ms);
        }
        let rss = self.rss.get(usize::from(port_index)).and_then(Option::as_ref);
        let owner = rss.and_then(|rss| rss.queue(&parsed.key)).map(usize::from);
        let handed = Handed::arriving(packet, errand, parsed, port_index);
        match owner {
            Some(owner) if owner == self.handoff.number() => {
                self.perform(handed.buffer, errand, parsed, port_index, tables, now_ms)
            }
            Some(owner) if owner < workers => Outcome::early(self.give(owner, handed)),
            _ if self.has_flow(parsed, tables, now_ms) => {
                self.perform(handed.buffer, errand, parsed, port_index, tables, now_ms)
            }
            _ => match self.ask_next(Handed { asked: 0, ..handed }) {
                Ok(verdict) => Outcome::early(verdict),
                Err(home) => self.perform(home.buffer, errand, parsed, port_index, tables, now_ms),
            },
        }
    }

    /// Gives a packet to another worker, which counts what becomes of it.
    pub(super) fn give(&mut self, worker: usize, handed: Handed<P::Buffer>) -> Verdict {
        match self.handoff.give(worker, handed) {
            Ok(()) => {
                self.counters.handoffs.given.add(1);
                Verdict::HandOff
            }
            Err(refused) => {
                // It may be another worker's already.
                refused.buffer.release();
                Verdict::Drop(DropReason::HandoffFull)
            }
        }
    }

    /// Gives the packet to the next worker to be asked for its flow.
    ///
    /// # Errors
    /// The packet, when all others have been asked and this worker is the flow's home.
    fn ask_next(&mut self, mut handed: Handed<P::Buffer>) -> Result<Verdict, Handed<P::Buffer>> {
        let workers = self.handoff.workers();
        // Other bits than those that place the flow in the table.
        let home = (self.hasher.hash(&handed.parsed.key) >> 20) as usize % workers;
        while usize::from(handed.asked) < workers {
            handed.asked += 1;
            let next = (home + usize::from(handed.asked)) % workers;
            if next == self.handoff.number() {
                continue;
            }
            if next == home {
                handed.asked = ARRIVED;
            }
            return Ok(self.give(next, handed));
        }
        Err(handed)
    }

    /// Whether this worker has an entry of the flow.
    fn has_flow(&self, parsed: &Parsed, tables: &Tables, now_ms: u32) -> bool {
        let key = &parsed.key;
        let vip = tables
            .lookup
            .find(key.destination_bits(), key.destination_port(), key.protocol())
            .and_then(|vip| tables.vip(vip));
        let Some(vip) = vip else { return false };
        self.conntrack.peek(self.hasher.hash(key), key, now_ms, &vip.timeouts).is_some()
    }

    /// Takes what the other workers gave: from each at most a burst. Returns how many it was.
    #[cold]
    pub(super) fn take_handed(&mut self, tables: &Tables, now_ms: u32) -> usize {
        self.handoff.answer_call();
        let mut taken = 0;
        let mut more = false;
        for from in 0..self.handoff.workers() {
            for _ in 0..BURST {
                let Some(handed) = self.handoff.take(from) else { break };
                taken += 1;
                self.accept(handed, tables, now_ms);
            }
            more |= !self.handoff.is_empty(from);
        }
        if more {
            self.handoff.call_again();
        }
        self.counters.handoffs.taken.add(taken as u64);
        taken
    }

    /// Deals with a packet that another worker gave, or passes it on.
    fn accept(&mut self, handed: Handed<P::Buffer>, tables: &Tables, now_ms: u32) {
        let arrived = handed.asked == ARRIVED || self.has_flow(&handed.parsed, tables, now_ms);
        let handed = match arrived {
            true => handed,
            false => match self.ask_next(handed) {
                Ok(verdict) => return self.count_handed(verdict),
                Err(handed) => handed,
            },
        };
        let Handed { buffer, port, errand, parsed, .. } = handed;
        let own = self.ports.get_mut(usize::from(port)).and_then(|port| port.allocate());
        let copied = own.and_then(|mut own| own.append(buffer.data()).then_some(own));
        buffer.release();
        let Some(packet) = copied else {
            return self.counters.count_drop(DropReason::NoBuffer);
        };
        let outcome = self.perform(packet, errand, &parsed, port, tables, now_ms);
        self.count_handed(outcome.verdict);
    }

    pub(super) fn count_handed(&self, verdict: Verdict) {
        match verdict {
            Verdict::Forward | Verdict::Hold | Verdict::HandOff => {}
            Verdict::Reply => self.counters.replied.add(1),
            Verdict::Host => self.counters.host.add(1),
            Verdict::Drop(reason) => self.counters.count_drop(reason),
        }
    }

    /// Does what a packet came for.
    pub(super) fn perform(
        &mut self,
        packet: P::Buffer,
        errand: Errand,
        parsed: &Parsed,
        port_index: u8,
        tables: &Tables,
        now_ms: u32,
    ) -> Outcome {
        match errand {
            Errand::Meet => self.take_fragment(packet, parsed, port_index, tables, now_ms),
            Errand::FirstFragment => {
                self.forward_as_flow(packet, parsed, true, port_index, tables, now_ms)
            }
            Errand::LaterFragment => {
                self.forward_as_flow(packet, parsed, false, port_index, tables, now_ms)
            }
            Errand::IcmpError => self.deliver(packet, parsed, tables, now_ms),
        }
    }

    /// Forwards a packet to the backend of the flow `parsed.key`. `opens`: it may make the flow's
    /// entry, and moves its state; otherwise it follows the entry, or the table where there is
    /// none, and leaves no trace.
    pub(super) fn forward_as_flow(
        &mut self,
        packet: P::Buffer,
        parsed: &Parsed,
        opens: bool,
        port_index: u8,
        tables: &Tables,
        now_ms: u32,
    ) -> Outcome {
        let key = &parsed.key;
        let vip =
            tables.lookup.find(key.destination_bits(), key.destination_port(), key.protocol());
        let Some(vip) = vip else { return Outcome::early(Verdict::Drop(DropReason::NoVip)) };
        let flow_hash = self.hasher.hash(key);
        let mut selector =
            Selector { tables, conntrack: &mut self.conntrack, counters: &self.counters, now_ms };
        let selection = if opens {
            let probe = selector.conntrack.probe(flow_hash);
            let mut tally = Tally::default();
            let selection = selector.select(parsed, vip, flow_hash, probe, || None, &mut tally);
            tally.add_to(&self.counters);
            selection
        } else {
            selector.follow(parsed, vip, flow_hash)
        };
        match selection {
            Selection::Backend(backend) => {
                let work = Work::of(*parsed, vip, flow_hash, backend);
                let from = Some(port_index);
                self.forward(packet, &work, vip, backend, from, tables, now_ms)
            }
            // The sequence numbers a reset needs are those of the whole segment.
            Selection::Reset(backend) => {
                Outcome { verdict: Verdict::Drop(DropReason::BackendEvicted), vip, backend }
            }
            Selection::Drop(reason) => {
                Outcome { verdict: Verdict::Drop(reason), vip, backend: NO_BACKEND }
            }
        }
    }
}
