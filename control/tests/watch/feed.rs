//! From messages to tables in force, without a network.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use config::Config;
use control::intake::Reason;
use control::node::{Node, PortFacts};
use control::overrides::set_drained;
use control::shared::SharedNode;
use control::watch::{Feed, STALE_AFTER, Status};
use dataplane::tables::BackendState;
use maglev::Scheduler as _;

use crate::messages::{complete, deleted, snapshot, table, with_digest};

pub(crate) const CONFIG: &str = r#"
[node]
name = "lb-a1"
zone = "az-a"
[[port]]
name = "uplink"
device = "net_null0"
addresses = ["192.0.2.2/24"]
neighbors = [{ address = "192.0.2.1", mac = "02:00:00:00:00:01" }]
gateways = ["192.0.2.1"]
[controller]
endpoints = ["http://127.0.0.1:9190"]
"#;

/// A fed node, and its clock in nanoseconds.
pub(crate) struct Lab {
    pub(crate) feed: Feed,
    pub(crate) node: SharedNode,
    pub(crate) status: Arc<Status>,
    pub(crate) clock: Arc<AtomicU64>,
}

pub(crate) fn config() -> Config {
    Config::parse(CONFIG, "test.toml").unwrap_or_else(|errors| panic!("{errors}")).config
}

impl Lab {
    pub(crate) fn new() -> Self {
        let facts = [PortFacts { mac: Default::default(), any_mac: false }];
        let node = SharedNode::new(Node::new(config(), &facts, 0).expect("a node"));
        let clock = Arc::new(AtomicU64::new(1_000_000_000));
        let now = Arc::clone(&clock);
        let status = Arc::new(Status::new(move || now.load(Relaxed)));
        let feed = Feed::new(node.clone(), Arc::clone(&status));
        Self { feed, node, status, clock }
    }

    /// Pool `web` with `a` and `b` is in force at version 5.
    pub(crate) fn started() -> Self {
        let mut lab = Self::new();
        let web = snapshot("s", "web", 5, &[("a", 1), ("b", 1)]);
        assert!(lab.feed.take(vec![web, complete("s")]));
        lab
    }

    fn states(&self) -> Vec<(String, BackendState)> {
        let node = self.node.lock();
        let backends = node.pools().flat_map(|pool| &pool.backends);
        backends.map(|backend| (backend.id.clone(), backend.state)).collect()
    }

    fn generation(&self) -> u64 {
        self.node.lock().generation()
    }
}

#[test]
fn a_good_set_is_in_force_with_the_table_that_was_meant() {
    let lab = Lab::started();
    let node = lab.node.lock();
    let built = node.assembler().pool("web").expect("the pool");
    let meant = table(&snapshot("s", "web", 5, &[("a", 1), ("b", 1)]));
    assert_eq!(built.selector.digest(), meant.digest());
    assert!(node.assembler().vip_index("203.0.113.1:80/tcp").is_some());
    let view = lab.status.view();
    assert_eq!(view.pools.get("web"), Some(&5));
    assert_eq!(view.applied, 1);
    assert!(view.loaded && !view.from_cache);
}

#[test]
fn a_table_that_comes_out_otherwise_is_refused_and_the_old_one_stays() {
    let mut lab = Lab::started();
    let before = lab.generation();
    let mut bad = snapshot("s", "web", 6, &[("a", 1), ("c", 1)]);
    bad.table.as_mut().expect("a table").digest[0] ^= 1;
    assert!(!lab.feed.take(vec![bad]));
    assert_eq!(lab.generation(), before, "not even published anew");
    let view = lab.status.view();
    assert_eq!(view.pools.get("web"), Some(&5));
    assert_eq!(view.refused.get(&("web".to_owned(), Reason::Digest)), Some(&1));
    assert!(view.refusals["web"].text.contains("comes to"), "{:?}", view.refusals);
    // The next good one clears it.
    assert!(lab.feed.take(vec![snapshot("s", "web", 7, &[("a", 1)])]));
    assert!(lab.status.view().refusals.is_empty());
}

#[test]
fn a_bad_pool_does_not_hold_up_the_good_ones_beside_it() {
    let mut lab = Lab::new();
    let mut bad = snapshot("s", "bad", 1, &[("a", 1)]);
    bad.vips.clear();
    bad.table.as_mut().expect("a table").digest[5] ^= 1;
    let good = snapshot("s", "web", 2, &[("a", 1)]);
    // More backends than slots.
    let mut many = snapshot("s", "many", 3, &[]);
    many.vips.clear();
    many.backends = (0..1010)
        .map(|number| proto::v1::BackendEntry { backend_id: format!("b{number}"), ..entry() })
        .collect();
    assert!(lab.feed.take(vec![bad, good, many, complete("s")]));
    let view = lab.status.view();
    assert_eq!(view.pools.keys().collect::<Vec<_>>(), ["web"]);
    assert_eq!(view.refusals["bad"].reason, Reason::Digest);
    assert_eq!(view.refusals["many"].reason, Reason::Table);
}

fn entry() -> proto::v1::BackendEntry {
    snapshot("s", "web", 1, &[("a", 1)]).backends[0].clone()
}

