//! What fails in a fleet: three controllers over three members of etcd, and three nodes behind a
//! router. Whatever it is, no request fails and no acknowledged change is lost.

use std::fs;

use crate::lab::{Lab, is_root, wait_for};
use crate::plane::{PATIENCE, Plane, controller, node};
use crate::traffic::{Downloads, Trickle, established_flows};

const DOWNLOADS: usize = 40;
const FIRST_PORT: u16 = 40_000;
const ARRIVED: &str = "200 2097152";

/// A change through one controller's HTTP interface: no client here that follows a leader. Returns
/// the status.
fn weight_through(plane: &Plane, number: usize, weight: u32, seconds: &str) -> String {
    let token = fs::read_to_string(plane.lab.state().join("tls/operator.token")).unwrap();
    let authority = plane.lab.state().join("tls/ca.pem");
    let url = format!("https://198.51.100.{number}:9191/v1/backends/b3");
    let output = plane.lab.on(
        "control",
        &[
            "curl",
            "-s",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}",
            "--max-time",
            seconds,
            "-X",
            "PATCH",
            "--cacert",
            authority.to_str().unwrap(),
            "-H",
            &format!("authorization: Bearer {}", token.trim()),
            "-H",
            "content-type: application/json",
            "-d",
            &format!("{{\"weight\": {weight}}}"),
            &url,
        ],
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn leaders_and_nodes_come_and_go() {
    if !is_root() {
        return;
    }
    let mut plane = Plane::up(3, 3, 3);
    let all = plane.all();
    let trickle = Trickle::start(&plane.lab, 10_000, 10);

    // The leader dies.
    let first = plane.leads(None);
    let rows = plane.must(&["export"]);
    plane.lab.stop_part(&controller(first), "-KILL");
    let second = plane.leads(Some(first));
    assert_eq!(plane.must(&["export"]), rows);
    plane.must(&["drain", "b1", "--seconds", "600"]);
    plane.serves("a change through the new leader", &plane.all_but(&["b1"]));
    plane.must(&["drain", "b1", "--undo"]);
    plane.serves("and another", &all);
    plane.start_controller(first);

    // The leader is paused for longer than its lease lasts. What it is asked meanwhile it finds
    // when it wakes up.
    let sleeper = controller(second);
    plane.lab.signal_part(&sleeper, "-STOP");
    let asked_in_vain = std::thread::scope(|scope| {
        let asked = scope.spawn(|| weight_through(&plane, second, 7, "60"));
        let third = plane.leads(Some(second));
        plane.must(&["backend", "update", "b3", "--weight", "50"]);
        plane.lab.signal_part(&sleeper, "-CONT");
        let status = asked.join().unwrap();
        assert_eq!(plane.leader(), Some(third));
        status
    });
    assert_ne!(asked_in_vain, "200", "a leader that slept cannot write");
    assert_eq!(weight_through(&plane, second, 8, "20"), "503");
    let rows = plane.must(&["export"]);
    assert!(rows.contains("weight = 50") && !rows.contains("weight = 7"), "{rows}");
    plane.must(&["backend", "update", "b2", "--weight", "0"]);
    plane.serves("a change through the third leader", &plane.all_but(&["b2"]));
    plane.must(&["backend", "update", "b2", "--weight", "100"]);
    plane.serves("and another", &all);
    wait_for("the nodes to agree", PATIENCE, || {
        plane.ctl(&["fleet", "--check"]).status.success().then_some(())
    });
    trickle.stop_without_failures("a leader killed, another paused");
    a_node_dies(&mut plane);
}

/// Its flows go on through the others, on the backends they began on.
fn a_node_dies(plane: &mut Plane) {
    let rate = format!("rate={}", (2 << 20) / 15);
    let downloads = Downloads::start(&plane.lab, FIRST_PORT, DOWNLOADS, &rate);
    let ours = |port: &u16| (FIRST_PORT..).take(DOWNLOADS).any(|ours| ours == *port);
    let flows = |lab: &Lab, nodes: &[usize]| -> Vec<(u16, String)> {
        let flows = nodes.iter().flat_map(|number| established_flows(lab, &node(*number)));
        flows.filter(|(port, _)| ours(port)).collect()
    };
    wait_for("all downloads to be under way", 20, || {
        (flows(&plane.lab, &[1, 2, 3]).len() == DOWNLOADS).then_some(())
    });
    let lost = flows(&plane.lab, &[2]);
    assert!(!lost.is_empty());
    plane.lab.stop_part("node2", "-KILL");
    plane.lab.run("route", &["1", "3"]);
    let carried_on = wait_for("the lost node's flows at the others", 10, || {
        let there = flows(&plane.lab, &[1, 3]);
        (there.len() == DOWNLOADS).then_some(there)
    });
    for flow in &lost {
        assert!(carried_on.contains(flow), "{flow:?} is on another backend");
    }
    for ending in downloads.endings() {
        assert_eq!(ending.answer, ARRIVED, "{ending:?}");
    }
    println!("{} of {DOWNLOADS} downloads were on the node that died, all arrived", lost.len());
}

#[test]
fn half_a_minute_without_etcd_is_noticed_by_no_client() {
    if !is_root() {
        return;
    }
    let plane = Plane::up(3, 1, 3);
    plane.must(&["backend", "update", "b2", "--weight", "70"]);
    let rows = plane.must(&["export"]);
    let members: Vec<String> = (1..=3)
        .map(|number| {
            let pid = plane.lab.state().join(format!("control/etcd{number}.pid"));
            fs::read_to_string(pid).unwrap().trim().to_owned()
        })
        .collect();
    let all = |signal| {
        let command = ["kill", signal].into_iter().chain(members.iter().map(String::as_str));
        plane.on("control", &command.collect::<Vec<_>>());
    };
    let trickle = Trickle::start(&plane.lab, 10_000, 10);
    all("-STOP");
    plane.lab.pass_ms(30_000);
    assert_eq!(plane.leader(), None, "nobody leads without a lease");
    all("-CONT");
    plane.leads(None);
    assert_eq!(plane.must(&["export"]), rows);
    assert_eq!(plane.in_state("HEALTHY"), plane.all());
    plane.must(&["backend", "update", "b3", "--weight", "0"]);
    plane.serves("a change after the outage", &plane.all_but(&["b3"]));
    trickle.stop_without_failures("30 s without etcd");
}
