//! `/admin/pools` and `/admin/pools/{id}`.

use axum::http::StatusCode;
use serde_json::json;

use crate::lab::{CONFIG, Lab, SECRET, syn, udp};

#[tokio::test]
async fn list_has_every_pool_in_short() {
    let lab = Lab::new(1);
    let list = lab.get("/admin/pools").await.json();
    let pools = list["pools"].as_array().expect("a list");
    let ids: Vec<_> = pools.iter().map(|pool| pool["id"].as_str().expect("an id")).collect();
    assert_eq!(ids, ["dns", "web"]);
    assert_eq!(pools[0]["scheduler"], "ring");
    assert_eq!(pools[0]["table_size"], json!(null));
    assert_eq!(pools[0]["forwarding"], "l2dsr");
    assert_eq!(pools[1]["scheduler"], "maglev");
    assert_eq!(pools[1]["table_size"], 1009);
    assert_eq!(pools[1]["forwarding"], "ipip");
    assert_eq!(pools[1]["vips"], json!(["203.0.113.1:80/tcp", "203.0.113.1:8000-8099/tcp"]));
    assert_eq!(pools[1]["backend_states"], json!({ "active": 2, "draining": 1 }));
    assert_eq!(pools[1]["digest"].as_str().expect("a digest").len(), 64);
}

#[tokio::test]
async fn pool_shows_membership_spread_and_next_hops() {
    let lab = Lab::new(1);
    let reply = lab.get("/admin/pools/web").await;
    assert_eq!(reply.status, StatusCode::OK);
    let pool = reply.json();
    assert_eq!((&pool["id"], &pool["version"]), (&json!("web"), &json!(1)));
    let backends = pool["backends"].as_array().expect("a list");
    assert_eq!(backends.len(), 3);
    assert_eq!(backends[0]["id"], "host-1");
    assert_eq!(backends[0]["address"], "192.0.2.11");
    assert_eq!(backends[0]["state"], "active");
    assert_eq!(backends[0]["weight"], 100);
    assert_eq!(
        backends[0]["next_hop"],
        json!({
            "port": "uplink",
            "address": "192.0.2.11",
            "state": "static",
            "mac": "02:00:00:00:00:11",
        })
    );
    assert_eq!(backends[2]["state"], "draining");
    assert_eq!(backends[2]["slots"], 0);
    assert_eq!(backends[2]["next_hop"]["state"], "incomplete");
    assert_eq!(backends[2]["next_hop"]["mac"], json!(null));
    let slots: Vec<u64> = backends.iter().map(|b| b["slots"].as_u64().expect("slots")).collect();
    assert_eq!(slots.iter().sum::<u64>(), 1009);
    assert!((672..=673).contains(&slots[0]), "two thirds: {slots:?}");
    let share = |backend: usize, key: &str| backends[backend][key].as_f64().expect("a number");
    assert!((share(0, "share_expected") - 2.0 / 3.0).abs() < 1e-9);
    assert!((share(0, "share_actual") - slots[0] as f64 / 1009.0).abs() < 1e-9);
    let balance = &pool["balance"];
    assert_eq!((&balance["eligible"], &balance["slots"]), (&json!(2), &json!(1009)));
    assert!((balance["max_over_mean"].as_f64().expect("a number") - 4.0 / 3.0).abs() < 0.01);
    assert!((balance["max_over_expected"].as_f64().expect("a number") - 1.0).abs() < 0.01);
}

#[tokio::test]
async fn pool_counts_the_traffic_of_all_workers() {
    let mut lab = Lab::new(2);
    lab.receive(0, (0..30).map(|port| syn([203, 0, 113, 1], 1000 + port, 80)));
    lab.receive(1, (0..12).map(|port| syn([203, 0, 113, 1], 2000 + port, 8001)));
    lab.receive(1, [udp([203, 0, 113, 2], 5, 53, 10)]);
    let pool = lab.get("/admin/pools/web").await.json();
    let of_vip = |vip: usize| {
        let vip = &pool["vips"][vip];
        [&vip["packets"], &vip["bytes"], &vip["new_flows"], &vip["active_flows"]]
            .map(|number| number.as_u64().expect("a number"))
    };
    assert_eq!(of_vip(0), [30, 1200, 30, 30]);
    assert_eq!(of_vip(1), [12, 480, 12, 12]);
    let total = |key: &str| {
        let backends = pool["backends"].as_array().expect("a list");
        backends.iter().map(|backend| backend[key].as_u64().expect("a number")).sum::<u64>()
    };
    assert_eq!(["packets", "bytes", "new_flows", "active_flows"].map(total), [42, 1680, 42, 42]);
    assert_eq!(pool["backends"][2]["packets"], 0, "one that drains gets no new flows");
    let dns = lab.get("/admin/pools/dns").await.json();
    assert_eq!(dns["backends"][0]["bytes"], 38);
}

#[tokio::test]
async fn unknown_pool_is_a_404_that_names_the_known_ones() {
    let reply = Lab::new(1).get("/admin/pools/wep").await;
    assert_eq!(reply.status, StatusCode::NOT_FOUND);
    assert_eq!(
        reply.json(),
        json!({ "error": "there is no pool \"wep\"", "pools": ["dns", "web"] })
    );
}

#[tokio::test]
async fn a_pool_without_backends_is_an_ordinary_pool() {
    let (head, rest) = CONFIG.split_once("  [[pool.backend]]").expect("a backend");
    let (_, tail) = rest.split_once("[[pool]]").expect("another pool");
    let lab = Lab::with(&format!("{head}[[pool]]{tail}"), 1);
    let pool = lab.get("/admin/pools/web").await.json();
    assert_eq!(pool["backends"], json!([]));
    assert_eq!(pool["balance"]["eligible"], 0);
    crate::exposition::parse(&lab.get("/metrics").await.body);
}

#[tokio::test]
async fn the_hash_secret_is_shown_nowhere() {
    let mut lab = Lab::new(1);
    lab.receive(0, [syn([203, 0, 113, 1], 1, 80)]);
    let bytes: Vec<String> = (0..16)
        .map(|at| u8::from_str_radix(&SECRET[2 * at..2 * at + 2], 16).expect("hex").to_string())
        .collect();
    let numbers = bytes.join(",");
    // Not even by way of a refused file.
    let bad = CONFIG.replace(&SECRET[..32], &SECRET[..30]);
    let errors = config::Config::parse(&bad, "bad.toml").expect_err("a short secret");
    lab.state.lock_node().reload_refused(errors.to_string());
    for path in ["/", "/readyz", "/metrics", "/admin/pools", "/admin/pools/web", "/nothing"] {
        let body = lab.get(path).await.body;
        assert!(!body.to_lowercase().contains(&SECRET[..30]), "{path}");
        assert!(!body.replace(' ', "").contains(&numbers), "{path}");
    }
}
