//! `/metrics`: the format, the numbers, the documents.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use axum::http::StatusCode;
use control::admin::metrics::METRICS;
use dataplane::verdict::DropReason;

use crate::exposition::{Family, find, parse, value};
use crate::lab::{CONFIG, Lab, SECOND, config, syn, tcp, udp};

async fn scrape(lab: &Lab) -> Vec<Family> {
    let reply = lab.get("/metrics").await;
    assert_eq!(reply.status, StatusCode::OK);
    assert_eq!(reply.headers["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    parse(&reply.body)
}

#[tokio::test]
async fn every_metric_is_there_as_declared_with_a_sample_and_no_other() {
    let lab = Lab::new(2);
    // A way to a controller, refusals and overrides included, adds its own.
    let status = Arc::new(control::watch::Status::new(|| 0));
    let mut feed = control::watch::Feed::new(lab.state.node().clone(), status);
    let pool = |id: &str| proto::v1::PoolSnapshot {
        pool_id: id.to_owned(),
        store_id: "s".to_owned(),
        ..proto::v1::PoolSnapshot::default()
    };
    feed.take(vec![pool("bad")]);
    control::overrides::set_drained(lab.state.node(), "web", "host-1", true).expect("drained");
    let families = scrape(&lab).await;
    let names: Vec<&str> = families.iter().map(|family| family.name.as_str()).collect();
    let declared: Vec<&str> = METRICS.iter().map(|metric| metric.name).collect();
    let sorted =
        |names: &[&str]| names.iter().map(|name| name.to_string()).collect::<BTreeSet<_>>();
    assert_eq!(sorted(&names), sorted(&declared));
    assert_eq!(names.len(), declared.len());
    for metric in METRICS {
        let family = families.iter().find(|family| family.name == metric.name).expect("it");
        assert_eq!(family.kind, metric.kind.name(), "{}", metric.name);
        assert_eq!(family.help, metric.help, "{}", metric.name);
        // Nothing of the controller's is in force here.
        let absent = metric.name == "weir_snapshot_version";
        assert_eq!(family.samples.is_empty(), absent, "{} has a sample", metric.name);
        let labels: BTreeSet<&str> = metric.labels.iter().copied().collect();
        for (have, _) in &family.samples {
            let have: BTreeSet<&str> = have.keys().map(String::as_str).collect();
            assert_eq!(have, labels, "{}", metric.name);
        }
        assert!(metric.name.starts_with("weir_"), "{}", metric.name);
        let is_counter = metric.kind.name() == "counter";
        assert_eq!(metric.name.ends_with("_total"), is_counter, "{}", metric.name);
    }
}

#[tokio::test]
async fn traffic_is_counted_per_vip_and_backend_and_added_up_over_workers() {
    let mut lab = Lab::new(2);
    lab.receive(0, (0..30).map(|port| syn([203, 0, 113, 1], 1000 + port, 80)));
    // The same flows again: packets, and no new flows.
    lab.receive(0, (0..10).map(|port| tcp([203, 0, 113, 1], 1000 + port, 80, 0x10)));
    lab.receive(1, (0..12).map(|port| syn([203, 0, 113, 1], 2000 + port, 80)));
    lab.receive(1, (0..7).map(|port| udp([203, 0, 113, 2], 3000 + port, 53, 12)));
    let families = scrape(&lab).await;
    let vip = [("vip", "203.0.113.1:80/tcp"), ("pool", "web")];
    assert_eq!(value(&families, "weir_vip_packets_total", &vip), 52.0);
    assert_eq!(value(&families, "weir_vip_bytes_total", &vip), 52.0 * 40.0);
    assert_eq!(value(&families, "weir_vip_new_flows_total", &vip), 42.0);
    assert_eq!(value(&families, "weir_vip_active_flows", &vip), 42.0);
    let idle = [("vip", "203.0.113.1:8000-8099/tcp")];
    assert_eq!(value(&families, "weir_vip_packets_total", &idle), 0.0);
    let dns = [("pool", "dns"), ("backend", "host-1")];
    assert_eq!(value(&families, "weir_backend_packets_total", &dns), 7.0);
    assert_eq!(value(&families, "weir_backend_bytes_total", &dns), 7.0 * 40.0);
    assert_eq!(value(&families, "weir_backend_active_flows", &dns), 7.0);
    let sum = |name, labels: &[(&str, &str)]| find(&families, name, labels).iter().sum::<f64>();
    let web = [("pool", "web")];
    assert_eq!(sum("weir_backend_packets_total", &web), 52.0);
    assert_eq!(sum("weir_backend_new_flows_total", &web), 42.0);
    for (worker, forwarded, entries) in [("0", 40.0, 30.0), ("1", 19.0, 19.0)] {
        let of = |name| value(&families, name, &[("worker", worker)]);
        assert_eq!(of("weir_worker_received_packets_total"), forwarded);
        assert_eq!(of("weir_worker_forwarded_packets_total"), forwarded);
        assert_eq!(of("weir_worker_transmitted_packets_total"), forwarded);
        assert_eq!(of("weir_conntrack_entries"), entries);
        assert_eq!(of("weir_conntrack_inserts_total"), entries);
        assert_eq!(of("weir_conntrack_misses_total"), entries);
        assert_eq!(of("weir_conntrack_hits_total"), forwarded - entries);
        assert!(of("weir_conntrack_capacity") >= 20_000.0);
        assert_eq!(of("weir_worker_dropped_packets_total"), 0.0);
    }
}

#[tokio::test]
async fn backends_show_state_weight_slots_address_and_reachability() {
    let families = scrape(&Lab::new(1)).await;
    let draining = [("pool", "web"), ("backend", "host-3")];
    let state = |state| {
        let labels = [draining[0], draining[1], ("state", state)];
        value(&families, "weir_backend_state", &labels)
    };
    assert_eq!(["active", "draining", "unhealthy", "evicted"].map(state), [0.0, 1.0, 0.0, 0.0]);
    assert_eq!(value(&families, "weir_backend_reachable", &draining), 0.0);
    assert_eq!(value(&families, "weir_backend_slots", &draining), 0.0);
    let second = [("pool", "web"), ("backend", "host-2")];
    assert_eq!(value(&families, "weir_backend_reachable", &second), 1.0);
    assert_eq!(value(&families, "weir_backend_weight", &second), 50.0);
    let info = [second[0], second[1], ("address", "192.0.2.12")];
    assert_eq!(value(&families, "weir_backend_info", &info), 1.0);
    let slots: f64 = find(&families, "weir_backend_slots", &[("pool", "web")]).iter().sum();
    assert_eq!(slots, value(&families, "weir_pool_slots", &[("pool", "web")]));
    assert_eq!(value(&families, "weir_pool_eligible_backends", &[("pool", "web")]), 2.0);
}

#[tokio::test]
async fn drops_have_every_reason_also_at_0() {
    let mut lab = Lab::new(2);
    lab.receive(0, [syn([203, 0, 113, 9], 1, 80), syn([203, 0, 113, 9], 2, 80)]);
    lab.receive(1, [syn([203, 0, 113, 1], 1, 81)]);
    let families = scrape(&lab).await;
    let drops = families.iter().find(|family| family.name == "weir_drops_total").expect("it");
    assert_eq!(drops.samples.len(), DropReason::COUNT);
    for reason in DropReason::ALL {
        let expected = if *reason == DropReason::NoVip { 3.0 } else { 0.0 };
        let labels = [("reason", reason.name())];
        assert_eq!(value(&families, "weir_drops_total", &labels), expected, "{}", reason.name());
    }
    assert_eq!(value(&families, "weir_worker_dropped_packets_total", &[("worker", "0")]), 2.0);
}

#[tokio::test]
async fn node_ports_neighbours_and_buffers_are_shown() {
    let lab = Lab::new(2);
    lab.pass(SECOND / 2);
    let families = scrape(&lab).await;
    let build = [("node", "lb-a1"), ("zone", "az-a"), ("version", env!("CARGO_PKG_VERSION"))];
    assert_eq!(value(&families, "weir_build_info", &build), 1.0);
    assert_eq!(value(&families, "weir_uptime_seconds", &[]), 0.5);
    assert_eq!(value(&families, "weir_ready", &[]), 1.0);
    assert_eq!(value(&families, "weir_worker_tick_age_seconds", &[("worker", "1")]), 0.5);
    let uplink = [("port", "uplink")];
    assert_eq!(value(&families, "weir_port_link_up", &uplink), 1.0);
    for (name, expected) in [
        ("weir_port_received_packets_total", 11.0),
        ("weir_port_transmitted_packets_total", 12.0),
        ("weir_port_missed_packets_total", 13.0),
        ("weir_port_receive_errors_total", 14.0),
        ("weir_port_transmit_errors_total", 15.0),
        ("weir_port_no_buffer_total", 16.0),
    ] {
        assert_eq!(value(&families, name, &uplink), expected, "{name}");
    }
    assert_eq!(value(&families, "weir_worker_buffers_available", &[("worker", "1")]), 1001.0);
    let neighbour = |address, state| {
        let labels = [("port", "uplink"), ("address", address), ("state", state)];
        value(&families, "weir_neighbour_state", &labels)
    };
    assert_eq!(neighbour("192.0.2.11", "static"), 1.0);
    assert_eq!(neighbour("192.0.2.13", "incomplete"), 1.0);
    assert_eq!(neighbour("192.0.2.13", "reachable"), 0.0);
}

#[tokio::test]
async fn reloads_and_generations_are_counted_and_what_is_gone_disappears() {
    let mut lab = Lab::new(1);
    lab.receive(0, [udp([203, 0, 113, 2], 3000, 53, 12)]);
    let without_dns = {
        let (head, rest) = CONFIG.split_once("[[pool]]\nid = \"dns\"").expect("the pool");
        let (_, vips) = rest.split_once("[[vip]]").expect("a VIP");
        let (vips, _) = vips.split_once("[[vip]]\naddress = \"203.0.113.2\"").expect("the VIP");
        format!("{head}[[vip]]{vips}")
    };
    let now_ms = lab.now_ms();
    let before = value(&scrape(&lab).await, "weir_tables_generation", &[]);
    lab.state.lock_node().reload(config(&without_dns), now_ms).expect("a reload");
    let families = scrape(&lab).await;
    assert!(find(&families, "weir_vip_packets_total", &[("pool", "dns")]).is_empty());
    let leaving = [("pool", "dns"), ("backend", "host-1"), ("state", "draining")];
    assert_eq!(value(&families, "weir_backend_state", &leaving), 1.0);
    assert_eq!(value(&families, "weir_tables_generation", &[]), before + 1.0);
    assert_eq!(value(&families, "weir_worker_tables_generation", &[("worker", "0")]), before);
    assert_eq!(value(&families, "weir_tables_outstanding", &[]), 1.0);

    lab.poll();
    let gone_ms = now_ms + 61_000 + control::statics::EVICTED_SHOWN_MS;
    lab.state.lock_node().step(now_ms + 61_000);
    lab.state.lock_node().step(gone_ms);
    lab.state.lock_node().reload_refused("no".to_owned());
    let families = scrape(&lab).await;
    assert!(find(&families, "weir_backend_state", &[("pool", "dns")]).is_empty());
    assert!(find(&families, "weir_pool_version", &[("pool", "dns")]).is_empty());
    assert_eq!(value(&families, "weir_reloads_total", &[("result", "applied")]), 1.0);
    assert_eq!(value(&families, "weir_reloads_total", &[("result", "refused")]), 1.0);
    assert_eq!(value(&families, "weir_config_stale", &[]), 1.0);
}

#[tokio::test]
async fn thousands_of_vips_and_hundreds_of_backends_render_in_no_time() {
    let mut text = CONFIG.to_owned();
    for vip in 0..5000 {
        let (high, low) = (vip / 250, vip % 250 + 1);
        text += &format!(
            "[[vip]]\naddress = \"203.1.{high}.{low}\"\nport = 80\nprotocol = \"tcp\"\npool = \"web\"\n"
        );
    }
    let lab = Lab::with(&text, 1);
    let begun = std::time::Instant::now();
    let reply = lab.get("/metrics").await;
    let taken = begun.elapsed();
    // Generous: this is a debug build, perhaps on a busy machine.
    assert!(taken.as_secs_f64() < 2.0, "{taken:?}");
    let families = parse(&reply.body);
    assert_eq!(find(&families, "weir_vip_packets_total", &[("pool", "web")]).len(), 5002);
}

/// The rows of a document's tables: cells without the marks of code.
fn rows(file: &str) -> Vec<Vec<String>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(file);
    let text = std::fs::read_to_string(path).expect("the document");
    let cells = |line: &str| -> Vec<String> {
        let cells = line.trim().trim_start_matches('|').trim_end_matches('|').split(" | ");
        cells.map(|cell| cell.trim().to_owned()).collect()
    };
    text.lines().filter(|line| line.starts_with("| `")).map(cells).collect()
}

#[test]
fn docs_metrics_has_exactly_the_metrics() {
    let mut documented = BTreeMap::new();
    for row in rows("metrics.md") {
        assert_eq!(row.len(), 6, "a row has six cells: {row:?}");
        assert!(!row[5].is_empty(), "a row says what to alert on, or -: {row:?}");
        let before = documented.insert(row[0].clone(), row[1..5].to_vec());
        assert!(before.is_none(), "{} is there twice", row[0]);
    }
    for metric in METRICS {
        let row = documented.remove(&format!("`{}`", metric.name));
        let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        let labels = if labels.is_empty() { "-".to_owned() } else { labels.join(", ") };
        let expected = [metric.kind.name(), &labels, metric.unit, metric.help];
        assert_eq!(row.expect(metric.name), expected, "{}", metric.name);
    }
    assert!(documented.is_empty(), "documented but not there: {documented:?}");
}

#[test]
fn docs_drop_reasons_has_exactly_the_reasons_in_their_order() {
    let rows = rows("drop-reasons.md");
    let names: Vec<&str> = rows.iter().map(|row| row[0].trim_matches('`')).collect();
    let expected: Vec<&str> = DropReason::ALL.iter().map(|reason| reason.name()).collect();
    assert_eq!(names, expected);
    for (row, reason) in rows.iter().zip(DropReason::ALL) {
        assert_eq!(row.len(), 3, "a row has three cells: {row:?}");
        assert_eq!(row[1], reason.description(), "{}", reason.name());
        assert!(!row[2].is_empty(), "{} says what to check", reason.name());
    }
}