#[test]
fn a_set_that_does_not_fit_the_node_is_refused_as_a_whole() {
    let mut lab = Lab::started();
    let mut large = snapshot("s", "large", 6, &[]);
    large.vips.clear();
    // With weight 0 they need no slot, and 65,535 of them fit beside the two there are not.
    large.backends = (0..65_535)
        .map(|number| proto::v1::BackendEntry {
            backend_id: format!("b{number}"),
            weight: 0,
            ..entry()
        })
        .collect();
    let fine = snapshot("s", "web", 7, &[("a", 2), ("b", 1)]);
    assert!(lab.feed.take(vec![large, fine]));
    let view = lab.status.view();
    assert_eq!(view.refusals["large"].reason, Reason::Limit);
    assert_eq!(view.pools.get("web"), Some(&7), "what came with it is not held up");
    assert_eq!(view.pools.len(), 1);
}

#[test]
fn another_store_is_in_force_only_when_it_is_all_there() {
    let mut lab = Lab::started();
    assert!(!lab.feed.take(vec![snapshot("t", "web", 1, &[("x", 1)])]));
    assert_eq!(lab.states()[0].0, "a");
    assert!(lab.feed.take(vec![complete("t")]));
    assert_eq!(lab.states(), [("x".to_owned(), BackendState::Active)]);
}

#[test]
fn an_empty_store_is_named_until_it_has_a_pool() {
    let mut lab = Lab::started();
    assert!(!lab.feed.take(vec![complete("t")]));
    let view = lab.status.view();
    assert_eq!(view.pools.get("web"), Some(&5));
    assert_eq!(view.refusals["(all)"].reason, Reason::Store);
    assert!(lab.feed.take(vec![snapshot("t", "web", 1, &[("x", 1)])]));
    assert!(lab.status.view().refusals.is_empty());
    assert_eq!(lab.states(), [("x".to_owned(), BackendState::Active)]);
}

#[test]
fn a_deleted_pool_goes_and_its_refusal_with_it() {
    let mut lab = Lab::started();
    let mut bad = snapshot("s", "dns", 6, &[]);
    bad.settings = None;
    lab.feed.take(vec![bad]);
    assert!(lab.status.view().refusals.contains_key("dns"));
    assert!(lab.feed.take(vec![deleted("s", "dns", 7), deleted("s", "web", 8)]));
    let view = lab.status.view();
    assert!(view.refusals.is_empty() && view.pools.is_empty());
    assert!(lab.node.lock().assembler().vip_index("203.0.113.1:80/tcp").is_none());
    lab.clock.fetch_add(60_000_000_000, Relaxed);
    assert!(lab.feed.poll());
    assert!(lab.states().iter().all(|(_, state)| *state == BackendState::Evicted));
}

#[test]
fn an_operators_drain_outlasts_snapshots_and_does_not_make_them_look_wrong() {
    let mut lab = Lab::started();
    set_drained(&lab.node, "web", "a", true).expect("drained");
    let drained = |lab: &Lab| {
        let states = lab.states();
        states.iter().find(|(id, _)| id == "a").map(|(_, state)| *state)
    };
    assert_eq!(drained(&lab), Some(BackendState::Draining));
    assert!(lab.feed.take(vec![snapshot("s", "web", 6, &[("a", 1), ("c", 1)])]));
    assert!(lab.status.view().refusals.is_empty(), "{:?}", lab.status.view().refusals);
    assert_eq!(drained(&lab), Some(BackendState::Draining));
    // It is no excuse for a wrong table either.
    let mut bad = snapshot("s", "web", 7, &[("a", 1)]);
    bad.table.as_mut().expect("a table").digest[0] ^= 1;
    assert!(!lab.feed.take(vec![bad]));
    let mut evicted = snapshot("s", "web", 8, &[("a", 0), ("c", 1)]);
    evicted.backends[0].state = proto::v1::BackendState::Evicted.into();
    assert!(lab.feed.take(vec![with_digest(evicted)]));
    assert_eq!(drained(&lab), Some(BackendState::Evicted), "never better than the snapshot");
    set_drained(&lab.node, "web", "a", false).expect("taken back");
    set_drained(&lab.node, "web", "a", false).expect_err("not drained any more");
    set_drained(&lab.node, "web", "nobody", true).expect_err("unknown");
    set_drained(&lab.node, "nothing", "a", true).expect_err("unknown");
}

#[test]
fn a_reload_of_the_file_leaves_the_controllers_pools_alone() {
    let lab = Lab::started();
    let mut config = config();
    config.encapsulation.outer_ttl = 33;
    lab.node.lock().reload(config, 5).expect("a reload");
    lab.node.lock().step(10);
    assert_eq!(lab.states().len(), 2);
    assert_eq!(lab.node.lock().assembler().links().outer.time_to_live, 33);
}

#[test]
fn what_nobody_confirms_is_stale() {
    let lab = Lab::started();
    assert!(!lab.status.view().stale);
    let stale_after = u64::try_from(STALE_AFTER.as_nanos()).expect("a time");
    lab.clock.fetch_add(stale_after - 1, Relaxed);
    assert!(!lab.status.view().stale);
    lab.clock.fetch_add(1, Relaxed);
    assert!(lab.status.view().stale);
}
