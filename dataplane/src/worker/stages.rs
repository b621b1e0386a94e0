//! The stages that a burst goes through, each a loop over all of its packets.
//!
//! A loop does one thing to each packet and starts loading what the next loop will read, so that
//! the packets of a burst wait for memory together and not one after the other.

use arrayvec::ArrayVec;
use conntrack::{KeyHasher, Probe, Table};

use super::burst::Work;
use super::missed::prepare_burst;
use crate::buffer::Buffer;
use crate::classify::{Class, classify};
use crate::counters::WorkerCounters;
use crate::parse::{Parsed, Station, parse_any, parse_common, parse_common_v6};
use crate::port::BURST;
use crate::select::{Chosen, Selection, Selector, Tally};
use crate::tables::{PortTable, Tables};
use crate::verdict::DropReason;

/// Parses; starts loading the tags of each flow. Returns the bytes of all packets.
#[inline(never)]
pub(super) fn parse_burst<B: Buffer>(
    burst: &[B],
    port: &PortTable,
    hasher: &KeyHasher,
    conntrack: &Table,
    work: &mut ArrayVec<Work, BURST>,
) -> u64 {
    let mut bytes = 0;
    let station = Station::of(port);
    let mut at = 0;
    while let Some(packet) = burst.get(at) {
        // One call of `enter` for each form, so that the common one is written straight to its
        // place: it is read in larger pieces than it is made of, and a copy in between would wait
        // for the pieces to reach the cache.
        match parse_common(packet, station) {
            Some(parsed) => {
                bytes += packet.data().len() as u64;
                enter(work, hasher, conntrack, parsed);
                at += 1;
            }
            None => {
                let others = burst.get(at..).unwrap_or_default();
                let taken = enter_others(work, hasher, conntrack, others, port);
                bytes += taken.bytes;
                at += taken.packets;
            }
        }
    }
    bytes
}

/// What [`enter_others`] took.
#[derive(Default)]
struct Taken {
    packets: usize,
    bytes: u64,
}

/// Takes the packet at the front, which is not IPv4's common one: alone, or, where it is IPv6's,
/// with those like it behind it. So IPv6 costs a burst of IPv4 nothing, and a burst of IPv6 is not
/// asked for IPv4 packet by packet.
#[cold]
#[inline(never)]
fn enter_others<B: Buffer>(
    work: &mut ArrayVec<Work, BURST>,
    hasher: &KeyHasher,
    conntrack: &Table,
    burst: &[B],
    port: &PortTable,
) -> Taken {
    let station = Station::of(port);
    let mut taken = Taken::default();
    for packet in burst {
        match parse_common_v6(packet, station) {
            Some(parsed) => enter(work, hasher, conntrack, parsed),
            None if taken.packets == 0 => enter_other(work, hasher, conntrack, packet, port),
            None => break,
        }
        taken.packets += 1;
        taken.bytes += packet.data().len() as u64;
    }
    taken
}

/// Finds each flow's slot; starts loading its entry, or, for a flow that has none, what its entry
/// will be made of.
#[inline(never)]
pub(super) fn probe_burst(
    work: &mut [Work],
    conntrack: &Table,
    tables: &Tables,
    counters: &WorkerCounters,
    now_ms: u32,
) {
    let mut missed = ArrayVec::<u8, BURST>::new();
    for work in work.iter_mut() {
        work.probe = conntrack.probe(work.flow_hash);
        if work.probe == Probe::NONE {
            let _ = missed.try_push(work.place);
        } else {
            conntrack.prefetch_entry(work.probe);
        }
    }
    if !missed.is_empty() {
        prepare_burst(work, &missed, conntrack, tables, counters, now_ms);
    }
}

/// Chooses a packet's backend, where [`Selector::steady`] did not: `None` for a packet that gets
/// none, as its class and selection say.
#[inline(never)]
pub(super) fn settle<'a>(
    work: &mut Work,
    frame: &[u8],
    selector: &mut Selector<'a>,
    tally: &mut Tally,
) -> Option<Chosen<'a>> {
    let Work { flow_hash, probe, table_hash, .. } = *work;
    let tables = selector.tables;
    if probe != Probe::NONE {
        work.class = classify(&work.parsed, tables);
    }
    let Class::Vip(vip) = work.class else { return None };
    let parsed = &work.parsed;
    work.selection = match tables.steered {
        false => {
            let asked = || (probe == Probe::NONE).then_some(table_hash);
            selector.select(parsed, vip, flow_hash, probe, asked, tally)
        }
        true => selector.select_steered(parsed, frame, vip, flow_hash, probe, tally),
    };
    let Selection::Backend(index) = work.selection else { return None };
    Some(Chosen { vip, index, backend: tables.backend(index)? })
}

#[inline(always)]
fn enter(work: &mut ArrayVec<Work, BURST>, hasher: &KeyHasher, conntrack: &Table, parsed: Parsed) {
    let flow_hash = hasher.hash(&parsed.key);
    conntrack.prefetch_tags(flow_hash);
    let (class, selection) = (Class::Arp, Selection::Drop(DropReason::NoVip));
    let (probe, place) = (Probe::NONE, work.len() as u8);
    let _ =
        work.try_push(Work { parsed, class, flow_hash, probe, table_hash: 0, selection, place });
}

#[cold]
#[inline(never)]
fn enter_other<B: Buffer>(
    work: &mut ArrayVec<Work, BURST>,
    hasher: &KeyHasher,
    conntrack: &Table,
    packet: &B,
    port: &PortTable,
) {
    enter(work, hasher, conntrack, parse_any(packet, port));
}
