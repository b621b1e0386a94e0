//! What both stores promise, one function each. See `conformance.rs`.

use std::sync::Arc;
use std::time::Duration;

use registry::rows::{Backend, BackendState};
use registry::{
    Campaign, Change, Error, GapReason, Key, MAX_BYTES, MAX_WRITES, Observed, Preconditions, Row,
    Snapshot, Status, Watch, Write,
};
use tokio::task::JoinSet;

use crate::common::{Stage, backend, candidate, elected, key, numbered, pool, put, soon, vip};

fn nothing() -> Preconditions {
    Preconditions::default()
}

async fn next(watch: &mut Watch) -> Observed {
    soon("the next commit", watch.next()).await.expect("the watch goes on")
}

/// Carries `snapshot` on by what `watch` says, up to `revision`.
async fn follow(mut snapshot: Snapshot, watch: &mut Watch, revision: u64) -> Snapshot {
    while snapshot.revision < revision {
        match next(watch).await {
            Observed::Commit(commit) => {
                assert!(commit.revision > snapshot.revision, "out of order, or twice");
                assert!(!commit.changes.is_empty());
                snapshot.advance(&commit);
            }
            Observed::Gap(reason) => panic!("{reason:?}"),
        }
    }
    snapshot
}

pub(crate) async fn a_new_store_has_an_id_and_no_rows(stage: Stage) {
    let snapshot = stage.registry.snapshot().await.unwrap();
    assert_eq!(snapshot.store_id, stage.registry.store_id());
    assert_eq!((snapshot.pools.len(), snapshot.backends.len(), snapshot.vips.len()), (0, 0, 0));
    assert_eq!(stage.election.leader().await.unwrap(), None);
}

pub(crate) async fn rows_come_back_as_they_were_put(stage: Stage) {
    let term = stage.lead().await;
    let draining = Backend {
        state: BackendState::Draining,
        drain_until_ns: Some(u64::MAX),
        deregistered: true,
        ..backend("with/slash and ünïcode")
    };
    let rows = vec![
        Row::Pool(pool("web")),
        Row::Backend(backend("host-1")),
        Row::Backend(draining),
        Row::Vip(vip("203.0.113.0/28")),
        Row::Vip(vip("2001:db8::1/128")),
    ];
    let writes = rows.iter().cloned().map(Write::Put).collect();
    let revision = put(&*stage.registry, term.fence(), writes).await;
    let snapshot = stage.registry.snapshot().await.unwrap();
    assert!(snapshot.revision >= revision);
    for row in rows {
        assert_eq!(snapshot.version(&row.key()), Some(revision));
        match row {
            Row::Pool(pool) => assert_eq!(snapshot.pools[&pool.id].row, pool),
            Row::Backend(backend) => assert_eq!(snapshot.backends[&backend.id].row, backend),
            Row::Vip(vip) => assert_eq!(snapshot.vips[&vip.key()].row, vip),
        }
    }
}

pub(crate) async fn revisions_go_up_and_a_row_has_that_of_its_last_put(stage: Stage) {
    let term = stage.lead().await;
    let mut before = stage.registry.snapshot().await.unwrap().revision;
    for number in 0..5 {
        let revision = put(&*stage.registry, term.fence(), vec![numbered("b", number)]).await;
        assert!(revision > before);
        let snapshot = stage.registry.snapshot().await.unwrap();
        assert_eq!(snapshot.version(&key("b")), Some(revision));
        assert_eq!(snapshot.backends["b"].row.port, number);
        before = revision;
    }
}

