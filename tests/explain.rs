//! `weir explain` tells what `weir replay` does: each step with the values at hand.

mod support;

use std::path::PathBuf;

use support::{Packet, START, finish, replay, scratch, tcp, weir};

const CONFIG: &str = r#"
[[port]]
name = "uplink"
device = "net_tap0"
mac = "02:00:00:00:00:02"
addresses = ["192.0.2.2/24"]
gateways = ["192.0.2.1"]
neighbors = [{ address = "192.0.2.1", mac = "02:00:00:00:00:01" }]

[conntrack]
flows = 1000

[[pool]]
id = "web"
hash_secret = "000102030405060708090a0b0c0d0e0f"
table_size = 1009

  [[pool.backend]]
  id = "host-1"
  address = "10.0.0.1"

  [[pool.backend]]
  id = "host-2"
  address = "10.0.0.2"

  [[pool.backend]]
  id = "host-3"
  address = "10.0.0.3"
  state = "drain"

[[pool]]
id = "near"
forwarding = "l2dsr"
hash_secret = "000102030405060708090a0b0c0d0e0f"

  [[pool.backend]]
  id = "near-1"
  address = "192.0.2.21"

[[pool]]
id = "empty"
hash_secret = "000102030405060708090a0b0c0d0e0f"

[[vip]]
address = "203.0.113.0/28"
port = "any"
protocol = "any"
pool = "web"

[[vip]]
address = "203.0.113.1"
port = 80
protocol = "tcp"
pool = "web"

[[vip]]
address = "203.0.113.2"
port = "8000-8099"
protocol = "udp"
pool = "near"

[[vip]]
address = "203.0.113.3"
port = 80
protocol = "tcp"
pool = "empty"

[[pool]]
id = "h3"
hash_secret = "000102030405060708090a0b0c0d0e0f"

  [[pool.quic]]
  config_id = 0
  server_id_length = 3
  nonce_length = 4
  key = "8f95f09245765f80256934e50c66207f"

  [[pool.backend]]
  id = "quick-1"
  address = "10.0.0.21"
  quic_server_ids = ["ed793a"]

  [[pool.backend]]
  id = "quick-2"
  address = "10.0.0.22"
  quic_server_ids = ["000002"]

[[vip]]
address = "203.0.113.4"
port = 443
protocol = "udp"
pool = "h3"
affinity = "quic"

[[vip]]
address = "203.0.113.5"
port = 443
protocol = "udp"
pool = "h3"
affinity = "source"

[[vip]]
address = "198.18.0.1"
port = 80
protocol = "tcp"
pool = "web"
"#;

fn config(name: &str) -> PathBuf {
    let path = scratch(name).join("config.toml");
    std::fs::write(&path, CONFIG).unwrap();
    path
}

