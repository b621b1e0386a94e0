//! The path over real DPDK devices: jumbo frames, and checksums with the device's help and without.
//!
//! DPDK starts once a process, so this is one test. It needs no hugepages; what it asks of `net_tap`,
//! which makes interfaces, it leaves out where it does not run as root.

#![cfg(not(any(miri, crossbeam_loom)))]

mod common;

use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::packets::{ack, datagram, syn, tagged};
use common::world::{GATEWAY_MAC, NODE, NODE_MAC, PoolSpec, World, backend, vip};
use conntrack::Table;
use dataplane::buffer::{Buffer, ChecksumHint};
use dataplane::counters::WorkerCounters;
use dataplane::link::WorkerLink;
use dataplane::port::dpdk::{
    Device, DeviceOptions, DpdkError, Eal, EalOptions, HugeMemory, Mbuf, Mempool, Queue,
};
use dataplane::port::{Burst, Port};
use dataplane::publish::Publisher;
use dataplane::tables::{Forwarding, Tables};
use dataplane::verdict::DropReason;
use dataplane::vip::{VipPorts, VipProtocol};
use dataplane::worker::{Worker, WorkerOptions};
use etherparse::{IpHeaders, IpNumber, Ipv4Header, PacketBuilder, SlicedPacket};

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
        checksum_offload: true,
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
        vips: vec![vip(VIP.0, VipPorts::Any, VipProtocol::Any, 0)],
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

fn memory_lies_where_it_says(eal: &Eal) {
    let memory = HugeMemory::zeroed(eal, "a table", 100_000, 128, -1).unwrap();
    let place = memory.place().expect("DPDK knows its own memory");
    // Without hugepages: ordinary ones.
    assert!((4096..2 << 20).contains(&place.page_bytes), "{place:?}");
    let bytes = memory.leak();
    assert_eq!((bytes.len(), bytes.as_ptr() as usize % 128), (100_000, 0));
    assert!(bytes.iter().all(|byte| *byte == 0));
}

#[test]
fn devices() {
    let eal = Eal::start(&EalOptions {
        memory_mib: 64,
        hugepages: false,
        main_core: 0,
        file_prefix: format!("weir-devices-{}", std::process::id()),
        pci_devices: Vec::new(),
        extra: vec!["--log-level=critical".to_owned()],
    })
    .unwrap();
    memory_lies_where_it_says(&eal);
    let pools = [Mempool::new(&eal, "devices", 2048, u32::from(MTU) + 64, -1).unwrap()];
    frames_of_9000_bytes_pass_a_device_that_carries_them(&eal, &pools);
    and_are_refused_by_one_that_carries_less(&eal, &pools);
    a_devices_word_on_checksums_changes_no_byte(&eal, &pools);
    a_released_buffer_is_back_in_its_pool_at_once(&pools);
}

/// Past the cache of the thread that lets go of it.
fn a_released_buffer_is_back_in_its_pool_at_once(pools: &[Mempool]) {
    let before = pools[0].available();
    let mbuf = pools[0].allocate().unwrap();
    mbuf.release();
    assert_eq!(pools[0].available(), before);
}

/// A worker with this queue as its only port.
fn worker<P: Port>(queue: P, publisher: &Publisher<Tables>) -> (Worker<P>, Arc<WorkerCounters>) {
    let counters = Arc::new(WorkerCounters::new());
    let worker = Worker::new(WorkerOptions {
        ports: vec![queue],
        reader: publisher.reader(),
        conntrack: Table::new(64).unwrap(),
        hash_seed: [1, 2, 3, 4],
        number: 0,
        workers: 1,
        link: WorkerLink::new(),
        counters: Arc::clone(&counters),
    });
    (worker, counters)
}

fn frames_of_9000_bytes_pass_a_device_that_carries_them(eal: &Eal, pools: &[Mempool]) {
    let device = Device::open(eal, options("net_ring0")).unwrap();
    let pool = &pools[0];
    assert!(device.frame_bytes() <= u32::from(MTU) + 64);
    let mut started = device.start(pools).unwrap();
    let queue = started.take_queues().pop().unwrap();
    assert!(queue.longest_frame() >= usize::from(MTU) + 14);

    let publisher = Publisher::new(tables());
    let (mut worker, counters) = worker(queue, &publisher);
    // The longest that fits with the outer header, and a byte more.
    let payload: Vec<u8> = (0..MTU - 20 - 28).map(|byte| byte as u8).collect();
    let frame = datagram(CLIENT, VIP, &payload);
    assert_eq!(frame.len(), usize::from(MTU) - 20 + 14);
    let sent = send(&mut worker, pool, &frame);
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
    // It must not be fragmented, so its sender hears of it.
    let sent = send(&mut worker, pool, &longer);
    assert!(sent.iter().all(|frame| frame.len() < 600 && frame[23] == 1), "an ICMP error");
    assert_eq!(counters.drops(DropReason::TooBig), 1);
    assert_eq!(counters.total_drops(), 1);
}

