//! A node that cannot start says why: exit code 2 for the configuration, 1 for the machine.

use std::collections::BTreeSet;
use std::fs;

use crate::lab::{Lab, WEIR, is_root, wait_for};

/// Starts a node with the lab's configuration, changed: exit code and what was said.
fn start_with(lab: &Lab, as_user: &[&str], change: impl Fn(&str) -> String) -> (i32, String) {
    let config = change(&lab.config(&["--hugepages", "false"]));
    fs::write(lab.config_path(), config).unwrap();
    let path = lab.config_path();
    let weir = [env!("CARGO_BIN_EXE_weir"), "run", path.to_str().unwrap()];
    // A node that starts after all is ended.
    let command = [&["timeout", "20"], as_user, &weir].concat();
    let output = lab.on("node", &command);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!said.contains("panicked"), "{said}");
    (output.status.code().unwrap_or(-1), said)
}

#[test]
fn what_is_wrong_is_named() {
    if !is_root() {
        return;
    }
    let lab = Lab::up(&["--port", "net_af_packet", "--backends", "1", "--mode", "l2dsr"]);
    let replace = |from: &'static str, to: &'static str| {
        move |config: &str| {
            assert!(config.contains(from), "{config}");
            config.replace(from, to)
        }
    };
    let check = |(code, said): (i32, String), expected: i32, words: &[&str]| {
        assert_eq!(code, expected, "{said}");
        for word in words {
            assert!(said.contains(word), "{word:?} is not in:\n{said}");
        }
    };
    let none: &[&str] = &[];

    let driver = replace("net_af_packet0,iface=uplink0,qpairs=1", "net_nope0");
    check(start_with(&lab, none, driver), 1, &["uplink", "net_nope0", "cannot open"]);
    let interface = replace("iface=uplink0", "iface=nowhere0");
    check(start_with(&lab, none, interface), 1, &["uplink", "nowhere0", "cannot open"]);
    let pci = replace("net_af_packet0,iface=uplink0,qpairs=1", "0000:fe:1f.7");
    check(start_with(&lab, none, pci), 1, &["0000:fe:1f.7", "vfio-pci"]);
    let jumbo = replace("mtu = 1500", "mtu = 9000");
    check(start_with(&lab, none, jumbo), 1, &["uplink", "interface uplink0 has 1600", "ip link"]);
    assert!(lab.on("node", &["ip", "link", "set", "uplink0", "mtu", "9000"]).status.success());
    check(start_with(&lab, none, jumbo), 1, &["uplink", "mtu = 9000", "1946", "framesz="]);
    let tap =
        |config: &str| jumbo(config).replace("net_af_packet0,iface=uplink0,qpairs=1", "net_tap0");
    check(start_with(&lab, none, tap), 1, &["uplink", "mtu = 9000", "at most 15", "net_tap"]);
    let memory = replace("flows = 200000", "flows = 20000000");
    check(start_with(&lab, none, memory), 1, &["no memory", "conntrack", "memory_mib", "flows"]);
    // Room for the first worker's table, not for the second's: the first is stopped in order.
    let second = |config: &str| {
        config
            .replace("net_af_packet0,iface=uplink0,qpairs=1", "net_null0")
            .replace("worker_cores = [1]", "worker_cores = [1, 0]")
            .replace("memory_mib = 512", "memory_mib = 128")
            .replace("flows = 200000", "flows = 1700000")
    };
    let (code, said) = start_with(&lab, none, second);
    check((code, said.clone()), 1, &["no memory", "conntrack"]);
    assert!(!said.contains("not ready port"), "{said}");
    let memory = replace("memory_mib = 512", "memory_mib = 1000000");
    check(start_with(&lab, none, memory), 1, &["memory_mib = 1000000", "available"]);
    let hugepages = |config: &str| {
        config
            .replace("hugepages = false", "hugepages = true")
            .replace("memory_mib = 512", "memory_mib = 1000000")
    };
    check(start_with(&lab, none, hugepages), 1, &["hugepages", "scripts/hugepages.sh"]);
    let cores = replace("worker_cores = [1]", "worker_cores = [1, 777]");
    check(start_with(&lab, none, cores), 2, &["core 777"]);
    let admin = replace("127.0.0.1:9180", "127.0.0.1:0");
    let (code, said) = start_with(&lab, none, admin);
    assert!(code == 2 || said.contains("admin"), "{code}: {said}");
    let key = replace("memory_mib", "memory_mb");
    check(start_with(&lab, none, key), 2, &["memory_mb", "memory_mib", "weir.toml:"]);
    let nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    let path = lab.config_path();
    let reads = [&nobody[..], &["test", "-r", path.to_str().unwrap()]].concat();
    if lab.on("node", &reads).status.success() {
        check(start_with(&lab, &nobody, str::to_owned), 1, &["uplink", "root"]);
    } else {
        eprintln!("{}: not for others to read; nobody starts a node there", path.display());
    }
    if fs::exists("/dev/vhost-net").is_ok_and(|exists| exists) {
        return;
    }
    let keys = "exception = \"weirx0\"\nexception_driver = \"virtio_user\"\n\n[conntrack]";
    let vhost = |config: &str| config.replace("[conntrack]", keys);
    check(start_with(&lab, none, vhost), 1, &["uplink", "weirx0", "/dev/vhost-net", "modprobe"]);
}

