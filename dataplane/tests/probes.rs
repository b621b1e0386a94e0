//! Probes through the tunnel, at the worker: what goes out, and what is taken for an answer.

#![cfg(not(crossbeam_loom))]

mod common;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use common::packets::{finish, tcp};
use common::world::{
    GATEWAY_MAC, NODE, NODE_MAC, NODE6, PoolSpec, World, backend, backend6, vip, vip6,
};
use conntrack::Table;
use dataplane::buffer::{Buffer, Frame};
use dataplane::counters::WorkerCounters;
use dataplane::link::{Command, WorkerLink};
use dataplane::port::memory::MemoryPort;
use dataplane::probe::{Answer, Cookies, Ends, ProbePacket, ProbeReply};
use dataplane::publish::Publisher;
use dataplane::tables::{BackendState, Forwarding, Tables};
use dataplane::verdict::{DropReason, Verdict};
use dataplane::vip::{VipPorts, VipProtocol};
use dataplane::worker::{Worker, WorkerOptions};
use etherparse::TransportSlice;
use etherparse::{NetSlice, PacketBuilder, PacketBuilderStep, SlicedPacket, TcpHeader};

const VIP: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
const VIP6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xcafe, 0, 0, 0, 0, 1);
const VIP_PORT: u16 = 80;
const PORT: u16 = 50_000;
/// Every way to put a packet in another.
const TUNNELS: [Forwarding; 4] =
    [Forwarding::Ipip, Forwarding::Gre, Forwarding::Gue, Forwarding::GueWithHeader];

struct Lab {
    worker: Worker<MemoryPort>,
    link: Arc<WorkerLink>,
    counters: Arc<WorkerCounters>,
    cookies: Cookies,
    _publisher: Publisher<Tables>,
    now: u64,
}

fn world(forwarding: Forwarding) -> World {
    let pool = PoolSpec { forwarding, entropy: 0, reselect: false, table_size: 251 };
    World {
        pools: vec![pool],
        backends: vec![
            backend(0, "a", [192, 0, 2, 11], 0),
            backend(0, "b", [192, 0, 2, 12], 0),
            backend(0, "c", [192, 0, 2, 13], 0),
        ],
        vips: vec![
            vip(VIP.octets(), VipPorts::One(VIP_PORT), VipProtocol::Tcp, 0),
            vip6(&VIP6.to_string(), VipPorts::One(VIP_PORT), VipProtocol::Tcp, 0),
        ],
    }
}

/// The same with backends that have IPv6 addresses.
fn world6(forwarding: Forwarding) -> World {
    let backends = ["2001:db8:0:1::11", "2001:db8:0:1::12", "2001:db8:0:1::13"];
    let backends = ["a", "b", "c"].into_iter().zip(backends);
    let backends = backends.map(|(id, address)| backend6(0, id, address)).collect();
    World { backends, ..world(forwarding) }
}

impl Lab {
    fn new(world: &World) -> Self {
        let publisher = Publisher::new(world.tables(1));
        let (link, counters) = (WorkerLink::new(), Arc::new(WorkerCounters::new()));
        let worker = Worker::new(WorkerOptions {
            ports: vec![MemoryPort::new(), MemoryPort::new()],
            reader: publisher.reader(),
            conntrack: Table::new(64).unwrap(),
            hash_seed: [1, 2, 3, 4],
            number: 0,
            workers: 1,
            link: Arc::clone(&link),
            counters: Arc::clone(&counters),
        });
        let cookies = Cookies::new([7; 16]);
        let _ = link.cookies.set(cookies.clone());
        Self { worker, link, counters, cookies, _publisher: publisher, now: 1_000_000_000 }
    }

    fn poll(&mut self) -> Vec<Vec<u8>> {
        self.now += 1_000_000;
        self.worker.poll(self.now);
        let sent = self.worker.port_mut(0).unwrap().take_sent();
        sent.iter().map(|frame| frame.data().to_vec()).collect()
    }

    fn order(&mut self, backend: u32, generation: u16, packet: ProbePacket) -> Vec<Vec<u8>> {
        let command = Command::Probe { backend, generation, packet };
        self.link.commands.push(command).expect("room");
        self.poll()
    }

    /// What becomes of a packet, and the answer it was taken for.
    fn takes(&mut self, frame: &[u8]) -> (Verdict, Option<ProbeReply>) {
        self.worker.port_mut(0).unwrap().push(Frame::new(frame));
        assert!(self.poll().is_empty(), "the worker itself says nothing");
        let verdict = self.worker.last_outcomes().last().unwrap().verdict;
        (verdict, self.link.probe_replies.pop())
    }
}

