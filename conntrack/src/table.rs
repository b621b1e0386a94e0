//! The flow table: robin hood hashing with backward-shift deletion (Celis 1986), in place.
//!
//! ```text
//!            home h                          slots            + MAX_PROBE
//!  tags     | .. | 1a | 1f | 23 | 21 | 32 | 0 | .. | spill-over | 0 0 0 (ends scans)
//!  marks    | .. |    |    |    |    |    | 0 | .. |            | 0 0 0
//!  entries  | .. |    |    |    |    |    |   | .. |            |
//! ```
//!
//! A flow's home is the top of its hash scaled to the number of slots, so that number need
//! not be a power of two. Within a run of used slots flows lie in the order of their homes;
//! a new flow goes behind the last one of its home and the rest of the run moves up by one,
//! a removed one lets the run behind it move down. Nothing is ever marked as deleted.
//!
//! A worker takes a burst through in stages, so that memory latency overlaps:
//!
//! 1. hash all keys, [`Table::approach`];
//! 2. [`Table::probe_at`] all, [`Table::prefetch_entry`]; for those that are not there
//!    [`Table::prefetch_insert`], and then [`Table::prefetch_room`] if the table is full;
//! 3. [`Table::lookup`] each, and [`Table::insert`] where it says [`Lookup::Missing`].
//!
//! What stage 3 does to one packet may move the entries of the others. A [`Probe`] is
//! therefore only a hint: its slot is verified, and searched for again if it does not hold.
//!
//! Law: an entry past its timeout is as good as none in every answer, whether the reaper
//! has met it or not.

use core::ops::Deref;

use crate::entry::{Cause, Entry, Observed, Pin, Removed};
use crate::evict::Room;
use crate::key::FlowKey;
use crate::marks::{WINDOW, mark};
use crate::memory::{Memory, MemoryError, Region};
use crate::prefetch::prefetch;
use crate::state::{Packet, State, Timeouts};
use crate::tags::{self, MAX_PROBE};

/// Flows of one worker.
pub struct Table {
    pub(crate) tags: Region<u16>,
    pub(crate) marks: Region<u16>,
    pub(crate) entries: Region<Entry>,
    pub(crate) slots: usize,
    pub(crate) cursor: usize,
    capacity: usize,
    pub(crate) len: usize,
}

/// Where a flow may be: the answer of [`Table::probe`], verified by [`Table::lookup`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    pub(crate) slot: u32,
}

impl Probe {
    /// No slot has a tag that fits: most probably a new flow.
    pub const NONE: Probe = Probe { slot: u32::MAX };
}

/// What the table knows about a packet's flow.
#[derive(Debug)]
pub enum Lookup<'t> {
    /// The flow is pinned; the packet is counted and has moved the state.
    Found(Hit<'t>),
    /// As [`Lookup::Found`], and the packet says that the backend fails its client: a SYN again in
    /// SYN_RECV (no SYN+ACK came), or a RST in SYN_RECV or ESTABLISHED (the client aborts; after
    /// its FIN a RST means nothing). An answer of its own, so that the common one stays short.
    Complaint(Hit<'t>),
    /// A new connection on a 5-tuple whose last one is closed (or a tombstone). Nothing was
    /// changed: choose a backend afresh, then [`Hit::reopen`].
    Closed(Hit<'t>),
    /// No live entry.
    Missing,
}

/// A live entry, for as long as nothing else is done with the table.
#[derive(Debug)]
pub struct Hit<'t> {
    entry: &'t mut Entry,
    mark: &'t mut u16,
    before: State,
}

/// What became of a new flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inserted {
    /// Stored in a free slot.
    New,
    /// Stored in the place of another entry, which is gone.
    Replaced(Removed),
    /// Not stored: the table is full, and no slot in reach holds a flow that may go (all that do
    /// are confirmed and live; free ones beyond the capacity stay free). Forward statelessly.
    Refused,
}

impl Table {
    /// An empty table for `flows` flows in memory of its own.
    ///
    /// # Errors
    /// As [`Memory::allocate`].
    pub fn new(flows: usize) -> Result<Table, MemoryError> {
        Memory::allocate(flows).map(Table::in_memory)
    }

    /// An empty table in the given memory.
    pub fn in_memory(memory: Memory) -> Table {
        let Memory { flows, slots, tags, marks, entries } = memory;
        Table { tags, marks, entries, slots, cursor: 0, capacity: flows, len: 0 }
    }

