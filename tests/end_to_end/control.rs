//! What fails around one controller and one node, and whose flows break: the dead backend's own,
//! and nobody else's. How long things take is printed, not judged.

use std::collections::{BTreeSet, HashMap};

use serde_json::Value;

use crate::lab::{Lab, VIP, is_root, wait_for};
use crate::plane::{PATIENCE, Plane};
use crate::traffic::{Downloads, RESET, Request, Trickle, established_flows, now_ms};

const DOWNLOADS: usize = 40;
const FIRST_PORT: u16 = 40_000;
/// Seconds within which a dead backend must be out; SPEC says 5, on a machine that is not busy.
const OUT: u64 = 15;
const ARRIVED: &str = "200 2097152";

/// Downloads of about so many seconds from ports `first` and up, and the backend that each is on.
fn downloads(lab: &Lab, first: u16, seconds: u64) -> (Downloads, HashMap<u16, String>) {
    let rate = format!("rate={}", (2 << 20) / seconds);
    let downloads = Downloads::start(lab, first, DOWNLOADS, &rate);
    let ours = |flows: &HashMap<u16, String>| {
        (first..).take(DOWNLOADS).all(|port| flows.contains_key(&port))
    };
    let flows = wait_for("all downloads to be under way", 20, || {
        Some(established_flows(lab, "node")).filter(ours)
    });
    (downloads, flows)
}

/// When a backend died and when the node gave it no new flows any more.
struct Death {
    backend: &'static str,
    died_ms: u64,
    out_ms: u64,
}

/// `kill` is what happens to a backend; waits until the node gives it no new flows.
fn death(plane: &mut Plane, backend: &'static str, kill: impl FnOnce(&mut Plane)) -> Death {
    let died_ms = now_ms();
    kill(plane);
    wait_for(&format!("{backend} to be out"), OUT, || {
        plane.served_by("node").filter(|served| !served.contains(backend))
    });
    let out_ms = now_ms();
    println!("{backend}: out {} ms after its death", out_ms - died_ms);
    Death { backend, died_ms, out_ms }
}

/// New connections fail only between a death and its discovery.
fn failed_only_meanwhile(requests: &[Request], deaths: &[Death]) {
    // A request that began before the death may have been under way.
    let meanwhile = |request: &Request, death: &Death| {
        request.began_ms + 5_000 >= death.died_ms && request.began_ms < death.out_ms
    };
    let failed = requests.iter().filter(|request| request.answer.is_err());
    let wrong: Vec<_> =
        failed.filter(|request| !deaths.iter().any(|death| meanwhile(request, death))).collect();
    assert!(wrong.is_empty(), "of {} requests: {wrong:?}", requests.len());
    for death in deaths {
        let after = |request: &&Request| {
            request.began_ms >= death.out_ms && request.answer.as_deref() == Ok(death.backend)
        };
        let late: Vec<_> = requests.iter().filter(after).collect();
        assert!(late.is_empty(), "{} is out, and answered {late:?}", death.backend);
    }
}

#[test]
fn a_dead_backend_breaks_its_own_flows_and_no_others() {
    if !is_root() {
        return;
    }
    // Three of seven can be lost without panic.
    let mut plane = Plane::up(1, 1, 7);
    let (downloads, flows) = downloads(&plane.lab, FIRST_PORT, 25);
    let trickle = Trickle::start(&plane.lab, 10_000, 3);
    let link = ["ip", "link", "set", "eth0"];
    let deaths = [
        // Its kernel refuses.
        death(&mut plane, "b1", |plane| plane.kill_service("b1")),
        // Nothing comes back at all.
        death(&mut plane, "b2", |plane| {
            plane.on("b2", &[&link[..], &["down"]].concat());
        }),
        // Its own address answers the checkers as before; only the node's probes can tell.
        death(&mut plane, "b3", |plane| {
            plane.on("b3", &["ip", "addr", "del", &format!("{VIP}/32"), "dev", "lo"]);
            plane.on("b3", &["ip", "route", "del", "local", "203.0.113.0/24", "dev", "lo"]);
        }),
    ];
    let all_but = plane.all_but(&["b1", "b2", "b3"]);
    plane.serves("the rest", &all_but);
    assert_eq!(plane.in_state("UNHEALTHY"), BTreeSet::from(["b1".into(), "b2".into()]));
    assert_eq!(plane.answered(100), all_but);
    failed_only_meanwhile(&trickle.stop(), &deaths);

    let on_dead = |port: u16| ["b1", "b2", "b3"].contains(&flows[&port].as_str());
    let lost = flows.keys().filter(|port| on_dead(**port)).count();
    let endings = downloads.abandon(on_dead).endings();
    for ending in &endings {
        assert_eq!(ending.answer, ARRIVED, "on {}: {ending:?}", flows[&ending.port]);
    }
    println!("{lost} downloads were on dead backends, {} on others arrived", endings.len());
    assert!(endings.len() * 4 >= DOWNLOADS, "there were flows to break");

    // All three come back, and take new flows.
    plane.start_service("b1");
    plane.on("b2", &[&link[..], &["up"]].concat());
    plane.on("b2", &["ip", "route", "replace", "192.0.2.0/24", "dev", "eth0", "src", "192.0.2.12"]);
    plane.on("b3", &["ip", "route", "add", "local", "203.0.113.0/24", "dev", "lo"]);
    plane.on("b3", &["ip", "addr", "add", &format!("{VIP}/32"), "dev", "lo"]);
    let all = plane.all();
    plane.serves("all of them again", &all);
    assert_eq!(plane.answered(200), all);
}

