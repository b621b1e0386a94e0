//! The exception path at the worker: who gets to the kernel, how much of it, and what comes back.

#![cfg(not(crossbeam_loom))]

mod common;

use std::sync::Arc;

use common::packets::{Endpoint, finish, syn, tcp};
use common::world::{GATEWAY_MAC, NODE, NODE_MAC, NODE_TAGGED, PoolSpec, World, backend, vip};
use conntrack::Table;
use dataplane::buffer::{Buffer, Frame};
use dataplane::counters::WorkerCounters;
use dataplane::exception::{BFD_PER_SECOND, BGP_PER_SECOND, REST_PER_SECOND};
use dataplane::link::WorkerLink;
use dataplane::port::memory::MemoryPort;
use dataplane::port::{BURST, Burst, Port};
use dataplane::publish::Publisher;
use dataplane::tables::{Forwarding, Tables};
use dataplane::verdict::{DropReason, Verdict};
use dataplane::vip::{VipPorts, VipProtocol};
use dataplane::worker::{Worker, WorkerOptions};
use etherparse::PacketBuilder;

const VIP: Endpoint = ([203, 0, 113, 1], 80);
const PEER: Endpoint = ([192, 0, 2, 1], 40_000);
const SECOND: u64 = 1_000_000_000;

/// A port whose device can be full.
#[derive(Default)]
struct Gate {
    wire: MemoryPort,
    shut: bool,
    longest_frame: Option<usize>,
}

impl Port for Gate {
    type Buffer = Frame;

    fn receive(&mut self, burst: &mut Burst<Frame>) {
        self.wire.receive(burst);
    }

    fn transmit(&mut self, burst: &mut Burst<Frame>) {
        if !self.shut {
            self.wire.transmit(burst);
        }
    }

    fn allocate(&mut self) -> Option<Frame> {
        self.wire.allocate()
    }

    fn longest_frame(&self) -> usize {
        self.longest_frame.unwrap_or(usize::MAX)
    }
}

struct Lab {
    worker: Worker<Gate>,
    counters: Arc<WorkerCounters>,
    _publisher: Publisher<Tables>,
    now: u64,
}

impl Lab {
    fn new() -> Self {
        let pool =
            PoolSpec { forwarding: Forwarding::Ipip, entropy: 0, reselect: false, table_size: 251 };
        let world = World {
            pools: vec![pool],
            backends: vec![backend(0, "a", [192, 0, 2, 11], 0)],
            vips: vec![vip(VIP.0, VipPorts::One(VIP.1), VipProtocol::Tcp, 0)],
        };
        let publisher = Publisher::new(world.tables(1));
        let counters = Arc::new(WorkerCounters::new());
        let mut worker = Worker::new(WorkerOptions {
            ports: vec![Gate::default(), Gate::default()],
            reader: publisher.reader(),
            conntrack: Table::new(64).unwrap(),
            hash_seed: [1, 2, 3, 4],
            number: 0,
            workers: 1,
            link: WorkerLink::new(),
            counters: Arc::clone(&counters),
        });
        worker.set_exceptions(vec![Some(Gate::default()), Some(Gate::default())]);
        Self { worker, counters, _publisher: publisher, now: SECOND }
    }

    fn port(&mut self, index: usize) -> &mut Gate {
        self.worker.port_mut(index).unwrap()
    }

    fn kernel(&mut self, index: usize) -> &mut Gate {
        self.worker.exception_mut(index).unwrap()
    }

    /// A frame arrives at a port: what becomes of it.
    fn arrives(&mut self, index: usize, frame: &[u8]) -> Verdict {
        self.port(index).wire.push(Frame::new(frame));
        self.worker.poll(self.now);
        self.worker.last_outcomes().last().unwrap().verdict
    }

    fn kernel_got(&mut self, index: usize) -> Vec<Vec<u8>> {
        bytes(self.kernel(index).wire.take_sent())
    }

    fn port_sent(&mut self, index: usize) -> Vec<Vec<u8>> {
        bytes(self.port(index).wire.take_sent())
    }
}

fn bytes(frames: Vec<Frame>) -> Vec<Vec<u8>> {
    frames.iter().map(|frame| frame.data().to_vec()).collect()
}

fn to_node(port: u16) -> Vec<u8> {
    syn(PEER, (NODE.octets(), port))
}

fn udp(destination: Endpoint) -> Vec<u8> {
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(GATEWAY_MAC.0, NODE_MAC.0)
        .ipv4(PEER.0, destination.0, 255)
        .udp(49_152, destination.1)
        .write(&mut frame, &[0x20; 24])
        .unwrap();
    frame
}

/// From the node's kernel.
fn from_node(source: [u8; 4], destination: Endpoint) -> Vec<u8> {
    let mut frame = finish(tcp((source, 179), destination, 1).ack(2), &[]);
    frame[..6].copy_from_slice(&GATEWAY_MAC.0);
    frame[6..12].copy_from_slice(&NODE_MAC.0);
    frame
}

#[test]
fn packets_for_the_node_reach_the_kernel_as_they_came() {
    let mut lab = Lab::new();
    for frame in [to_node(179), to_node(22), udp((NODE.octets(), 3784))] {
        assert_eq!(lab.arrives(0, &frame), Verdict::Host);
        assert_eq!(lab.kernel_got(0), [frame]);
    }
    assert!(lab.kernel_got(1).is_empty() && lab.port_sent(0).is_empty());
    assert_eq!(lab.counters.exception.to_kernel.get(), 3);
    assert_eq!(lab.counters.total_drops(), 0);
}

