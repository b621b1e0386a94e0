//! Every row of the status table that one controller can give. What takes an election or a lost
//! quorum is in `election.rs`; who is let in, in `listeners.rs`.

use proto::v1::{
    BindVipReq, CreatePoolReq, DrainBackendReq, GetPoolReq, ListPoolsReq, PoolSettings,
    ProbeSettings, RegisterBackendReq, UnbindVipReq, UpdateBackendReq, Vip,
};
use tonic::{Code, Status};

use crate::common::{Lab, binding, create, everything, registration, vip};

/// Makes a request wrong in one place.
type Spoil = fn(&mut RegisterBackendReq);

fn refused<T: std::fmt::Debug>(answer: Result<T, Status>, code: Code, field: &str) {
    let status = answer.unwrap_err();
    assert_eq!(status.code(), code, "{status}");
    assert!(status.message().starts_with(field), "{field}: {status}");
}

#[tokio::test]
async fn already_exists_for_another_registration_of_the_id() {
    let mut lab = Lab::start().await;
    lab.pool("web").await;
    lab.pool("api").await;
    lab.register("web", "a").await.unwrap();
    let changes: [fn(&mut RegisterBackendReq); 6] = [
        |r| r.ip = "192.0.2.12".into(),
        |r| r.port = 81,
        |r| r.weight = 50,
        |r| r.pool_id = "api".into(),
        |r| r.readiness_probe_url = "http://192.0.2.11/ready".into(),
        |r| drop(r.labels.insert("az".into(), "a".into())),
    ];
    for change in changes {
        let mut request = registration("web", "a");
        change(&mut request);
        let answer = lab.client.register_backend(request).await;
        refused(answer, Code::AlreadyExists, "backend_id: \"a\"");
    }
    let other = PoolSettings { table_size: 251, ..PoolSettings::default() };
    refused(create(&mut lab.client, "web", other).await, Code::AlreadyExists, "pool_id");
}

#[tokio::test]
async fn failed_precondition_for_a_pool_at_capacity() {
    let mut lab = Lab::start().await;
    // 251 / 50.
    let small = PoolSettings { table_size: 251, ..PoolSettings::default() };
    create(&mut lab.client, "small", small).await.unwrap();
    for id in ["a", "b", "c", "d", "e"] {
        lab.register("small", id).await.unwrap();
    }
    let full = lab.register("small", "f").await;
    refused(full, Code::FailedPrecondition, "pool_id: pool \"small\" is at capacity");
    lab.register("small", "a").await.unwrap();
}

#[tokio::test]
async fn not_found_names_the_field() {
    let mut lab = Lab::start().await;
    refused(lab.register("none", "a").await, Code::NotFound, "pool_id");
    refused(lab.backend("none").await, Code::NotFound, "backend_id");
    refused(lab.drain("none", 0).await, Code::NotFound, "backend_id");
    let request = GetPoolReq { pool_id: "none".into() };
    refused(lab.client.get_pool(request).await, Code::NotFound, "pool_id");
    let bound = vip("203.0.113.1", 80, 80);
    let request = binding("none", bound.clone());
    refused(lab.client.bind_vip_to_pool(request).await, Code::NotFound, "pool_id");
    let request = UnbindVipReq { vip: Some(bound) };
    refused(lab.client.unbind_vip(request).await, Code::NotFound, "vip");
}

