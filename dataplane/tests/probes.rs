//! Probes through the tunnel, at the worker: what goes out, and what is taken for an answer.

#![cfg(not(crossbeam_loom))]

mod common;

use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;

use common::packets::{Endpoint, finish, tcp};
use common::world::{GATEWAY_MAC, NODE, NODE_MAC, PoolSpec, World, backend, vip};
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
use etherparse::{NetSlice, PacketBuilderStep, SlicedPacket, TcpHeader, TransportSlice};

const VIP: Endpoint = ([203, 0, 113, 1], 80);
const PORT: u16 = 50_000;

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
        vips: vec![vip(VIP.0, VipPorts::One(VIP.1), VipProtocol::Tcp, 0)],
    }
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

fn ends() -> Ends {
    let vip = SocketAddrV4::new(Ipv4Addr::from(VIP.0), VIP.1);
    Ends { node: SocketAddrV4::new(NODE, PORT), vip }
}

/// A packet from the VIP to the node, acknowledging `cookie + 1`.
fn answer(cookie: u32) -> PacketBuilderStep<TcpHeader> {
    tcp(VIP, (NODE.octets(), PORT), 9_000).ack(cookie.wrapping_add(1))
}

/// The TCP packet inside, and the outer destination if there is one; checksums are verified.
fn opened(frame: &[u8]) -> (Option<[u8; 4]>, etherparse::Ipv4Header, TcpHeader) {
    assert_eq!((&frame[..6], &frame[6..12]), (&GATEWAY_MAC.0[..], &NODE_MAC.0[..]));
    let sliced = SlicedPacket::from_ethernet(frame).unwrap();
    let Some(NetSlice::Ipv4(outer)) = &sliced.net else { panic!("no IPv4") };
    let header = outer.header().to_header();
    assert_eq!(header.header_checksum, header.calc_header_checksum());
    if header.protocol.0 == 6 {
        let Some(TransportSlice::Tcp(tcp)) = &sliced.transport else { panic!("no TCP") };
        let tcp_header = tcp.to_header();
        let sum = tcp_header.calc_checksum_ipv4(&header, &[]).unwrap();
        assert_eq!(tcp_header.checksum, sum);
        return (None, header, tcp_header);
    }
    assert_eq!(header.protocol.0, 4);
    let mut inner = frame[..14].to_vec();
    inner.extend(&frame[34..]);
    let (_, ip, tcp) = opened(&inner);
    (Some(header.destination), ip, tcp)
}

#[test]
fn a_probe_goes_to_exactly_its_backend_as_a_clients_packet_would() {
    for (forwarding, ttl) in [(Forwarding::Ipip, 63), (Forwarding::L2dsr, 64)] {
        let mut lab = Lab::new(&world(forwarding));
        for backend in 0..3u8 {
            let probe = lab.cookies.probe(ends());
            let sent = lab.order(backend.into(), 0, probe);
            assert_eq!(sent.len(), 1);
            let (outer, ip, tcp) = opened(&sent[0]);
            let expected = [192, 0, 2, 11 + backend];
            assert_eq!(outer, (forwarding == Forwarding::Ipip).then_some(expected));
            assert_eq!((ip.source, ip.destination), (NODE.octets(), VIP.0));
            assert_eq!(ip.time_to_live, ttl);
            assert_eq!((tcp.source_port, tcp.destination_port), (PORT, VIP.1));
            assert_eq!((tcp.syn, tcp.ack, tcp.rst, tcp.fin), (true, false, false, false));
            assert_eq!(tcp.sequence_number, lab.cookies.cookie(&ends()));
            let reset = lab.cookies.reset(ends());
            let (_, _, reset) = opened(&lab.order(backend.into(), 0, reset)[0]);
            assert_eq!((reset.syn, reset.ack, reset.rst), (false, false, true));
            assert_eq!(reset.sequence_number, tcp.sequence_number.wrapping_add(1));
        }
        assert_eq!((lab.counters.probes.sent.get(), lab.counters.probes.unsent.get()), (6, 0));
        assert_eq!(lab.counters.conntrack.entries.get(), 0, "a probe is no flow");
        assert_eq!(lab.counters.forwarded.get(), 0);
    }
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
    let mut lab = Lab::new(&world(Forwarding::Ipip));
    let cookie = lab.cookies.cookie(&ends());
    let cases = [
        (answer(cookie).syn(), Answer::Accepts),
        // RFC 3168 section 6.1.1: a listener that speaks ECN.
        (answer(cookie).syn().ece(), Answer::Accepts),
        (answer(cookie).rst(), Answer::Refuses),
    ];
    for (packet, answer) in cases {
        let reply = ProbeReply { ends: ends(), answer };
        assert_eq!(lab.takes(&finish(packet, &[])), (Verdict::Host, Some(reply)));
    }
    assert_eq!((lab.counters.probes.replies.get(), lab.counters.host.get()), (3, 3));
    assert_eq!(lab.counters.total_drops(), 0);
}

