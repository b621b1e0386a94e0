//! A controller's file: who may reach it, where it keeps what it knows.

use config::ControllerConfig;

const GOOD: &str = r#"[controller]
name = "controller-a"
listen = "192.0.2.10:9190"
http = "192.0.2.10:9191"
advertise = "https://192.0.2.10:9190"

[registry]
kind = "etcd"
endpoints = ["https://192.0.2.21:2379", "https://192.0.2.22:2379"]
ca = "/etc/weir/etcd-ca.pem"
user = "weir"
password_file = "/etc/weir/etcd.password"

[tls]
certificate = "/etc/weir/controller-a.pem"
key = "/etc/weir/controller-a.key"
client_ca = "/etc/weir/ca.pem"

[[access]]
name = "ops"
role = "operator"
token_file = "/etc/weir/ops.token"

[[access]]
name = "lb-a1"
role = "node"
certificate = "lb-a1.example.net"
"#;

/// Checks what is printed when `old`, which is in the good file once, becomes `new`.
#[track_caller]
fn check(old: &str, new: &str, expected: &str) {
    assert_eq!(GOOD.matches(old).count(), 1, "{old:?} must be in the file once");
    check_file(&GOOD.replace(old, new), expected);
}

#[track_caller]
fn check_file(text: &str, expected: &str) {
    match ControllerConfig::parse(text, "c.toml") {
        Ok(_) => panic!("the file was accepted:\n{text}"),
        Err(errors) => assert_eq!(errors.to_string(), expected),
    }
}

#[track_caller]
fn warnings(text: &str) -> Vec<String> {
    let loaded =
        ControllerConfig::parse(text, "c.toml").unwrap_or_else(|errors| panic!("{errors}"));
    loaded.warnings.iter().map(ToString::to_string).collect()
}

#[test]
fn the_good_file_is_good() {
    assert_eq!(warnings(GOOD), [""; 0]);
    assert_eq!(warnings("[controller]\n"), [""; 0]);
}

#[test]
fn unknown_keys_name_the_nearest_of_their_own_section() {
    check(
        "advertise =",
        "advertize =",
        "c.toml:5: [controller]: unknown key \"advertize\" (expected a known key; nearest is \
         \"advertise\")",
    );
    check(
        "[registry]",
        "[registri]",
        "c.toml:7: unknown key \"registri\" (expected a known key; nearest is \"registry\")",
    );
    check(
        "role = \"node\"",
        "roll = \"node\"",
        "c.toml:24: access \"lb-a1\": role is missing (expected \"operator\", \"checker\", \
         \"node\" or \"viewer\")\n\
         c.toml:26: access \"lb-a1\": unknown key \"roll\" (expected a known key; nearest is \
         \"role\")",
    );
}

#[test]
fn listeners_that_strangers_reach_need_tls_and_a_list_of_callers() {
    let open = "[controller]\nlisten = \"0.0.0.0:9190\"\nadvertise = \"http://192.0.2.10:9190\"\n";
    check_file(
        open,
        "c.toml:2: [controller]: listen = \"0.0.0.0:9190\" is reachable from the network, and \
         there is no [tls] and no [[access]] (expected both, or a loopback address such as \
         \"127.0.0.1:9190\")",
    );
    let tls = "[tls]\ncertificate = \"/c\"\nkey = \"/k\"\n";
    check_file(
        &format!("[controller]\nhttp = \"[2001:db8::1]:9191\"\n{tls}"),
        "c.toml:2: [controller]: http = \"[2001:db8::1]:9191\" is reachable from the network, \
         and there is no [[access]] (expected both, or a loopback address such as \
         \"127.0.0.1:9191\")",
    );
    let access = "[[access]]\nname = \"ops\"\nrole = \"operator\"\ntoken_file = \"/t\"\n";
    check_file(
        &format!("[controller]\nhttp = \"192.0.2.10:9191\"\n{access}"),
        "c.toml:2: [controller]: http = \"192.0.2.10:9191\" is reachable from the network, and \
         there is no [tls] (expected both, or a loopback address such as \"127.0.0.1:9191\")",
    );
    // On the machine itself, either alone is good.
    assert_eq!(warnings(tls), [""; 0]);
    assert_eq!(warnings(access), [""; 0]);
    assert_eq!(warnings("[controller]\nlisten = \"[::ffff:127.0.0.1]:9190\"\n"), [""; 0]);
    check_file(
        "[controller]\nhttp = \"127.0.0.1:9190\"\n",
        "c.toml:2: [controller]: http = \"127.0.0.1:9190\" is also listen (expected another port)",
    );
    assert_eq!(
        warnings("[controller]\nlisten = \"127.0.0.1:0\"\nhttp = \"127.0.0.1:0\"\n"),
        [""; 0]
    );
}

