//! docs/security.md is run as it stands: its openssl makes what a server and a client take, and its
//! curl gets through. docs/api.md names every route.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use access::{Access, ClientCertificates, Entry, Proof, Role, Tls, TlsSettings};
use axum::http::Method;
use gateway::routes::{NOT_ROUTED, ROUTES};
use serde_json::Value;
use tokio::process::Command;

use crate::certificates::{Shown, client_tls};
use crate::wire::{self, request, soon, whole};

fn page(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(name);
    fs::read_to_string(path).unwrap()
}

/// The page's shell commands, in order.
fn commands(page: &str) -> Vec<&str> {
    page.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect()
}

async fn run(folder: &Path, script: &str) -> String {
    let mut shell = Command::new("bash");
    shell.args(["-euo", "pipefail", "-c", script]).current_dir(folder).kill_on_drop(true);
    // Whatever the machine's own settings are; `.curlrc` is looked for there.
    shell.env("HOME", folder).env("CURL_HOME", folder).env_remove("OPENSSL_CONF");
    for proxy in ["http_proxy", "https_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"] {
        shell.env_remove(proxy);
    }
    let output = soon(shell.output()).await.expect("bash, openssl and curl are needed");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    assert!(output.status.success(), "{script}\n{}", text(output.stderr));
    text(output.stdout)
}

#[tokio::test]
async fn the_commands_of_the_security_page_do_what_it_says() {
    let page = page("security.md");
    let commands = commands(&page);
    let (curl, openssl): (Vec<&str>, Vec<&str>) =
        commands.into_iter().partition(|block| block.contains("curl "));
    let home = tempfile::tempdir().unwrap();
    run(home.path(), &openssl.concat()).await;
    let folder = home.path().join("weir-ca");
    let file = |name: &str| -> PathBuf { folder.join(name) };

    let settings = TlsSettings {
        certificate: file("controller-a.example.net.pem"),
        key: file("controller-a.example.net.key"),
        client_ca: Some(file("ca.pem")),
    };
    let entry = |name: &str, role, proof| Entry { name: name.to_owned(), role, proof };
    let certificate = |name: &str| Proof::Certificate(name.to_owned());
    let entries = vec![
        entry("ops", Role::Operator, certificate("ops.example.net")),
        entry("deploy", Role::Operator, Proof::TokenFile(file("deploy.token"))),
        entry("lb-a1", Role::Node, certificate("lb-a1.example.net")),
        entry("checker-a1", Role::Checker, certificate("checker-a1.example.net")),
    ];
    let everywhere: SocketAddr = "0.0.0.0:9191".parse().unwrap();
    let access = Arc::new(Access::build(entries, Some(&settings), &[everywhere]).unwrap());
    let tls = Arc::new(Tls::open(settings, ClientCertificates::Optional).unwrap());
    let server = wire::serve(access, Some(tls)).await;

    // The page's names and ports lead to the test's server.
    let port = server.address.port();
    let to = format!("connect-to = \"controller-a.example.net:9191:127.0.0.1:{port}\"\n");
    fs::write(folder.join(".curlrc"), to).unwrap();
    assert_eq!(curl.len(), 2);
    for command in curl {
        let answer: Value = serde_json::from_str(&run(&folder, command).await).unwrap();
        assert!(answer.is_object(), "{answer}");
    }

    // What the page issues to a node is a node's.
    let read = |name: &str| fs::read_to_string(file(name)).unwrap();
    let shown =
        Shown { certificate: read("lb-a1.example.net.pem"), key: read("lb-a1.example.net.key") };
    let tls = client_tls(&read("ca.pem"), Some(&shown));
    let as_node = |target| {
        server.open_as(
            "controller-a.example.net",
            request(Method::GET, target, ""),
            Some(tls.clone()),
        )
    };
    assert_eq!(whole(as_node("/v1/snapshots?node_id=lb-a1").await.unwrap()).await.status, 200);
    assert_eq!(whole(as_node("/v1/pools").await.unwrap()).await.status, 403);

    // A controller's certificate is not a caller's: it is for servers only.
    let name = "controller-a.example.net";
    let shown =
        Shown { certificate: read(&format!("{name}.pem")), key: read(&format!("{name}.key")) };
    let tls = client_tls(&read("ca.pem"), Some(&shown));
    let refused = server.open_as(name, request(Method::GET, "/v1/pools", ""), Some(tls)).await;
    assert!(refused.is_err());
}

#[test]
fn the_page_about_the_api_has_every_route() {
    let page = page("api.md");
    for route in &ROUTES {
        let row = format!("| `{} {}` | `{}` |", route.method, route.path, route.rpc.name());
        assert!(page.contains(&row), "docs/api.md lacks {row}");
    }
    for (name, _) in NOT_ROUTED {
        assert!(page.contains(&format!("`{name}`")), "docs/api.md lacks {name}");
    }
    let rows = page.lines().filter(|line| line.contains(" /v1/") && line.starts_with("| `"));
    assert_eq!(rows.count(), ROUTES.len());
}