#[test]
fn no_packet_to_or_from_a_vip_reaches_the_kernel_or_leaves_it() {
    let mut lab = Lab::new();
    assert_eq!(lab.arrives(0, &syn(PEER, VIP)), Verdict::Forward);
    assert_eq!(lab.arrives(0, &syn(PEER, (VIP.0, 179))), Verdict::Drop(DropReason::NoVip));
    let vip = Verdict::Drop(DropReason::ExceptionVip);
    assert_eq!(lab.arrives(0, &syn(VIP, (NODE.octets(), 179))), vip);
    assert!(lab.kernel_got(0).is_empty());
    lab.port_sent(0);
    for frame in [from_node(VIP.0, PEER), from_node(NODE.octets(), VIP)] {
        lab.kernel(0).wire.push(Frame::new(&frame));
    }
    lab.worker.poll(lab.now);
    assert!(lab.port_sent(0).is_empty());
    assert_eq!(lab.counters.drops(DropReason::ExceptionVip), 3);
}

#[test]
fn each_kind_has_a_budget_of_its_own() {
    let mut lab = Lab::new();
    let kinds = [
        (to_node(22), REST_PER_SECOND),
        (to_node(179), BGP_PER_SECOND),
        (udp((NODE.octets(), 4784)), BFD_PER_SECOND),
    ];
    for (frame, budget) in &kinds {
        for _ in 0..*budget {
            assert_eq!(lab.arrives(0, frame), Verdict::Host);
        }
        let refused = Verdict::Drop(DropReason::ExceptionRateLimited);
        assert_eq!(lab.arrives(0, frame), refused);
        assert_eq!(lab.kernel_got(0).len(), *budget as usize);
    }
    lab.now += SECOND;
    assert_eq!(lab.arrives(0, &kinds[0].0), Verdict::Host);
}

#[test]
fn a_full_kernel_side_keeps_a_burst_of_each_and_takes_the_routing_protocols_first() {
    let mut lab = Lab::new();
    lab.kernel(0).shut = true;
    for _ in 0..BURST {
        assert_eq!(lab.arrives(0, &to_node(22)), Verdict::Host);
    }
    let full = Verdict::Drop(DropReason::ExceptionFull);
    assert_eq!(lab.arrives(0, &to_node(22)), full);
    assert_eq!(lab.arrives(0, &to_node(179)), Verdict::Host);
    lab.kernel(0).shut = false;
    lab.worker.poll(lab.now);
    let got = lab.kernel_got(0);
    assert_eq!(got.len(), BURST + 1);
    assert_eq!(got[0], to_node(179));
}

#[test]
fn a_full_port_makes_the_kernel_wait_and_loses_nothing() {
    let mut lab = Lab::new();
    lab.port(0).shut = true;
    let frames: Vec<Vec<u8>> =
        (0..2 * BURST).map(|port| from_node(NODE.octets(), (PEER.0, port as u16 + 1))).collect();
    for frame in &frames {
        lab.kernel(0).wire.push(Frame::new(frame));
    }
    assert_eq!(lab.worker.poll(lab.now), BURST, "a burst is taken");
    assert_eq!(lab.worker.poll(lab.now), 0, "and no more");
    lab.port(0).shut = false;
    for _ in 0..3 {
        lab.worker.poll(lab.now);
    }
    assert_eq!(lab.port_sent(0), frames);
    assert_eq!(lab.counters.total_drops(), 0);
    assert_eq!(lab.counters.exception.from_kernel.get(), frames.len() as u64);
}

#[test]
fn a_tagged_ports_kernel_sees_no_tags() {
    let mut lab = Lab::new();
    let plain = syn(PEER, (NODE_TAGGED.octets(), 179));
    let tagged = [&plain[..12], &[0x81, 0, 0, 100], &plain[12..]].concat();
    assert_eq!(lab.arrives(1, &tagged), Verdict::Host);
    assert_eq!(lab.kernel_got(1), [plain]);
    let answer = from_node(NODE_TAGGED.octets(), PEER);
    lab.kernel(1).wire.push(Frame::new(&answer));
    assert_eq!(lab.worker.poll(lab.now), 1);
    assert_eq!(lab.port_sent(1), [[&answer[..12], &[0x81, 0, 0, 100], &answer[12..]].concat()]);
}

#[test]
fn what_a_device_would_never_take_is_not_given_to_it() {
    let mut lab = Lab::new();
    lab.kernel(0).longest_frame = Some(to_node(22).len());
    let longer = [to_node(22), vec![0]].concat();
    let too_big = Verdict::Drop(DropReason::ExceptionTooBig);
    assert_eq!(lab.arrives(0, &longer), too_big);
    assert_eq!(lab.arrives(0, &to_node(22)), Verdict::Host);
    // The port's MTU is 1500.
    for (length, sent) in [(1522, 1), (1523, 0)] {
        let mut frame = from_node(NODE.octets(), PEER);
        frame.resize(length, 0);
        lab.kernel(0).wire.push(Frame::new(&frame));
        lab.worker.poll(lab.now);
        assert_eq!(lab.port_sent(0).len(), sent, "{length} bytes");
    }
    assert_eq!(lab.counters.drops(DropReason::ExceptionTooBig), 2);
}
