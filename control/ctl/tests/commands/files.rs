//! The whole configuration as a file, there and back.

use crate::support::{Bench, write};

const WHOLE: &str = r#"
[[pool]]
id = "web"
table_size = 131071
drain_seconds = 1
hash_secret = "000102030405060708090a0b0c0d0e0f"
probe = { liveness = "http", interval_ms = 1500, http_expected_status = 204 }

  [[pool.backend]]
  id = "b1"
  address = "192.0.2.11"
  port = 80
  weight = 0
  readiness_probe_url = "http://192.0.2.11:80/ready"
  labels = { az = "a" }

  [[pool.backend]]
  id = "b2"
  address = "192.0.2.12"
  port = 80
  state = "drain"

[[pool]]
id = "dns"
reselect = true
forwarding = "gue"
gue_variant = 0
second_chance = true
drain_seconds = 3600
probe = { liveness = "udp", udp_payload = "00ff" }

  [[pool.quic]]
  config_id = 1
  server_id_length = 2
  nonce_length = 8
  key = "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff"

  [[pool.backend]]
  id = "b3"
  address = "192.0.2.13"
  port = 53
  quic_server_ids = ["0a0b"]

[[vip]]
address = "203.0.113.1"
port = 80
protocol = "tcp"
pool = "web"
mss_clamp = "auto"

[[vip]]
address = "203.0.113.0/28"
port = "8000-8099"
protocol = "any"
pool = "dns"
udp_idle_seconds = 5
affinity = "source"
mss_clamp = 1400
"#;

/// How its second pool forwards.
const GUE: &str = "forwarding = \"gue\"\ngue_variant = 0\nsecond_chance = true";

#[tokio::test]
async fn a_file_becomes_the_configuration_and_the_configuration_that_file() {
    let bench = Bench::start().await;
    // The drain must still be on when it is exported.
    let whole = WHOLE.replace("drain_seconds = 1\n", "drain_seconds = 3600\n");
    let file = write(&bench.path("whole.toml"), &whole);
    let dry = bench.ok(&format!("import {file} --dry-run")).await;
    assert!(dry.contains("create pool web: maglev, 131071 slots, ipip"), "{dry}");
    assert!(dry.ends_with("8 steps to do; nothing was changed\n"), "{dry}");
    assert_eq!(bench.ok("pool list").await, "no pools\n");

    let done = bench.ok(&format!("import {file}")).await;
    assert_eq!(done, dry.replace("8 steps to do; nothing was changed", "8 steps done"));
    assert_eq!(bench.ok(&format!("import {file} --prune")).await, "nothing to do\n");

    let exported = bench.path("exported.toml");
    bench.ok(&format!("export --secrets --file {}", exported.display())).await;
    let text = std::fs::read_to_string(&exported).unwrap();
    assert!(text.contains("000102030405060708090a0b0c0d0e0f"), "{text}");
    assert!(text.contains("weight = 0") && text.contains("state = \"drain\""), "{text}");
    let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&exported).unwrap());
    assert_eq!(mode & 0o777, 0o600, "only its owner reads a file with secrets");
    let exported = exported.display();
    assert_eq!(bench.ok(&format!("import {exported} --prune")).await, "nothing to do\n");
    let plain = bench.ok("export").await;
    assert!(!plain.contains("hash_secret"), "{plain}");

    // Into an empty controller: the same again, secrets included.
    let other = Bench::start().await;
    other.ok(&format!("import {exported}")).await;
    assert_eq!(other.ok("export --secrets").await, text);
    other.stop().await;
    bench.stop().await;
}

