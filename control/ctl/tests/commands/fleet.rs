//! Nodes that report, plans, and everything in one glance.

use std::time::Duration;

use client::{Controllers, Settings};
use proto::v1::{AppliedPool, NodeReport};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::support::{BOUND, Bench};

/// A node as the controller sees it: a stream of reports, each acknowledged.
struct Node {
    reports: mpsc::Sender<NodeReport>,
    answers: tonic::Streaming<proto::v1::NodeAck>,
}

impl Node {
    async fn connect(bench: &Bench, first: NodeReport) -> Self {
        let controllers = Controllers::new(Settings::new([bench.endpoint()])).unwrap();
        let (mut client, _) = controllers.connect().await.unwrap();
        let (reports, queue) = mpsc::channel(1);
        reports.send(first).await.unwrap();
        let answers = client.report_node(ReceiverStream::new(queue)).await.unwrap().into_inner();
        let mut node = Self { reports, answers };
        node.acknowledged().await;
        node
    }

    async fn report(&mut self, report: NodeReport) {
        self.reports.send(report).await.unwrap();
        self.acknowledged().await;
    }

    async fn acknowledged(&mut self) {
        let answer = tokio::time::timeout(BOUND, self.answers.message());
        answer.await.expect("no acknowledgement").unwrap().expect("the stream ended");
    }
}

fn report(version: u64, refused: &str) -> NodeReport {
    let applied = AppliedPool {
        pool_id: "web".into(),
        version,
        digest: vec![0xab; 32],
        refused: refused.into(),
        ..AppliedPool::default()
    };
    NodeReport {
        node_id: "lb-1".into(),
        zone: "a".into(),
        version: "0.1.0".into(),
        pools: vec![applied],
        ..NodeReport::default()
    }
}

#[tokio::test]
async fn a_fleet_that_is_behind_is_an_exit_code() {
    let bench = Bench::start().await;
    assert_eq!(bench.ok("fleet --check").await, "no nodes\n");
    bench.ok("pool create web").await;
    bench.ok("backend register web b1 --ip 192.0.2.11 --port 80").await;
    // The pool's own snapshot and that with the backend may come as one or as two: like a real
    // node, this one follows until it is told that it is current.
    let mut version = bench.version_of("web").await;
    let mut node = Node::connect(&bench, report(version, "")).await;
    let mut done = bench.run("fleet --check").await;
    for _ in 0..500 {
        if done.code == 0 {
            break;
        }
        assert!(done.out.contains("behind"), "{done:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
        version = bench.version_of("web").await;
        node.report(report(version, "")).await;
        done = bench.run("fleet --check").await;
    }
    assert_eq!(done.code, 0, "{done:?}");
    assert!(done.out.contains("abababababababab  current"), "{done:?}");
    let fleet = bench.json("fleet").await;
    assert_eq!(fleet["nodes"][0]["node_id"], "lb-1");
    assert_eq!(fleet["nodes"][0]["connected"], true);

    node.report(report(version - 1, "bad digest")).await;
    let done = bench.run("fleet --check").await;
    assert_eq!(done.code, 1, "{done:?}");
    assert!(done.out.contains("node lb-1 refuses pool web: bad digest"), "{done:?}");
    assert_eq!(bench.run("fleet").await.code, 0, "without --check it is only shown");

    let status = bench.ok("status").await;
    assert!(status.starts_with(&format!("leader  {}", bench.endpoint())), "{status}");
    assert!(status.contains("1 of 1 connected"), "{status}");
    assert!(status.contains("warning: node lb-1 refuses pool web"), "{status}");
    let status = bench.json("status").await;
    assert_eq!(status["pools"][0]["pool_id"], "web");
    bench.stop().await;
}

#[tokio::test]
async fn a_plan_says_what_a_change_would_do_and_does_not_do_it() {
    let bench = Bench::start().await;
    bench.ok("pool create web").await;
    bench.ok("backend register web b1 --ip 192.0.2.11 --port 80").await;
    let before = bench.ok("backend list").await;
    for line in [
        "plan register web b2 --ip 192.0.2.12 --port 80",
        "plan deregister b1",
        "plan drain b1",
        "plan weight b1 7",
        "plan update b1 --ip 192.0.2.13",
        "plan pool web --table-size 131071",
    ] {
        let plan = bench.json(line).await;
        assert_eq!(plan["pool_id"], "web", "{line}: {plan}");
        let text = bench.ok(line).await;
        assert!(text.contains("\nslots moved      "), "{line}: {text}");
    }
    assert_eq!(bench.ok("backend list").await, before);
    let message = bench.fails("plan drain none").await;
    assert!(message.starts_with("Plan: there is no such thing"), "{message}");
    bench.stop().await;
}
