//! Which checkers of the fleet probe which backend.
//!
//! Rendezvous hashing: every checker has a score for every backend, a hash of both names, and
//! the best ones get it. So the assignment is a pure function of the fleet, needs no memory,
//! survives a change of the controller's leader, and moves little: when a checker joins or
//! leaves, each backend changes at most one of its checkers, and only backends that have or had
//! that checker change at all. (Thaler and Ravishankar, "Using Name-Based Mappings to Increase
//! Hit Rates", IEEE/ACM Transactions on Networking 6(1), 1998.)
//!
//! Zones: the checkers go in rounds. In a round every zone may give one, best score first, and
//! no zone gives a second one before all have given their first. With as many zones as checkers
//! wanted, all are in different zones, so the loss of a zone takes one voice, not the quorum.
//! With fewer checkers than wanted, all of them are taken.

use std::collections::{BTreeMap, BTreeSet};

use crate::Id;

/// One checker of the fleet.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Checker {
    /// Its name, unique in the fleet.
    pub id: Id,
    /// The failure domain it stands in.
    pub zone: Id,
}

/// The checkers of one backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// Their ids, in ascending order. At most as many as wanted, fewer when the fleet is smaller.
    pub checkers: Vec<Id>,
    /// Different zones among them.
    pub zones: usize,
}

/// The `wanted` checkers of `backend` from `fleet`, whose order does not matter. Of several
/// checkers with one id the first in order of zone counts. `seed` is one number per fleet, the
/// same on every controller.
#[must_use]
pub fn assign(backend: &str, fleet: &[Checker], wanted: usize, seed: u64) -> Assignment {
    // Per zone its checkers, worst score first, so that `pop` gives the best one left.
    let mut zones: BTreeMap<&Id, Vec<(u64, &Id)>> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    let mut sorted: Vec<&Checker> = fleet.iter().collect();
    sorted.sort_unstable();
    for checker in sorted.into_iter().filter(|c| seen.insert(&c.id)) {
        let scored = (score(backend, &checker.id, seed), &checker.id);
        zones.entry(&checker.zone).or_default().push(scored);
    }
    for checkers in zones.values_mut() {
        checkers.sort_unstable();
    }
    let (mut checkers, mut used) = (Vec::with_capacity(wanted), BTreeSet::new());
    while checkers.len() < wanted {
        let mut round: Vec<(u64, &Id, &Id)> = Vec::with_capacity(zones.len());
        for (zone, left) in &mut zones {
            round.extend(left.pop().map(|(score, id)| (score, id, *zone)));
        }
        if round.is_empty() {
            break; // the whole fleet is taken
        }
        round.sort_unstable_by(|a, b| b.cmp(a));
        round.truncate(wanted - checkers.len());
        for (_, id, zone) in round {
            checkers.push(id.clone());
            used.insert(zone);
        }
    }
    checkers.sort_unstable();
    Assignment { checkers, zones: used.len() }
}

