//! Outlier detection: who is ejected, how many at most, and when they come back.

use health::Id;
use health::outlier::{Member, OutlierChange, OutlierSettings, Outliers, Signal, Signals};
use proptest::prelude::*;

fn ids(prefix: &str, n: usize) -> Vec<Id> {
    (0..n).map(|i| Id::from(format!("{prefix}{i:03}"))).collect()
}

/// A pool that nodes report on, interval by interval.
struct Pool {
    settings: OutlierSettings,
    outliers: Outliers,
    backends: Vec<Id>,
    nodes: Vec<Id>,
    now: u64,
    bad: usize,
    frozen: bool,
}

impl Pool {
    fn new(backends: usize, nodes: usize) -> Self {
        Self {
            settings: OutlierSettings::default(),
            outliers: Outliers::new(0),
            backends: ids("b", backends),
            nodes: ids("n", nodes),
            now: 0,
            bad: 0,
            frozen: false,
        }
    }

    /// One interval in which `seen(backend, node)` is reported.
    fn interval(&mut self, seen: impl Fn(usize, usize) -> Signals) -> Vec<OutlierChange> {
        for (b, backend) in self.backends.iter().enumerate() {
            for (n, node) in self.nodes.iter().enumerate() {
                self.outliers.record(node, backend, seen(b, n));
            }
        }
        self.now += self.settings.interval_ms;
        let members: Vec<Member<'_>> =
            self.backends.iter().map(|id| Member { id, frozen: self.frozen }).collect();
        let counted = members.len() + self.bad;
        let panics = |bad: usize, of: usize| bad * 2 > of;
        self.outliers.look(&self.settings, &members, (self.bad, counted), panics, self.now)
    }

    fn out(&self) -> usize {
        self.backends.iter().filter(|b| self.outliers.ejected(b, self.now).is_some()).count()
    }
}

fn resets(client_resets: u64) -> Signals {
    Signals { new_flows: 100, client_resets, syn_retransmits: 0 }
}

#[test]
fn who_is_ejected_after_two_intervals() {
    type Seen = fn(usize, usize) -> Signals;
    let stories: [(&str, usize, usize, Seen); 8] = [
        ("one resets its clients", 10, 3, |b, _| resets(if b == 4 { 60 } else { 2 })),
        ("one does not answer SYNs", 10, 3, |b, _| Signals {
            syn_retransmits: if b == 4 { 150 } else { 1 },
            ..resets(0)
        }),
        ("all clients have a bad day", 10, 3, |_, _| resets(70)),
        ("clients that always end with a RST", 10, 3, |b, _| resets(95 + b as u64)),
        ("one node is broken", 10, 3, |b, n| resets(if (b, n) == (4, 0) { 100 } else { 0 })),
        ("hardly any traffic", 10, 3, |b, _| Signals {
            new_flows: 9,
            ..resets(if b == 4 { 9 } else { 0 })
        }),
        ("a pool of four", 4, 3, |b, _| resets(if b == 1 { 60 } else { 2 })),
        ("a pool of five, one node", 5, 1, |b, _| resets(if b == 4 { 60 } else { 2 })),
    ];
    for (story, backends, nodes, seen) in stories {
        let mut pool = Pool::new(backends, nodes);
        assert_eq!(pool.interval(seen), [], "{story}: one interval is a blip");
        let ejected = |signal, permille, median| OutlierChange::Ejected {
            backend: Id::from("b004"),
            signal,
            permille,
            median,
            for_ms: 30_000,
        };
        let expected = match story {
            "one resets its clients" => Some(ejected(Signal::ClientResets, 600, 20)),
            "one does not answer SYNs" => Some(ejected(Signal::SynRetransmits, 1_500, 10)),
            "a pool of five, one node" => Some(ejected(Signal::ClientResets, 600, 20)),
            _ => None,
        };
        assert_eq!(pool.interval(seen), Vec::from_iter(expected), "{story}");
    }
}