/// Of the IPv4 VIP.
fn ends() -> Ends {
    Ends::new((NODE, PORT).into(), (VIP, VIP_PORT).into()).expect("one family")
}

/// Of the IPv6 VIP.
fn ends6() -> Ends {
    Ends::new((NODE6, PORT).into(), (VIP6, VIP_PORT).into()).expect("one family")
}

/// A TCP packet of either family, without flags yet.
fn packet(
    source: SocketAddr,
    destination: SocketAddr,
    sequence: u32,
) -> PacketBuilderStep<TcpHeader> {
    match (source.ip(), destination.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            tcp((from.octets(), source.port()), (to.octets(), destination.port()), sequence)
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => PacketBuilder::ethernet2(GATEWAY_MAC.0, NODE_MAC.0)
            .ipv6(from.octets(), to.octets(), 64)
            .tcp(source.port(), destination.port(), sequence, 64_240),
        _ => panic!("{source} to {destination}"),
    }
}

/// A packet from the VIP to the node, acknowledging `cookie + 1`.
fn answer(ends: &Ends, cookie: u32) -> PacketBuilderStep<TcpHeader> {
    packet(ends.vip(), ends.node(), 9_000).ack(cookie.wrapping_add(1))
}

/// What a probe's frame holds.
struct Opened {
    /// Destination of the outer header, if there is one.
    outer: Option<IpAddr>,
    source: IpAddr,
    destination: IpAddr,
    hops: u8,
    tcp: TcpHeader,
}

/// Takes a frame apart; what checksums there are inside are verified.
fn opened(frame: &[u8], forwarding: Forwarding) -> Opened {
    assert_eq!((&frame[..6], &frame[6..12]), (&GATEWAY_MAC.0[..], &NODE_MAC.0[..]));
    let packet = &frame[14..];
    let (length, protocol, outer): (usize, u8, IpAddr) = match (&frame[12..14], packet[0] >> 4) {
        ([0x08, 0x00], 4) => (20, packet[9], <[u8; 4]>::try_from(&packet[16..20]).unwrap().into()),
        ([0x86, 0xdd], 6) => (40, packet[6], <[u8; 16]>::try_from(&packet[24..40]).unwrap().into()),
        other => panic!("{other:?}"),
    };
    let (shim, outer) = match (forwarding, protocol) {
        (Forwarding::L2dsr, 6) => return inside(packet, None),
        (Forwarding::Ipip, 4 | 41) => (0, outer),
        (Forwarding::Gre, 47) => (4, outer),
        (Forwarding::Gue, 17) => (8, outer),
        // The header's length is in words behind the first.
        (Forwarding::GueWithHeader, 17) => {
            (8 + 4 + 4 * usize::from(packet[length + 8] & 0x1f), outer)
        }
        other => panic!("{other:?}"),
    };
    inside(&packet[length + shim..], Some(outer))
}

fn inside(packet: &[u8], outer: Option<IpAddr>) -> Opened {
    let sliced = SlicedPacket::from_ip(packet).unwrap();
    let Some(TransportSlice::Tcp(tcp)) = &sliced.transport else { panic!("no TCP") };
    assert!(tcp.payload().is_empty());
    let tcp = tcp.to_header();
    match &sliced.net {
        Some(NetSlice::Ipv4(ip)) => {
            let ip = ip.header().to_header();
            assert_eq!(ip.header_checksum, ip.calc_header_checksum());
            assert_eq!(tcp.checksum, tcp.calc_checksum_ipv4(&ip, &[]).unwrap());
            let (source, destination) = (ip.source.into(), ip.destination.into());
            Opened { outer, source, destination, hops: ip.time_to_live, tcp }
        }
        Some(NetSlice::Ipv6(ip)) => {
            let ip = ip.header().to_header();
            assert_eq!(usize::from(ip.payload_length), packet.len() - 40);
            assert_eq!(tcp.checksum, tcp.calc_checksum_ipv6(&ip, &[]).unwrap());
            let (source, destination) = (ip.source.into(), ip.destination.into());
            Opened { outer, source, destination, hops: ip.hop_limit, tcp }
        }
        other => panic!("{other:?}"),
    }
}

