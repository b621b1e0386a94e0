//! GUE with a second chance, and `weir-gue` on the backends: flows that a restarted node finds on a
//! slot which has changed hands go on where they began.

use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use etherparse::{Ipv4HeaderSlice, TcpHeader, TcpHeaderSlice};
use serde_json::Value;

use crate::lab::{Lab, VIP, is_root, text, wait_for};
use crate::traffic::{Downloads, established_flows};

/// Long downloads at a time.
const DOWNLOADS: usize = 8;
/// Bytes of the file downloaded.
const FILE_BYTES: u64 = 2 << 20;
/// Seconds that a machine which is busy otherwise may take for anything.
const PATIENCE: u64 = 30;
/// Client ports of connections that never were: half of their slots are b1's.
const UNKNOWN_PORTS: std::ops::Range<u16> = 39_900..39_912;
const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);

/// The receiver: `WEIR_GUE`, or built now, where this test's own program was.
fn receiver() -> String {
    if let Ok(path) = std::env::var("WEIR_GUE") {
        return path;
    }
    let root = env!("CARGO_MANIFEST_DIR");
    let output = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--package", "weir-gue"])
        .current_dir(root)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    // .../debug/weir, or .../release/weir: the receiver is built as for development.
    let program = PathBuf::from(env!("CARGO_BIN_EXE_weir"));
    let target = program.parent().and_then(std::path::Path::parent).unwrap();
    target.join("debug/weir-gue").display().to_string()
}

/// The lab's pool by GUE with a second chance, b1 with these further keys.
fn config(lab: &Lab, keys: &str) -> String {
    let gue = "forwarding = \"gue\"\ngue_variant = 0\nsecond_chance = true";
    let config = lab.config(&["--hugepages", "false"]);
    let first = "  id = \"b1\"\n";
    assert!(config.contains("forwarding = \"l2dsr\"") && config.contains(first), "{config}");
    config.replace("forwarding = \"l2dsr\"", gue).replace(first, &format!("{first}{keys}"))
}

/// What a backend's receiver counts, now.
fn counts(lab: &Lab, part: &str) -> Value {
    let lines = |log: &str| log.lines().filter(|line| line.starts_with('{')).count();
    let before = lines(&lab.part_log(part));
    lab.signal_part(part, "-USR1");
    wait_for("the receiver's counters", PATIENCE, || {
        let log = lab.part_log(part);
        let last = log.lines().rfind(|line| line.starts_with('{') && line.ends_with('}'));
        (lines(&log) > before).then(|| serde_json::from_str(last?).ok()).flatten()
    })
}

fn count(lab: &Lab, part: &str, name: &str) -> u64 {
    counts(lab, part)[name].as_u64().unwrap()
}

