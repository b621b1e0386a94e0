//! What checkers find, as nodes are told it: weights, digests, panic, and a change of leader.

use maglev::{Maglev, Member, Scheduler};
use proto::v1::{BackendState, Health, PoolSettings, PoolSnapshot};

use crate::checker::{Checker, World};
use crate::common::{Lab, create, everything, registration, state, until};

const SIZE: u32 = 251;
const SECRET: [u8; 16] = *b"a secret of ours";

async fn three(lab: &Lab) -> Vec<Checker> {
    let mut checkers = Vec::new();
    for n in 0..3 {
        let (id, zone) = (format!("checker-{n}"), format!("zone-{n}"));
        checkers.push(Checker::start(&lab.client, &id, &zone, World::default()).await);
    }
    checkers
}

async fn pool(lab: &mut Lab) {
    let settings =
        PoolSettings { table_size: SIZE, hash_secret: SECRET.to_vec(), ..PoolSettings::default() };
    create(&mut lab.client, "web", settings).await.unwrap();
    for id in ["a", "b", "c"] {
        let mut request = registration("web", id);
        request.readiness_probe_url = "http://192.0.2.11:8080/ready".into();
        lab.client.register_backend(request).await.unwrap();
    }
}

/// The ids that get new flows.
fn served(snapshot: &PoolSnapshot) -> Vec<&str> {
    let entries = snapshot.backends.iter().filter(|entry| entry.weight > 0);
    entries.map(|entry| entry.backend_id.as_str()).collect()
}

/// The digest of the table that a node builds of these.
fn digest(ids: &[&str]) -> Vec<u8> {
    // Another order and other indices than the controller's: neither matters.
    let members: Vec<Member<'_>> =
        (7..).zip(ids.iter().rev()).map(|(index, id)| Member { id, index, weight: 100 }).collect();
    Maglev::build(&members, SIZE, SECRET).unwrap().digest().as_bytes().to_vec()
}

fn digest_of(snapshot: &PoolSnapshot) -> &[u8] {
    &snapshot.table.as_ref().unwrap().digest
}

#[tokio::test]
async fn who_is_ejected_is_out_of_the_table_and_the_digest_says_so() {
    let mut lab = Lab::start().await;
    pool(&mut lab).await;
    let mut stream = lab.watch(everything()).await;
    let checkers = three(&lab).await;
    let all = until(&mut stream, |s| served(s) == ["a", "b", "c"]).await;
    assert_eq!(digest_of(&all), digest(&["a", "b", "c"]));
    for checker in &checkers {
        checker.sees("b", Health::Unhealthy, Health::Healthy);
    }
    let two = until(&mut stream, |s| served(s) == ["a", "c"]).await;
    assert_eq!(state(&two, "b"), Some(BackendState::Unhealthy));
    assert_eq!(digest_of(&two), digest(&["a", "c"]));
    // What nodes were told is in the registry already.
    assert_eq!(lab.backend("b").await.unwrap().state(), BackendState::Unhealthy);
    // A second one: more than half of the pool. All are served.
    for checker in &checkers {
        checker.sees("c", Health::Unhealthy, Health::Healthy);
    }
    let panic = until(&mut stream, |s| {
        let all = s.backends.iter().all(|entry| entry.weight > 0);
        all && state(s, "c") == Some(BackendState::Unhealthy)
    })
    .await;
    assert_eq!(digest_of(&panic), digest(&["a", "b", "c"]));
    let drained = lab.drain("a", 600).await;
    drained.unwrap();
    let without = until(&mut stream, |s| !served(s).contains(&"a")).await;
    assert_eq!(state(&without, "a"), Some(BackendState::Draining), "its flows go on");
}

#[tokio::test]
async fn a_new_term_serves_what_was_served_before_anybody_reports() {
    let mut lab = Lab::start().await;
    pool(&mut lab).await;
    let mut stream = lab.watch(everything()).await;
    let checkers = three(&lab).await;
    until(&mut stream, |s| served(s) == ["a", "b", "c"]).await;
    for checker in &checkers {
        checker.sees("b", Health::Healthy, Health::Unhealthy);
    }
    let before = until(&mut stream, |s| served(s) == ["a", "c"]).await;
    assert_eq!(state(&before, "b"), Some(BackendState::Healthy), "alive, and not ready");
    drop(checkers);
    let mut lab = lab.restart().await;
    let after = lab.initial(everything()).await.pop().unwrap();
    assert_eq!(after.backends, before.backends);
    assert_eq!(after.table, before.table);
    assert!(after.version > before.version);
}
