//! `/admin/flows`: filters, limits, and dumps that do not go as they should.

use std::collections::BTreeSet;
use std::time::Duration;

use axum::http::StatusCode;
use dataplane::link::Command;
use serde_json::{Value, json};

use crate::lab::{CONFIG, Lab, SECOND, syn, tcp, udp};

/// 40 flows of `web` on each of two workers, 5 of `dns` on the first.
fn busy() -> Lab {
    let mut lab = Lab::new(2);
    for worker in 0..2u16 {
        let ports = (0..40).map(|port| 1000 + 100 * worker + port);
        lab.receive(worker.into(), ports.map(|port| syn([203, 0, 113, 1], port, 80)));
    }
    lab.receive(0, (0..5).map(|port| udp([203, 0, 113, 2], 5000 + port, 53, 4)));
    lab
}

fn flows(answer: &Value) -> Vec<Value> {
    answer["flows"].as_array().expect("a list").clone()
}

/// Dumps may not follow each other at once.
fn rest(lab: &Lab) {
    lab.pass(SECOND / 4);
}

#[tokio::test(start_paused = true)]
async fn a_flow_is_shown_with_everything_that_is_known_of_it() {
    let mut lab = Lab::new(1);
    lab.receive(0, [syn([203, 0, 113, 1], 1234, 80)]);
    lab.receive(0, [tcp([203, 0, 113, 1], 1234, 80, 0x10)]);
    lab.pass(SECOND / 2);
    let answer = lab.get_at_work("/admin/flows").await.json();
    let shown = flows(&answer);
    let backend = shown[0]["backend"].clone();
    assert!(backend == "host-1" || backend == "host-2", "{backend}");
    assert_eq!(
        answer,
        json!({
            "complete": true,
            "unanswered_workers": [],
            "limited": false,
            "limit": 100,
            "flows": [{
                "protocol": "tcp",
                "source": "198.51.100.7",
                "source_port": 1234,
                "destination": "203.0.113.1",
                "destination_port": 80,
                "vip": "203.0.113.1:80/tcp",
                "pool": "web",
                "backend": backend,
                "state": "established",
                "idle_ms": 500,
                "packets": 2,
                "bytes": 80,
                "worker": 0,
                "confirmed": true,
                "tombstone": false,
            }],
        })
    );
}

#[tokio::test(start_paused = true)]
async fn flows_of_all_workers_are_shown_and_can_be_filtered() {
    let mut lab = busy();
    let all = lab.get_at_work("/admin/flows?vip=&backend=&limit=").await.json();
    assert_eq!(flows(&all).len(), 85);
    assert_eq!(all["limited"], false);
    let tuples: BTreeSet<String> = flows(&all)
        .iter()
        .map(|flow| format!("{} {} {}", flow["protocol"], flow["source_port"], flow["worker"]))
        .collect();
    assert_eq!(tuples.len(), 85, "none is shown twice");
    rest(&lab);
    let dns = lab.get_at_work("/admin/flows?vip=203.0.113.2:53/udp").await.json();
    assert_eq!(flows(&dns).len(), 5);
    assert!(flows(&dns).iter().all(|flow| flow["pool"] == "dns" && flow["state"] == "udp"));
    rest(&lab);
    let path = "/admin/flows?backend=web/host-2&vip=203.0.113.1%3A80%2Ftcp";
    let second = flows(&lab.get_at_work(path).await.json());
    assert!(!second.is_empty() && second.len() < 80);
    assert!(second.iter().all(|flow| flow["backend"] == "host-2"));
    rest(&lab);
    // Only one pool has a host-2, so its name will do.
    let same = flows(&lab.get_at_work("/admin/flows?backend=host-2").await.json());
    assert_eq!(same.len(), second.len());
}

#[tokio::test(start_paused = true)]
async fn a_limit_cuts_all_workers_alike_and_says_so() {
    let mut lab = busy();
    let answer = lab.get_at_work("/admin/flows?limit=10").await.json();
    assert_eq!((&answer["limit"], &answer["limited"]), (&json!(10), &json!(true)));
    let workers: Vec<u64> =
        flows(&answer).iter().map(|flow| flow["worker"].as_u64().expect("a number")).collect();
    assert_eq!(workers, [0, 1, 0, 1, 0, 1, 0, 1, 0, 1]);
}

