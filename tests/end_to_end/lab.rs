//! A lab with a node in it, taken down when it goes out of scope, whatever happened.
//!
//! Every program that a test starts and stops is a part with a name; the node of the labs with one
//! node is the part "node".

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::Value;
use socket2::{Domain, Protocol, Socket, Type};

/// The VIP of every lab.
pub(crate) const VIP: &str = "203.0.113.1";
/// The other one, of labs with `--families 46`.
pub(crate) const VIP6: &str = "2001:db8:cafe::1";

/// The program.
pub(crate) const WEIR: &str = env!("CARGO_BIN_EXE_weir");

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
static LABS: AtomicU32 = AtomicU32::new(0);

/// One lab. Field order matters: the lock is released last.
pub(crate) struct Lab {
    name: String,
    folder: PathBuf,
    parts: BTreeMap<String, Child>,
    _turn: MutexGuard<'static, ()>,
}

/// Whether this test can run at all.
pub(crate) fn is_root() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let root = status.lines().any(|line| line.starts_with("Uid:\t0\t"));
    if !root {
        eprintln!("not root: this test makes network namespaces, and is left out");
    }
    root
}

/// Runs a script of the repository.
pub(crate) fn script(name: &str, arguments: &[&str]) -> Output {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("scripts").join(name);
    Command::new(path).arg_all(arguments).stdin(Stdio::null()).output().unwrap()
}

/// The cores that a thread may run on, from `Cpus_allowed_list`: `0-1,4`.
fn cores(list: &str) -> BTreeSet<u16> {
    let number = |text: &str| text.trim().parse::<u16>().unwrap();
    let ranges = list.split(',').map(|range| match range.split_once('-') {
        Some((first, last)) => number(first)..=number(last),
        None => number(range)..=number(range),
    });
    ranges.flatten().collect()
}

trait ArgAll {
    fn arg_all(&mut self, arguments: &[&str]) -> &mut Self;
}

impl ArgAll for Command {
    fn arg_all(&mut self, arguments: &[&str]) -> &mut Self {
        for argument in arguments {
            self.arg(argument);
        }
        self
    }
}

