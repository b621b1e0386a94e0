//! What a change does to the choice of backends: the real tables before and after, compared.
//!
//! Both are built as nodes build them, and walked slot by slot. A ring, and tables of two sizes,
//! are compared over evenly spaced flow hashes instead. Where the hash secret changes, every flow
//! falls anywhere, so what moves follows from the shares alone.
//!
//! CPU-bound, some milliseconds a table: never on a thread that serves others.

use std::collections::{BTreeMap, BTreeSet};

use maglev::{Maglev, Member, Ring, Selector};
use registry::rows::Scheduler;

/// Flow hashes at which rings are compared.
const SAMPLES: u32 = 65_536;

/// Who is chosen, and how.
#[derive(Clone, PartialEq)]
pub(crate) struct Choice {
    pub(crate) scheduler: Scheduler,
    /// Slots of a Maglev table.
    pub(crate) table_size: u32,
    pub(crate) secret: [u8; 16],
    /// Eligible backends: weights above 0.
    pub(crate) weights: BTreeMap<String, u32>,
}

/// What moves from one choice to another.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Moved {
    /// Slots of the new table; samples of a ring; 0 where there is neither.
    pub(crate) slots: u32,
    /// Of them, those that lead elsewhere now.
    pub(crate) slots_moved: u32,
    /// Of each backend of before, the share of its flows that moves, from 0 to 1.
    pub(crate) shares: BTreeMap<String, f64>,
    /// Of all slots, those that moved although neither their old nor their new backend changed
    /// its weight, came or went: Maglev's price, from 0 to 1.
    pub(crate) collateral: f64,
}

/// Compares `before` and `after`.
///
/// # Errors
/// When one of the tables cannot be built.
pub(crate) fn compare(before: &Choice, after: &Choice) -> Result<Moved, maglev::Error> {
    // Weighted round robin remembers nothing: flows are where conntrack says, and stay there.
    let (Some(old), Some(new)) = (before.selector()?, after.selector()?) else {
        return Ok(Moved { slots: after.slots(), ..Moved::default() });
    };
    if before.secret != after.secret {
        return Ok(rekeyed(before, after, &old, &new));
    }
    let samples = before.slots().max(after.slots());
    let (was, is) = (before.names(), after.names());
    let mut moves: BTreeMap<(Option<&str>, Option<&str>), u32> = BTreeMap::new();
    for slot in 0..samples {
        let hash = middle(slot, samples);
        let from = old.pick(hash).and_then(|index| was.get(index as usize).copied());
        let to = new.pick(hash).and_then(|index| is.get(index as usize).copied());
        *moves.entry((from, to)).or_default() += 1;
    }
    Ok(count(before, after, samples, &moves))
}

impl Choice {
    fn selector(&self) -> Result<Option<Selector>, maglev::Error> {
        let weights = (0u32..).zip(&self.weights);
        let members: Vec<Member<'_>> =
            weights.map(|(index, (id, &weight))| Member { id, index, weight }).collect();
        Ok(match self.scheduler {
            Scheduler::Maglev => {
                Some(Selector::Maglev(Maglev::build(&members, self.table_size, self.secret)?))
            }
            Scheduler::Ring => Some(Selector::Ring(Ring::build(&members, self.secret)?)),
            Scheduler::Wrr => None,
        })
    }

    fn slots(&self) -> u32 {
        match self.scheduler {
            Scheduler::Maglev => self.table_size,
            Scheduler::Ring => SAMPLES,
            Scheduler::Wrr => 0,
        }
    }

    /// By the index that tables are built with.
    fn names(&self) -> Vec<&str> {
        self.weights.keys().map(String::as_str).collect()
    }
}

/// The flow hash in the middle of slot `slot` of `slots`, which a table of that size puts there:
/// `(slot + 1/2) * 2^64 / slots`.
fn middle(slot: u32, slots: u32) -> u64 {
    let middle = ((u128::from(slot) * 2 + 1) << 63) / u128::from(slots.max(1));
    u64::try_from(middle).unwrap_or(u64::MAX)
}

fn count(
    before: &Choice,
    after: &Choice,
    samples: u32,
    moves: &BTreeMap<(Option<&str>, Option<&str>), u32>,
) -> Moved {
    let same = |id: &str| before.weights.get(id) == after.weights.get(id);
    let (mut had, mut lost): (BTreeMap<&str, u32>, BTreeMap<&str, u32>) = Default::default();
    let (mut moved, mut collateral) = (0u32, 0u32);
    for (&(from, to), &slots) in moves {
        if let Some(from) = from {
            *had.entry(from).or_default() += slots;
        }
        if from == to {
            continue;
        }
        moved += slots;
        if let Some(from) = from {
            *lost.entry(from).or_default() += slots;
        }
        if from.is_some_and(same) && to.is_some_and(same) {
            collateral += slots;
        }
    }
    let share = |part: u32, of: u32| if of == 0 { 0.0 } else { f64::from(part) / f64::from(of) };
    let slots = after.slots();
    Moved {
        slots,
        slots_moved: (share(moved, samples) * f64::from(slots)).round() as u32,
        shares: had
            .iter()
            .map(|(&id, &of)| (id.to_owned(), share(lost.get(id).copied().unwrap_or(0), of)))
            .collect(),
        collateral: share(collateral, samples),
    }
}

