//! The votes of a backend's checkers: two of three, freshness, freezing, order.

use health::quorum::{Opinion, QuorumSettings, Recorded, Standing, Tally, Votes};
use health::thresholds::Verdict;
use health::{Id, Millis};
use proptest::prelude::*;

fn checkers(n: usize) -> Vec<Id> {
    (0..n).map(|i| Id::from(format!("c{i}"))).collect()
}

fn opinion(liveness: Verdict, at: Millis) -> Opinion {
    Opinion { liveness, readiness: Verdict::Up, at }
}

/// The tally at 20,000 of one letter per checker: `u` up, `d` down, `?` unknown, `-` silent;
/// an upper-case letter is a report from 4,999, just too old.
fn tally_of(word: &str) -> Tally {
    let ids = checkers(word.len());
    let mut votes = Votes::new(0);
    votes.assign(&ids);
    for (id, letter) in ids.iter().zip(word.chars()) {
        let verdict = match letter.to_ascii_lowercase() {
            'u' => Verdict::Up,
            'd' => Verdict::Down,
            '?' => Verdict::Unknown,
            _ => continue,
        };
        let at = if letter.is_ascii_uppercase() { 4_999 } else { 5_000 };
        votes.record(id, opinion(verdict, at));
    }
    votes.tally(&QuorumSettings::default(), 20_000)
}

#[test]
fn two_of_three_decide() {
    for word in [
        "uuu", "uud", "ddd", "ddu", "uu-", "dd-", "du-", "d--", "u--", "---", "dDD", "uUU", "du?",
        "uu?", "duU", "", "u", "uu", "ud",
    ] {
        let expected = match word {
            "uuu" | "uu-" | "uu?" | "uu" => Standing::Up, // all, or with one silent or new
            "uud" => Standing::Up,                        // one cut off or lying
            "ddd" | "dd-" => Standing::Down,              // dead, with one checker gone or not
            "ddu" => Standing::Down,                      // dead, and one lies about it
            "du-" | "du?" | "duU" | "ud" => Standing::Split, // one lies, nobody can say which
            "d--" | "u--" | "dDD" | "uUU" | "u" => Standing::Unknown, // one alone says nothing
            "---" | "" => Standing::Unknown,              // the fleet is gone
            _ => unreachable!("every word has an arm"),
        };
        assert_eq!(tally_of(word).liveness, expected, "{word:?}");
    }
}

#[test]
fn a_backend_freezes_when_the_quorum_has_been_silent_for_fifteen_seconds() {
    let settings = QuorumSettings::default();
    let ids = checkers(3);
    let mut votes = Votes::new(0);
    votes.assign(&ids);
    let frozen_at = |votes: &mut Votes, now| votes.tally(&settings, now).frozen;
    assert!(!frozen_at(&mut votes, 15_000), "new backends get the time for their first reports");
    assert!(frozen_at(&mut votes, 15_001));
    votes.record(&ids[0], opinion(Verdict::Up, 16_000));
    assert!(frozen_at(&mut votes, 16_000), "one reporter is no quorum");
    votes.record(&ids[1], opinion(Verdict::Down, 17_000));
    assert!(!frozen_at(&mut votes, 17_000), "two are, and thaw it at once");
    votes.record(&ids[1], opinion(Verdict::Down, 30_000));
    assert!(!frozen_at(&mut votes, 31_000));
    assert!(frozen_at(&mut votes, 31_001), "the older of the two has now been silent too long");
}

#[test]
fn checkers_that_restart_do_not_freeze_a_backend() {
    let settings = QuorumSettings::default();
    let ids = checkers(3);
    let mut votes = Votes::new(0);
    votes.assign(&ids);
    for id in &ids {
        votes.record(id, opinion(Verdict::Up, 50_000));
    }
    votes.tally(&settings, 50_000);
    for id in &ids {
        votes.record(id, opinion(Verdict::Unknown, 51_000));
    }
    let tally = votes.tally(&settings, 53_000);
    assert_eq!((tally.liveness, tally.frozen), (Standing::Unknown, false));
}

#[test]
fn a_new_assignment_keeps_the_opinions_of_those_who_stay() {
    let ids = checkers(4);
    let mut votes = Votes::new(0);
    assert!(votes.assign(&ids[..3]));
    assert!(!votes.assign(&ids[..3]));
    for id in &ids[..3] {
        votes.record(id, opinion(Verdict::Down, 10));
    }
    assert!(votes.assign(&ids[1..]));
    let tally = votes.tally(&QuorumSettings::default(), 10);
    assert_eq!((tally.liveness, tally.down), (Standing::Down, 2));
    assert_eq!(votes.record(&ids[0], opinion(Verdict::Up, 11)), Recorded::NotAssigned);
    assert_eq!(votes.record(&ids[1], opinion(Verdict::Up, 9)), Recorded::Outdated);
}

#[test]
fn a_quorum_is_a_majority() {
    for (checkers, needed) in [(3, 1), (4, 2), (3, 4), (0, 0), (17, 9)] {
        let settings = QuorumSettings { checkers, needed, ..QuorumSettings::default() };
        assert!(settings.validate().is_err(), "{needed} of {checkers}");
    }
    for (checkers, needed) in [(1, 1), (2, 2), (3, 2), (3, 3), (5, 3)] {
        let settings = QuorumSettings { checkers, needed, ..QuorumSettings::default() };
        assert!(settings.validate().is_ok(), "{needed} of {checkers}");
    }
}

fn verdict() -> impl Strategy<Value = Verdict> {
    prop::sample::select(vec![Verdict::Up, Verdict::Down, Verdict::Unknown])
}

proptest! {
    /// Whatever one checker says, the other two's common verdict cannot be turned round, and
    /// without one of them no verdict can be made.
    #[test]
    fn one_checker_decides_nothing(
        others in prop::collection::vec((verdict(), 0u64..40_000), 2),
        liar in (verdict(), 0u64..40_000),
    ) {
        let settings = QuorumSettings::default();
        let ids = checkers(3);
        let standing = |third: Option<(Verdict, Millis)>| {
            let mut votes = Votes::new(0);
            votes.assign(&ids);
            for (id, (v, at)) in ids.iter().zip(others.iter().copied().chain(third)) {
                votes.record(id, opinion(v, at));
            }
            votes.tally(&settings, 40_000)
        };
        let (honest, with_liar) = (standing(None), standing(Some(liar)));
        match with_liar.liveness {
            Standing::Up => prop_assert!(honest.up >= 1),
            Standing::Down => prop_assert!(honest.down >= 1),
            Standing::Split | Standing::Unknown => {}
        }
        if matches!(honest.liveness, Standing::Up | Standing::Down) {
            prop_assert_eq!(honest.liveness, with_liar.liveness);
        }
    }

    #[test]
    fn the_order_of_reports_does_not_matter(
        (reports, shuffled) in
            prop::collection::vec((0usize..3, verdict(), verdict(), 0u64..4), 0..12)
                .prop_flat_map(|reports| (Just(reports.clone()), Just(reports).prop_shuffle())),
    ) {
        let tally = |reports: &[(usize, Verdict, Verdict, Millis)]| {
            let ids = checkers(3);
            let mut votes = Votes::new(0);
            votes.assign(&ids);
            for &(c, liveness, readiness, at) in reports {
                votes.record(&ids[c], Opinion { liveness, readiness, at });
            }
            votes.tally(&QuorumSettings::default(), 4)
        };
        prop_assert_eq!(tally(&reports), tally(&shuffled));
    }
}
