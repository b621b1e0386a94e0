//! The last stage of nearly all packets: their flow goes on, at a backend that can be reached, and
//! all they need is its header.
//!
//! Packets go in runs, in their order: those whose flows simply go on are found in one loop, get their
//! headers in a second and are counted in a third, each of which has all that it works with in
//! registers. What stands behind them takes longer, and is taken one by one. The VIP of a flow that
//! goes on is not looked up: the entry names it, and whether that is still right is one comparison.
//!
//! ```text
//! prepare ─┬─ v4, v6   whom a run goes to, its headers
//!          ├─ rewrite  any other packet's header
//!          └─ ways     which port each goes to
//! ```

mod rewrite;
mod v4;
mod v6;
mod ways;

use conntrack::{Packet, Pin, Probe, Segment, Steady, Table};

use self::rewrite::rewrite;
use self::ways::Ways;
use super::burst::flush_to;
use super::notes::{Flight, Work, Works};
use super::stages::{at_length, settle};
use super::{Core, Meter, Stage};
use crate::buffer::Buffer;
use crate::classify::Class;
use crate::counters::Traffic;
use crate::forward::OuterHeaders;
use crate::parse::Kind;
use crate::port::{Burst, Port};
use crate::select::{Chosen, Selection, Selector, Tally};
use crate::tables::{Backend, Tables};
use crate::verdict::{DropReason, Outcome, Verdict};

impl<P: Port, M: Meter> Core<P, M> {
    /// Chooses the backend of each packet of `burst`, puts the header in front of those that can be
    /// sent as they are, and sends them. All others stay in `burst`, in their order and unchanged
    /// where a rewrite failed, with their work at the front of `self.works`. Returns how many were
    /// sent.
    #[inline(always)]
    pub(super) fn send_ready(
        &mut self,
        burst: &mut Burst<P::Buffer>,
        tables: &Tables,
        now_ms: u32,
    ) -> u64 {
        let recording = self.recording;
        let count = burst.len();
        let Self { flights, works, conntrack, counters, outer, .. } = &mut *self;
        let mut desk = Desk {
            selector: Selector { tables, conntrack, counters, now_ms },
            traffic: counters.traffic(),
            outer: *outer,
            // Where packets may name their backends themselves, each has to be asked.
            shortest_idle: if tables.steered { 0 } else { tables.shortest_idle_ms },
            tally: Tally::default(),
            ways: Ways::new(),
        };
        let flights = flights.get_mut(..count).unwrap_or_default();
        match recording {
            true => desk.prepare::<true, _>(burst, flights, works),
            false => desk.prepare::<false, _>(burst, flights, works),
        }
        desk.tally.add_to(counters);
        *outer = desk.outer;
        let ways = desk.ways;
        self.meter.passed(Stage::Forward);
        let sent = match ways.aside {
            0 => self.send_all(burst, &ways),
            _ => self.send_each(burst, &ways),
        };
        self.meter.passed(Stage::Transmit);
        sent
    }

    /// Sends a burst all of which goes to one port.
    #[inline(always)]
    fn send_all(&mut self, burst: &mut Burst<P::Buffer>, ways: &Ways) -> u64 {
        let count = burst.len() as u64;
        if self.recording {
            self.record_sent(0);
        }
        self.flush(usize::from(ways.port()));
        match self.ports.get_mut(usize::from(ways.port())) {
            Some(port) => flush_to(&mut port.0, burst, ways.bytes, &self.counters),
            None => {
                burst.drain(..).for_each(|_| self.counters.count_drop(DropReason::TransmitFull))
            }
        }
        count
    }

    /// Sends what can be sent; what not, stays.
    #[inline(never)]
    fn send_each(&mut self, burst: &mut Burst<P::Buffer>, ways: &Ways) -> u64 {
        if self.recording {
            self.record_sent(ways.staying);
        }
        let mut staying = Burst::<P::Buffer>::new();
        let count = burst.len();
        for (place, packet) in burst.drain(..).enumerate() {
            if let Some(port) = ways.of(place) {
                self.queue(packet, port);
                continue;
            }
            if let Some(&work) = self.works.get(place)
                && let Some(to) = self.works.get_mut(staying.len())
            {
                *to = work;
            }
            let _ = staying.try_push(packet);
        }
        burst.extend(staying);
        (count - burst.len()) as u64
    }

