//! The set of pools, as messages change it.

use std::collections::BTreeMap;

use control::fed::{Fed, Taken};
use control::intake::Reason;
use control::statics::EVICTED_SHOWN_MS;
use dataplane::tables::BackendState;
use proptest::prelude::*;
use proto::v1;

use crate::messages::{complete, deleted, snapshot};

fn take(fed: &mut Fed, message: v1::PoolSnapshot) -> Taken {
    fed.take(message, &[], 0).expect("taken")
}

fn started(messages: Vec<v1::PoolSnapshot>) -> Fed {
    let mut fed = Fed::new();
    for message in messages {
        take(&mut fed, message);
    }
    take(&mut fed, complete("s"));
    fed
}

fn versions(fed: &Fed) -> Vec<(&str, u64)> {
    fed.versions().collect()
}

const A: &[(&str, u32)] = &[("a", 1)];
const B: &[(&str, u32)] = &[("b", 1)];

#[test]
fn nothing_of_a_new_store_is_in_force_before_its_set_is_complete() {
    let mut fed = Fed::new();
    assert_eq!(take(&mut fed, snapshot("s", "web", 5, A)), Taken::Known);
    assert!(fed.snapshots().is_empty());
    let changed = Taken::Changed(vec!["web".to_owned()]);
    assert_eq!(take(&mut fed, complete("s")), changed);
    assert_eq!(fed.known(), ("s".to_owned(), BTreeMap::from([("web".to_owned(), 5)])));
}

#[test]
fn a_version_only_goes_up() {
    let mut fed = started(vec![snapshot("s", "web", 5, A)]);
    assert_eq!(take(&mut fed, snapshot("s", "web", 5, A)), Taken::Known, "the same again");
    for (version, text) in [(5, "again"), (4, "goes back"), (0, "expected 1")] {
        let refusal = fed.take(snapshot("s", "web", version, B), &[], 0).expect_err("refused");
        assert_eq!(refusal.reason, Reason::Version);
        assert!(refusal.text.contains(text), "{refusal}");
    }
    assert_eq!(versions(&fed), [("web", 5)]);
    assert_ne!(take(&mut fed, snapshot("s", "web", 6, B)), Taken::Known);
}

#[test]
fn an_old_snapshot_does_not_bring_a_deleted_pool_back() {
    let mut fed = started(vec![snapshot("s", "web", 5, A)]);
    assert_eq!(take(&mut fed, deleted("s", "web", 8)), Taken::Changed(vec!["web".to_owned()]));
    assert_eq!(take(&mut fed, deleted("s", "web", 8)), Taken::Known);
    fed.take(snapshot("s", "web", 7, A), &[], 0).expect_err("older than the deletion");
    // Not after a restart either.
    let (mut fed, refused) = Fed::from_messages(fed.messages(), &[]);
    assert!(refused.is_empty());
    fed.take(snapshot("s", "web", 7, A), &[], 0).expect_err("older than the deletion");
    take(&mut fed, snapshot("s", "web", 9, A));
    assert_eq!(versions(&fed), [("web", 9)]);
}

#[test]
fn another_store_replaces_everything_at_once() {
    let mut fed = started(vec![snapshot("s", "web", 500, A), snapshot("s", "dns", 501, B)]);
    assert_eq!(take(&mut fed, snapshot("t", "web", 3, B)), Taken::Known);
    assert_eq!(versions(&fed), [("dns", 501), ("web", 500)], "not mixed");
    assert_ne!(take(&mut fed, complete("t")), Taken::Known);
    assert_eq!(versions(&fed), [("web", 3)]);
    assert_eq!(fed.store_id(), "t");
}

#[test]
fn a_store_without_pools_takes_none_away() {
    let mut fed = started(vec![snapshot("s", "web", 5, A), snapshot("s", "dns", 6, A)]);
    for _ in 0..2 {
        let refusal = fed.take(complete("t"), &[], 0).expect_err("an empty store");
        assert_eq!(refusal.reason, Reason::Store);
        assert!(refusal.text.contains("has no pools"), "{refusal}");
        assert_eq!((fed.store_id(), versions(&fed).len()), ("s", 2));
    }
    // Once it has one it is obeyed: somebody means it.
    assert_ne!(take(&mut fed, snapshot("t", "web", 1, B)), Taken::Known);
    assert_eq!((fed.store_id(), versions(&fed)), ("t", vec![("web", 1)]));
    take(&mut fed, deleted("t", "web", 2));
    assert!(versions(&fed).is_empty(), "its own last pool can be deleted");
    assert_ne!(take(&mut fed, complete("u")), Taken::Known, "there is nothing to lose now");
}