    /// Size and alignment of the memory for a table of `flows` flows.
    ///
    /// # Errors
    /// As [`Memory::layout`].
    pub fn memory_layout(flows: usize) -> Result<core::alloc::Layout, MemoryError> {
        Memory::layout(flows)
    }

    /// Entries held, timed-out ones that the reaper has not met yet included.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no entry is held.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether a new flow takes the place of another entry.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.len >= self.capacity
    }

    /// Most entries held at once.
    #[inline]
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Slots that the reaper and [`Table::walk`] go through in one turn.
    #[inline]
    pub fn span(&self) -> usize {
        self.slots + MAX_PROBE
    }

    /// Stage 1: starts loading the tags where a flow of this hash would be. Returns where that is.
    #[inline]
    pub fn approach(&self, hash: u64) -> Probe {
        let home = self.home(hash);
        prefetch(&self.tags, home);
        // A table has less than 2^32 slots.
        Probe { slot: home as u32 }
    }

    /// Stage 2: the first slot whose tag fits the hash, for which [`Table::approach`] has said
    /// `home`. For another one there is most probably none, or one of another flow.
    #[inline(always)]
    pub fn probe_at(&self, home: Probe, hash: u64) -> Option<Probe> {
        let slot = tags::first_match(&self.tags, home.slot as usize, hash as u8)?;
        Some(Probe { slot: slot as u32 })
    }

    /// Both at once.
    #[inline]
    pub fn probe(&self, hash: u64) -> Probe {
        self.probe_at(self.approach(hash), hash).unwrap_or(Probe::NONE)
    }

    /// Stage 2: starts loading the entry that the probe found, if any.
    #[inline]
    pub fn prefetch_entry(&self, probe: Probe) {
        // Of a probe that found nothing it is a hint at what is never loaded: harmless.
        prefetch(&self.entries, probe.slot as usize);
    }

    /// Stage 2, for a probe that found nothing: starts loading what an insertion will read first.
    #[inline]
    pub fn prefetch_insert(&self, hash: u64) {
        let home = self.home(hash);
        if self.is_full() {
            prefetch(&self.marks, home);
            prefetch(&self.marks, home + WINDOW - 1);
        } else {
            prefetch(&self.entries, home);
        }
    }

    /// Stage 3: takes one packet of the flow. `now` is in milliseconds on a monotonic clock
    /// that wraps; `timeouts` are those of the packet's VIP.
    #[inline(never)]
    pub fn lookup(
        &mut self,
        probe: Probe,
        hash: u64,
        key: &FlowKey,
        packet: Packet,
        now: u32,
        timeouts: &Timeouts,
    ) -> Lookup<'_> {
        let slot = match self.verified(probe, key) {
            Some(slot) => slot,
            None => match self.find(hash, key) {
                Some(slot) => slot,
                None => return Lookup::Missing,
            },
        };
        let (Some(entry), Some(at)) = (self.entries.get_mut(slot), self.marks.get_mut(slot)) else {
            return Lookup::Missing;
        };
        let before = entry.state();
        let observed = entry.observe(packet, now, timeouts.of(before));
        *at = mark(entry);
        let hit = Hit { entry, mark: at, before };
        match observed {
            Observed::Forward => Lookup::Found(hit),
            Observed::Complaint => Lookup::Complaint(hit),
            Observed::Reopened => Lookup::Closed(hit),
            Observed::Expired => Lookup::Missing,
        }
    }

    /// The live entry of a flow, untouched: for ICMP errors, dumps and the decision tracer.
    pub fn peek(&self, hash: u64, key: &FlowKey, now: u32, timeouts: &Timeouts) -> Option<&Entry> {
        let entry = self.entries.get(self.find(hash, key)?)?;
        (!entry.expired(now, timeouts.of(entry.state()))).then_some(entry)
    }

    /// Stores a flow by its first packet. An entry of the same key, live or not, is replaced.
    ///
    /// `idle_limit` gives the timeout of any entry, milliseconds: those in the way may be of
    /// other VIPs. When the table is full, or the flow would come to lie too far from its
    /// home, one entry near the home makes room: an unconfirmed one that timed out, else a closing
    /// one or a tombstone, else any unconfirmed one, the longest idle first (to 32 ms); where there
    /// is none of these, a confirmed one that timed out; never a confirmed live flow. The choice is
    /// made eight slots at a time, over 32 slots.
    pub fn insert(
        &mut self,
        hash: u64,
        key: &FlowKey,
        pin: Pin,
        packet: Packet,
        now: u32,
        idle_limit: impl Fn(&Entry) -> u32,
    ) -> Inserted {
        let entry = Entry::open(*key, pin, packet, now);
        if let Some(slot) = self.find(hash, key) {
            let expired = self.entries[slot].expired(now, idle_limit(&self.entries[slot]));
            let cause = if expired { Cause::Expired } else { Cause::Superseded };
            let removed = Removed::new(&self.entries[slot], cause);
            self.marks[slot] = mark(&entry);
            self.entries[slot] = entry;
            return Inserted::Replaced(removed);
        }
        let home = self.home(hash);
        let point = tags::insertion_point(&self.tags, home);
        if !self.is_full()
            && point < home + MAX_PROBE
            && let Some(gap) = self.gap(point)
        {
            self.shift_up(point, gap);
            self.put(point, home, hash, entry);
            self.len += 1;
            return Inserted::New;
        }
        match self.room(home, point, now, idle_limit) {
            Room::Taken(victim, cause) => {
                let removed = Removed::new(&self.entries[victim], cause);
                self.replace(victim, point, home, hash, entry);
                Inserted::Replaced(removed)
            }
            Room::None => Inserted::Refused,
        }
    }

    /// How many entries lie 0, 1, 2 ... slots away from their home. Reads all tags: for
    /// benches and diagnosis, not for a worker under load.
    pub fn probe_lengths(&self) -> [usize; MAX_PROBE] {
        let mut lengths = [0; MAX_PROBE];
        for &tag in self.tags.iter().filter(|&&tag| tag != 0) {
            lengths[((tag >> 8) as usize - 1).min(MAX_PROBE - 1)] += 1;
        }
        lengths
    }

    #[inline]
    pub(crate) fn home(&self, hash: u64) -> usize {
        ((hash as u128 * self.slots as u128) >> 64) as usize
    }

    /// The probe's slot, if it holds this very flow. A slot that was vacated since keeps its
    /// old key, so the tag is asked first.
    #[inline(always)]
    pub(crate) fn verified(&self, probe: Probe, key: &FlowKey) -> Option<usize> {
        let slot = probe.slot as usize;
        let entry = self.entries.get(slot)?;
        (*self.tags.get(slot)? != 0 && entry.key() == key).then_some(slot)
    }

    #[inline]
    fn find(&self, hash: u64, key: &FlowKey) -> Option<usize> {
        let home = self.home(hash);
        let mut slot = tags::next_match(&self.tags, home, 0, hash as u8)?;
        while self.entries.get(slot)?.key() != key {
            slot = tags::next_match(&self.tags, home, slot + 1 - home, hash as u8)?;
        }
        Some(slot)
    }
}

