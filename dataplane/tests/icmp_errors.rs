//! ICMP errors over several workers: wherever one comes in, it goes to the backend of the flow that
//! it quotes, by the entry that another worker has, or by the table where none has one; and leaves
//! no trace in any flow table.

#![cfg(not(crossbeam_loom))]

mod common;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use common::several::{self, Node};
use common::world::{GATEWAY_MAC, NODE_MAC, World};
use conntrack::FlowKey;
use dataplane::buffer::Buffer;
use dataplane::tables::BackendState;
use dataplane::wire::{IpProtocol, Ipv4Header, Ipv6Header, checksum, icmpv6};
use zerocopy::IntoBytes;

const VIP: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
const VIP6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xcafe, 0, 0, 0, 0, 1);
const ROUTER: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
const ROUTER6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 9, 0, 0, 0, 0, 1);
/// Flows; the odd ones over IPv6.
const FLOWS: u16 = 24;

/// A client's flow to the VIP's UDP port 53.
#[derive(Clone, Copy, Debug)]
struct Flow(u16);

impl Flow {
    fn v6(self) -> bool {
        self.0 % 2 == 1
    }

    fn client(self) -> IpAddr {
        match self.v6() {
            false => Ipv4Addr::new(198, 51, 100, self.0 as u8 + 1).into(),
            true => Ipv6Addr::new(0x2001, 0xdb8, 7, self.0, 0, 0, 0, 7).into(),
        }
    }

    fn key(self) -> FlowKey {
        match self.client() {
            IpAddr::V4(client) => FlowKey::v4(client, VIP, 40_000 + self.0, 53, 17),
            IpAddr::V6(client) => FlowKey::v6(client, VIP6, 40_000 + self.0, 53, 17),
        }
    }

    fn ports(self) -> [[u8; 2]; 2] {
        [(40_000 + self.0).to_be_bytes(), 53u16.to_be_bytes()]
    }

    /// What the client sends.
    fn datagram(self) -> Vec<u8> {
        let [client, vip] = self.ports();
        let udp = [&client[..], &vip, &[0, 8, 0, 0]].concat();
        match self.client() {
            IpAddr::V4(client) => {
                let ip = Ipv4Header::build(client, VIP, IpProtocol::UDP, 28);
                framed([8, 0], &[ip.as_bytes(), &udp].concat())
            }
            IpAddr::V6(client) => {
                let ip = Ipv6Header::build(client, VIP6, IpProtocol::UDP, 8);
                framed([0x86, 0xdd], &[ip.as_bytes(), &udp].concat())
            }
        }
    }

    /// What a router says about a long answer of the backend: eight bytes of it.
    fn too_big(self) -> Vec<u8> {
        let [client_port, vip_port] = self.ports();
        let udp = [&vip_port[..], &client_port, &[5, 0xc8, 0, 0]].concat();
        match self.client() {
            IpAddr::V4(client) => {
                let quote = Ipv4Header::build(VIP, client, IpProtocol::UDP, 1500);
                let mut icmp = [&[3, 4, 0, 0, 0, 0, 5, 0x14], quote.as_bytes(), &udp].concat();
                let sum = checksum::checksum(&icmp);
                icmp[2..4].copy_from_slice(&sum.to_be_bytes());
                let length = (20 + icmp.len()) as u16;
                let ip = Ipv4Header::build(ROUTER, VIP, IpProtocol::ICMP, length);
                framed([8, 0], &[ip.as_bytes(), &icmp].concat())
            }
            IpAddr::V6(client) => {
                let quote = Ipv6Header::build(VIP6, client, IpProtocol::UDP, 1460);
                let mut icmp = [&[2, 0, 0, 0, 0, 0, 5, 0x14], quote.as_bytes(), &udp].concat();
                let sum = icmpv6::message_checksum(ROUTER6, VIP6, &icmp);
                icmp[2..4].copy_from_slice(&sum.to_be_bytes());
                let ip = Ipv6Header::build(ROUTER6, VIP6, IpProtocol::ICMPV6, icmp.len() as u16);
                framed([0x86, 0xdd], &[ip.as_bytes(), &icmp].concat())
            }
        }
    }
}