#[test]
fn only_workers_run_on_the_workers_cores() {
    if !is_root() {
        return;
    }
    // With a controller, which is never started: the node then has all the threads it can have.
    let mut lab = Lab::up(&["--port", "net_af_packet", "--backends", "1", "--controllers", "1"]);
    let config = lab.config(&["--hugepages", "false"]);
    if !config.contains("main_core = 0\nworker_cores = [1]\n") {
        eprintln!("one core: the worker shares it with all other threads");
        return;
    }
    fs::write(lab.config_path(), config).unwrap();
    let path = lab.config_path();
    lab.start_part("node", "node", &[WEIR, "run", path.to_str().unwrap()]);
    wait_for("the node to be alive", 30, || {
        lab.runs("node");
        (lab.get_status("/healthz").0 == "200").then_some(())
    });
    let mut workers = 0;
    let threads = lab.threads("node");
    for (name, cores) in &threads {
        let expected = match name.starts_with("worker-") {
            true => 1,
            false => 0,
        };
        assert_eq!(*cores, BTreeSet::from([expected]), "{name}, of {threads:?}");
        workers += expected;
    }
    assert_eq!(workers, 1, "{threads:?}");
    assert!(threads.len() >= 4, "DPDK's threads and those of the watch, too: {threads:?}");
}

#[test]
fn a_device_with_fewer_queues_is_refused_or_served_by_fewer_workers() {
    if !is_root() {
        return;
    }
    let mut lab = Lab::up(&["--port", "net_af_packet", "--backends", "1", "--mode", "l2dsr"]);
    let two = |config: &str| config.replace("worker_cores = [1]", "worker_cores = [1, 0]");
    let (code, said) = start_with(&lab, &[], two);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("1 receive and transmit queue pairs, and 2 workers"), "{said}");

    let config = two(&lab.config(&["--hugepages", "false"]));
    let config = config.replace("idle = ", "fewer_queues = \"use\"\nidle = ");
    lab.start_node(&config);
    assert!(lab.requests(50).iter().all(Result::is_ok));
    assert!(lab.log().contains("fewer workers"), "{}", lab.log());
}

#[test]
fn an_admin_address_in_use_is_named() {
    if !is_root() {
        return;
    }
    let mut lab = Lab::up(&["--port", "net_af_packet", "--backends", "1", "--mode", "l2dsr"]);
    let config = lab.config(&["--hugepages", "false"]);
    lab.start_node(&config);
    let (code, said) = start_with(&lab, &[], str::to_owned);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("127.0.0.1:9180") && said.contains("in use"), "{said}");
    assert!(lab.requests(20).iter().all(Result::is_ok), "the running node goes on");
}
