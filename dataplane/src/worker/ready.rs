//! The last stage of nearly all packets: their flow goes on, at a backend that can be reached, and
//! all they need is its header.
//!
//! Choice and rewrite are one loop: what the one has found the other has in registers. The VIP is
//! not looked up: the entry names it, and whether that is still right is one comparison.

use arrayvec::ArrayVec;
use conntrack::Segment;

use super::burst::Work;
use super::stages::settle;
use super::{Core, Meter};
use crate::buffer::Buffer;
use crate::classify::Class;
use crate::forward::{self, OuterHeaders};
use crate::port::{BURST, Burst, Port};
use crate::second_chance::second_address;
use crate::select::{Chosen, Selection, Selector, Tally};
use crate::tables::{Backend, Tables};
use crate::verdict::{Outcome, Verdict};

impl<P: Port, M: Meter> Core<P, M> {
    /// Rewrites the packets of `burst` that can be sent as they are, and puts them into the
    /// transmit bursts. All others stay in `burst`, in their order and unchanged where a rewrite
    /// failed, with their work at the front of `self.work`. Returns how many were sent.
    #[inline(always)]
    pub(super) fn send_ready(
        &mut self,
        burst: &mut Burst<P::Buffer>,
        tables: &Tables,
        now_ms: u32,
    ) -> u64 {
        let recording = self.recording;
        let Self { work, conntrack, transmit, counters, outer, .. } = &mut *self;
        let counters = &**counters;
        let traffic = counters.traffic();
        let mut selector = Selector { tables, conntrack, counters, now_ms };
        let mut tally = Tally::default();
        // Where packets may name their backends themselves, each has to be asked.
        let shortest_idle = if tables.steered { 0 } else { tables.shortest_idle_ms };
        let mut rest = ArrayVec::<P::Buffer, BURST>::new();
        let mut places = ArrayVec::<u8, BURST>::new();
        let count = burst.len() as u64;
        for (mut packet, work) in burst.drain(..).zip(work.iter_mut()) {
            let Work { parsed, probe, .. } = work;
            let is_of = |tables: &Tables, vip| tables.lookup.takes(vip, parsed.key.service());
            let chosen = match selector.steady(parsed, *probe, shortest_idle, is_of) {
                Some(chosen) => {
                    tally.hits += 1;
                    Some(chosen)
                }
                _ => settle(work, packet.data(), &mut selector, &mut tally),
            };
            if let Some(Chosen { vip, index, backend }) = chosen {
                if backend.reachable
                    && let Some(queue) = transmit.get_mut(usize::from(backend.port))
                    && !queue.is_full()
                    && !(tables.clamps && work.parsed.segment == Segment::Syn)
                    && rewrite(&mut packet, work, (vip, index), backend, tables, outer)
                {
                    let _ = queue.try_push(packet);
                    traffic.count(vip, index, work.parsed.ip_length);
                    if recording {
                        (work.class, work.selection) = (Class::Vip(vip), Selection::Backend(index));
                    }
                    continue;
                }
                (work.class, work.selection) = (Class::Vip(vip), Selection::Backend(index));
            }
            let _ = rest.try_push(packet);
            let _ = places.try_push(work.place);
        }
        tally.add_to(counters);
        let sent = count - rest.len() as u64;
        if self.recording {
            self.record_sent(&places);
        }
        if !rest.is_empty() {
            for (to, from) in places.into_iter().enumerate() {
                if let Some(&from) = self.work.get(usize::from(from))
                    && let Some(to) = self.work.get_mut(to)
                {
                    *to = from;
                }
            }
            burst.extend(rest);
        }
        sent
    }

    /// Keeps the outcomes of all packets but those at `places`.
    #[cold]
    fn record_sent(&mut self, places: &[u8]) {
        for (work, outcome) in self.work.iter().zip(&mut self.outcomes) {
            if let (Class::Vip(vip), Selection::Backend(backend)) = (work.class, work.selection)
                && !places.contains(&work.place)
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
                && forward::plain(packet, parsed, backend, *flow_hash, outer).is_ok()
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
