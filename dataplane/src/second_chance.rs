//! Who else may know a flow: the owner that its slot had before.
//!
//! A flow whose conntrack entry is lost (its node is gone, or was restarted) finds its backend by the
//! pool's table; on a slot that changed hands meanwhile that is a backend which does not know the
//! flow. In GUE, variant 0, the packet can name the one that does, and the receiver passes it on.
//!
//! [`PreviousOwners`] holds, for each slot, who had it before its owner changed last. An owner stays
//! named until the slot changes hands again, or until it may have no flows any more (it is evicted
//! or gone); there is no time limit, as nobody knows how long a flow lives. It is made when tables
//! are built, from one table to the next, and costs four bytes a slot. A packet pays one more hash,
//! in pools where a slot has changed hands.

use std::net::IpAddr;

use maglev::{FlowHasher, Maglev};

use crate::parse::Parsed;
use crate::select::keyed_hash;
use crate::tables::{Affinity, BackendState, Tables};
use crate::wire::IpProtocol;

/// The owners before; see the module.
#[derive(Clone, Debug)]
pub struct PreviousOwners {
    /// The key that flows had slots by: the pool's own, but after a change of it.
    hasher: FlowHasher,
    /// By slot: a backend index, or [`NOBODY`].
    slots: Box<[u32]>,
}

/// In place of an index: the slot has not changed hands.
const NOBODY: u32 = u32::MAX;

impl PreviousOwners {
    /// What is remembered after a change from `old` to `new`, tables of one size and key: the old
    /// owner where that is another one, else who was remembered, if under the same key: slots of two
    /// keys have nothing to do with each other. `may_have_flows` says of a backend index whether it
    /// is to be named. `None`: no slot has anybody.
    pub fn after(
        before: Option<&Self>,
        old: &Maglev,
        new: &Maglev,
        hasher: FlowHasher,
        may_have_flows: impl Fn(u32) -> bool,
    ) -> Option<Self> {
        // Owners that were noted under another key or size lie in other slots.
        let before = before
            .filter(|before| before.hasher == hasher && before.slots.len() == old.slots().len())
            .map(|before| &*before.slots);
        let named = |slot: u32| {
            let (was, is) = (old.get(slot)?, new.get(slot));
            let previous = match is == Some(was) {
                true => *before?.get(slot as usize)?,
                false => was,
            };
            (Some(previous) != is && may_have_flows(previous)).then_some(previous)
        };
        Self::of((0..new.size()).map(|slot| named(slot).unwrap_or(NOBODY)), hasher)
    }

    /// What is remembered after a change of size or key: all owners of the old table, found by its
    /// own key.
    pub fn all_of(
        old: &Maglev,
        hasher: FlowHasher,
        may_have_flows: impl Fn(u32) -> bool,
    ) -> Option<Self> {
        let named = |owner: &u32| if may_have_flows(*owner) { *owner } else { NOBODY };
        Self::of(old.slots().iter().map(named), hasher)
    }

    /// The same, without those that may have flows no more.
    pub fn retain(&self, may_have_flows: impl Fn(u32) -> bool) -> Option<Self> {
        let named = |owner: &u32| if may_have_flows(*owner) { *owner } else { NOBODY };
        Self::of(self.slots.iter().map(named), self.hasher)
    }

    fn of(slots: impl Iterator<Item = u32>, hasher: FlowHasher) -> Option<Self> {
        let slots: Box<[u32]> = slots.collect();
        slots.iter().any(|owner| *owner != NOBODY).then_some(Self { hasher, slots })
    }

    /// Who had the slot of a packet before.
    fn owner(&self, affinity: Affinity, parsed: &Parsed) -> Option<u32> {
        let hash = keyed_hash(&self.hasher, affinity, parsed);
        // As Maglev::slot_of: floor(hash * size / 2^64).
        let slot = (u128::from(hash) * self.slots.len() as u128) >> 64;
        self.slots.get(slot as usize).copied().filter(|owner| *owner != NOBODY)
    }

    /// How many slots have somebody to name.
    pub fn len(&self) -> usize {
        self.slots.iter().filter(|owner| **owner != NOBODY).count()
    }