#[test]
fn advertise_is_a_url_that_can_be_called() {
    check(
        "\"https://192.0.2.10:9190\"",
        "\"http://192.0.2.10:9190\"",
        "c.toml:5: [controller]: advertise = \"http://192.0.2.10:9190\" is http, and there is \
         [tls] (expected https)",
    );
    check_file(
        "[controller]\nadvertise = \"https://192.0.2.10:9190\"\n",
        "c.toml:2: [controller]: advertise = \"https://192.0.2.10:9190\" is https, and there is \
         no [tls] (expected http, or [tls])",
    );
    check(
        "\"https://192.0.2.10:9190\"",
        "\"https://[::]:9190\"",
        "c.toml:5: [controller]: advertise = \"https://[::]:9190\" is an address to listen at, \
         not to call (expected the URL that clients call)",
    );
    check(
        "\"https://192.0.2.10:9190\"",
        "\"192.0.2.10:9190\"",
        "c.toml:5: [controller]: advertise = \"192.0.2.10:9190\" is not a URL (expected one such \
         as \"https://192.0.2.10:9190\")",
    );
    let everywhere = GOOD
        .replace("advertise = \"https://192.0.2.10:9190\"\n", "")
        .replace("192.0.2.10:9190", "0.0.0.0:9190");
    check_file(
        &everywhere,
        "c.toml:1: [controller]: advertise is missing, and listen is every address of the \
         machine (expected the URL that clients call)",
    );
}

#[test]
fn keys_of_the_other_store_are_refused() {
    check(
        "kind = \"etcd\"\nendpoints",
        "path = \"/var/lib/weir.redb\"\nendpoints",
        "c.toml:9: [registry]: endpoints = [\"https://192.0.2.21:2379\", \
         \"https://192.0.2.22:2379\"] is a key of kind \"etcd\", and kind is \"embedded\" \
         (expected the key to be left out)\n\
         c.toml:10: [registry]: ca = \"/etc/weir/etcd-ca.pem\" is a key of kind \"etcd\", and \
         kind is \"embedded\" (expected the key to be left out)\n\
         c.toml:11: [registry]: user = \"weir\" is a key of kind \"etcd\", and kind is \
         \"embedded\" (expected the key to be left out)\n\
         c.toml:12: [registry]: password_file = \"/etc/weir/etcd.password\" is a key of kind \
         \"etcd\", and kind is \"embedded\" (expected the key to be left out)",
    );
    check(
        "kind = \"etcd\"",
        "kind = \"etcd\"\npath = \"/var/lib/weir.redb\"",
        "c.toml:9: [registry]: path = \"/var/lib/weir.redb\" is a key of kind \"embedded\", and \
         kind is \"etcd\" (expected the key to be left out)",
    );
    check(
        "kind = \"etcd\"",
        "kind = \"zookeeper\"",
        "c.toml:8: [registry]: kind = \"zookeeper\" is not known (expected \"embedded\" or \
         \"etcd\")",
    );
}

#[test]
fn etcd_needs_members_of_one_scheme_each_once() {
    let members = "[\"https://192.0.2.21:2379\", \"https://192.0.2.22:2379\"]";
    check(
        &format!("endpoints = {members}\n"),
        "",
        "c.toml:7: [registry]: endpoints is missing (expected a list, each a URL, such as \
         [\"https://192.0.2.10:9190\"])",
    );
    check(members, "[]", "c.toml:9: [registry]: endpoints = [] names 0 servers (expected 1 to 16)");
    check(
        "\"https://192.0.2.22:2379\"",
        "\"http://192.0.2.22:2379\"",
        "c.toml:9: [registry]: endpoints: \"http://192.0.2.22:2379\" has another scheme than the \
         first (expected all http or all https)",
    );
    check(
        "\"https://192.0.2.22:2379\"",
        "\"https://192.0.2.21:2379\"",
        "c.toml:9: [registry]: endpoints: \"https://192.0.2.21:2379\" is there twice (expected \
         each once)",
    );
    check(
        "\"https://192.0.2.22:2379\"",
        "\"192.0.2.22\"",
        "c.toml:9: [registry]: endpoints: \"192.0.2.22\" is not a URL (expected one such as \
         \"https://192.0.2.10:9190\")",
    );
    check(
        "\"https://192.0.2.22:2379\"",
        "\"https://0.0.0.0:2379\"",
        "c.toml:9: [registry]: endpoints: \"https://0.0.0.0:2379\" is an address to listen at, \
         not to call (expected the address of one machine)",
    );
}

