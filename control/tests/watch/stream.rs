//! The watch over a real connection: nodes without ports, and a controller on a socket.

use std::path::PathBuf;

use client::{Controllers, Settings};
use control::portless::NodeWithoutPorts;
use control::watch::WatchOptions;
use maglev::Scheduler as _;

use crate::controller::{Controller, wait};
use crate::messages::{complete, deleted, snapshot, table};

fn node(endpoints: &[String], state_dir: Option<PathBuf>) -> NodeWithoutPorts {
    let controllers = Controllers::new(Settings::new(endpoints)).expect("controllers");
    NodeWithoutPorts::start(WatchOptions {
        controllers,
        node_id: "node-1".to_owned(),
        zone: "az-a".to_owned(),
        state_dir,
        core: None,
    })
    .expect("a node")
}

fn web(version: u64, backends: &[(&str, u32)]) -> proto::v1::PoolSnapshot {
    snapshot("s", "web", version, backends)
}

#[test]
fn a_change_is_in_force_and_acknowledged_with_its_digest() {
    let controller = Controller::start(vec![web(1, &[("a", 1)]), complete("s")]);
    let node = node(&[controller.url()], None);
    controller.applied("web", 1);
    let message = web(2, &[("a", 1), ("b", 3)]);
    controller.send(message.clone());
    let applied = controller.applied("web", 2);
    assert_eq!(applied.digest, table(&message).digest().as_bytes());
    assert_eq!(applied.refused, "");
    let backends: Vec<_> = applied.backends.iter().map(|b| b.backend_id.as_str()).collect();
    assert_eq!(backends, ["a", "b"]);
    controller.wait("who it is", |script| {
        let report = script.reports.last()?;
        assert_eq!((report.node_id.as_str(), report.zone.as_str()), ("node-1", "az-a"));
        (report.store_id == "s").then_some(())
    });
    let worker = node.node().lock().workers()[0].clone();
    let generation = node.node().lock().generation();
    wait("the worker", || (worker.counters.tables_generation.get() == generation).then_some(()));
    wait("an acknowledgement", || (node.status().view().acknowledged > 0).then_some(()));
    assert!(node.status().view().connected_to.is_some());
}

#[test]
fn a_refusal_is_reported_and_the_old_version_stays() {
    let controller = Controller::start(vec![web(1, &[("a", 1)]), complete("s")]);
    let _node = node(&[controller.url()], None);
    controller.applied("web", 1);
    let mut bad = web(2, &[("b", 1)]);
    bad.table.as_mut().expect("a table").digest[3] ^= 1;
    controller.send(bad);
    let refused = controller.wait("the refusal", |script| {
        let pools = script.reports.iter().rev().flat_map(|report| &report.pools);
        pools.clone().find(|pool| !pool.refused.is_empty()).cloned()
    });
    assert_eq!((refused.pool_id.as_str(), refused.version), ("web", 1));
    assert!(refused.refused.contains("digest"), "{}", refused.refused);
}

#[test]
fn a_stream_that_is_cut_is_opened_again_and_resumed() {
    let controller = Controller::start(vec![web(7, &[("a", 1)]), complete("s")]);
    let node = node(&[controller.url()], None);
    controller.applied("web", 7);
    controller.script.lock().expect("the script").initial =
        vec![web(9, &[("a", 1), ("b", 1)]), complete("s")];
    controller.cut();
    controller.applied("web", 9);
    let requests = controller.script.lock().expect("the script").requests.clone();
    assert!(requests[0].versions.is_empty() && requests[0].store_id.is_empty());
    let resumed = requests.last().expect("another request");
    assert_eq!(resumed.store_id, "s");
    assert_eq!(resumed.versions.get("web"), Some(&7));
    assert_eq!(resumed.node_id, "node-1");
    assert!(node.status().view().connected_to.is_some());
}

#[test]
fn a_node_starts_from_its_cache_when_there_is_no_controller_and_goes_on_when_there_is() {
    let folder = tempfile::tempdir().expect("a folder");
    let state_dir = Some(folder.path().to_owned());
    let controller = Controller::start(vec![
        web(7, &[("a", 1), ("b", 1)]),
        deleted("s", "gone", 6),
        complete("s"),
    ]);
    let address = controller.address;
    let url = controller.url();
    let first = node(std::slice::from_ref(&url), state_dir.clone());
    controller.applied("web", 7);
    drop(first);
    drop(controller);

    let second = node(&[url], state_dir);
    let view = second.status().view();
    assert_eq!(view.pools.get("web"), Some(&7), "at once, when start returns");
    assert!(view.loaded && view.from_cache && view.stale && view.connected_to.is_none());
    assert_eq!(second.node().lock().pools().count(), 1);

    let controller = Controller::start_at(address, vec![complete("s")]);
    wait("the connection", || (!second.status().view().from_cache).then_some(()));
    let request = controller.wait("a request", |script| script.requests.first().cloned());
    assert_eq!((request.store_id.as_str(), request.versions.get("web")), ("s", Some(&7)));
    assert!(!second.status().view().stale);
    assert_eq!(second.status().view().pools.get("web"), Some(&7), "what is not named is not gone");
}

#[test]
fn a_follower_sends_the_node_to_the_leader() {
    let leader = Controller::start(vec![web(3, &[("a", 1)]), complete("s")]);
    let follower = Controller::start(Vec::new());
    follower.script.lock().expect("the script").leader = Some(leader.url());
    let node = node(&[follower.url()], None);
    leader.applied("web", 3);
    let connected = node.status().view().connected_to.expect("a controller");
    assert!(connected.contains(&leader.address.to_string()), "{connected}");
}

#[test]
fn a_new_leader_takes_over_and_versions_go_on() {
    let old = Controller::start(vec![web(1 << 32, &[("a", 1)]), complete("s")]);
    let new = Controller::start(vec![web(2 << 32, &[("b", 1)]), complete("s")]);
    new.script.lock().expect("the script").leader = Some(old.url());
    let _node = node(&[old.url(), new.url()], None);
    old.applied("web", 1 << 32);
    new.script.lock().expect("the script").leader = None;
    old.script.lock().expect("the script").leader = Some(new.url());
    old.cut();
    new.applied("web", 2 << 32);
}

#[test]
fn a_burst_of_changes_ends_with_the_last() {
    let controller = Controller::start(vec![web(1, &[("a", 1)]), complete("s")]);
    let node = node(&[controller.url()], None);
    controller.applied("web", 1);
    for version in 2..=200u32 {
        controller.send(web(version.into(), &[("a", version), ("b", 1)]));
    }
    controller.applied("web", 200);
    assert!(node.status().view().refused.is_empty());
}