#[test]
fn unready_and_draining_backends_get_no_new_flows_and_keep_their_old_ones() {
    if !is_root() {
        return;
    }
    let plane = Plane::up(1, 1, 4);
    let (first, flows) = downloads(&plane.lab, FIRST_PORT, 20);
    let trickle = Trickle::start(&plane.lab, 10_000, 10);

    plane.ready("b1", false);
    plane.serves("b1 not to be ready", &plane.all_but(&["b1"]));
    assert!(flows.values().any(|backend| backend == "b1"));
    assert_eq!(plane.answered(60), plane.all_but(&["b1"]));
    assert_eq!(plane.in_state("HEALTHY"), plane.all(), "not ready is not unhealthy");

    // What they share fails: the pool is served as if all were well.
    for backend in ["b2", "b3", "b4"] {
        plane.ready(backend, false);
    }
    wait_for("panic", PATIENCE, || (plane.pool()["panicking"] == true).then_some(()));
    plane.serves("all of them", &plane.all());
    wait_for("all of them to be found not ready", PATIENCE, || {
        let pool = plane.pool();
        let mut backends = pool["backends"].as_array().unwrap().iter();
        let for_panic = |reason: &str| reason.contains("not ready") && reason.contains("panic");
        backends.all(|backend| for_panic(backend["reason"].as_str().unwrap())).then_some(())
    });
    plane.serves("all of them", &plane.all());
    assert_eq!(plane.answered(80), plane.all());
    assert_eq!(plane.in_state("HEALTHY"), plane.all(), "nobody is evicted, or anything else");

    for backend in ["b1", "b2", "b3", "b4"] {
        plane.ready(backend, true);
    }
    wait_for("the end of the panic", PATIENCE, || {
        (plane.pool()["panicking"] == false).then_some(())
    });
    plane.serves("all of them", &plane.all());
    for ending in first.endings() {
        assert_eq!(ending.answer, ARRIVED, "on {}: {ending:?}", flows[&ending.port]);
    }

    // b2 may take its time, b3 may not: what is on b2 is short enough for its window, what is on
    // b3 far too long.
    let (short, short_flows) = downloads(&plane.lab, FIRST_PORT + 100, 15);
    let (long, long_flows) = downloads(&plane.lab, FIRST_PORT + 200, 80);
    let on_b3 = |flows: &HashMap<u16, String>, port: u16| flows[&port] == "b3";
    let short = short.abandon(|port| on_b3(&short_flows, port));
    let long = long.abandon(|port| !on_b3(&long_flows, port));
    plane.must(&["drain", "b2", "--seconds", "80"]);
    plane.must(&["drain", "b3", "--seconds", "3"]);
    plane.serves("b2 and b3 to be out", &plane.all_but(&["b2", "b3"]));
    assert_eq!(plane.answered(60), plane.all_but(&["b2", "b3"]));
    trickle.stop_without_failures("backends that were not ready, or drained");
    let stragglers = long.endings();
    assert!(!stragglers.is_empty());
    for ending in &stragglers {
        assert_eq!(ending.code, Some(RESET), "{ending:?}");
    }
    assert!(short_flows.values().any(|backend| backend == "b2"));
    for ending in short.endings() {
        let backend = &short_flows[&ending.port];
        assert_eq!(ending.answer, ARRIVED, "on {backend}: {ending:?}");
    }
    assert_eq!(plane.in_state("EVICTED"), BTreeSet::from(["b3".into()]));
    assert_eq!(plane.in_state("DRAINING"), BTreeSet::from(["b2".into()]));
    println!("{} stragglers reset", stragglers.len());
}

