//! What a change would do, before it is made.

use proto::v1::plan_req::Change;
use proto::v1::{
    BackendState, DeregisterBackendReq, DrainBackendReq, PlanReq, PlanResp, PoolSettings,
    RegisterBackendReq, UpdateBackendReq, UpdatePoolReq,
};
use tonic::{Code, Status};

use crate::checker::{Checker, World};
use crate::lab::Lab;

async fn plan(lab: &Lab, change: Change) -> Result<PlanResp, Status> {
    let answer = lab.client.clone().plan(PlanReq { change: Some(change) }).await?;
    Ok(answer.into_inner())
}

/// A pool of four that serve.
async fn four() -> (Lab, Vec<Checker>) {
    let lab = Lab::start().await;
    let names = ["b0", "b1", "b2", "b3"];
    lab.pool("web", &names).await;
    let mut checkers = Vec::new();
    for n in 0..3 {
        let (id, zone) = (format!("c{n}"), format!("z{n}"));
        checkers.push(Checker::start(&lab.client, &id, &zone, World::default()).await);
    }
    for backend in names {
        lab.state(backend, BackendState::Healthy).await;
    }
    (lab, checkers)
}

fn some(plan: &PlanResp, part: &str) {
    assert!(plan.warnings.iter().any(|w| w.contains(part)), "{part:?} not in {:?}", plan.warnings);
}

#[tokio::test]
async fn plans_say_what_changes_and_change_nothing() {
    let (lab, _checkers) = four().await;
    let before = lab.get_pool("web").await.settings;

    let drain = DrainBackendReq { backend_id: "b2".into(), ..Default::default() };
    let drained = plan(&lab, Change::Drain(drain)).await.expect("a plan");
    assert_eq!((drained.pool_id.as_str(), drained.slots), ("web", 65_537));
    assert_eq!(drained.backends_out, ["b2"]);
    assert_eq!(drained.backends_in, [""; 0]);
    let share = f64::from(drained.slots_moved) / 65_537.0;
    assert!((0.24..0.28).contains(&share), "{share}");

    let gone = DeregisterBackendReq { backend_id: "b1".into(), immediately: true };
    let gone = plan(&lab, Change::Deregister(gone)).await.expect("a plan");
    assert_eq!(gone.backends_out, ["b1"]);

    let register = RegisterBackendReq {
        pool_id: "web".into(),
        backend_id: "b4".into(),
        ip: "192.0.2.99".into(),
        port: 8080,
        ..Default::default()
    };
    let new = plan(&lab, Change::Register(register)).await.expect("a plan");
    assert_eq!(new.backends_in, ["b4"]);
    let share = f64::from(new.slots_moved) / 65_537.0;
    assert!((0.19..0.23).contains(&share), "{share}");

    let weight =
        UpdateBackendReq { backend_id: "b0".into(), weight: Some(0), ..Default::default() };
    let zero = plan(&lab, Change::UpdateBackend(weight)).await.expect("a plan");
    assert_eq!(zero.backends_out, ["b0"]);

    let settings = PoolSettings { table_size: 655_373, ..Default::default() };
    let update =
        UpdatePoolReq { pool_id: "web".into(), settings: Some(settings), ..Default::default() };
    let larger = plan(&lab, Change::UpdatePool(update)).await.expect("a plan");
    assert_eq!(larger.slots, 655_373);
    some(&larger, "another table size");

    assert_eq!(lab.get_pool("web").await.settings, before);
    let weights: Vec<u32> = lab.backends("web").await.iter().map(|b| b.weight).collect();
    assert_eq!(weights, [100; 4]);
    assert_eq!(lab.states("web").await, [BackendState::Healthy; 4]);
}

#[tokio::test]
async fn plans_are_refused_as_the_call_would_be() {
    let (lab, _checkers) = four().await;
    let nobody = DrainBackendReq { backend_id: "nobody".into(), ..Default::default() };
    let status = plan(&lab, Change::Drain(nobody)).await.expect_err("no such backend");
    assert_eq!(status.code(), Code::NotFound, "{status}");
    let status = lab.client.clone().plan(PlanReq { change: None }).await.expect_err("nothing");
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    let register = RegisterBackendReq {
        pool_id: "web".into(),
        backend_id: "b0".into(),
        ip: "no address".into(),
        port: 8080,
        ..Default::default()
    };
    let status = plan(&lab, Change::Register(register.clone())).await.expect_err("no address");
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    // What only the pool's state forbids is a plan that says so.
    let taken = RegisterBackendReq { ip: "192.0.2.200".into(), ..register };
    let taken = plan(&lab, Change::Register(taken)).await.expect("a plan");
    some(&taken, "cannot be applied");
    assert_eq!(taken.slots_moved, 0);
}

#[tokio::test]
async fn plans_warn_of_panic() {
    use proto::v1::Health::{Healthy, Unhealthy};
    let (lab, checkers) = four().await;
    for checker in &checkers {
        checker.sees("b3", Unhealthy, Unhealthy);
        checker.sees("b2", Healthy, Unhealthy);
    }
    lab.state("b3", BackendState::Unhealthy).await;
    lab.until("b2 is not ready", async || !lab.backend("b2").await.eligible).await;
    let drain = DrainBackendReq { backend_id: "b0".into(), ..Default::default() };
    let plan = plan(&lab, Change::Drain(drain)).await.expect("a plan");
    some(&plan, "panic threshold would be crossed: 2 of 3");
    assert_eq!(plan.backends_in, ["b2", "b3"]);
    assert!(!lab.get_pool("web").await.panicking);
}