#[test]
fn it_comes_back_by_itself_and_stays_out_longer_each_time() {
    let mut pool = Pool::new(10, 2);
    let bad = |b: usize, _: usize| resets(if b == 0 { 80 } else { 1 });
    let mut holds = Vec::new();
    let mut returns = 0;
    for _ in 0..200 {
        for change in pool.interval(bad) {
            match change {
                OutlierChange::Ejected { for_ms, .. } => holds.push(for_ms / 1_000),
                OutlierChange::Returned(_) => returns += 1,
                OutlierChange::Capped(id) => panic!("{id} is alone"),
            }
        }
    }
    assert!(holds.starts_with(&[30, 60, 120, 240, 300, 300]), "{holds:?}");
    assert!(returns + 1 >= holds.len());
    for _ in 0..70 {
        pool.interval(|_, _| resets(1));
    }
    pool.interval(bad);
    assert!(matches!(pool.interval(bad)[..], [OutlierChange::Ejected { for_ms: 30_000, .. }]));
}

#[test]
fn when_too_many_are_bad_already_nobody_is_ejected() {
    let mut pool = Pool::new(10, 2);
    pool.bad = 10;
    let bad = |b: usize, _: usize| resets(if b == 0 { 80 } else { 1 });
    pool.interval(bad);
    assert_eq!(pool.interval(bad), [OutlierChange::Capped(Id::from("b000"))]);
}

#[test]
fn a_frozen_backend_is_neither_ejected_nor_returned() {
    let mut pool = Pool::new(10, 2);
    let bad = |b: usize, _: usize| resets(if b == 0 { 80 } else { 1 });
    pool.frozen = true;
    for _ in 0..5 {
        assert_eq!(pool.interval(bad), []);
    }
    pool.frozen = false;
    pool.interval(bad);
    pool.interval(bad);
    assert_eq!(pool.out(), 1);
    pool.frozen = true;
    for _ in 0..50 {
        assert_eq!(pool.interval(bad), []);
    }
    assert_eq!(pool.out(), 1);
}

#[test]
fn the_cap_by_size_of_pool() {
    let settings = OutlierSettings::default();
    for members in [0, 1, 4, 5, 19, 20, 99, 750] {
        let expected = match members {
            0..5 => 0,  // too few to compare
            5..20 => 1, // one, though it is more than a tenth
            20 => 2,
            99 => 9,
            _ => 75,
        };
        assert_eq!(settings.cap(members), expected, "{members} members");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn never_more_out_than_the_cap_whatever_nodes_report(
        backends in 1usize..30, bad in 0usize..10,
        seen in prop::collection::vec((0u64..200, 0u64..400, 0u64..400), 30 * 2),
        intervals in 1usize..40,
    ) {
        let mut pool = Pool::new(backends, 2);
        pool.bad = bad;
        for i in 0..intervals {
            pool.interval(|b, n| {
                let (new_flows, client_resets, syn_retransmits) = seen[(b * 2 + n + i * 7) % 60];
                Signals { new_flows, client_resets, syn_retransmits }
            });
            prop_assert!(pool.out() <= pool.settings.cap(backends));
            prop_assert!(pool.out() == 0 || (bad + pool.out()) * 2 <= bad + backends);
        }
    }

    #[test]
    fn one_lying_node_of_several_ejects_nobody(
        lies in prop::collection::vec((0u64..1_000, 0u64..100_000, 0u64..100_000), 10),
        liar in 0usize..3,
    ) {
        let mut pool = Pool::new(10, 3);
        for _ in 0..6 {
            pool.interval(|b, n| {
                if n != liar {
                    return resets(3);
                }
                let (new_flows, client_resets, syn_retransmits) = lies[b];
                Signals { new_flows, client_resets, syn_retransmits }
            });
            prop_assert_eq!(pool.out(), 0);
        }
    }
}