/// `net_null` states no limit, `net_tap` one of 1522 bytes a frame.
fn and_are_refused_by_one_that_carries_less(eal: &Eal, pools: &[Mempool]) {
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

/// Sends the frames on standard input to an interface, one a line in hexadecimal, and prints so many
/// IPv4 frames that come from the node.
const WIRE: &str = "
import socket, sys
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
wire.bind((sys.argv[1], 0))
wire.settimeout(30)
for line in sys.stdin:
    wire.send(bytes.fromhex(line.strip()))
left = int(sys.argv[2])
while left > 0:
    frame, (_, _, kind, _, _) = wire.recvfrom(65535)
    if kind != socket.PACKET_OUTGOING and frame[6:12] == bytes.fromhex('020000000002'):
        print(frame.hex(), flush=True)
        left -= 1
";

/// TCP, tagged TCP, UDP, and IP in IP, with right and with wrong IPv4 header checksums; how many are
/// right.
fn checksum_frames() -> (Vec<Vec<u8>>, usize) {
    let sound =
        [syn(CLIENT, VIP), tagged(&ack(CLIENT, VIP), 7), datagram(CLIENT, VIP, &[0x5a; 99]), {
            let mut inside = syn(CLIENT, VIP);
            inside.drain(..14);
            let builder = PacketBuilder::ethernet2(GATEWAY_MAC.0, NODE_MAC.0).ip(IpHeaders::Ipv4(
                Ipv4Header::new(inside.len() as u16, 64, IpNumber::IPV4, CLIENT.0, VIP.0).unwrap(),
                Default::default(),
            ));
            let mut frame = Vec::new();
            builder.write(&mut frame, IpNumber::IPV4, &inside).unwrap();
            frame
        }];
    let unsound = sound.clone().map(|mut frame| {
        // The checksum is ten bytes into the header.
        let header = if frame[12] == 0x81 { 18 } else { 14 };
        frame[header + 10] ^= 0x40;
        frame
    });
    let right = sound.len();
    (sound.into_iter().chain(unsound).collect(), right)
}

/// `net_tap` looks at the checksums of what it receives, where it is asked to.
fn a_devices_word_on_checksums_changes_no_byte(eal: &Eal, pools: &[Mempool]) {
    let (frames, right) = checksum_frames();
    let mut seen = Vec::new();
    for (number, checksum_offload) in [(0, false), (1, true)] {
        let interface = format!("weircsum{number}");
        let device = format!("net_tap1{number},iface={interface}");
        let options = DeviceOptions { mtu: 1500, checksum_offload, ..options(&device) };
        let Ok(device) = Device::open(eal, options) else {
            eprintln!("no net_tap here: the device's word on checksums is not compared");
            return;
        };
        let mut started = device.start(pools).unwrap();
        let publisher = Publisher::new(tables());
        let queue = started.take_queues().pop().unwrap();
        let (mut worker, counters) = worker(Listening { queue, hints: 0 }, &publisher);
        let sent = through_the_wire(&mut worker, &interface, &frames, right);
        assert_eq!(sent.len(), right, "checksum_offload = {checksum_offload}: {sent:?}");
        let wrong = counters.drops(DropReason::BadIpChecksum);
        assert_eq!(wrong, (frames.len() - right) as u64);
        let hints = worker.port_mut(0).unwrap().hints;
        // The kernel may have sent packets of its own.
        let said = if checksum_offload { hints >= frames.len() } else { hints == 0 };
        assert!(said, "checksum_offload = {checksum_offload}: {hints} words of the device");
        seen.push(sent);
    }
    assert_eq!(seen[0], seen[1]);
}

/// A queue, and how many packets came with the device's word on their checksum.
struct Listening {
    queue: Queue,
    hints: usize,
}

impl Port for Listening {
    type Buffer = Mbuf;

    fn receive(&mut self, burst: &mut Burst<Mbuf>) {
        self.queue.receive(burst);
        let said = |mbuf: &&Mbuf| mbuf.checksum_hint() != ChecksumHint::Unverified;
        self.hints += burst.iter().filter(said).count();
    }

    fn transmit(&mut self, burst: &mut Burst<Mbuf>) {
        self.queue.transmit(burst);
    }

    fn allocate(&mut self) -> Option<Mbuf> {
        self.queue.allocate()
    }
}

/// What the worker sends for frames that arrive from the kernel's side.
fn through_the_wire(
    worker: &mut Worker<Listening>,
    interface: &str,
    frames: &[Vec<u8>],
    expected: usize,
) -> Vec<String> {
    let mut wire = Command::new("python3")
        .args(["-c", WIRE, interface, &expected.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let hex = |frame: &[u8]| frame.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let lines: String = frames.iter().map(|frame| hex(frame) + "\n").collect();
    wire.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while wire.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            let _ = wire.kill();
            panic!("the frames do not come through");
        }
        worker.poll(1_000_000_000);
    }
    let mut sent = String::new();
    wire.stdout.take().unwrap().read_to_string(&mut sent).unwrap();
    sent.lines().map(str::to_owned).collect()
}
