//! The stages that a burst goes through, each a loop over all of its packets.
//!
//! A loop does one thing to each packet and starts loading what the next loop will read, so that
//! the packets of a burst wait for memory together and not one after the other.

use arrayvec::ArrayVec;
use conntrack::{KeyHasher, Probe, Table};

use super::missed::prepare_burst;
use super::notes::{Flight, Work, Works};
use crate::buffer::Buffer;
use crate::classify::{Class, classify};
use crate::counters::WorkerCounters;
use crate::parse::{Common, Parsed, Station, common_v6, if_common, parse_any, parsed_v6};
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
    flights: &mut [Flight],
    works: &mut Works,
) -> u64 {
    let mut bytes = 0;
    let mut from = 0;
    let station = Station::of(port);
    while let (Some(packets), Some(notes)) = (burst.get(from..), flights.get_mut(from..)) {
        let mut other = None;
        for (place, (packet, flight)) in packets.iter().zip(notes).enumerate() {
            let common = if_common(packet, &station, |common| {
                bytes += packet.data().len() as u64;
                let flow_hash = hasher.hash_v4(common.flow);
                let probe = conntrack.approach(flow_hash);
                *flight = Flight::new(common, flow_hash, probe);
            });
            if !common {
                other = Some(place);
                break;
            }
        }
        let Some(other) = other else { break };
        from += other;
        let (others, theirs) = enter_others(burst, from, port, hasher, conntrack, flights, works);
        (from, bytes) = (from + others, bytes + theirs);
    }
    bytes
}

/// Takes the packet at `from`, which is not IPv4's common one: alone, or, where it is IPv6's,
/// with those like it behind it. So IPv6 costs a burst of IPv4 nothing, and a burst of IPv6 is not
/// asked for IPv4 packet by packet. Returns how many it took, and their bytes.
#[cold]
#[inline(never)]
fn enter_others<B: Buffer>(
    burst: &[B],
    from: usize,
    port: &PortTable,
    hasher: &KeyHasher,
    conntrack: &Table,
    flights: &mut [Flight],
    works: &mut Works,
) -> (usize, u64) {
    let station = Station::of(port);
    let (mut taken, mut bytes) = (0, 0);
    let (Some(packets), Some(notes)) = (burst.get(from..), flights.get_mut(from..)) else {
        return (taken, bytes);
    };
    for (packet, flight) in packets.iter().zip(notes) {
        match common_v6(packet, &station) {
            Some((common, sent)) => {
                let flow_hash = hasher.hash_v6(sent);
                flight.begin_v6(common, flow_hash, conntrack.approach(flow_hash));
            }
            None if taken == 0 => {
                enter_other(flight, from, works, hasher, conntrack, packet, port);
            }
            None => break,
        }
        bytes += packet.data().len() as u64;
        taken += 1;
    }
    (taken, bytes)
}

/// Finds each flow's slot; starts loading its entry, or, for a flow that has none, what its entry
/// will be made of.
#[inline(never)]
pub(super) fn probe_burst<B: Buffer>(
    burst: &[B],
    flights: &mut [Flight],
    works: &mut Works,
    conntrack: &Table,
    tables: &Tables,
    counters: &WorkerCounters,
    now_ms: u32,
) {
    let mut missed = ArrayVec::<u8, BURST>::new();
    for (place, flight) in flights.iter_mut().enumerate() {
        match conntrack.probe_at(flight.probe, flight.flow_hash) {
            Some(probe) => {
                conntrack.prefetch_entry(probe);
                flight.probe = probe;
            }
            None => miss(burst, flight, place, works, &mut missed),
        }
    }
    if !missed.is_empty() {
        prepare_burst(works, &missed, conntrack, tables, counters, now_ms);
    }
}

#[cold]
#[inline(never)]
fn miss<B: Buffer>(
    burst: &[B],
    flight: &mut Flight,
    place: usize,
    works: &mut Works,
    missed: &mut ArrayVec<u8, BURST>,
) {
    flight.probe = Probe::NONE;
    if let Some(packet) = burst.get(place) {
        let _ = missed.try_push(place as u8);
        at_length(packet, flight, place, works);
    }
}

/// The work of the packet at `place`, written now if it was not before.
#[inline]
pub(super) fn at_length<'w, B: Buffer>(
    packet: &B,
    flight: &Flight,
    place: usize,
    works: &'w mut Works,
) -> Option<&'w mut Work> {
    let work = works.get_mut(place)?;
    if flight.is_v6() {
        let parsed = parsed_v6(packet, flight.segment, flight.ip_length);
        let parsed = parsed.unwrap_or(Parsed::dropped(DropReason::BadIpLength));
        *work = Work::new(parsed, flight.flow_hash, place as u8);
    } else if let Some(common) = flight.common_v4() {
        *work = Work::new(common.parsed(), flight.flow_hash, place as u8);
    }
    work.probe = flight.probe;
    Some(work)
}

/// Chooses the backend of a packet whose flow does not simply go on: `None` for a packet that gets
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

#[cold]
#[inline(never)]
fn enter_other<B: Buffer>(
    flight: &mut Flight,
    place: usize,
    works: &mut Works,
    hasher: &KeyHasher,
    conntrack: &Table,
    packet: &B,
    port: &PortTable,
) {
    let parsed = parse_any(packet, port);
    let flow_hash = hasher.hash(&parsed.key);
    *flight = Flight::new(Common::NONE, flow_hash, conntrack.approach(flow_hash));
    if let Some(work) = works.get_mut(place) {
        *work = Work::new(parsed, flow_hash, place as u8);
    }
}