#[tokio::test]
async fn invalid_argument_names_the_field() {
    let mut lab = Lab::start().await;
    lab.pool("web").await;
    let long = "x".repeat(256);
    let registrations: &[(&str, Spoil)] = &[
        ("pool_id", |r| r.pool_id.clear()),
        ("backend_id", |r| r.backend_id.clear()),
        ("backend_id", |r| r.backend_id = "a b".into()),
        ("ip", |r| r.ip.clear()),
        ("ip", |r| r.ip = "192.0.2".into()),
        ("ip", |r| r.ip = "127.0.0.1".into()),
        ("ip", |r| r.ip = "224.0.0.1".into()),
        ("ip", |r| r.ip = "255.255.255.255".into()),
        ("ip", |r| r.ip = "::1".into()),
        ("ip", |r| r.ip = "ff02::1".into()),
        ("ip", |r| r.ip = "::ffff:192.0.2.1".into()),
        ("port", |r| r.port = 0),
        ("port", |r| r.port = 65_536),
        ("weight", |r| r.weight = 65_536),
        ("labels", |r| drop(r.labels.insert(String::new(), "a".into()))),
        ("labels", |r| r.labels = (0..65).map(|n| (n.to_string(), String::new())).collect()),
        ("readiness_probe_url", |r| r.readiness_probe_url = "ftp://x/".into()),
        ("readiness_probe_url", |r| r.readiness_probe_url = "http://user:pw@x/".into()),
    ];
    for (field, change) in registrations {
        let mut request = registration("web", "a");
        change(&mut request);
        let answer = lab.client.register_backend(request).await;
        refused(answer, Code::InvalidArgument, field);
    }
    refused(lab.register("web", &long).await, Code::InvalidArgument, "backend_id");
    let probe = |probe| PoolSettings { probe: Some(probe), ..PoolSettings::default() };
    let settings = [
        ("settings.table_size", PoolSettings { table_size: 65_536, ..Default::default() }),
        ("settings.scheduler", PoolSettings { scheduler: 99, ..Default::default() }),
        ("settings.forwarding", PoolSettings { forwarding: 5, ..Default::default() }),
        ("settings.hash_secret", PoolSettings { hash_secret: vec![1; 15], ..Default::default() }),
        ("settings.gue_variant_0", PoolSettings { gue_variant_0: true, ..Default::default() }),
        ("settings.second_chance", PoolSettings { second_chance: true, ..Default::default() }),
        ("settings.quic", PoolSettings { quic: vec![<_>::default(); 8], ..Default::default() }),
        ("settings.drain_seconds", PoolSettings { drain_seconds: 86_401, ..Default::default() }),
        ("settings.quorum_down", PoolSettings { quorum_down: 1, ..Default::default() }),
        ("settings.quorum_checkers", PoolSettings { quorum_checkers: 17, ..Default::default() }),
        ("settings.panic_percent", PoolSettings { panic_percent: 101, ..Default::default() }),
        (
            "settings.probe.timeout_ms",
            probe(ProbeSettings { timeout_ms: 1_001, ..Default::default() }),
        ),
        (
            "settings.probe.jitter_percent",
            probe(ProbeSettings { jitter_percent: 21, ..Default::default() }),
        ),
        (
            "settings.probe.http_expected_status",
            probe(ProbeSettings { http_expected_status: 99, ..Default::default() }),
        ),
        ("settings.probe.command", probe(ProbeSettings { liveness: 4, ..Default::default() })),
    ];
    for (field, settings) in settings {
        let answer = create(&mut lab.client, "other", settings).await;
        refused(answer, Code::InvalidArgument, field);
    }
    let request = CreatePoolReq { pool_id: "a/b".into(), settings: None };
    refused(lab.client.create_pool(request).await, Code::InvalidArgument, "pool_id");
    let vips = [
        ("vip.address", vip("", 80, 80)),
        ("vip.address", vip("203.0.113.1/28", 80, 80)),
        ("vip.address", vip("127.0.0.1", 80, 80)),
        ("vip.first_port", vip("203.0.113.1", 0, 80)),
        ("vip.first_port", vip("203.0.113.1", 65_536, 65_536)),
        ("vip.last_port", vip("203.0.113.1", 81, 80)),
        ("vip.protocol", Vip { protocol: 0, ..vip("203.0.113.1", 80, 80) }),
        ("vip.mss_clamp", Vip { mss_clamp: 87, ..vip("203.0.113.1", 80, 80) }),
        ("vip.mss_clamp", Vip { mss_clamp: 65_536 + 1400, ..vip("203.0.113.1", 80, 80) }),
        (
            "vip.mss_clamp_auto",
            Vip { mss_clamp: 1400, mss_clamp_auto: true, ..vip("203.0.113.1", 80, 80) },
        ),
        ("vip.udp_idle_seconds", Vip { udp_idle_seconds: 86_401, ..vip("203.0.113.1", 80, 80) }),
    ];
    for (field, vip) in vips {
        let answer = lab.client.bind_vip_to_pool(binding("web", vip)).await;
        refused(answer, Code::InvalidArgument, field);
    }
    let request = BindVipReq { pool_id: "web".into(), ..BindVipReq::default() };
    refused(lab.client.bind_vip_to_pool(request).await, Code::InvalidArgument, "vip");
    let request =
        UpdateBackendReq { backend_id: "a".into(), port: Some(0), ..UpdateBackendReq::default() };
    refused(lab.client.update_backend(request).await, Code::InvalidArgument, "port");
    let request = DrainBackendReq { backend_id: "a".into(), drain_seconds: 86_401, undo: false };
    refused(lab.client.drain_backend(request).await, Code::InvalidArgument, "drain_seconds");
}

#[tokio::test]
async fn failed_precondition_for_a_drain_that_is_none() {
    let mut lab = Lab::start().await;
    lab.pool("web").await;
    lab.register("web", "a").await.unwrap();
    let request = DrainBackendReq { backend_id: "a".into(), drain_seconds: 0, undo: true };
    refused(lab.client.drain_backend(request).await, Code::FailedPrecondition, "undo");
}

#[tokio::test]
async fn resource_exhausted_beyond_the_rate_and_the_streams() {
    let mut lab = Lab::start_with(|settings| {
        settings.limits.requests_per_second = 1;
        settings.limits.streams = 2;
    })
    .await;
    lab.pool("web").await;
    let mut codes = Vec::new();
    for n in 0..20 {
        let answer = lab.register("web", &format!("b{n}")).await;
        codes.extend(answer.err().map(|status| status.code()));
    }
    assert!(codes.contains(&Code::ResourceExhausted), "{codes:?}");
    assert!(codes.iter().all(|code| *code == Code::ResourceExhausted));
    let _held = (lab.watch(everything()).await, lab.watch(everything()).await);
    refused(lab.client.watch_pool(everything()).await, Code::ResourceExhausted, "2 streams");
}

#[tokio::test]
async fn resource_exhausted_beyond_the_rate_of_looks() {
    let lab = Lab::start_with(|settings| settings.limits.requests_per_second = 1).await;
    // 20 at once, 10 a second: more than that in flight cannot all be let in.
    let looks = (0..1000).map(|_| {
        let mut client = lab.client.clone();
        tokio::spawn(async move { client.list_pools(ListPoolsReq {}).await })
    });
    let looks: Vec<_> = looks.collect();
    let mut codes = std::collections::BTreeMap::new();
    for look in looks {
        let code = look.await.unwrap().err().map_or(Code::Ok, |status| status.code());
        *codes.entry(code as i32).or_insert(0) += 1;
    }
    let refused = codes.remove(&(Code::ResourceExhausted as i32)).unwrap_or(0);
    let passed = codes.remove(&(Code::Ok as i32)).unwrap_or(0);
    assert!(passed >= 20 && refused > 0 && codes.is_empty(), "{passed} {refused} {codes:?}");
}
