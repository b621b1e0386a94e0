//! A whole control plane in a lab: controllers, checkers, the nodes they feed, and `weir ctl` as
//! its operator, with certificates and a token as in the field.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Output;

use serde_json::Value;

use crate::lab::{Lab, VIP, WEIR, text, wait_for};

/// Seconds allowed for what a quiet machine does in one to five.
pub(crate) const PATIENCE: u64 = 30;

pub(crate) struct Plane {
    pub(crate) lab: Lab,
    nodes: usize,
    backends: usize,
    /// What makes `weir ctl` the operator: `NAME=value`.
    operator: Vec<String>,
}

/// The host of a node.
pub(crate) fn node(number: usize) -> String {
    if number == 1 { "node".to_owned() } else { format!("node{number}") }
}

/// The part that is a controller.
pub(crate) fn controller(number: usize) -> String {
    format!("controller{number}")
}

impl Plane {
    /// A plane that serves pool "web" with backends b1, b2 ..., all of them healthy.
    pub(crate) fn up(controllers: usize, nodes: usize, backends: usize) -> Self {
        let options = [
            ["--controllers", &controllers.to_string()],
            ["--nodes", &nodes.to_string()],
            ["--backends", &backends.to_string()],
            ["--port", "net_tap"],
            ["--file-mib", "2"],
        ];
        let lab = Lab::up(&options.concat());
        // Ports of downloads and trickles are for them alone. A SYN from a port whose flow lives on
        // goes where the flow goes, to a dead backend too: a port used twice would look like a new
        // flow that fails.
        let reserved = "net.ipv4.ip_local_reserved_ports=10000-40999";
        assert!(lab.on("client", &["sysctl", "-qw", reserved]).status.success());
        let words = lab.run("ctl", &[]);
        let operator = words.split_whitespace().filter(|word| word.contains('='));
        let operator = operator.map(str::to_owned).collect();
        let mut plane = Self { lab, nodes, backends, operator };
        for number in 1..=controllers {
            plane.start_controller(number);
        }
        for number in 1..=3 {
            let checker = format!("c{number}");
            let config = plane.lab.run("checker", &[&number.to_string()]);
            plane.start(&checker, &checker, "checker", &config);
        }
        for number in 1..=nodes {
            plane.start_node(number);
        }
        plane.leads(None);
        plane.configure();
        plane
    }

    fn configure(&self) {
        // A secret of its own, so that the same client ports sit on the same slots in every run.
        let secret = self.lab.folder().join("secret");
        fs::write(&secret, "000102030405060708090a0b0c0d0e0f\n").unwrap();
        self.must(&["pool", "create", "web", "--hash-secret-file", secret.to_str().unwrap()]);
        self.must(&["vip", "bind", "web", &format!("{VIP}:80/tcp")]);
        for number in 1..=self.backends {
            let ip = format!("192.0.2.{}", 10 + number);
            let ready = format!("http://{ip}/ready");
            let backend = ["backend", "register", "web", &format!("b{number}"), "--ip", &ip];
            let options = ["--port", "80", "--readiness-probe-url", &ready];
            self.must(&[&backend[..], &options[..]].concat());
        }
        let all = self.all();
        self.serves("all backends", &all);
        for number in 1..=self.nodes {
            wait_for("the node to be ready", PATIENCE, || {
                (self.lab.get_status_on(&node(number), "/readyz").0 == "200").then_some(())
            });
        }
    }

    /// Starts `weir COMMAND` on a host.
    fn start(&mut self, part: &str, host: &str, command: &str, config: &str) {
        let path = self.lab.folder().join(format!("{part}.toml"));
        fs::write(&path, config).unwrap();
        self.lab.start_part(part, host, &[WEIR, command, path.to_str().unwrap()]);
    }

    pub(crate) fn start_controller(&mut self, number: usize) {
        let config = self.lab.run("controller", &[&number.to_string()]);
        self.start(&controller(number), "control", "controller", &config);
    }

    /// Starts a node, and joins its port to the segment; it may have nothing to serve yet.
    pub(crate) fn start_node(&mut self, number: usize) {
        let text = number.to_string();
        let options = ["--node", &text, "--hugepages", "false", "--memory", "256"];
        let config = self.lab.run("config", &options);
        let host = node(number);
        self.start(&host, &host, "run", &config);
        self.lab.run("attach", &["30", &text]);
        self.lab.runs(&host);
    }

    /// `weir ctl` on the host "control".
    pub(crate) fn ctl(&self, arguments: &[&str]) -> Output {
        let mut command = vec!["env"];
        command.extend(self.operator.iter().map(String::as_str));
        command.extend([WEIR, "ctl"]);
        command.extend(arguments);
        self.lab.on("control", &command)
    }

