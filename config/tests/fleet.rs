//! What the good files of the control plane become: every field of the models, every default,
//! and the files they name.

use config::{
    Access, Checker, CheckerConfig, ClientTls, Command, Config, Configuration, Content, Controller,
    ControllerClient, ControllerConfig, Credential, Etcd, EtcdUser, Fleet, Identity, Limits,
    Registry, Role, ServerTls, Store,
};
use std::path::Path;
use std::time::Duration;

const CONTROLLER: &str = r#"
    [controller]
    name = "controller-a"
    listen = "0.0.0.0:9190"
    http = "[::]:9191"
    advertise = "https://Controller-A.example.net:9190"
    state_dir = "/s"
    [registry]
    kind = "etcd"
    timeout_ms = 100
    endpoints = ["https://etcd-a:2379", "https://[2001:db8::1]:2379"]
    prefix = "/other/"
    lease_seconds = 60
    compact = false
    ca = "/etcd-ca"
    certificate = "/etcd-certificate"
    key = "/etcd-key"
    server_name = "etcd.example.net"
    user = "weir"
    password_file = "/etcd-password"
    [tls]
    certificate = "/certificate"
    key = "/key"
    client_ca = "/client-ca"
    [[access]]
    name = "ops"
    role = "operator"
    token_file = "/ops-token"
    [[access]]
    name = "lb-a1"
    role = "node"
    certificate = "lb-a1.example.net"
    [[access]]
    name = "checker-1"
    role = "checker"
    certificate = "Checker One"
    [[access]]
    name = "eye"
    role = "viewer"
    token_file = "/eye-token"
    [limits]
    streams = 1
    request_bytes = 65_536
    requests_per_second = 2
    health_window = 16
    [fleet]
    checkers_silent_seconds = 3
    evicted_shown_seconds = 4
"#;

const CHECKER: &str = r#"
    [checker]
    id = "checker:1"
    zone = "z"
    http = "[::1]:1"
    workers = 64
    max_in_flight = 1
    max_commands = 2
    probe_ca = "/probe-ca"
    [controller]
    endpoints = ["https://controller-a:9190"]
    ca = "/ca"
    certificate = "/certificate"
    key = "/key"
    server_name = "controller"
    token_file = "/token"
    [[command]]
    name = "x"
    argv = ["/bin/true", "{ip}", "{port}"]
"#;

#[track_caller]
fn controller(text: &str) -> ControllerConfig {
    let loaded = ControllerConfig::parse(text, "f").unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(loaded.warnings, []);
    loaded.config
}

#[track_caller]
fn checker(text: &str) -> CheckerConfig {
    let loaded = CheckerConfig::parse(text, "f").unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(loaded.warnings, []);
    loaded.config
}

fn entry(name: &str, role: Role, credential: Credential) -> Access {
    Access { name: name.into(), role, credential }
}

#[test]
fn every_key_of_a_controller_has_its_way_into_the_model() {
    let expected = ControllerConfig {
        controller: Controller {
            name: "controller-a".into(),
            listen: "0.0.0.0:9190".parse().unwrap(),
            http: "[::]:9191".parse().unwrap(),
            advertise: Some("https://controller-a.example.net:9190".parse().unwrap()),
            state_dir: "/s".into(),
        },
        registry: Registry {
            store: Store::Etcd(Etcd {
                endpoints: vec![
                    "https://etcd-a:2379".parse().unwrap(),
                    "https://[2001:db8::1]:2379".parse().unwrap(),
                ],
                prefix: "/other/".into(),
                lease: Duration::from_secs(60),
                compact: false,
                tls: Some(ClientTls {
                    ca: "/etcd-ca".into(),
                    identity: Some(Identity {
                        certificate: "/etcd-certificate".into(),
                        key: "/etcd-key".into(),
                    }),
                    server_name: Some("etcd.example.net".into()),
                }),
                user: Some(EtcdUser {
                    name: "weir".into(),
                    password_file: "/etcd-password".into(),
                }),
            }),
            timeout: Duration::from_millis(100),
        },
        tls: Some(ServerTls {
            identity: Identity { certificate: "/certificate".into(), key: "/key".into() },
            client_ca: Some("/client-ca".into()),
        }),
        access: vec![
            entry("ops", Role::Operator, Credential::TokenFile("/ops-token".into())),
            entry("lb-a1", Role::Node, Credential::Certificate("lb-a1.example.net".into())),
            entry("checker-1", Role::Checker, Credential::Certificate("Checker One".into())),
            entry("eye", Role::Viewer, Credential::TokenFile("/eye-token".into())),
        ],
        limits: Limits {
            streams: 1,
            request_bytes: 65_536,
            requests_per_second: 2,
            health_window: 16,
        },
        fleet: Fleet {
            checkers_silent: Duration::from_secs(3),
            evicted_shown: Duration::from_secs(4),
        },
    };
    assert_eq!(controller(CONTROLLER), expected);
}

