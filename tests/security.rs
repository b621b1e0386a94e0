//! docs/security.md as an operator follows it: its commands make certificates and a token, its
//! configuration runs a controller, and `weir ctl` and checkers are let in, or not, as it says.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;
use support::running::Running;
use support::{scratch, weir};

/// The name in the controller's certificate.
const SERVER: &str = "controller-a.example.net";

fn page() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/security.md");
    fs::read_to_string(path).unwrap()
}

/// The page's blocks of one language, in order.
fn blocks<'a>(page: &'a str, language: &str) -> Vec<&'a str> {
    let fence = format!("```{language}\n");
    page.split(&fence).skip(1).map(|rest| rest.split("```").next().unwrap()).collect()
}

#[track_caller]
fn run(folder: &Path, script: &str) {
    let output = Command::new("timeout")
        .args(["60", "bash", "-euo", "pipefail", "-c", script])
        .current_dir(folder)
        .env_remove("OPENSSL_CONF")
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}\n{errors}");
}

/// What the page makes, and who uses it.
struct Fleet {
    folder: PathBuf,
    grpc: String,
}

impl Fleet {
    fn file(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    /// Calls `weir ctl` with these credentials: exit code, and standard error.
    fn ctl(&self, arguments: &[&str], credentials: &[&str]) -> (Option<i32>, String) {
        let (endpoint, ca) = (format!("https://{}", self.grpc), self.file("ca.pem"));
        let to = ["--endpoint", &endpoint, "--ca", &ca, "--server-name", SERVER];
        let output = weir(&[&["ctl"], arguments, &to, credentials].concat());
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// Calls with the certificate that the page issues to `name`.
    fn ctl_as(&self, name: &str, arguments: &[&str]) -> (Option<i32>, String) {
        let (cert, key) = (self.file(&format!("{name}.pem")), self.file(&format!("{name}.key")));
        self.ctl(arguments, &["--cert", &cert, "--key", &key])
    }

    /// A checker that says it is `id`, with the certificate of checker-a1.
    fn checker(&self, id: &str) -> Running {
        let text = format!(
            "[checker]\nid = \"{id}\"\nhttp = \"127.0.0.1:0\"\n\
             [controller]\nendpoints = [\"https://{}\"]\nserver_name = \"{SERVER}\"\n\
             ca = \"{}\"\ncertificate = \"{}\"\nkey = \"{}\"\n",
            self.grpc,
            self.file("ca.pem"),
            self.file("checker-a1.example.net.pem"),
            self.file("checker-a1.example.net.key"),
        );
        let path = self.file(&format!("{id}.toml"));
        fs::write(&path, text).unwrap();
        Running::start(&["checker", &path])
    }
}

#[test]
fn a_fleet_is_secured_as_the_page_says() {
    let page = page();
    let home = scratch("security");
    let made: Vec<&str> =
        blocks(&page, "sh").into_iter().filter(|block| !block.contains("curl ")).collect();
    run(&home, &made.concat());
    let folder = home.join("weir-ca");

    // The page's configuration, at ports and in folders of the test's own.
    let state = format!("[controller]\nstate_dir = \"{}\"\n", home.join("state").display());
    let text = blocks(&page, "toml").concat();
    let text = text
        .replacen("[controller]\n", &state, 1)
        .replace("/etc/weir/", &format!("{}/", folder.display()))
        .replace("0.0.0.0:9190", "127.0.0.1:0")
        .replace("0.0.0.0:9191", "127.0.0.1:0");
    let config = home.join("controller.toml");
    fs::write(&config, text).unwrap();
    let mut controller = Running::start(&["controller", config.to_str().unwrap()]);
    let line = controller.says("controller listens");
    let (_, address) = line.split_once("grpc=").unwrap();
    let grpc = address.split_whitespace().next().unwrap().to_owned();
    controller.says("leads");
    let fleet = Fleet { folder, grpc };

    // Operators, by certificate and by token.
    let (code, errors) = fleet.ctl_as("ops.example.net", &["pool", "create", "web"]);
    assert_eq!(code, Some(0), "{errors}");
    let token = fleet.file("deploy.token");
    let (code, errors) = fleet.ctl(&["pool", "list"], &["--token-file", &token]);
    assert_eq!(code, Some(0), "{errors}");
    // A node is no operator, a controller's certificate is no caller's, and nobody is nobody.
    let (code, errors) = fleet.ctl_as("lb-a1.example.net", &["pool", "list"]);
    assert_eq!((code, errors.contains("has the role node")), (Some(1), true), "{errors}");
    let quick = ["pool", "list", "--timeout", "2"];
    assert_eq!(fleet.ctl_as(SERVER, &quick).0, Some(1));
    let (code, errors) = fleet.ctl(&quick, &[]);
    assert_eq!(
        (code, errors.contains("expected a client certificate")),
        (Some(1), true),
        "{errors}"
    );

    // A checker is let in under its own name alone.
    fleet.checker("checker-a1").says("assignments");
    let mut liar = fleet.checker("checker-b9");
    assert!(liar.says("no assignments").contains("not the caller's own name"));

    // New certificates for everybody, while it runs.
    let before = fs::read(fleet.file("ops.example.net.pem")).unwrap();
    let issue = made.iter().find(|block| block.contains("issue()")).unwrap();
    run(&fleet.folder, &format!("umask 077\n{issue}"));
    assert_ne!(fs::read(fleet.file("ops.example.net.pem")).unwrap(), before);
    controller.signal(Signal::HUP);
    controller.says("certificates were replaced");
    let (code, errors) = fleet.ctl_as("ops.example.net", &["pool", "delete", "web"]);
    assert_eq!(code, Some(0), "{errors}");

    let secret = fs::read_to_string(token).unwrap();
    assert!(!controller.seen.concat().contains(secret.trim()));
}