    /// The same, which must succeed: what it prints.
    pub(crate) fn must(&self, arguments: &[&str]) -> String {
        let output = self.ctl(&[&["--timeout", "30"], arguments].concat());
        assert!(output.status.success(), "ctl {arguments:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    /// `weir ctl status`, when there is a leader that answers.
    pub(crate) fn status(&self) -> Option<Value> {
        let output = self.ctl(&["status", "--json", "--timeout", "5"]);
        // Its exit code also says whether all is well, which it need not be here.
        serde_json::from_slice(&output.stdout).ok()
    }

    /// The number of the controller that leads.
    pub(crate) fn leader(&self) -> Option<usize> {
        let status = self.status()?;
        let host = status["leader"].as_str()?.strip_prefix("https://198.51.100.")?;
        host.split(':').next()?.parse().ok()
    }

    /// Waits for a leader, another one than `not`.
    pub(crate) fn leads(&self, not: Option<usize>) -> usize {
        wait_for("a controller that leads", PATIENCE, || {
            self.leader().filter(|leader| Some(*leader) != not)
        })
    }

    /// What the controller says of the pool.
    pub(crate) fn pool(&self) -> Value {
        wait_for("the pool", PATIENCE, || Some(self.status()?["pools"][0].clone()))
    }

    /// Ids of the backends with a state.
    pub(crate) fn in_state(&self, state: &str) -> BTreeSet<String> {
        let pool = self.pool();
        let backends = pool["backends"].as_array().unwrap().iter();
        let there = backends.filter(|backend| backend["state"] == state);
        there.map(|backend| backend["backend_id"].as_str().unwrap().to_owned()).collect()
    }

    pub(crate) fn all(&self) -> BTreeSet<String> {
        (1..=self.backends).map(|number| format!("b{number}")).collect()
    }

    pub(crate) fn all_but(&self, but: &[&str]) -> BTreeSet<String> {
        self.all().into_iter().filter(|id| !but.contains(&id.as_str())).collect()
    }

    /// Backends that a node gives new flows.
    pub(crate) fn served_by(&self, host: &str) -> Option<BTreeSet<String>> {
        let (status, body) = self.lab.get_status_on(host, "/admin/pools/web");
        if status != "200" {
            return None;
        }
        let pool: Value = serde_json::from_str(&body).ok()?;
        let backends = pool["backends"].as_array()?.iter();
        let with_slots =
            backends.filter(|row| row["slots"].as_u64().is_some_and(|slots| slots > 0));
        with_slots.map(|row| Some(row["id"].as_str()?.to_owned())).collect()
    }

    /// Waits until every node that runs gives exactly these backends new flows.
    pub(crate) fn serves(&self, what: &str, backends: &BTreeSet<String>) {
        for number in 1..=self.nodes {
            self.one_serves(what, &node(number), backends);
        }
    }

    pub(crate) fn one_serves(&self, what: &str, host: &str, backends: &BTreeSet<String>) {
        let mut served = None;
        for _ in 0..PATIENCE * 20 {
            served = self.served_by(host).or(served);
            if served.as_ref() == Some(backends) {
                return;
            }
            self.lab.pass_ms(50);
        }
        let status = self.status().unwrap_or_default();
        panic!("waited for {what}: {host} serves {served:?}, and the controller says {status}");
    }

    /// New connections: all are answered. Returns who answered.
    pub(crate) fn answered(&self, count: usize) -> BTreeSet<String> {
        let answers = self.lab.requests(count);
        let failed: Vec<_> = answers.iter().filter_map(|answer| answer.as_ref().err()).collect();
        assert!(failed.is_empty(), "{} of {count} failed: {failed:?}", failed.len());
        answers.into_iter().flatten().collect()
    }

    /// Files of a host of the lab.
    pub(crate) fn files(&self, host: &str) -> String {
        path_text(&self.lab.state().join(host))
    }

    /// Runs a command on a host, which must succeed.
    pub(crate) fn on(&self, host: &str, command: &[&str]) -> String {
        let output = self.lab.on(host, command);
        assert!(output.status.success(), "{host}: {command:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    /// A backend's service dies, with its connections.
    pub(crate) fn kill_service(&mut self, backend: &str) {
        let pid = fs::read_to_string(format!("{}/nginx.pid", self.files(backend))).unwrap();
        let group = format!("-{}", pid.trim());
        self.on("control", &["kill", "-KILL", "--", &group]);
    }

    /// And comes back.
    pub(crate) fn start_service(&mut self, backend: &str) {
        let files = self.files(backend);
        let nginx = ["nginx", "-p", &files, "-c", "nginx.conf", "-e", "error.log"];
        self.lab.start_part(&format!("nginx-{backend}"), backend, &nginx);
    }

    /// Whether a backend answers its readiness URL with 200, or with 503.
    pub(crate) fn ready(&self, backend: &str, ready: bool) {
        let file = format!("{}/unready", self.files(backend));
        if ready { fs::remove_file(file).unwrap() } else { fs::write(file, "").unwrap() }
    }
}

fn path_text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}
