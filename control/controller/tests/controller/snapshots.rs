//! What nodes are told, and when.

use proto::v1::{
    BackendState, DeletePoolReq, DeregisterBackendReq, PoolSettings, UpdateBackendReq, WatchPoolReq,
};
use tonic::Code;

use crate::common::{
    Lab, binding, create, everything, narrow, next, registration, soon, state, until,
    until_complete, vip,
};

#[tokio::test]
async fn a_node_gets_every_pool_then_the_marker_then_changes() {
    let mut lab = Lab::start().await;
    lab.pool("web").await;
    lab.pool("api").await;
    lab.register("web", "a").await.unwrap();
    lab.client.bind_vip_to_pool(binding("web", vip("203.0.113.1", 80, 80))).await.unwrap();
    let mut stream = lab.watch(everything()).await;
    let initial = until_complete(&mut stream).await;
    let mut ids: Vec<&str> = initial.iter().map(|s| s.pool_id.as_str()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids, ["api", "web"]);
    // A change that was under way may come after the marker.
    let web = initial.iter().rfind(|s| s.pool_id == "web").unwrap().clone();
    let web = match web.vips.is_empty() {
        true => until(&mut stream, |s| s.pool_id == "web" && !s.vips.is_empty()).await,
        false => web,
    };
    assert_eq!(web.settings.as_ref().unwrap().hash_secret.len(), 16, "nodes are shown it");
    assert_eq!(web.table.as_ref().unwrap().digest.len(), 32);
    assert_eq!(state(&web, "a"), Some(BackendState::Pending));
    assert_eq!(web.backends[0].weight, 0, "nobody has found it healthy");
    lab.register("web", "b").await.unwrap();
    let changed = until(&mut stream, |s| state(s, "b").is_some()).await;
    assert!(changed.version > web.version);
    assert_eq!(changed.store_id, web.store_id);
    lab.pool("late").await;
    until(&mut stream, |s| s.pool_id == "late").await;
    let request = DeletePoolReq { pool_id: "api".into() };
    lab.client.delete_pool(request).await.unwrap();
    let gone = until(&mut stream, |s| s.pool_id == "api").await;
    assert!(gone.deleted && gone.version > 0);
}

#[tokio::test]
async fn a_node_that_names_its_versions_is_sent_what_it_lacks() {
    let mut lab = Lab::start().await;
    for pool in ["one", "two", "three"] {
        lab.pool(pool).await;
    }
    let initial = lab.initial(everything()).await;
    assert_eq!(initial.len(), 3);
    let mut known = everything();
    known.store_id = initial[0].store_id.clone();
    known.versions = initial.iter().map(|s| (s.pool_id.clone(), s.version)).collect();
    assert_eq!(lab.initial(known.clone()).await, []);
    lab.register("two", "a").await.unwrap();
    lab.client.delete_pool(DeletePoolReq { pool_id: "three".into() }).await.unwrap();
    let mut stream = lab.watch(known.clone()).await;
    let two = until(&mut stream, |s| s.pool_id == "two").await;
    assert!(two.version > known.versions["two"]);
    let mut stream = lab.watch(known.clone()).await;
    let three = until(&mut stream, |s| s.pool_id == "three").await;
    assert!(three.deleted && three.version > known.versions["three"]);
    // Nothing that is said here would be news to it: told so, it looks for another controller.
    let mut ahead = known.clone();
    ahead.versions.insert("one".into(), known.versions["one"] + (1 << 24));
    let refused = lab.client.watch_pool(ahead).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    assert!(refused.message().starts_with("versions:"), "{refused}");
    // Of another store nothing is known.
    known.store_id = "another".into();
    let all = lab.initial(known).await;
    assert!(all.iter().any(|s| s.pool_id == "one" && !s.deleted));
}

#[tokio::test]
async fn one_pool_can_be_watched_alone() {
    let mut lab = Lab::start().await;
    lab.pool("web").await;
    lab.pool("api").await;
    let only = |pool: &str| WatchPoolReq { pool_id: pool.into(), ..everything() };
    let initial = lab.initial(only("web")).await;
    assert!(initial.iter().all(|s| s.pool_id == "web") && !initial.is_empty());
    let refused = lab.client.watch_pool(only("none")).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
    let mut stream = lab.watch(only("web")).await;
    until_complete(&mut stream).await;
    lab.register("api", "x").await.unwrap();
    lab.register("web", "a").await.unwrap();
    assert_eq!(next(&mut stream).await.pool_id, "web");
}

#[tokio::test]
async fn a_slow_node_gets_the_newest_and_not_each() {
    let mut lab = Lab::start().await;
    lab.pool("web").await;
    lab.register("web", "a").await.unwrap();
    // Takes no more than a snapshot or two that it has not read.
    let mut slow = narrow(lab.controller.grpc_address(), 512).await;
    let mut stream = slow.watch_pool(everything()).await.unwrap().into_inner();
    until_complete(&mut stream).await;
    // 300 changes while nobody reads: the last one must come, and few of those before it.
    for change in 1..=300 {
        let update = UpdateBackendReq {
            backend_id: "a".into(),
            ip: Some(format!("192.0.2.{}", change % 250 + 1)),
            port: Some(change),
            ..UpdateBackendReq::default()
        };
        lab.client.update_backend(update).await.unwrap();
    }
    let mut count = 0;
    let mut version = 0;
    loop {
        let snapshot = next(&mut stream).await;
        count += 1;
        assert!(snapshot.version > version);
        version = snapshot.version;
        if snapshot.backends[0].port == 300 {
            break;
        }
    }
    assert!(count < 30, "{count} snapshots for 300 changes");
}

#[tokio::test]
async fn an_evicted_backend_is_shown_for_a_while() {
    let mut lab = Lab::start().await;
    lab.pool("web").await;
    lab.register("web", "a").await.unwrap();
    let mut stream = lab.watch(everything()).await;
    let request = DeregisterBackendReq { backend_id: "a".into(), immediately: true };
    lab.client.deregister_backend(request).await.unwrap();
    until(&mut stream, |s| state(s, "a") == Some(BackendState::Evicted)).await;
    until(&mut stream, |s| s.pool_id == "web" && state(s, "a").is_none()).await;
}

#[tokio::test]
async fn the_digest_is_that_of_the_table_a_node_builds() {
    let mut lab = Lab::start().await;
    let settings =
        PoolSettings { table_size: 251, hash_secret: (0..16).collect(), ..PoolSettings::default() };
    create(&mut lab.client, "web", settings).await.unwrap();
    lab.client.register_backend(registration("web", "a")).await.unwrap();
    let initial = lab.initial(everything()).await;
    let table = initial.last().unwrap().table.clone().unwrap();
    let secret: [u8; 16] = core::array::from_fn(|i| i as u8);
    // Nobody is eligible yet.
    let empty = maglev::Maglev::build(&[], 251, secret).unwrap();
    assert_eq!(table.size, 251);
    assert_eq!(table.digest, maglev::Scheduler::digest(&empty).as_bytes());
}

#[tokio::test]
async fn a_stopping_controller_ends_streams_with_unavailable() {
    let mut lab = Lab::start().await;
    lab.pool("web").await;
    let mut stream = lab.watch(everything()).await;
    until_complete(&mut stream).await;
    let Lab { controller, .. } = lab;
    let (stopped, ended) = tokio::join!(controller.stop(), soon("the end", stream.message()));
    stopped.unwrap();
    assert_eq!(ended.unwrap_err().code(), Code::Unavailable);
}
