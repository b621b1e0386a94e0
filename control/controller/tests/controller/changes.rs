//! What operators change, and that it is idempotent.

use std::time::Duration;

use proto::v1::{
    Affinity, BackendState, BindVipReq, DeletePoolReq, DeregisterBackendReq, DrainBackendReq,
    Forwarding, GetPoolReq, ListBackendsReq, ListPoolsReq, ListViPsReq, PoolSettings,
    ProbeSettings, QuicConfiguration, QuicServerIds, RegisterBackendReq, UnbindVipReq,
    UpdateBackendReq, UpdatePoolReq, Vip, WatchEventsReq,
};
use tonic::Code;

use crate::common::{Lab, binding, create, eventually, everything, registration, soon, until, vip};

#[tokio::test]
async fn a_pool_has_the_defaults_and_no_visible_secret() {
    let mut lab = Lab::start().await;
    let pool = lab.pool("web").await;
    let settings = pool.settings.unwrap();
    assert_eq!(settings.table_size, 65_537);
    assert_eq!((settings.quorum_checkers, settings.quorum_down), (3, 2));
    assert_eq!((settings.drain_seconds, settings.panic_percent), (60, 50));
    assert_eq!(settings.probe.as_ref().map(|probe| probe.interval_ms), Some(1_000));
    assert!(settings.hash_secret.is_empty(), "only nodes are shown it");
    let listed = lab.client.list_pools(ListPoolsReq {}).await.unwrap().into_inner();
    assert_eq!(listed.pools.len(), 1);
    assert!(listed.pools[0].settings.as_ref().unwrap().hash_secret.is_empty());
}

#[tokio::test]
async fn the_same_change_again_is_ok_and_changes_nothing() {
    let mut lab = Lab::start().await;
    let first = lab.pool("web").await;
    let again = lab.pool("web").await;
    assert_eq!(first.settings, again.settings);
    let mut register = async || {
        let request = registration("web", "a");
        lab.client.register_backend(request).await.unwrap().into_inner()
    };
    let (one, two) = (register().await, register().await);
    assert_eq!(one.revision, two.revision);
    assert_eq!(one.backend.unwrap().registered_at_ns, two.backend.unwrap().registered_at_ns);
    let bind = || binding("web", vip("203.0.113.1", 80, 80));
    let one = lab.client.bind_vip_to_pool(bind()).await.unwrap().into_inner();
    let two = lab.client.bind_vip_to_pool(bind()).await.unwrap().into_inner();
    assert_eq!(one, two);
    let one = lab.drain("a", 60).await.unwrap();
    let two = lab.drain("a", 30).await.unwrap();
    assert_eq!(one, two, "the first window stands");
}

#[tokio::test]
async fn an_update_changes_what_is_given_and_a_replacement_the_rest_too() {
    let mut lab = Lab::start().await;
    let given = PoolSettings {
        slow_start_seconds: 30,
        reselect: true,
        probe: Some(ProbeSettings { interval_ms: 2_000, ..ProbeSettings::default() }),
        ..PoolSettings::default()
    };
    create(&mut lab.client, "web", given).await.unwrap();
    let update = |settings, replace| UpdatePoolReq {
        pool_id: "web".into(),
        settings: Some(settings),
        replace,
    };
    let given = PoolSettings { drain_seconds: 5, ..PoolSettings::default() };
    let pool = lab.client.update_pool(update(given.clone(), false)).await.unwrap().into_inner();
    let settings = pool.settings.unwrap();
    assert_eq!((settings.drain_seconds, settings.slow_start_seconds), (5, 30));
    assert!(settings.reselect);
    assert_eq!(settings.probe.map(|probe| probe.interval_ms), Some(2_000));
    let pool = lab.client.update_pool(update(given, true)).await.unwrap().into_inner();
    let settings = pool.settings.unwrap();
    assert_eq!((settings.drain_seconds, settings.slow_start_seconds), (5, 0));
    assert!(!settings.reselect);
    assert_eq!(settings.probe.map(|probe| probe.interval_ms), Some(1_000));
}

