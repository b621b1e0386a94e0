//! Shares: balance, proportion, starvation, and that flows spread as slots do.

use maglev::{FlowHasher, Maglev, Member, Scheduler, Selector, Statistics};
use proptest::prelude::*;

use crate::pool::{Pool, SECRET};

mod pool;

fn counts(pool: &Pool, size: u32) -> Vec<u32> {
    let table = pool.table(size);
    let mut counts = vec![0; pool.backends.len()];
    for &index in table.slots() {
        counts[index as usize] += 1;
    }
    counts
}

#[test]
fn equal_weights_get_the_same_number_of_slots_or_one_more() {
    for (count, size) in [(1, 2), (2, 3), (3, 65_537), (100, 65_537), (750, 65_537), (997, 997)] {
        for slots in counts(&Pool::new(count, |_| 100), size) {
            assert!(slots == size / count || slots == size / count + 1, "{slots} of {count}");
        }
    }
}

#[test]
fn equal_weights_are_balanced_within_1_percent_and_one_slot() {
    for count in [7, 100, 655, 750, 1310] {
        let table = Pool::new(count, |_| 1).table(65_537);
        let statistics = Statistics::of(&table);
        let mean = 65_537.0 / f64::from(count);
        assert!(statistics.max_over_mean * mean <= 1.01 * mean + 1.0, "{statistics:?}");
        assert!((statistics.max_over_mean - statistics.max_over_expected).abs() < 1e-9);
    }
}

#[test]
fn a_weight_of_zero_has_no_slot_and_does_not_disturb_the_others() {
    let pool = Pool::of(&[5, 0, 5, 0]);
    assert_eq!(counts(&pool, 101)[1], 0);
    let mut eligible = pool.clone();
    eligible.backends.retain(|(_, weight)| *weight > 0);
    assert_eq!(pool.table(101).digest(), eligible.table(101).digest());
    assert_eq!(pool.ring().digest(), eligible.ring().digest());
}

#[test]
fn a_pool_without_eligible_backends_picks_nobody() {
    for pool in [Pool::of(&[]), Pool::of(&[0, 0, 0])] {
        let table = pool.table(65_537);
        for hash in [0, 1, u64::MAX] {
            assert_eq!(table.pick(hash), None);
            assert_eq!(pool.ring().pick(hash), None);
        }
        assert_eq!((table.size(), table.len(), table.get(0)), (65_537, 0, None));
        assert!(table.is_empty() && pool.ring().is_empty());
        assert_eq!(table.slot_of(u64::MAX), 65_536, "a slot can be explained");
        let statistics = Statistics::of(&table);
        assert_eq!((statistics.eligible, statistics.max_over_mean), (0, 0.0));
        assert_eq!(statistics.members.len(), pool.backends.len());
        assert_eq!(table.digest(), Pool::of(&[]).table(65_537).digest());
    }
}

#[test]
fn a_single_backend_has_every_flow() {
    let pool = Pool::of(&[3]);
    let table = pool.table(2);
    assert_eq!(table.slots(), [0, 0]);
    assert_eq!([0, 1 << 63, u64::MAX].map(|hash| table.pick(hash)), [Some(0); 3]);
    assert_eq!(pool.ring().pick(12), Some(0));
    assert_eq!(Statistics::of(&pool.ring()).max_over_expected, 1.0);
}

#[test]
fn every_slot_can_be_picked_and_the_last_hash_is_in_the_last_slot() {
    let table = Pool::of(&[1, 2, 3]).table(101);
    for slot in 0..101u32 {
        let first = (u128::from(slot) << 64).div_ceil(101) as u64;
        assert_eq!(table.slot_of(first), slot);
        assert_eq!(table.pick(first), Some(table.slots()[slot as usize]));
    }
    assert_eq!(table.slot_of(u64::MAX), 100);
    assert_eq!(table.get(101), None);
}

#[test]
fn indices_are_answered_as_given() {
    let members = [
        Member { id: "a", index: u32::MAX, weight: 1 },
        Member { id: "b", index: 0, weight: 1 },
        Member { id: "c", index: 7_000_000, weight: 1 },
    ];
    let table = Maglev::build(&members, 13, SECRET).expect("valid");
    let mut seen = table.slots().to_vec();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen, [0, 7_000_000, u32::MAX]);
}

#[test]
fn nobody_is_starved_while_there_are_slots() {
    // As many backends as slots, one of them a thousand times as heavy as all others together.
    let full = Pool::new(101, |i| if i == 50 { 100_000 } else { 1 });
    assert_eq!(counts(&full, 101), [1; 101]);
    let roomy = Pool::new(100, |i| if i == 50 { 100_000 } else { 1 });
    let counts = counts(&roomy, 997);
    assert_eq!(counts[50], 997 - 99);
    assert!(counts.iter().all(|&slots| slots >= 1));
}

