//! Every mode, over either version of IP, to backends of either family: real clients, whose
//! requests, downloads and pings cross a node that knows its neighbours by ARP and by neighbour
//! discovery only.

use crate::lab::{Lab, VIP, VIP6, is_root, wait_for};

/// Requests of each family.
const REQUESTS: usize = 60;
/// Bytes of the download.
const FILE_BYTES: u64 = 2 << 20;

/// `backends`: the family of their addresses.
fn both_families_are_served(mode: &str, backends: &str) {
    if !is_root() {
        return;
    }
    let mut lab = Lab::up(&[
        "--mode",
        mode,
        "--families",
        "46",
        "--backend-family",
        backends,
        "--backends",
        "2",
        "--file-mib",
        "2",
    ]);
    let config = lab.config(&["--hugepages", "false"]);
    lab.start_node(&config);
    // curl takes brackets for a range unless told otherwise.
    let vips = [(VIP, format!("http://{VIP}")), (VIP6, format!("http://\\[{VIP6}\\]"))];
    for (address, url) in &vips {
        let ping = lab.on("client", &["ping", "-q", "-c", "3", "-i", "0.1", "-W", "2", address]);
        assert!(ping.status.success(), "{}", String::from_utf8_lossy(&ping.stdout));
        let answers = lab.requests_to(url, REQUESTS);
        let failed: Vec<_> = answers.iter().filter_map(|answer| answer.as_ref().err()).collect();
        assert!(
            failed.is_empty(),
            "{address}: {} failed, such as {:?}",
            failed.len(),
            failed.first()
        );
        for backend in ["b1", "b2"] {
            assert!(answers.iter().any(|answer| answer.as_deref() == Ok(backend)), "{backend}");
        }
        download(&lab, url);
    }
    for name in [format!("{VIP}:80/tcp"), format!("[{VIP6}]:80/tcp")] {
        let flows = lab.metric(&format!("weir_vip_new_flows_total{{vip=\"{name}\""));
        assert!(flows > REQUESTS as u64, "{name}: {flows}");
    }
    for reason in ["transmit_full", "no_buffer", "no_backend", "no_route", "bad_ndp"] {
        assert_eq!(lab.metric(&format!("weir_drops_total{{reason=\"{reason}\"}}")), 0, "{reason}");
    }
    if mode != "l2dsr" {
        nothing_was_refused(&lab);
    }
    assert_eq!(lab.stop_node("-TERM"), Some(0), "{}", lab.log());
    assert!(!lab.log().contains("panicked"), "{}", lab.log());
}

/// A download, asked for in packets that fill the way through the node: seven thousand bytes of
/// header, which nginx takes up to eight.
fn download(lab: &Lab, url: &str) {
    let filler = format!("X-Filler: {}", "x".repeat(7_000));
    let fast = format!("{url}/fast");
    let format = "%{http_code} %{size_download}";
    let command =
        ["curl", "-s", "--max-time", "30", "-H", &filler, "-o", "/dev/null", "-w", format, &fast];
    let output = lab.on("client", &command);
    assert_eq!(String::from_utf8_lossy(&output.stdout), format!("200 {FILE_BYTES}"));
}

/// The decapsulators found every packet in order, in all its checksums.
fn nothing_was_refused(lab: &Lab) {
    wait_for("the decapsulators' counters", 10, || {
        let lines = lab.run("decapsulated", &[]);
        let good = |line: &str| {
            let value: serde_json::Value = serde_json::from_str(line).unwrap();
            let stats = &value["stats"];
            assert_eq!(stats["dropped"], serde_json::json!({}), "{line}");
            stats["packets"].as_u64().is_some_and(|packets| packets > 0)
        };
        (lines.lines().count() == 2 && lines.lines().all(good)).then_some(())
    });
}

#[test]
fn ipip_to_ipv4_backends() {
    both_families_are_served("ipip", "4");
}

#[test]
fn ipip_to_ipv6_backends() {
    both_families_are_served("ipip", "6");
}

#[test]
fn gre_to_ipv4_backends() {
    both_families_are_served("gre", "4");
}

#[test]
fn gre_to_ipv6_backends() {
    both_families_are_served("gre", "6");
}

#[test]
fn gue_to_ipv4_backends() {
    both_families_are_served("gue", "4");
}

#[test]
fn gue_to_ipv6_backends() {
    both_families_are_served("gue", "6");
}

#[test]
fn l2dsr_to_ipv4_backends() {
    both_families_are_served("l2dsr", "4");
}

#[test]
fn l2dsr_to_ipv6_backends() {
    both_families_are_served("l2dsr", "6");
}
