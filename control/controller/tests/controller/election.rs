//! Several controllers over a real etcd: who leads, who says so, and what a lost quorum is.

use std::time::Duration;

use controller::{Controller, Settings, Store};
use registry::EtcdSettings;
use tempfile::TempDir;
use tonic::{Code, Status};

use crate::common::{
    any_port, connect, create, eventually, everything, next, registration, soon, until_complete,
};
use crate::etcd::Cluster;

fn settings(name: &str, cluster: &Cluster, lease: u64, timeout: u64) -> Settings {
    let mut etcd = EtcdSettings::new(cluster.endpoints());
    etcd.lease_ttl = Duration::from_secs(lease);
    etcd.timeout = Duration::from_secs(timeout);
    let mut settings = Settings::new(name, Store::Etcd(etcd));
    settings.listen = any_port();
    settings.http = any_port();
    settings
}

fn leader_of(status: &Status) -> Option<String> {
    Some(status.metadata().get("weir-leader")?.to_str().ok()?.to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn followers_name_the_leader_and_one_of_them_takes_over() {
    let cluster = tokio::task::block_in_place(|| Cluster::start(1));
    let one = Controller::start(settings("c1", &cluster, 5, 5)).await.unwrap();
    soon("a leader", one.leads()).await;
    let two = Controller::start(settings("c2", &cluster, 5, 5)).await.unwrap();
    let mut client = connect(one.grpc_address()).await;
    create(&mut client, "web", Default::default()).await.unwrap();
    let mut stream = client.watch_pool(everything()).await.unwrap().into_inner();
    let before = until_complete(&mut stream).await;
    assert_eq!(before.len(), 1, "a pool whose creation was answered");
    let follower = connect(two.grpc_address()).await;
    let ask = || {
        let mut follower = follower.clone();
        async move { create(&mut follower, "web", Default::default()).await.unwrap_err() }
    };
    let refused = eventually("the leader's address", ask, |s| leader_of(s).is_some()).await;
    assert_eq!(refused.code(), Code::Unavailable);
    assert_eq!(leader_of(&refused), Some(format!("http://{}", one.grpc_address())));
    let (stopped, ended) = tokio::join!(one.stop(), soon("the end", stream.message()));
    stopped.unwrap();
    assert_eq!(ended.unwrap_err().code(), Code::Unavailable);
    soon("another leader", two.leads()).await;
    let mut follower = follower;
    let mut stream = follower.watch_pool(everything()).await.unwrap().into_inner();
    let after = next(&mut stream).await;
    assert_eq!((after.pool_id.as_str(), &after.store_id), ("web", &before[0].store_id));
    assert!(after.version > before[0].version);
    assert_eq!(after.settings, before[0].settings);
    two.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deadline_exceeded_without_a_quorum_and_nothing_half_done_after() {
    let mut cluster = tokio::task::block_in_place(|| Cluster::start(3));
    // The lease outlives the outage.
    let one = Controller::start(settings("c1", &cluster, 60, 2)).await.unwrap();
    soon("a leader", one.leads()).await;
    let mut client = connect(one.grpc_address()).await;
    create(&mut client, "web", Default::default()).await.unwrap();
    cluster.kill(1);
    cluster.kill(2);
    let request = registration("web", "a");
    let late = soon("an answer", client.register_backend(request.clone())).await.unwrap_err();
    assert_eq!(late.code(), Code::DeadlineExceeded, "{late}");
    // What is known can be read all the while.
    let list = proto::v1::ListPoolsReq {};
    assert_eq!(client.list_pools(list).await.unwrap().into_inner().pools.len(), 1);
    cluster.spawn(1);
    cluster.spawn(2);
    tokio::task::block_in_place(|| cluster.wait());
    // Done then or now: once.
    let again = || {
        let (mut client, request) = (client.clone(), request.clone());
        async move { client.register_backend(request).await }
    };
    eventually("a registration", again, Result::is_ok).await.unwrap();
    one.stop().await.unwrap();
}

#[tokio::test]
async fn unavailable_while_etcd_cannot_be_reached() {
    let folder = TempDir::new().unwrap();
    let mut etcd = EtcdSettings::new(["http://127.0.0.1:1"]);
    etcd.timeout = Duration::from_millis(500);
    let mut settings = crate::common::settings(folder.path());
    settings.store = Store::Etcd(etcd);
    let one = Controller::start(settings).await.unwrap();
    let mut client = connect(one.grpc_address()).await;
    let refused = create(&mut client, "web", Default::default()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    soon("the end", one.stop()).await.unwrap();
}