#[tokio::test(start_paused = true)]
async fn more_flows_than_the_queue_holds_come_all() {
    let mut lab = Lab::new(1);
    lab.receive(0, (0..9_000).map(|port| syn([203, 0, 113, 1], 1000 + port, 80)));
    let answer = lab.get_at_work("/admin/flows?limit=10000").await.json();
    assert_eq!(answer["complete"], true);
    let ports: BTreeSet<u64> =
        flows(&answer).iter().map(|flow| flow["source_port"].as_u64().expect("a port")).collect();
    assert_eq!(ports.len(), 9_000);
}

#[tokio::test(start_paused = true)]
async fn flows_that_are_over_and_not_yet_reaped_are_left_out() {
    let mut lab = Lab::new(1);
    lab.receive(0, [syn([203, 0, 113, 1], 1, 80)]);
    // SYN_RECV lasts 30 s; nothing else has been polled since, so nothing is reaped.
    lab.pass(30 * SECOND);
    let answer = lab.get_at_work("/admin/flows").await.json();
    assert_eq!(flows(&answer), Vec::<Value>::new());
}

#[tokio::test(start_paused = true)]
async fn bad_parameters_are_named() {
    let lab = busy();
    for (query, parameter, problem) in [
        ("limit=0", "limit", "is not a number of 1 to 10000"),
        ("limit=10001", "limit", "is not a number of 1 to 10000"),
        ("limit=ten", "limit", "is not a number of 1 to 10000"),
        ("limit=-1", "limit", "is not a number of 1 to 10000"),
        ("limit=5&limit=6", "limit", "is given twice"),
        ("vipp=x", "vipp", "expected vip, backend or limit"),
        ("backend=host-1", "backend", "is a backend of several pools"),
    ] {
        let reply = lab.get(&format!("/admin/flows?{query}")).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{query}");
        assert_eq!(reply.json()["parameter"], parameter, "{query}");
        let error = reply.json()["error"].as_str().expect("a text").to_owned();
        assert!(error.contains(problem), "{query}: {error}");
    }
    for query in ["vip=203.0.113.1:81/tcp", "vip=x", "backend=web/host-9", "backend=wep/host-1"] {
        let reply = lab.get(&format!("/admin/flows?{query}")).await;
        assert_eq!(reply.status, StatusCode::NOT_FOUND, "{query}");
        let known = if query.starts_with("vip") { "vips" } else { "backends" };
        assert!(reply.json()[known].as_array().is_some_and(|names| !names.is_empty()), "{query}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_second_dump_at_the_same_time_or_too_soon_is_told_when_to_come_back() {
    let mut lab = busy();
    {
        let first = lab.get("/admin/flows");
        tokio::pin!(first);
        // Nobody works, so the first is under way for long.
        assert!(tokio::time::timeout(Duration::from_millis(50), &mut first).await.is_err());
        rest(&lab);
        let second = lab.get("/admin/flows").await;
        assert_eq!(second.status, StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(second.headers["retry-after"], "1");
        assert!(second.json()["error"].is_string());
    }
    assert_eq!(lab.get_at_work("/admin/flows").await.status, StatusCode::OK);
    let soon = lab.get_at_work("/admin/flows").await;
    assert_eq!(soon.status, StatusCode::TOO_MANY_REQUESTS);
    lab.pass(SECOND);
    assert_eq!(lab.get_at_work("/admin/flows").await.status, StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn a_bad_request_does_not_cost_the_next_one_its_turn() {
    let mut lab = busy();
    assert_eq!(lab.get("/admin/flows?limit=x").await.status, StatusCode::BAD_REQUEST);
    assert_eq!(lab.get_at_work("/admin/flows").await.status, StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn records_of_a_dump_that_the_client_gave_up_are_not_mixed_into_the_next() {
    let mut lab = busy();
    {
        let first = lab.get("/admin/flows?vip=203.0.113.1:80/tcp&limit=1000");
        assert!(tokio::time::timeout(Duration::from_millis(50), first).await.is_err());
    }
    // The workers answer when nobody listens any more.
    lab.poll();
    rest(&lab);
    let answer = lab.get_at_work("/admin/flows?vip=203.0.113.2:53/udp").await.json();
    assert_eq!(answer["complete"], true);
    assert_eq!(flows(&answer).len(), 5);
    assert!(flows(&answer).iter().all(|flow| flow["pool"] == "dns"));
}

#[tokio::test(start_paused = true)]
async fn records_of_a_dump_given_up_half_way_are_not_mixed_into_the_next() {
    let mut lab = Lab::new(1);
    lab.receive(0, (0..9_000).map(|port| syn([203, 0, 113, 1], 1000 + port, 80)));
    lab.receive(0, (0..5).map(|port| udp([203, 0, 113, 2], 5000 + port, 53, 4)));
    {
        let first = lab.get("/admin/flows?vip=203.0.113.1:80/tcp&limit=10000");
        assert!(tokio::time::timeout(Duration::from_millis(50), first).await.is_err());
    }
    // Its queue is full, most of its table is still to be shown.
    for _ in 0..20 {
        lab.poll();
    }
    rest(&lab);
    let answer = lab.get_at_work("/admin/flows?vip=203.0.113.2:53/udp").await.json();
    assert_eq!((&answer["complete"], flows(&answer).len()), (&json!(true), 5));
    assert!(flows(&answer).iter().all(|flow| flow["pool"] == "dns"));
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_does_not_answer_makes_the_result_partial_and_is_named() {
    let mut lab = busy();
    let mut second = lab.workers.pop().expect("a second worker");
    let answer = lab.get_at_work("/admin/flows").await.json();
    assert_eq!(answer["complete"], false);
    assert_eq!(answer["unanswered_workers"], json!([1]));
    assert_eq!(flows(&answer).len(), 45);
    assert!(flows(&answer).iter().all(|flow| flow["worker"] == 0));
    // It is asked no second time before it has answered the first.
    rest(&lab);
    assert_eq!(lab.get_at_work("/admin/flows").await.json()["complete"], false);
    let waiting = lab.state.lock_node().workers()[1].link.commands.len();
    assert_eq!(waiting, 1);
    // Back again, it is heard again.
    second.poll(lab.now_ms() * 1_000_000);
    lab.workers.push(second);
    rest(&lab);
    let answer = lab.get_at_work("/admin/flows").await.json();
    assert_eq!((&answer["complete"], flows(&answer).len()), (&json!(true), 85));
}

#[tokio::test(start_paused = true)]
async fn a_worker_whose_queue_of_commands_is_full_is_asked_later() {
    let mut lab = busy();
    let link = lab.state.lock_node().workers()[0].link.clone();
    let frame = arrayvec::ArrayVec::new();
    while link.commands.push(Command::Transmit { port: 7, frame: frame.clone() }).is_ok() {}
    let answer = lab.get_at_work("/admin/flows").await.json();
    assert_eq!((&answer["complete"], flows(&answer).len()), (&json!(true), 85));
}

#[tokio::test(start_paused = true)]
async fn flows_of_a_backend_that_is_gone_name_none() {
    let mut lab = busy();
    let text = CONFIG.replace("id = \"host-1\"\n  address = \"192.0.2.11\"\n  weight = 100", {
        "id = \"host-7\"\n  address = \"192.0.2.11\"\n  weight = 100"
    });
    let now_ms = lab.now_ms();
    {
        let mut node = lab.state.lock_node();
        node.reload(crate::lab::config(&text), now_ms).expect("a reload");
        node.step(now_ms + 61_000);
        node.step(now_ms + 62_000 + control::statics::EVICTED_SHOWN_MS);
    }
    let answer = lab.get_at_work("/admin/flows?vip=203.0.113.1:80/tcp").await.json();
    let gone: Vec<Value> =
        flows(&answer).into_iter().filter(|flow| flow["backend"].is_null()).collect();
    assert!(!gone.is_empty());
    assert!(gone.iter().all(|flow| flow["pool"].is_null() && flow["vip"].is_string()));
}
