//! The path over real DPDK devices, in memory: `net_ring` gives back what it is given.
//!
//! DPDK starts once a process, so this is one test; it needs neither root nor hugepages.

#![cfg(not(any(miri, crossbeam_loom)))]

mod common;

use std::net::Ipv4Addr;
use std::sync::Arc;

use common::packets::datagram;
use common::world::{NODE, PoolSpec, World, backend, vip};
use conntrack::Table;
use dataplane::buffer::Buffer;
use dataplane::counters::WorkerCounters;
use dataplane::link::WorkerLink;
use dataplane::port::dpdk::{Device, DeviceOptions, DpdkError, Eal, EalOptions, Mempool, Queue};
use dataplane::port::{Burst, Port};
use dataplane::publish::Publisher;
use dataplane::tables::{Forwarding, Tables};
use dataplane::verdict::{DropReason, Verdict};
use dataplane::vip::{VipPorts, VipProtocol};
use dataplane::worker::{Worker, WorkerOptions};
use etherparse::SlicedPacket;

const VIP: ([u8; 4], u16) = ([203, 0, 113, 1], 80);
const CLIENT: ([u8; 4], u16) = ([198, 51, 100, 7], 40_000);
const BACKEND: [u8; 4] = [192, 0, 2, 11];
const MTU: u16 = 9000;

fn options(device: &str) -> DeviceOptions {
    DeviceOptions {
        device: device.to_owned(),
        queues: 1,
        fewer_queues: false,
        mtu: MTU,
        smaller_mtu: false,
        mac: None,
        all_multicast: false,
        rx_descriptors: 64,
        tx_descriptors: 64,
    }
}

/// One backend, over links of [`MTU`].
fn tables() -> Tables {
    let pool =
        PoolSpec { forwarding: Forwarding::Ipip, entropy: 0, reselect: false, table_size: 251 };
    let world = World {
        pools: vec![pool],
        backends: vec![backend(0, "a", BACKEND, 0)],
        vips: vec![vip(VIP.0, VipPorts::One(VIP.1), VipProtocol::Udp, 0)],
    };
    let mut tables = world.tables(1);
    let mut ports = tables.ports.to_vec();
    ports.truncate(1);
    ports[0].mtu = MTU;
    tables.ports = ports.into();
    for backend in &mut tables.backends {
        backend.inner_mtu = MTU - 20;
    }
    tables
}

/// Puts a frame on the ring, has the worker do a round: what it sent.
fn send(worker: &mut Worker<Queue>, pool: &Mempool, frame: &[u8]) -> Vec<Vec<u8>> {
    let mut mbuf = pool.allocate().unwrap();
    assert!(mbuf.append(frame), "{} bytes fit one buffer", frame.len());
    let mut burst = Burst::new();
    burst.push(mbuf);
    worker.port_mut(0).unwrap().transmit(&mut burst);
    assert!(burst.is_empty());
    assert_eq!(worker.poll(1_000_000_000), 1);
    worker.port_mut(0).unwrap().receive(&mut burst);
    burst.iter().map(|packet| packet.data().to_vec()).collect()
}

#[test]
fn frames_of_9000_bytes_pass_a_device_that_carries_them_and_others_refuse() {
    let eal = Eal::start(&EalOptions {
        memory_mib: 64,
        hugepages: false,
        main_core: 0,
        file_prefix: format!("weir-devices-{}", std::process::id()),
        pci_devices: Vec::new(),
        extra: vec!["--log-level=critical".to_owned()],
    })
    .unwrap();
    let device = Device::open(&eal, options("net_ring0")).unwrap();
    let pool = Mempool::new(&eal, "devices", 512, device.frame_bytes(), -1).unwrap();
    let pools = [pool.clone()];
    let mut started = device.start(&pools).unwrap();
    let mut queues = started.take_queues();
    let queue = queues.pop().unwrap();
    assert!(queue.longest_frame() >= usize::from(MTU) + 14);

    let publisher = Publisher::new(tables());
    let counters = Arc::new(WorkerCounters::new());
    let mut worker = Worker::new(WorkerOptions {
        ports: vec![queue],
        reader: publisher.reader(),
        conntrack: Table::new(64).unwrap(),
        hash_seed: [1, 2, 3, 4],
        number: 0,
        workers: 1,
        link: WorkerLink::new(),
        counters: Arc::clone(&counters),
    });
    // The longest that fits with the outer header, and a byte more.
    let payload: Vec<u8> = (0..MTU - 20 - 28).map(|byte| byte as u8).collect();
    let frame = datagram(CLIENT, VIP, &payload);
    assert_eq!(frame.len(), usize::from(MTU) - 20 + 14);
    let sent = send(&mut worker, &pool, &frame);
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].len(), usize::from(MTU) + 14);
    let outer = SlicedPacket::from_ethernet(&sent[0]).unwrap();
    let Some(etherparse::NetSlice::Ipv4(outer)) = outer.net else { panic!("IPv4 outside") };
    let header = outer.header();
    assert_eq!((header.source_addr(), header.destination_addr()), (NODE, Ipv4Addr::from(BACKEND)));
    assert_eq!(header.total_len(), MTU);
    assert_eq!(header.header_checksum(), header.to_header().calc_header_checksum());
    // But for the time to live and the checksum it is the packet that came.
    let inner = &sent[0][14 + 20..];
    assert_eq!((&inner[..8], &inner[12..]), (&frame[14..22], &frame[26..]));
    let longer = datagram(CLIENT, VIP, &[&payload[..], &[0]].concat());
    assert!(send(&mut worker, &pool, &longer).is_empty());
    let outcome = worker.last_outcomes().first().unwrap();
    assert_eq!(outcome.verdict, Verdict::Drop(DropReason::TooBig));
    assert_eq!(counters.total_drops(), 1);

    refused_by_a_device_that_carries_less(&eal, &pools);
    drop((worker, started, queues));
}

/// `net_null` states no limit, `net_tap` one of 1522 bytes a frame.
fn refused_by_a_device_that_carries_less(eal: &Eal, pools: &[Mempool]) {
    assert!(Device::open(eal, options("net_null0")).unwrap().start(pools).is_ok());
    // Needs root, as it makes an interface.
    let Ok(device) = Device::open(eal, options("net_tap7,iface=weirjumbo0")) else { return };
    match device.start(pools) {
        Err(error @ DpdkError::Mtu { wanted: MTU, .. }) => {
            let said = error.to_string();
            assert!(said.contains("net_tap7") && said.contains("mtu = 9000"), "{said}");
        }
        other => panic!("a TAP device carries no 9000 bytes: {other:?}"),
    }
    // The exception path takes what it can get.
    let smaller = DeviceOptions { smaller_mtu: true, ..options("net_tap8,iface=weirjumbo1") };
    let mut started = Device::open(eal, smaller).unwrap().start(pools).unwrap();
    let queue = started.take_queues().pop().unwrap();
    assert!((1500..2000).contains(&queue.longest_frame()), "{}", queue.longest_frame());
}