#[test]
fn certificates_and_keys_come_together_and_with_https() {
    check(
        "ca = \"/etc/weir/etcd-ca.pem\"",
        "",
        "c.toml:7: [registry]: ca is missing (expected the authority that signs the certificates \
         of https endpoints)",
    );
    check(
        "[\"https://192.0.2.21:2379\", \"https://192.0.2.22:2379\"]",
        "[\"http://127.0.0.1:2379\"]",
        "c.toml:10: [registry]: ca = \"/etc/weir/etcd-ca.pem\" has no use, as endpoints are http \
         (expected https endpoints, or the key to be left out)",
    );
    check(
        "user = \"weir\"",
        "user = \"weir\"\ncertificate = \"/c\"",
        "c.toml:12: [registry]: certificate = \"/c\" stands alone (expected \"key\" beside it)",
    );
    check(
        "user = \"weir\"",
        "user = \"weir\"\nkey = \"/k\"",
        "c.toml:12: [registry]: key = \"/k\" stands alone (expected \"certificate\" beside it)",
    );
    check(
        "user = \"weir\"\n",
        "",
        "c.toml:11: [registry]: password_file = \"/etc/weir/etcd.password\" stands alone \
         (expected \"user\" beside it)",
    );
    check(
        "key = \"/etc/weir/controller-a.key\"\n",
        "",
        "c.toml:14: [tls]: key is missing (expected a string)",
    );
    check(
        "\"/etc/weir/controller-a.key\"",
        "\"controller-a.key\"",
        "c.toml:16: [tls]: key = \"controller-a.key\" is not an absolute path (expected a path \
         that starts with \"/\")",
    );
}

#[test]
fn an_entry_has_one_credential_that_no_other_has() {
    check(
        "certificate = \"lb-a1.example.net\"\n",
        "",
        "c.toml:24: access \"lb-a1\": certificate is missing (expected a certificate's name, or \
         a token_file)",
    );
    check(
        "certificate = \"lb-a1.example.net\"",
        "certificate = \"lb-a1.example.net\"\ntoken_file = \"/t\"",
        "c.toml:27: access \"lb-a1\": certificate = \"lb-a1.example.net\" stands beside \
         token_file (expected one of them; make two entries)",
    );
    check(
        "certificate = \"lb-a1.example.net\"",
        "token_file = \"/etc/weir/ops.token\"",
        "c.toml:27: access \"lb-a1\": token_file = \"/etc/weir/ops.token\" is already that of the \
         entry at line 22 (expected each token_file once)",
    );
    check(
        "client_ca = \"/etc/weir/ca.pem\"\n",
        "",
        "c.toml:26: access \"lb-a1\": certificate = \"lb-a1.example.net\" can never be shown, as \
         there is no [tls] with client_ca (expected client_ca, or a token_file)",
    );
    check(
        "certificate = \"lb-a1.example.net\"",
        "certificate = \"\"",
        "c.toml:27: access \"lb-a1\": certificate = \"\" is empty, too long or holds a control \
         character (expected a DNS name or common name)",
    );
    check(
        "name = \"lb-a1\"",
        "name = \"ops\"",
        "c.toml:26: access \"ops\": role = \"node\" is another role than \"operator\" at line 21 \
         (expected one role for each name)",
    );
    check(
        "role = \"node\"",
        "role = \"root\"",
        "c.toml:26: access \"lb-a1\": role = \"root\" is not known (expected \"operator\", \
         \"checker\", \"node\" or \"viewer\")",
    );
}

#[test]
fn one_caller_may_be_known_in_two_ways() {
    let again = "[[access]]\nname = \"ops\"\nrole = \"operator\"\ncertificate = \"ops\"\n";
    assert_eq!(warnings(&format!("{GOOD}{again}")), [""; 0]);
}

#[test]
fn numbers_stay_in_their_ranges() {
    for (section, key, range) in [
        ("limits", "streams", "1 to 65536"),
        ("limits", "request_bytes", "65536 to 67108864"),
        ("limits", "requests_per_second", "1 to 1000000"),
        ("limits", "health_window", "16 to 1048576"),
        ("fleet", "checkers_silent_seconds", "3 to 86400"),
        ("registry", "timeout_ms", "100 to 60000"),
    ] {
        check_file(
            &format!("[{section}]\n{key} = 0\n"),
            &format!("c.toml:2: [{section}]: {key} = 0 is out of range (expected {range})"),
        );
    }
    check(
        "kind = \"etcd\"",
        "kind = \"etcd\"\nlease_seconds = 1",
        "c.toml:9: [registry]: lease_seconds = 1 is out of range (expected 2 to 60, etcd only)",
    );
    check(
        "kind = \"etcd\"",
        "kind = \"etcd\"\nprefix = \"weir\"",
        "c.toml:9: [registry]: prefix = \"weir\" does not begin and end with a slash (expected \
         up to 255 characters such as \"/weir/\")",
    );
}

#[test]
fn what_is_doubtful_is_a_warning() {
    assert_eq!(
        warnings(&GOOD.replace("\"operator\"", "\"viewer\"")),
        ["c.toml:19: no [[access]] has the role \"operator\": nobody can change anything"]
    );
    assert_eq!(
        warnings(&GOOD.replace("name = \"controller-a\"\n", "")),
        ["c.toml:6: [registry] is etcd, and [controller] has no name: each controller of one \
          etcd needs its own"]
    );
    let clear = GOOD
        .replace("ca = \"/etc/weir/etcd-ca.pem\"\n", "")
        .replace("https://192.0.2.21:2379", "http://127.0.0.1:2379")
        .replace("https://192.0.2.22", "http://192.0.2.22");
    assert_eq!(
        warnings(&clear),
        ["c.toml:11: [registry]: the password of user is sent to http://192.0.2.22:2379 in the \
          clear"]
    );
}