#[test]
fn absent_sections_of_a_controller_are_all_defaults() {
    let config = controller("[controller]\n");
    assert_eq!(config.controller.name, "controller");
    assert_eq!(config.controller.listen, "127.0.0.1:9190".parse().unwrap());
    assert_eq!(config.controller.http, "127.0.0.1:9191".parse().unwrap());
    assert_eq!(config.controller.advertise, None);
    assert_eq!(config.controller.state_dir, Path::new("/var/lib/weir-controller"));
    let path = "/var/lib/weir-controller/registry.redb".into();
    assert_eq!(config.registry.store, Store::Embedded { path });
    assert_eq!(config.registry.timeout, Duration::from_secs(5));
    assert_eq!((config.tls, config.access), (None, vec![]));
    let limits = config.limits;
    assert_eq!((limits.streams, limits.request_bytes), (512, 4 << 20));
    assert_eq!((limits.requests_per_second, limits.health_window), (200, 4096));
    assert_eq!(config.fleet.checkers_silent, Duration::from_secs(15));
    assert_eq!(config.fleet.evicted_shown, Duration::from_secs(60));
}

#[test]
fn the_embedded_store_is_in_the_state_directory_unless_it_is_said_where() {
    let store = |text: &str| controller(text).registry.store;
    let path = "/s/registry.redb".into();
    assert_eq!(store("[controller]\nstate_dir = \"/s\"\n"), Store::Embedded { path });
    let text = "[registry]\nkind = \"embedded\"\npath = \"/r\"\n";
    assert_eq!(store(text), Store::Embedded { path: "/r".into() });
    let etcd = "[controller]\nname = \"a\"\n[registry]\nkind = \"etcd\"\n\
                endpoints = [\"http://127.0.0.1:2379\"]\n";
    let Store::Etcd(etcd) = store(etcd) else { panic!("no etcd") };
    assert_eq!((etcd.prefix.as_str(), etcd.lease), ("/weir/", Duration::from_secs(5)));
    assert!(etcd.compact);
    assert_eq!((etcd.tls, etcd.user), (None, None));
}

#[test]
fn every_key_of_a_checker_has_its_way_into_the_model() {
    let expected = CheckerConfig {
        checker: Checker {
            id: "checker:1".into(),
            zone: "z".into(),
            http: "[::1]:1".parse().unwrap(),
            workers: 64,
            max_in_flight: 1,
            max_commands: 2,
            probe_ca: Some("/probe-ca".into()),
        },
        controller: ControllerClient {
            endpoints: vec!["https://controller-a:9190".parse().unwrap()],
            tls: Some(ClientTls {
                ca: "/ca".into(),
                identity: Some(Identity { certificate: "/certificate".into(), key: "/key".into() }),
                server_name: Some("controller".into()),
            }),
            token_file: Some("/token".into()),
        },
        commands: vec![Command {
            name: "x".into(),
            argv: vec!["/bin/true".into(), "{ip}".into(), "{port}".into()],
        }],
    };
    assert_eq!(checker(CHECKER), expected);
    let least = "[checker]\nid = \"c\"\n[controller]\nendpoints = [\"http://127.0.0.1:9190\"]\n";
    let CheckerConfig { checker, controller, commands } = checker(least);
    assert_eq!(checker.zone, "default");
    assert_eq!(checker.http, "127.0.0.1:9192".parse().unwrap());
    assert_eq!((checker.workers, checker.max_in_flight), (2, 4096));
    assert_eq!((checker.max_commands, checker.probe_ca), (64, None));
    assert_eq!((controller.tls, controller.token_file, commands), (None, None, vec![]));
}

