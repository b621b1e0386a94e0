//! Third stage: which backend gets the packet?
//!
//! Conntrack first; on a miss the pool's table, so that a flow moved here from another node goes
//! on to the same backend (SPEC section 2). What the state of a pinned backend means for its
//! flows is decided here, in [`reconsider`].

mod quoted;
mod steered;

use std::net::IpAddr;

use conntrack::{
    Cause, Entry, Hit, Inserted, Lookup, Packet, Pin, Probe, Removed, Segment, State, Table,
};
use maglev::FlowHasher;

use crate::counters::WorkerCounters;
use crate::parse::{Kind, Parsed};
use crate::prefetch;
use crate::tables::{Affinity, Backend, BackendState, Pool, Tables, Vip};
use crate::verdict::DropReason;
use crate::vip::address_bits;
use crate::wire::IpProtocol;

pub use quoted::select_quoted;
pub use steered::route;

/// Whom a packet goes to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chosen<'a> {
    /// Index of its VIP.
    pub(crate) vip: u32,
    /// That of its backend.
    pub(crate) index: u32,
    /// The backend.
    pub(crate) backend: &'a Backend,
}

/// What to do with a packet of a VIP's flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selection {
    /// Send it to this backend.
    Backend(u32),
    /// Its backend was evicted: tell the client.
    Reset(u32),
    /// Drop it.
    Drop(DropReason),
}

/// What happened to the conntrack table during a burst; added to the counters once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Packets with an entry.
    pub hits: u64,
    /// Packets without.
    pub misses: u64,
    /// Entries made.
    pub inserts: u64,
    /// Entries that had to go for them.
    pub evictions: u64,
    /// Entries whose time was over, and which a new one replaced before the reaper came.
    pub expired: u64,
    /// Packets for whose flow there was no room.
    pub refused: u64,
}

impl Tally {
    /// Adds this burst to the worker's counters.
    pub fn add_to(&self, counters: &WorkerCounters) {
        let conntrack = &counters.conntrack;
        conntrack.hits.add(self.hits);
        conntrack.misses.add(self.misses);
        conntrack.inserts.add(self.inserts);
        conntrack.evictions.add(self.evictions);
        conntrack.expired.add(self.expired);
        conntrack.refused.add(self.refused);
    }
}

/// What selection works with.
#[derive(Debug)]
pub struct Selector<'a> {
    /// The version of the tables this burst sees.
    pub tables: &'a Tables,
    /// The worker's own table of flows.
    pub conntrack: &'a mut Table,
    /// The worker's counters.
    pub counters: &'a WorkerCounters,
    /// Milliseconds on the worker's wrapping clock.
    pub now_ms: u32,
}

impl<'a> Selector<'a> {
    /// Chooses the backend for one packet of the VIP at `vip_index`. `asked` says the
    /// packet's [`table_hash`], where it is known.
    #[inline(always)]
    pub fn select(
        &mut self,
        parsed: &Parsed,
        vip_index: u32,
        flow_hash: u64,
        probe: Probe,
        asked: impl FnOnce() -> Option<u64>,
        tally: &mut Tally,
    ) -> Selection {
        let shortest_idle = self.tables.shortest_idle_ms;
        if let Some(backend) = self.steady(parsed, vip_index, probe, shortest_idle) {
            tally.hits += 1;
            return Selection::Backend(backend);
        }
        self.select_any(parsed, vip_index, flow_hash, probe, asked(), tally)
    }

    /// What nearly all packets are: of a flow that goes on, at a backend that is there, of the VIP
    /// that it is pinned to. The packet is taken. `None` says nothing.
    #[inline(always)]
    fn steady(
        &mut self,
        parsed: &Parsed,
        vip_index: u32,
        probe: Probe,
        shortest_idle: u32,
    ) -> Option<u32> {
        if parsed.kind != Kind::Flow {
            return None;
        }
        let packet = Packet { segment: parsed.segment, length: parsed.ip_length };
        let steady =
            self.conntrack.steady(probe, &parsed.key, packet, self.now_ms, shortest_idle)?;
        let Pin { backend: index, generation, vip } = steady.pin();
        let backend = self.tables.backend(index)?;
        let goes_on = backend.generation == generation
            && matches!(backend.state, BackendState::Active | BackendState::Draining)
            && vip == vip_index;
        if !goes_on {
            return None;
        }
        steady.count(packet, self.now_ms);
        Some(index)
    }