pub(crate) async fn a_transaction_is_all_or_nothing(stage: Stage) {
    let term = stage.lead().await;
    put(&*stage.registry, term.fence(), vec![numbered("old", 1)]).await;
    let before = stage.registry.snapshot().await.unwrap();
    let mut writes: Vec<Write> = (0..20).map(|n| numbered(&format!("n{n}"), n)).collect();
    writes.push(Write::Remove(key("old")));
    let wrong = nothing().present(key("old")).absent(key("n3")).present(key("missing"));
    let refused = stage.registry.apply(writes.clone(), wrong, term.fence()).await;
    assert!(matches!(refused, Err(Error::NotFound(_))), "{refused:?}");
    assert_eq!(stage.registry.snapshot().await.unwrap().backends, before.backends);
    let right = nothing().present(key("old")).absent(key("n3"));
    stage.registry.apply(writes, right, term.fence()).await.unwrap();
    let after = stage.registry.snapshot().await.unwrap();
    assert_eq!(after.backends.len(), 20);
    assert_eq!(after.version(&key("old")), None);
}

pub(crate) async fn each_precondition_is_answered_by_its_own_error(stage: Stage) {
    let term = stage.lead().await;
    let (registry, fence) = (&*stage.registry, term.fence());
    let first = put(registry, fence, vec![numbered("b", 1)]).await;
    let attempt = |expected| registry.apply(vec![numbered("b", 2)], expected, fence);

    let error = attempt(nothing().absent(key("b"))).await.unwrap_err();
    assert!(matches!(&error, Error::AlreadyExists(at) if *at == key("b")), "{error}");
    assert_eq!(error.status(), Status::AlreadyExists);
    let error = attempt(nothing().present(key("c"))).await.unwrap_err();
    assert!(matches!(&error, Error::NotFound(at) if *at == key("c")), "{error}");
    assert_eq!(error.status(), Status::NotFound);
    let error = attempt(nothing().at(key("c"), first)).await.unwrap_err();
    assert_eq!(error.status(), Status::NotFound);

    let second = attempt(nothing().at(key("b"), first)).await.unwrap();
    let error = attempt(nothing().at(key("b"), first)).await.unwrap_err();
    let Error::Conflict { expected, found, .. } = error else { panic!("{error}") };
    assert_eq!((expected, found), (first, second));
    // An expectation of a row that the transaction does not write counts as well.
    let other = nothing().at(key("b"), second).absent(key("c"));
    registry.apply(vec![numbered("c", 1)], other, fence).await.unwrap();
}

pub(crate) async fn limits_hold_and_what_is_within_them_is_taken(stage: Stage) {
    let term = stage.lead().await;
    let (registry, fence) = (&*stage.registry, term.fence());
    let many = |count: usize| -> Vec<Write> {
        (0..count).map(|n| numbered(&format!("host-{n}"), 1)).collect()
    };
    let fat = |id: &str, bytes: usize| {
        let url = "x".repeat(bytes);
        Write::Put(Row::Backend(Backend { readiness_probe_url: url, ..backend(id) }))
    };
    let refused = [
        vec![],
        many(MAX_WRITES + 1),
        vec![numbered("twice", 1), Write::Remove(key("twice"))],
        vec![fat("fat", MAX_BYTES)],
    ];
    for transaction in refused {
        let error = registry.apply(transaction, nothing(), fence).await.unwrap_err();
        assert!(matches!(error, Error::Invalid(_)), "{error}");
        assert_eq!(error.status(), Status::InvalidArgument);
    }
    let mut all = nothing();
    for n in 0..MAX_WRITES {
        all = all.absent(key(&format!("host-{n}")));
    }
    registry.apply(many(MAX_WRITES), all, fence).await.unwrap();
    registry.apply(vec![fat("fat", MAX_BYTES - 2048)], nothing(), fence).await.unwrap();
    let snapshot = registry.snapshot().await.unwrap();
    assert_eq!(snapshot.backends.len(), MAX_WRITES + 1);
}

