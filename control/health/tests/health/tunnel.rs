//! Backends that checkers reach and nodes do not.

use health::lifecycle::State;
use health::thresholds::Verdict::{self, Down, Unknown, Up};
use health::{Id, Settings};

use crate::lab::{Lab, said};

/// Every node says what `words` say of `b0` (u: up, d: down, ?: no verdict yet), then a second
/// passes.
fn report(lab: &mut Lab, words: &str) -> Vec<String> {
    for (number, word) in words.chars().enumerate() {
        say(lab, number, "b0", [Down, Up, Unknown]["du?".find(word).expect("a verdict")]);
    }
    said(&lab.seconds(1))
}

fn say(lab: &mut Lab, node: usize, backend: &str, verdict: Verdict) {
    let node = Id::from(format!("n{node}"));
    lab.pool.tunnel_report(&node, &Id::from(backend), verdict, lab.now);
}

#[test]
fn a_backend_that_most_nodes_miss_gets_no_new_flows_and_keeps_its_state() {
    let mut lab = Lab::new(10, Settings::default());
    assert_eq!(report(&mut lab, "uuu"), [""; 0]);
    assert_eq!(report(&mut lab, "duu"), [""; 0], "one of three");
    assert_eq!(report(&mut lab, "d?u"), [""; 0], "one of two");
    assert_eq!(
        report(&mut lab, "ddu"),
        ["b0: 2 of 3 nodes get no answer from its VIP through the tunnel: no new flows"]
    );
    let view = lab.view("b0");
    assert_eq!((view.eligible, view.state, view.ready), (false, State::Healthy, true));
    assert_eq!(view.reason, "does not answer to its VIP: most nodes miss its tunnel");
    assert_eq!(lab.pool.bad(), (1, 10));
    assert_eq!(report(&mut lab, "ddu"), [""; 0], "said once");
    assert_eq!(report(&mut lab, "duu"), ["b0: answers to its VIP through the tunnel again"]);
    assert!(lab.view("b0").eligible);
}

#[test]
fn an_only_node_decides_alone() {
    let mut lab = Lab::new(10, Settings::default());
    report(&mut lab, "d");
    assert!(!lab.view("b0").eligible);
    report(&mut lab, "u");
    assert!(lab.view("b0").eligible);
}

#[test]
fn an_only_node_that_misses_everybody_empties_no_pool() {
    let mut lab = Lab::new(10, Settings::default());
    for backend in 0..10 {
        say(&mut lab, 0, &format!("b{backend}"), Down);
    }
    lab.second();
    assert!(lab.pool.in_panic());
    assert_eq!(lab.table().len(), 10);
}

#[test]
fn silent_nodes_change_nothing() {
    let mut lab = Lab::new(10, Settings::default());
    report(&mut lab, "dd");
    assert_eq!(said(&lab.seconds(60)), [""; 0]);
    assert!(!lab.view("b0").eligible, "as last known");
    // A node without an opinion on it is no reporting node.
    report(&mut lab, "??");
    assert!(!lab.view("b0").eligible);
    report(&mut lab, "u");
    assert!(lab.view("b0").eligible);
}

#[test]
fn a_backend_whose_vip_nobody_probes_any_more_is_not_kept_out() {
    let mut lab = Lab::new(10, Settings::default());
    report(&mut lab, "dd");
    assert!(!lab.view("b0").eligible);
    // Its VIP became a range of ports: no node has a verdict any more, and all of them say so.
    for second in 0..14 {
        assert_eq!(report(&mut lab, "??"), [""; 0], "{second} s: they may have just started");
        assert!(!lab.view("b0").eligible);
    }
    assert_eq!(
        report(&mut lab, "??"),
        ["b0: no node probes its VIP through the tunnel any more: not kept out for it"]
    );
    assert!(lab.view("b0").eligible);
    report(&mut lab, "dd");
    assert!(!lab.view("b0").eligible, "probed again");
}

#[test]
fn nodes_that_start_again_and_again_keep_the_last_decision() {
    let mut lab = Lab::new(10, Settings::default());
    report(&mut lab, "dd");
    for second in 0..60 {
        report(&mut lab, if second % 14 == 0 { "dd" } else { "??" });
        assert!(!lab.view("b0").eligible, "{second} s");
    }
}

#[test]
fn a_node_that_left_takes_its_verdict_with_it() {
    let mut lab = Lab::new(10, Settings::default());
    report(&mut lab, "dud");
    assert!(!lab.view("b0").eligible);
    lab.pool.node_gone(&Id::from("n0"));
    lab.second();
    assert!(lab.view("b0").eligible, "one of two");
}

#[test]
fn a_frozen_backend_stays_as_it_is() {
    let mut lab = Lab::new(10, Settings::default());
    lab.silent = lab.fleet.iter().map(|checker| checker.id.clone()).collect();
    lab.seconds(20);
    report(&mut lab, "ddd");
    assert!(lab.view("b0").eligible);
    lab.silent.clear();
    report(&mut lab, "ddd");
    assert!(!lab.view("b0").eligible);
}

#[test]
fn a_backend_registered_anew_does_not_inherit_a_verdict() {
    let mut lab = Lab::new(10, Settings::default());
    report(&mut lab, "ddd");
    lab.pool.deregister("b0", lab.now).expect("registered");
    lab.pool.register("b0", 100, lab.now).expect("evicted");
    lab.seconds(3);
    assert!(lab.view("b0").eligible);
}
