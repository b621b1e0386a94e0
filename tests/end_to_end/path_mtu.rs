//! Path MTU discovery through a node, both ways, with real kernels at both ends: a client behind a
//! router whose link to it is narrow, and which knows nothing of the tunnel.
//!
//! ```text
//!  client ──1500──▶ router ──1500──▶ node ══1500, tunnel══▶ backend     uploads
//!         ◀──1400──        ◀─────────1500──────────────────             downloads
//! ```
//!
//! A download meets the narrow link: the router says so to the VIP, and only the backend that sent
//! the packet can act on it. An upload meets the tunnel's overhead: the node says so to the client.
//! Segments are as large as 1500 bytes allow (nobody lowers an MSS, nobody probes), so each hangs
//! when the errors do not get through: that is shown first.

use std::process::Output;

use crate::lab::{Lab, VIP, VIP6, is_root, text, wait_for};

/// Bytes of the download.
const FILE_BYTES: u64 = 1 << 20;
/// The client's address, behind the router.
const CLIENT: &str = "198.18.0.10";
/// The router's, on the client's side.
const ROUTER: &str = "198.18.0.1";
/// Seconds that a transfer has which cannot come to its end.
const IN_VAIN: &str = "4";
/// Seconds that one has which can: lost packets are sent again after seconds.
const IN_TIME: &str = "60";

fn lab(mode: &str, backends: &str) -> Lab {
    let family = ["--families", "46", "--backend-family", backends];
    let rest = ["--backends", "2", "--narrow", "1400", "--file-mib", "1", "--mode", mode];
    let lab = Lab::up(&[&family[..], &rest].concat());
    // No way out but the errors.
    for host in ["client", "b1", "b2"] {
        let output = lab.on(host, &["sysctl", "-qw", "net.ipv4.tcp_mtu_probing=0"]);
        assert!(output.status.success(), "{}", text(&output.stderr));
    }
    lab
}

/// The configuration with keys of `[icmp]`.
fn with_icmp(config: &str, keys: &str) -> String {
    config.replace("[conntrack]\n", &format!("[icmp]\n{keys}\n\n[conntrack]\n"))
}

/// One request over IPv4 and one over IPv6, with further arguments of curl: what came of each.
fn get(lab: &Lab, seconds: &str, path: &str, more: &[&str]) -> [Output; 2] {
    let vips = [format!("http://{VIP}"), format!("http://\\[{VIP6}\\]")];
    vips.map(|vip| {
        let url = format!("{vip}{path}");
        let format = "%{http_code} %{size_download}";
        let command =
            ["curl", "-s", "--max-time", seconds, "-o", "/dev/null", "-w", format, url.as_str()];
        lab.on("client", &[&command[..], more].concat())
    })
}

fn download(lab: &Lab, seconds: &str) -> [Output; 2] {
    get(lab, seconds, "/fast", &[])
}

/// A request of seven thousand bytes: it is answered when all of it has arrived.
fn upload(lab: &Lab, seconds: &str) -> [Output; 2] {
    let filler = format!("X-Filler: {}", "x".repeat(7_000));
    get(lab, seconds, "/up", &["-H", &filler])
}

fn hangs(what: &str, outputs: [Output; 2]) {
    for output in outputs {
        // 28: the time is over.
        assert_eq!(output.status.code(), Some(28), "{what}: {}", text(&output.stdout));
    }
}

fn succeeds(what: &str, outputs: [Output; 2], expected: &str) {
    for output in outputs {
        assert!(output.status.success(), "{what}: {:?} {}", output.status, text(&output.stdout));
        assert_eq!(text(&output.stdout), expected, "{what}");
    }
}

fn both_ways(mode: &str, backends: &str) {
    if !is_root() {
        return;
    }
    let tunnel = mode != "l2dsr";
    let mut lab = lab(mode, backends);
    let config = lab.config(&["--hugepages", "false"]);
    // Without the errors nothing large gets through: so below it is they that do it.
    let silent = with_icmp(&config, "delivered_per_second = 0\nsent_per_second = 0");
    lab.start_node(&silent);
    // Again until the errors were seen that were kept back: on a slow machine one attempt may be
    // over before it has come to that.
    wait_for("a download's errors", 90, || {
        hangs("download without errors", download(&lab, IN_VAIN));
        (lab.metric("weir_drops_total{reason=\"icmp_error_limited\"}") > 0).then_some(())
    });
    if tunnel {
        wait_for("an upload's errors", 90, || {
            hangs("upload without errors", upload(&lab, IN_VAIN));
            (lab.metric("weir_worker_icmp_limited_total") > 0).then_some(())
        });
        without_df(&lab, &config, &silent);
    }
    lab.reload(&config);
    succeeds("download", download(&lab, IN_TIME), &format!("200 {FILE_BYTES}"));
    succeeds("upload", upload(&lab, IN_TIME), "204 0");
    assert!(lab.metric("weir_worker_icmp_delivered_total") >= 2, "one of each family at least");
    assert_eq!(
        lab.metric("weir_worker_icmp_sent_total{worker=\"0\",kind=\"too_big\"}") > 0,
        tunnel
    );
    for reason in ["icmp_bad_quote", "icmp_no_flow", "icmp_tunnel_error", "no_buffer"] {
        assert_eq!(lab.metric(&format!("weir_drops_total{{reason=\"{reason}\"}}")), 0, "{reason}");
    }
    if mode == "ipip" && backends == "4" {
        pings_and_traceroutes(&lab, &config);
    }
    assert_eq!(lab.stop_node("-TERM"), Some(0), "{}", lab.log());
    assert!(!lab.log().contains("panicked"), "{}", lab.log());
}

