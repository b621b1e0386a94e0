//! Frames of 9000 bytes through a device that carries them, `net_af_packet` with frames as large in
//! its ring: answered by the node, and to a backend in an outer header.

use std::process::Child;

use crate::lab::{Lab, VIP, is_root, text, wait_for};

/// Gives every datagram back to where it came from.
const ECHO: &str = "
import socket, sys
one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
one.bind((sys.argv[1], 80))
while True:
    data, peer = one.recvfrom(65535)
    one.sendto(data, peer)
";

/// Sends datagrams that must not be fragmented, and wants each back; asks again where one is lost.
const ASK: &str = "
import socket, sys
one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
one.setsockopt(socket.IPPROTO_IP, 10, 2)  # IP_MTU_DISCOVER, IP_PMTUDISC_DO
one.settimeout(2)
one.connect((sys.argv[1], 80))
for number in range(10):
    data = bytes((number + at) % 256 for at in range(int(sys.argv[2])))
    for attempt in range(10):
        try:
            one.send(data)
            if one.recv(65535) == data:
                break
        except (TimeoutError, ConnectionRefusedError):
            pass
    else:
        sys.exit(f'datagram {number} did not come back')
";

/// A process that ends with its owner.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn frames_of_9000_bytes_there_and_back() {
    if !is_root() {
        return;
    }
    let options = ["--port", "net_af_packet", "--mtu", "9100", "--client-mtu", "9000"];
    let mut lab = Lab::up(&[&options[..], &["--backends", "1"]].concat());
    let udp =
        format!("\n[[vip]]\naddress = \"{VIP}\"\nport = 80\nprotocol = \"udp\"\npool = \"web\"\n");
    let config = lab.config(&["--hugepages", "false"]) + &udp;
    assert!(config.contains("mtu = 9100") && config.contains("framesz="), "{config}");
    lab.start_node(&config);

    // 28 bytes of headers: 9000 bytes in, and as many out.
    let ping = ["ping", "-q", "-M", "do", "-s", "8972", "-c", "3", "-i", "0.2", "-W", "10", VIP];
    let ping = lab.on("client", &ping);
    assert!(ping.status.success(), "{}{}", text(&ping.stdout), text(&ping.stderr));

    let _echo = Running(lab.start("b1", &["python3", "-c", ECHO, VIP]));
    wait_for("the echo server", 30, || {
        let listening = lab.on("b1", &["ss", "-Hlun", "sport", "=", "80"]);
        text(&listening.stdout).contains(VIP).then_some(())
    });
    let asked = lab.on("client", &["python3", "-c", ASK, VIP, "8972"]);
    assert!(asked.status.success(), "{}", text(&asked.stderr));
    let vip = format!("vip=\"{VIP}:80/udp\"");
    let packets = lab.metric(&format!("weir_vip_packets_total{{{vip}"));
    let bytes = lab.metric(&format!("weir_vip_bytes_total{{{vip}"));
    assert!(packets >= 10, "{packets}");
    assert_eq!(bytes, packets * 9000, "each in one packet");
    assert!(lab.requests(20).iter().all(Result::is_ok));
    for reason in ["too_big", "segmented", "no_buffer", "bad_ip_length"] {
        assert_eq!(lab.metric(&format!("weir_drops_total{{reason=\"{reason}\"}}")), 0, "{reason}");
    }
    assert_eq!(lab.stop_node("-TERM"), Some(0), "{}", lab.log());
}