#[tokio::test]
async fn a_backend_is_updated_field_by_field() {
    let mut lab = Lab::start().await;
    lab.pool("web").await;
    let mut request = registration("web", "a");
    request.labels =
        [("az".to_owned(), "a".to_owned()), ("rack".to_owned(), "r1".to_owned())].into();
    lab.client.register_backend(request).await.unwrap();
    let update = UpdateBackendReq {
        backend_id: "a".into(),
        weight: Some(0),
        ip: Some("192.0.2.99".into()),
        labels: [("az".to_owned(), "b".to_owned())].into(),
        remove_labels: vec!["rack".into()],
        ..UpdateBackendReq::default()
    };
    lab.client.update_backend(update).await.unwrap();
    let backend = lab.backend("a").await.unwrap();
    assert_eq!((backend.weight, backend.ip.as_str(), backend.port), (0, "192.0.2.99", 8080));
    assert_eq!(backend.labels, [("az".to_owned(), "b".to_owned())].into());
    assert_eq!(backend.state(), BackendState::Pending);
    assert!(!backend.eligible && !backend.reason.is_empty());
}

#[tokio::test]
async fn a_drain_ends_in_evicted_and_can_be_taken_back_before() {
    let mut lab = Lab::start().await;
    lab.pool("web").await;
    for id in ["a", "b"] {
        lab.register("web", id).await.unwrap();
    }
    lab.drain("a", 1).await.unwrap();
    lab.drain("b", 600).await.unwrap();
    let a = lab.backend("a").await.unwrap();
    assert_eq!(a.state(), BackendState::Draining);
    assert!(a.drain_until_ns > 0);
    let undo = |id: &str| DrainBackendReq { backend_id: id.into(), undo: true, drain_seconds: 0 };
    lab.client.drain_backend(undo("b")).await.unwrap();
    assert_eq!(lab.backend("b").await.unwrap().state(), BackendState::Pending);
    let client = lab.client.clone();
    let ask = || {
        let mut client = client.clone();
        async move {
            let request = ListBackendsReq { pool_id: "web".into() };
            client.list_backends(request).await.unwrap().into_inner().backends
        }
    };
    let backends = eventually("EVICTED", ask, |all| {
        all.iter().any(|b| b.backend_id == "a" && b.state() == BackendState::Evicted)
    })
    .await;
    assert_eq!(backends.len(), 2, "a drained backend keeps its row");
    let refused = lab.client.drain_backend(undo("a")).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    let again = lab.register("web", "a").await.unwrap();
    assert_eq!(again.state(), BackendState::Pending, "a new life");
}

