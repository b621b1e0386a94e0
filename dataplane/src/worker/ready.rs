//! The last stage of nearly all packets: their flow goes on, at a backend that can be reached, and
//! all they need is its header.
//!
//! Choice and rewrite are one loop: what the one has found the other has in registers. The VIP is
//! not looked up: the entry names it, and whether that is still right is one comparison.

use arrayvec::ArrayVec;
use conntrack::{Packet, Pin, Probe, Segment, Steady, Table};

use super::burst::{Flight, Work, Works};
use super::stages::{at_length, settle};
use super::{Core, Meter};
use crate::buffer::Buffer;
use crate::classify::Class;
use crate::counters::Traffic;
use crate::forward::{self, OuterHeaders};
use crate::lines::OnLines;
use crate::parse::Kind;
use crate::port::{BURST, Burst, Port};
use crate::second_chance::second_address;
use crate::select::{Chosen, Selection, Selector, Tally};
use crate::tables::{Backend, OTHERWISE, Tables};
use crate::verdict::{DropReason, Outcome, Verdict};

impl<P: Port, M: Meter> Core<P, M> {
    /// Chooses the backend of each packet of `burst`, and puts those that can be sent as they are,
    /// with their headers, into the transmit bursts. All others stay in `burst`, in their order and
    /// unchanged where a rewrite failed, with their work at the front of `self.works`. Returns how
    /// many were sent.
    #[inline(always)]
    pub(super) fn send_ready(
        &mut self,
        burst: &mut Burst<P::Buffer>,
        tables: &Tables,
        now_ms: u32,
    ) -> u64 {
        self.make_room(burst.len());
        let recording = self.recording;
        let Self { flights, works, conntrack, transmit, counters, outer, .. } = &mut *self;
        let mut desk = Desk {
            selector: Selector { tables, conntrack, counters, now_ms },
            traffic: counters.traffic(),
            transmit,
            outer: *outer,
            // Where packets may name their backends themselves, each has to be asked.
            shortest_idle: if tables.steered { 0 } else { tables.shortest_idle_ms },
            recording,
            tally: Tally::default(),
        };
        let mut rest = ArrayVec::<P::Buffer, BURST>::new();
        let mut places = ArrayVec::<u8, BURST>::new();
        let count = burst.len() as u64;
        desk.send(burst, flights, works, &mut rest, &mut places);
        desk.tally.add_to(counters);
        *outer = desk.outer;
        let sent = count - rest.len() as u64;
        if self.recording {
            self.record_sent(&places);
        }
        if !rest.is_empty() {
            for (to, from) in places.into_iter().enumerate() {
                if let Some(&from) = self.works.get(usize::from(from))
                    && let Some(to) = self.works.get_mut(to)
                {
                    *to = from;
                }
            }
            burst.extend(rest);
        }
        sent
    }

    /// Sends what waits in transmit bursts that could not take `count` packets more.
    #[inline]
    fn make_room(&mut self, count: usize) {
        for index in 0..self.transmit.len() {
            if self.transmit.get(index).is_some_and(|queue| queue.remaining_capacity() < count) {
                self.flush(index);
            }
        }
    }

    /// Keeps the outcomes of all packets but those at `places`.
    #[cold]
    fn record_sent(&mut self, places: &[u8]) {
        for (place, (work, outcome)) in self.works.iter().zip(&mut self.outcomes).enumerate() {
            if let (Class::Vip(vip), Selection::Backend(backend)) = (work.class, work.selection)
                && !places.contains(&(place as u8))
            {
                *outcome = Outcome { verdict: Verdict::Forward, vip, backend };
            }
        }
    }

    /// Keeps what became of the packet at `place`.
    #[cold]
    pub(super) fn record(&mut self, place: u8, outcome: Outcome) {
        if let Some(slot) = self.outcomes.get_mut(usize::from(place)) {
            *slot = outcome;
        }
    }
}

/// What a burst is sent with.
struct Desk<'w, B> {
    selector: Selector<'w>,
    traffic: Traffic<'w>,
    transmit: &'w mut [OnLines<Burst<B>>],
    outer: OuterHeaders,
    /// As [`Tables::shortest_idle_ms`], or less.
    shortest_idle: u32,
    recording: bool,
    tally: Tally,
}

