//! One test for each class of error, with the exact text an operator reads.

use config::{Config, Errors};

/// A good file; each test breaks it in one place. The tests name its lines.
const GOOD: &str = r#"[node]
name = "lb-a1"
admin = "127.0.0.1:9180"

[dpdk]
memory_mib = 512
worker_cores = [1, 2]

[[port]]
name = "uplink"
device = "net_tap0,iface=weir0"
addresses = ["192.0.2.2/24", "2001:db8::2/64"]
gateways = ["192.0.2.1"]
neighbors = [{ address = "192.0.2.1", mac = "02:00:00:00:00:01" }]

[encapsulation]
source_entropy_v4 = "172.16.0.0/16"

[[pool]]
id = "web"
table_size = 65537
forwarding = "ipip"
hash_secret = "000102030405060708090a0b0c0d0e0f"

[[pool.backend]]
id = "host-1"
address = "192.0.2.11"
weight = 100

[[vip]]
address = "203.0.113.1"
port = 80
protocol = "tcp"
pool = "web"
"#;

/// The good file with `old` replaced by `new`, as errors; `old` must be there once.
#[track_caller]
fn broken(old: &str, new: &str) -> Errors {
    assert_eq!(GOOD.matches(old).count(), 1, "{old:?} must be in the file once");
    refused(&GOOD.replace(old, new))
}

#[track_caller]
fn refused(text: &str) -> Errors {
    match Config::parse(text, "weir.toml") {
        Ok(_) => panic!("the file was accepted:\n{text}"),
        Err(errors) => errors,
    }
}

/// What is printed when `old` becomes `new`.
#[track_caller]
fn check(old: &str, new: &str, expected: &str) {
    assert_eq!(broken(old, new).to_string(), expected);
}

#[test]
fn the_good_file_is_good() {
    let loaded = Config::parse(GOOD, "weir.toml").unwrap();
    assert_eq!(loaded.warnings, []);
}

#[test]
fn unknown_key_names_the_nearest() {
    check(
        "memory_mib = 512",
        "memory_mb = 512",
        "weir.toml:6: [dpdk]: unknown key \"memory_mb\" (expected a known key; nearest is \"memory_mib\")",
    );
    check(
        "weight = 100",
        "Weigth = 100",
        "weir.toml:28: pool \"web\": backend \"host-1\": unknown key \"Weigth\" (expected a known key; nearest is \"weight\")",
    );
    check(
        "[dpdk]",
        "[dpkd]",
        "weir.toml:5: unknown key \"dpkd\" (expected a known key; nearest is \"dpdk\")",
    );
    check(
        "mac = \"02",
        "MAC = \"02",
        "weir.toml:14: port \"uplink\": neighbors: mac is missing (expected a MAC address in quotes, such as \"02:00:00:00:00:01\")\n\
         weir.toml:14: port \"uplink\": neighbors: unknown key \"MAC\" (expected a known key; nearest is \"mac\")",
    );
}

#[test]
fn wrong_type_names_the_expected_one() {
    check("memory_mib = 512", "memory_mib = \"512\"", "weir.toml:6: [dpdk]: memory_mib = \"512\" is a string (expected an integer)");
}