fn score(backend: &str, checker: &str, seed: u64) -> u64 {
    // FNV-1a (64 bits) over both names, with a byte between them that UTF-8 never contains.
    let bytes = backend.bytes().chain([0xff]).chain(checker.bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325 ^ mix(seed), |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    mix(hash)
}

/// A bijection of 64 bits in which every input bit moves every output bit (the finalizer of
/// SplitMix64; Steele, Lea and Flood, OOPSLA 2014).
fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// One letter per checker: its zone.
    fn fleet(zones: &str) -> Vec<Checker> {
        let checker = |(i, zone): (usize, char)| Checker {
            id: Id::from(format!("checker-{i}")),
            zone: Id::from(zone.to_string()),
        };
        zones.chars().enumerate().map(checker).collect()
    }

    fn loads(fleet: &[Checker], backends: usize) -> BTreeMap<Id, usize> {
        let mut loads: BTreeMap<Id, usize> = fleet.iter().map(|c| (c.id.clone(), 0)).collect();
        for b in 0..backends {
            for id in assign(&format!("host-{b}"), fleet, 3, 1).checkers {
                *loads.entry(id).or_default() += 1;
            }
        }
        loads
    }

    #[test]
    fn as_many_zones_as_there_are() {
        for zones in ["", "a", "ab", "aab", "abc", "aabbcc", "aaaabc", "aaabbb", "aaaaaa", "abcdef"]
        {
            let expected = match zones {
                "" => (0, 0),                                     // no fleet yet
                "a" => (1, 1),                                    // a laboratory
                "ab" => (2, 2),                                   // two checkers: both
                "aab" => (3, 2),                                  // three checkers: all
                "abc" | "aabbcc" | "aaaabc" | "abcdef" => (3, 3), // three zones or more
                "aaabbb" => (3, 2),                               // two zones: two and one
                "aaaaaa" => (3, 1),                               // one zone: no choice
                _ => unreachable!("every fleet has an arm"),
            };
            for backend in 0..50 {
                let got = assign(&format!("host-{backend}"), &fleet(zones), 3, 7);
                assert_eq!((got.checkers.len(), got.zones), expected, "{zones:?}");
            }
        }
    }

    #[test]
    fn the_load_is_even() {
        for zones in ["aabbcc", "abcdef", "aaabbb", "aaaaaa", "aaabbbccc"] {
            let loads = loads(&fleet(zones), 750);
            let mean = 750.0 * 3.0 / loads.len() as f64;
            let max = loads.values().copied().max().unwrap_or(0) as f64;
            assert!(max / mean <= 1.15, "{zones}: max {max}, mean {mean}");
        }
    }

    #[test]
    fn a_seed_gives_another_assignment_and_the_same_seed_the_same() {
        let fleet = fleet("aabbcc");
        let all = |seed| (0..100).map(|b| assign(&format!("b{b}"), &fleet, 3, seed)).collect();
        let (one, two): (Vec<_>, Vec<_>) = (all(1), all(2));
        assert_ne!(one, two);
        assert_eq!(one, all(1));
    }

    proptest! {
        #[test]
        fn one_leaving_checker_moves_only_its_own_backends_and_one_place_each(
            zones in "[a-e]{1,9}", backend in "[a-z]{1,8}", gone in any::<prop::sample::Index>(),
            wanted in 1usize..6, seed in any::<u64>(),
        ) {
            let before_fleet = fleet(&zones);
            let mut after_fleet = before_fleet.clone();
            let gone = after_fleet.remove(gone.index(before_fleet.len()));
            let before = assign(&backend, &before_fleet, wanted, seed);
            let after = assign(&backend, &after_fleet, wanted, seed);
            let kept = before.checkers.iter().filter(|c| after.checkers.contains(c)).count();
            if before.checkers.contains(&gone.id) {
                prop_assert_eq!(kept, before.checkers.len() - 1);
            } else {
                prop_assert_eq!(before, after);
            }
        }

        #[test]
        fn no_checker_twice_and_no_zone_twice_before_all_once(
            zones in "[a-e]{0,9}", backend in "[a-z]{1,8}", wanted in 0usize..6, seed in any::<u64>(),
        ) {
            let fleet = fleet(&zones);
            let got = assign(&backend, &fleet, wanted, seed);
            let distinct: BTreeSet<_> = got.checkers.iter().collect();
            prop_assert_eq!(distinct.len(), got.checkers.len());
            prop_assert_eq!(got.checkers.len(), wanted.min(fleet.len()));
            let there = fleet.iter().map(|c| &c.zone).collect::<BTreeSet<_>>().len();
            prop_assert_eq!(got.zones, wanted.min(there));
            let mut turned = fleet.clone();
            turned.reverse();
            prop_assert_eq!(got, assign(&backend, &turned, wanted, seed));
        }
    }
}