    /// As [`Selector::select`], for any packet.
    #[inline(never)]
    fn select_any(
        &mut self,
        parsed: &Parsed,
        vip_index: u32,
        flow_hash: u64,
        probe: Probe,
        asked: Option<u64>,
        tally: &mut Tally,
    ) -> Selection {
        let Some(vip) = self.tables.vip(vip_index) else {
            return Selection::Drop(DropReason::NoVip);
        };
        let packet = Packet { segment: parsed.segment, length: parsed.ip_length };
        let lookup = self.conntrack.lookup(
            probe,
            flow_hash,
            &parsed.key,
            packet,
            self.now_ms,
            &vip.timeouts,
        );
        match lookup {
            Lookup::Found(hit) => {
                tally.hits += 1;
                let index = hit.backend();
                if let Some(backend) = self.tables.backend(index)
                    && backend.generation == hit.generation()
                    && matches!(backend.state, BackendState::Active | BackendState::Draining)
                    && !hit.tombstone()
                    && hit.vip() == vip_index
                {
                    return Selection::Backend(index);
                }
                let mut hit = hit;
                if hit.vip() != vip_index {
                    rebind(&mut hit, vip_index, self.counters);
                }
                reconsider(hit, parsed, packet, vip, self.tables, self.counters, self.now_ms)
            }
            // A SYN or a RST that says something about the backend.
            Lookup::Complaint(mut hit) => {
                tally.hits += 1;
                if hit.vip() != vip_index {
                    rebind(&mut hit, vip_index, self.counters);
                }
                reconsider(hit, parsed, packet, vip, self.tables, self.counters, self.now_ms)
            }
            // A new connection on a 5-tuple whose last one is over: a fresh selection.
            Lookup::Closed(hit) => {
                tally.hits += 1;
                let Some(pin) = choose(parsed, vip, vip_index, self.tables) else {
                    return Selection::Drop(DropReason::NoBackend);
                };
                count_new(self.counters, pin);
                let removed = hit.reopen(pin, packet, self.now_ms);
                close(self.counters, &removed);
                open(self.counters, pin);
                Selection::Backend(pin.backend)
            }
            Lookup::Missing => {
                tally.misses += 1;
                if is_own_source(parsed, self.tables) {
                    return Selection::Drop(DropReason::MartianSource);
                }
                let pin = match (asked, self.tables.pool(vip.pool)) {
                    (Some(hash), Some(pool)) => {
                        debug_assert_eq!(hash, table_hash(pool, vip.affinity, parsed));
                        choose_by(hash, pool, vip_index, self.tables)
                    }
                    _ => choose(parsed, vip, vip_index, self.tables),
                };
                let Some(pin) = pin else {
                    return Selection::Drop(DropReason::NoBackend);
                };
                self.remember(parsed, packet, pin, flow_hash, tally);
                Selection::Backend(pin.backend)
            }
        }
    }

    /// The backend of a packet that belongs to a flow without being one of its own: a later
    /// fragment, an ICMP error about it. Follows the flow's entry, else the table alone; the entry
    /// is neither made nor moved, so that such packets cannot confirm a flow or keep it alive.
    #[cold]
    pub fn follow(&self, parsed: &Parsed, vip_index: u32, flow_hash: u64) -> Selection {
        let Some(vip) = self.tables.vip(vip_index) else {
            return Selection::Drop(DropReason::NoVip);
        };
        let entry = self.conntrack.peek(flow_hash, &parsed.key, self.now_ms, &vip.timeouts);
        if let Some(entry) = entry {
            let pin = entry.pin();
            let backend = self.tables.backend(pin.backend);
            let there = backend.is_some_and(|backend| {
                backend.generation == pin.generation
                    && !matches!(backend.state, BackendState::Evicted | BackendState::Gone)
            });
            if there && !entry.tombstone() {
                return Selection::Backend(pin.backend);
            }
            if parsed.key.protocol() == IpProtocol::TCP.0 {
                return Selection::Drop(DropReason::BackendEvicted);
            }
        }
        match choose(parsed, vip, vip_index, self.tables) {
            Some(pin) => Selection::Backend(pin.backend),
            None => Selection::Drop(DropReason::NoBackend),
        }
    }

