//! The affinity law against a model: whatever packets come and however the pools change, a flow
//! stays where it is until the contract says otherwise.
//!
//! The model is a `HashMap` from flow to backend, written from SPEC sections 2, 4 and 15: who
//! stays, who is reset, who selects afresh, and when a flow is forgotten. The worker must do the
//! same with every packet, over random sequences of packets, waiting, and new tables.

#![cfg(not(crossbeam_loom))]

mod common;

use std::collections::HashMap;
use std::sync::Arc;

use common::packets::{Endpoint, ack, fin, rst, syn, udp};
use common::world::{PoolSpec, World, backend, vip};
use conntrack::{FlowKey, Table};
use dataplane::buffer::{Buffer, Frame};
use dataplane::counters::WorkerCounters;
use dataplane::link::WorkerLink;
use dataplane::port::memory::MemoryPort;
use dataplane::publish::Publisher;
use dataplane::tables::{BackendState, Forwarding, Tables};
use dataplane::verdict::{DropReason, NO_BACKEND, Verdict};
use dataplane::vip::{VipPorts, VipProtocol};
use dataplane::worker::{Worker, WorkerOptions};
use proptest::prelude::*;

/// TCP that stays with an unhealthy backend, TCP that leaves it, UDP.
const VIPS: [(Endpoint, u8, usize); 3] = [
    (([203, 0, 113, 1], 80), 6, 0),
    (([203, 0, 113, 2], 80), 6, 1),
    (([203, 0, 113, 1], 53), 17, 0),
];
/// Backends of each of the two pools.
const BACKENDS: usize = 4;
/// Clients of each VIP.
const CLIENTS: u16 = 12;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Syn,
    Ack,
    Fin,
    Rst,
}

#[derive(Clone, Debug)]
enum Step {
    /// A packet; for UDP VIPs a datagram whatever the kind.
    Packet { vip: usize, client: u16, kind: Kind },
    /// Nothing for so many milliseconds.
    Wait(u64),
    /// A backend changes its state or weight.
    Change { backend: usize, state: BackendState, weight: u32 },
    /// A backend is gone, and another one has its index.
    Replace { backend: usize },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let kind = prop_oneof![
        2 => Just(Kind::Syn),
        5 => Just(Kind::Ack),
        1 => Just(Kind::Fin),
        1 => Just(Kind::Rst),
    ];
    let packet = (0..VIPS.len(), 0..CLIENTS, kind).prop_map(|(vip, client, kind)| Step::Packet {
        vip,
        client,
        kind,
    });
    let wait = prop_oneof![8 => 0..500u64, 2 => 20_000..70_000u64, 1 => 290_000..310_000u64];
    let state = prop_oneof![
        3 => Just(BackendState::Active),
        2 => Just(BackendState::Draining),
        2 => Just(BackendState::Evicted),
        1 => Just(BackendState::Unhealthy),
        1 => Just(BackendState::Gone),
    ];
    let weight = prop_oneof![4 => Just(100u32), 1 => Just(0), 1 => 1..1000u32];
    let change = (0..2 * BACKENDS, state, weight)
        .prop_map(|(backend, state, weight)| Step::Change { backend, state, weight });
    let replace = (0..2 * BACKENDS).prop_map(|backend| Step::Replace { backend });
    let step = prop_oneof![
        30 => packet,
        2 => wait.prop_map(Step::Wait),
        3 => change,
        1 => replace,
    ];
    prop::collection::vec(step, 1..400)
}

/// What must come of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Forwarded(u32),
    Reset,
    NoBackend,
    /// A RST to an evicted backend: no reset answers a reset.
    Silence,
}

/// Where a flow stands, as the client's packets show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    SynReceived,
    Established,
    Closing,
    Datagrams,
}

impl State {
    /// SPEC section 4. FIN_WAIT and TIME_WAIT have one timeout and one meaning here.
    fn timeout_ms(self) -> u64 {
        match self {
            Self::SynReceived => 30_000,
            Self::Established => 300_000,
            Self::Closing | Self::Datagrams => 60_000,
        }
    }
}

/// A flow that the node remembers.
#[derive(Clone, Copy, Debug)]
struct Flow {
    backend: u32,
    generation: u16,
    state: State,
    seen_ms: u64,
    tombstone: bool,
}

#[derive(Default)]
struct Model {
    flows: HashMap<(usize, u16), Flow>,
}