    /// Whether none has; never so.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The backend to name beside `chosen` in a packet of the VIP at `vip`: its index and address.
#[inline(never)]
pub fn second(tables: &Tables, vip: u32, chosen: u32, parsed: &Parsed) -> Option<(u32, IpAddr)> {
    let vip = tables.vip(vip)?;
    let previous = tables.pool(vip.pool)?.previous.as_ref()?;
    // A packet that names its backend itself needs no second.
    if vip.affinity == Affinity::Quic && parsed.key.protocol() == IpProtocol::UDP.0 {
        return None;
    }
    let index = previous.owner(vip.affinity, parsed).filter(|index| *index != chosen)?;
    let backend = tables.backend(index)?;
    match backend.state {
        BackendState::Active | BackendState::Draining | BackendState::Unhealthy => {
            backend.address().map(|address| (index, address))
        }
        BackendState::Evicted | BackendState::Gone => None,
    }
}

/// [`second`]'s address, for who may not need to know.
#[inline(always)]
pub(crate) fn second_address<'a>(
    tables: &'a Tables,
    vip: u32,
    chosen: u32,
    parsed: &'a Parsed,
) -> impl FnOnce() -> Option<IpAddr> + 'a {
    move || second(tables, vip, chosen, parsed).map(|(_, address)| address)
}

#[cfg(test)]
mod tests {
    use maglev::Member;

    use super::*;

    const SIZE: u32 = 251;

    fn hasher() -> FlowHasher {
        FlowHasher::new([7; 16])
    }

    fn table(ids: &[u32]) -> Maglev {
        let names: Vec<String> = ids.iter().map(|id| format!("host-{id}")).collect();
        let members: Vec<Member<'_>> = names
            .iter()
            .zip(ids)
            .map(|(id, index)| Member { id, index: *index, weight: 100 })
            .collect();
        Maglev::build(&members, SIZE, [7; 16]).unwrap()
    }

    fn slots(owners: Option<&PreviousOwners>) -> Vec<Option<u32>> {
        let all = (0..SIZE as usize).map(|slot| owners.and_then(|owners| owners.slots.get(slot)));
        all.map(|owner| owner.copied().filter(|owner| *owner != NOBODY)).collect()
    }

    #[test]
    fn the_old_owner_is_named_where_the_slot_changed_and_nowhere_else() {
        let (old, new) = (table(&[1, 2, 3]), table(&[1, 3]));
        let owners = PreviousOwners::after(None, &old, &new, hasher(), |_| true);
        for (slot, named) in (0..).zip(slots(owners.as_ref())) {
            let changed = old.get(slot) != new.get(slot);
            assert_eq!(named, old.get(slot).filter(|_| changed), "slot {slot}");
        }
        assert!(PreviousOwners::after(None, &old, &old, hasher(), |_| true).is_none());
    }

    #[test]
    fn an_owner_is_remembered_through_changes_of_other_slots_and_until_its_slot_changes() {
        let tables = [table(&[1, 2, 3, 4]), table(&[1, 3, 4]), table(&[1, 3]), table(&[1, 2, 3])];
        let mut owners: Option<PreviousOwners> = None;
        let mut expected = vec![None; SIZE as usize];
        for pair in tables.windows(2) {
            owners = PreviousOwners::after(owners.as_ref(), &pair[0], &pair[1], hasher(), |_| true);
            for (slot, expected) in (0..).zip(&mut expected) {
                if pair[0].get(slot) != pair[1].get(slot) {
                    *expected = pair[0].get(slot);
                }
            }
            assert_eq!(slots(owners.as_ref()), expected);
        }
        assert!(expected.contains(&Some(2)) || expected.contains(&Some(4)));
    }

    #[test]
    fn who_may_have_no_flows_is_not_named() {
        let (old, new) = (table(&[1, 2, 3]), table(&[1, 3]));
        let owners = PreviousOwners::after(None, &old, &new, hasher(), |_| true).unwrap();
        assert!(slots(Some(&owners)).contains(&Some(2)));
        let without = |index| index != 2;
        assert!(!slots(owners.retain(without).as_ref()).contains(&Some(2)));
        let after = PreviousOwners::after(Some(&owners), &new, &new, hasher(), without);
        assert_eq!(slots(after.as_ref()), slots(owners.retain(without).as_ref()));
        assert!(owners.retain(|_| false).is_none());
    }

    #[test]
    fn owners_by_another_key_are_not_looked_for_by_the_new_one() {
        let (old, new) = (table(&[1, 2, 3]), table(&[1, 3]));
        let before = PreviousOwners::all_of(&table(&[2]), FlowHasher::new([8; 16]), |_| true);
        let after = PreviousOwners::after(before.as_ref(), &old, &new, hasher(), |_| true);
        let alone = PreviousOwners::after(None, &old, &new, hasher(), |_| true);
        assert_eq!(slots(after.as_ref()), slots(alone.as_ref()));
    }

    #[test]
    fn of_another_size_or_key_all_are_named() {
        let old = table(&[1, 2]);
        let owners = PreviousOwners::all_of(&old, hasher(), |_| true).unwrap();
        assert_eq!(owners.len(), SIZE as usize);
        assert!(PreviousOwners::all_of(&table(&[]), hasher(), |_| true).is_none());
    }
}
