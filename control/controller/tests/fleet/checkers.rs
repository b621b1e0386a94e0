//! What checkers report, and what follows from it.

use std::time::Duration;

use proto::v1::{BackendState, Health};

use crate::checker::{Checker, World};
use crate::lab::Lab;

async fn three(lab: &Lab) -> Vec<Checker> {
    let mut checkers = Vec::new();
    for n in 0..3 {
        let (id, zone) = (format!("checker-{n}"), format!("zone-{n}"));
        checkers.push(Checker::start(&lab.client, &id, &zone, World::default()).await);
    }
    checkers
}

#[tokio::test]
async fn two_of_three_eject_and_two_of_three_admit() {
    let lab = Lab::start().await;
    lab.pool("web", &["b0", "b1", "b2"]).await;
    let checkers = three(&lab).await;
    for backend in ["b0", "b1", "b2"] {
        lab.state(backend, BackendState::Healthy).await;
    }
    for checker in &checkers[..2] {
        checker.sees("b1", Health::Unhealthy, Health::Unhealthy);
    }
    lab.state("b1", BackendState::Unhealthy).await;
    assert!(!lab.backend("b1").await.eligible);
    assert!(lab.backend("b0").await.eligible && lab.backend("b2").await.eligible);
    checkers[0].sees_all_well();
    lab.state("b1", BackendState::Healthy).await;
}

#[tokio::test]
async fn one_checker_lying_or_cut_off_changes_nothing() {
    let lab = Lab::start().await;
    lab.pool("web", &["b0", "b1", "b2"]).await;
    let mut checkers = three(&lab).await;
    for backend in ["b0", "b1", "b2"] {
        lab.state(backend, BackendState::Healthy).await;
    }
    // It is cut off from all backends, or lies about them: the same seen from here.
    for backend in ["b0", "b1", "b2"] {
        checkers[2].sees(backend, Health::Unhealthy, Health::Unhealthy);
    }
    for checker in &checkers {
        checker.reports(30).await;
    }
    assert_eq!(lab.states("web").await, [BackendState::Healthy; 3]);
    assert!(lab.backends("web").await.iter().all(|backend| backend.eligible));
    // Then nobody hears of it any more.
    drop(checkers.pop());
    for checker in &checkers {
        checker.reports(30).await;
    }
    assert_eq!(lab.states("web").await, [BackendState::Healthy; 3]);
    assert!(!lab.get_pool("web").await.frozen);
}

#[tokio::test]
async fn a_checker_that_vanishes_hands_its_backends_to_others() {
    let lab = Lab::with(|settings| {
        settings.fleet.checkers_silent = Duration::from_secs(4);
    })
    .await;
    let names: Vec<String> = (0..20).map(|n| format!("b{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    lab.pool("web", &names).await;
    let mut checkers = three(&lab).await;
    checkers.push(Checker::start(&lab.client, "checker-3", "zone-3", World::default()).await);
    lab.until("all four share the work", async || {
        let each: Vec<usize> = checkers.iter().map(|c| c.assigned().len()).collect();
        each.iter().sum::<usize>() == 60 && each.iter().all(|&n| n < 20)
    })
    .await;
    drop(checkers.pop());
    lab.until("three have all of it", async || checkers.iter().all(|c| c.assigned().len() == 20))
        .await;
    lab.until("nobody was ejected by it", async || {
        lab.states("web").await.iter().all(|&state| state == BackendState::Healthy)
    })
    .await;
}

#[tokio::test]
async fn a_silent_fleet_freezes_the_pool_and_keeps_its_work() {
    let lab = Lab::with(|settings| {
        settings.fleet.checkers_silent = Duration::from_secs(3);
    })
    .await;
    lab.pool("web", &["b0", "b1"]).await;
    let mut checkers = three(&lab).await;
    for backend in ["b0", "b1"] {
        lab.state(backend, BackendState::Healthy).await;
    }
    checkers.clear();
    lab.until("the pool is frozen", async || lab.get_pool("web").await.frozen).await;
    // The first one back, and it sees the worst.
    let world = World::default();
    let back = Checker::start(&lab.client, "checker-0", "zone-0", world).await;
    for backend in ["b0", "b1"] {
        back.sees(backend, Health::Unhealthy, Health::Unhealthy);
    }
    back.reports(20).await;
    assert_eq!(lab.states("web").await, [BackendState::Healthy; 2]);
    assert!(lab.backends("web").await.iter().all(|backend| backend.eligible));
}

#[tokio::test]
async fn every_probe_503_is_panic_and_evicts_nobody() {
    let lab = Lab::start().await;
    lab.pool("web", &["b0", "b1", "b2", "b3"]).await;
    let checkers = three(&lab).await;
    for backend in ["b0", "b1", "b2", "b3"] {
        lab.state(backend, BackendState::Healthy).await;
    }
    for checker in &checkers {
        for backend in ["b0", "b1", "b2", "b3"] {
            checker.sees(backend, Health::Healthy, Health::Unhealthy);
        }
    }
    lab.until("the pool panics", async || lab.get_pool("web").await.panicking).await;
    for checker in &checkers {
        checker.reports(30).await;
    }
    assert_eq!(lab.states("web").await, [BackendState::Healthy; 4]);
    assert!(lab.backends("web").await.iter().all(|backend| backend.eligible));
    for checker in &checkers {
        checker.sees_all_well();
    }
    lab.until("panic is over", async || !lab.get_pool("web").await.panicking).await;
}

#[tokio::test]
async fn assignments_name_what_to_probe_and_follow_the_rows() {
    let lab = Lab::start().await;
    lab.pool("web", &["b0"]).await;
    let checkers = three(&lab).await;
    let checker = &checkers[0];
    lab.until("b0 is assigned", async || checker.assigned() == ["b0"]).await;
    let list = checker.list();
    let assignment = &list.assignments[0];
    assert_eq!((assignment.pool_id.as_str(), assignment.ip.as_str()), ("web", "192.0.2.1"));
    assert_eq!(assignment.port, 8080);
    assert!(assignment.readiness_probe_url.starts_with("http://192.0.2.1:8080/"));
    let probe = assignment.settings.clone().expect("settings");
    assert_eq!((probe.interval_ms, probe.timeout_ms), (1_000, 1_000));
    lab.register("web", "b1", 2).await;
    lab.until("b1 is too", async || checker.assigned() == ["b0", "b1"]).await;
    assert!(checker.list().version > list.version);
    lab.deregister("b0").await;
    lab.until("b0 is not any more", async || checker.assigned() == ["b1"]).await;
}
