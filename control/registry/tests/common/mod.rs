//! What the registry's tests share: rows, stores to run on, and etcd processes.

#![allow(dead_code, reason = "each test program uses a part")]

pub(crate) mod etcd;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use registry::rows::{
    Affinity, Backend, BackendState, Forwarding, HashSecret, IdleSeconds, MssClamp, Pool,
    PoolSettings, ProbeKind, ProbeSettings, Protocol, QuicConfiguration, QuicKey, Scheduler,
    ServerId, Unknown, VipBinding,
};
use registry::{
    Campaign, Candidate, Election, EtcdSettings, EtcdStore, Fence, Key, Leadership, RedbSettings,
    RedbStore, Registry, Row, Write,
};
use tempfile::TempDir;

/// Bound of anything a test waits for.
pub(crate) const SOON: Duration = Duration::from_secs(30);

pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(SOON, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what} did not happen within {SOON:?}"),
    }
}

/// A store to test, empty at first.
pub(crate) struct Stage {
    pub(crate) registry: Arc<dyn Registry>,
    pub(crate) election: Arc<dyn Election>,
    place: Place,
}

enum Place {
    File(TempDir),
    Etcd(Box<EtcdSettings>, Option<etcd::Cluster>),
}

impl Stage {
    pub(crate) async fn redb() -> Self {
        Self::at(Place::File(tempfile::tempdir().unwrap())).await
    }

    /// A corner of the etcd that tests share.
    pub(crate) async fn etcd() -> Self {
        Self::at(Place::Etcd(Box::new(settings(etcd::shared())), None)).await
    }

    /// An etcd of its own.
    pub(crate) async fn etcd_alone() -> Self {
        let cluster = etcd::Cluster::start(1);
        let settings = Box::new(settings(cluster.endpoints()));
        Self::at(Place::Etcd(settings, Some(cluster))).await
    }

    /// The same store through a new handle; the old one is gone by then.
    pub(crate) async fn reopen(self) -> Self {
        let Self { registry, election, place } = self;
        drop((registry, election));
        Self::at(place).await
    }

    async fn at(place: Place) -> Self {
        match &place {
            Place::File(folder) => {
                let settings = RedbSettings::new(folder.path().join("registry.redb"));
                let store = Arc::new(RedbStore::open(settings).await.unwrap());
                Self { registry: store.clone(), election: store, place }
            }
            Place::Etcd(settings, _) => {
                let store = Arc::new(EtcdStore::connect((**settings).clone()).await.unwrap());
                Self { registry: store.clone(), election: store, place }
            }
        }
    }

    pub(crate) async fn lead(&self) -> Leadership {
        elected(&*self.election, "a").await
    }
}

/// A prefix of its own, and the shortest lease that etcd grants.
pub(crate) fn settings(endpoints: Vec<String>) -> EtcdSettings {
    let mut settings = EtcdSettings::new(endpoints);
    settings.prefix = format!("/test-{:016x}/", fastrand::u64(..));
    settings.lease_ttl = Duration::from_secs(2);
    settings
}

pub(crate) fn candidate(id: &str) -> Candidate {
    Candidate { id: id.into(), address: format!("{id}.example:9190") }
}

pub(crate) async fn elected(election: &dyn Election, id: &str) -> Leadership {
    match election.campaign(candidate(id), SOON).await.unwrap() {
        Campaign::Elected(leadership) => leadership,
        Campaign::Following(leader) => panic!("{leader:?} leads"),
    }
}

pub(crate) fn pool(id: &str) -> Pool {
    Pool {
        id: id.into(),
        settings: PoolSettings {
            scheduler: Scheduler::Maglev,
            table_size: 65537,
            forwarding: Forwarding::Ipip,
            hash_secret: HashSecret(*b"0123456789abcdef"),
            drain_seconds: 60,
            reselect: false,
            probe: ProbeSettings {
                liveness: ProbeKind::Tcp,
                interval_ms: 1000,
                timeout_ms: 1000,
                failures_to_down: 3,
                passes_to_up: 2,
                jitter_percent: 20,
                http_expected_status: 200,
                udp_payload: vec![0, 255, 7],
                command: String::new(),
                unknown: Unknown::default(),
            },
            quorum_checkers: 3,
            quorum_down: 2,
            panic_percent: 50,
            slow_start_seconds: 0,
            gue_variant_0: false,
            second_chance: true,
            quic: vec![QuicConfiguration {
                config_id: 3,
                server_id_length: 2,
                nonce_length: 6,
                key: Some(QuicKey([7; 16])),
                self_encoded_length: true,
                unknown: Unknown::default(),
            }],
            unknown: Unknown::default(),
        },
        created_at_ns: u64::MAX,
        unknown: Unknown::default(),
    }
}

pub(crate) fn backend(id: &str) -> Backend {
    Backend {
        pool_id: "web".into(),
        id: id.into(),
        ip: "2001:db8::11".parse().unwrap(),
        port: 80,
        weight: 100,
        labels: BTreeMap::from([("az".into(), "a".into())]),
        readiness_probe_url: "http://[2001:db8::11]/ready".into(),
        state: BackendState::Pending,
        registered_at_ns: 1_700_000_000_000_000_001,
        ready: true,
        last_state_change_ns: 2,
        drain_until_ns: None,
        deregistered: false,
        quic_server_ids: vec![ServerId(vec![0, 255])],
        unknown: Unknown::default(),
    }
}

pub(crate) fn vip(address: &str) -> VipBinding {
    VipBinding {
        pool_id: "web".into(),
        address: address.parse().unwrap(),
        first_port: 8000,
        last_port: 8099,
        protocol: Protocol::Tcp,
        idle: IdleSeconds {
            syn_received: 30,
            established: 300,
            fin_wait: 60,
            time_wait: 60,
            udp: 60,
            unknown: Unknown::default(),
        },
        affinity: Affinity::Source,
        mss_clamp: MssClamp::To(1400),
        unknown: Unknown::default(),
    }
}

/// A backend whose address port tells it from others of its id.
pub(crate) fn numbered(id: &str, number: u16) -> Write {
    Write::Put(Row::Backend(Backend { port: number, ..backend(id) }))
}

pub(crate) fn key(id: &str) -> Key {
    Key::Backend(id.into())
}

pub(crate) async fn put(registry: &dyn Registry, fence: &Fence, writes: Vec<Write>) -> u64 {
    registry.apply(writes, Default::default(), fence).await.unwrap()
}