#[test]
fn nothing_else_is_an_answer() {
    let mut lab = Lab::new(&world(Forwarding::Ipip));
    let cookie = lab.cookies.cookie(&ends());
    let node = NODE.octets();
    let from = |source: Endpoint, port: u16| {
        tcp(source, (node, port), 9_000).syn().ack(cookie.wrapping_add(1))
    };
    let forged = [
        ("a cookie too low", answer(cookie.wrapping_sub(1)).syn()),
        ("a cookie too high", answer(cookie.wrapping_add(1)).syn()),
        ("a guess", answer(0).syn()),
        ("another's key", answer(Cookies::new([8; 16]).cookie(&ends())).syn()),
        ("no SYN", answer(cookie)),
        ("a FIN", answer(cookie).fin()),
        ("SYN and FIN", answer(cookie).syn().fin()),
        ("no acknowledgment", tcp(VIP, (node, PORT), 9_000).syn()),
        ("a RST without acknowledgment", tcp(VIP, (node, PORT), 9_000).rst()),
        ("an address that is no VIP", from(([203, 0, 113, 2], 80), PORT)),
        ("a port that is no VIP's", from(([203, 0, 113, 1], 81), PORT)),
        ("another port of the node", from(VIP, PORT + 1)),
        ("a port below the range", from(VIP, 49_151)),
    ];
    for (what, packet) in forged {
        let frame = finish(packet, &[]);
        let dropped = (Verdict::Drop(DropReason::NoExceptionPath), None);
        assert_eq!(lab.takes(&frame), dropped, "{what}");
    }
    // To a VIP, from a VIP: no packet for the node, and nobody's new flow.
    let frame = finish(tcp(VIP, VIP, 9_000).syn().ack(cookie.wrapping_add(1)), &[]);
    assert_eq!(lab.takes(&frame), (Verdict::Drop(DropReason::Land), None));
    // What a backend without the VIP that forwards would send back to us.
    let frame = finish(tcp((node, PORT), VIP, cookie).syn(), &[]);
    assert_eq!(lab.takes(&frame), (Verdict::Drop(DropReason::MartianSource), None));
    // Cut behind the ports.
    let mut frame = finish(answer(cookie).syn(), &[]);
    frame.truncate(14 + 20 + 8);
    assert_eq!(lab.takes(&frame).1, None);
    assert_eq!(lab.counters.probes.replies.get(), 0);
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
    let frame = finish(answer(lab.cookies.cookie(&ends())).syn(), &[]);
    assert_eq!(lab.takes(&frame), (Verdict::Drop(DropReason::NoExceptionPath), None));
}

#[test]
fn a_full_queue_loses_answers_and_counts_them() {
    let mut lab = Lab::new(&world(Forwarding::Ipip));
    let frame = finish(answer(lab.cookies.cookie(&ends())).syn(), &[]);
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
    let client = finish(tcp(([198, 51, 100, 7], 4_000), VIP, 1).syn(), &[]);
    lab.worker.port_mut(0).unwrap().push(Frame::new(&client));
    assert_eq!(lab.poll().len(), 1);
}