#[test]
fn a_controller_that_is_away_is_missed_by_nobody() {
    if !is_root() {
        return;
    }
    let mut plane = Plane::up(1, 1, 3);
    plane.must(&["backend", "update", "b2", "--weight", "70"]);
    let rows = plane.must(&["export"]);
    assert!(rows.contains("weight = 70"), "{rows}");

    // It dies, and comes back.
    let trickle = Trickle::start(&plane.lab, 10_000, 10);
    plane.lab.stop_part("controller1", "-KILL");
    plane.lab.pass_ms(3_000);
    assert_eq!(plane.answered(60), plane.all());
    plane.start_controller(1);
    plane.leads(None);
    assert_eq!(plane.must(&["export"]), rows, "an acknowledged write is never missing");
    plane.must(&["backend", "update", "b3", "--weight", "0"]);
    plane.serves("a change after the restart", &plane.all_but(&["b3"]));
    plane.must(&["backend", "update", "b3", "--weight", "100"]);
    plane.serves("all of them", &plane.all());
    trickle.stop_without_failures("a controller killed and started again");

    // It is away, and a node starts.
    plane.lab.stop_part("controller1", "-KILL");
    assert_eq!(plane.lab.stop_node("-TERM"), Some(0), "{}", plane.lab.log());
    plane.start_node(1);
    plane.one_serves("the cache", "node", &plane.all());
    wait_for("the node to be ready", PATIENCE, || {
        (plane.lab.get_status("/readyz").0 == "200").then_some(())
    });
    assert_eq!(plane.lab.metric("weir_controller_connected"), 0);
    assert_eq!(plane.answered(60), plane.all());
    let trickle = Trickle::start(&plane.lab, 20_000, 10);
    plane.start_controller(1);
    plane.leads(None);
    plane.must(&["drain", "b1", "--seconds", "60"]);
    plane.serves("a change", &plane.all_but(&["b1"]));
    trickle.stop_without_failures("its return to a node with a cache");
}

/// Looks for two seconds: all these are healthy, and served.
fn stays(plane: &Plane, backends: &BTreeSet<String>) {
    for _ in 0..4 {
        let told = || {
            format!("{}\n{}", plane.lab.part_log("controller1"), plane.lab.get("/admin/pools/web"))
        };
        assert_eq!(&plane.in_state("HEALTHY"), backends, "{}", told());
        assert_eq!(plane.served_by("node").as_ref(), Some(backends), "{}", told());
        plane.lab.pass_ms(500);
    }
}

#[test]
fn checkers_that_are_cut_off_eject_nobody() {
    if !is_root() {
        return;
    }
    let mut plane = Plane::up(1, 1, 3);
    let all = plane.all();
    let trickle = Trickle::start(&plane.lab, 10_000, 10);
    let link = |plane: &Plane, host: &str, device: &str, state: &str| {
        plane.on(host, &["ip", "link", "set", device, state]);
    };
    let down = |plane: &Plane, checker: &str| -> u64 {
        let metrics = plane.on(checker, &["curl", "-s", "http://127.0.0.1:9192/metrics"]);
        let line = metrics
            .lines()
            .find(|line| line.starts_with("weir_checker_verdicts{verdict=\"down\"}"));
        line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0)
    };

    // One reaches no backend, and says so of all of them.
    link(&plane, "c1", "eth0", "down");
    wait_for("c1 to find all of them down", PATIENCE, || (down(&plane, "c1") == 3).then_some(()));
    stays(&plane, &all);

    // Two do not: what most find of all is most likely their own trouble.
    link(&plane, "c2", "eth0", "down");
    wait_for("panic", PATIENCE, || (plane.pool()["panicking"] == true).then_some(()));
    plane.serves("all of them", &all);
    assert_eq!(plane.answered(60), all);
    link(&plane, "c1", "eth0", "up");
    link(&plane, "c2", "eth0", "up");
    // Healthy is what answers; what is cut off before it is found ready, too, stays without new
    // flows for as long.
    wait_for("them to be healthy and ready", PATIENCE, || {
        let pool = plane.pool();
        let fit = |backend: &Value| backend["state"] == "HEALTHY" && backend["eligible"] == true;
        let all_fit = pool["backends"].as_array().is_some_and(|all| all.iter().all(fit));
        (all_fit && pool["panicking"] == false).then_some(())
    });
    plane.serves("all of them, as they are fit", &all);

    // Two are not heard: the pool stays as last known, whatever the third says.
    link(&plane, "c1", "mgmt0", "down");
    link(&plane, "c2", "mgmt0", "down");
    wait_for("the freeze", 60, || (plane.pool()["frozen"] == true).then_some(()));
    trickle.stop_without_failures("checkers cut off");
    plane.kill_service("b1");
    wait_for("c3 to find it", PATIENCE, || (down(&plane, "c3") == 1).then_some(()));
    stays(&plane, &all);

    // They are back: what they have found meanwhile counts at once.
    link(&plane, "c1", "mgmt0", "up");
    link(&plane, "c2", "mgmt0", "up");
    plane.serves("b1 to be out", &plane.all_but(&["b1"]));
    assert_eq!(plane.in_state("UNHEALTHY"), BTreeSet::from(["b1".into()]));
}
