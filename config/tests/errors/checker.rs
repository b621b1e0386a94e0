//! A checker's file, and `[controller]`, which a node's file has too.

use config::{CheckerConfig, Config};

const GOOD: &str = r#"[checker]
id = "checker-1"
http = "127.0.0.1:9192"

[controller]
endpoints = ["https://a.example.net:9190", "https://b.example.net:9190"]
ca = "/etc/weir/ca.pem"
certificate = "/etc/weir/checker-1.pem"
key = "/etc/weir/checker-1.key"

[[command]]
name = "postgres"
argv = ["/usr/bin/pg_isready", "--host={ip}"]
"#;

#[track_caller]
fn check(old: &str, new: &str, expected: &str) {
    assert_eq!(GOOD.matches(old).count(), 1, "{old:?} must be in the file once");
    match CheckerConfig::parse(&GOOD.replace(old, new), "k.toml") {
        Ok(_) => panic!("accepted with {new:?}"),
        Err(errors) => assert_eq!(errors.to_string(), expected),
    }
}

#[test]
fn the_good_file_is_good() {
    let loaded = CheckerConfig::parse(GOOD, "k.toml").expect("the file every test starts from");
    assert_eq!(loaded.warnings, []);
}

#[test]
fn a_checker_has_a_name_and_controllers() {
    check("id = \"checker-1\"\n", "", "k.toml:1: [checker]: id is missing (expected a string)");
    let controller = GOOD.split_once("[controller]").and_then(|(_, rest)| rest.split_once("\n\n"));
    let (section, _) = controller.expect("the section");
    check(
        &format!("[controller]{section}\n"),
        "",
        "k.toml:1: controller is missing (expected a table [controller])",
    );
    check(
        "[checker]\nid = \"checker-1\"\nhttp = \"127.0.0.1:9192\"\n",
        "",
        "k.toml:1: checker is missing (expected a table [checker])",
    );
    check(
        "\"127.0.0.1:9192\"",
        "\"0.0.0.0:9192\"",
        "k.toml:3: [checker]: http = \"0.0.0.0:9192\" is reachable from the network (expected a \
         loopback address, such as \"127.0.0.1:9192\")",
    );
}

#[test]
fn endpoints_and_tls_go_together() {
    check(
        "ca = \"/etc/weir/ca.pem\"\n",
        "",
        "k.toml:5: [controller]: ca is missing (expected the authority that signs the \
         certificates of https endpoints)",
    );
    check(
        "key = \"/etc/weir/checker-1.key\"\n",
        "",
        "k.toml:8: [controller]: certificate = \"/etc/weir/checker-1.pem\" stands alone \
         (expected \"key\" beside it)",
    );
    check(
        "[\"https://a.example.net:9190\", \"https://b.example.net:9190\"]",
        "[\"http://127.0.0.1:9190\"]",
        "k.toml:7: [controller]: ca = \"/etc/weir/ca.pem\" has no use, as endpoints are http \
         (expected https endpoints, or the key to be left out)",
    );
    check(
        "ca = \"/etc/weir/ca.pem\"",
        "ca = \"/etc/weir/ca.pem\"\nserver_name = \"a b\"",
        "k.toml:8: [controller]: server_name = \"a b\" is not a host name or IP address \
         (expected one such as \"controller.example.net\")",
    );
}

#[test]
fn a_token_is_not_sent_in_the_clear() {
    let file = |endpoint: &str| {
        format!(
            "[checker]\nid = \"c\"\n[controller]\nendpoints = [\"{endpoint}\"]\ntoken_file = \"/t\"\n"
        )
    };
    let refused = CheckerConfig::parse(&file("http://192.0.2.10:9190"), "k.toml");
    assert_eq!(
        refused.expect_err("a token in the clear").to_string(),
        "k.toml:5: [controller]: token_file = \"/t\" would be sent to http://192.0.2.10:9190 in \
         the clear (expected https endpoints, or loopback ones)"
    );
    for endpoint in ["http://127.0.0.1:9190", "http://[::1]:9190", "http://localhost:9190"] {
        CheckerConfig::parse(&file(endpoint), "k.toml").unwrap_or_else(|errors| panic!("{errors}"));
    }
}

#[test]
fn commands_are_named_once_and_in_full() {
    check(
        "\"/usr/bin/pg_isready\"",
        "\"pg_isready\"",
        "k.toml:13: command \"postgres\": argv: \"pg_isready\" is not an absolute path (expected \
         the program's path, which starts with \"/\")",
    );
    check(
        "[\"/usr/bin/pg_isready\", \"--host={ip}\"]",
        "[]",
        "k.toml:13: command \"postgres\": argv = [] has 0 elements (expected a program and up \
         to 63 arguments)",
    );
    check(
        "argv = [\"/usr/bin/pg_isready\", \"--host={ip}\"]\n",
        "",
        "k.toml:11: command \"postgres\": argv is missing (expected a list of strings)",
    );
    check(
        "\"--host={ip}\"",
        "\"a\\u0000\"",
        "k.toml:13: command \"postgres\": argv: \"a\\u0000\" holds a NUL (expected an argument)",
    );
    check(
        "[[command]]\nname = \"postgres\"\n",
        "[[command]]\nname = \"postgres\"\nargv = [\"/a\"]\n[[command]]\nname = \"postgres\"\n",
        "k.toml:15: command \"postgres\": name = \"postgres\" is already that of the command at \
         line 12 (expected each name once)",
    );
}

#[test]
fn a_node_has_the_same_section() {
    let node = "[[port]]\nname = \"p\"\ndevice = \"d\"\naddresses = [\"192.0.2.2/24\"]\n";
    let refused = Config::parse(&format!("{node}[controller]\nendpoints = []\n"), "n.toml");
    assert_eq!(
        refused.expect_err("no endpoint").to_string(),
        "n.toml:6: [controller]: endpoints = [] names 0 servers (expected 1 to 16)"
    );
    let refused =
        Config::parse(&format!("{node}[controller]\nlisten = \"127.0.0.1:1\"\n"), "n.toml");
    assert_eq!(
        refused.expect_err("a controller's key").to_string(),
        "n.toml:5: [controller]: endpoints is missing (expected a list, each a URL, such as \
         [\"https://192.0.2.10:9190\"])\n\
         n.toml:6: [controller]: unknown key \"listen\" (expected a known key; nearest is \
         \"key\")"
    );
}

#[test]
fn pools_are_the_controllers_or_the_files() {
    let good = super::GOOD;
    let text = good.replace("[dpdk]", "[controller]\nendpoints = [\"http://127.0.0.1:1\"]\n[dpdk]");
    let refused = Config::parse(&text, "n.toml").expect_err("pools from two sides").to_string();
    assert_eq!(
        refused,
        "n.toml:21: [[pool]] stands beside [controller] at line 5 (expected pools and VIPs from \
         the controller or from the file, not from both)\n\
         n.toml:32: [[vip]] stands beside [controller] at line 5 (expected pools and VIPs from \
         the controller or from the file, not from both)"
    );
}