fn framed(ethertype: [u8; 2], packet: &[u8]) -> Vec<u8> {
    [&NODE_MAC.0[..], &GATEWAY_MAC.0, &ethertype, packet].concat()
}

fn world() -> World {
    several::dns(VIP.octets(), &VIP6.to_string())
}

/// Sends a frame in at a worker: the packets that go out, each with the last byte of the backend's
/// address and what is in the tunnel.
fn send(node: &mut Node, worker: usize, frame: &[u8]) -> Vec<(u8, Vec<u8>)> {
    node.push(worker, frame);
    node.settle();
    let sent = node.take_sent().into_iter();
    sent.map(|frame| (frame.data()[33], frame.data()[34..].to_vec())).collect()
}

/// The worker that a flow's ordinary packets come to.
fn home(node: &Node, flow: Flow) -> usize {
    node.home(&flow.key(), usize::from(flow.0 / 2) % node.workers.len())
}

fn stored(node: &Node) -> usize {
    node.workers.iter().map(|worker| worker.conntrack().len()).sum()
}

/// The error went in whole, but for the hop it has used.
fn assert_is(inner: &[u8], error: &[u8]) {
    let mut expected = error[14..].to_vec();
    if expected[0] >> 4 == 4 {
        expected[8] -= 1;
        expected[10..12].copy_from_slice(&inner[10..12]);
    } else {
        expected[7] -= 1;
    }
    assert_eq!(inner, expected);
}

#[test]
fn an_error_finds_its_flow_s_backend_from_any_worker_and_leaves_no_trace() {
    for (count, computable) in [(1, false), (2, true), (2, false), (4, true), (4, false)] {
        let mut node = Node::new(&world(), count, computable);
        // Half of the flows (of each family) have an entry; then two backends get no more flows.
        let known = |flow: Flow| flow.0 % 4 < 2;
        let mut before = Vec::new();
        for flow in (0..FLOWS).map(Flow) {
            let sent = match known(flow) {
                true => {
                    let home = home(&node, flow);
                    send(&mut node, home, &flow.datagram())
                }
                false => Vec::new(),
            };
            before.push(sent.first().map(|(backend, _)| *backend));
        }
        let mut changed = world();
        changed.backends[1].state = BackendState::Draining;
        changed.backends[3].state = BackendState::Draining;
        node.publisher.publish(changed.tables(2));
        let entries = stored(&node);
        assert_eq!(entries, usize::from(FLOWS) / 2);
        let mut moved = None;
        for flow in (0..FLOWS).map(Flow) {
            let error = flow.too_big();
            let mut answers = Vec::new();
            for worker in 0..count {
                let sent = send(&mut node, worker, &error);
                let [(backend, inner)] = &sent[..] else { panic!("{flow:?}: {sent:?}") };
                assert_is(inner, &error);
                answers.push(*backend);
            }
            assert!(answers.iter().all(|backend| *backend == answers[0]), "{flow:?}: {answers:?}");
            match before[usize::from(flow.0)] {
                Some(backend) => {
                    assert_eq!(answers[0], backend, "{flow:?}: its entry's backend");
                    moved = moved.or(matches!(backend, 2 | 4).then_some(flow));
                }
                None => assert!(matches!(answers[0], 1 | 3), "{flow:?}: one of the table's"),
            }
        }
        let moved = moved.expect("a flow of which entry and table disagree");
        assert_eq!(stored(&node), entries, "none was made");
        let errors = u64::from(FLOWS) * count as u64;
        assert_eq!(node.sum(|counters| counters.icmp.delivered.get()), errors);
        assert_eq!(node.sum(|counters| counters.total_drops()), 0);
        assert_eq!(node.sum(|counters| counters.handoffs.given.get()) > 0, count > 1);
        // What a later packet of the flow finds is what the errors would have changed: the entry is
        // over a minute after the flow's own last packet, not after the last error.
        node.now_ms += 50_000;
        let sent = send(&mut node, 0, &moved.too_big());
        assert!(matches!(sent[0].0, 2 | 4), "its entry is still there");
        node.now_ms += 20_000;
        let sent = send(&mut node, 0, &moved.too_big());
        assert!(matches!(sent[0].0, 1 | 3), "kept alive by an error");
    }
}
