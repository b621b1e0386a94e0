//! Bad input on the command line: each a clear message with the right exit code, never a panic.
//!
//! Exit codes (SPEC section 17): 0 done, 1 failed, 2 usage or configuration.

mod support;

use std::path::{Path, PathBuf};

use support::{Packet, START, finish, read_capture, scratch, tcp, weir, write_capture};

const GOOD: &str = r#"
[[port]]
name = "uplink"
device = "net_tap0,iface=weir0"
addresses = ["192.0.2.2/24"]
gateways = ["192.0.2.1"]

[conntrack]
flows = 1000

[[pool]]
id = "web"
hash_secret = "000102030405060708090a0b0c0d0e0f"

[[pool.backend]]
id = "host-1"
address = "10.0.0.1"

[[vip]]
address = "203.0.113.1"
port = 80
protocol = "tcp"
pool = "web"
"#;

/// A folder with a good configuration and a capture of one SYN.
struct Files {
    folder: PathBuf,
}

impl Files {
    fn new(name: &str) -> Self {
        let folder = scratch(name);
        std::fs::write(folder.join("good.toml"), GOOD).unwrap();
        let client = ([198, 51, 100, 7], 40_000);
        let bytes = finish(tcp(client, ([203, 0, 113, 1], 80), 1).syn(), &[]);
        write_capture(&folder.join("syn.pcap"), &[Packet { time: START, bytes }]);
        Self { folder }
    }

    fn path(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        std::fs::write(self.folder.join(name), content).unwrap();
        self.path(name)
    }
}