#[test]
fn a_set_that_was_cut_is_forgotten() {
    let mut fed = started(vec![snapshot("s", "web", 5, A)]);
    take(&mut fed, snapshot("t", "old", 1, B));
    fed.begin();
    take(&mut fed, snapshot("t", "web", 2, B));
    take(&mut fed, complete("t"));
    assert_eq!(versions(&fed), [("web", 2)]);
}

#[test]
fn what_another_store_names_and_gets_wrong_stays_as_it_was() {
    let mut fed = started(vec![snapshot("s", "web", 5, A), snapshot("s", "dns", 6, A)]);
    let mut bad = snapshot("t", "web", 1, B);
    bad.table = None;
    fed.take(bad, &[], 0).expect_err("no digest");
    take(&mut fed, snapshot("t", "dns", 2, B));
    take(&mut fed, complete("t"));
    assert_eq!(versions(&fed), [("dns", 2), ("web", 5)]);
    let known = BTreeMap::from([("dns".to_owned(), 2)]);
    assert_eq!(fed.known(), ("t".to_owned(), known), "the other store's version is not named");
    take(&mut fed, snapshot("t", "web", 2, B));
    assert_eq!(versions(&fed), [("dns", 2), ("web", 2)], "any version of its own is newer");
}

#[test]
fn a_store_without_a_name_is_refused() {
    let mut fed = Fed::new();
    let refusal = fed.take(snapshot("", "web", 1, A), &[], 0).expect_err("no store");
    assert_eq!(refusal.reason, Reason::Store);
}

#[test]
fn backends_of_a_pool_that_is_gone_drain_and_are_then_evicted() {
    let mut fed = started(vec![snapshot("s", "web", 5, A)]);
    fed.take(deleted("s", "web", 6), &[], 1_000).expect("taken");
    let states = |fed: &Fed| -> Vec<_> {
        let pools = fed.snapshots();
        assert!(pools.iter().all(|pool| pool.vips.is_empty()), "no VIP leads there");
        pools.iter().flat_map(|pool| pool.backends.iter().map(|b| b.state)).collect()
    };
    assert_eq!(states(&fed), [BackendState::Draining]);
    assert!(!fed.poll(60_999));
    assert!(fed.poll(61_000));
    assert_eq!(states(&fed), [BackendState::Evicted]);
    assert!(fed.poll(61_000 + EVICTED_SHOWN_MS));
    assert!(fed.snapshots().is_empty());
}

#[test]
fn a_vip_that_moves_is_the_later_pools_in_either_order_of_messages() {
    let vips = |fed: &Fed| -> Vec<(String, usize)> {
        fed.snapshots().iter().map(|pool| (pool.pool_id.clone(), pool.vips.len())).collect()
    };
    let mut without = snapshot("s", "old", 8, A);
    without.vips.clear();
    let with = snapshot("s", "new", 7, B);
    for order in [[without.clone(), with.clone()], [with, without]] {
        let mut fed = started(vec![snapshot("s", "old", 5, A)]);
        let [first, second] = order;
        take(&mut fed, first);
        let owners: usize = vips(&fed).iter().map(|(_, count)| count).sum();
        assert!(owners <= 1, "one pool has it: {:?}", vips(&fed));
        take(&mut fed, second);
        assert_eq!(vips(&fed), [("new".to_owned(), 1), ("old".to_owned(), 0)]);
    }
}