/// Asks until there is an answer, for at most `seconds`.
pub(crate) fn wait_for<T>(what: &str, seconds: u64, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(seconds);
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited {seconds} s for {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The end of a log, which is what a failure is about.
fn last_lines(log: &str) -> String {
    let lines: Vec<_> = log.lines().collect();
    lines[lines.len().saturating_sub(60)..].join("\n")
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

impl Lab {
    /// Makes a lab with the given options of `lab.sh up`; no node runs in it yet.
    pub(crate) fn up(options: &[&str]) -> Self {
        let turn = ONE_AT_A_TIME.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let name = format!("e2e-{}-{}", std::process::id(), LABS.fetch_add(1, Ordering::Relaxed));
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(&name);
        fs::create_dir_all(&folder).unwrap();
        let lab = Self { name, folder, parts: BTreeMap::new(), _turn: turn };
        lab.run("up", options);
        lab
    }

    /// Runs a subcommand of `lab.sh`; it must succeed.
    pub(crate) fn run(&self, command: &str, arguments: &[&str]) -> String {
        let output = script("lab.sh", &[&[command, &self.name], arguments].concat());
        assert!(output.status.success(), "lab.sh {command}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    /// Runs a command on a host of the lab.
    pub(crate) fn on(&self, host: &str, command: &[&str]) -> Output {
        script("lab.sh", &[&["exec", &self.name, host], command].concat())
    }

    /// The name of a host's network namespace.
    fn namespace(&self, host: &str) -> String {
        format!("weir-{}-{host}", self.name)
    }

    /// A UDP socket on a host, for peers that are part of the test itself: a socket stays in the
    /// namespace it was made in, whoever uses it.
    pub(crate) fn udp_socket(&self, host: &str, address: SocketAddr) -> UdpSocket {
        let socket = self.within(host, move || UdpSocket::bind(address));
        socket.unwrap_or_else(|error| panic!("{address} on {host}: {error}"))
    }

    /// A raw socket for TCP over IPv4 on a host, to send what no connection would.
    pub(crate) fn raw_tcp_socket(&self, host: &str) -> Socket {
        let made = self.within(host, || Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::TCP)));
        made.unwrap_or_else(|error| panic!("a raw socket on {host}: {error}"))
    }

    /// A raw socket on a host that sends packets as they are, IP header and all.
    pub(crate) fn raw_ip_socket(&self, host: &str, domain: Domain) -> Socket {
        let raw = Some(Protocol::from(255));
        let made = self.within(host, move || Socket::new(domain, Type::RAW, raw));
        made.unwrap_or_else(|error| panic!("a raw socket on {host}: {error}"))
    }

    /// What `make` makes in a host's network namespace.
    fn within<T: Send + 'static>(
        &self,
        host: &str,
        make: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        let namespace = fs::File::open(Path::new("/run/netns").join(self.namespace(host))).unwrap();
        let thread = std::thread::spawn(move || {
            let network = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(namespace.as_fd(), network).unwrap();
            make()
        });
        thread.join().unwrap()
    }

    /// A command on a host, started and not waited for.
    pub(crate) fn start(&self, host: &str, command: &[&str]) -> Child {
        // Straight into the namespace, so that the child is the command itself.
        Command::new("ip")
            .args(["netns", "exec", &self.namespace(host)])
            .args(command)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// The lab's configuration.
    pub(crate) fn config(&self, options: &[&str]) -> String {
        self.run("config", options)
    }

    /// A folder that goes with the lab.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// What `lab.sh` keeps of the lab: each host's files, certificates.
    pub(crate) fn state(&self) -> PathBuf {
        let all = std::env::var_os("WEIR_LAB_STATE").unwrap_or_else(|| "/run/weir-lab".into());
        PathBuf::from(all).join(&self.name)
    }

    /// Where the node's configuration is kept.
    pub(crate) fn config_path(&self) -> PathBuf {
        self.folder.join("weir.toml")
    }

    /// Starts a part on a host, with what it says in a file (after what an earlier one said).
    pub(crate) fn start_part(&mut self, name: &str, host: &str, command: &[&str]) {
        let log =
            fs::File::options().append(true).create(true).open(self.part_log_path(name)).unwrap();
        let part = Command::new("ip")
            .args(["netns", "exec", &self.namespace(host)])
            .args(command)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let earlier = self.parts.insert(name.to_owned(), part);
        assert!(earlier.is_none(), "{name} runs already");
    }

    /// Lets time pass in which something is not to happen.
    pub(crate) fn pass_ms(&self, milliseconds: u64) {
        std::thread::sleep(Duration::from_millis(milliseconds));
    }

    /// Sends a part a signal.
    pub(crate) fn signal_part(&self, name: &str, signal: &str) {
        // `ip netns exec` has become the program itself: the same process.
        let pid = self.parts[name].id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    /// Ends a part with a signal, and waits for it.
    pub(crate) fn stop_part(&mut self, name: &str, signal: &str) -> Option<i32> {
        self.signal_part(name, signal);
        let mut part = self.parts.remove(name).unwrap();
        wait_for(&format!("{name} to end"), 10, || part.try_wait().unwrap()).code()
    }

    /// A part's threads: the name of each, and the cores it may run on.
    pub(crate) fn threads(&self, name: &str) -> Vec<(String, BTreeSet<u16>)> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.parts[name].id())).unwrap();
        let thread = |folder: PathBuf| {
            // One that has ended meanwhile runs nowhere.
            let name = fs::read_to_string(folder.join("comm")).ok()?;
            let status = fs::read_to_string(folder.join("status")).ok()?;
            let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
            Some((name.trim().to_owned(), cores(list)))
        };
        tasks.filter_map(|task| thread(task.unwrap().path())).collect()
    }

    /// A part that has ended by itself is a failure.
    pub(crate) fn runs(&mut self, name: &str) {
        let gone = self.parts.get_mut(name).and_then(|part| part.try_wait().unwrap());
        assert!(gone.is_none(), "{name} ended: {gone:?}\n{}", self.part_log(name));
    }

    fn part_log_path(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.log"))
    }

    pub(crate) fn part_log(&self, name: &str) -> String {
        fs::read_to_string(self.part_log_path(name)).unwrap_or_default()
    }

    /// Starts the node and waits until it is ready.
    pub(crate) fn start_node(&mut self, config: &str) {
        fs::write(self.config_path(), config).unwrap();
        let path = self.config_path();
        let _ = fs::remove_file(self.part_log_path("node"));
        self.start_part("node", "node", &[WEIR, "run", path.to_str().unwrap()]);
        self.run("attach", &[]);
        wait_for("the node to be ready", 30, || {
            self.runs("node");
            (self.get_status("/readyz").0 == "200").then_some(())
        });
    }

    /// Writes another configuration and has the node read it.
    pub(crate) fn reload(&self, config: &str) {
        fs::write(self.config_path(), config).unwrap();
        let before = self.metric("weir_reloads_total{result=\"applied\"}");
        self.signal("-HUP");
        wait_for("the reload", 5, || {
            (self.metric("weir_reloads_total{result=\"applied\"}") > before).then_some(())
        });
    }

    /// Sends the node a signal.
    pub(crate) fn signal(&self, signal: &str) {
        self.signal_part("node", signal);
    }

    /// Ends the node with a signal, and waits for it.
    pub(crate) fn stop_node(&mut self, signal: &str) -> Option<i32> {
        self.stop_part("node", signal)
    }

    pub(crate) fn log(&self) -> String {
        self.part_log("node")
    }

    /// Asks the node's admin interface: status and body.
    pub(crate) fn get_status(&self, path: &str) -> (String, String) {
        self.get_status_on("node", path)
    }

    /// The same of the node on a host.
    pub(crate) fn get_status_on(&self, host: &str, path: &str) -> (String, String) {
        let url = format!("http://127.0.0.1:9180{path}");
        let output =
            self.on(host, &["curl", "-s", "--max-time", "12", "-w", "\n%{http_code}", &url]);
        let answer = text(&output.stdout);
        let (body, status) = answer.rsplit_once('\n').unwrap_or(("", "000"));
        (status.to_owned(), body.to_owned())
    }

    /// A page of the admin interface.
    pub(crate) fn get(&self, path: &str) -> String {
        let (status, body) = self.get_status(path);
        assert_eq!(status, "200", "{path}: {body}");
        body
    }

    pub(crate) fn json(&self, path: &str) -> Value {
        serde_json::from_str(&self.get(path)).unwrap()
    }

    /// The sum of all samples whose line begins like this.
    pub(crate) fn metric(&self, prefix: &str) -> u64 {
        self.get("/metrics")
            .lines()
            .filter(|line| line.starts_with(prefix))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum::<f64>() as u64
    }

    /// `count` requests, each on a connection of its own: the backend that answered each with
    /// 200. A failed request is an `Err` with curl's words.
    pub(crate) fn requests(&self, count: usize) -> Vec<Result<String, String>> {
        self.requests_to(&format!("http://{VIP}"), count)
    }

    /// The same to the VIP of this URL. Brackets of an IPv6 address are written `\\[` and `\\]`:
    /// others mean a range to curl.
    pub(crate) fn requests_to(&self, vip: &str, count: usize) -> Vec<Result<String, String>> {
        let url = format!("{vip}/?n=[1-{count}]");
        let output = self.on(
            "client",
            &[
                "curl",
                "-s",
                "--no-progress-meter",
                "--parallel",
                "--parallel-max",
                "8",
                "--max-time",
                "15",
                "-H",
                "Connection: close",
                "-o",
                "/dev/null",
                "-w",
                "%{http_code} %header{x-backend} from port %{local_port} %{errormsg}\n",
                &url,
            ],
        );
        let answers: Vec<_> = text(&output.stdout)
            .lines()
            .map(|line| match line.split_whitespace().collect::<Vec<_>>()[..] {
                ["200", backend, "from", "port", _] => Ok(backend.to_owned()),
                _ => Err(line.to_owned()),
            })
            .collect();
        assert_eq!(answers.len(), count, "one answer a request");
        answers
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for name in self.parts.keys() {
                eprintln!("the log of {name}:\n{}", last_lines(&self.part_log(name)));
            }
        }
        let _ = script("lab.sh", &["down", &self.name]);
        for part in self.parts.values_mut() {
            let _ = part.wait();
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}
