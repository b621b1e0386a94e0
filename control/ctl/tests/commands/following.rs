//! Commands that stay: drains that are waited for, watches.

use std::time::Duration;

use crate::support::{BOUND, Bench};

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
    // A backend that has passed no check may have flows all the same: of before.
    let done = bench.run("drain b1 --seconds 3600 --wait=1 --json").await;
    if done.code == 1 {
        assert!(done.errors.contains("is not evicted after"), "{done:?}");
        assert_eq!(bench.json("backend show b1").await["state"], "DRAINING");
    }
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
