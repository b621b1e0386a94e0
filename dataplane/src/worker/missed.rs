//! Flows without an entry: what they ask their pools' tables, many at a time.
//!
//! A keyed hash is a long chain of short steps, and takes a burst of keys in little more time than
//! one ([`FlowHasher::hash_v4_many`]). The new flows of a burst mostly go to one pool: those that
//! share the pool and the IP version of the first one, and ask with the whole flow, are hashed
//! together; the others one by one. Then each starts loading its answer, and, where the flow table
//! is full, the entry that will make room for it.

use arrayvec::ArrayVec;
use conntrack::{Family, Table};
use maglev::FlowHasher;

use super::notes::Work;
use crate::classify::{Class, classify};
use crate::counters::WorkerCounters;
use crate::port::BURST;
use crate::select::{ask_ahead, prefetch_answer};
use crate::tables::{Affinity, Tables};

/// Fewer packets than this are hashed one by one.
const FEW: usize = 4;

/// Packets at the places `missed` ([`Work::place`]), whose flows most probably have no entry: finds
/// their VIPs, and starts loading what entries are made of.
#[inline(never)]
pub(super) fn prepare_burst(
    work: &mut [Work],
    missed: &[u8],
    conntrack: &Table,
    tables: &Tables,
    counters: &WorkerCounters,
    now_ms: u32,
) {
    for &place in missed {
        let Some(work) = work.get_mut(usize::from(place)) else { return };
        work.class = classify(&work.parsed, tables);
        if let Class::Vip(vip) = work.class {
            conntrack.prefetch_insert(work.flow_hash);
            counters.prefetch_vip(vip);
        }
    }
    match first_of(work, missed, tables) {
        Some((pool, Family::V4)) if missed.len() >= FEW => {
            ask_together(work, missed, tables, pool, v4, FlowHasher::hash_v4_many);
        }
        Some((pool, Family::V6)) if missed.len() >= FEW => {
            ask_together(work, missed, tables, pool, v6, FlowHasher::hash_v6_many);
        }
        _ => {
            for &place in missed {
                ask_alone(work, place, tables);
            }
        }
    }
    if conntrack.is_full() {
        for work in missed.iter().filter_map(|&place| work.get(usize::from(place))) {
            conntrack.prefetch_room(work.flow_hash, now_ms);
        }
    }
}

/// The pool of the first packet that goes to a VIP, and its IP version.
fn first_of(work: &[Work], missed: &[u8], tables: &Tables) -> Option<(u32, Family)> {
    missed.iter().find_map(|&place| {
        let work = work.get(usize::from(place))?;
        let Class::Vip(vip) = work.class else { return None };
        Some((tables.vip(vip)?.pool, work.parsed.key.family()))
    })
}

/// Packets of flows to the pool at `index` whose key `key_of` knows, hashed by `hash` together.
#[inline(always)]
fn ask_together<const N: usize>(
    work: &mut [Work],
    missed: &[u8],
    tables: &Tables,
    index: u32,
    key_of: fn(&Work) -> Option<[u8; N]>,
    hash: fn(&FlowHasher, &[[u8; N]], &mut [u64]),
) {
    let Some(pool) = tables.pool(index) else {
        missed.iter().for_each(|&place| ask_alone(work, place, tables));
        return;
    };
    let mut keys = ArrayVec::<[u8; N], BURST>::new();
    let mut places = ArrayVec::<u8, BURST>::new();
    for &place in missed {
        match work.get(usize::from(place)).and_then(|work| together(work, tables, index, key_of)) {
            Some(key) => {
                let _ = keys.try_push(key);
                let _ = places.try_push(place);
            }
            None => ask_alone(work, place, tables),
        }
    }
    let mut hashes = [0; BURST];
    hash(&pool.hasher, &keys, &mut hashes);
    for (place, hash) in places.into_iter().zip(hashes) {
        if let Some(work) = work.get_mut(usize::from(place)) {
            work.table_hash = hash;
            prefetch_answer(pool, hash);
        }
    }
}

/// The key of a packet that asks the pool at `index` with its whole flow.
#[inline(always)]
fn together<const N: usize>(
    work: &Work,
    tables: &Tables,
    index: u32,
    key_of: fn(&Work) -> Option<[u8; N]>,
) -> Option<[u8; N]> {
    let Class::Vip(vip) = work.class else { return None };
    let vip = tables.vip(vip)?;
    if vip.pool != index || vip.affinity == Affinity::Source { None } else { key_of(work) }
}

/// One packet's question, whatever pool it is for.
#[inline]
fn ask_alone(work: &mut [Work], place: u8, tables: &Tables) {
    if let Some(work) = work.get_mut(usize::from(place))
        && let Class::Vip(vip) = work.class
    {
        work.table_hash = ask_ahead(&work.parsed, vip, tables);
    }
}

#[inline(always)]
fn v4(work: &Work) -> Option<[u8; FlowHasher::V4_KEY]> {
    work.parsed.key.canonical_v4()
}

#[inline(always)]
fn v6(work: &Work) -> Option<[u8; FlowHasher::V6_KEY]> {
    work.parsed.key.canonical_v6()
}
