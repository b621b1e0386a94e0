//! What nodes report, and what follows from it.

use proto::v1::{
    AppliedPool, BackendState, BackendTraffic, DrainBackendReq, ListNodesReq, NodeAck, NodeReport,
};
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use crate::lab::{Lab, within};

/// A node without a data plane: it reports what the test tells it to.
struct Node {
    id: String,
    reports: mpsc::Sender<NodeReport>,
    acks: Streaming<NodeAck>,
    count: u64,
}

impl Node {
    async fn start(lab: &Lab, id: &str) -> Self {
        let (reports, queue) = mpsc::channel(4);
        let acks = lab.client.clone().report_node(ReceiverStream::new(queue)).await;
        let acks = acks.expect("a stream").into_inner();
        Self { id: id.into(), reports, acks, count: 0 }
    }

    /// Reports, and waits for the acknowledgement.
    async fn report(&mut self, store_id: &str, pools: Vec<AppliedPool>) {
        self.count += 1;
        let report = NodeReport {
            node_id: self.id.clone(),
            zone: "z".into(),
            version: "0.1.0".into(),
            store_id: store_id.into(),
            pools,
            reported_at_ns: self.count,
        };
        self.reports.send(report).await.expect("the stream lives");
        let ack = within("an acknowledgement", self.acks.next()).await.expect("an answer");
        assert_eq!(ack.expect("accepted").reported_at_ns, self.count);
    }
}

fn applied(version: u64, digest: u8, flows: &[(&str, u64)]) -> AppliedPool {
    let traffic = |&(backend, flows): &(&str, u64)| BackendTraffic {
        backend_id: backend.into(),
        active_flows: flows,
        ..BackendTraffic::default()
    };
    AppliedPool {
        pool_id: "web".into(),
        version,
        digest: vec![digest; 32],
        refused: String::new(),
        backends: flows.iter().map(traffic).collect(),
    }
}

#[tokio::test]
async fn nodes_that_disagree_are_shown_and_told_of() {
    let lab = Lab::start().await;
    lab.pool("web", &["b0"]).await;
    let mut events = lab.events(0).await;
    let (mut one, mut two) = (Node::start(&lab, "n1").await, Node::start(&lab, "n2").await);
    one.report("s", vec![applied(5, 0xaa, &[])]).await;
    two.report("s", vec![applied(5, 0xaa, &[])]).await;
    let list = async || {
        let answer = lab.client.clone().list_nodes(ListNodesReq {}).await;
        answer.expect("a list").into_inner()
    };
    let agreed = list().await;
    assert_eq!(agreed.disagreements, [""; 0]);
    let seen: Vec<_> = agreed.nodes.iter().map(|n| (n.node_id.as_str(), n.connected)).collect();
    assert_eq!(seen, [("n1", true), ("n2", true)]);
    assert_eq!((agreed.nodes[0].version.as_str(), agreed.nodes[0].zone.as_str()), ("0.1.0", "z"));
    assert_eq!(agreed.nodes[0].pools[0].digest, [0xaa; 32]);
    assert!(agreed.nodes[0].last_seen_ns > 0);

    two.report("s", vec![applied(5, 0xbb, &[])]).await;
    assert_eq!(list().await.disagreements, ["web"]);
    let event = events.until("nodes_disagree").await;
    assert_eq!(event.pool_id, "web");
    assert!(event.text.contains("version 5"), "{}", event.text);
    assert_eq!(lab.metric("weir_controller_node_disagreements").await, 1.0);
    assert_eq!(lab.metric("weir_controller_nodes").await, 2.0);

    two.report("s", vec![applied(6, 0xbb, &[])]).await;
    assert_eq!(list().await.disagreements, [""; 0]);
    events.until("nodes_agree").await;
    lab.until("the metric says so", async || {
        lab.metric("weir_controller_node_disagreements").await == 0.0
    })
    .await;

    drop(two);
    lab.until("n2 is away, and still listed", async || {
        let nodes = list().await.nodes;
        nodes.len() == 2 && !nodes[1].connected
    })
    .await;
}

#[tokio::test]
async fn a_refused_snapshot_is_told_of() {
    let lab = Lab::start().await;
    lab.pool("web", &["b0"]).await;
    let mut events = lab.events(0).await;
    let mut node = Node::start(&lab, "n1").await;
    let refusing = AppliedPool { refused: "digest differs".into(), ..applied(5, 1, &[]) };
    node.report("s", vec![refusing]).await;
    let event = events.until("snapshot_refused").await;
    assert!(event.text.contains("n1") && event.text.contains("digest differs"), "{}", event.text);
}

#[tokio::test]
async fn a_drain_ends_when_no_node_has_a_flow_left_and_not_before() {
    let lab = Lab::start().await;
    lab.pool("web", &["b0", "b1"]).await;
    let (mut one, mut two) = (Node::start(&lab, "n1").await, Node::start(&lab, "n2").await);
    one.report("s", vec![applied(5, 1, &[("b0", 3), ("b1", 1)])]).await;
    two.report("s", vec![applied(5, 1, &[("b0", 4)])]).await;
    assert_eq!(lab.backend("b0").await.active_flows, 7);
    let drain =
        DrainBackendReq { backend_id: "b0".into(), drain_seconds: 3_000, ..Default::default() };
    lab.client.clone().drain_backend(drain).await.expect("drains");
    lab.state("b0", BackendState::Draining).await;
    // One is done; the other is not, and the time in which counts do not count yet passes.
    for _ in 0..60 {
        one.report("s", vec![applied(6, 1, &[("b0", 0)])]).await;
        two.report("s", vec![applied(6, 1, &[("b0", 4)])]).await;
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert_eq!(lab.backend("b0").await.state(), BackendState::Draining);
    lab.until("b0 is evicted", async || {
        one.report("s", vec![applied(6, 1, &[("b0", 0)])]).await;
        two.report("s", vec![applied(6, 1, &[("b0", 0)])]).await;
        lab.backend("b0").await.state() == BackendState::Evicted
    })
    .await;
}

#[tokio::test]
async fn a_report_of_as_many_backends_as_a_node_can_have_is_taken() {
    let lab = Lab::start().await;
    lab.pool("web", &["b0"]).await;
    let mut node = Node::start(&lab, "n1").await;
    let backend = |n: usize| BackendTraffic {
        backend_id: format!("host-{n:05}.{}", "x".repeat(100)),
        active_flows: 1_000,
        bytes: u64::MAX,
        tunnel_detail: "203.0.113.1:80 refuses connections".into(),
        ..BackendTraffic::default()
    };
    let all = AppliedPool { backends: (0..65_536).map(backend).collect(), ..applied(5, 1, &[]) };
    let text: usize = all.backends.iter().map(|b| b.backend_id.len() + b.tunnel_detail.len()).sum();
    assert!(text > 8 << 20, "longer than other requests may be");
    node.report("s", vec![all]).await;
    let mut client = lab.client.clone().max_decoding_message_size(usize::MAX);
    let nodes = client.list_nodes(ListNodesReq {}).await.expect("a list").into_inner().nodes;
    assert_eq!(nodes[0].pools[0].backends.len(), 65_536);
}