impl Model {
    fn packet(
        &mut self,
        (vip, client): (usize, u16),
        kind: Kind,
        now_ms: u64,
        world: &World,
        chosen: Option<u32>,
    ) -> Fate {
        let datagram = VIPS[vip].1 == 17;
        let opens = !datagram && kind == Kind::Syn;
        let known = self.flows.get(&(vip, client)).copied();
        let Some(mut flow) = known.filter(|flow| now_ms - flow.seen_ms < flow.state.timeout_ms())
        else {
            // A flow that is not known, or forgotten. The end of one is not worth remembering.
            let Some(backend) = chosen else { return Fate::NoBackend };
            if datagram || kind != Kind::Rst {
                self.open((vip, client), kind, now_ms, world, backend);
            }
            return Fate::Forwarded(backend);
        };
        // A SYN on a closed 5-tuple, or of a client that took the reset: another connection.
        if opens && (flow.state == State::Closing || flow.tombstone) {
            let Some(backend) = chosen else { return Fate::NoBackend };
            self.open((vip, client), kind, now_ms, world, backend);
            return Fate::Forwarded(backend);
        }
        flow.seen_ms = now_ms;
        flow.state = match (flow.state, kind) {
            (State::Datagrams, _) => State::Datagrams,
            (State::Closing, _) | (_, Kind::Fin | Kind::Rst) => State::Closing,
            (_, Kind::Ack) => State::Established,
            (state, Kind::Syn) => state,
        };
        let record = &world.backends[flow.backend as usize];
        let there = record.generation == flow.generation && !flow.tombstone;
        let reselects = world.pools[VIPS[vip].2].reselect;
        let stays = there
            && match record.state {
                BackendState::Active | BackendState::Draining => true,
                BackendState::Unhealthy => !datagram && !reselects,
                BackendState::Evicted | BackendState::Gone => false,
            };
        let unhealthy = there && record.state == BackendState::Unhealthy;
        let fate = if stays {
            Fate::Forwarded(flow.backend)
        } else if datagram || unhealthy || opens {
            match chosen {
                Some(backend) if opens => {
                    self.open((vip, client), kind, now_ms, world, backend);
                    return Fate::Forwarded(backend);
                }
                Some(backend) => {
                    flow.backend = backend;
                    flow.generation = world.backends[backend as usize].generation;
                    Fate::Forwarded(backend)
                }
                None => Fate::NoBackend,
            }
        } else {
            flow.tombstone = true;
            if kind == Kind::Rst { Fate::Silence } else { Fate::Reset }
        };
        self.flows.insert((vip, client), flow);
        fate
    }

    fn open(
        &mut self,
        (vip, client): (usize, u16),
        kind: Kind,
        now_ms: u64,
        world: &World,
        backend: u32,
    ) {
        let state = match (VIPS[vip].1, kind) {
            (17, _) => State::Datagrams,
            (_, Kind::Syn) => State::SynReceived,
            (_, Kind::Ack) => State::Established,
            (_, Kind::Fin | Kind::Rst) => State::Closing,
        };
        let generation = world.backends[backend as usize].generation;
        let flow = Flow { backend, generation, state, seen_ms: now_ms, tombstone: false };
        self.flows.insert((vip, client), flow);
    }
}

fn world() -> World {
    let pool =
        |reselect| PoolSpec { forwarding: Forwarding::Ipip, entropy: 0, reselect, table_size: 251 };
    let backends = (0..2 * BACKENDS as u8)
        .map(|index| {
            let pool = u32::from(index) / BACKENDS as u32;
            backend(pool, &format!("b{index}"), [10, 0, 0, index], 0)
        })
        .collect();
    let vips = VIPS.map(|((address, port), protocol, pool)| {
        let protocol = if protocol == 6 { VipProtocol::Tcp } else { VipProtocol::Udp };
        vip(address, VipPorts::One(port), protocol, pool as u32)
    });
    World { pools: vec![pool(false), pool(true)], backends, vips: vips.into() }
}

/// The worker under test, and the control side's hand.
struct Bench {
    publisher: Publisher<Tables>,
    worker: Worker<MemoryPort>,
    world: World,
    generation: u64,
    now_ms: u64,
}

impl Bench {
    fn new(counters: &Arc<WorkerCounters>) -> Self {
        let world = world();
        let publisher = Publisher::new(world.tables(1));
        let worker = Worker::new(WorkerOptions {
            ports: vec![MemoryPort::new()],
            reader: publisher.reader(),
            conntrack: Table::new(4096).unwrap(),
            hash_seed: [5, 6, 7, 8],
            number: 0,
            workers: 1,
            link: WorkerLink::new(),
            counters: Arc::clone(counters),
        });
        Self { publisher, worker, world, generation: 1, now_ms: 10_000 }
    }