fn flows_go_on_where_they_began(backend_family: &str) {
    if !is_root() {
        return;
    }
    let program = receiver();
    let mut lab = Lab::up(&[
        // The lab's own receivers are for the other modes; this test brings its own.
        "--mode",
        "l2dsr",
        "--families",
        "46",
        "--backend-family",
        backend_family,
        "--backends",
        "2",
        "--file-mib",
        "2",
        "--rate",
        "60k",
    ]);
    // The client leaves room for the outer headers itself: 76 bytes are the most.
    let clamped = lab.on(
        "client",
        &["ip", "route", "replace", "203.0.113.0/24", "via", "192.0.2.2", "mtu", "1400"],
    );
    assert!(clamped.status.success(), "{}", text(&clamped.stderr));
    for backend in ["b1", "b2"] {
        let peers = ["--peer", "192.0.2.0/24", "--peer", "2001:db8:0:1::/64"];
        let vips = ["--vip", "203.0.113.0/24"];
        let command = [&[program.as_str()][..], &peers, &vips].concat();
        lab.start_part(&format!("gue-{backend}"), backend, &command);
    }
    for backend in ["b1", "b2"] {
        let part = format!("gue-{backend}");
        wait_for("the receivers", PATIENCE, || {
            lab.runs(&part);
            lab.part_log(&part).contains("receiving on UDP port").then_some(())
        });
    }

    // Slots and downloads are b1's and b2's.
    lab.start_node(&config(&lab, ""));
    let downloads = Downloads::start(&lab, 40_000, DOWNLOADS, "");
    let flows = wait_for("all downloads to be under way", PATIENCE, || {
        let flows = established_flows(&lab, "node");
        (flows.len() >= DOWNLOADS).then_some(flows)
    });
    assert!(flows.values().any(|backend| backend == "b1"), "{flows:?}");
    assert_eq!(count(&lab, "gue-b1", "passed_on"), 0);

    // The node loses its flows, and all slots are b2's when it comes back.
    assert_eq!(lab.stop_node("-TERM"), Some(0), "{}", lab.log());
    lab.start_node(&config(&lab, "  state = \"drain\"\n"));
    // Its tap device has another address each time; who still has the old one loses a minute.
    assert!(lab.on("client", &["ip", "neigh", "flush", "dev", "eth0"]).status.success());
    wait_for("packets of unknown flows to be passed on", PATIENCE, || {
        (count(&lab, "gue-b2", "passed_on") > 0).then_some(())
    });
    // New connections stay where the table sends them.
    for answer in lab.requests(20) {
        assert_eq!(answer.as_deref(), Ok("b2"));
    }
    // A flow that neither knows is answered by the last in the list.
    let before = count(&lab, "gue-b2", "passed_on");
    for port in UNKNOWN_PORTS {
        is_reset(&lab, port);
    }
    assert!(count(&lab, "gue-b2", "passed_on") > before, "some of their slots were b1's");

    for ending in downloads.endings() {
        assert_eq!(ending.answer, format!("200 {FILE_BYTES}"), "{ending:?}");
    }
    for part in ["gue-b1", "gue-b2"] {
        let counts = counts(&lab, part);
        for fault in
            ["delivery_failed", "passing_on_failed", "asking_failed", "stranger", "hop_refused"]
        {
            assert_eq!(counts[fault], 0, "{part}: {counts}");
        }
        assert_eq!(lab.stop_part(part, "-TERM"), Some(0), "{}", lab.part_log(part));
    }
    assert_eq!(lab.stop_node("-TERM"), Some(0), "{}", lab.log());
}

/// Sends an ACK of a connection that never was, until a RST with its sequence number comes.
fn is_reset(lab: &Lab, port: u16) {
    let vip: Ipv4Addr = VIP.parse().unwrap();
    let mut ack = TcpHeader::new(port, 80, 1_000, 1_000);
    ack.ack = true;
    ack.acknowledgment_number = 7_654_321;
    ack.checksum = ack.calc_checksum_ipv4_raw(CLIENT.octets(), vip.octets(), &[]).unwrap();
    let mut socket = lab.raw_tcp_socket("client");
    socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let mut buffer = [0; 2048];
    // RFC 9293 section 3.10.7.1: the RST has the sequence number that the ACK acknowledges.
    wait_for(&format!("a reset to port {port}"), PATIENCE, || {
        socket.send_to(&ack.to_bytes(), &SocketAddr::new(vip.into(), 0).into()).unwrap();
        let deadline = Instant::now() + Duration::from_secs(1);
        // The downloads' packets come by here, too.
        while Instant::now() < deadline {
            let Ok(length) = socket.read(&mut buffer) else { break };
            let packet = &buffer[..length];
            let Ok(ip) = Ipv4HeaderSlice::from_slice(packet) else { continue };
            let Ok(tcp) = TcpHeaderSlice::from_slice(&packet[ip.slice().len()..]) else { continue };
            if tcp.destination_port() == port {
                assert!(tcp.rst() && tcp.sequence_number() == 7_654_321, "{tcp:?}");
                return Some(());
            }
        }
        None
    })
}

#[test]
fn flows_go_on_where_they_began_by_ipv4_hops() {
    flows_go_on_where_they_began("4");
}

#[test]
fn flows_go_on_where_they_began_by_ipv6_hops() {
    flows_go_on_where_they_began("6");
}
