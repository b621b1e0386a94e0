//! Nodes without ports under a real controller: what operators and checkers say is in force on all
//! of them, and stays so without the controller.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use client::{Controllers, Settings};
use control::portless::NodeWithoutPorts;
use control::watch::WatchOptions;
use controller::{Controller, Store};
use dataplane::tables::BackendState;
use maglev::Scheduler as _;
use proto::v1;
use registry::RedbSettings;
use tokio::sync::mpsc;
use tokio::time::{interval, sleep, timeout};
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;

/// Nothing here takes so long on any machine.
const PATIENCE: Duration = Duration::from_secs(60);

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let waited = timeout(PATIENCE, async {
        while !holds().await {
            sleep(Duration::from_millis(20)).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("waited for {what}"));
}

async fn start(folder: &std::path::Path, listen: SocketAddr) -> Controller {
    let store = Store::Embedded(RedbSettings::new(folder.join("registry.redb")));
    let mut settings = controller::Settings::new("controller", store);
    settings.listen = listen;
    settings.http = SocketAddr::from(([127, 0, 0, 1], 0));
    let controller = Controller::start(settings).await.expect("a controller");
    timeout(PATIENCE, controller.leads()).await.expect("it leads");
    controller
}

fn controllers(address: SocketAddr) -> Controllers {
    Controllers::new(Settings::new([format!("http://{address}")])).expect("controllers")
}

/// One call, over whatever it takes to reach the controller.
async fn call<T, F>(controllers: &Controllers, request: impl FnMut(client::Client) -> F) -> T
where
    F: Future<Output = Result<tonic::Response<T>, tonic::Status>>,
{
    controllers.call(PATIENCE, request).await.unwrap_or_else(|status| panic!("{status}"))
}

/// A checker that finds everything healthy, for as long as the task lives.
async fn check(controllers: Controllers, number: u32) {
    let id = format!("checker-{number}");
    let (mut client, _) = controllers.connect().await.expect("a connection");
    let zone = format!("zone-{number}");
    let request = v1::WatchAssignmentsReq { checker_id: id.clone(), zone };
    let mut lists = client.watch_assignments(request).await.expect("assignments").into_inner();
    let (reports, queue) = mpsc::channel(64);
    let acks = client.report_health(ReceiverStream::new(queue)).await.expect("a stream");
    let mut acks = acks.into_inner();
    let mut list = v1::Assignments::default();
    let mut rounds = interval(Duration::from_millis(50));
    let mut round = 0;
    loop {
        tokio::select! {
            Some(Ok(newest)) = lists.next() => list = newest,
            Some(Ok(_)) = acks.next() => {}
            _ = rounds.tick() => {
                round += 1;
                for assignment in &list.assignments {
                    let report = v1::HealthReport {
                        backend_id: assignment.backend_id.clone(),
                        state: v1::Health::Healthy.into(),
                        checked_at_ns: round,
                        consecutive_pass: 10,
                        checker_id: id.clone(),
                        ..v1::HealthReport::default()
                    };
                    let _ = reports.try_send(report);
                }
            }
        }
    }
}

/// States of the pool's backends on a node, and the digest of its table.
fn running(node: &NodeWithoutPorts) -> (Vec<BackendState>, usize, String) {
    let node = node.node().lock();
    let states = node.pools().flat_map(|pool| pool.backends.iter().map(|b| b.state)).collect();
    match node.assembler().pool("web") {
        Some(pool) => {
            let shares = pool.selector.shares().iter().filter(|share| share.slots > 0).count();
            (states, shares, pool.selector.digest().to_string())
        }
        None => (states, 0, String::new()),
    }
}

#[tokio::test]
async fn a_fleet_agrees_with_its_controller_and_serves_on_without_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let controller = start(folder.path(), SocketAddr::from(([127, 0, 0, 1], 0))).await;
    let address = controller.grpc_address();
    let operator = controllers(address);
    let node = |number: u32| {
        NodeWithoutPorts::start(WatchOptions {
            controllers: controllers(address),
            node_id: format!("node-{number}"),
            zone: format!("zone-{number}"),
            state_dir: Some(folder.path().join(format!("node-{number}"))),
            core: None,
        })
        .expect("a node")
    };
    let nodes: Vec<_> = (1..=3).map(node).collect();
    let checkers: Vec<_> =
        (1..=3).map(|number| tokio::spawn(check(controllers(address), number))).collect();

    // Both families, and a tunnel that is not the default: what nodes take, a controller takes.
    let gue = v1::PoolSettings { forwarding: v1::Forwarding::Gue.into(), ..Default::default() };
    let pool = v1::CreatePoolReq { pool_id: "web".to_owned(), settings: Some(gue) };
    call(&operator, |mut client| {
        let pool = pool.clone();
        async move { client.create_pool(pool).await }
    })
    .await;
    for number in 1..=3 {
        let backend = v1::RegisterBackendReq {
            pool_id: "web".to_owned(),
            backend_id: format!("host-{number}"),
            ip: match number {
                3 => "2001:db8::3".to_owned(),
                _ => format!("192.0.2.{number}"),
            },
            port: 80,
            ..v1::RegisterBackendReq::default()
        };
        call(&operator, |mut client| {
            let backend = backend.clone();
            async move { client.register_backend(backend).await }
        })
        .await;
    }
    for address in ["203.0.113.1", "2001:db8:cafe::1"] {
        let vip = v1::Vip {
            address: address.to_owned(),
            first_port: 80,
            last_port: 80,
            protocol: v1::Protocol::Tcp.into(),
            ..v1::Vip::default()
        };
        let bind = v1::BindVipReq { pool_id: "web".to_owned(), vip: Some(vip), from_pool: None };
        call(&operator, |mut client| {
            let bind = bind.clone();
            async move { client.bind_vip_to_pool(bind).await }
        })
        .await;
    }

    until("three healthy backends on every node", async || {
        nodes.iter().all(|node| running(node).1 == 3)
    })
    .await;
    let vips = ["203.0.113.1:80/tcp", "[2001:db8:cafe::1]:80/tcp"];
    until("both VIPs on every node", async || {
        nodes.iter().all(|node| {
            let node = node.node().lock();
            vips.iter().all(|vip| node.assembler().vip_index(vip).is_some())
        })
    })
    .await;
    let agree = async || {
        let list =
            call(
                &operator,
                |mut client| async move { client.list_nodes(v1::ListNodesReq {}).await },
            )
            .await;
        let digests: Vec<_> = nodes.iter().map(|node| running(node).2).collect();
        let reported = list.nodes.iter().filter(|node| {
            node.connected
                && node.pools.iter().any(|pool| {
                    let digest: String = pool.digest.iter().map(|b| format!("{b:02x}")).collect();
                    pool.pool_id == "web" && pool.refused.is_empty() && digest == digests[0]
                })
        });
        reported.count() == 3
            && list.disagreements.is_empty()
            && digests.iter().all(|digest| *digest == digests[0])
    };
    until("agreement", agree).await;

    let drain = v1::DrainBackendReq { backend_id: "host-2".to_owned(), ..Default::default() };
    call(&operator, |mut client| {
        let drain = drain.clone();
        async move { client.drain_backend(drain).await }
    })
    .await;
    until("the drain on every node", async || {
        nodes.iter().all(|node| {
            let (states, holders, _) = running(node);
            holders == 2 && states.contains(&BackendState::Draining)
        })
    })
    .await;
    until("agreement", agree).await;
    for node in &nodes {
        assert!(node.status().view().refused.is_empty(), "{:?}", node.status().view().refused);
    }

    let before: Vec<_> = nodes.iter().map(running).collect();
    for checker in checkers {
        checker.abort();
    }
    controller.stop().await.expect("stopped");
    until("all are alone", async || {
        nodes.iter().all(|node| node.status().view().connected_to.is_none())
    })
    .await;
    assert_eq!(nodes.iter().map(running).collect::<Vec<_>>(), before);
    // One starts again meanwhile.
    let mut nodes = nodes;
    drop(nodes.remove(0));
    nodes.insert(0, node(1));
    assert_eq!(running(&nodes[0]), before[0]);

    // The controller comes back, and nothing is refused or lost.
    let controller = start(folder.path(), address).await;
    until("all are back", async || {
        nodes.iter().all(|node| {
            let view = node.status().view();
            view.connected_to.is_some() && !view.from_cache && !view.stale
        })
    })
    .await;
    for node in &nodes {
        assert!(node.status().view().refused.is_empty(), "{:?}", node.status().view().refused);
        assert!(node.node().lock().assembler().vip_index("203.0.113.1:80/tcp").is_some());
    }
    controller.stop().await.expect("stopped");
}
