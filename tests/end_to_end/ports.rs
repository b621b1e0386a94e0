//! Every kind of port carries every request, and spreads them as the table says.

use crate::lab::{Lab, VIP, is_root, script};

/// Requests sent to each kind of port.
const REQUESTS: usize = 1_000;

fn every_request_is_answered(options: &[&str], config: &[&str]) {
    if !is_root() {
        return;
    }
    let mut lab = Lab::up(options);
    let config = lab.config(config);
    lab.start_node(&config);
    let ping = lab.on("client", &["ping", "-q", "-c", "5", "-i", "0.1", "-W", "2", VIP]);
    assert!(ping.status.success(), "{}", String::from_utf8_lossy(&ping.stdout));

    let answers = lab.requests(REQUESTS);
    let failed: Vec<_> = answers.iter().filter_map(|answer| answer.as_ref().err()).collect();
    assert!(failed.is_empty(), "{} failed, such as {:?}", failed.len(), failed.first());
    spread_is_as_the_table_says(&lab, &answers);

    // The node saw every connection, and lost no packet of any.
    let vip = format!("vip=\"{VIP}:80/tcp\"");
    assert!(lab.metric(&format!("weir_vip_new_flows_total{{{vip}")) >= REQUESTS as u64);
    for reason in ["transmit_full", "no_buffer", "no_backend", "neighbour_unresolved"] {
        assert_eq!(lab.metric(&format!("weir_drops_total{{reason=\"{reason}\"}}")), 0, "{reason}");
    }
    assert_eq!(lab.stop_node("-TERM"), Some(0), "{}", lab.log());
    assert!(!lab.log().contains("panicked"), "{}", lab.log());
}

/// Slots within Maglev's bound (1 % and a slot, SPEC section 3), requests within 5 sigma of them.
fn spread_is_as_the_table_says(lab: &Lab, answers: &[Result<String, String>]) {
    let pool = lab.json("/admin/pools/web");
    let backends = pool["backends"].as_array().unwrap();
    let slots: Vec<f64> =
        backends.iter().map(|backend| backend["slots"].as_f64().unwrap()).collect();
    let total: f64 = slots.iter().sum();
    assert_eq!(total, 65_537.0);
    let mean = total / slots.len() as f64;
    for slots in &slots {
        assert!(*slots <= mean * 1.01 + 1.0, "{slots} slots, {mean} on average");
    }
    for (backend, slots) in backends.iter().zip(&slots) {
        let id = backend["id"].as_str().unwrap();
        let got = answers.iter().filter(|answer| answer.as_deref() == Ok(id)).count() as f64;
        let share = slots / total;
        let expected = share * answers.len() as f64;
        let sigma = (expected * (1.0 - share)).sqrt();
        assert!((got - expected).abs() <= 5.0 * sigma, "{id}: {got}, expected {expected:.0}");
    }
}

/// Reserves hugepages for a node; a machine that has none to give is said to be one.
fn with_hugepages(test: impl FnOnce()) {
    if !is_root() {
        return;
    }
    let output = script("hugepages.sh", &["640"]);
    if !output.status.success() {
        eprintln!("no hugepages to be had here: {}", String::from_utf8_lossy(&output.stderr));
        return;
    }
    test();
}

#[test]
fn net_tap_on_ordinary_pages() {
    every_request_is_answered(&["--port", "net_tap"], &["--hugepages", "false"]);
}

#[test]
fn net_tap_on_hugepages() {
    with_hugepages(|| {
        every_request_is_answered(&["--port", "net_tap"], &["--hugepages", "true"]);
    });
}

#[test]
fn net_af_packet_on_ordinary_pages() {
    every_request_is_answered(&["--port", "net_af_packet"], &["--hugepages", "false"]);
}

#[test]
fn net_af_packet_on_hugepages() {
    with_hugepages(|| {
        every_request_is_answered(&["--port", "net_af_packet"], &["--hugepages", "true"]);
    });
}

#[test]
fn net_af_xdp_on_ordinary_pages() {
    every_request_is_answered(&["--port", "net_af_xdp"], &["--hugepages", "false"]);
}

#[test]
fn net_af_xdp_on_hugepages() {
    with_hugepages(|| {
        every_request_is_answered(&["--port", "net_af_xdp"], &["--hugepages", "true"]);
    });
}

#[test]
fn two_workers_on_two_queues() {
    let options = ["--port", "net_af_packet", "--queues", "2"];
    every_request_is_answered(&options, &["--hugepages", "false"]);
}

#[test]
fn l2dsr_leaves_packets_as_they_are() {
    let options = ["--port", "net_tap", "--mode", "l2dsr"];
    every_request_is_answered(&options, &["--hugepages", "false"]);
}