fn goes_as_a_clients_packet_would(world: &World, ends: Ends) {
    let forwarding = world.pools[0].forwarding;
    let mut lab = Lab::new(world);
    for (index, backend) in (0u32..).zip(&world.backends) {
        let probe = lab.cookies.probe(ends);
        let sent = lab.order(index, 0, probe);
        assert_eq!(sent.len(), 1);
        let Opened { outer, source, destination, hops, tcp } = opened(&sent[0], forwarding);
        let tunnel = forwarding != Forwarding::L2dsr;
        assert_eq!(outer, tunnel.then_some(backend.address));
        assert_eq!((source, destination), (ends.node().ip(), ends.vip().ip()));
        assert_eq!(hops, if tunnel { 63 } else { 64 });
        assert_eq!((tcp.source_port, tcp.destination_port), (PORT, VIP_PORT));
        assert_eq!((tcp.syn, tcp.ack, tcp.rst, tcp.fin), (true, false, false, false));
        assert_eq!(tcp.sequence_number, lab.cookies.cookie(&ends));
        let reset = lab.cookies.reset(ends);
        let reset = opened(&lab.order(index, 0, reset)[0], forwarding).tcp;
        assert_eq!((reset.syn, reset.ack, reset.rst), (false, false, true));
        assert_eq!(reset.sequence_number, tcp.sequence_number.wrapping_add(1));
    }
    assert_eq!((lab.counters.probes.sent.get(), lab.counters.probes.unsent.get()), (6, 0));
    assert_eq!(lab.counters.conntrack.entries.get(), 0, "a probe is no flow");
    assert_eq!(lab.counters.forwarded.get(), 0);
}

#[test]
fn a_probe_goes_to_exactly_its_backend_as_a_clients_packet_would() {
    for ends in [ends(), ends6()] {
        goes_as_a_clients_packet_would(&world(Forwarding::L2dsr), ends);
        for forwarding in TUNNELS {
            goes_as_a_clients_packet_would(&world(forwarding), ends);
            goes_as_a_clients_packet_would(&world6(forwarding), ends);
        }
    }
}

#[test]
fn the_two_ends_of_a_probe_are_of_one_family() {
    assert_eq!(Ends::new((NODE, PORT).into(), (VIP6, VIP_PORT).into()), None);
    assert_eq!(Ends::new((NODE6, PORT).into(), (VIP, VIP_PORT).into()), None);
    let ends = ends6();
    assert_eq!((ends.node(), ends.vip()), ((NODE6, PORT).into(), (VIP6, VIP_PORT).into()));
}

#[test]
fn a_probe_for_whom_the_index_does_not_mean_any_more_is_not_sent() {
    let mut world = world(Forwarding::Ipip);
    world.backends[0].generation = 1;
    world.backends[1].mac = None;
    world.backends[2].state = BackendState::Gone;
    let mut lab = Lab::new(&world);
    let probe = lab.cookies.probe(ends());
    for (backend, generation) in [(0, 0), (1, 0), (2, 0), (3, 0), (u32::MAX, 0)] {
        assert!(lab.order(backend, generation, probe).is_empty(), "{backend}");
    }
    assert_eq!((lab.counters.probes.sent.get(), lab.counters.probes.unsent.get()), (0, 5));
    assert_eq!(lab.order(0, 1, probe).len(), 1);
}

#[test]
fn answers_from_a_vip_are_recognised_by_their_cookie() {
    for ends in [ends(), ends6()] {
        let mut lab = Lab::new(&world(Forwarding::Ipip));
        let cookie = lab.cookies.cookie(&ends);
        let cases = [
            (answer(&ends, cookie).syn(), Answer::Accepts),
            // RFC 3168 section 6.1.1: a listener that speaks ECN.
            (answer(&ends, cookie).syn().ece(), Answer::Accepts),
            (answer(&ends, cookie).rst(), Answer::Refuses),
        ];
        for (packet, answer) in cases {
            let reply = ProbeReply { ends, answer };
            assert_eq!(lab.takes(&finish(packet, &[])), (Verdict::Host, Some(reply)));
        }
        assert_eq!((lab.counters.probes.replies.get(), lab.counters.host.get()), (3, 3));
        assert_eq!(lab.counters.total_drops(), 0);
    }
}

#[test]
fn nothing_else_is_an_answer() {
    for (ends, other_vip) in [
        (ends(), IpAddr::from([203, 0, 113, 2])),
        (ends6(), IpAddr::from([0x2001, 0xdb8, 0xcafe, 0, 0, 0, 0, 2])),
    ] {
        nothing_else_is_an_answer_between(&ends, other_vip);
    }
}

