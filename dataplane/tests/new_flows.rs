//! Whatever else is in a burst of new flows (other pools, IPv6, clients known by their address
//! alone, no VIP at all), each goes where its pool's table says for it by itself; with a flow table
//! of their own size, and with one that is always full.

#![cfg(not(crossbeam_loom))]

mod common;

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use common::packets::{Endpoint, syn, udp};
use common::world::{GATEWAY_MAC, NODE_MAC, PoolSpec, World, backend, set_affinity, vip, vip6};
use conntrack::{FlowKey, Table};
use dataplane::buffer::Frame;
use dataplane::counters::WorkerCounters;
use dataplane::link::WorkerLink;
use dataplane::port::BURST;
use dataplane::port::memory::MemoryPort;
use dataplane::publish::Publisher;
use dataplane::tables::{Affinity, Forwarding, Tables};
use dataplane::verdict::Verdict;
use dataplane::vip::{VipPorts, VipProtocol};
use dataplane::worker::{Worker, WorkerOptions};
use etherparse::PacketBuilder;

const WEB: Endpoint = ([203, 0, 113, 1], 80);
const SHOP: Endpoint = ([203, 0, 113, 2], 80);
const STICKY: Endpoint = ([203, 0, 113, 3], 80);
const DNS: Endpoint = ([203, 0, 113, 4], 53);
const NOBODY: Endpoint = ([203, 0, 113, 9], 80);
const WEB6: &str = "2001:db8:f::1";

/// Two pools of five backends, a VIP of each kind.
fn tables() -> Tables {
    let pool =
        PoolSpec { forwarding: Forwarding::Ipip, entropy: 0, reselect: false, table_size: 251 };
    let backends = (0..10)
        .map(|index: u8| backend(u32::from(index) / 5, &format!("b{index}"), [10, 0, 0, index], 0));
    let tcp = |vip_of: Endpoint, pool| vip(vip_of.0, VipPorts::One(80), VipProtocol::Tcp, pool);
    let world = World {
        pools: vec![pool.clone(), pool],
        backends: backends.collect(),
        vips: vec![
            tcp(WEB, 0),
            tcp(SHOP, 1),
            tcp(STICKY, 0),
            vip(DNS.0, VipPorts::One(DNS.1), VipProtocol::Udp, 0),
            vip6(WEB6, VipPorts::One(80), VipProtocol::Tcp, 0),
        ],
    };
    let mut tables = world.tables(1);
    set_affinity(&mut tables, 2, Affinity::Source, &[]);
    tables
}

fn client(number: u32) -> Endpoint {
    let [_, a, b, c] = number.to_be_bytes();
    ([10, 100 + a, b, c], 20_000 + number as u16 % 10_000)
}

/// The frame of new flow `number` to the VIP of `kind`, and the backend that its table names.
fn flow(kind: u8, number: u32, tables: &Tables) -> (Vec<u8>, Option<u32>) {
    let (source, port) = client(number);
    let choose = |pool, hash: &dyn Fn(&maglev::FlowHasher) -> u64| {
        let pool = tables.pool(pool)?;
        pool.selector.pick(hash(&pool.hasher))
    };
    let whole = |pool, to: Endpoint, protocol| {
        let key = FlowKey::v4(source.into(), to.0.into(), port, to.1, protocol);
        let (bytes, length) = key.canonical_bytes();
        choose(pool, &|hasher| hasher.hash(&bytes[..length]))
    };
    match kind {
        0 => (syn((source, port), WEB), whole(0, WEB, 6)),
        1 => (syn((source, port), SHOP), whole(1, SHOP, 6)),
        2 => (syn((source, port), STICKY), choose(0, &|hasher| hasher.hash(&source))),
        3 => (udp((source, port), DNS), whole(0, DNS, 17)),
        4 => {
            let (from, to): (Ipv6Addr, Ipv6Addr) =
                (Ipv4Addr::from(source).to_ipv6_compatible(), WEB6.parse().unwrap());
            let from = Ipv6Addr::from_bits(from.to_bits() | 0x2001_0db8 << 96);
            let builder = PacketBuilder::ethernet2(GATEWAY_MAC.0, NODE_MAC.0)
                .ipv6(from.octets(), to.octets(), 64)
                .tcp(port, 80, 1000, 64_240)
                .syn();
            let mut frame = Vec::with_capacity(builder.size(0));
            builder.write(&mut frame, &[]).unwrap();
            let key = FlowKey::v6(from, to, port, 80, 6);
            let (bytes, _) = key.canonical_bytes();
            (frame, choose(0, &|hasher| hasher.hash(&bytes)))
        }
        _ => (syn((source, port), NOBODY), None),
    }
}

#[test]
fn every_new_flow_of_a_burst_goes_where_its_own_table_says() {
    for flows in [4 * BURST, 100_000] {
        let publisher = Publisher::new(tables());
        let counters = Arc::new(WorkerCounters::new());
        let mut worker = Worker::new(WorkerOptions {
            ports: vec![MemoryPort::new()],
            reader: publisher.reader(),
            conntrack: Table::new(flows).unwrap(),
            hash_seed: [4, 3, 2, 1],
            number: 0,
            workers: 1,
            link: WorkerLink::new(),
            counters: Arc::clone(&counters),
        });
        let mut number = 0;
        // Bursts of every length, of one kind mostly, of two, and of all.
        for length in 1..=BURST as u32 {
            for mixture in [&[0][..], &[4], &[1, 0, 0, 0], &[5, 4, 4, 0], &[2, 3, 0, 1, 4, 5]] {
                let mut expected = Vec::new();
                for place in 0..length {
                    number += 1;
                    let kind = mixture[place as usize % mixture.len()];
                    let (frame, backend) = flow(kind, number, publisher.current());
                    worker.port_mut(0).unwrap().push(Frame::new(&frame));
                    expected.push(backend);
                }
                worker.poll(u64::from(number) * 1_000_000);
                for (outcome, backend) in worker.last_outcomes().iter().zip(&expected) {
                    match backend {
                        Some(_) => assert_eq!(outcome.verdict, Verdict::Forward),
                        None => assert!(matches!(outcome.verdict, Verdict::Drop(_))),
                    }
                    assert!(backend.is_none_or(|backend| backend == outcome.backend));
                }
                assert_eq!(worker.last_outcomes().len(), expected.len());
                worker.port_mut(0).unwrap().take_sent();
            }
        }
        let conntrack = &counters.conntrack;
        assert_eq!(conntrack.hits.get(), 0, "every flow is new");
        assert_eq!(conntrack.evictions.get() > 0, flows < 1000);
    }
}