/// A client that does not ask for its path's MTU, and has not learned it yet: the outer packet is
/// fragmented, and the backend's kernel puts it together again.
fn without_df(lab: &Lab, config: &str, silent: &str) {
    let discovery = |off: &str| {
        let setting = format!("net.ipv4.ip_no_pmtu_disc={off}");
        let output = lab.on("client", &["sysctl", "-qw", &setting]);
        assert!(output.status.success(), "{}", text(&output.stderr));
    };
    discovery("1");
    lab.reload(&silent.replace("[icmp]\n", "[encapsulation]\noversize = \"drop\"\n\n[icmp]\n"));
    hangs("upload without DF, dropped", upload(lab, IN_VAIN));
    assert_eq!(lab.metric("weir_worker_fragmented_packets_total"), 0);
    lab.reload(config);
    succeeds("upload without DF", upload(lab, IN_TIME), "204 0");
    assert!(lab.metric("weir_worker_fragmented_packets_total") > 0);
    discovery("0");
}

fn pings_and_traceroutes(lab: &Lab, config: &str) {
    lab.reload(&with_icmp(config, "port_unreachable = true"));
    for vip in [VIP, VIP6] {
        for size in ["56", "1300"] {
            let ping = lab
                .on("client", &["ping", "-q", "-c", "3", "-i", "0.2", "-W", "10", "-s", size, vip]);
            assert!(ping.status.success(), "{}", text(&ping.stdout));
        }
        // The router, then the VIP itself, by UDP and by ICMP; through TCP's port the node is seen
        // as the hop that it is, before the backend answers.
        let last = |output: &str| output.lines().last().unwrap_or_default().trim().to_owned();
        for (method, hops) in [("-U", 2), ("-I", 2), ("-T", 3)] {
            let port = if method == "-T" { "80" } else { "33434" };
            let mut command =
                vec!["traceroute", "-n", "-q", "1", "-w", "10", "-m", "6", "-N", "1", method];
            if method != "-I" {
                command.extend(["-p", port]);
            }
            command.push(vip);
            // A router limits its errors, too: a probe may be lost to that.
            wait_for(&format!("traceroute {method} to {vip}"), 120, || {
                let output = lab.on("client", &command);
                let answer = text(&output.stdout);
                assert!(output.status.success(), "{}", text(&output.stderr));
                let reached = last(&answer).starts_with(&format!("{hops}  {vip} "));
                if !reached {
                    eprintln!("{answer}");
                }
                let node = if vip == VIP { "192.0.2.2 " } else { "2001:db8:0:1::2 " };
                (reached && (hops == 2 || answer.contains(node))).then_some(())
            });
        }
    }
    // Record route (RFC 791), by ping, which the node answers, and on a connection to a backend.
    let ping = lab.on("client", &["ping", "-n", "-R", "-c", "1", "-W", "10", VIP]);
    assert!(ping.status.success(), "{}", text(&ping.stdout));
    assert!(text(&ping.stdout).contains(ROUTER) || text(&ping.stdout).contains("RR:"));
    let asked = lab.on("client", &["python3", "-c", WITH_OPTIONS, VIP]);
    assert!(asked.status.success(), "{}", text(&asked.stderr));
    assert_eq!(text(&asked.stdout).trim(), format!("{CLIENT} 200"));
    lab.reload(config);
}

/// A request whose packets all have a record-route option with room for one address.
const WITH_OPTIONS: &str = "
import socket, sys
s = socket.socket()
s.settimeout(30)
s.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, bytes([7, 7, 4, 0, 0, 0, 0, 1]))
s.connect((sys.argv[1], 80))
s.sendall(b'GET / HTTP/1.0\\r\\n\\r\\n')
answer = b''
while part := s.recv(4096):
    answer += part
print(s.getsockname()[0], answer.split()[1].decode())
";

#[test]
fn path_mtu_through_ipip_to_ipv4_backends() {
    both_ways("ipip", "4");
}

#[test]
fn path_mtu_through_ipip_to_ipv6_backends() {
    both_ways("ipip", "6");
}

#[test]
fn path_mtu_through_gre_to_ipv4_backends() {
    both_ways("gre", "4");
}

#[test]
fn path_mtu_through_gre_to_ipv6_backends() {
    both_ways("gre", "6");
}

#[test]
fn path_mtu_through_gue_to_ipv4_backends() {
    both_ways("gue", "4");
}

#[test]
fn path_mtu_through_gue_to_ipv6_backends() {
    both_ways("gue", "6");
}

#[test]
fn path_mtu_with_l2dsr() {
    both_ways("l2dsr", "4");
}