#[test]
fn weights_may_exceed_the_table_and_only_their_ratios_count() {
    let weights = [1, 2, 3, 40, 500];
    let small = Pool::of(&weights).table(997);
    let large = Pool::of(&weights.map(|weight| weight * 8_000_000)).table(997);
    assert_eq!(small.digest(), large.digest());
    let huge = Pool::of(&[u32::MAX; 300]);
    assert_eq!(huge.table(997).digest(), Pool::of(&[1; 300]).table(997).digest());
}

#[test]
fn shares_say_what_the_slots_say() {
    let pool = Pool::of(&[10, 0, 30, 60]);
    let table = pool.table(1009);
    let slots: Vec<u32> = table.shares().iter().map(|share| share.slots).collect();
    assert_eq!(slots, counts(&pool, 1009));
    let statistics = Statistics::of(&table);
    assert_eq!(statistics.eligible, 3);
    let total: f64 = statistics.members.iter().map(|member| member.share.fraction).sum();
    assert!((total - 1.0).abs() < 1e-9);
    let expected: Vec<f64> = statistics.members.iter().map(|member| member.expected).collect();
    assert_eq!(expected, [0.1, 0.0, 0.3, 0.6]);
    assert!(statistics.max_over_expected < 1.01 && statistics.min_over_expected > 0.99);
}

/// Pearson's statistic of flows against the scheduler's own fractions; its mean is the number of
/// backends less one, its standard deviation the root of twice that.
fn chi_square(scheduler: &Selector, backends: usize, flows: u32) -> f64 {
    let hasher = FlowHasher::new(*b"another key ....");
    let mut picked = vec![0u32; backends];
    for flow in 0..flows {
        let mut key = [0; FlowHasher::V4_KEY];
        key[..4].copy_from_slice(&flow.to_be_bytes());
        let index = scheduler.pick(hasher.hash_v4(&key)).expect("the pool is not empty");
        picked[index as usize] += 1;
    }
    let terms = scheduler.shares().iter().map(|share| {
        let expected = share.fraction * f64::from(flows);
        (f64::from(picked[share.index as usize]) - expected).powi(2) / expected
    });
    terms.sum()
}

#[test]
fn flows_spread_as_the_shares_say() {
    let pool = Pool::new(100, |i| 1 + i % 10);
    for scheduler in [Selector::Maglev(pool.table(65_537)), Selector::Ring(pool.ring())] {
        let statistic = chi_square(&scheduler, 100, 400_000);
        let deviations = (statistic - 99.0) / (2.0f64 * 99.0).sqrt();
        assert!(deviations.abs() < 5.0, "{scheduler:?}: {deviations:.1} sigma");
    }
}

fn any_pool() -> impl Strategy<Value = Vec<u32>> {
    let weight = prop_oneof![3 => 1u32..200, 1 => 1u32..1 << 27, 1 => Just(100), 1 => Just(0)];
    prop::collection::vec(weight, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_slot_could_change_hands_and_bring_shares_closer_to_the_weights(
        weights in any_pool(),
        size in prop::sample::select(vec![61u32, 101, 251, 997, 4099]),
    ) {
        let counts = counts(&Pool::of(&weights), size);
        prop_assume!(weights.iter().any(|&weight| weight > 0));
        prop_assert_eq!(counts.iter().sum::<u32>(), size);
        for (&given, &from) in weights.iter().zip(&counts) {
            prop_assert_eq!(from > 0, given > 0);
            // The first slot of each is not up for comparison: nobody is starved.
            for (&wanting, &to) in weights.iter().zip(&counts).filter(|_| from >= 2) {
                let from_quotient = u64::from(2 * from - 1) * u64::from(wanting);
                let to_quotient = u64::from(2 * to + 1) * u64::from(given);
                prop_assert!(wanting == 0 || from_quotient <= to_quotient);
            }
        }
    }

    #[test]
    fn slots_are_what_the_weight_asks_for_to_half_a_slot_and_the_common_rounding(
        weights in prop::collection::vec(50u32..150, 1..30),
        size in prop::sample::select(vec![101u32, 251, 997, 4099]),
    ) {
        let pool = Pool::of(&weights);
        let total = pool.total_weight() as f64;
        for (&weight, slots) in weights.iter().zip(counts(&pool, size)) {
            let share = f64::from(weight) / total;
            let off = (f64::from(slots) - share * f64::from(size)).abs();
            prop_assert!(off <= 0.5 + share * weights.len() as f64 / 2.0 + 1e-9, "off by {}", off);
        }
    }
}
