//! Pools, VIPs and backends, one at a time.

use crate::support::{Bench, run_at};

#[tokio::test]
async fn a_pool_is_created_shown_changed_and_deleted() {
    let bench = Bench::start().await;
    assert_eq!(bench.ok("pool list").await, "no pools\n");
    let created = bench.ok("pool create web --drain-seconds 30 --reselect true").await;
    assert_eq!(created, "pool web created\n");
    bench.ok("pool create web --drain-seconds 30 --reselect true").await;
    let message = bench.fails("pool create web --drain-seconds 31").await;
    assert!(message.contains("it is there already, and different"), "{message}");

    let pool = bench.json("pool show web").await;
    assert_eq!(pool["settings"]["drain_seconds"], 30);
    assert_eq!(pool["settings"]["table_size"], 65_537);
    assert_eq!(pool["settings"]["scheduler"], "MAGLEV");
    assert_eq!(pool["settings"]["hash_secret"], "", "secrets are for nodes");

    bench.ok("pool update web --probe-interval-ms 1500 --slow-start-seconds 9").await;
    // What is taken back needs all settings, the others stay.
    bench.ok("pool update web --reselect false --slow-start-seconds 0").await;
    let settings = &bench.json("pool show web").await["settings"];
    assert_eq!(settings["reselect"], false);
    assert_eq!(settings["slow_start_seconds"], 0);
    assert_eq!(settings["drain_seconds"], 30);
    assert_eq!(settings["probe"]["interval_ms"], 1500);
    bench.ok("pool update web --rotate-secret").await;

    let table = bench.ok("pool list").await;
    let lines: Vec<Vec<&str>> =
        table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0][0], "POOL");
    assert_eq!(lines[1][0], "web");
    assert_eq!(lines[1][2..], ["maglev", "ipip", "65537", "0", "0", "0", "ok"]);
    let shown = bench.ok("pool show web").await;
    assert!(shown.contains("drain_seconds") && shown.contains("no backends"), "{shown}");

    let message = bench.fails("pool update web --table-size 65536").await;
    assert!(message.contains("settings.table_size"), "the field is named: {message}");
    assert_eq!(bench.ok("pool delete web").await, "pool web deleted\n");
    let message = bench.fails("pool show web").await;
    assert!(message.starts_with("GetPool: there is no such thing"), "{message}");
    bench.stop().await;
}

#[tokio::test]
async fn a_vip_is_bound_listed_and_unbound() {
    let bench = Bench::start().await;
    bench.ok("pool create web").await;
    bench.ok("pool create dns").await;
    let bound = bench.ok("vip bind web 203.0.113.1:80/tcp --established-seconds 900").await;
    assert_eq!(bound, "203.0.113.1:80/tcp is served by pool web\n");
    bench.ok("vip bind web 203.0.113.1:80/tcp --established-seconds 900").await;
    bench.ok("vip bind dns 203.0.113.0/28:any/udp").await;
    bench.ok("vip bind dns [2001:db8::1]:53/tcp --mss-clamp 1400").await;
    let message = bench.fails("vip bind dns 203.0.113.1:80/tcp").await;
    assert!(message.contains("bound to pool \"web\""), "{message}");

    let message = bench.fails("vip bind dns 203.0.113.1:80/tcp --from other").await;
    assert!(message.contains("cannot be done as things are"), "{message}");
    for (pool, from) in [("dns", "web"), ("web", "dns")] {
        let line = format!("vip bind {pool} 203.0.113.1:80/tcp --from {from}");
        let line = format!("{line} --established-seconds 900");
        let moved = format!("203.0.113.1:80/tcp is served by pool {pool}\n");
        assert_eq!(bench.ok(&line).await, moved);
    }

    let vips = bench.json("vip list --pool web").await;
    assert_eq!(vips["vips"][0]["vip"]["established_seconds"], 900);
    assert_eq!(vips["vips"][0]["vip"]["protocol"], "PROTOCOL_TCP");
    let table = bench.ok("vip list").await;
    assert_eq!(table.lines().count(), 4, "{table}");
    let clamped = |line: &&str| line.starts_with('[') && line.trim_end().ends_with(" 1400");
    assert_eq!(table.lines().filter(clamped).count(), 1, "{table}");
    assert!(table.contains("203.0.113.0/28:any/udp  dns   30s"), "{table}");

    let message = bench.fails("pool delete web").await;
    assert!(message.contains("cannot be done as things are"), "{message}");
    bench.ok("vip unbind 203.0.113.1:80/tcp").await;
    let message = bench.fails("vip unbind 203.0.113.1:80/tcp").await;
    assert!(message.starts_with("UnbindVIP: there is no such thing"), "{message}");
    bench.ok("pool delete web").await;
    bench.stop().await;
}

#[tokio::test]
async fn a_backend_is_registered_changed_drained_and_deregistered() {
    let bench = Bench::start().await;
    bench.ok("pool create web --drain-seconds 3600").await;
    let register = "backend register web b1 --ip 192.0.2.11 --port 80 --label az=a --label rack=7";
    assert_eq!(bench.ok(register).await, "backend b1 registered in pool web\n");
    bench.ok(register).await;
    let message = bench.fails(&register.replace("80", "81")).await;
    assert!(message.contains("port") && message.contains("with an update"), "{message}");

    bench.ok("backend update b1 --weight 7 --label rack=8 --remove-label az").await;
    let backend = bench.json("backend show b1").await;
    assert_eq!(backend["weight"], 7);
    assert_eq!(backend["labels"], serde_json::json!({ "rack": "8" }));
    assert_eq!(backend["state"], "PENDING");
    let shown = bench.ok("backend show b1").await;
    assert!(shown.contains("192.0.2.11:80") && shown.contains("pending"), "{shown}");
    let table = bench.ok("backend list --pool web").await;
    assert!(table.lines().nth(1).is_some_and(|line| line.starts_with("b1 ")), "{table}");
    let message = bench.fails("backend list --pool none").await;
    assert!(message.contains("there is no such thing"), "{message}");

    assert_eq!(bench.ok("drain b1").await, "backend b1 drains: no new flows\n");
    assert_eq!(bench.json("backend show b1").await["state"], "DRAINING");
    assert_eq!(bench.ok("drain b1 --undo").await, "backend b1 drains no more\n");
    assert_eq!(bench.json("backend show b1").await["state"], "PENDING");
    let message = bench.fails("drain b1 --undo").await;
    assert!(message.contains("not draining"), "{message}");

    bench.ok("backend deregister b1").await;
    let backend = bench.json("backend show b1").await;
    assert_eq!((&backend["state"], &backend["deregistered"]), (&"DRAINING".into(), &true.into()));
    bench.ok("backend deregister b1 --now").await;
    assert_eq!(bench.json("backend show b1").await["state"], "EVICTED");
    bench.stop().await;
}

#[tokio::test]
async fn who_cannot_be_reached_is_named_and_it_does_not_take_for_ever() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let done = run_at(&endpoint, "pool list --timeout 1").await;
    assert_eq!(done.code, 1);
    assert!(done.errors.contains(&endpoint), "{}", done.errors);
    assert!(done.errors.contains("check --endpoint"), "{}", done.errors);
    let done = run_at("ftp://host", "pool list").await;
    assert_eq!(done.code, 2, "{}", done.errors);
    let done = run_at("http://192.0.2.1:9190", "pool list --token-file /none").await;
    assert_eq!(done.code, 2, "{}", done.errors);
}