/// Under another secret a flow of any backend goes to backend b with b's new share.
fn rekeyed(before: &Choice, after: &Choice, old: &Selector, new: &Selector) -> Moved {
    let fractions = |choice: &Choice, selector: &Selector| -> BTreeMap<String, f64> {
        let shares = selector.as_scheduler().shares().iter().map(|share| share.fraction);
        choice.weights.keys().cloned().zip(shares).collect()
    };
    let (was, is) = (fractions(before, old), fractions(after, new));
    let shares: BTreeMap<String, f64> =
        was.keys().map(|id| (id.clone(), 1.0 - is.get(id).copied().unwrap_or(0.0))).collect();
    let moved: f64 = shares.iter().map(|(id, moves)| was.get(id).unwrap_or(&0.0) * moves).sum();
    let unchanged: BTreeSet<&String> =
        was.keys().filter(|id| before.weights.get(*id) == after.weights.get(*id)).collect();
    let collateral = shares
        .iter()
        .filter(|(id, _)| unchanged.contains(id))
        .map(|(id, moves)| was.get(id).unwrap_or(&0.0) * moves)
        .sum();
    let slots = after.slots();
    Moved { slots, slots_moved: (moved * f64::from(slots)).round() as u32, shares, collateral }
}

#[cfg(test)]
mod tests {
    use super::*;

    const M: u32 = 65_537;

    fn choice(weights: &[(&str, u32)]) -> Choice {
        Choice {
            scheduler: Scheduler::Maglev,
            table_size: M,
            secret: [7; 16],
            weights: weights.iter().map(|&(id, weight)| (id.to_owned(), weight)).collect(),
        }
    }

    fn equal(n: usize) -> Choice {
        let mut choice = choice(&[]);
        choice.weights = (0..n).map(|i| (format!("host-{i}"), 100)).collect();
        choice
    }

    #[test]
    fn a_middle_is_in_its_slot() {
        let table = Maglev::build(&[], M, [0; 16]).expect("prime");
        for slot in [0, 1, 2, 32_768, M - 2, M - 1] {
            assert_eq!(table.slot_of(middle(slot, M)), slot);
        }
    }

    #[test]
    fn nothing_changes_and_nothing_moves() {
        let moved = compare(&equal(5), &equal(5)).expect("tables");
        assert_eq!((moved.slots, moved.slots_moved, moved.collateral), (M, 0, 0.0));
        assert!(moved.shares.values().all(|&share| share == 0.0));
    }

    #[test]
    fn one_of_n_leaves_with_all_its_slots_and_few_others() {
        for n in [2usize, 3, 10, 50] {
            let before = equal(n);
            let mut after = before.clone();
            after.weights.remove("host-1");
            let moved = compare(&before, &after).expect("tables");
            assert_eq!(moved.shares["host-1"], 1.0);
            let own = f64::from(M) / n as f64;
            let all = f64::from(moved.slots_moved);
            assert!(
                all >= own * 0.98 && all <= own + 0.02 * f64::from(M) + own * 0.02,
                "{n}: {all}"
            );
            assert!(moved.collateral <= 0.02, "{n}: {}", moved.collateral);
            // There and back again is the same way.
            let back = compare(&after, &before).expect("tables");
            assert_eq!(back.slots_moved, moved.slots_moved);
        }
    }

    #[test]
    fn the_last_one_leaves_and_the_first_one_comes() {
        let (none, one) = (equal(0), equal(1));
        let moved = compare(&one, &none).expect("tables");
        assert_eq!((moved.slots_moved, moved.shares["host-0"]), (M, 1.0));
        let moved = compare(&none, &one).expect("tables");
        assert_eq!((moved.slots_moved, moved.shares.len()), (M, 0));
    }

    #[test]
    fn half_the_weight_moves_half_of_what_it_should_lose() {
        let before = choice(&[("a", 100), ("b", 100)]);
        let after = choice(&[("a", 50), ("b", 100)]);
        let moved = compare(&before, &after).expect("tables");
        // a had 1/2 and keeps 1/3.
        assert!((moved.shares["a"] - 1.0 / 3.0).abs() < 0.05, "{moved:?}");
    }

    #[test]
    fn a_new_secret_moves_what_the_shares_say() {
        let before = equal(4);
        let after = Choice { secret: [8; 16], ..before.clone() };
        let moved = compare(&before, &after).expect("tables");
        assert!((f64::from(moved.slots_moved) / f64::from(M) - 0.75).abs() < 0.01, "{moved:?}");
    }

    #[test]
    fn another_size_is_compared_over_the_finer_table() {
        let before = equal(4);
        let after = Choice { table_size: 655_373, ..before.clone() };
        let moved = compare(&before, &after).expect("tables");
        assert_eq!(moved.slots, 655_373);
        let share = f64::from(moved.slots_moved) / 655_373.0;
        assert!((0.5..=0.85).contains(&share), "two permutations have little in common: {share}");
    }

    #[test]
    fn a_ring_moves_what_leaves_and_nothing_else() {
        let before = Choice { scheduler: Scheduler::Ring, ..equal(10) };
        let mut after = before.clone();
        after.weights.remove("host-3");
        let moved = compare(&before, &after).expect("rings");
        assert_eq!((moved.shares["host-3"], moved.collateral), (1.0, 0.0));
        assert_eq!(moved.slots, SAMPLES);
    }

    #[test]
    fn round_robin_moves_no_flow() {
        let before = Choice { scheduler: Scheduler::Wrr, ..equal(3) };
        let mut after = before.clone();
        after.weights.remove("host-0");
        assert_eq!(compare(&before, &after), Ok(Moved::default()));
    }

    #[test]
    fn a_table_that_cannot_be_is_an_error() {
        let bad = Choice { table_size: 65_536, ..equal(3) };
        assert!(matches!(compare(&equal(3), &bad), Err(maglev::Error::Size { .. })));
    }
}
