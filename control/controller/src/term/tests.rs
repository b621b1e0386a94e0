//! How terms end: before they serve, and in the middle of a write.

use std::future::pending;

use proto::v1::CreatePoolReq;
use registry::{Fence, Preconditions, RedbSettings, Revision, Snapshot, StoreId, Watch, Write};
use tokio::sync::Semaphore;

use super::*;
use crate::calls;

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(60);

/// A registry whose writes wait to be let through.
#[derive(Debug)]
struct Gated {
    store: Arc<RedbStore>,
    gate: Semaphore,
    arrived: watch::Sender<usize>,
}

#[tonic::async_trait]
impl Registry for Gated {
    fn store_id(&self) -> StoreId {
        self.store.store_id()
    }

    async fn snapshot(&self) -> Result<Snapshot, Error> {
        self.store.snapshot().await
    }

    async fn apply(
        &self,
        transaction: Vec<Write>,
        expected: Preconditions,
        fence: &Fence,
    ) -> Result<Revision, Error> {
        self.arrived.send_modify(|count| *count += 1);
        let _through = self.gate.acquire().await.expect("never closed");
        self.store.apply(transaction, expected, fence).await
    }

    fn watch(&self, from: Revision) -> Watch {
        self.store.watch(from)
    }

    async fn compact(&self, until: Revision) -> Result<(), Error> {
        self.store.compact(until).await
    }

    async fn renew_store_id(&self, fence: &Fence) -> Result<StoreId, Error> {
        self.store.renew_store_id(fence).await
    }

    async fn adopt_store(&self) -> Result<StoreId, Error> {
        self.store.adopt_store().await
    }
}

#[tokio::test]
async fn the_first_snapshots_are_waited_for_as_long_as_the_term_lasts() {
    let folder = tempfile::tempdir().unwrap();
    let settings = RedbSettings::new(folder.path().join("registry.redb"));
    let store = RedbStore::open(settings).await.unwrap();
    let candidate = Candidate { id: "c".into(), address: "a".into() };
    let Ok(Campaign::Elected(leadership)) = store.campaign(candidate, PATIENCE).await else {
        panic!("nobody else stands");
    };
    let lost = leadership.lost();
    let (stop, mut stopped) = watch::channel(false);
    let (_versions, mut exhausted) = watch::channel(false);
    {
        let ending = ending(lost.clone(), &mut stopped, &mut exhausted);
        tokio::pin!(ending);
        assert_eq!(before(async {}, LONG, ending.as_mut()).await, Ok(()));
        let slow = before(pending(), Duration::from_millis(1), ending.as_mut()).await;
        assert_eq!(slow.unwrap_err(), "the first snapshots took more than 1ms");
        stop.send_replace(true);
        let over = before(pending(), LONG, ending.as_mut()).await;
        assert_eq!(over.unwrap_err(), "this controller is shutting down");
    }
    stop.send_replace(false);
    leadership.resign().await;
    let over = before(pending(), LONG, ending(lost, &mut stopped, &mut exhausted)).await;
    assert_eq!(over.unwrap_err(), "this controller lost its leadership");
}

#[tokio::test]
async fn a_write_under_way_is_seen_to_its_end_when_the_controller_stops() {
    let folder = tempfile::tempdir().unwrap();
    let embedded = RedbSettings::new(folder.path().join("registry.redb"));
    let store = Arc::new(RedbStore::open(embedded.clone()).await.unwrap());
    let arrived = watch::Sender::new(0);
    let mut arrivals = arrived.subscribe();
    let gated = Arc::new(Gated { store: Arc::clone(&store), gate: Semaphore::new(0), arrived });
    let stores = Stores { registry: Arc::clone(&gated) as _, election: Arc::clone(&store) as _ };
    let (standing, mut stands) =
        watch::channel(Standing::Following { leader: None, why: "starting".into() });
    let life = Life {
        settings: Arc::new(Settings::new("c", Store::Embedded(embedded))),
        address: "http://c".into(),
        events: Events::new(),
        metrics: Arc::default(),
        clock: Clock::start(),
        standing,
    };
    let (stop, stopped) = watch::channel(false);
    let life = tokio::spawn(life.live(stores, stopped));
    let leads = |standing: &Standing| matches!(standing, Standing::Leading(_));
    let office = timeout(LONG, stands.wait_for(leads)).await.unwrap().unwrap().office().unwrap();
    let create = async move {
        let request = CreatePoolReq { pool_id: "web".into(), settings: None };
        calls::create_pool(&office, request).await
    };
    let created = tokio::spawn(create);
    timeout(LONG, arrivals.wait_for(|count| *count == 1)).await.unwrap().unwrap();
    stop.send_replace(true);
    // Nobody else is served from now on, and the write has not been let through yet.
    timeout(LONG, stands.wait_for(|standing| !leads(standing))).await.unwrap().unwrap();
    gated.gate.add_permits(1);
    assert_eq!(created.await.unwrap().unwrap().pool_id, "web");
    timeout(LONG, life).await.unwrap().unwrap();
    assert!(store.snapshot().await.unwrap().pools.contains_key("web"));
}
