//! etcd that fails: members killed, paused, without a quorum, replaced, restored.
//!
//! What must hold throughout: an acknowledged write is never missing, a write happens at most
//! once and never after a later one, every call ends within its bound, a watch tells everything
//! or says that it cannot, and who does not lead does not write.

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::etcd::Cluster;
use common::{candidate, elected, key, numbered, put, settings, soon};
use registry::{
    Campaign, Change, Election, Error, EtcdSettings, EtcdStore, Fence, GapReason, Observed,
    Preconditions, Registry, Row, Snapshot, Status, Watch,
};
use tokio::task::JoinHandle;

fn nothing() -> Preconditions {
    Preconditions::default()
}

fn quick(endpoints: Vec<String>, seconds: u64, lease: u64) -> EtcdSettings {
    let mut settings = settings(endpoints);
    settings.timeout = Duration::from_secs(seconds);
    settings.lease_ttl = Duration::from_secs(lease);
    settings
}

async fn connect(settings: &EtcdSettings) -> Arc<EtcdStore> {
    Arc::new(EtcdStore::connect(settings.clone()).await.unwrap())
}

/// Writes rows w0, w1, ... one after another until told to stop, and remembers which were
/// acknowledged, with their revisions. A write without an answer is neither.
struct Writer {
    stop: Arc<AtomicBool>,
    task: JoinHandle<BTreeMap<u16, u64>>,
}