#[tokio::test]
async fn only_pruning_removes_and_it_removes_all() {
    let bench = Bench::start().await;
    let file = write(&bench.path("whole.toml"), WHOLE);
    bench.ok(&format!("import {file}")).await;
    let less = WHOLE.split("[[pool]]\nid = \"dns\"").next().unwrap();
    let less = format!(
        "{less}[[vip]]\naddress = \"203.0.113.1\"\nport = 80\nprotocol = \"tcp\"\npool = \"web\"\n\
         mss_clamp = \"auto\"\n"
    );
    let less = write(&bench.path("less.toml"), &less);
    assert_eq!(bench.ok(&format!("import {less}")).await, "nothing to do\n");
    let dry = bench.ok(&format!("import {less} --prune --dry-run")).await;
    assert_eq!(
        dry,
        "unbind VIP 203.0.113.0/28:8000-8099/any\nderegister backend b3\ndelete pool dns\n\
         3 steps to do; nothing was changed\n"
    );
    bench.ok(&format!("import {less} --prune --now")).await;
    let pools = bench.json("pool list").await;
    assert_eq!(pools["pools"].as_array().map(Vec::len), Some(1), "{pools}");
    assert_eq!(bench.ok(&format!("import {less} --prune")).await, "nothing to do\n");

    // A pool whose backends drain first: it waits for them.
    let nothing = write(&bench.path("nothing.toml"), "");
    let done = bench.run(&format!("import {nothing} --prune --json")).await;
    assert_eq!(done.code, 0, "{done:?}");
    let last: serde_json::Value = serde_json::from_str(done.out.lines().last().unwrap()).unwrap();
    assert_eq!(last["action"], "delete_pool");
    assert_eq!(last["applied"], true);
    assert_eq!(bench.ok("pool list").await, "no pools\n");
    bench.stop().await;
}

#[tokio::test]
async fn a_vip_moves_and_settings_change() {
    let bench = Bench::start().await;
    let file = write(&bench.path("whole.toml"), WHOLE);
    bench.ok(&format!("import {file}")).await;
    let changed = WHOLE
        .replace(
            "port = 80\nprotocol = \"tcp\"\npool = \"web\"",
            "port = 80\nprotocol = \"tcp\"\npool = \"dns\"",
        )
        .replace("reselect = true\n", "")
        .replace("udp_idle_seconds = 5", "udp_idle_seconds = 6")
        .replace("weight = 0", "weight = 9");
    let changed = write(&bench.path("changed.toml"), &changed);
    let done = bench.ok(&format!("import {changed}")).await;
    assert_eq!(
        done,
        "update pool dns: reselect true -> false\n\
         update backend b1: weight 0 -> 9\n\
         give VIP 203.0.113.0/28:8000-8099/any of pool dns other settings\n\
         move VIP 203.0.113.1:80/tcp from pool web to pool dns\n\
         4 steps done\n"
    );
    assert_eq!(bench.ok(&format!("import {changed}")).await, "nothing to do\n");
    bench.stop().await;
}

#[tokio::test]
async fn a_file_with_a_mistake_changes_nothing() {
    let bench = Bench::start().await;
    let file = write(&bench.path("bad.toml"), &WHOLE.replace("192.0.2.13", "host"));
    let done = bench.run(&format!("import {file}")).await;
    assert_eq!(done.code, 2, "{done:?}");
    assert!(done.errors.contains("bad.toml:40: address: \"host\""), "{done:?}");
    let done = bench.run("import /none.toml").await;
    assert_eq!(done.code, 2, "{done:?}");
    // What only the controller can refuse stops the import there, and says how far it came.
    let file = write(&bench.path("later.toml"), &WHOLE.replace(GUE, "forwarding = \"nat\""));
    let message = bench.fails(&format!("import {file}")).await;
    assert!(message.contains("settings.forwarding"), "{message}");
    assert!(message.contains("0 of 8 steps were done"), "{message}");
    bench.stop().await;
}

#[tokio::test]
async fn a_long_import_backs_off_when_it_is_asked_to() {
    let bench = Bench::start_with(|settings| settings.limits.requests_per_second = 20).await;
    let backend = |number: usize| {
        format!("[[pool.backend]]\nid = \"b{number}\"\naddress = \"192.0.2.{number}\"\nport = 80\n")
    };
    let text = "[[pool]]\nid = \"web\"\n".to_owned() + &(1..=90).map(backend).collect::<String>();
    let file = write(&bench.path("many.toml"), &text);
    let done = bench.ok(&format!("import {file}")).await;
    assert!(done.ends_with("91 steps done\n"), "{done}");
    bench.stop().await;
}
