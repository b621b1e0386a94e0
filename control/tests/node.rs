//! The control side of a node, with workers over ports in memory and time passed in.

use std::net::IpAddr;

use config::Config;
use conntrack::Table;
use control::node::{Node, PortFacts, ReloadError};
use dataplane::buffer::{Buffer, Frame};
use dataplane::port::memory::MemoryPort;
use dataplane::tables::BackendState;
use dataplane::wire::{ArpPacket, EtherType, EthernetHeader, MacAddress};
use dataplane::worker::{Worker, WorkerOptions};

const NODE_MAC: MacAddress = MacAddress([2, 0, 0, 0, 0, 2]);
const GATEWAY_MAC: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);

/// A configuration with the given backends (`id`, last byte of the address, further keys).
fn config(backends: &[(&str, u8, &str)]) -> Config {
    let mut text = String::from(
        r#"
[node]
name = "lb"
zone = "a"
[[port]]
name = "uplink"
device = "net_null0"
addresses = ["192.0.2.2/24"]
gateways = ["192.0.2.1"]
[conntrack]
flows = 1000
[[pool]]
id = "web"
hash_secret = "000102030405060708090a0b0c0d0e0f"
drain_seconds = 10
"#,
    );
    for (id, address, keys) in backends {
        text +=
            &format!("[[pool.backend]]\nid = \"{id}\"\naddress = \"10.0.0.{address}\"\n{keys}\n");
    }
    text += "[[vip]]\naddress = \"203.0.113.1\"\nport = 80\nprotocol = \"tcp\"\npool = \"web\"\n";
    Config::parse(&text, "test.toml").unwrap_or_else(|errors| panic!("{errors}")).config
}

fn node(config: Config) -> (Node, Worker<MemoryPort>) {
    let facts = [PortFacts { mac: NODE_MAC, any_mac: false }];
    let mut node = Node::new(config, &facts, 0).unwrap();
    let parts = node.add_worker();
    let worker = Worker::new(WorkerOptions {
        ports: vec![MemoryPort::new()],
        reader: parts.reader,
        conntrack: Table::new(1000).unwrap(),
        hash_seed: [1, 2, 3, 4],
        number: 0,
        workers: 1,
        link: parts.handle.link,
        counters: parts.handle.counters,
    });
    (node, worker)
}

/// One round of both threads at `now_ms`; what the worker sent.
fn round(node: &mut Node, worker: &mut Worker<MemoryPort>, now_ms: u64) -> Vec<Frame> {
    node.step(now_ms);
    worker.poll(now_ms * 1_000_000);
    node.step(now_ms);
    worker.poll(now_ms * 1_000_000);
    worker.port_mut(0).unwrap().take_sent()
}

fn states(node: &Node) -> Vec<(String, BackendState)> {
    let pool = node.pools().next().unwrap();
    pool.backends.iter().map(|backend| (backend.id.clone(), backend.state)).collect()
}

/// The gateway's answer to an ARP request of the node.
fn arp_reply(request: &Frame) -> Frame {
    let (ethernet, rest) = EthernetHeader::parse(request.data()).unwrap();
    assert_eq!(ethernet.ethertype, EtherType::ARP);
    let (arp, _) = ArpPacket::parse(rest).unwrap();
    let reply = ArpPacket::build_reply(arp, GATEWAY_MAC);
    let header = EthernetHeader {
        destination: ethernet.source,
        source: GATEWAY_MAC,
        ethertype: EtherType::ARP,
    };
    let mut bytes = zerocopy::IntoBytes::as_bytes(&header).to_vec();
    bytes.extend_from_slice(zerocopy::IntoBytes::as_bytes(&reply));
    Frame::new(&bytes)
}

#[test]
fn the_gateway_is_asked_for_and_its_answer_makes_the_node_ready() {
    let (mut node, mut worker) = node(config(&[("a", 1, ""), ("b", 2, "")]));
    let sent = round(&mut node, &mut worker, 0);
    assert_eq!(sent.len(), 1, "one request for the one next hop");
    let reasons = node.not_ready();
    assert!(reasons.iter().any(|reason| reason.contains("192.0.2.1")), "{reasons:?}");
    worker.port_mut(0).unwrap().push(arp_reply(&sent[0]));
    assert!(round(&mut node, &mut worker, 10).is_empty());
    assert_eq!(node.not_ready(), Vec::<String>::new());
    let (hop, _, mac) = node.neighbours().iter().next().unwrap();
    assert_eq!((hop.address, mac), (IpAddr::from([192, 0, 2, 1]), Some(GATEWAY_MAC)));
}