impl Writer {
    fn start(store: Arc<EtcdStore>, fence: Fence) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let task = tokio::spawn(async move {
            let mut acknowledged = BTreeMap::new();
            for number in 0.. {
                if stopped.load(Ordering::SeqCst) {
                    break;
                }
                let row = format!("w{number}");
                let pair = vec![numbered(&row, number), numbered("newest", number)];
                let expected = nothing().absent(key(&row));
                match store.apply(pair, expected, &fence).await {
                    Ok(revision) => drop(acknowledged.insert(number, revision)),
                    Err(Error::Timeout { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            acknowledged
        });
        Self { stop, task }
    }

    async fn stop(self) -> BTreeMap<u16, u64> {
        self.stop.store(true, Ordering::SeqCst);
        soon("the writer's end", self.task).await.unwrap()
    }
}

/// Everything a watch tells until `last`, carried into a copy. Each row w* must come once.
async fn replay(mut copy: Snapshot, watch: &mut Watch, last: u64) -> Snapshot {
    while copy.revision < last {
        let Some(Observed::Commit(commit)) = soon("a commit", watch.next()).await else {
            panic!("a gap");
        };
        assert!(commit.revision > copy.revision, "out of order, or twice");
        assert_eq!(commit.changes.len(), 2, "torn: {commit:?}");
        for change in &commit.changes {
            let Change::Put(Row::Backend(row)) = change else { panic!("{change:?}") };
            assert!(row.id == "newest" || !copy.backends.contains_key(&row.id), "twice");
        }
        copy.advance(&commit);
    }
    copy
}

fn all_there(acknowledged: &BTreeMap<u16, u64>, snapshot: &Snapshot) {
    for (number, revision) in acknowledged {
        let row = snapshot.backends.get(&format!("w{number}"));
        assert_eq!(row.map(|row| row.version), Some(*revision), "w{number} was acknowledged");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_when_etcd_is_killed_under_writes() {
    let mut cluster = Cluster::start(1);
    let store = connect(&quick(cluster.endpoints(), 5, 20)).await;
    let term = elected(&*store, "a").await;
    let start = store.snapshot().await.unwrap();
    let mut watch = store.watch(start.revision);
    let writer = Writer::start(Arc::clone(&store), term.fence().clone());
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_millis(fastrand::u64(100..500))).await;
        cluster.kill(0);
        cluster.spawn(0);
        tokio::task::block_in_place(|| cluster.wait());
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let acknowledged = writer.stop().await;
    assert!(acknowledged.len() > 20, "only {} writes", acknowledged.len());
    assert!(!term.lost().is_lost());
    let end = store.snapshot().await.unwrap();
    all_there(&acknowledged, &end);
    let last = *acknowledged.values().max().unwrap();
    let copy = replay(start, &mut watch, last).await;
    all_there(&acknowledged, &copy);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_of_three_survives_any_one_and_says_so_without_two() {
    let mut cluster = Cluster::start(3);
    let store = connect(&quick(cluster.endpoints(), 3, 20)).await;
    let term = elected(&*store, "a").await;
    let start = store.snapshot().await.unwrap();
    let mut watch = store.watch(start.revision);
    let writer = Writer::start(Arc::clone(&store), term.fence().clone());
    for index in 0..3 {
        tokio::time::sleep(Duration::from_millis(200)).await;
        cluster.kill(index);
        // Through the loss of a leader and an election among the other two.
        tokio::time::sleep(Duration::from_millis(2500)).await;
        cluster.spawn(index);
        tokio::task::block_in_place(|| cluster.wait());
    }
    let acknowledged = writer.stop().await;
    assert!(acknowledged.len() > 50, "only {} writes", acknowledged.len());
    let end = store.snapshot().await.unwrap();
    all_there(&acknowledged, &end);
    let last = *acknowledged.values().max().unwrap();
    all_there(&acknowledged, &replay(start, &mut watch, last).await);

    cluster.kill(0);
    cluster.kill(2);
    let late = |error: Error, began: Instant| {
        assert_eq!(error.status(), Status::DeadlineExceeded, "{error}");
        let took = began.elapsed();
        assert!(took < Duration::from_secs(6), "{took:?}: {error}");
    };
    let began = Instant::now();
    let write = store.apply(vec![numbered("lonely", 1)], nothing(), term.fence());
    late(write.await.unwrap_err(), began);
    let began = Instant::now();
    late(store.snapshot().await.unwrap_err(), began);
    let began = Instant::now();
    late(store.leader().await.unwrap_err(), began);

    cluster.spawn(0);
    tokio::task::block_in_place(|| cluster.wait());
    // What was in doubt is decided by the next write: it has happened before it, or never does.
    let revision = put(&*store, term.fence(), vec![numbered("after", 1)]).await;
    let decided = store.snapshot().await.unwrap();
    assert!(decided.version(&key("lonely")).is_none_or(|version| version < revision));
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(store.snapshot().await.unwrap().backends, decided.backends);
    all_there(&acknowledged, &decided);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_a_member_slept_over_never_happens_after_a_later_one() {
    let cluster = Cluster::start(3);
    let store = connect(&quick(cluster.endpoints(), 6, 20)).await;
    let term = elected(&*store, "a").await;
    let mut number = 0;
    for paused in [0, 1, 2, 0, 1, 2] {
        cluster.pause(paused, true);
        // Whichever member is asked first: each write may meet the sleeping one.
        for _ in 0..2 {
            number += 1;
            put(&*store, term.fence(), vec![numbered("b", number)]).await;
        }
        cluster.pause(paused, false);
        tokio::time::sleep(Duration::from_millis(200)).await;
        let now = store.snapshot().await.unwrap();
        assert_eq!(now.backends["b"].row.port, number, "an old write came back");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_leaves_a_member_that_hangs() {
    let cluster = Cluster::start(3);
    // The paused member may be the cluster's leader: a write then waits for another's election.
    let store = connect(&quick(cluster.endpoints(), 15, 60)).await;
    let term = elected(&*store, "a").await;
    let mut watch = store.watch(store.snapshot().await.unwrap().revision);
    for paused in 0..3 {
        cluster.pause(paused, true);
        let revision = put(&*store, term.fence(), vec![numbered("b", paused as u16)]).await;
        let began = Instant::now();
        match soon("a commit", watch.next()).await {
            Some(Observed::Commit(commit)) => assert_eq!(commit.revision, revision),
            other => panic!("{other:?}"),
        }
        // Far less than until a silent connection is given up.
        assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
        cluster.pause(paused, false);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_slept_through_its_lease_cannot_write() {
    let cluster = Cluster::start(1);
    let settings = quick(cluster.endpoints(), 5, 2);
    let others = settings.clone();
    let (woken, wake) = std::sync::mpsc::channel::<()>();
    let (leading, led) = tokio::sync::oneshot::channel();
    // A runtime of its own, whose only thread sleeps: no keep-alive, no clock, no news.
    let sleeper = thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (store, term) = runtime.block_on(async {
            let store = connect(&others).await;
            let term = elected(&*store, "a").await;
            put(&*store, term.fence(), vec![numbered("b", 1)]).await;
            (store, term)
        });
        leading.send(()).unwrap();
        wake.recv().unwrap();
        runtime.block_on(async move {
            // The very first thing that it does on waking up.
            let write = vec![numbered("b", 2)];
            let refused = store.apply(write, nothing(), term.fence()).await;
            let mut lost = term.lost();
            soon("being told", lost.wait()).await;
            refused
        })
    });
    soon("the first term", led).await.unwrap();
    let store = connect(&settings).await;
    let began = Instant::now();
    let term = elected(&*store, "z").await;
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    // Nothing has been written since: the fence alone must hold.
    woken.send(()).unwrap();
    let refused = tokio::task::block_in_place(|| sleeper.join().unwrap());
    let Err(Error::Fenced { leader }) = refused else { panic!("{refused:?}") };
    assert_eq!(leader.as_deref(), Some("z.example:9190"));
    put(&*store, term.fence(), vec![numbered("c", 1)]).await;
    assert_eq!(store.snapshot().await.unwrap().backends["b"].row.port, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_three_leads_and_another_follows_when_it_resigns_or_dies() {
    let settings = quick(common::etcd::shared(), 5, 4);
    let stores = [connect(&settings).await, connect(&settings).await, connect(&settings).await];
    let patience = Duration::from_millis(500);
    let run = |index: usize| stores[index].campaign(candidate(&index.to_string()), patience);
    let (a, b, c) = tokio::join!(run(0), run(1), run(2));
    let mut terms = Vec::new();
    let mut leaders = Vec::new();
    for campaign in [a, b, c] {
        match campaign.unwrap() {
            Campaign::Elected(term) => terms.push(term),
            Campaign::Following(leader) => leaders.push(leader),
        }
    }
    assert_eq!((terms.len(), leaders.len()), (1, 2));
    assert_eq!(leaders[0], leaders[1]);
    let term = terms.pop().unwrap();
    assert_eq!(leaders[0].epoch, term.fence().epoch());
    // It leads on through several lease times.
    tokio::time::sleep(Duration::from_secs(9)).await;
    assert!(!term.lost().is_lost());
    put(&*stores[0], term.fence(), vec![numbered("b", 1)]).await;

    let began = Instant::now();
    term.resign().await;
    let second = elected(&*stores[1], "1").await;
    // Before its lease would have ended.
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    let began = Instant::now();
    let mut lost = second.lost();
    drop(second);
    soon("the end of a dropped term", lost.wait()).await;
    drop(elected(&*stores[2], "2").await);
    let took = began.elapsed();
    assert!(took > Duration::from_secs(1) && took < Duration::from_secs(15), "{took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_without_etcd_steps_down_when_its_lease_is_over() {
    let mut cluster = Cluster::start(1);
    let store = connect(&quick(cluster.endpoints(), 2, 3)).await;
    let term = elected(&*store, "a").await;
    let began = Instant::now();
    cluster.kill(0);
    let mut lost = term.lost();
    soon("stepping down", lost.wait()).await;
    let took = began.elapsed();
    assert!(took > Duration::from_secs(1) && took < Duration::from_secs(6), "{took:?}");
    // Resigning has nobody to talk to, and ends all the same.
    let began = Instant::now();
    term.resign().await;
    assert!(began.elapsed() < Duration::from_secs(6));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn history_compacted_while_a_watch_was_cut_off_is_a_gap() {
    let mut cluster = Cluster::start(3);
    let all = quick(cluster.endpoints(), 5, 20);
    let one = EtcdSettings { endpoints: vec![cluster.endpoints().remove(0)], ..all.clone() };
    let (store, cut_off) = (connect(&all).await, connect(&one).await);
    let term = elected(&*store, "a").await;
    let first = put(&*store, term.fence(), vec![numbered("b", 0)]).await;
    let mut compacted = cut_off.watch(first);
    let mut resumed = cut_off.watch(first);
    let last = put(&*store, term.fence(), vec![numbered("b", 1)]).await;
    for watch in [&mut compacted, &mut resumed] {
        let Some(Observed::Commit(commit)) = soon("a commit", watch.next()).await else {
            panic!("a gap");
        };
        assert_eq!(commit.revision, last);
    }
    // Cut off, but nothing is forgotten: it goes on where it was.
    cluster.kill(0);
    let missed = put(&*store, term.fence(), vec![numbered("b", 2)]).await;
    cluster.spawn(0);
    tokio::task::block_in_place(|| cluster.wait());
    let Some(Observed::Commit(commit)) = soon("a commit", resumed.next()).await else {
        panic!("a gap");
    };
    assert_eq!(commit.revision, missed);
    let _ = soon("a commit", compacted.next()).await;

    cluster.kill(0);
    for number in 3..6 {
        put(&*store, term.fence(), vec![numbered("b", number)]).await;
    }
    let now = store.snapshot().await.unwrap().revision;
    store.compact(now).await.unwrap();
    cluster.spawn(0);
    tokio::task::block_in_place(|| cluster.wait());
    let gap = soon("a gap", compacted.next()).await;
    assert_eq!(gap, Some(Observed::Gap(GapReason::Compacted)));
    assert_eq!(cut_off.snapshot().await.unwrap().backends["b"].row.port, 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_etcd_that_others_use_keeps_its_history_when_compaction_is_off() {
    let cluster = Cluster::start(1);
    let ours = EtcdSettings { compact: false, ..quick(cluster.endpoints(), 5, 20) };
    let theirs = connect(&quick(cluster.endpoints(), 5, 20)).await;
    let their_term = elected(&*theirs, "t").await;
    let first = put(&*theirs, their_term.fence(), vec![numbered("b", 1)]).await;
    let second = put(&*theirs, their_term.fence(), vec![numbered("b", 2)]).await;
    let store = connect(&ours).await;
    let term = elected(&*store, "a").await;
    let newest = put(&*store, term.fence(), vec![numbered("b", 3)]).await;
    store.compact(newest).await.unwrap();
    match soon("a commit", theirs.watch(first).next()).await {
        Some(Observed::Commit(commit)) => assert_eq!(commit.revision, second),
        other => panic!("{other:?}"),
    }
    // One that compacts takes it from everybody, by whatever prefix.
    let compacting = connect(&EtcdSettings { compact: true, ..ours }).await;
    compacting.compact(newest).await.unwrap();
    let gap = soon("a gap", theirs.watch(first).next()).await;
    assert_eq!(gap, Some(Observed::Gap(GapReason::Compacted)));
}

/// What a handle says of a store that is not the one it opened.
async fn refuses_until_adopted(store: &EtcdStore, fence: &Fence, mut watch: Watch) {
    let gap = soon("a gap", watch.next()).await;
    assert_eq!(gap, Some(Observed::Gap(GapReason::StoreReplaced)));
    for _ in 0..2 {
        let error = store.snapshot().await.unwrap_err();
        assert!(matches!(error, Error::StoreReplaced), "{error}");
        assert_eq!(error.status(), Status::Unavailable);
        let write = store.apply(vec![numbered("b", 9)], nothing(), fence).await;
        assert!(matches!(write, Err(Error::StoreReplaced)), "{write:?}");
        let campaign = store.campaign(candidate("b"), Duration::ZERO).await;
        assert!(matches!(campaign, Err(Error::StoreReplaced)), "{campaign:?}");
    }
    let before = store.store_id();
    let adopted = store.adopt_store().await.unwrap();
    assert_ne!(adopted, before);
    assert_eq!(store.store_id(), adopted);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_etcd_that_lost_everything_is_not_taken_for_an_empty_registry() {
    let mut cluster = Cluster::start(1);
    for token in ["first", "second"] {
        let store = connect(&quick(cluster.endpoints(), 5, 20)).await;
        let term = elected(&*store, "a").await;
        let last = put(&*store, term.fence(), vec![numbered("b", 1)]).await;
        let watch = store.watch(last);
        cluster.wipe(token);
        cluster.spawn(0);
        tokio::task::block_in_place(|| cluster.wait());
        refuses_until_adopted(&store, term.fence(), watch).await;
        assert_eq!(store.snapshot().await.unwrap().backends.len(), 0);
        let again = elected(&*store, "a").await;
        put(&*store, again.fence(), vec![numbered("b", 2)]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_etcd_restored_from_a_backup_is_another_store() {
    let mut cluster = Cluster::start(1);
    let settings = quick(cluster.endpoints(), 5, 20);
    let store = connect(&settings).await;
    let term = elected(&*store, "a").await;
    put(&*store, term.fence(), vec![numbered("b", 1)]).await;
    cluster.kill(0);
    let saved = cluster.save(0);
    cluster.spawn(0);
    tokio::task::block_in_place(|| cluster.wait());
    for number in 2..9 {
        put(&*store, term.fence(), vec![numbered("b", number)]).await;
    }
    let now = store.snapshot().await.unwrap();
    let watch = store.watch(now.revision);
    cluster.kill(0);
    cluster.restore(0, &saved);
    cluster.spawn(0);
    tokio::task::block_in_place(|| cluster.wait());
    refuses_until_adopted(&store, term.fence(), watch).await;
    let restored = store.snapshot().await.unwrap();
    assert_eq!(restored.backends["b"].row.port, 1);
    // Everybody else finds the new id too.
    assert_eq!(connect(&settings).await.store_id(), store.store_id());
}

#[tokio::test]
async fn settings_that_cannot_be_are_refused_and_an_absent_etcd_is_waited_for_in_vain() {
    let error = EtcdStore::connect(EtcdSettings::new([""; 0])).await.unwrap_err();
    assert!(matches!(error, Error::Invalid(_)), "{error}");
    let mut nobody = settings(vec!["http://127.0.0.1:1".into(), "http://127.0.0.1:2".into()]);
    nobody.timeout = Duration::from_secs(1);
    let began = Instant::now();
    let error = EtcdStore::connect(nobody).await.unwrap_err();
    assert_eq!(error.status(), Status::DeadlineExceeded);
    assert!(error.to_string().contains("127.0.0.1"), "{error}");
    assert!(began.elapsed() < Duration::from_secs(5));
}
