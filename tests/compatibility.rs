//! Clients of the first published interface work with the controller of today.
//!
//! The client is not ours: Python's grpcio, with code generated from `compatibility/seed.proto`,
//! which holds the messages and field numbers as they were published. It makes every call of
//! that interface to a real `weir controller`, and compares every field with what the controller
//! says of itself. That it notices a field whose number differs is tested too.
//!
//! Needs python3 with venv; grpcio comes from PyPI, in the versions of
//! `compatibility/requirements.txt`, into a folder under `target/` that later runs find again.

mod support;

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::io::Read;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{self, Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use support::scratch;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/compatibility");
/// Until a controller listens.
const START: Duration = Duration::from_secs(30);
/// For packages from the network, and for the client's whole run.
const LONG: Duration = Duration::from_secs(300);

/// A controller with an empty registry, which ends with the test.
struct Controller {
    process: Child,
    endpoint: String,
}

impl Controller {
    /// Ports are taken from those that are free; another program may be quicker, so again.
    fn start(name: &str) -> Self {
        for attempt in 0..5 {
            let folder = scratch(&format!("{name}-{attempt}"));
            let [grpc, http] = free_ports();
            let config = folder.join("controller.toml");
            let state = folder.display();
            let text = format!(
                "[controller]\nname = \"compatibility\"\nlisten = \"127.0.0.1:{grpc}\"\n\
                 http = \"127.0.0.1:{http}\"\nstate_dir = \"{state}\"\n"
            );
            fs::write(&config, text).unwrap();
            let log = fs::File::create(folder.join("log")).unwrap();
            let mut process = Command::new(env!("CARGO_BIN_EXE_weir"))
                .arg("controller")
                .arg(&config)
                .stdin(Stdio::null())
                .stdout(log.try_clone().unwrap())
                .stderr(log)
                .spawn()
                .unwrap();
            let end = Instant::now() + START;
            loop {
                if TcpStream::connect((Ipv4Addr::LOCALHOST, grpc)).is_ok()
                    && process.try_wait().unwrap().is_none()
                {
                    return Self { process, endpoint: format!("127.0.0.1:{grpc}") };
                }
                let log = || fs::read_to_string(folder.join("log")).unwrap_or_default();
                if process.try_wait().unwrap().is_some() {
                    assert!(log().contains("in use"), "the controller ended:\n{}", log());
                    break;
                }
                if Instant::now() > end {
                    let _ = process.kill();
                    let _ = process.wait();
                    panic!("the controller does not listen:\n{}", log());
                }
                thread::sleep(Duration::from_millis(20));
            }
        }
        panic!("no free ports in five attempts");
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn free_ports() -> [u16; 2] {
    let listeners = [(); 2].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}

/// Runs a program to its end, which must come in time.
fn finish(command: &mut Command) -> Output {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let mut streams = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let read = |stream: &mut dyn Read| {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        bytes
    };
    thread::scope(|scope| {
        let stdout = scope.spawn(|| read(&mut streams.0));
        let stderr = scope.spawn(|| read(&mut streams.1));
        let end = Instant::now() + LONG;
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            if Instant::now() > end {
                let _ = child.kill();
            }
            thread::sleep(Duration::from_millis(20));
        };
        Output { status, stdout: stdout.join().unwrap(), stderr: stderr.join().unwrap() }
    })
}

fn succeed(command: &mut Command) {
    let output = finish(command);
    let errors = String::from_utf8_lossy(&output.stderr);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{command:?}: {}\n{text}{errors}", output.status);
}

/// The Python of an environment that holds the required packages. Made once, under a name of its
/// own, and put in place whole: another test may do the same at the same time.
fn python() -> PathBuf {
    let requirements = Path::new(FOLDER).join("requirements.txt");
    let mut hasher = DefaultHasher::new();
    fs::read(&requirements).unwrap().hash(&mut hasher);
    let root = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let place = root.join(format!("python-{:016x}", hasher.finish()));
    let interpreter = place.join("bin/python3");
    if !interpreter.exists() {
        let thread = thread::current().id();
        let new = root.join(format!("python-new-{}-{thread:?}", process::id()));
        succeed(Command::new("python3").args(["-m", "venv"]).arg(&new));
        succeed(
            Command::new(new.join("bin/python3"))
                .args(["-m", "pip", "install", "--quiet", "--only-binary=:all:", "--requirement"])
                .arg(&requirements),
        );
        if fs::rename(&new, &place).is_err() {
            // Another test was quicker.
            let _ = fs::remove_dir_all(&new);
        }
    }
    interpreter
}

fn client(controller: &Controller, proto: &Path) -> Output {
    finish(
        Command::new(python())
            .arg("-B")
            .arg(Path::new(FOLDER).join("client.py"))
            .arg(&controller.endpoint)
            .arg(proto),
    )
}

#[test]
fn a_client_of_the_first_interface_works_with_this_controller() {
    let controller = Controller::start("compatibility");
    let output = client(&controller, &Path::new(FOLDER).join("seed.proto"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "compatible", "{errors}");
}

#[test]
fn a_field_that_moved_is_noticed() {
    let controller = Controller::start("compatibility-moved");
    let seed = fs::read_to_string(Path::new(FOLDER).join("seed.proto")).unwrap();
    let folder = scratch("compatibility-moved-protos");
    for (then, moved, what) in [
        ("uint32 weight = 5;", "uint32 weight = 15;", "RegisterBackendReq.weight: 15 then"),
        ("string probe_latency_us = 6;", "uint64 probe_latency_us = 6;", "probe_latency_us"),
        ("uint64 version = 2;", "uint64 version = 12;", "PoolSnapshot.version: 12 then"),
    ] {
        assert!(seed.contains(then));
        let proto = folder.join("moved.proto");
        fs::write(&proto, seed.replacen(then, moved, 1)).unwrap();
        let output = client(&controller, &proto);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{moved} was not noticed");
        assert!(errors.contains(what), "{moved}: {errors}");
    }
}
