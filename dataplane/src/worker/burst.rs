//! One burst through the stages.

use conntrack::Segment;

use super::notes::Work;
use super::stages::{parse_burst, probe_burst};
use super::{Core, Meter, Stage};
use crate::answer::{self, LinkAnswer};
use crate::buffer::Buffer;
use crate::classify::Class;
use crate::counters::WorkerCounters;
use crate::forward;
use crate::hold::{HOLD_MS, Held};
use crate::link::NeighbourSeen;
use crate::parse::Parsed;
use crate::port::{BURST, Burst, Port};
use crate::second_chance::second_address;
use crate::select::Selection;
use crate::tables::{BackendState, NO_ROUTE, PortTable, Tables};
use crate::tags;
use crate::verdict::{DropReason, NO_BACKEND, Outcome, Verdict};

impl<P: Port, M: Meter> Core<P, M> {
    /// Takes a burst that came in at `port_index` through all stages. One that goes to one port
    /// altogether is sent; what else is to be sent is in the transmit bursts afterwards.
    pub(super) fn process(
        &mut self,
        burst: &mut Burst<P::Buffer>,
        port_index: u8,
        tables: &Tables,
        now_ms: u32,
    ) {
        let Some(port) = tables.ports.get(usize::from(port_index)) else {
            burst.clear();
            return;
        };
        self.outcomes.clear();
        if self.recording {
            let unknown = Outcome::early(Verdict::Drop(DropReason::NoVip));
            self.outcomes.extend(std::iter::repeat_n(unknown, burst.len()));
        }
        let count = burst.len().min(BURST);
        let flights = self.flights.get_mut(..count).unwrap_or_default();
        let works = &mut *self.works;
        let bytes = parse_burst(burst, port, &self.hasher, &self.conntrack, flights, works);
        self.meter.passed(Stage::Parse);
        self.counters.received_packets.add(burst.len() as u64);
        self.counters.received_bytes.add(bytes);
        let flights = self.flights.get_mut(..count).unwrap_or_default();
        let works = &mut *self.works;
        probe_burst(burst, flights, works, &self.conntrack, tables, &self.counters, now_ms);
        self.meter.passed(Stage::Probe);
        let ready = self.send_ready(burst, tables, now_ms);
        // What is left: to be answered, held, given to others, or dropped.
        for (place, packet) in burst.drain(..).enumerate() {
            let Some(&work) = self.works.get(place) else { return };
            let outcome = match work.class {
                Class::Vip(vip) => match work.selection {
                    Selection::Backend(backend) => {
                        let from = Some(port_index);
                        self.forward(packet, &work, vip, backend, from, tables, now_ms)
                    }
                    Selection::Reset(backend) => {
                        let outcome = self.reset(packet, &work, port_index, tables, now_ms);
                        Outcome { verdict: outcome, vip, backend }
                    }
                    Selection::Drop(reason) => {
                        if reason == DropReason::NoBackend && tables.icmp.port_unreachable {
                            self.unreachable(packet, &work.parsed, port_index, tables, now_ms);
                        }
                        Outcome { verdict: Verdict::Drop(reason), vip, backend: NO_BACKEND }
                    }
                },
                Class::Fragment => {
                    self.take_fragment(packet, &work.parsed, port_index, tables, now_ms)
                }
                Class::Icmp => self.icmp(packet, &work, port_index, tables, now_ms),
                Class::Arp | Class::Ndp => {
                    Outcome::early(self.neighbour(packet, &work, port_index, tables, now_ms))
                }
                Class::Host => Outcome::early(self.for_the_node(
                    packet,
                    &work.parsed,
                    port_index,
                    tables,
                    now_ms,
                )),
                Class::Drop(reason) => {
                    if reason == DropReason::NoVip && tables.icmp.port_unreachable {
                        self.unreachable(packet, &work.parsed, port_index, tables, now_ms);
                    }
                    Outcome::early(Verdict::Drop(reason))
                }
            };
            self.finish(&work, outcome);
        }
        self.counters.forwarded.add(ready);
    }

    /// Counts what became of a packet, and keeps it for who asks.
    fn finish(&mut self, work: &Work, outcome: Outcome) {
        match outcome.verdict {
            Verdict::Forward | Verdict::Hold | Verdict::HandOff => {}
            Verdict::Reply => self.counters.replied.add(1),
            Verdict::Host => self.counters.host.add(1),
            Verdict::Drop(reason) => self.counters.count_drop(reason),
        }
        if self.recording {
            self.record(work.place, outcome);
        }
    }