    fn publish(&mut self) {
        self.generation += 1;
        self.publisher.publish(self.world.tables(self.generation));
    }

    /// Whom the tables alone would choose.
    fn cold(&self, vip: usize, client: Endpoint) -> Option<u32> {
        let ((address, port), protocol, pool) = VIPS[vip];
        let key = FlowKey::v4(client.0.into(), address.into(), client.1, port, protocol);
        let (bytes, length) = key.canonical_bytes();
        let pool = self.publisher.current().pool(pool as u32).unwrap();
        pool.selector.pick(pool.hasher.hash(&bytes[..length]))
    }

    fn packet(&mut self, frame: &[u8]) -> Fate {
        self.worker.port_mut(0).unwrap().push(Frame::new(frame));
        self.worker.poll(self.now_ms * 1_000_000);
        let outcome = self.worker.last_outcomes()[0];
        let sent = self.worker.port_mut(0).unwrap().take_sent();
        match outcome.verdict {
            Verdict::Forward => {
                let address = self.world.backends[outcome.backend as usize].address;
                let outer: [u8; 4] = sent[0].data()[30..34].try_into().unwrap();
                assert_eq!(std::net::IpAddr::from(outer), address, "outer destination");
                Fate::Forwarded(outcome.backend)
            }
            Verdict::Reply => {
                assert_eq!(sent[0].data()[34 + 13] & 0x04, 0x04, "a reset");
                Fate::Reset
            }
            Verdict::Drop(DropReason::NoBackend) => {
                assert_eq!((outcome.backend, sent.len()), (NO_BACKEND, 0));
                Fate::NoBackend
            }
            Verdict::Drop(DropReason::BackendEvicted) => Fate::Silence,
            other => panic!("{other:?}"),
        }
    }
}

fn client(number: u16) -> Endpoint {
    ([198, 51, 100, 7], 20_000 + number)
}

fn frame(vip: usize, number: u16, kind: Kind) -> Vec<u8> {
    let (source, destination) = (client(number), VIPS[vip].0);
    match (VIPS[vip].1, kind) {
        (17, _) => udp(source, destination),
        (_, Kind::Syn) => syn(source, destination),
        (_, Kind::Ack) => ack(source, destination),
        (_, Kind::Fin) => fin(source, destination),
        (_, Kind::Rst) => rst(source, destination),
    }
}

#[test]
fn the_worker_and_the_model_agree_on_every_packet() {
    let counters = Arc::new(WorkerCounters::new());
    let mut fates: HashMap<&str, u32> = HashMap::new();
    let fates = std::cell::RefCell::new(&mut fates);
    let config = ProptestConfig { cases: 400, failure_persistence: None, ..Default::default() };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let result = runner.run(&steps(), |steps| {
        let mut bench = Bench::new(&counters);
        let mut model = Model::default();
        for step in &steps {
            match *step {
                Step::Packet { vip, client: number, kind } => {
                    let chosen = bench.cold(vip, client(number));
                    let expected =
                        model.packet((vip, number), kind, bench.now_ms, &bench.world, chosen);
                    let got = bench.packet(&frame(vip, number, kind));
                    prop_assert_eq!(got, expected, "{:?}", step);
                    let name = match expected {
                        Fate::Forwarded(backend) if Some(backend) != chosen => "kept",
                        Fate::Forwarded(_) => "forwarded",
                        Fate::Reset => "reset",
                        Fate::NoBackend => "no backend",
                        Fate::Silence => "silence",
                    };
                    *fates.borrow_mut().entry(name).or_default() += 1;
                    bench.now_ms += 1;
                }
                Step::Wait(milliseconds) => bench.now_ms += milliseconds,
                Step::Change { backend, state, weight } => {
                    let record = &mut bench.world.backends[backend];
                    (record.state, record.weight) = (state, weight);
                    bench.publish();
                }
                Step::Replace { backend } => {
                    let record = &mut bench.world.backends[backend];
                    record.generation = record.generation.wrapping_add(1);
                    record.state = BackendState::Active;
                    bench.publish();
                }
            }
        }
        Ok(())
    });
    result.unwrap();
    let fates = fates.into_inner();
    for name in ["kept", "forwarded", "reset", "no backend", "silence"] {
        assert!(fates.get(name).is_some_and(|count| *count >= 20), "{name}: {fates:?}");
    }
}
