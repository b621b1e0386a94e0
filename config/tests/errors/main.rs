//! Every class of error, with the exact text an operator reads.
//!
//! Each test breaks one good file in one place; the line numbers are those of that file.

mod checker;
mod controller;
mod keys;
mod kinds;
mod node;
mod pools;
mod ports;
mod vips;

use config::Config;

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

/// Checks what is printed when `old`, which is in the good file once, becomes `new`.
#[track_caller]
fn check(old: &str, new: &str, expected: &str) {
    assert_eq!(GOOD.matches(old).count(), 1, "{old:?} must be in the file once");
    check_file(&GOOD.replace(old, new), expected);
}

/// Checks what is printed for a whole file.
#[track_caller]
fn check_file(text: &str, expected: &str) {
    match Config::parse(text, "weir.toml") {
        Ok(_) => panic!("the file was accepted:\n{text}"),
        Err(errors) => assert_eq!(errors.to_string(), expected),
    }
}

#[test]
fn the_good_file_is_good() {
    let loaded = Config::parse(GOOD, "weir.toml").expect("the file every test starts from");
    assert_eq!(loaded.warnings, []);
}

#[test]
fn every_problem_is_reported_in_the_order_of_the_lines() {
    let text = GOOD
        .replace("memory_mib = 512", "memory_mib = 0")
        .replace("weight = 100", "wait = 100")
        .replace("127.0.0.1:9180", "9180")
        .replace("port = 80", "port = true");
    let errors = Config::parse(&text, "weir.toml").expect_err("four mistakes");
    let lines: Vec<_> = errors.problems.iter().map(|problem| problem.line).collect();
    assert_eq!(lines, [Some(3), Some(6), Some(28), Some(32)]);
}