#[test]
fn a_backend_that_leaves_the_file_drains_and_is_then_evicted() {
    let (mut node, mut worker) = node(config(&[("a", 1, ""), ("b", 2, "")]));
    round(&mut node, &mut worker, 0);
    node.reload(config(&[("a", 1, "")]), 1_000).unwrap();
    let draining =
        [("a".to_owned(), BackendState::Active), ("b".to_owned(), BackendState::Draining)];
    assert_eq!(states(&node), draining);
    round(&mut node, &mut worker, 10_999);
    assert_eq!(states(&node), draining, "the drain lasts drain_seconds");
    round(&mut node, &mut worker, 11_000);
    assert_eq!(states(&node)[1].1, BackendState::Evicted);
    round(&mut node, &mut worker, 11_000 + control::statics::EVICTED_SHOWN_MS);
    assert_eq!(states(&node).len(), 1, "and is forgotten in the end");
}

#[test]
fn a_second_reload_does_not_prolong_a_drain() {
    let (mut node, mut worker) = node(config(&[("a", 1, ""), ("b", 2, ""), ("c", 3, "")]));
    node.reload(config(&[("a", 1, ""), ("c", 3, "")]), 1_000).unwrap();
    node.reload(config(&[("a", 1, "")]), 6_000).unwrap();
    round(&mut node, &mut worker, 11_000);
    let states = states(&node);
    let state = |id: &str| states.iter().find(|(other, _)| other == id).unwrap().1;
    assert_eq!((state("b"), state("c")), (BackendState::Evicted, BackendState::Draining));
}

#[test]
fn a_backend_that_comes_back_while_it_drains_is_active_again_at_its_old_index() {
    let (mut node, mut worker) = node(config(&[("a", 1, ""), ("b", 2, "")]));
    let index = node.assembler().backend_index("web", "b");
    node.reload(config(&[("a", 1, "")]), 1_000).unwrap();
    node.reload(config(&[("a", 1, ""), ("b", 2, "")]), 2_000).unwrap();
    round(&mut node, &mut worker, 60_000);
    assert_eq!(states(&node)[1], ("b".to_owned(), BackendState::Active));
    assert_eq!(node.assembler().backend_index("web", "b"), index);
}

#[test]
fn a_backend_marked_drain_stays_so_for_as_long_as_the_file_says() {
    let (mut node, mut worker) = node(config(&[("a", 1, ""), ("b", 2, "state = \"drain\"")]));
    round(&mut node, &mut worker, 3_600_000);
    assert_eq!(states(&node)[1].1, BackendState::Draining);
}

#[test]
fn a_reload_that_needs_a_restart_changes_nothing_and_names_the_keys() {
    let (mut node, _worker) = node(config(&[("a", 1, "")]));
    let before = node.generation();
    let mut other = config(&[("b", 2, "")]);
    other.conntrack.flows = 2000;
    let error = node.reload(other, 0).unwrap_err();
    assert!(matches!(error, ReloadError::RestartRequired(_)));
    assert!(error.to_string().contains("flows"), "{error}");
    assert_eq!(node.generation(), before);
    assert_eq!(states(&node)[0].0, "a");
    assert_eq!(node.reloads().refused, 1);
    assert!(node.reloads().last_error.as_ref().unwrap().contains("flows"));
}

#[test]
fn a_pool_that_leaves_the_file_is_gone_once_its_backends_are() {
    let (mut node, mut worker) = node(config(&[("a", 1, "")]));
    let mut without = config(&[("a", 1, "")]);
    without.pools.clear();
    without.vips.clear();
    node.reload(without, 0).unwrap();
    assert_eq!(states(&node)[0].1, BackendState::Draining);
    round(&mut node, &mut worker, 10_000);
    round(&mut node, &mut worker, 10_000 + control::statics::EVICTED_SHOWN_MS);
    assert_eq!(node.pools().count(), 0);
}

#[test]
fn workers_give_old_tables_back() {
    let (mut node, mut worker) = node(config(&[("a", 1, "")]));
    for turn in 0..50u64 {
        let keys = format!("weight = {}", turn + 1);
        node.reload(config(&[("a", 1, &keys), ("b", 2, "")]), turn).unwrap();
        round(&mut node, &mut worker, turn);
    }
    assert!(node.outstanding_tables() <= 2, "{}", node.outstanding_tables());
}

#[test]
fn flows_of_a_vip_that_goes_by_another_name_idle_as_long_as_before() {
    let with = |port: &str| {
        let mut config = config(&[("a", 1, "")]);
        config.vips[0].port = match port {
            "any" => config::VipPort::Any,
            port => config::VipPort::Exact(port.parse().unwrap()),
        };
        config.vips[0].timeouts.established = std::time::Duration::from_secs(3600);
        config
    };
    let (mut node, _worker) = node(with("80"));
    let before = node.assembler().vip_index("203.0.113.1:80/tcp").unwrap();
    node.reload(with("any"), 0).unwrap();
    let after = node.assembler().vip_index("203.0.113.1:any/tcp").unwrap();
    assert_ne!(before, after);
    for index in [before, after] {
        let vip = node.tables().vip(index).unwrap();
        assert_eq!(vip.timeouts.of(conntrack::State::Established), 3_600_000);
    }
}
