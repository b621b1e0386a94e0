//! A restart keeps everything, and versions go up.

use proto::v1::{BackendState, ListViPsReq};

use crate::common::{Lab, binding, everything, vip};

#[tokio::test]
async fn a_restart_keeps_everything_and_versions_go_up() {
    let mut lab = Lab::start().await;
    lab.pool("web").await;
    for id in ["a", "b"] {
        lab.register("web", id).await.unwrap();
    }
    lab.drain("b", 3_600).await.unwrap();
    lab.client.bind_vip_to_pool(binding("web", vip("203.0.113.1", 80, 80))).await.unwrap();
    let before = lab.initial(everything()).await.pop().unwrap();
    let row = lab.backend("b").await.unwrap();
    let mut lab = lab.restart().await;
    let after = lab.initial(everything()).await.pop().unwrap();
    assert_eq!(after.store_id, before.store_id);
    assert!(after.version > before.version, "{} {}", after.version, before.version);
    assert_eq!(after.settings, before.settings, "the drawn secret too");
    assert_eq!(after.table, before.table);
    let again = lab.backend("b").await.unwrap();
    assert_eq!(again.state(), BackendState::Draining);
    assert_eq!(again.drain_until_ns, row.drain_until_ns);
    assert_eq!(again.registered_at_ns, row.registered_at_ns);
    let vips = lab.client.list_vi_ps(ListViPsReq::default()).await.unwrap().into_inner().vips;
    assert_eq!(vips.len(), 1);
}

#[tokio::test]
async fn a_drain_goes_on_over_a_restart() {
    let mut lab = Lab::start().await;
    lab.pool("web").await;
    lab.register("web", "a").await.unwrap();
    lab.drain("a", 2).await.unwrap();
    let mut lab = lab.restart().await;
    let mut stream = lab.watch(everything()).await;
    let evicted = |s: &_| crate::common::state(s, "a") == Some(BackendState::Evicted);
    crate::common::until(&mut stream, evicted).await;
}

#[tokio::test]
async fn another_store_has_another_id() {
    let mut one = Lab::start().await;
    let mut two = Lab::start().await;
    one.pool("web").await;
    two.pool("web").await;
    let id = |snapshots: Vec<proto::v1::PoolSnapshot>| snapshots[0].store_id.clone();
    assert_ne!(id(one.initial(everything()).await), id(two.initial(everything()).await));
}