impl<B: Buffer> Desk<'_, B> {
    /// Sends what can be sent of `burst`; what not, goes to `rest`, its number to `places`.
    #[inline(never)]
    fn send(
        &mut self,
        burst: &mut Burst<B>,
        flights: &[Flight],
        works: &mut Works,
        rest: &mut Burst<B>,
        places: &mut ArrayVec<u8, BURST>,
    ) {
        let mut packets = burst.drain(..);
        let mut flights = flights.iter();
        while let (Some(mut packet), Some(flight)) = (packets.next(), flights.next()) {
            let Flight { common, flow_hash, .. } = flight;
            let Selector { tables, conntrack, now_ms, .. } = &mut self.selector;
            // Nothing is changed before all is known to be right; whatever is not, is found out at
            // greater length.
            let found = express(flight, conntrack, tables, *now_ms, self.shortest_idle);
            if let Some(Found { steady, taken, backend, plain }) = found
                && let Pin { vip, backend: index, .. } = steady.pin()
                && match plain {
                    true => {
                        let (outer, length) = (&mut self.outer, common.ip_length);
                        forward::plain(&mut packet, length, backend, flow_hash, outer).is_ok()
                    }
                    false => wrap(&mut packet, flight, backend, &mut self.outer),
                }
            {
                steady.count(taken, *now_ms);
                self.tally.hits += 1;
                self.traffic.count(vip, index, taken.length);
                if self.recording {
                    record_sent(works, flight, vip, index);
                }
                self.queue(packet, backend);
                continue;
            }
            self.send_others((packet, flight), &mut packets, &mut flights, works, rest, places);
        }
    }

    /// Sends a packet, and with it those behind it that are not common: a burst of IPv6 is taken
    /// here in one go.
    #[inline(never)]
    fn send_others(
        &mut self,
        first: (B, &Flight),
        packets: &mut arrayvec::Drain<'_, B, BURST>,
        flights: &mut std::slice::Iter<'_, Flight>,
        works: &mut Works,
        rest: &mut Burst<B>,
        places: &mut ArrayVec<u8, BURST>,
    ) {
        let (mut packet, mut flight) = first;
        loop {
            if let Some(packet) = self.send_other(packet, flight, works) {
                let _ = rest.try_push(packet);
                let _ = places.try_push(flight.place);
            }
            if flights.as_slice().first().is_none_or(|next| next.common.is_some()) {
                return;
            }
            match (packets.next(), flights.next()) {
                (Some(next), Some(its)) => (packet, flight) = (next, its),
                _ => return,
            }
        }
    }

    /// Puts a packet into the transmit burst of its backend's port, which has room for it.
    #[inline(always)]
    fn queue(&mut self, packet: B, backend: &Backend) {
        if let Some(queue) = self.transmit.get_mut(usize::from(backend.port))
            && queue.try_push(packet).is_ok()
        {
            return;
        }
        self.selector.counters.count_drop(DropReason::TransmitFull);
    }

    /// Any packet; gives it back if it cannot be sent as it is.
    #[inline(always)]
    fn send_other(&mut self, mut packet: B, flight: &Flight, works: &mut Works) -> Option<B> {
        let work = match flight.probe {
            // Was written to be prepared.
            Probe::NONE => works.get_mut(usize::from(flight.place)),
            _ => at_length(flight, works),
        };
        let Some(work) = work else { return Some(packet) };
        let Selector { tables, conntrack, now_ms, .. } = &mut self.selector;
        let tables = *tables;
        let found = steady(work, conntrack, tables, *now_ms, self.shortest_idle);
        let chosen = match found {
            Some(Found { steady, taken, backend, .. }) => {
                let Pin { vip, backend: index, .. } = steady.pin();
                steady.count(taken, *now_ms);
                self.tally.hits += 1;
                Some(Chosen { vip, index, backend })
            }
            None => settle(work, packet.data(), &mut self.selector, &mut self.tally),
        };
        let Some(Chosen { vip, index, backend }) = chosen else { return Some(packet) };
        (work.class, work.selection) = (Class::Vip(vip), Selection::Backend(index));
        if backend.reachable
            && !(tables.clamps && work.parsed.segment == Segment::Syn)
            && rewrite(&mut packet, work, (vip, index), backend, tables, &mut self.outer)
        {
            self.traffic.count(vip, index, work.parsed.ip_length);
            self.queue(packet, backend);
            return None;
        }
        Some(packet)
    }
}

/// Keeps who gets a packet, for [`Core::record_sent`].
#[cold]
#[inline(never)]
fn record_sent(works: &mut Works, flight: &Flight, vip: u32, index: u32) {
    if let Some(work) = works.get_mut(usize::from(flight.place)) {
        (work.class, work.selection) = (Class::Vip(vip), Selection::Backend(index));
    }
}