impl core::fmt::Debug for Table {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Table({} of {} flows)", self.len, self.capacity)
    }
}

impl Hit<'_> {
    /// The state before this packet.
    #[inline]
    pub fn before(&self) -> State {
        self.before
    }

    /// Moves the flow to another backend of the same VIP (UDP away from a dead one).
    #[inline]
    pub fn repin(&mut self, backend: u32, generation: u16) {
        self.entry.repin(backend, generation);
        *self.mark = mark(self.entry);
    }

    /// Moves the flow to another VIP: the one it came in on goes by another name now.
    #[inline]
    pub fn rebind(&mut self, vip: u32) {
        self.entry.rebind(vip);
    }

    /// Makes the entry a tombstone: the flow's backend is evicted, and its stragglers are
    /// answered until none has come for the timeout of the flow's state.
    #[inline]
    pub fn bury(&mut self) {
        self.entry.bury();
        *self.mark = mark(self.entry);
    }

    /// Starts the flow anew in the same slot; `packet` is its first.
    #[inline]
    pub fn reopen(self, pin: Pin, packet: Packet, now: u32) -> Removed {
        let removed = Removed::new(self.entry, Cause::Superseded);
        *self.entry = Entry::open(*self.entry.key(), pin, packet, now);
        *self.mark = mark(self.entry);
        removed
    }
}

impl Deref for Hit<'_> {
    type Target = Entry;

    #[inline]
    fn deref(&self) -> &Entry {
        self.entry
    }
}