/// The story, with the label's blanks and line breaks folded into single blanks.
fn explain(test: &str, arguments: &[&str]) -> String {
    let config = config(&format!("explain-{test}"));
    let config = config.display().to_string();
    let output = weir(&[&["explain", &config][..], arguments].concat());
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[track_caller]
fn assert_told(story: &str, wanted: &[&str]) {
    let mut rest = story;
    for text in wanted {
        let Some(at) = rest.find(text) else { panic!("no {text:?} (in this order) in\n{story}") };
        rest = &rest[at..];
    }
}

#[test]
fn a_forwarded_packet_is_told_from_its_bytes_to_its_bytes() {
    let story = explain("forwarded", &["--src", "198.51.100.7:40000", "--dst", "203.0.113.1:80"]);
    assert_told(
        &story,
        &[
            "198.51.100.7:40000 -> 203.0.113.1:80 tcp [SYN], at port \"uplink\"",
            "sound: 14 bytes of link header",
            "SYN: opens a connection",
            "VIP 203.0.113.1:80/tcp, of pool \"web\": exact address, exact port, exact protocol",
            "it wins over 203.0.113.0/28:any/any (shorter prefix)",
            "conntrack no entry",
            "state syn_recv, forgotten after 30 s",
            "hash 0x",
            "SipHash-2-4",
            "slot ",
            " of 1009 ",
            "table digest ",
            "backend host-",
            "weight 100, which gives it 50",
            "not in the table: host-3 (draining)",
            "next hop gateway 192.0.2.1",
            "link address 02:00:00:00:00:01, from the port's neighbors",
            "verdict forwarded",
            "conntrack now has the flow: syn_recv",
            "outer IPv4 version 4",
            "don't fragment set",
            "time to live 64",
            "protocol 4 (IPv4 in IPv4)",
            "(right) source 192.0.2.2 destination 10.0.0.",
            "inner IPv4",
            "time to live 63",
            "source 198.51.100.7 destination 203.0.113.1",
            "time to live 64 -> 63",
            "2 bytes changed",
            "0000 02 00 00 00 00 01 02 00 00 00 00 02 08 00 45 00",
        ],
    );
}

#[test]
fn the_backend_told_is_the_one_that_replay_sends_to() {
    let folder = scratch("explain-and-replay");
    let path = folder.join("config.toml");
    std::fs::write(&path, CONFIG).unwrap();
    let ports = 40_000u16..40_012;
    let vip = ([203, 0, 113, 1], 80);
    let packets: Vec<Packet> = ports
        .clone()
        .map(|port| finish(tcp(([198, 51, 100, 7], port), vip, 1).syn(), &[]))
        .map(|bytes| Packet { time: START, bytes })
        .collect();
    for (port, line) in ports.zip(replay(&folder, &path, &packets, &[])) {
        let source = format!("198.51.100.7:{port}");
        let story = explain("as-replay", &["--src", &source, "--dst", "203.0.113.1:80"]);
        assert_told(&story, &[&format!("backend {} at ", line.backend.unwrap()), "forwarded"]);
    }
}

#[test]
fn flags_decide_what_is_remembered() {
    let with = |flags| {
        let there = ["--src", "198.51.100.7:1", "--dst", "203.0.113.1:80"];
        explain("flags", &[&there[..], &["--flags", flags]].concat())
    };
    assert_told(
        &with("ack"),
        &["tcp [ACK]", "open connection", "established, forgotten after 300"],
    );
    assert_told(&with("psh,ack"), &["now has the flow: established"]);
    assert_told(&with("fin,ack"), &["FIN: the client has no more to send", "fin_wait"]);
    let reset = with("rst");
    assert_told(&reset, &["RST: the client aborts", "no entry is made", "verdict forwarded"]);
    assert!(!reset.contains("now has the flow"));
}

#[test]
fn an_unknown_neighbour_is_told_and_the_packet_held() {
    let arguments = ["--src", "198.51.100.7:5", "--dst", "203.0.113.2:8050", "--proto", "udp"];
    assert_told(
        &explain("held", &arguments),
        &[
            "VIP 203.0.113.2:8000-8099/udp, of pool \"near\": exact address, port in its range",
            "state udp, forgotten after 60 s",
            "next hop 192.0.2.21 itself, on the link of port \"uplink\"",
            "link address not known",
            "l2dsr: only the link header is rewritten",
            "verdict held",
        ],
    );
}

#[test]
fn every_way_to_be_dropped_says_why() {
    let drop = |test: &str, src: &str, dst: &str, wanted: &[&str]| {
        assert_told(&explain(test, &["--src", src, "--dst", dst]), wanted);
    };
    let client = "198.51.100.7:5";
    drop("no-vip", client, "203.0.113.99:80", &["is no VIP's address", "no_vip"]);
    drop(
        "no-port",
        client,
        "198.18.0.1:81",
        &["is a VIP's address, but not with port 81/tcp: there is 198.18.0.1:80/tcp", "no_vip"],
    );
    drop("own", client, "192.0.2.2:22", &["is the node's own", "no_exception_path"]);
    drop("empty", client, "203.0.113.3:80", &["slot none", "dropped, counted as no_backend"]);
    drop("martian", "127.0.0.1:5", "203.0.113.1:80", &["parse unsound", "martian_source"]);
    drop("land", "203.0.113.1:5", "203.0.113.1:80", &["land", "are the same"]);
}

#[test]
fn a_connection_id_is_told_with_the_server_it_names() {
    let about = |id: &str| {
        let question =
            ["--src", "198.51.100.7:40000", "--dst", "203.0.113.4:443", "--proto", "udp"];
        explain(&format!("quic-{id}"), &[&question[..], &["--connection-id", id]].concat())
    };
    assert_told(
        &about("0720b1d07b359d3c"),
        &[
            "quic server id ed793a, read by configuration 0: backend quick-1, at 10.0.0.21",
            "whatever its 5-tuple",
            "next hop gateway 192.0.2.1",
            "verdict forwarded",
            "conntrack now has the flow: udp, backend quick-1",
            "destination 10.0.0.21",
        ],
    );
    assert_told(
        &about("e7ffffffffffffff"),
        &["quic the connection id names no server", "hash 0x", "of the 5-tuple", "forwarded"],
    );
    assert_told(
        &about("0720b1d07b359d3d"),
        &["quic server id ", "no backend's; the 5-tuple decides", "hash 0x"],
    );
}

#[test]
fn affinity_to_the_source_is_told() {
    let from = |port: u16| {
        let source = format!("198.51.100.7:{port}");
        let question = ["--src", &source, "--dst", "203.0.113.5:443", "--proto", "udp"];
        explain(&format!("source-{port}"), &question)
    };
    let story = from(1);
    assert_told(&story, &["SipHash-2-4 of the source address, under the secret of pool \"h3\""]);
    let backend =
        |story: &str| story.split("backend quick-").nth(1).map(|rest| rest[..1].to_owned());
    assert_eq!(backend(&story), backend(&from(2)));
}

/// A node of both families: one pool of each tunnel, to a backend of the other family.
const FAMILIES: &str = r#"
[[port]]
name = "uplink"
device = "net_tap0"
mac = "02:00:00:00:00:02"
addresses = ["192.0.2.2/24", "2001:db8:0:1::2/64"]
gateways = ["192.0.2.1", "2001:db8:0:1::1"]
neighbors = [{ address = "2001:db8:0:1::1", mac = "02:00:00:00:00:01" }]

[conntrack]
flows = 1000

[[pool]]
id = "web"
hash_secret = "000102030405060708090a0b0c0d0e0f"
forwarding = "FORWARDING"

  [[pool.backend]]
  id = "six-1"
  address = "2001:db8:b::1"

[[vip]]
address = "2001:db8:cafe::/48"
port = "any"
protocol = "any"
pool = "web"

[[vip]]
address = "203.0.113.1"
port = 53
protocol = "udp"
pool = "web"
"#;

fn explain_families(forwarding: &str, arguments: &[&str]) -> String {
    let path = scratch(&format!("explain-{forwarding}")).join("config.toml");
    std::fs::write(&path, FAMILIES.replace("FORWARDING", forwarding)).unwrap();
    let path = path.display().to_string();
    let output = weir(&[&["explain", &path], arguments].concat());
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn every_tunnel_is_told_over_ipv6() {
    let from_v6 = ["--src", "[2001:db8:7::7]:40000", "--dst", "[2001:db8:cafe::1]:443"];
    let inside = [
        "inner IPv6 version 6",
        "hop limit 63",
        "source 2001:db8:7::7 destination 2001:db8:cafe::1",
        "hop limit 64 -> 63: 1 byte changed",
    ];
    let outside = |mode: &'static str, next: &'static str| {
        [
            "[2001:db8:7::7]:40000 -> [2001:db8:cafe::1]:443 tcp [SYN]",
            "IPv6 header of 40 bytes, IP packet of 60",
            "address in its /48, any port, any protocol",
            "gateway 2001:db8:0:1::1, by port \"uplink\"",
            mode,
            "outer IPv6 version 6",
            next,
            "hop limit 64",
            "source 2001:db8:0:1::2 destination 2001:db8:b::1",
        ]
    };
    let told = |forwarding, mode, next, shim: &[&str]| {
        let story = explain_families(forwarding, &from_v6);
        assert_told(&story, &[&outside(mode, next)[..], shim, &inside].concat());
    };
    let next = "next header 41 (IPv6 in IPv6)";
    told("ipip", "ipip: an outer IPv6 header is put in front", next, &[]);
    let gre = "gre: an outer IPv6 and a GRE header are put in front";
    told("gre", gre, "next header 47 (GRE)", &["GRE protocol type 0x86dd"]);
    let gue = "gue: an outer IPv6 and a UDP header are put in front";
    let udp = ["UDP source port", "destination port 6080 (GUE, variant 1)", "(computed)"];
    told("gue", gue, "next header 17 (UDP)", &udp);
}

#[test]
fn who_had_the_slot_before_is_told() {
    let gue = "gue\"\ngue_variant = 0\nsecond_chance = true\n# \"";
    let leaving = "\n  [[pool.backend]]\n  id = \"leaving\"\n  address = \"2001:db8:b::9\"\n  \
                   state = \"drain\"\n\n[[vip]]";
    let path = scratch("explain-second-chance").join("config.toml");
    let text = FAMILIES.replace("FORWARDING", gue).replacen("[[vip]]", leaving, 1);
    std::fs::write(&path, text).unwrap();
    let path = path.display().to_string();
    let mut passed_on = 0;
    for port in 40_000..40_020 {
        let source = format!("[2001:db8:7::7]:{port}");
        let output = weir(&["explain", &path, "--src", &source, "--dst", "[2001:db8:cafe::1]:443"]);
        let story = String::from_utf8(output.stdout).unwrap();
        let story = story.split_whitespace().collect::<Vec<_>>().join(" ");
        if !story.contains("leaving at 2001:db8:b::9 had the slot before") {
            assert!(story.contains("second chance nobody"), "{story}");
            continue;
        }
        passed_on += 1;
        assert_told(
            &story,
            &[
                "gue, variant 0: an outer IPv6, a UDP and a GUE header are put in front",
                "(GUE, variant 0)",
                "header length 6 words behind the first",
                "protocol 41",
                "snapshot version 1 (its low bits)",
                "second chance 2001:db8:b::9",
                "inner IPv6 version 6",
            ],
        );
    }
    assert!(passed_on > 0, "of 20 flows about half had the backend that drains");
}

#[test]
fn an_icmp_error_is_told_by_the_flow_that_it_quotes() {
    let arguments = ["--src", "198.51.100.7:40000", "--dst", "203.0.113.1:53", "--proto", "udp"];
    let arguments = [&arguments[..], &["--icmp-error", "too-big"]].concat();
    assert_told(
        &explain_families("ipip", &arguments),
        &[
            "icmp packet too big, about 203.0.113.1:53 -> 198.51.100.7:40000 udp",
            "a packet from 203.0.113.1 port 53 to 198.51.100.7 port 40000",
            "exact address, exact port",
            "An error makes no entry",
            "verdict forwarded",
            "outer IPv6 version 6",
            "time to live 64 -> 63",
        ],
    );
}

#[test]
fn a_tunnel_may_change_the_family() {
    let arguments = ["--src", "198.51.100.7:40000", "--dst", "203.0.113.1:53", "--proto", "udp"];
    assert_told(
        &explain_families("ipip", &arguments),
        &[
            "IPv4 header of 20 bytes with a right checksum",
            "outer IPv6 version 6",
            "next header 4 (IPv4 in IPv6)",
            "inner IPv4 version 4",
            "time to live 64 -> 63",
        ],
    );
}

#[test]
fn fragments_are_told_where_their_ports_come_from() {
    let question = ["--src", "198.51.100.7:40000", "--dst", "203.0.113.7:53", "--proto", "udp"];
    let first = explain("first-fragment", &[&question[..], &["--fragment", "first"]].concat());
    assert_told(
        &first,
        &[
            "203.0.113.7:53 udp, its first fragment",
            "fragment the first: bytes 0 to 31 of its datagram, more follow; it has the ports",
            "for 2000 ms",
            "VIP 203.0.113.0/28:any/any",
            "conntrack no entry",
            "verdict forwarded",
        ],
    );
    let later = explain("later-fragment", &[&question[..], &["--fragment", "later"]].concat());
    assert_told(
        &later,
        &[
            "a later fragment",
            "fragment bytes 1480 to 1511 of its datagram, the last; it has no ports",
            "500 ms at most",
            "verdict held: the first fragment lets it go",
        ],
    );
}