/// A packet of a flow that goes on, of the VIP it is pinned to, at a backend that is ready for it.
struct Found<'s, 't> {
    steady: Steady<'s>,
    taken: Packet,
    backend: &'t Backend,
    /// All that it needs is [`forward::plain`].
    plain: bool,
}

/// Finds a common packet's. `None` says nothing.
#[inline(always)]
fn express<'s, 't>(
    flight: &Flight,
    conntrack: &'s mut Table,
    tables: &'t Tables,
    now_ms: u32,
    shortest_idle: u32,
) -> Option<Found<'s, 't>> {
    let Flight { common, probe, .. } = flight;
    let taken = common.packet();
    let steady = conntrack.steady_v4(*probe, common.flow, taken, now_ms, shortest_idle)?;
    let Pin { backend, generation, vip } = steady.pin();
    let backend = tables.backend(backend)?;
    let ready = backend.ready_for(generation);
    let fits = ready & !OTHERWISE == 0
        && common.ip_length <= backend.inner_mtu
        && tables.lookup.takes_v4(vip, common.flow.service);
    fits.then_some(Found { steady, taken, backend, plain: ready == 0 })
}

/// Finds any other packet's. `None` says nothing.
#[inline(always)]
fn steady<'s, 't>(
    work: &Work,
    conntrack: &'s mut Table,
    tables: &'t Tables,
    now_ms: u32,
    shortest_idle: u32,
) -> Option<Found<'s, 't>> {
    let Work { parsed, probe, .. } = work;
    if parsed.kind != Kind::Flow {
        return None;
    }
    let taken = Packet { segment: parsed.segment, length: parsed.ip_length };
    let steady = conntrack.steady(*probe, &parsed.key, taken, now_ms, shortest_idle)?;
    let Pin { backend, generation, vip } = steady.pin();
    let backend = tables.backend(backend)?;
    let fits = backend.ready_for(generation) & !OTHERWISE == 0
        && tables.lookup.takes(vip, parsed.key.service());
    fits.then_some(Found { steady, taken, backend, plain: false })
}

/// Puts the header that a backend's packets get in front of a common packet that fits; `false` when
/// that cannot be done here.
#[inline(never)]
fn wrap<B: Buffer>(
    packet: &mut B,
    flight: &Flight,
    backend: &Backend,
    outer: &mut OuterHeaders,
) -> bool {
    // Never put together: what is asked of it is known here.
    let parsed = flight.common.parsed();
    forward::untagged(packet, &parsed, backend, flight.flow_hash, outer)
        .is_some_and(|result| result.is_ok())
}

/// Rewrites a packet for its backend; `false` when it cannot be done here.
#[inline(always)]
fn rewrite<B: Buffer>(
    packet: &mut B,
    work: &Work,
    (vip, index): (u32, u32),
    backend: &Backend,
    tables: &Tables,
    outer: &mut OuterHeaders,
) -> bool {
    let Work { parsed, flow_hash, .. } = work;
    match forward::is_plain(parsed, backend) {
        true => {
            parsed.ip_length <= backend.inner_mtu
                && forward::plain(packet, parsed.ip_length, backend, flow_hash, outer).is_ok()
        }
        // Both ask for the length themselves.
        false => match rewrite_untagged(packet, work, backend, outer) {
            Some(rewritten) => rewritten,
            None => rewrite_other(packet, work, (vip, index), backend, tables, outer),
        },
    }
}

/// As [`rewrite`], the other tunnels between untagged links; `None`, and nothing is changed, for
/// all else.
#[inline(never)]
fn rewrite_untagged<B: Buffer>(
    packet: &mut B,
    work: &Work,
    backend: &Backend,
    outer: &mut OuterHeaders,
) -> Option<bool> {
    let Work { parsed, flow_hash, .. } = work;
    if parsed.ip_length > backend.inner_mtu {
        return Some(false);
    }
    forward::untagged(packet, parsed, backend, *flow_hash, outer).map(|result| result.is_ok())
}

/// As [`rewrite`], what has no shorter way: out of the way of what is, for which even to have ready what
/// this would ask costs (13 instructions a packet).
#[inline(never)]
fn rewrite_other<B: Buffer>(
    packet: &mut B,
    work: &Work,
    (vip, index): (u32, u32),
    backend: &Backend,
    tables: &Tables,
    outer: &mut OuterHeaders,
) -> bool {
    let Work { parsed, flow_hash, .. } = work;
    let second = second_address(tables, vip, index, parsed);
    forward::rewrite_naming(packet, parsed, backend, *flow_hash, outer, second).is_ok()
}