    /// Sends a packet to its backend, or keeps it until the way is known. `from` is the port it
    /// came in at, where its sender is told of what hinders it; `None`: nobody is.
    #[cold]
    #[expect(clippy::too_many_arguments, reason = "what a packet has come with so far")]
    pub(super) fn forward(
        &mut self,
        mut packet: P::Buffer,
        work: &Work,
        vip: u32,
        index: u32,
        from: Option<u8>,
        tables: &Tables,
        now_ms: u32,
    ) -> Outcome {
        let outcome = |verdict| Outcome { verdict, vip, backend: index };
        let Some(backend) = tables.backend(index) else {
            return outcome(Verdict::Drop(DropReason::NoBackend));
        };
        if !backend.reachable && backend.next_hop == NO_ROUTE {
            return outcome(Verdict::Drop(DropReason::NoRoute));
        }
        if !backend.reachable {
            let held = Held {
                buffer: packet,
                parsed: work.parsed,
                flow_hash: work.flow_hash,
                outcome: outcome(Verdict::Hold),
                next_hop: backend.next_hop,
                generation: backend.generation,
                deadline_ms: now_ms.wrapping_add(HOLD_MS),
            };
            return match self.hold.push(held) {
                Ok(()) => {
                    self.counters.held.add(1);
                    outcome(Verdict::Hold)
                }
                Err(_) => outcome(Verdict::Drop(DropReason::NeighbourQueueFull)),
            };
        }
        if tables.clamps && work.parsed.segment == Segment::Syn {
            self.clamp(&mut packet, &work.parsed, vip, index, tables);
        }
        let parsed = &work.parsed;
        let second = second_address(tables, vip, index, parsed);
        let rewritten = forward::rewrite_naming(
            &mut packet,
            parsed,
            backend,
            work.flow_hash,
            &mut self.outer,
            second,
        );
        match rewritten {
            Ok(()) => self.queue(packet, backend.port),
            Err(reason) => {
                match self.refused(packet, work, vip, index, reason, from, tables, now_ms) {
                    Verdict::Forward => {}
                    verdict => return outcome(verdict),
                }
            }
        }
        self.counters.traffic().count(vip, index, work.parsed.ip_length);
        self.counters.forwarded.add(1);
        outcome(Verdict::Forward)
    }

    /// Sends the held packets whose way has become known, drops those that waited too long.
    #[cold]
    pub(super) fn release_held(&mut self, tables: &Tables, now_ms: u32) {
        let ready = |held: &Held<P::Buffer>| {
            tables
                .backend(held.outcome.backend)
                .is_none_or(|backend| backend.reachable || backend.generation != held.generation)
        };
        while let Some(held) = self.hold.pop(now_ms, ready) {
            let usable = tables.backend(held.outcome.backend).is_some_and(|backend| {
                backend.reachable
                    && backend.generation == held.generation
                    && backend.state != BackendState::Gone
            });
            if !usable {
                self.counters.count_drop(DropReason::NeighbourUnresolved);
                continue;
            }
            let Outcome { vip, backend, .. } = held.outcome;
            let work = Work::of(held.parsed, vip, held.flow_hash, backend);
            let outcome = self.forward(held.buffer, &work, vip, backend, None, tables, now_ms);
            if let Verdict::Drop(reason) = outcome.verdict {
                self.counters.count_drop(reason);
            }
        }
    }

    #[cold]
    fn reset(
        &mut self,
        mut packet: P::Buffer,
        work: &Work,
        port_index: u8,
        tables: &Tables,
        now_ms: u32,
    ) -> Verdict {
        let Some(port) = tables.ports.get(usize::from(port_index)) else {
            return Verdict::Drop(DropReason::BackendEvicted);
        };
        match answer::reset(&mut packet, &work.parsed, port, &mut self.limits, now_ms) {
            Ok(()) => {
                self.counters.resets.add(1);
                self.send_answer(packet, &work.parsed, port_index, port)
            }
            Err(reason) => Verdict::Drop(reason),
        }
    }

    #[cold]
    pub(super) fn echo(
        &mut self,
        mut packet: P::Buffer,
        work: &Work,
        port_index: u8,
        tables: &Tables,
        now_ms: u32,
    ) -> Verdict {
        let Some(port) = tables.ports.get(usize::from(port_index)) else {
            return Verdict::Drop(DropReason::BadIcmp);
        };
        match answer::echo(&mut packet, &work.parsed, port, &mut self.limits, now_ms) {
            Ok(()) => self.send_answer(packet, &work.parsed, port_index, port),
            // What the node does not answer itself may be an answer to its kernel.
            Err(DropReason::IcmpUnsupported) => {
                self.icmp_for_the_kernel(packet, &work.parsed, port_index, tables, now_ms)
            }
            Err(reason) => Verdict::Drop(reason),
        }
    }

