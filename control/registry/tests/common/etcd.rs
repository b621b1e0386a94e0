//! etcd processes of a test's own: Debian's etcd on loopback, in temporary folders.
//!
//! Each process dies with the thread that started it (`setpriv --pdeathsig`), so nothing is left
//! behind even when a test program is killed.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::{Condvar, Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Clusters at a time: members that wait for the processor and the disk behind many others miss
/// their heartbeats, and then a test shows the machine and not the store.
const AT_ONCE: usize = 2;

static RUNNING: Mutex<usize> = Mutex::new(0);
static ENDED: Condvar = Condvar::new();

/// How long a member may take to be healthy.
const START: Duration = Duration::from_secs(30);

/// Members of one cluster, some of which may be down.
pub(crate) struct Cluster {
    folder: TempDir,
    token: String,
    scheme: &'static str,
    more: Vec<String>,
    members: Vec<Member>,
}

struct Member {
    client: u16,
    peer: u16,
    /// Answers for its health, without TLS.
    health: u16,
    process: Option<Child>,
}

impl Cluster {
    /// Starts so many members and waits until each answers through a quorum.
    pub(crate) fn start(members: usize) -> Self {
        Self::start_with(members, "http", Vec::new())
    }

    /// With more arguments, and the scheme that they make clients use.
    pub(crate) fn start_with(members: usize, scheme: &'static str, more: Vec<String>) -> Self {
        let running = RUNNING.lock().unwrap();
        *ENDED.wait_while(running, |running| *running >= AT_ONCE).unwrap() += 1;
        let mut ports = free_ports(3 * members).into_iter();
        let mut next = || ports.next().unwrap();
        let member = |_| Member { client: next(), peer: next(), health: next(), process: None };
        let members = (0..members).map(member).collect();
        let folder = tempfile::tempdir().unwrap();
        let mut cluster = Self { folder, token: "first".into(), scheme, more, members };
        for index in 0..cluster.members.len() {
            cluster.spawn(index);
        }
        cluster.wait();
        cluster
    }

    pub(crate) fn endpoints(&self) -> Vec<String> {
        let scheme = self.scheme;
        self.members
            .iter()
            .map(|member| format!("{scheme}://127.0.0.1:{}", member.client))
            .collect()
    }

    /// kill -9.
    pub(crate) fn kill(&mut self, index: usize) {
        if let Some(mut process) = self.members[index].process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// The member again, with what it has on disk; not waited for.
    pub(crate) fn spawn(&mut self, index: usize) {
        let initial: Vec<String> = self
            .members
            .iter()
            .enumerate()
            .map(|(at, member)| format!("m{at}=http://127.0.0.1:{}", member.peer))
            .collect();
        let client = &self.endpoints()[index];
        let health = format!("http://127.0.0.1:{}", self.members[index].health);
        let peer = format!("http://127.0.0.1:{}", self.members[index].peer);
        let log = File::options().create(true).append(true).open(self.log(index)).unwrap();
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--", "etcd", "--name", &format!("m{index}")])
            .args(["--data-dir", self.data(index).to_str().unwrap()])
            .args(["--listen-client-urls", client, "--advertise-client-urls", client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &initial.join(","), "--initial-cluster-state", "new"])
            .args(["--listen-metrics-urls", &health])
            .args(&self.more)
            .args(["--initial-cluster-token", &self.token])
            .args(["--heartbeat-interval", "100", "--election-timeout", "1000"])
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("setpriv of util-linux and etcd (scripts/install-deps.sh)");
        self.members[index].process = Some(child);
    }

    /// Stops a member in its tracks, connections and all; or lets it go on.
    pub(crate) fn pause(&self, index: usize, paused: bool) {
        let process = self.members[index].process.as_ref().unwrap();
        let signal = if paused { "-STOP" } else { "-CONT" };
        let pid = process.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    /// Waits until every member that runs is healthy.
    pub(crate) fn wait(&self) {
        let start = Instant::now();
        for (index, member) in self.members.iter().enumerate() {
            while member.process.is_some() && !healthy(member.health) {
                if start.elapsed() > START {
                    let log = std::fs::read_to_string(self.log(index)).unwrap_or_default();
                    panic!("etcd m{index} is not healthy after {START:?}:\n{log}");
                }
                thread::sleep(Duration::from_millis(30));
            }
        }
    }

    /// Throws all data away, as after a loss of all disks; with another token, another cluster.
    pub(crate) fn wipe(&mut self, token: &str) {
        for index in 0..self.members.len() {
            self.kill(index);
            std::fs::remove_dir_all(self.data(index)).unwrap();
        }
        self.token = token.into();
    }

    /// Copies a member's data; it must be down.
    pub(crate) fn save(&self, index: usize) -> TempDir {
        let saved = tempfile::tempdir().unwrap();
        copy(&self.data(index), saved.path());
        saved
    }

    pub(crate) fn restore(&self, index: usize, saved: &TempDir) {
        drop(std::fs::remove_dir_all(self.data(index)));
        copy(saved.path(), &self.data(index));
    }

    fn data(&self, index: usize) -> PathBuf {
        self.folder.path().join(format!("m{index}"))
    }

    fn log(&self, index: usize) -> PathBuf {
        self.folder.path().join(format!("m{index}.log"))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for index in 0..self.members.len() {
            self.kill(index);
        }
        *RUNNING.lock().unwrap() -= 1;
        ENDED.notify_one();
    }
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    let (from, to) = (format!("{}/.", from.display()), to.display().to_string());
    assert!(Command::new("mkdir").args(["-p", &to]).status().unwrap().success());
    assert!(Command::new("cp").args(["-a", &from, &to]).status().unwrap().success());
}

/// Endpoints of a single member that all tests of a program share; it lives until the end.
pub(crate) fn shared() -> Vec<String> {
    static ENDPOINTS: OnceLock<Vec<String>> = OnceLock::new();
    ENDPOINTS
        .get_or_init(|| {
            let (sender, receiver) = std::sync::mpsc::channel();
            // The thread that started it must live on.
            thread::spawn(move || {
                let cluster = Cluster::start(1);
                sender.send(cluster.endpoints()).unwrap();
                loop {
                    thread::park();
                }
            });
            receiver.recv().unwrap()
        })
        .clone()
}

/// Ports that were free a moment ago; taken all at once, so that they differ.
fn free_ports(count: usize) -> Vec<u16> {
    let listeners: Vec<TcpListener> =
        (0..count).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    listeners.iter().map(|listener| listener.local_addr().unwrap().port()).collect()
}

fn healthy(port: u16) -> bool {
    let ask = || -> std::io::Result<String> {
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        stream.write_all(b"GET /health HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    ask().is_ok_and(|answer| answer.contains("\"true\""))
}
