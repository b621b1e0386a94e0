//! The last stage of nearly all packets: their flow goes on, at a backend that can be reached, and
//! all they need is its header.
//!
//! Choice and rewrite are one loop: what the one has found the other has in registers. The VIP is
//! not looked up: the entry names it, and whether that is still right is one comparison.

mod v6;

use conntrack::{Packet, Pin, Probe, Segment, Steady, Table};

use super::burst::flush_to;
use super::burst::{Flight, Work, Works};
use super::stages::{at_length, settle};
use super::{Core, Meter, Stage};
use crate::buffer::Buffer;
use crate::classify::Class;
use crate::counters::Traffic;
use crate::forward::{self, OuterHeaders};
use crate::parse::Kind;
use crate::port::{BURST, Burst, Port};
use crate::second_chance::second_address;
use crate::select::{Chosen, Selection, Selector, Tally};
use crate::tables::{Backend, Form, PLAIN, Tables};
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

/// Where the packets of a burst go, by their places: nearly always all to one port.
#[derive(Clone, Copy, Debug)]
struct Ways {
    /// That of the first which goes anywhere.
    most: Option<u8>,
    /// Those that do not go there: to the port that is kept for them, or nowhere yet.
    aside: u64,
    /// Those that stay.
    staying: u64,
    ports: [u8; BURST],
    /// Of all frames that go to the port that most go to, as they are sent.
    bytes: u64,
}

const _: () = assert!(BURST <= u64::BITS as usize);

impl Ways {
    fn new() -> Self {
        Self { most: None, aside: 0, staying: 0, ports: [0; BURST], bytes: 0 }
    }

    fn port(&self) -> u8 {
        self.most.unwrap_or(0)
    }

    /// `count` packets, from that at `place` on, go to `port`, with so many bytes altogether.
    #[inline(always)]
    fn go(&mut self, place: usize, count: usize, port: u8, bytes: u64) {
        if count == 0 {
            return;
        }
        if *self.most.get_or_insert(port) == port {
            self.bytes += bytes;
            return;
        }
        for (place, slot) in self.ports.iter_mut().enumerate().skip(place).take(count) {
            self.aside |= 1 << place;
            *slot = port;
        }
    }

    #[inline(always)]
    fn stays(&mut self, place: usize) {
        self.aside |= 1 << place;
        self.staying |= 1 << place;
    }

    /// The port that it goes to, if any.
    fn of(&self, place: usize) -> Option<u8> {
        let is_in = |places: u64| places >> place & 1 != 0;
        match (is_in(self.staying), is_in(self.aside)) {
            (true, _) => None,
            (false, true) => self.ports.get(place).copied(),
            (false, false) => Some(self.port()),
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
    ///
    /// Packets go in runs, in their order: those whose flows simply go on are found in one loop, get
    /// their headers in a second and are counted in a third, each of which has all that it works with
    /// in registers. What stands behind them takes longer.
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
                _ => self.find(behind),
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

    /// Finds whom the packets at the front go to, as long as their flows go on and their backends are
    /// ready for them, and counts these. Returns how many.
    #[inline(never)]
    fn find(&mut self, flights: &mut [Flight]) -> usize {
        let Selector { tables, conntrack, now_ms, .. } = &mut self.selector;
        let (now_ms, shortest_idle) = (*now_ms, self.shortest_idle);
        let mut entries = conntrack.entries();
        let (backends, services) = (&*tables.backends, tables.lookup.service_words());
        let goes_on = |flight: &mut Flight| {
            let &mut Flight { flow, ip_length, segment, probe, .. } = flight;
            let taken = Packet { segment, length: ip_length };
            let steady = entries.steady_v4(probe, flow, taken, now_ms, shortest_idle)?;
            let Pin { backend: index, generation, vip } = steady.pin();
            let backend = backends.get(index as usize)?;
            let fits = backend.is_ready_for(generation)
                && ip_length <= backend.inner_mtu
                && services.get(vip as usize) == Some(&flow.service);
            fits.then(|| {
                steady.count(taken, now_ms);
                (flight.backend, flight.vip) = (index, vip);
            })
        };
        let count = flights.len();
        flights.iter_mut().map(goes_on).position(|found| found.is_none()).unwrap_or(count)
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
        let (count, bytes) = match (form.is_plain(), form.is_varied()) {
            _ if first.is_v6() => v6::put_headers(packets, run, backends, form, outer),
            (true, false) => put_plain::<false, B>(packets, run, backends, form, outer),
            (true, true) => put_plain::<true, B>(packets, run, backends, form, outer),
            (false, _) => put_other(packets, run, backends, form, outer),
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
            false => put_header(packet, flight, backend, &mut self.outer),
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

/// Puts plain headers in front of the packets of `run`, up to the first whose backend has another form
/// than this one. Returns how many, and their bytes. `VARIED`: as the form is.
#[inline(never)]
fn put_plain<const VARIED: bool, B: Buffer>(
    packets: &mut [B],
    run: &[Flight],
    backends: &[Backend],
    form: Form,
    outer: &mut OuterHeaders,
) -> (usize, u64) {
    let first = outer.reserve(run.len());
    let (mut identification, mut bytes, mut count) = (first, 0, 0);
    for (packet, flight) in packets.iter_mut().zip(run) {
        let &Flight { backend, ip_length, ref flow_hash, .. } = flight;
        let Some(backend) = backends.get(backend as usize) else { break };
        if backend.form() != form
            || !forward::put_plain::<VARIED, B>(
                packet,
                ip_length,
                backend,
                flow_hash,
                identification,
            )
        {
            break;
        }
        identification = identification.wrapping_add(1);
        bytes += u64::from(ip_length);
        count += 1;
    }
    outer.used(identification);
    (count, bytes + (count * PLAIN) as u64)
}

/// As [`put_plain`], other headers.
#[inline(never)]
fn put_other<B: Buffer>(
    packets: &mut [B],
    run: &[Flight],
    backends: &[Backend],
    form: Form,
    outer: &mut OuterHeaders,
) -> (usize, u64) {
    let (mut bytes, mut count) = (0, 0);
    for (packet, flight) in packets.iter_mut().zip(run) {
        let Some(backend) = backends.get(flight.backend as usize) else { break };
        if backend.form() != form || !put_header(packet, flight, backend, outer) {
            break;
        }
        bytes += packet.data().len() as u64;
        count += 1;
    }
    (count, bytes)
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

/// Puts the header that a backend's packets get in front of a common packet that was found; `false`
/// when that cannot be done here.
#[inline(always)]
fn put_header<B: Buffer>(
    packet: &mut B,
    flight: &Flight,
    backend: &Backend,
    outer: &mut OuterHeaders,
) -> bool {
    // Never put together: what is asked of it is known here.
    let Some(parsed) = flight.common_v4().map(|common| common.parsed()) else { return false };
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
