//! The Maglev table: build, and look up.
//!
//! ```text
//!  hash  0                                                  2^64
//!        |---------|---------|---------|-- ... --|---------|
//!  slot       0         1         2                M - 1         floor(hash * M / 2^64)
//!        [ index   | index   | index   |   ...   | index   ]     u32 each
//! ```
//!
//! Invariant: the array has M entries, or none when nobody is eligible. So the bounds check of
//! the one load in [`Maglev::pick`] is the check for an empty pool, and the only branch.

use core::cmp::Reverse;
use core::fmt;

use crate::digest::Digest;
use crate::error::Error;
use crate::member::{Member, Roster};
use crate::permutation::{Permutation, scale, step};
use crate::prime::{is_prime, nearest_primes};
use crate::scheduler::{Scheduler, Share};
use crate::turns::Turns;

/// The greatest size of a table: the last prime below 2^24. Such a table takes 64 MiB.
pub const MAX_SLOTS: u32 = 16_777_213;

/// A finished Maglev table; a change of the pool is a new table. See the crate for how it is made.
#[derive(Clone, PartialEq)]
pub struct Maglev {
    size: u32,
    slots: Box<[u32]>,
    shares: Box<[Share]>,
    digest: Digest,
}

impl Maglev {
    /// Builds the table of `size` slots. The order of `members` does not matter; with no members,
    /// or only zero weights, the table is empty and picks nobody.
    ///
    /// # Errors
    /// [`Error::Size`] unless `size` is a prime up to [`MAX_SLOTS`]; [`Error::TooManyMembers`] when
    /// there are more weights above 0 than slots; [`Error::DuplicateId`],
    /// [`Error::DuplicateIndex`].
    pub fn build(members: &[Member<'_>], size: u32, secret: [u8; 16]) -> Result<Maglev, Error> {
        check_size(size)?;
        let roster = Roster::new(members)?;
        let seats = seats(&roster, size, secret);
        if seats.len() > size as usize {
            return Err(Error::TooManyMembers { members: seats.len(), size });
        }
        Ok(Maglev::of_owners(&roster, size, fill(seats, size)))
    }

    /// Takes a table that was built elsewhere: `slots` holds `size` indices of `members`, or
    /// nothing for an empty table. Only its form is checked; see [`crate::verify`].
    ///
    /// # Errors
    /// [`Error::Size`], [`Error::DuplicateId`], [`Error::DuplicateIndex`] as for
    /// [`Maglev::build`]; [`Error::Length`], [`Error::UnknownIndex`].
    pub fn from_slots(slots: &[u32], size: u32, members: &[Member<'_>]) -> Result<Maglev, Error> {
        check_size(size)?;
        if !slots.is_empty() && slots.len() != size as usize {
            return Err(Error::Length { size, found: slots.len() });
        }
        let roster = Roster::new(members)?;
        let mut positions: Vec<(u32, u32)> =
            (0u32..).zip(roster.members()).map(|(at, member)| (member.index, at)).collect();
        positions.sort_unstable();
        let owners = (0u32..).zip(slots).map(|(slot, &index)| {
            let found = positions.binary_search_by_key(&index, |&(index, _)| index);
            let entry = found.ok().and_then(|at| positions.get(at));
            entry.map(|&(_, position)| position).ok_or(Error::UnknownIndex { slot, index })
        });
        let owners = owners.collect::<Result<Vec<u32>, Error>>()?;
        Ok(Maglev::of_owners(&roster, size, owners))
    }

    /// The backend index for a flow hash; `None` when nobody is eligible.
    #[inline]
    pub fn pick(&self, flow_hash: u64) -> Option<u32> {
        self.get(self.slot_of(flow_hash))
    }

    /// The slot that a flow hash falls into: `floor(flow_hash * size / 2^64)`, for an empty table
    /// too.
    #[inline]
    pub fn slot_of(&self, flow_hash: u64) -> u32 {
        scale(flow_hash, self.size)
    }

    /// The backend index in a slot; `None` past the end, and in an empty table.
    #[inline]
    pub fn get(&self, slot: u32) -> Option<u32> {
        self.slots.get(slot as usize).copied()
    }

    /// The slots, each with a backend index: [`Maglev::size`] of them, or none when nobody is
    /// eligible.
    #[inline]
    pub fn slots(&self) -> &[u32] {
        &self.slots
    }

    /// The table's size M, for an empty table too.
    #[inline]
    pub fn size(&self) -> u32 {
        self.size
    }

    /// From positions in the roster to the finished value.
    fn of_owners(roster: &Roster<'_>, size: u32, mut owners: Vec<u32>) -> Maglev {
        let members = roster.members();
        let mut counts = vec![0u32; members.len()];
        for &owner in &owners {
            counts[owner as usize] += 1;
        }
        let digest = Digest::of_table(members, &counts, size, &owners);
        let shares = members.iter().zip(&counts).map(|(member, &slots)| Share {
            index: member.index,
            weight: member.weight,
            slots,
            fraction: f64::from(slots) / f64::from(size),
        });
        for owner in &mut owners {
            *owner = members[*owner as usize].index;
        }
        Maglev { size, slots: owners.into(), shares: shares.collect(), digest }
    }
}

impl Scheduler for Maglev {
    #[inline]
    fn pick(&self, flow_hash: u64) -> Option<u32> {
        self.pick(flow_hash)
    }

    fn len(&self) -> usize {
        self.slots.len()
    }

    fn shares(&self) -> &[Share] {
        &self.shares
    }

    fn digest(&self) -> &Digest {
        &self.digest
    }
}

impl fmt::Debug for Maglev {
    /// Without the slots: there are many.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Maglev")
            .field("size", &self.size)
            .field("members", &self.shares.len())
            .field("digest", &self.digest)
            .finish_non_exhaustive()
    }
}

/// What one member brings to the table.
struct Seat {
    /// The next slot of its permutation that it has not tried.
    next: u32,
    skip: u32,
    weight: u32,
    /// Position in the roster.
    owner: u32,
    precedence: u64,
}

/// The eligible members in the order of their turns: heavy ones first, then by precedence. Should
/// two of one weight have the same precedence, the lesser id goes first.
fn seats(roster: &Roster<'_>, size: u32, secret: [u8; 16]) -> Vec<Seat> {
    let eligible = roster.eligible().map(|(owner, member)| {
        let Permutation { offset, skip, precedence } = Permutation::new(secret, member.id, size);
        Seat { next: offset, skip, weight: member.weight, owner, precedence }
    });
    let mut seats: Vec<Seat> = eligible.collect();
    seats.sort_unstable_by_key(|seat| (Reverse(seat.weight), seat.precedence, seat.owner));
    seats
}

/// Turn-taking: who owns each slot, by position in the roster. Nothing when there are no seats.
fn fill(mut seats: Vec<Seat>, size: u32) -> Vec<u32> {
    if seats.is_empty() {
        return Vec::new();
    }
    let weights: Vec<u32> = seats.iter().map(|seat| seat.weight).collect();
    let mut turns = Turns::new(&weights);
    let mut free = FreeSlots::new(size);
    let mut owners = vec![0; size as usize];
    let mut left = size as usize;
    while left > 0 {
        let class = &mut seats[turns.next_class()];
        let taken = class.len().min(left);
        for seat in &mut class[..taken] {
            let slot = free.take_first(seat.next, seat.skip);
            owners[slot as usize] = seat.owner;
            seat.next = step(slot, seat.skip, size);
        }
        left -= taken;
    }
    owners
}

/// A bit for each slot: small enough for the first-level cache, where the probes happen.
struct FreeSlots {
    size: u32,
    taken: Vec<u64>,
}

impl FreeSlots {
    fn new(size: u32) -> FreeSlots {
        FreeSlots { size, taken: vec![0; size as usize / 64 + 1] }
    }

    /// Takes the first free slot of a permutation, from its entry `slot` on. Only called while
    /// there is a free one, and the skip reaches all: so it ends.
    #[inline(always)]
    fn take_first(&mut self, mut slot: u32, skip: u32) -> u32 {
        while self.taken[slot as usize / 64] >> (slot % 64) & 1 != 0 {
            slot = step(slot, skip, self.size);
        }
        self.taken[slot as usize / 64] |= 1 << (slot % 64);
        slot
    }
}

fn check_size(size: u32) -> Result<(), Error> {
    if size <= MAX_SLOTS && is_prime(size) {
        return Ok(());
    }
    let (below, above) = nearest_primes(size);
    Err(Error::Size { size, below, above })
}