pub(crate) async fn a_former_leader_cannot_write(stage: Stage) {
    let first = elected(&*stage.election, "a").await;
    put(&*stage.registry, first.fence(), vec![numbered("b", 1)]).await;
    let (old, mut lost) = (first.fence().clone(), first.lost());
    assert!(!lost.is_lost());
    assert_eq!(stage.election.leader().await.unwrap().unwrap().address, "a.example:9190");
    soon("resigning", first.resign()).await;
    soon("being told", lost.wait()).await;
    assert!(lost.is_lost());
    assert_eq!(stage.election.leader().await.unwrap(), None);

    // Between two terms nobody writes, and nobody is named.
    let between = stage.registry.apply(vec![numbered("b", 2)], nothing(), &old).await;
    assert!(matches!(between, Err(Error::Fenced { leader: None })), "{between:?}");

    let second = elected(&*stage.election, "z").await;
    assert!(second.fence().epoch() > old.epoch());
    // Fenced comes first, also where a precondition would fail too.
    let wrong = nothing().absent(key("b"));
    let error = stage.registry.apply(vec![numbered("b", 2)], wrong, &old).await.unwrap_err();
    assert_eq!(error.status(), Status::Unavailable);
    let Error::Fenced { leader } = error else { panic!("{error}") };
    assert_eq!(leader.as_deref(), Some("z.example:9190"));
    let error = stage.registry.renew_store_id(&old).await.unwrap_err();
    assert!(matches!(error, Error::Fenced { .. }), "{error}");

    put(&*stage.registry, second.fence(), vec![numbered("c", 1)]).await;
    let snapshot = stage.registry.snapshot().await.unwrap();
    assert_eq!(snapshot.backends["b"].row.port, 1);
}