fn nothing_else_is_an_answer_between(ends: &Ends, other_vip: IpAddr) {
    let mut lab = Lab::new(&world(Forwarding::Ipip));
    let cookie = lab.cookies.cookie(ends);
    let (node, vip) = (ends.node(), ends.vip());
    let at = |port: u16| SocketAddr::new(node.ip(), port);
    let from = |source: SocketAddr, port: u16| {
        packet(source, at(port), 9_000).syn().ack(cookie.wrapping_add(1))
    };
    let forged = [
        ("a cookie too low", answer(ends, cookie.wrapping_sub(1)).syn()),
        ("a cookie too high", answer(ends, cookie.wrapping_add(1)).syn()),
        ("a guess", answer(ends, 0).syn()),
        ("another's key", answer(ends, Cookies::new([8; 16]).cookie(ends)).syn()),
        ("no SYN", answer(ends, cookie)),
        ("a FIN", answer(ends, cookie).fin()),
        ("SYN and FIN", answer(ends, cookie).syn().fin()),
        ("no acknowledgment", packet(vip, node, 9_000).syn()),
        ("a RST without acknowledgment", packet(vip, node, 9_000).rst()),
        ("an address that is no VIP", from(SocketAddr::new(other_vip, 80), PORT)),
        ("a port that is no VIP's", from(SocketAddr::new(vip.ip(), 81), PORT)),
        ("another port of the node", from(vip, PORT + 1)),
        ("a port below the range", from(vip, 49_151)),
    ];
    for (what, packet) in forged {
        let frame = finish(packet, &[]);
        let dropped = (Verdict::Drop(DropReason::NoExceptionPath), None);
        assert_eq!(lab.takes(&frame), dropped, "{what}");
    }
    // To a VIP, from a VIP: no packet for the node, and nobody's new flow.
    let frame = finish(packet(vip, vip, 9_000).syn().ack(cookie.wrapping_add(1)), &[]);
    assert_eq!(lab.takes(&frame), (Verdict::Drop(DropReason::Land), None));
    // What a backend without the VIP that forwards would send back to us.
    let frame = finish(packet(node, vip, cookie).syn(), &[]);
    assert_eq!(lab.takes(&frame), (Verdict::Drop(DropReason::MartianSource), None));
    // Cut behind the ports.
    let mut frame = finish(answer(ends, cookie).syn(), &[]);
    frame.truncate(frame.len() - 12);
    assert_eq!(lab.takes(&frame).1, None);
    assert_eq!(lab.counters.probes.replies.get(), 0);
}

#[test]
fn a_cookie_of_one_family_is_none_of_the_other() {
    let lab = Lab::new(&world(Forwarding::Ipip));
    assert_ne!(lab.cookies.cookie(&ends()), lab.cookies.cookie(&ends6()));
}

#[test]
fn without_cookies_there_are_no_answers() {
    let mut lab = Lab::new(&world(Forwarding::Ipip));
    let link = WorkerLink::new();
    lab.link = Arc::clone(&link);
    let publisher = Publisher::new(world(Forwarding::Ipip).tables(1));
    lab.worker = Worker::new(WorkerOptions {
        ports: vec![MemoryPort::new(), MemoryPort::new()],
        reader: publisher.reader(),
        conntrack: Table::new(64).unwrap(),
        hash_seed: [1, 2, 3, 4],
        number: 0,
        workers: 1,
        link,
        counters: Arc::clone(&lab.counters),
    });
    let frame = finish(answer(&ends(), lab.cookies.cookie(&ends())).syn(), &[]);
    assert_eq!(lab.takes(&frame), (Verdict::Drop(DropReason::NoExceptionPath), None));
}

#[test]
fn a_full_queue_loses_answers_and_counts_them() {
    let mut lab = Lab::new(&world(Forwarding::Ipip));
    let frame = finish(answer(&ends(), lab.cookies.cookie(&ends())).syn(), &[]);
    let room = lab.link.probe_replies.capacity();
    for _ in 0..room + 10 {
        lab.worker.port_mut(0).unwrap().push(Frame::new(&frame));
    }
    for _ in 0..=room / 32 {
        lab.poll();
    }
    assert_eq!(lab.counters.probes.replies.get(), room as u64 + 10);
    assert_eq!(lab.counters.probes.lost.get(), 10);
    assert_eq!(lab.link.probe_replies.len(), room);
    // And packets for others pass.
    let client = finish(tcp(([198, 51, 100, 7], 4_000), (VIP.octets(), VIP_PORT), 1).syn(), &[]);
    lab.worker.port_mut(0).unwrap().push(Frame::new(&client));
    assert_eq!(lab.poll().len(), 1);
}
