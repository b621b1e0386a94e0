//! The ring's own promises.

use maglev::{Error, MAX_POINTS, Scheduler, Statistics};

use crate::pool::{Pool, scramble};

mod pool;

const FLOWS: u64 = 50_000;

/// The ids that some flows go to.
fn picks(pool: &Pool) -> Vec<&str> {
    let ring = pool.ring();
    let pick = |flow| ring.pick(scramble(flow)).expect("the pool is not empty");
    (0..FLOWS).map(|flow| pool.backends[pick(flow) as usize].0.as_str()).collect()
}

fn assert_only_flows_of(changed: &str, before: &[&str], after: &[&str]) {
    for (old, new) in before.iter().zip(after) {
        assert!(old == new || *old == changed || *new == changed, "{old} to {new}");
    }
}

#[test]
fn removal_moves_the_flows_of_the_removed_one_only() {
    for pool in [Pool::new(50, |_| 100), Pool::new(50, |i| 40 + i)] {
        let smaller = pool.without(20);
        assert_only_flows_of("host-20", &picks(&pool), &picks(&smaller));
    }
}

#[test]
fn a_weight_change_moves_flows_from_or_to_the_changed_one_only() {
    let pool = Pool::new(50, |i| 40 + i);
    for weight in [1, 30, 70, 120] {
        let other = pool.reweighted(20, weight);
        assert_only_flows_of("host-20", &picks(&pool), &picks(&other));
    }
}

#[test]
fn shares_follow_the_weights_within_25_percent() {
    let statistics = Statistics::of(&Pool::new(50, |i| 100 + 100 * (i % 4)).ring());
    assert!(statistics.max_over_expected < 1.25, "{}", statistics.max_over_expected);
    assert!(statistics.min_over_expected > 0.75, "{}", statistics.min_over_expected);
}

#[test]
fn the_least_weight_has_a_point() {
    let ring = Pool::of(&[u32::MAX, 1, 0]).ring();
    let points: Vec<u32> = ring.shares().iter().map(|share| share.slots).collect();
    assert!(points[0] >= 128 && points[1] == 1 && points[2] == 0, "{points:?}");
    let whole: f64 = ring.shares().iter().map(|share| share.fraction).sum();
    assert!((whole - 1.0).abs() < 1e-9);
}

#[test]
fn too_many_points_are_refused_before_they_are_made() {
    let pool = Pool::new(MAX_POINTS as u32 / 512 + 1, |_| 128);
    assert_eq!(maglev::Ring::build(&pool.members(), [0; 16]), Err(Error::TooManyPoints));
}
