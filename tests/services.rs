//! `weir controller`, `weir checker` and `weir ctl` as processes: what they refuse to start with,
//! that they start, obey signals, and end with the right exit code.

mod support;

use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, Issuer,
    KeyPair,
};
use rustix::process::Signal;
use support::running::{PATIENCE, Running};
use support::{scratch, weir};

/// The value of `field` in a line of the log.
#[track_caller]
fn field(line: &str, field: &str) -> String {
    // Nobody looks at a terminal here, so the log has no colours.
    let (_, rest) = line.split_once(&format!("{field}=")).unwrap_or_else(|| panic!("{line}"));
    rest.split_whitespace().next().unwrap_or_default().trim_matches('"').to_owned()
}

fn get(address: &str, path: &str) -> String {
    let address: SocketAddr = address.parse().unwrap();
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: weir\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// Runs, and asks for the exit code and for each of `wanted` on standard error.
#[track_caller]
fn fails(arguments: &[&str], code: i32, wanted: &[&str]) {
    let output = weir(arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "weir {arguments:?}\n{errors}");
    for text in wanted {
        assert!(errors.contains(text), "weir {arguments:?}: no {text:?} in\n{errors}");
    }
}

struct Files(PathBuf);

impl Files {
    fn new(name: &str) -> Self {
        Self(scratch(name))
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }

    fn write(&self, name: &str, text: &str, mode: u32) -> String {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        path.display().to_string()
    }

    /// A controller at ports that the kernel chooses, with an embedded registry in the folder.
    fn controller(&self, name: &str, more: &str) -> String {
        let text = format!(
            "[controller]\nname = \"c1\"\nlisten = \"127.0.0.1:0\"\nhttp = \"127.0.0.1:0\"\n\
             state_dir = \"{}\"\n{more}",
            self.path("state")
        );
        self.write(name, &text, 0o644)
    }

    fn checker(&self, name: &str, controller: &str) -> String {
        let text = format!(
            "[checker]\nid = \"k1\"\nhttp = \"127.0.0.1:0\"\n[controller]\n\
             endpoints = [\"{controller}\"]\n"
        );
        self.write(name, &text, 0o644)
    }
}

#[test]
fn wrong_usage_says_how_it_is_meant() {
    for program in ["controller", "checker"] {
        fails(&[program], 2, &["CONFIG"]);
        fails(&[program, "a", "b"], 2, &["'b'"]);
        fails(&[program, "/nowhere/weir.toml"], 2, &["/nowhere/weir.toml", "cannot be read"]);
    }
    fails(&["ctl"], 2, &["Usage", "drain"]);
    fails(&["ctl", "dance"], 2, &["dance"]);
    fails(&["ctl", "status", "--endpoint", "here"], 2, &["here"]);
}

#[test]
fn each_program_refuses_the_files_of_the_others() {
    let example = |name: &str| format!("{}/docs/examples/{name}", env!("CARGO_MANIFEST_DIR"));
    let (node, controller) = (example("weir.toml"), example("controller.toml"));
    let checker = example("checker.toml");
    fails(&["controller", &node], 2, &["of a node (expected that of a controller)"]);
    fails(&["controller", &checker], 2, &["of a checker (expected that of a controller)"]);
    fails(&["checker", &node], 2, &["of a node (expected that of a checker)"]);
    fails(&["checker", &controller], 2, &["of a controller (expected that of a checker)"]);
}

#[test]
fn bad_configurations_start_nothing() {
    let files = Files::new("services-bad");
    let bad = files.controller("bad.toml", "[limits]\nstreams = 0\n");
    fails(&["controller", &bad], 2, &["bad.toml:7", "streams = 0", "1 to 65536"]);
    let open = files.controller("open.toml", "").replace("open.toml", "exposed.toml");
    fs::write(&open, "[controller]\nlisten = \"0.0.0.0:0\"\n").unwrap();
    fails(&["controller", &open], 2, &["exposed.toml:2", "[tls]", "[[access]]"]);
    let nobody = files.write("checker.toml", "[checker]\nid = \"k\"\n", 0o644);
    fails(&["checker", &nobody], 2, &["checker.toml", "controller is missing"]);
    assert!(!Path::new(&files.path("state")).exists(), "nothing was made");
}

#[test]
fn secrets_that_cannot_be_used_are_named_and_not_shown() {
    let files = Files::new("services-secrets");
    let token = files.path("ops.token");
    let entry =
        format!("[[access]]\nname = \"ops\"\nrole = \"operator\"\ntoken_file = \"{token}\"\n");
    let config = files.controller("controller.toml", &entry);
    fails(&["controller", &config], 2, &["controller.toml", "ops.token", "cannot be read"]);
    files.write("ops.token", "short-secret", 0o600);
    fails(&["controller", &config], 2, &["ops.token", "16"]);
    files.write("ops.token", "0123456789abcdef0123456789abcdef", 0o644);
    fails(&["controller", &config], 2, &["ops.token", "0644"]);
    for text in ["short-secret", "0123456789abcdef"] {
        files.write("ops.token", text, 0o604);
        let output = weir(&["controller", &config]);
        assert!(!String::from_utf8_lossy(&output.stderr).contains(text));
    }

    let (certificate, key) = (files.path("c.pem"), files.path("c.key"));
    let tls = format!("[tls]\ncertificate = \"{certificate}\"\nkey = \"{key}\"\n");
    let config = files.controller("tls.toml", &tls);
    fails(&["controller", &config], 2, &["c.pem", "cannot be read"]);
    files.write("c.pem", "no certificate", 0o644);
    fails(&["controller", &config], 2, &["c.pem", "PEM"]);

    let password = files.path("etcd.password");
    let etcd = format!(
        "[registry]\nkind = \"etcd\"\nendpoints = [\"http://127.0.0.1:1\"]\nuser = \"u\"\n\
         password_file = \"{password}\"\n"
    );
    let config = files.controller("etcd.toml", &etcd);
    fails(&["controller", &config], 2, &["etcd.password", "No such file"]);
    files.write("etcd.password", "\n", 0o600);
    fails(&["controller", &config], 2, &["etcd.password", "is empty"]);
    files.write("etcd.password", "secret-word\n", 0o644);
    fails(&["controller", &config], 2, &["etcd.password", "0644"]);

    let text = "[checker]\nid = \"k\"\nhttp = \"127.0.0.1:0\"\nprobe_ca = \"/nowhere/ca.pem\"\n\
                [controller]\nendpoints = [\"http://127.0.0.1:1\"]\n";
    let config = files.write("checker.toml", text, 0o644);
    fails(&["checker", &config], 2, &["checker.toml", "/nowhere/ca.pem"]);
}

#[test]
fn what_the_machine_refuses_is_a_failure_and_not_a_configuration() {
    let files = Files::new("services-refused");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let controller = files.controller("controller.toml", "");
    let text = fs::read_to_string(&controller).unwrap();
    fs::write(&controller, text.replacen("127.0.0.1:0", &address, 1)).unwrap();
    fails(&["controller", &controller], 1, &["listen", &address]);
    let checker = files.checker("checker.toml", "http://127.0.0.1:1");
    let text = fs::read_to_string(&checker).unwrap();
    fs::write(&checker, text.replacen("127.0.0.1:0", &address, 1)).unwrap();
    fails(&["checker", &checker], 1, &["http", &address]);

    let damaged = files.write("damaged.redb", "this is no registry", 0o600);
    let config = files.controller("damaged.toml", &format!("[registry]\npath = \"{damaged}\"\n"));
    fails(&["controller", &config], 1, &["damaged.redb"]);
    // Where there should be a folder there is a file.
    let config = files.controller("folder.toml", &format!("[registry]\npath = \"{damaged}/r\"\n"));
    fails(&["controller", &config], 1, &["damaged.redb", "cannot be made"]);
    // A controller that nobody answers for.
    let endpoint = ["--endpoint", "http://127.0.0.1:1", "--timeout", "1"];
    fails(&[&["ctl", "status"][..], &endpoint].concat(), 1, &["no controller"]);
}

#[test]
fn a_controller_runs_reloads_and_stops() {
    let files = Files::new("services-controller");
    let token = files.write("ops.token", "0123456789abcdef0123456789abcdef\n", 0o600);
    let config = files.controller("controller.toml", "");
    let mut controller = Running::start(&["controller", &config]);
    let line = controller.says("controller listens");
    let (grpc, http) = (field(&line, "grpc"), field(&line, "http"));
    controller.says("leads");
    assert!(get(&http, "/healthz").starts_with("HTTP/1.1 200"));
    assert!(get(&http, "/readyz").starts_with("HTTP/1.1 200"));
    let endpoint = format!("http://{grpc}");
    let ask = |more: &[&str]| {
        weir(&[&["ctl", "pool", "list", "--endpoint", &endpoint][..], more].concat())
    };
    let answer = ask(&[]);
    assert!(answer.status.success(), "{}", String::from_utf8_lossy(&answer.stderr));

    // The same registry cannot be had twice.
    let second = files.controller("second.toml", "");
    fails(&["controller", &second], 1, &["registry.redb"]);

    fails(&["controller", &config, "--renew-store-id"], 1, &["registry.redb", "in use"]);

    // Who may call changes at a reload.
    let text = fs::read_to_string(&config).unwrap();
    let entry =
        format!("[[access]]\nname = \"ops\"\nrole = \"operator\"\ntoken_file = \"{token}\"\n");
    fs::write(&config, format!("{text}{entry}")).unwrap();
    controller.signal(Signal::HUP);
    controller.says("who may call was read again");
    let refused = ask(&[]);
    assert_eq!(refused.status.code(), Some(1), "a token is asked for now");
    assert!(ask(&["--token-file", &token]).status.success());

    // What needs a restart, and what is wrong, changes nothing.
    fs::write(&config, format!("{text}[limits]\nstreams = 1\n")).unwrap();
    controller.signal(Signal::HUP);
    controller.says("reload refused");
    controller.says("needs a restart: [limits]");
    fs::write(&config, "[controller").unwrap();
    controller.signal(Signal::HUP);
    controller.says("reload refused");
    controller.says("not TOML");
    assert_eq!(ask(&[]).status.code(), Some(1), "the list is what it was");

    controller.signal(Signal::TERM);
    assert_eq!(controller.ends().code(), Some(0));
    controller.says("stopped");
    assert!(!controller.seen.iter().any(|line| line.contains("0123456789abcdef")));

    // The registry is free, and can be told that it was restored.
    fs::write(&config, &text).unwrap();
    let renewed = weir(&["controller", &config, "--renew-store-id"]);
    assert!(renewed.status.success(), "{}", String::from_utf8_lossy(&renewed.stderr));
    assert!(String::from_utf8_lossy(&renewed.stdout).contains("start the controllers"));
}

#[test]
fn a_checker_runs_without_a_controller_and_stops() {
    let files = Files::new("services-checker");
    let config = files.checker("checker.toml", "http://127.0.0.1:1");
    let mut checker = Running::start(&["checker", &config]);
    let http = field(&checker.says("checker listens"), "http");
    assert!(get(&http, "/healthz").starts_with("HTTP/1.1 200"));
    checker.signal(Signal::HUP);
    checker.says("SIGHUP changes nothing");
    checker.signal(Signal::INT);
    assert_eq!(checker.ends().code(), Some(0));
    checker.says("stopped");
}

/// Writes `name.pem` and `name.key`: a certificate that `ca` signed.
fn certify(files: &Files, ca: &Issuer<'_, KeyPair>, name: &str, subject_names: &[&str]) {
    let key = KeyPair::generate().unwrap();
    let subject_names: Vec<String> = subject_names.iter().map(|&name| name.to_owned()).collect();
    let mut parameters = CertificateParams::new(subject_names).unwrap();
    parameters.distinguished_name = DistinguishedName::new();
    parameters.distinguished_name.push(DnType::CommonName, name);
    let certificate = parameters.signed_by(&key, ca).unwrap();
    files.write(&format!("{name}.pem"), &certificate.pem(), 0o644);
    files.write(&format!("{name}.key"), &key.serialize_pem(), 0o600);
}

#[test]
fn callers_are_known_by_their_certificates() {
    let files = Files::new("services-tls");
    let mut ca = CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate().unwrap()).unwrap();
    files.write("ca.pem", &ca.pem(), 0o644);
    certify(&files, &ca, "c1", &["127.0.0.1"]);
    certify(&files, &ca, "ops", &["ops.example.net"]);
    certify(&files, &ca, "k1", &[]);
    certify(&files, &ca, "stranger", &["stranger.example.net"]);
    let more = format!(
        "[tls]\ncertificate = \"{}\"\nkey = \"{}\"\nclient_ca = \"{}\"\n\
         [[access]]\nname = \"ops\"\nrole = \"operator\"\ncertificate = \"ops.example.net\"\n\
         [[access]]\nname = \"k1\"\nrole = \"checker\"\ncertificate = \"k1\"\n",
        files.path("c1.pem"),
        files.path("c1.key"),
        files.path("ca.pem")
    );
    let config = files.controller("controller.toml", &more);
    let mut controller = Running::start(&["controller", &config]);
    let line = controller.says("controller listens");
    let endpoint = field(&line, "address");
    assert!(endpoint.starts_with("https://127.0.0.1:"), "{line}");
    controller.says("leads");

    let ca = files.path("ca.pem");
    let create = |caller: &str, pool: &str| {
        let (certificate, key) = (format!("{caller}.pem"), format!("{caller}.key"));
        let (certificate, key) = (files.path(&certificate), files.path(&key));
        let who = ["--endpoint", &endpoint, "--ca", &ca, "--cert", &certificate, "--key", &key];
        let output = weir(&[&["ctl", "pool", "create", pool][..], &who].concat());
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    assert_eq!(create("ops", "web"), (Some(0), String::new()));
    let (code, said) = create("k1", "api");
    assert!(code == Some(1) && said.contains("not allowed") && said.contains("k1"), "{said}");
    let (code, said) = create("stranger", "api");
    assert!(code == Some(1) && said.contains("does not know who calls"), "{said}");

    // The checker is known by its common name, and is told what to do.
    let text = format!(
        "[checker]\nid = \"k1\"\nhttp = \"127.0.0.1:0\"\n[controller]\n\
         endpoints = [\"{endpoint}\"]\nca = \"{ca}\"\ncertificate = \"{}\"\nkey = \"{}\"\n",
        files.path("k1.pem"),
        files.path("k1.key")
    );
    let checker = files.write("checker.toml", &text, 0o644);
    let mut checker = Running::start(&["checker", &checker]);
    let http = field(&checker.says("checker listens"), "http");
    let until = Instant::now() + PATIENCE;
    while !get(&http, "/readyz").starts_with("HTTP/1.1 200") {
        assert!(Instant::now() < until, "{}", get(&http, "/readyz"));
        thread::sleep(Duration::from_millis(50));
    }
}