pub(crate) async fn concurrent_compare_and_set_loses_no_update(stage: Stage) {
    let term = stage.lead().await;
    put(&*stage.registry, term.fence(), vec![numbered("counter", 0)]).await;
    let mut tasks = JoinSet::new();
    for _ in 0..4 {
        let (registry, fence) = (Arc::clone(&stage.registry), term.fence().clone());
        tasks.spawn(async move {
            let mut done = 0;
            while done < 10 {
                let now = registry.snapshot().await.unwrap().backends["counter"].clone();
                let expected = nothing().at(key("counter"), now.version);
                let write = vec![numbered("counter", now.row.port + 1)];
                match registry.apply(write, expected, &fence).await {
                    Ok(_) => done += 1,
                    Err(Error::Conflict { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        });
    }
    soon("forty increments", tasks.join_all()).await;
    let snapshot = stage.registry.snapshot().await.unwrap();
    assert_eq!(snapshot.backends["counter"].row.port, 40);
}

pub(crate) async fn a_watch_loses_nothing_under_concurrent_writes(stage: Stage) {
    let term = stage.lead().await;
    let start = stage.registry.snapshot().await.unwrap();
    let mut early = stage.registry.watch(start.revision);
    let mut writers = JoinSet::new();
    for writer in 0..4_u16 {
        let (registry, fence) = (Arc::clone(&stage.registry), term.fence().clone());
        writers.spawn(async move {
            let mut last = 0;
            for round in 1..=40_u16 {
                // Three rows of one transaction always carry one number.
                let mut writes: Vec<Write> =
                    ["x", "y", "z"].map(|row| numbered(&format!("{row}{writer}"), round)).into();
                let passing = format!("passing{writer}");
                writes.push(match round % 2 {
                    0 => Write::Remove(key(&passing)),
                    _ => numbered(&passing, round),
                });
                last = put(&*registry, &fence, writes).await;
            }
            last
        });
    }
    // One that begins in the middle, from a snapshot taken while others write.
    tokio::time::sleep(Duration::from_millis(50)).await;
    let middle = stage.registry.snapshot().await.unwrap();
    let mut late = stage.registry.watch(middle.revision);
    let last = soon("the writers", writers.join_all()).await.into_iter().max().unwrap();

    let mut seen = [0; 4];
    let mut copy = start;
    while copy.revision < last {
        let Observed::Commit(commit) = next(&mut early).await else { panic!("a gap") };
        assert!(commit.revision > copy.revision);
        assert_eq!(commit.changes.len(), 4, "a torn transaction: {commit:?}");
        let numbers: Vec<(usize, u16)> = commit
            .changes
            .iter()
            .filter_map(|change| match change {
                Change::Put(Row::Backend(row)) if !row.id.starts_with("passing") => {
                    Some((row.id[1..].parse().unwrap(), row.port))
                }
                _ => None,
            })
            .collect();
        let (writer, number) = numbers[0];
        assert_eq!(numbers, [(writer, number); 3], "mixed transactions");
        assert_eq!(number, seen[writer] + 1, "missed or repeated");
        seen[writer] = number;
        copy.advance(&commit);
    }
    assert_eq!(seen, [40; 4]);
    let end = stage.registry.snapshot().await.unwrap();
    assert_eq!(copy.backends, end.backends);
    assert_eq!(follow(middle, &mut late, last).await.backends, end.backends);
}

pub(crate) async fn a_watch_from_the_past_is_told_what_was_missed(stage: Stage) {
    let term = stage.lead().await;
    let before = stage.registry.snapshot().await.unwrap();
    for number in 0..5 {
        put(&*stage.registry, term.fence(), vec![numbered("b", number)]).await;
    }
    let gone = vec![Write::Remove(key("b")), Write::Put(Row::Vip(vip("203.0.113.1/32")))];
    let last = put(&*stage.registry, term.fence(), gone).await;
    let mut watch = stage.registry.watch(before.revision);
    let copy = follow(before, &mut watch, last).await;
    let end = stage.registry.snapshot().await.unwrap();
    assert_eq!((&copy.backends, &copy.vips), (&end.backends, &end.vips));
    // And nothing more is said, nor lost by having asked in vain.
    let quiet = tokio::time::timeout(Duration::from_millis(100), watch.next()).await;
    assert!(quiet.is_err(), "{quiet:?}");
    let last = put(&*stage.registry, term.fence(), vec![numbered("b", 9)]).await;
    assert_eq!(follow(copy, &mut watch, last).await.backends["b"].row.port, 9);
}

pub(crate) async fn removing_what_is_not_there_changes_nothing(stage: Stage) {
    let term = stage.lead().await;
    let before = stage.registry.snapshot().await.unwrap();
    let mut watch = stage.registry.watch(before.revision);
    put(&*stage.registry, term.fence(), vec![Write::Remove(Key::Pool("no".into()))]).await;
    let last = put(&*stage.registry, term.fence(), vec![numbered("b", 1)]).await;
    let Observed::Commit(commit) = next(&mut watch).await else { panic!("a gap") };
    assert_eq!(commit.revision, last);
}

pub(crate) async fn compaction_is_told_as_a_gap(stage: Stage) {
    let term = stage.lead().await;
    let old = stage.registry.snapshot().await.unwrap();
    for number in 0..5 {
        put(&*stage.registry, term.fence(), vec![numbered("b", number)]).await;
    }
    let now = stage.registry.snapshot().await.unwrap();
    stage.registry.compact(now.revision).await.unwrap();
    stage.registry.compact(now.revision).await.unwrap();
    let error = stage.registry.compact(now.revision + 1000).await.unwrap_err();
    assert!(matches!(error, Error::Invalid(_)), "{error}");

    let mut behind = stage.registry.watch(old.revision);
    assert_eq!(next(&mut behind).await, Observed::Gap(GapReason::Compacted));
    assert_eq!(behind.next().await, None, "a gap is the last word");
    // What the caller is to do then works, and rows are still there.
    let mut watch = stage.registry.watch(now.revision);
    let last = put(&*stage.registry, term.fence(), vec![numbered("c", 1)]).await;
    let copy = follow(now, &mut watch, last).await;
    assert_eq!(copy.backends, stage.registry.snapshot().await.unwrap().backends);
    assert_eq!(copy.backends.len(), 2);
}

pub(crate) async fn a_watch_from_another_life_is_told_as_a_gap(stage: Stage) {
    let now = stage.registry.snapshot().await.unwrap();
    let mut beyond = stage.registry.watch(now.revision + 1_000_000);
    assert_eq!(next(&mut beyond).await, Observed::Gap(GapReason::StoreReplaced));
}

pub(crate) async fn what_was_acknowledged_is_there_through_a_new_handle(stage: Stage) {
    let term = stage.lead().await;
    let writes = vec![numbered("b", 7), Write::Put(Row::Pool(pool("web")))];
    let revision = put(&*stage.registry, term.fence(), writes).await;
    let (store_id, epoch, old) =
        (stage.registry.store_id(), term.fence().epoch(), term.fence().clone());
    term.resign().await;
    let stage = stage.reopen().await;
    assert_eq!(stage.registry.store_id(), store_id);
    let snapshot = stage.registry.snapshot().await.unwrap();
    assert_eq!(snapshot.version(&key("b")), Some(revision));
    assert_eq!(snapshot.pools.len(), 1);
    let again = stage.lead().await;
    assert!(again.fence().epoch() > epoch);
    let refused = stage.registry.apply(vec![numbered("b", 8)], nothing(), &old).await;
    assert!(matches!(refused, Err(Error::Fenced { .. })), "{refused:?}");
    let more = put(&*stage.registry, again.fence(), vec![numbered("b", 8)]).await;
    assert!(more > revision);
}

pub(crate) async fn a_renewed_store_has_another_id_and_its_rows(stage: Stage) {
    let term = stage.lead().await;
    put(&*stage.registry, term.fence(), vec![numbered("b", 7)]).await;
    let before = stage.registry.store_id();
    let now = stage.registry.snapshot().await.unwrap().revision;
    let mut watch = stage.registry.watch(now);
    let renewed = stage.registry.renew_store_id(term.fence()).await.unwrap();
    assert_ne!(renewed, before);
    assert_eq!(stage.registry.store_id(), renewed);
    assert_eq!(next(&mut watch).await, Observed::Gap(GapReason::StoreReplaced));
    let snapshot = stage.registry.snapshot().await.unwrap();
    assert_eq!((snapshot.store_id, snapshot.backends.len()), (renewed, 1));
    put(&*stage.registry, term.fence(), vec![numbered("c", 7)]).await;
    assert_eq!(stage.registry.adopt_store().await.unwrap(), renewed);
    term.resign().await;
    let stage = stage.reopen().await;
    assert_eq!(stage.registry.store_id(), renewed);
}

pub(crate) async fn a_caller_that_gives_up_does_no_harm(stage: Stage) {
    let term = stage.lead().await;
    for number in 0..60_u16 {
        let write = vec![numbered("a", number), numbered("b", number)];
        let apply = stage.registry.apply(write, nothing(), term.fence());
        let patience = Duration::from_micros(fastrand::u64(..4000));
        drop(tokio::time::timeout(patience, apply).await);
    }
    // The next one goes through, and everything is still whole.
    let revision = put(&*stage.registry, term.fence(), vec![numbered("c", 1)]).await;
    let snapshot = stage.registry.snapshot().await.unwrap();
    assert_eq!(snapshot.version(&key("c")), Some(revision));
    let port = |id: &str| snapshot.backends.get(id).map(|row| row.row.port);
    assert_eq!(port("a"), port("b"));
}

pub(crate) async fn campaigns_end_within_their_patience(stage: Stage) {
    let term = stage.lead().await;
    let start = std::time::Instant::now();
    let patience = Duration::from_millis(300);
    let second = stage.election.campaign(candidate("b"), patience).await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(5));
    match second {
        // Whoever holds the file leads, and the term before is over.
        Campaign::Elected(second) => {
            assert!(term.lost().is_lost());
            put(&*stage.registry, second.fence(), vec![numbered("b", 1)]).await;
        }
        Campaign::Following(leader) => {
            assert!(start.elapsed() >= patience);
            assert_eq!((leader.id.as_str(), leader.epoch), ("a", term.fence().epoch()));
            put(&*stage.registry, term.fence(), vec![numbered("b", 1)]).await;
        }
    }
}
