//! What the data path counts about backends from their clients' half: RSTs and repeated SYNs.

#![cfg(not(crossbeam_loom))]

mod common;

use std::sync::Arc;

use common::packets::{ack, fin, rst, syn};
use common::world::{PoolSpec, World, backend, vip};
use conntrack::Table;
use dataplane::buffer::Frame;
use dataplane::counters::WorkerCounters;
use dataplane::link::WorkerLink;
use dataplane::port::memory::MemoryPort;
use dataplane::publish::Publisher;
use dataplane::tables::{BackendState, Forwarding};
use dataplane::vip::{VipPorts, VipProtocol};
use dataplane::worker::{Worker, WorkerOptions};

fn world(state: BackendState, reselect: bool) -> World {
    let mut world = World {
        pools: vec![PoolSpec {
            forwarding: Forwarding::Ipip,
            entropy: 0,
            reselect,
            table_size: 251,
        }],
        backends: vec![backend(0, "a", [192, 0, 2, 11], 0)],
        vips: vec![vip([203, 0, 113, 1], VipPorts::One(80), VipProtocol::Tcp, 0)],
    };
    world.backends[0].state = state;
    world
}

/// Sends `word` (s: SYN, a: ACK, f: FIN, r: RST, one a millisecond) of one flow; at `|` the
/// backend takes `then`. Returns client resets and SYN retransmits.
fn counted(word: &str, then: BackendState) -> (u64, u64) {
    let mut publisher = Publisher::new(world(BackendState::Active, false).tables(1));
    let counters = Arc::new(WorkerCounters::new());
    let mut worker = Worker::new(WorkerOptions {
        ports: vec![MemoryPort::new(), MemoryPort::new()],
        reader: publisher.reader(),
        conntrack: Table::new(64).unwrap(),
        hash_seed: [1, 2, 3, 4],
        number: 0,
        workers: 1,
        link: WorkerLink::new(),
        counters: Arc::clone(&counters),
    });
    let (client, server) = (([198, 51, 100, 7], 40_000), ([203, 0, 113, 1], 80));
    let mut now = 1_000_000_000;
    for letter in word.chars() {
        let frame = match letter {
            's' => syn(client, server),
            'a' => ack(client, server),
            'f' => fin(client, server),
            'r' => rst(client, server),
            _ => {
                publisher.publish(world(then, false).tables(2));
                continue;
            }
        };
        now += 1_000_000;
        worker.port_mut(0).unwrap().push(Frame::new(&frame));
        worker.poll(now);
    }
    let signals = counters.signals(0).unwrap();
    (signals.client_resets.get(), signals.syn_retransmits.get())
}

#[test]
fn a_reset_counts_once_and_a_syn_counts_from_the_second_on() {
    use BackendState::{Active, Draining, Evicted, Unhealthy};
    let cases = [
        // An ordinary life, and none of it a signal.
        ("saaafa", Active, (0, 0)),
        // The backend is silent: 1 s, 3 s, 7 s after the first.
        ("ssss", Active, (0, 3)),
        ("sssa", Active, (0, 2)),
        // RFC 5961: answered by the backend, which has the connection.
        ("sas", Active, (0, 0)),
        // A new connection on a closed 5-tuple, and its own retransmit.
        ("safs", Active, (0, 0)),
        ("safss", Active, (0, 1)),
        ("sars", Active, (1, 0)),
        // The client gives up.
        ("sr", Active, (1, 0)),
        ("sarrr", Active, (1, 0)),
        // A socket closed by the client answers what still comes: not about the backend.
        ("safr", Active, (0, 0)),
        // Nothing is known of the flow.
        ("r", Active, (0, 0)),
        ("ar", Active, (1, 0)),
        // Whoever the flow is still with is the one it is about.
        ("sa|r", Draining, (1, 0)),
        ("sa|r", Unhealthy, (1, 0)),
        ("s|ss", Draining, (0, 2)),
        // An operator took the backend out: the node resets these flows itself.
        ("sa|r", Evicted, (0, 0)),
        ("sa|ar", Evicted, (0, 0)),
    ];
    for (word, then, expected) in cases {
        assert_eq!(counted(word, then), expected, "{word} {then:?}");
    }
}