    /// Answers or notes what ARP and neighbour discovery have to say.
    #[cold]
    fn neighbour(
        &mut self,
        mut packet: P::Buffer,
        work: &Work,
        port_index: u8,
        tables: &Tables,
        now_ms: u32,
    ) -> Verdict {
        let link = &self.link;
        let counters = &self.counters;
        let seen = |hop, heard| {
            if link.seen.push(NeighbourSeen { hop, heard }).is_err() {
                counters.events_lost.add(1);
            }
        };
        let (parsed, limits) = (&work.parsed, &mut self.limits);
        let answer = match work.class {
            Class::Ndp => {
                answer::ndp(&mut packet, parsed, tables, port_index, limits, now_ms, seen)
            }
            _ => answer::arp(&mut packet, parsed, tables, port_index, limits, now_ms, seen),
        };
        match answer {
            LinkAnswer::Reply => match tables.ports.get(usize::from(port_index)) {
                Some(port) => self.send_answer(packet, parsed, port_index, port),
                None => Verdict::Drop(DropReason::NoRoute),
            },
            LinkAnswer::Noted => self.copy_to_kernel(packet, parsed, port_index, tables, now_ms),
            LinkAnswer::Drop(reason) => Verdict::Drop(reason),
        }
    }

    /// Sends an answer that was made in the buffer of its question, with the port's tags in place
    /// of those that came. A port without tags of its own answers with those of the question.
    #[cold]
    pub(super) fn send_answer(
        &mut self,
        mut packet: P::Buffer,
        asked: &Parsed,
        port_index: u8,
        port: &PortTable,
    ) -> Verdict {
        let link_length = usize::from(asked.link_length);
        if port.vlan.is_some() && !tags::replace(&mut packet, link_length, port.vlan) {
            return Verdict::Drop(DropReason::NoHeadroom);
        }
        self.queue(packet, port_index);
        Verdict::Reply
    }

    /// Sends a frame of the node's own.
    pub(super) fn send_own(&mut self, port_index: u8, frame: &[u8]) {
        let Some(port) = self.ports.get_mut(usize::from(port_index)) else { return };
        let Some(mut packet) = port.allocate() else {
            self.counters.count_drop(DropReason::NoBuffer);
            return;
        };
        if packet.append(frame) {
            self.queue(packet, port_index);
        }
    }

    /// Puts a packet into a port's transmit burst; sends that first when it is full.
    #[inline]
    pub(super) fn queue(&mut self, packet: P::Buffer, port_index: u8) {
        let index = usize::from(port_index);
        if self.transmit.get(index).is_some_and(|burst| burst.is_full()) {
            self.flush(index);
        }
        let queue = self.transmit.get_mut(index);
        if queue.is_none_or(|burst| burst.try_push(packet).is_err()) {
            self.counters.count_drop(DropReason::TransmitFull);
        }
    }

    /// Sends what waits in all transmit bursts.
    pub(super) fn flush_all(&mut self) {
        for index in 0..self.ports.len() {
            self.flush(index);
        }
    }

    #[inline]
    pub(super) fn flush(&mut self, index: usize) {
        if let (Some(port), Some(burst)) = (self.ports.get_mut(index), self.transmit.get_mut(index))
            && !burst.is_empty()
        {
            let bytes = burst.iter().map(|packet| packet.data().len() as u64).sum();
            flush_to(&mut port.0, burst, bytes, &self.counters);
        }
    }
}

/// Sends a burst, which has so many bytes. What the port does not take, is dropped.
#[inline]
pub(super) fn flush_to<P: Port>(
    port: &mut P,
    burst: &mut Burst<P::Buffer>,
    bytes: u64,
    counters: &WorkerCounters,
) {
    let count = burst.len();
    port.transmit(burst);
    let sent = count - burst.len();
    let mut refused_bytes = 0;
    for packet in burst.drain(..) {
        refused_bytes += packet.data().len() as u64;
        counters.count_drop(DropReason::TransmitFull);
    }
    counters.transmitted_packets.add(sent as u64);
    counters.transmitted_bytes.add(bytes.saturating_sub(refused_bytes));
}