/// Runs, and asks for the exit code and for each of `wanted` on standard error.
fn fails(arguments: &[&str], code: i32, wanted: &[&str]) {
    let output = weir(arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "weir {arguments:?}\n{errors}");
    for text in wanted {
        assert!(errors.contains(text), "weir {arguments:?}: no {text:?} in\n{errors}");
    }
    assert!(output.stdout.is_empty(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn every_bad_configuration_is_named_by_line_and_key() {
    let files = Files::new("bad-configurations");
    let vip = GOOD.split_once("[[vip]]").unwrap().1;
    let backend = "\n[[pool.backend]]\nid = \"host-1\"\naddress = \"10.0.0.2\"\n\n[[vip]]";
    let cases: Vec<(&str, String, &[&str])> = vec![
        (
            "unknown-key",
            GOOD.replace("port = 80", "prot = 80"),
            &["unknown key \"prot\"", "\"port\"", ":21"],
        ),
        ("wrong-type", GOOD.replace("port = 80", "port = [80]"), &["port = ", ":21"]),
        ("overlapping-vips", format!("{GOOD}\n[[vip]]{vip}"), &["203.0.113.1", "27"]),
        (
            "duplicate-backend",
            GOOD.replace("\n[[vip]]", backend),
            &["host-1", "already the id", ":20"],
        ),
        (
            "composite-table-size",
            GOOD.replace("id = \"web\"\n", "id = \"web\"\ntable_size = 65536\n"),
            &["table_size = 65536", "not prime", "65537"],
        ),
        ("unknown-pool", GOOD.replace("pool = \"web\"", "pool = \"wbe\""), &["\"wbe\""]),
        ("not-toml", "[[port]\n".to_owned(), &[":1"]),
        ("nothing", String::new(), &["port"]),
        ("group-vip", GOOD.replace("203.0.113.1", "ff02::1"), &["ff02::1", "multicast"]),
    ];
    for (name, text, wanted) in cases {
        let file = format!("{name}.toml");
        let config = files.write(&file, text);
        let mut wanted = wanted.to_vec();
        wanted.push(&file);
        let (input, output) = (files.path("syn.pcap"), files.path("out.pcap"));
        let client = ["--src", "198.51.100.7:1", "--dst", "203.0.113.1:80"];
        fails(&["check", &config], 2, &wanted);
        fails(&["replay", &config, "--in", &input, "--out", &output], 2, &wanted);
        fails(&[&["explain", &config][..], &client].concat(), 2, &wanted);
        assert!(!Path::new(&output).exists(), "a refused configuration writes nothing");
    }
}

#[test]
fn files_that_are_not_there_are_named() {
    let files = Files::new("missing-files");
    let good = files.path("good.toml");
    let missing = files.path("missing.toml");
    fails(&["check", &missing], 2, &["missing.toml"]);
    let folder = files.path("");
    fails(&["check", &folder], 2, &[&folder]);
    let (syn, out) = (files.path("syn.pcap"), files.path("out.pcap"));
    fails(&["replay", &missing, "--in", &syn, "--out", &out], 2, &["missing.toml"]);
    let no_input = files.path("missing.pcap");
    fails(&["replay", &good, "--in", &no_input, "--out", &out], 1, &["missing.pcap"]);
    assert!(!Path::new(&out).exists(), "no input, no output");
    let nowhere = files.path("no/folder/out.pcap");
    fails(&["replay", &good, "--in", &syn, "--out", &nowhere], 1, &["no/folder/out.pcap"]);
    let reload = format!("0:{missing}");
    let arguments = ["replay", &good, "--in", &syn, "--out", &out, "--reload", &reload];
    fails(&arguments, 2, &["missing.toml"]);
}

#[test]
fn what_is_no_capture_is_refused() {
    let files = Files::new("bad-captures");
    let good = files.path("good.toml");
    let capture = std::fs::read(files.path("syn.pcap")).unwrap();
    let mut not_ethernet = capture.clone();
    // The link type, little-endian, in the last word of the header: raw IP.
    not_ethernet[20] = 101;
    let mut huge = capture.clone();
    huge[24 + 8..24 + 12].copy_from_slice(&u32::MAX.to_le_bytes());
    let mut cut_when_captured = capture.clone();
    cut_when_captured[24 + 12..24 + 16].copy_from_slice(&1500u32.to_le_bytes());
    let cases: [(&str, &[u8]); 9] = [
        ("empty", b""),
        ("short", b"\xd4\xc3"),
        ("text", b"this is no capture, but long enough to have had a header"),
        ("config", GOOD.as_bytes()),
        ("not-ethernet", &not_ethernet),
        ("cut-header", &capture[..30]),
        ("cut-packet", &capture[..capture.len() - 5]),
        ("huge", &huge),
        ("cut-when-captured", &cut_when_captured),
    ];
    for (name, bytes) in cases {
        let file = format!("{name}.pcap");
        let input = files.write(&file, bytes);
        let output = files.path("out.pcap");
        fails(&["replay", &good, "--in", &input, "--out", &output], 1, &[&file]);
    }
}

#[test]
fn random_captures_end_in_a_message_or_in_packets() {
    let files = Files::new("random-captures");
    let good = files.path("good.toml");
    let capture = std::fs::read(files.path("syn.pcap")).unwrap();
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    for round in 0..60 {
        let mut bytes = capture.clone();
        for _ in 0..=round % 4 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let place = (state >> 33) as usize % bytes.len();
            bytes[place] = (state >> 24) as u8;
        }
        let input = files.write("random.pcap", &bytes);
        let output = files.path("out.pcap");
        let code = weir(&["replay", &good, "--in", &input, "--out", &output]).status.code();
        assert!(matches!(code, Some(0 | 1)), "{code:?}");
    }
}

#[test]
fn wrong_usage_says_how_it_is_meant() {
    let files = Files::new("usage");
    let good = files.path("good.toml");
    let explain = |more: &[&str], wanted: &[&str]| {
        fails(&[&["explain", &good][..], more].concat(), 2, wanted);
    };
    fails(&[], 2, &["Usage"]);
    fails(&["walk"], 2, &["walk"]);
    fails(&["check"], 2, &["CONFIG"]);
    fails(&["check", &good, "more"], 2, &["more"]);
    fails(&["replay", &good, "--out", "x"], 2, &["--in"]);
    let reload = ["replay", &good, "--in", "x", "--out", "y", "--reload", "good.toml"];
    fails(&reload, 2, &["N:CONFIG"]);
    explain(&["--src", "198.51.100.7:1"], &["--dst"]);
    explain(&["--src", "198.51.100.7", "--dst", "203.0.113.1:80"], &["198.51.100.7"]);
    explain(&["--src", "198.51.100.7:1", "--dst", "203.0.113.1:70000"], &["70000"]);
    let there = ["--src", "198.51.100.7:1", "--dst", "203.0.113.1:80"];
    explain(&[&there[..], &["--proto", "sctp"]].concat(), &["sctp", "tcp", "udp"]);
    explain(&[&there[..], &["--flags", "syn,sin"]].concat(), &["sin", "syn"]);
    explain(&[&there[..], &["--proto", "udp", "--flags", "syn"]].concat(), &["--flags", "UDP"]);
}

#[test]
fn explain_refuses_addresses_of_two_families() {
    let files = Files::new("explain-families");
    let good = files.path("good.toml");
    let ask = |src: &str, dst: &str, wanted: &[&str]| {
        fails(&["explain", &good, "--src", src, "--dst", dst], 2, wanted);
    };
    ask("198.51.100.7:1", "[2001:db8::2]:80", &["two families", "[2001:db8::2]:80"]);
    ask("[2001:db8::1]:1", "203.0.113.1:80", &["two families"]);
}

#[test]
fn good_input_is_done_with_exit_code_0() {
    let files = Files::new("good-input");
    let good = files.path("good.toml");
    let check = weir(&["check", &good]);
    assert_eq!(check.status.code(), Some(0));
    let said = String::from_utf8(check.stdout).unwrap();
    assert!(said.contains("ok") && said.contains("1 VIPs"), "{said}");
    let (input, output) = (files.path("syn.pcap"), files.path("out.pcap"));
    let replay = weir(&["replay", &good, "--in", &input, "--out", &output]);
    assert_eq!(replay.status.code(), Some(0));
    assert!(String::from_utf8(replay.stdout).unwrap().starts_with("1 packets read"));
    // An empty capture is a capture.
    write_capture(Path::new(&input), &[]);
    let replay = weir(&["replay", &good, "--in", &input, "--out", &output, "--json"]);
    assert_eq!((replay.status.code(), replay.stdout.len()), (Some(0), 0));
    assert!(read_capture(Path::new(&output)).is_empty());
    assert_eq!(weir(&["--version"]).status.code(), Some(0));
    assert_eq!(weir(&["--help"]).status.code(), Some(0));
}

#[test]
fn replay_does_not_write_over_what_it_reads() {
    let folder = scratch("cli-same-file");
    let config = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/examples/weir.toml");
    let capture = folder.join("a.pcap");
    support::write_capture(&capture, &[]);
    let before = std::fs::read(&capture).unwrap();
    let name = capture.display().to_string();
    // Another name for the same file is the same file.
    let other = folder.join("b.pcap");
    std::fs::hard_link(&capture, &other).unwrap();
    for out in [&name, &other.display().to_string()] {
        let output = weir(&["replay", config, "--in", &name, "--out", out]);
        assert_eq!(output.status.code(), Some(2));
        assert!(String::from_utf8_lossy(&output.stderr).contains("--out"));
        assert_eq!(std::fs::read(&capture).unwrap(), before);
    }
}
