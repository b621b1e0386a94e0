//! The node's own probes: a backend without its VIP and one without its service are found, told
//! apart, and seen to come back. What the node finds it only shows: without a controller nobody
//! is taken out.

use serde_json::Value;

use crate::lab::{Lab, VIP, VIP6, is_root, wait_for};

/// Seconds allowed for a verdict: 3 probes, and a machine that is busy otherwise.
const PATIENCE: u64 = 30;

fn tunnel(lab: &Lab, backend: &str) -> (String, String) {
    let pool = lab.json("/admin/pools/web");
    let rows = pool["backends"].as_array().unwrap();
    let row = rows.iter().find(|row| row["id"] == backend).unwrap();
    let word = |key: &str| row["tunnel"][key].as_str().unwrap().to_owned();
    assert_eq!(row["state"], Value::from("active"), "the node takes nobody out");
    (word("state"), word("detail"))
}

fn becomes(lab: &Lab, backend: &str, state: &str, detail: &str) {
    wait_for(&format!("{backend} {state}, {detail:?}"), PATIENCE, || {
        let found = tunnel(lab, backend);
        (found.0 == state && found.1.contains(detail)).then_some(())
    });
}

fn on(lab: &Lab, host: &str, command: &[&str]) {
    let output = lab.on(host, command);
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn losses_are_found_and_told_apart(mode: &str) {
    if !is_root() {
        return;
    }
    let mut lab = Lab::up(&["--mode", mode, "--backends", "3"]);
    let config = lab.config(&["--hugepages", "false"]);
    lab.start_node(&config);
    for backend in ["b1", "b2", "b3"] {
        becomes(&lab, backend, "up", "answers");
    }

    // Its VIP is gone: its own address, which checkers ask, answers as before.
    // The lab makes all of the VIPs' prefix local, so that has to go with it.
    let vip = format!("{VIP}/32");
    on(&lab, "b1", &["ip", "addr", "del", &vip, "dev", "lo"]);
    on(&lab, "b1", &["ip", "route", "del", "local", "203.0.113.0/24", "dev", "lo"]);
    becomes(&lab, "b1", "down", "no answer from 203.0.113.1:80 through the tunnel");
    // Its service is gone: the kernel refuses. Only sockets of b2's own namespace are seen here.
    let listeners = "ss -Hltnp 'sport = :80' | grep -o 'pid=[0-9]*' | cut -d= -f2 | sort -u";
    on(&lab, "b2", &["sh", "-c", &format!("kill $({listeners})")]);
    becomes(&lab, "b2", "up", "203.0.113.1:80 refuses connections");
    assert_eq!(lab.metric("weir_tunnel_probe_refused{"), 1);
    becomes(&lab, "b3", "up", "answers");
    assert_eq!(lab.metric("weir_tunnel_probe_down{"), 1);

    on(&lab, "b1", &["ip", "addr", "add", &vip, "dev", "lo"]);
    becomes(&lab, "b1", "up", "answers");
    assert_eq!(lab.metric("weir_tunnel_probe_down{"), 0);
    assert_eq!(lab.stop_node("-TERM"), Some(0), "{}", lab.log());
}

/// Backends with IPv6 addresses, and VIPs of both families: a backend that loses the IPv6 one still
/// answers at the other, through the same tunnel.
fn a_lost_ipv6_vip_is_found(mode: &str) {
    if !is_root() {
        return;
    }
    let families = ["--families", "46", "--backend-family", "6"];
    let mut lab = Lab::up(&[&families[..], &["--mode", mode, "--backends", "2"]].concat());
    let config = lab.config(&["--hugepages", "false"]);
    lab.start_node(&config);
    for backend in ["b1", "b2"] {
        becomes(&lab, backend, "up", "answers");
    }
    let vip = format!("{VIP6}/128");
    on(&lab, "b1", &["ip", "addr", "del", &vip, "dev", "lo"]);
    on(&lab, "b1", &["ip", "route", "del", "local", "2001:db8:cafe::/64", "dev", "lo"]);
    let silence = format!("no answer from [{VIP6}]:80 through the tunnel");
    let down = |count: u64| {
        wait_for(&format!("{count} down"), PATIENCE, || {
            (lab.metric("weir_tunnel_probe_down{") == count).then_some(())
        });
    };
    becomes(&lab, "b1", "down", &silence);
    becomes(&lab, "b2", "up", "answers");
    down(1);

    on(&lab, "b1", &["ip", "addr", "add", &vip, "dev", "lo", "nodad"]);
    becomes(&lab, "b1", "up", "answers");
    down(0);
    assert_eq!(lab.stop_node("-TERM"), Some(0), "{}", lab.log());
}

#[test]
fn a_lost_ipv6_vip_is_found_through_gue_over_ipv6() {
    a_lost_ipv6_vip_is_found("gue");
}

#[test]
fn losses_are_found_and_told_apart_through_ipip() {
    losses_are_found_and_told_apart("ipip");
}

#[test]
fn losses_are_found_and_told_apart_with_l2dsr() {
    losses_are_found_and_told_apart("l2dsr");
}
