//! A registry that was restored from a backup, and the operator's word for it.

use std::time::Duration;

use controller::{Controller, RenewalError, Settings, Store, renew_store_id};
use proto::v1::WatchPoolReq;
use registry::{Error, EtcdSettings};
use tonic::Code;

use crate::common::{
    Lab, any_port, connect, create, everything, settings as of_file, soon, until_complete,
};
use crate::etcd::Cluster;

fn settings(name: &str, cluster: &Cluster) -> Settings {
    let mut etcd = EtcdSettings::new(cluster.endpoints());
    etcd.timeout = Duration::from_secs(10);
    let mut settings = Settings::new(name, Store::Etcd(etcd));
    settings.listen = any_port();
    settings.http = any_port();
    settings
}

/// A controller that has led, created `pools`, and stopped; what a node then knows.
async fn term(cluster: &Cluster, pools: &[&str]) -> WatchPoolReq {
    let controller = Controller::start(settings("c1", cluster)).await.unwrap();
    soon("its leadership", controller.leads()).await;
    let mut client = connect(controller.grpc_address()).await;
    for pool in pools {
        create(&mut client, pool, Default::default()).await.unwrap();
    }
    let mut stream = client.watch_pool(everything()).await.unwrap().into_inner();
    let snapshots = until_complete(&mut stream).await;
    let mut node = everything();
    node.store_id.clone_from(&snapshots[0].store_id);
    node.versions = snapshots.into_iter().map(|s| (s.pool_id, s.version)).collect();
    controller.stop().await.unwrap();
    node
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_restore_nodes_are_refused_until_the_store_has_another_id() {
    let mut cluster = tokio::task::block_in_place(|| Cluster::start(1));
    term(&cluster, &["kept"]).await;
    let saved = tokio::task::block_in_place(|| {
        cluster.kill(0);
        let saved = cluster.save(0);
        cluster.spawn(0);
        cluster.wait();
        saved
    });
    // Written after the backup, over two terms.
    term(&cluster, &["lost"]).await;
    let node = term(&cluster, &["lost-too"]).await;
    assert_eq!(node.versions.len(), 3);
    tokio::task::block_in_place(|| {
        cluster.kill(0);
        cluster.restore(0, &saved);
        cluster.spawn(0);
        cluster.wait();
    });

    // One that is started now cannot know: the same id, and versions that begin lower.
    let one = Controller::start(settings("c1", &cluster)).await.unwrap();
    soon("its leadership", one.leads()).await;
    let mut client = connect(one.grpc_address()).await;
    let refused = client.watch_pool(node.clone()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    assert!(refused.message().starts_with("versions:"), "{refused}");

    // Not over the head of a controller that leads.
    let led = renew_store_id(&settings("op", &cluster), Duration::from_millis(300)).await;
    let Err(RenewalError::Led(leader)) = led else { panic!("{led:?}") };
    assert_eq!(leader.id, "c1");
    one.stop().await.unwrap();
    let patience = Duration::from_secs(20);
    let renewed = renew_store_id(&settings("op", &cluster), patience).await.unwrap();
    assert_eq!(renewed.before.to_string(), node.store_id);
    assert_ne!(renewed.after, renewed.before);

    // The node takes what the backup had, and hears what is gone.
    let two = Controller::start(settings("c1", &cluster)).await.unwrap();
    soon("its leadership", two.leads()).await;
    let mut client = connect(two.grpc_address()).await;
    let mut stream = client.watch_pool(node).await.unwrap().into_inner();
    let told = until_complete(&mut stream).await;
    assert!(told.iter().all(|s| s.store_id == renewed.after.to_string()));
    let mut told: Vec<_> = told.iter().map(|s| (s.pool_id.as_str(), s.deleted)).collect();
    told.sort_unstable();
    assert_eq!(told, [("kept", false), ("lost", true), ("lost-too", true)]);
    two.stop().await.unwrap();
}

#[tokio::test]
async fn a_file_is_renewed_when_no_controller_has_it_open() {
    let mut lab = Lab::start().await;
    lab.pool("web").await;
    let before = lab.initial(everything()).await.remove(0);
    let of = of_file(lab.folder.path());
    let patience = Duration::from_secs(1);
    let locked = renew_store_id(&of, patience).await.unwrap_err();
    assert!(matches!(locked, RenewalError::Registry(Error::Locked(_))), "{locked}");
    let Lab { controller, folder, .. } = lab;
    soon("the end", controller.stop()).await.unwrap();
    let renewed = renew_store_id(&of, patience).await.unwrap();
    assert_eq!(renewed.before.to_string(), before.store_id);
    let mut lab = Lab::begin(folder, |_| {}).await;
    let after = lab.initial(everything()).await.remove(0);
    assert_eq!(after.store_id, renewed.after.to_string());
    assert_eq!((&after.pool_id, &after.settings), (&before.pool_id, &before.settings));
}