    /// Makes an entry for a flow that has none; where there is no room, the flow is forwarded
    /// all the same, and counted.
    #[inline]
    fn remember(
        &mut self,
        parsed: &Parsed,
        packet: Packet,
        pin: Pin,
        flow_hash: u64,
        tally: &mut Tally,
    ) {
        match packet.segment {
            // The end of a flow that is not known here: nothing to remember.
            Segment::Rst => return,
            Segment::Syn => count_new(self.counters, pin),
            Segment::Datagram | Segment::Ack | Segment::Fin => {}
        }
        let tables = self.tables;
        let limit = |entry: &Entry| idle_limit(tables, entry);
        match self.conntrack.insert(flow_hash, &parsed.key, pin, packet, self.now_ms, limit) {
            Inserted::New => tally.inserts += 1,
            Inserted::Replaced(removed) => {
                tally.inserts += 1;
                match removed.cause {
                    Cause::Expired => tally.expired += 1,
                    Cause::Closing | Cause::Unconfirmed | Cause::Superseded => tally.evictions += 1,
                }
                close(self.counters, &removed);
            }
            Inserted::Refused => {
                tally.refused += 1;
                return;
            }
        }
        // Of a datagram nobody says whether it is a flow's first: one that was stored is.
        if packet.segment == Segment::Datagram {
            count_new(self.counters, pin);
        }
        open(self.counters, pin);
    }
}

/// A source that is a VIP, or the node itself: nobody else can send from it. Asked for new flows
/// only; a flow that has an entry has passed.
fn is_own_source(parsed: &Parsed, tables: &Tables) -> bool {
    let source = parsed.key.source();
    tables.lookup.contains_address(address_bits(source)) || tables.owns(source)
}

/// Counts what the client's packet says about its backend (see [`SignalCounters`]).
///
/// [`SignalCounters`]: crate::counters::SignalCounters
fn count_signal(hit: &Hit<'_>, segment: Segment, counters: &WorkerCounters) {
    let Some(signals) = counters.signals(hit.backend()) else { return };
    match (hit.before(), segment) {
        (State::SynReceived, Segment::Syn) => signals.syn_retransmits.add(1),
        (State::SynReceived | State::Established, Segment::Rst) => signals.client_resets.add(1),
        _ => {}
    }
}

/// A VIP was renamed (a port became a range, an address a prefix): its flows go with it.
#[cold]
fn rebind(hit: &mut Hit<'_>, vip: u32, counters: &WorkerCounters) {
    if let (Some(from), Some(to)) = (counters.vip(hit.vip()), counters.vip(vip)) {
        from.close_flow();
        to.open_flow();
    }
    hit.rebind(vip);
}

/// A packet that says something about its flow's backend, and any packet of a flow whose backend is
/// not simply there: evicted, gone, or unhealthy.
#[cold]
fn reconsider(
    mut hit: Hit<'_>,
    parsed: &Parsed,
    packet: Packet,
    vip: &Vip,
    tables: &Tables,
    counters: &WorkerCounters,
    now_ms: u32,
) -> Selection {
    let old = hit.pin();
    let state = match tables.backend(old.backend) {
        Some(backend) if backend.generation == old.generation && !hit.tombstone() => backend.state,
        _ => BackendState::Gone,
    };
    if !matches!(state, BackendState::Evicted | BackendState::Gone) {
        count_signal(&hit, packet.segment, counters);
    }
    let tcp = parsed.key.protocol() == IpProtocol::TCP.0;
    let reselects = tables.pool(vip.pool).is_some_and(|pool| pool.reselect);
    match state {
        BackendState::Active | BackendState::Draining => return Selection::Backend(old.backend),
        // The client of a TCP flow sees the death itself, unless the pool says otherwise.
        BackendState::Unhealthy if tcp && !reselects => return Selection::Backend(old.backend),
        BackendState::Unhealthy => {}
        // SPEC section 2: a reset, the entry stays as a tombstone until idle. A SYN opens
        // another connection, which has a choice of its own.
        BackendState::Evicted | BackendState::Gone if tcp && packet.segment != Segment::Syn => {
            hit.bury();
            return Selection::Reset(old.backend);
        }
        BackendState::Evicted | BackendState::Gone => {}
    }
    let Some(pin) = choose(parsed, vip, old.vip, tables) else {
        return Selection::Drop(DropReason::NoBackend);
    };
    if packet.segment == Segment::Syn {
        count_new(counters, pin);
        hit.reopen(pin, packet, now_ms);
    } else {
        hit.repin(pin.backend, pin.generation);
    }
    if let (Some(from), Some(to)) = (counters.backend(old.backend), counters.backend(pin.backend)) {
        from.close_flow();
        to.open_flow();
    }
    Selection::Backend(pin.backend)
}

