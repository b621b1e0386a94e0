//! The exception path: a BGP session through the DPDK port, between BIRD in the node's namespace and
//! BIRD in the client's, and what becomes of it when the VIP is flooded.

use std::fs;
use std::path::PathBuf;
use std::process::Child;
use std::time::{Duration, Instant};

use crate::lab::{Lab, VIP, is_root, wait_for};

/// The session's hold time; RFC 4271 section 4.2 allows no less than 3 s.
const HOLD_SECONDS: u64 = 9;

/// A flood of UDP to the VIP's address and port, from many ports: in bursts that the port's queue
/// cannot hold, with pauses in which it can drain. Loss is then heavy, and not so near to total that
/// chance decides whether TCP gets a packet through within the hold time.
const FLOOD: &str = "
import socket, sys, time
sockets = []
for _ in range(64):
    one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    one.connect((sys.argv[1], 80))
    sockets.append(one)
data = bytes(64)
while True:
    for one in sockets:
        for _ in range(64):
            try:
                one.send(data)
            except OSError:
                pass
    time.sleep(0.03)
";

/// A process that ends with its owner.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// BIRD on one host of the lab.
struct Bird {
    socket: PathBuf,
    host: &'static str,
    _process: Running,
}

impl Bird {
    fn start(lab: &Lab, host: &'static str, config: &str) -> Self {
        let folder = lab.config_path().with_file_name(format!("bird-{host}"));
        fs::create_dir_all(&folder).unwrap();
        let (file, socket) = (folder.join("bird.conf"), folder.join("ctl"));
        fs::write(&file, config).unwrap();
        let [file, socket_path] = [&file, &socket].map(|path| path.to_str().unwrap());
        let process = lab.start(host, &["bird", "-f", "-c", file, "-s", socket_path]);
        Self { socket, host, _process: Running(process) }
    }

    fn ask(&self, lab: &Lab, question: &[&str]) -> String {
        let socket = self.socket.to_str().unwrap();
        let output = lab.on(self.host, &[&["birdc", "-s", socket], question].concat());
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// The session's line and details.
    fn is_established(&self, lab: &Lab) -> bool {
        self.ask(lab, &["show", "protocols", "peer"]).contains("Established")
    }
}

fn bird_config(own: &str, own_as: u32, peer: &str, peer_as: u32, rest: &str) -> String {
    format!(
        "router id {own};
protocol device {{ }}
{rest}
protocol bgp peer {{
    local {own} as {own_as};
    neighbor {peer} as {peer_as};
    hold time {HOLD_SECONDS};
    connect retry time 1;
    connect delay time 1;
    error wait time 1, 2;
    ipv4 {{ import all; export where source = RTS_STATIC; }};
}}
"
    )
}

fn run(lab: &Lab, host: &str, command: &str) {
    let output = lab.on(host, &["sh", "-c", command]);
    assert!(
        output.status.success(),
        "{host}: {command}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Packets that found the queue to the port full: the kernel's side of the tap drops them.
fn lost_before_the_port(lab: &Lab) -> u64 {
    let file = "/sys/class/net/weir0/statistics/tx_dropped";
    let output = lab.on("node", &["cat", file]);
    String::from_utf8_lossy(&output.stdout).trim().parse().unwrap()
}

#[test]
fn a_bgp_session_through_the_port_outlives_a_flood_at_the_vip() {
    if !is_root() {
        return;
    }
    let mut lab = Lab::up(&["--port", "net_tap", "--backends", "1"]);
    let config = lab
        .config(&["--hugepages", "false"])
        .replace("[conntrack]", "exception = \"weirx0\"\n\n[conntrack]")
        + &format!(
            "\n[[vip]]\naddress = \"{VIP}\"\nport = 80\nprotocol = \"udp\"\npool = \"web\"\n"
        );
    // The node's kernel answers ARP for the address of weirx0 on no other interface.
    run(&lab, "node", "sysctl -qw net.ipv4.conf.all.arp_ignore=1");
    lab.start_node(&config);
    run(&lab, "node", "ip address add 192.0.2.2/24 dev weirx0");
    // The client knows the way to the VIP from nobody but the session.
    run(&lab, "client", "ip route del 203.0.113.0/24");

    let announced = format!("protocol static {{ ipv4; route {VIP}/32 blackhole; }}");
    let node = bird_config("192.0.2.2", 64512, "192.0.2.10", 64513, &announced);
    let learned = "protocol kernel { learn off; ipv4 { export all; }; }";
    let client = bird_config("192.0.2.10", 64513, "192.0.2.2", 64512, learned);
    let node = Bird::start(&lab, "node", &node);
    let client = Bird::start(&lab, "client", &client);
    wait_for("the session", 30, || client.is_established(&lab).then_some(()));
    wait_for("the route", 10, || {
        let output = lab.on("client", &["ip", "route", "get", VIP]);
        String::from_utf8_lossy(&output.stdout).contains("via 192.0.2.2").then_some(())
    });
    assert!(lab.requests(10).iter().all(Result::is_ok), "requests over the announced route");
    assert!(lab.metric("weir_worker_to_kernel_packets_total") > 0);
    assert!(lab.metric("weir_worker_from_kernel_packets_total") > 0);
    // SSH and the like: an echo request of the kernel's own, and its reply.
    run(&lab, "node", "ping -c 1 -W 10 192.0.2.10 >/dev/null");

    let since = |bird: &Bird| -> String {
        let answer = bird.ask(&lab, &["show", "protocols", "peer"]);
        let line = answer.lines().find(|line| line.starts_with("peer")).unwrap_or_default();
        line.split_whitespace().nth(4).unwrap_or_default().to_owned()
    };
    let before = (since(&node), since(&client));
    let (lost, forwarded) =
        (lost_before_the_port(&lab), lab.metric("weir_worker_forwarded_packets_total"));
    let flood: Vec<Running> =
        (0..2).map(|_| Running(lab.start("client", &["python3", "-c", FLOOD, VIP]))).collect();
    let end = Instant::now() + Duration::from_secs(2 * HOLD_SECONDS + 1);
    while Instant::now() < end {
        assert!(node.is_established(&lab), "the node's end of the session is down");
        assert!(client.is_established(&lab), "the client's end of the session is down");
        std::thread::sleep(Duration::from_millis(500));
    }
    let lost = lost_before_the_port(&lab) - lost;
    let forwarded = lab.metric("weir_worker_forwarded_packets_total") - forwarded;
    drop(flood);
    eprintln!("flood: {forwarded} packets forwarded, {lost} lost before the port");
    assert!(lost > 0, "the port was not flooded: {forwarded} packets forwarded, none lost");
    assert_eq!((since(&node), since(&client)), before, "the session has been up all the time");
    // Nothing of the flood came near the kernel.
    for reason in ["exception_rate_limited", "exception_full"] {
        assert_eq!(lab.metric(&format!("weir_drops_total{{reason=\"{reason}\"}}")), 0, "{reason}");
    }

    lab.stop_node("-KILL");
    wait_for("the session to go down", 2 * HOLD_SECONDS + 10, || {
        (!client.is_established(&lab)).then_some(())
    });
    let output = lab.on("client", &["ip", "route", "get", VIP]);
    assert!(!String::from_utf8_lossy(&output.stdout).contains("via 192.0.2.2"), "withdrawn");
}
