//! What is read, and what every mistake is told.

use super::*;

fn problems(text: &str) -> String {
    read(text, "f").unwrap_err()
}

#[test]
fn a_nodes_pools_and_vips_are_read_as_they_are() {
    let text = r#"
            [[pool]]
            id = "web"
              [[pool.backend]]
              id = "host-1"
              address = "192.0.2.11"
              port = 80
            [[vip]]
            address = "203.0.113.0/28"
            port = "8000-8099"
            protocol = "tcp"
            pool = "web"
        "#;
    let configuration = read(text, "f").unwrap();
    let pool = &configuration.pools["web"];
    assert_eq!(pool.settings.table_size, 65_537);
    assert_eq!(pool.backends["host-1"].weight, 100);
    let (name, vip) = configuration.vips.first_key_value().unwrap();
    assert_eq!(name.to_string(), "203.0.113.0/28:8000-8099/tcp");
    assert_eq!(vip.idle, Idle::default());
}

#[test]
fn unknown_keys_are_named_with_their_line() {
    let error = problems("[[pool]]\nid = \"a\"\n\nwieght = 3\n");
    assert!(error.starts_with("f:4: unknown field `wieght`, expected one of"), "{error}");
    let error = problems("[[pool]]\nid = \"a\"\n[node]\n");
    assert!(error.starts_with("f:3: unknown field `node`"), "{error}");
}

#[test]
fn what_is_no_toml_is_one_problem() {
    let error = problems("[[pool]]\nid = \n");
    assert!(error.starts_with("f:2: ") && error.lines().count() == 1, "{error}");
}

#[test]
fn all_problems_come_together_each_at_its_line() {
    let error = problems(
        r#"[[pool]]
id = "a b"
scheduler = "random"
table_size = 65536
hash_secret = "0102deadbeef"
quorum_down = 4
probe = { jitter_percent = 21 }
[[pool.backend]]
id = "x"
address = "host"
port = 0
[[pool.backend]]
id = "x"
address = "192.0.2.1"
port = 80
state = "off"
readiness_probe_url = "http://me:deadbeef@host/"
[[vip]]
address = "203.0.113.1/28"
port = 80
protocol = "sctp"
pool = "a b"
[[vip]]
address = "203.0.113.1"
port = "90-80"
protocol = "tcp"
pool = "a b"
[[vip]]
address = "203.0.113.2"
port = 80
protocol = "tcp"
pool = "none"
"#,
    );
    let lines: Vec<&str> = error.lines().collect();
    let starts = [
        "f:2: id: \"a b\" is no name",
        "f:2: quorum_down: 4 of 3 checkers is no majority",
        "f:3: scheduler: \"random\" is not known (expected maglev, ring, wrr)",
        "f:4: table_size = 65536 is not a prime",
        "f:5: hash_secret: is no hash secret",
        "f:7: jitter_percent = 21 is out of range (1 to 20)",
        "f:10: address: \"host\" is no IP address",
        "f:11: port = 0 is out of range",
        "f:13: backend \"x\" is there already, on line 9",
        "f:16: state: \"off\"",
        "f:17: readiness_probe_url: is no URL",
        "f:19: address: \"203.0.113.1/28\" has host bits set",
        "f:21: protocol: \"sctp\"",
        "f:25: port: 90-80",
        "f:32: pool = \"none\" is no [[pool]] of this file",
    ];
    assert_eq!(lines.len(), starts.len(), "{error}");
    for (line, start) in lines.iter().zip(starts) {
        assert!(line.starts_with(start), "{line:?} instead of {start:?}");
    }
    assert!(!error.contains("deadbeef"));
}

#[test]
fn vips_that_tie_are_refused() {
    let vip = |port: &str| {
        format!(
            "[[vip]]\naddress = \"192.0.2.1\"\nport = {port}\nprotocol = \"tcp\"\npool = \"a\"\n"
        )
    };
    let file = |ports: [&str; 2]| "[[pool]]\nid = \"a\"\n".to_owned() + &ports.map(vip).concat();
    assert!(read(&file(["\"1-5\"", "5"]), "f").is_ok());
    let error = problems(&file(["\"1-5\"", "\"5-9\""]));
    assert!(error.contains("f:9: VIP 192.0.2.1:5-9/tcp overlaps"), "{error}");
    let error = problems(&file(["80", "80"]));
    assert!(error.contains("f:9: VIP 192.0.2.1:80/tcp is there already, on line 4"), "{error}");
}

#[test]
fn a_pool_holds_a_fiftieth_of_its_slots() {
    let backend = |number: u32| {
        format!("[[pool.backend]]\nid = \"b{number}\"\naddress = \"192.0.2.1\"\nport = 1\n")
    };
    let head = "[[pool]]\nid = \"a\"\ntable_size = 101\n";
    let file = |count| head.to_owned() + &(0..count).map(backend).collect::<String>();
    assert!(read(&file(2), "f").is_ok());
    let error = problems(&file(3));
    assert!(error.contains("3 backends, at most 2 for a table of 101 slots"), "{error}");
}

#[test]
fn probes_are_what_a_checker_can_do() {
    let file = |probe: &str| format!("[[pool]]\nid = \"a\"\nprobe = {{ {probe} }}\n");
    assert!(read(&file("interval_ms = 500, timeout_ms = 500"), "f").is_ok());
    let error = problems(&file("interval_ms = 500"));
    assert!(error.contains("f:2: probe: timeout_ms = 1000 is longer"), "{error}");
    assert!(read(&file("liveness = \"command\", command = \"c\""), "f").is_ok());
    let error = problems(&file("liveness = \"command\""));
    assert!(error.contains("probe: command: \"\" is no name"), "{error}");
}

#[test]
fn primes() {
    for (number, prime) in [(0, false), (2, true), (9, false), (65_537, true), (655_373, true)] {
        assert_eq!(is_prime(number), prime, "{number}");
    }
    assert!(!is_prime(16_777_215));
}

#[test]
fn the_manuals_example_is_what_is_read() {
    let manual = include_str!("../../../../../docs/ctl.md");
    let example = manual.split("```toml").nth(1).unwrap().split("```").next().unwrap();
    let configuration = read(example, "docs/ctl.md").unwrap();
    let backend = &configuration.pools["web"].backends["host-1"];
    assert_eq!((backend.weight, backend.service), (100, Service::Drain));
    assert_eq!(configuration.vips.len(), 1);
}