#[test]
fn a_node_has_pools_or_controllers() {
    let text = "[node]\nadmin = \"192.0.2.2:9180\"\nadmin_token_file = \"/admin-token\"\n\
                [[port]]\nname = \"p\"\ndevice = \"d\"\naddresses = [\"192.0.2.2/24\"]\n\
                [controller]\nendpoints = [\"https://c:1\"]\nca = \"/ca\"\n";
    let loaded = Config::parse(text, "f").unwrap_or_else(|errors| panic!("{errors}"));
    // That there is no VIP in the file is as it should be.
    assert_eq!(loaded.warnings, []);
    let config = loaded.config;
    assert_eq!((config.pools.len(), config.vips.len()), (0, 0));
    assert_eq!(config.node.admin_token_file.as_deref(), Some(Path::new("/admin-token")));
    let controller = config.controller.as_ref().expect("a controller");
    assert_eq!(controller.endpoints[0].to_string(), "https://c:1");
    assert_eq!(controller.tls.as_ref().map(|tls| tls.ca.as_path()), Some(Path::new("/ca")));

    let mut other = config.clone();
    other.controller = None;
    assert_eq!(config.restart_required(&other), ["[controller]: removed"]);
    assert_eq!(other.restart_required(&config), ["[controller]: added"]);
    let mut other = config.clone();
    let changed = other.controller.as_mut().expect("a controller");
    changed.endpoints.push("https://d:1".parse().unwrap());
    changed.token_file = Some("/t".into());
    let tls = changed.tls.as_mut().expect("TLS");
    tls.ca.push("x");
    tls.identity = Some(Identity { certificate: "/c".into(), key: "/k".into() });
    tls.server_name = Some("n".into());
    let expected = [
        "[controller] endpoints",
        "[controller] ca",
        "[controller] certificate, key",
        "[controller] server_name",
        "[controller] token_file",
    ];
    assert_eq!(config.restart_required(&other), expected);
}

#[test]
fn every_named_file_is_listed_and_secrets_are_known() {
    let list = |text: &str| -> Vec<(String, String, Content)> {
        let loaded = Configuration::parse(text, "f").unwrap_or_else(|errors| panic!("{errors}"));
        let files = loaded.config.files().into_iter();
        files.map(|file| (file.place, file.path.display().to_string(), file.content)).collect()
    };
    let shown = |text: &str| -> Vec<String> {
        let files = list(text).into_iter();
        files.map(|(place, path, content)| format!("{place} = {path} {content:?}")).collect()
    };
    assert_eq!(
        shown(CONTROLLER),
        [
            "[registry]: ca = /etcd-ca Public",
            "[registry]: certificate = /etcd-certificate Public",
            "[registry]: key = /etcd-key Secret",
            "[registry]: password_file = /etcd-password Secret",
            "[tls]: certificate = /certificate Public",
            "[tls]: key = /key Secret",
            "[tls]: client_ca = /client-ca Public",
            "access \"ops\": token_file = /ops-token Secret",
            "access \"eye\": token_file = /eye-token Secret",
        ]
    );
    assert_eq!(
        shown(CHECKER),
        [
            "[checker]: probe_ca = /probe-ca Public",
            "[controller]: ca = /ca Public",
            "[controller]: certificate = /certificate Public",
            "[controller]: key = /key Secret",
            "[controller]: token_file = /token Secret",
            "command \"x\": argv = /bin/true Program",
        ]
    );
    let node = "[node]\nadmin_token_file = \"/admin-token\"\n[[port]]\nname = \"p\"\n\
                device = \"d\"\naddresses = [\"192.0.2.2/24\"]\n";
    assert_eq!(shown(node), ["[node]: admin_token_file = /admin-token Secret"]);
}