    /// Keeps the outcomes of all packets but those at the places of `staying`.
    #[cold]
    fn record_sent(&mut self, staying: u64) {
        for (place, (work, outcome)) in self.works.iter().zip(&mut self.outcomes).enumerate() {
            if let (Class::Vip(vip), Selection::Backend(backend)) = (work.class, work.selection)
                && staying >> place & 1 == 0
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

/// What a burst is made ready to be sent with.
struct Desk<'w> {
    selector: Selector<'w>,
    traffic: Traffic<'w>,
    outer: OuterHeaders,
    /// As [`Tables::shortest_idle_ms`], or less.
    shortest_idle: u32,
    tally: Tally,
    ways: Ways,
}

impl Desk<'_> {
    /// Makes ready what can be sent of a burst. `RECORDING`: who gets it is kept for
    /// [`Core::record_sent`].
    #[inline(never)]
    fn prepare<const RECORDING: bool, B: Buffer>(
        &mut self,
        burst: &mut [B],
        flights: &mut [Flight],
        works: &mut Works,
    ) {
        let mut from = 0;
        while from < flights.len() {
            let behind = flights.get_mut(from..).unwrap_or_default();
            let is_v6 = behind.first().is_some_and(Flight::is_v6);
            let found = match behind.first() {
                Some(first) if !first.may_go_on() => 0,
                _ if is_v6 => self.find_v6(burst.get(from..).unwrap_or_default(), behind),
                _ => self.find_v4(behind),
            };
            let to = from + found;
            let run = flights.get(from..to).unwrap_or_default();
            let packets = burst.get_mut(from..to).unwrap_or_default();
            self.tally.hits += run.len() as u64;
            if RECORDING {
                record_found(works, from, run);
            }
            self.prepare_found(from, packets, run, works);
            from = match flights.get(to) {
                // Of the other version: not asked yet.
                Some(next) if next.may_go_on() && next.is_v6() != is_v6 => to,
                _ => self.prepare_others(to, burst, flights, works),
            };
        }
    }

    /// Makes ready the packets of `run`, the first of which is at `from`, for whom was found for them.
    #[inline(always)]
    fn prepare_found<B: Buffer>(
        &mut self,
        mut from: usize,
        mut packets: &mut [B],
        mut run: &[Flight],
        works: &mut Works,
    ) {
        let traffic = self.traffic;
        // Most backends have one form, so this is mostly done once.
        while let Some(first) = run.first() {
            let count = self.put_headers(from, packets, run, first);
            let (done, left) = run.split_at_checked(count).unwrap_or((run, &[]));
            done.iter()
                .for_each(|flight| traffic.count(flight.vip, flight.backend, flight.ip_length));
            (from, run) = (from + count, left);
            packets = packets.get_mut(count..).unwrap_or_default();
            if count == 0
                && let (Some(packet), [flight, left @ ..]) = (packets.first_mut(), run)
            {
                self.prepare_otherwise(from, packet, flight, works);
                (from, run) = (from + 1, left);
                packets = packets.get_mut(1..).unwrap_or_default();
            }
        }
    }

    /// Puts headers in front of the packets of `run` that have the same form as its first. Returns how
    /// many they are.
    #[inline(always)]
    fn put_headers<B: Buffer>(
        &mut self,
        from: usize,
        packets: &mut [B],
        run: &[Flight],
        first: &Flight,
    ) -> usize {
        let tables = self.selector.tables;
        let Some(form) = tables.backend(first.backend).map(Backend::form) else { return 0 };
        let (backends, outer) = (&*tables.backends, &mut self.outer);
        let (count, bytes) = match first.is_v6() {
            true => v6::put_headers(packets, run, backends, form, outer),
            false => v4::put_headers(packets, run, backends, form, outer),
        };
        self.ways.go(from, count, form.port(), bytes);
        count
    }

    /// Makes ready a packet that was found, but is not sent as most are.
    #[inline(never)]
    fn prepare_otherwise<B: Buffer>(
        &mut self,
        place: usize,
        packet: &mut B,
        flight: &Flight,
        works: &mut Works,
    ) {
        let &Flight { vip, backend: index, .. } = flight;
        let Some(backend) = self.selector.tables.backend(index) else {
            self.ways.stays(place);
            return;
        };
        let done = match flight.is_v6() {
            true => v6::put_header(packet, flight, backend, &mut self.outer),
            false => v4::put_header(packet, flight, backend, &mut self.outer),
        };
        if done {
            self.traffic.count(vip, index, flight.ip_length);
            self.ways.go(place, 1, backend.port, packet.data().len() as u64);
        } else if let Some(work) = at_length(packet, flight, place, works) {
            self.prepare_for(place, packet, work, Chosen { vip, index, backend });
        } else {
            self.ways.stays(place);
        }
    }

    /// Makes ready the packet at `from`, and with it those behind it that may not simply go on.
    /// Returns where the others begin.
    #[inline(never)]
    fn prepare_others<B: Buffer>(
        &mut self,
        from: usize,
        burst: &mut [B],
        flights: &[Flight],
        works: &mut Works,
    ) -> usize {
        let mut place = from;
        while let (Some(packet), Some(flight)) = (burst.get_mut(place), flights.get(place))
            && (place == from || !flight.may_go_on())
        {
            self.prepare_other(place, packet, flight, works);
            place += 1;
        }
        place
    }

    /// Any packet.
    #[inline(always)]
    fn prepare_other<B: Buffer>(
        &mut self,
        place: usize,
        packet: &mut B,
        flight: &Flight,
        works: &mut Works,
    ) {
        let work = match flight.probe {
            // Was written to be prepared.
            Probe::NONE => works.get_mut(place),
            _ => at_length(packet, flight, place, works),
        };
        let Some(work) = work else {
            self.ways.stays(place);
            return;
        };
        let Selector { tables, conntrack, now_ms, .. } = &mut self.selector;
        let tables = *tables;
        let found = steady(work, conntrack, tables, *now_ms, self.shortest_idle);
        let chosen = match found {
            Some(Found { steady, taken, backend }) => {
                let Pin { vip, backend: index, .. } = steady.pin();
                steady.count(taken, *now_ms);
                self.tally.hits += 1;
                Some(Chosen { vip, index, backend })
            }
            None => settle(work, packet.data(), &mut self.selector, &mut self.tally),
        };
        match chosen {
            Some(chosen) => self.prepare_for(place, packet, work, chosen),
            None => self.ways.stays(place),
        }
    }

    /// Makes a packet ready for the backend that was chosen, if it can be sent as it is.
    #[inline(always)]
    fn prepare_for<B: Buffer>(
        &mut self,
        place: usize,
        packet: &mut B,
        work: &mut Work,
        chosen: Chosen<'_>,
    ) {
        let Chosen { vip, index, backend } = chosen;
        let tables = self.selector.tables;
        (work.class, work.selection) = (Class::Vip(vip), Selection::Backend(index));
        if backend.reachable
            && !(tables.clamps && work.parsed.segment == Segment::Syn)
            && rewrite(packet, work, (vip, index), backend, tables, &mut self.outer)
        {
            self.traffic.count(vip, index, work.parsed.ip_length);
            self.ways.go(place, 1, backend.port, packet.data().len() as u64);
        } else {
            self.ways.stays(place);
        }
    }
}

/// Keeps who gets the packets of `run`, for [`Core::record_sent`].
#[cold]
#[inline(never)]
fn record_found(works: &mut Works, from: usize, run: &[Flight]) {
    for (work, flight) in works.get_mut(from..).unwrap_or_default().iter_mut().zip(run) {
        let &Flight { vip, backend, .. } = flight;
        (work.class, work.selection) = (Class::Vip(vip), Selection::Backend(backend));
    }
}

/// A packet of a flow that goes on, of the VIP it is pinned to, at a backend that is ready for it.
struct Found<'s, 't> {
    steady: Steady<'s>,
    taken: Packet,
    backend: &'t Backend,
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
    let fits = backend.is_ready_for(generation) && tables.lookup.takes(vip, parsed.key.service());
    fits.then_some(Found { steady, taken, backend })
}