/// What a controller did, and what became of the stream.
#[derive(Clone, Debug)]
enum Step {
    /// A pool (by number) is set to so many backends.
    Set(u8, u8),
    Delete(u8),
    /// The stream is cut, and resumed with what the node says it has.
    Cut,
    /// As `Cut`, and the node starts again from its cache.
    Restart,
    /// As `Cut`, and the store is another one, with the same pools.
    Restore,
    /// The last message comes again.
    Repeat,
    /// An old snapshot of a pool comes again.
    Late(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0u8..4, 0u8..5).prop_map(|(pool, backends)| Step::Set(pool, backends)),
        2 => (0u8..4).prop_map(Step::Delete),
        2 => Just(Step::Cut),
        1 => Just(Step::Restart),
        1 => Just(Step::Restore),
        2 => Just(Step::Repeat),
        2 => (0u8..4).prop_map(Step::Late),
    ]
}

/// A controller as far as its watchers can tell.
struct Model {
    store: u64,
    counter: u64,
    pools: BTreeMap<String, v1::PoolSnapshot>,
    log: Vec<v1::PoolSnapshot>,
}

impl Model {
    fn store(&self) -> String {
        format!("store-{}", self.store)
    }

    /// What a watcher that says it has this is sent first.
    fn initial(&self, known: (String, BTreeMap<String, u64>)) -> Vec<v1::PoolSnapshot> {
        let (store, mut versions) = known;
        if store != self.store() {
            versions.clear();
        }
        let fresh = |pool: &&v1::PoolSnapshot| versions.get(&pool.pool_id) != Some(&pool.version);
        let mut messages: Vec<_> = self.pools.values().filter(fresh).cloned().collect();
        let gone = versions.keys().filter(|id| !self.pools.contains_key(*id));
        messages.extend(gone.map(|id| deleted(&self.store(), id, 0)));
        messages.push(complete(&self.store()));
        messages
    }

    fn say(&mut self, message: v1::PoolSnapshot) -> v1::PoolSnapshot {
        self.log.push(message.clone());
        message
    }
}

fn offer(fed: &mut Fed, message: v1::PoolSnapshot) {
    // What comes late or twice may be refused; nothing else is promised about it.
    let _ = fed.take(message, &[], 0);
}

const IDS: [&str; 5] = ["a", "b", "c", "d", "e"];

proptest! {
    #[test]
    fn whatever_happens_to_the_stream_the_node_ends_with_what_the_controller_has(
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let mut model = Model { store: 1, counter: 0, pools: BTreeMap::new(), log: Vec::new() };
        let mut fed = Fed::new();
        for message in model.initial(fed.known()) {
            offer(&mut fed, message);
        }
        for step in steps {
            model.counter += 1;
            let store = model.store();
            match step {
                Step::Set(pool, backends) => {
                    let members: Vec<_> = IDS.iter().take(backends.into()).map(|id| (*id, 1)).collect();
                    let id = format!("pool-{pool}");
                    let message = snapshot(&store, &id, model.counter, &members);
                    model.pools.insert(id, message.clone());
                    let message = model.say(message);
                    offer(&mut fed, message);
                }
                Step::Delete(pool) => {
                    let id = format!("pool-{pool}");
                    if model.pools.remove(&id).is_some() {
                        let message = model.say(deleted(&store, &id, model.counter));
                        offer(&mut fed, message);
                    }
                }
                Step::Cut | Step::Restart | Step::Restore => {
                    if matches!(step, Step::Restart) {
                        fed = Fed::from_messages(fed.messages(), &[]).0;
                    }
                    if matches!(step, Step::Restore) {
                        model.store += 1;
                        model.counter = 1;
                        model.log.clear();
                        let store = model.store();
                        for pool in model.pools.values_mut() {
                            pool.store_id.clone_from(&store);
                            pool.version = 1;
                        }
                    }
                    fed.begin();
                    for message in model.initial(fed.known()) {
                        offer(&mut fed, message);
                    }
                }
                Step::Repeat => {
                    if let Some(message) = model.log.last().cloned() {
                        offer(&mut fed, message);
                    }
                }
                Step::Late(pool) => {
                    let id = format!("pool-{pool}");
                    let old = model.log.iter().find(|message| message.pool_id == id).cloned();
                    if let Some(message) = old {
                        offer(&mut fed, message);
                    }
                }
            }
            let expected: Vec<_> =
                model.pools.values().map(|pool| (pool.pool_id.as_str(), pool.version)).collect();
            prop_assert_eq!(versions(&fed), expected);
            prop_assert_eq!(fed.store_id(), model.store());
        }
    }
}
