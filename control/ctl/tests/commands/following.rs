//! Commands that stay: drains that are waited for, watches.

use std::time::Duration;

use crate::support::{BOUND, Bench, Screen, run_on};

#[tokio::test]
async fn a_drain_is_waited_for_and_shows_what_is_left() {
    let bench = Bench::start().await;
    bench.ok("pool create web").await;
    bench.ok("backend register web b1 --ip 192.0.2.11 --port 80").await;
    let out = bench.ok("drain b1 --seconds 2 --wait").await;
    let lines: Vec<&str> = out.lines().collect();
    assert!(lines[0].starts_with("b1: 0 flows left, at most "), "{out}");
    assert!(lines.last().unwrap().starts_with("b1: is evicted after "), "{out}");
    let message = bench.fails("drain b1 --wait").await;
    assert!(message.contains("EVICTED"), "{message}");
    bench.stop().await;
}

#[tokio::test]
async fn a_wait_has_its_bound_and_the_drain_goes_on() {
    let bench = Bench::start().await;
    bench.ok("pool create web").await;
    bench.ok("backend register web b1 --ip 192.0.2.11 --port 80").await;
    let done = bench.run("drain b1 --seconds 3600 --wait=1 --json").await;
    assert_eq!(done.code, 1, "{done:?}");
    assert!(done.errors.contains("is not evicted after"), "{done:?}");
    assert_eq!(bench.json("backend show b1").await["state"], "DRAINING");
    assert!(!done.out.is_empty(), "{done:?}");
    for line in done.out.lines() {
        let backend: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(backend["backend_id"], "b1");
    }
    bench.stop().await;
}

#[tokio::test]
async fn a_drain_that_is_taken_back_ends_the_wait() {
    let bench = Bench::start().await;
    bench.ok("pool create web").await;
    bench.ok("backend register web b1 --ip 192.0.2.11 --port 80").await;
    let undo = async {
        // The wait has begun when the state is there.
        while bench.json("backend show b1").await["state"] != "DRAINING" {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        bench.run("drain b1 --undo").await
    };
    let (waited, _) = tokio::time::timeout(BOUND, async {
        tokio::join!(bench.run("drain b1 --seconds 3600 --wait"), undo)
    })
    .await
    .unwrap();
    assert_eq!(waited.code, 1, "{waited:?}");
    assert!(waited.errors.contains("the drain was taken back"), "{waited:?}");
    bench.stop().await;
}

#[tokio::test]
async fn snapshots_of_a_pool_are_lines() {
    let bench = Bench::start().await;
    bench.ok("pool create web").await;
    let change = async {
        bench.ok("backend register web b1 --ip 192.0.2.11 --port 80").await;
    };
    let (watched, ()) = tokio::time::timeout(BOUND, async {
        tokio::join!(bench.run("watch --pool web --count 2"), change)
    })
    .await
    .unwrap();
    assert_eq!(watched.code, 0, "{watched:?}");
    for line in watched.out.lines() {
        assert!(line.starts_with("web version "), "{line}");
        assert!(line.contains("65537 slots, digest "), "{line}");
    }
    let message = bench.fails("watch --pool none --timeout 5").await;
    assert!(message.starts_with("WatchPool: there is no such thing"), "{message}");
    bench.stop().await;
}

#[tokio::test]
async fn events_are_lines_and_the_last_ones_can_be_had() {
    let bench = Bench::start().await;
    bench.ok("pool create web").await;
    bench.ok("backend register web b1 --ip 192.0.2.11 --port 80").await;
    bench.ok("backend deregister b1 --now").await;
    let watched = tokio::time::timeout(BOUND, bench.run("watch --last 256 --count 1 --json"));
    let watched = watched.await.expect("no event");
    let event: serde_json::Value = serde_json::from_str(watched.out.trim()).unwrap();
    assert!(event["kind"].as_str().is_some_and(|kind| !kind.is_empty()), "{event}");
    let line = tokio::time::timeout(BOUND, bench.ok("watch --last 256 --count 1")).await.unwrap();
    assert!(line.contains(&format!(" {}", event["kind"].as_str().unwrap())), "{line}");
    bench.stop().await;
}

#[tokio::test]
async fn a_watch_goes_on_when_the_controller_is_started_again() {
    let bench = Bench::start().await;
    bench.ok("pool create web").await;
    let endpoint = bench.endpoint();
    let (out, notes) = (Screen::default(), Screen::default());
    let watch = run_on(&endpoint, "watch --pool web --count 2", &out, &notes);
    let change = async {
        out.something().await;
        let bench = bench.restart().await;
        bench.ok("backend register web b1 --ip 192.0.2.11 --port 80").await;
        bench
    };
    let both = async { tokio::join!(watch, change) };
    let (watched, bench) = tokio::time::timeout(BOUND, both).await.expect("no second line");
    assert_eq!(watched.code, 0, "{watched:?}");
    assert_eq!(watched.out.lines().count(), 2, "{watched:?}");
    assert!(watched.errors.contains("connection lost"), "{watched:?}");
    assert!(watched.errors.contains("connected to http://"), "{watched:?}");
    bench.stop().await;
}