#[tokio::test]
async fn a_deregistered_backend_is_evicted_and_then_forgotten() {
    let mut lab = Lab::start().await;
    lab.pool("web").await;
    lab.register("web", "a").await.unwrap();
    let request = DeregisterBackendReq { backend_id: "a".into(), immediately: true };
    lab.client.deregister_backend(request).await.unwrap();
    let client = lab.client.clone();
    let ask = || {
        let mut client = client.clone();
        async move { client.list_backends(ListBackendsReq::default()).await.unwrap().into_inner() }
    };
    eventually("the end of its row", ask, |all| all.backends.is_empty()).await;
    assert_eq!(lab.backend("a").await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn a_pool_goes_only_when_nothing_is_left_of_it() {
    let mut lab = Lab::start_with(|settings| {
        settings.fleet.evicted_shown = std::time::Duration::from_secs(600);
    })
    .await;
    lab.pool("web").await;
    lab.register("web", "a").await.unwrap();
    let bound = vip("203.0.113.1", 80, 80);
    lab.client.bind_vip_to_pool(binding("web", bound.clone())).await.unwrap();
    let delete = || DeletePoolReq { pool_id: "web".into() };
    let refused = lab.client.delete_pool(delete()).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("VIP"), "{refused}");
    lab.client.unbind_vip(UnbindVipReq { vip: Some(bound) }).await.unwrap();
    let refused = lab.client.delete_pool(delete()).await.unwrap_err();
    assert!(refused.message().contains("\"a\""), "{refused}");
    let request = DeregisterBackendReq { backend_id: "a".into(), immediately: true };
    lab.client.deregister_backend(request).await.unwrap();
    lab.client.delete_pool(delete()).await.unwrap();
    let request = GetPoolReq { pool_id: "web".into() };
    assert_eq!(lab.client.get_pool(request).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(lab.backend("a").await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn vips_of_two_pools_do_not_tie() {
    let mut lab = Lab::start().await;
    lab.pool("web").await;
    lab.pool("api").await;
    let mut bind = async |pool: &str, vip| lab.client.bind_vip_to_pool(binding(pool, vip)).await;
    bind("web", vip("203.0.113.0/28", 8000, 8099)).await.unwrap();
    // The same: refused, with the pool's name.
    let refused = bind("api", vip("203.0.113.0/28", 8000, 8099)).await.unwrap_err();
    assert_eq!(refused.code(), Code::AlreadyExists);
    assert!(refused.message().contains("\"web\""), "{refused}");
    let refused = bind("api", vip("203.0.113.0/28", 8050, 8200)).await.unwrap_err();
    assert!(refused.message().contains("\"web\""), "{refused}");
    // More specific, or less: both stand.
    bind("api", vip("203.0.113.1", 8000, 8099)).await.unwrap();
    bind("api", vip("203.0.113.0/28", 8050, 8050)).await.unwrap();
    bind("api", vip("203.0.113.0/28", 0, 0)).await.unwrap();
    let request = ListViPsReq { pool_id: "api".into() };
    assert_eq!(lab.client.list_vi_ps(request).await.unwrap().into_inner().vips.len(), 3);
}

#[tokio::test]
async fn a_vip_moves_from_pool_to_pool_in_one_step() {
    let mut lab = Lab::start().await;
    lab.pool("web").await;
    lab.pool("api").await;
    let http = || vip("203.0.113.1", 80, 80);
    let mut bind = async |pool: &str, from: Option<&str>| {
        let request = BindVipReq {
            from_pool: from.map(str::to_owned),
            ..binding(pool, Vip { established_seconds: 900, ..http() })
        };
        lab.client.bind_vip_to_pool(request).await
    };
    // There is nothing to take, and then it is not where it is taken from.
    let refused = bind("api", Some("web")).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    let first = bind("web", None).await.unwrap().into_inner();
    let refused = bind("api", Some("other")).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("bound to pool \"web\""), "{refused}");
    let moved = bind("api", Some("web")).await.unwrap().into_inner();
    assert_eq!(moved.revision, first.revision + 1, "one transaction");
    // The same again is true already.
    assert_eq!(bind("api", Some("web")).await.unwrap().into_inner(), moved);
    let all = lab.client.list_vi_ps(ListViPsReq::default()).await.unwrap().into_inner().vips;
    assert_eq!(all.len(), 1);
    assert_eq!(all[0].pool_id, "api");
    assert_eq!(all[0].vip.as_ref().unwrap().established_seconds, 900);
    // Nodes are told of both: the one has it, the other has it not.
    soon("both snapshots", async {
        loop {
            let all = lab.initial(everything()).await;
            let vips = |pool: &str| all.iter().find(|s| s.pool_id == pool).unwrap().vips.len();
            if (vips("web"), vips("api")) == (0, 1) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn many_registrations_at_once_are_all_there() {
    let mut lab = Lab::start().await;
    lab.pool("web").await;
    let tasks: Vec<_> = (0..30)
        .map(|n| {
            let mut client = lab.client.clone();
            let request = RegisterBackendReq {
                ip: format!("192.0.2.{n}"),
                ..registration("web", &format!("b{n}"))
            };
            tokio::spawn(async move { client.register_backend(request).await.unwrap() })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let request = ListBackendsReq { pool_id: "web".into() };
    let listed = lab.client.list_backends(request).await.unwrap().into_inner();
    assert_eq!(listed.backends.len(), 30);
}

#[tokio::test]
async fn a_pool_that_outgrows_its_table_is_told_of_once() {
    let mut lab = Lab::start().await;
    let mut events =
        lab.client.watch_events(WatchEventsReq { replay: 0 }).await.unwrap().into_inner();
    // 2 backends have 100 slots each, 3 have not.
    let settings = PoolSettings { table_size: 251, ..PoolSettings::default() };
    create(&mut lab.client, "web", settings).await.unwrap();
    for id in ["a", "b", "c", "d"] {
        lab.register("web", id).await.unwrap();
    }
    lab.drain("d", 60).await.unwrap();
    let mut texts = Vec::new();
    loop {
        let event = soon("an event", events.message()).await.unwrap().unwrap();
        match event.kind.as_str() {
            "table_small" => texts.push(event.text),
            "backend_state" if event.text.contains("DRAINING") => break,
            _ => {}
        }
    }
    assert_eq!(texts.len(), 1, "{texts:?}");
    assert!(texts[0].contains("a table of 307 slots would do"), "{texts:?}");
}

#[tokio::test]
async fn what_steers_flows_is_kept_and_told_to_nodes_and_keys_to_them_alone() {
    let mut lab = Lab::start().await;
    let quic = QuicConfiguration {
        config_id: 2,
        server_id_length: 1,
        nonce_length: 5,
        key: vec![0xc7; 16],
        ..QuicConfiguration::default()
    };
    let settings = PoolSettings {
        forwarding: Forwarding::Gue.into(),
        gue_variant_0: true,
        second_chance: true,
        quic: vec![quic.clone()],
        ..PoolSettings::default()
    };
    let shown = create(&mut lab.client, "web", settings.clone()).await.unwrap().settings.unwrap();
    let hidden = QuicConfiguration { key: Vec::new(), encrypted: true, ..quic.clone() };
    assert_eq!(shown.quic, [hidden], "an operator is not shown the key");
    // Sent back as it was shown, it is still there.
    let replace =
        |settings| UpdatePoolReq { pool_id: "web".into(), settings: Some(settings), replace: true };
    lab.client.update_pool(replace(shown.clone())).await.unwrap();
    let request = RegisterBackendReq { quic_server_ids: vec![vec![7]], ..registration("web", "a") };
    lab.client.register_backend(request.clone()).await.unwrap();
    let other = RegisterBackendReq { backend_id: "b".into(), ..request };
    let taken = lab.client.register_backend(other).await.unwrap_err();
    assert_eq!(taken.code(), Code::AlreadyExists, "{taken}");
    let affinity = Affinity::Source.into();
    let clamped = Vip { affinity, mss_clamp: 1400, ..vip("203.0.113.1", 80, 80) };
    let fitting = Vip { mss_clamp_auto: true, ..vip("203.0.113.2", 80, 80) };
    for vip in [clamped, fitting] {
        lab.client.bind_vip_to_pool(binding("web", vip)).await.unwrap();
    }

    // Snapshots follow changes; they are no part of the answer to them.
    let mut stream = lab.watch(everything()).await;
    let told = until(&mut stream, |told| told.vips.len() == 2).await;
    let of_node = told.settings.clone().unwrap();
    assert!(of_node.gue_variant_0 && of_node.second_chance);
    assert_eq!(of_node.quic, [QuicConfiguration { encrypted: true, ..quic }]);
    assert_eq!(told.vips[0].affinity, affinity);
    let clamps = told.vips.iter().map(|vip| (vip.mss_clamp, vip.mss_clamp_auto));
    assert_eq!(clamps.collect::<Vec<_>>(), [(1400, false), (0, true)]);
    assert_eq!(told.backends[0].quic_server_ids, [vec![7]]);

    // An empty list in a replacement takes them away, an empty list of ids those.
    let without = PoolSettings { quic: Vec::new(), ..shown };
    lab.client.update_pool(replace(without)).await.unwrap();
    let update = UpdateBackendReq {
        backend_id: "a".into(),
        quic_server_ids: Some(QuicServerIds::default()),
        ..UpdateBackendReq::default()
    };
    lab.client.update_backend(update).await.unwrap();
    assert!(lab.backend("a").await.unwrap().quic_server_ids.is_empty());
    let again = create(&mut lab.client, "web", settings).await.unwrap_err();
    assert_eq!(again.code(), Code::AlreadyExists, "{again}");
}