/// A choice by the pool's table alone.
#[inline]
fn choose(parsed: &Parsed, vip: &Vip, vip_index: u32, tables: &Tables) -> Option<Pin> {
    let pool = tables.pool(vip.pool)?;
    choose_by(table_hash(pool, vip.affinity, parsed), pool, vip_index, tables)
}

/// As [`choose`], for a packet whose [`table_hash`] is known.
#[inline]
fn choose_by(hash: u64, pool: &Pool, vip_index: u32, tables: &Tables) -> Option<Pin> {
    let backend = pool.selector.pick(hash)?;
    let record = tables.backend(backend)?;
    Some(Pin { backend, generation: record.generation, vip: vip_index })
}

/// The [`table_hash`] of a packet that will most probably need one, and a start on loading the
/// table's answer.
#[inline(never)]
pub(crate) fn ask_ahead(parsed: &Parsed, vip_index: u32, tables: &Tables) -> u64 {
    let Some(vip) = tables.vip(vip_index) else { return 0 };
    let Some(pool) = tables.pool(vip.pool) else { return 0 };
    let hash = table_hash(pool, vip.affinity, parsed);
    prefetch_answer(pool, hash);
    hash
}

/// Starts loading the answer of the pool's table to a [`table_hash`].
#[inline]
pub(crate) fn prefetch_answer(pool: &Pool, hash: u64) {
    if let maglev::Selector::Maglev(table) = &pool.selector {
        prefetch::read(table.slots().as_ptr().wrapping_add(table.slot_of(hash) as usize));
    }
}

/// A choice for a packet whose ports are not known: by the hash of what is, for a VIP of its
/// address. Which VIP, where an address has several, follows from their ports.
#[cold]
pub fn by_addresses(parsed: &Parsed, tables: &Tables) -> Option<Pin> {
    let key = &parsed.key;
    let index = tables.lookup.at_address(key.destination_bits(), key.protocol())?;
    choose(parsed, tables.vip(index)?, index, tables)
}

/// The pool's keyed hash of what a client is known by, the flow or its source address: what its
/// table is asked with.
#[inline]
pub fn table_hash(pool: &Pool, affinity: Affinity, parsed: &Parsed) -> u64 {
    keyed_hash(&pool.hasher, affinity, parsed)
}

/// As [`table_hash`], under a key that need not be a pool's.
#[inline]
pub(crate) fn keyed_hash(hasher: &FlowHasher, affinity: Affinity, parsed: &Parsed) -> u64 {
    if affinity == Affinity::Source {
        return match parsed.key.source() {
            IpAddr::V4(address) => hasher.hash(&address.octets()),
            IpAddr::V6(address) => hasher.hash(&address.octets()),
        };
    }
    let (bytes, length) = parsed.key.canonical_bytes();
    match bytes.first_chunk() {
        Some(bytes) if length == FlowHasher::V4_KEY => hasher.hash_v4(bytes),
        _ => hasher.hash_v6(&bytes),
    }
}

/// How long an entry may be idle: as its VIP says, or said while it was there; a second where
/// there never was such a VIP.
#[inline]
pub fn idle_limit(tables: &Tables, entry: &Entry) -> u32 {
    tables.vip(entry.vip()).map_or(1000, |vip| vip.timeouts.of(entry.state()))
}

/// Counts a flow that begins here.
#[inline]
fn count_new(counters: &WorkerCounters, pin: Pin) {
    if let (Some(vip), Some(backend)) = (counters.vip(pin.vip), counters.backend(pin.backend)) {
        vip.new_flows.add(1);
        backend.new_flows.add(1);
    }
}

/// Counts an entry that was made.
#[inline]
fn open(counters: &WorkerCounters, pin: Pin) {
    if let (Some(vip), Some(backend)) = (counters.vip(pin.vip), counters.backend(pin.backend)) {
        vip.open_flow();
        backend.open_flow();
    }
}

/// Counts an entry that went.
#[inline]
pub fn close(counters: &WorkerCounters, removed: &Removed) {
    let pin = removed.pin;
    if let (Some(vip), Some(backend)) = (counters.vip(pin.vip), counters.backend(pin.backend)) {
        vip.close_flow();
        backend.close_flow();
    }
}
