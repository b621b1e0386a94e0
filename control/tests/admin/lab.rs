//! A node with workers over memory ports, and a client of its admin interface.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode};
use config::Config;
use conntrack::Table;
use control::admin::{AdminState, BufferSource, PortSource, router};
use control::node::{Node, PortFacts};
use dataplane::buffer::Frame;
use dataplane::port::dpdk::DeviceStatistics;
use dataplane::port::memory::MemoryPort;
use dataplane::wire::{IpProtocol, Ipv4Header, MacAddress};
use dataplane::worker::{Worker, WorkerOptions};
use tower::ServiceExt as _;
use zerocopy::IntoBytes as _;

pub(crate) const NODE_MAC: MacAddress = MacAddress([2, 0, 0, 0, 0, 2]);
pub(crate) const SECOND: u64 = 1_000_000_000;
/// The secret of the pool `web`.
pub(crate) const SECRET: &str = "a0b1c2d3e4f5061728394a5b6c7d8e9f";

/// Two pools; `web` has a backend of weight 100, one of 50, and one that drains.
pub(crate) const CONFIG: &str = r#"
[node]
name = "lb-a1"
zone = "az-a"

[[port]]
name = "uplink"
device = "net_null0"
addresses = ["192.0.2.2/24"]
neighbors = [
  { address = "192.0.2.11", mac = "02:00:00:00:00:11" },
  { address = "192.0.2.12", mac = "02:00:00:00:00:12" },
]

[[pool]]
id = "web"
table_size = 1009
hash_secret = "a0b1c2d3e4f5061728394a5b6c7d8e9f"
  [[pool.backend]]
  id = "host-1"
  address = "192.0.2.11"
  weight = 100
  [[pool.backend]]
  id = "host-2"
  address = "192.0.2.12"
  weight = 50
  [[pool.backend]]
  id = "host-3"
  address = "192.0.2.13"
  state = "drain"

[[pool]]
id = "dns"
scheduler = "ring"
forwarding = "l2dsr"
hash_secret = "000102030405060708090a0b0c0d0e0f"
  [[pool.backend]]
  id = "host-1"
  address = "192.0.2.11"

[[vip]]
address = "203.0.113.1"
port = 80
protocol = "tcp"
pool = "web"

[[vip]]
address = "203.0.113.1"
port = "8000-8099"
protocol = "tcp"
pool = "web"

[[vip]]
address = "203.0.113.2"
port = 53
protocol = "udp"
pool = "dns"
"#;

pub(crate) fn config(text: &str) -> Config {
    Config::parse(text, "test.toml").unwrap_or_else(|errors| panic!("{errors}")).config
}

/// A device that says what it is told to.
#[derive(Clone, Default)]
pub(crate) struct TestPort {
    pub(crate) down: Arc<AtomicBool>,
}

impl PortSource for TestPort {
    fn link_up(&self) -> bool {
        !self.down.load(Relaxed)
    }

    fn statistics(&self) -> DeviceStatistics {
        DeviceStatistics {
            received: 11,
            transmitted: 12,
            missed: 13,
            receive_errors: 14,
            transmit_errors: 15,
            no_buffer: 16,
        }
    }
}

struct TestBuffers(AtomicU32);

impl BufferSource for TestBuffers {
    fn available(&self) -> u32 {
        self.0.load(Relaxed)
    }
}

/// See the module.
pub(crate) struct Lab {
    pub(crate) state: Arc<AdminState>,
    pub(crate) workers: Vec<Worker<MemoryPort>>,
    pub(crate) port: TestPort,
    clock: Arc<AtomicU64>,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Reply {
    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        assert_eq!(self.headers["content-type"], "application/json", "{}", self.body);
        serde_json::from_str(&self.body).expect("valid JSON")
    }
}

impl Lab {
    pub(crate) fn new(workers: usize) -> Self {
        Self::with(CONFIG, workers)
    }

    /// Workers have taken up their tables when this returns.
    pub(crate) fn with(text: &str, workers: usize) -> Self {
        let config = config(text);
        let facts = vec![PortFacts { mac: NODE_MAC, any_mac: false }; config.ports.len()];
        let mut node = Node::new(config, &facts, 0).expect("a node");
        let workers: Vec<_> = (0..workers)
            .map(|number| {
                let parts = node.add_worker();
                Worker::new(WorkerOptions {
                    ports: vec![MemoryPort::new()],
                    reader: parts.reader,
                    conntrack: Table::new(20_000).expect("a table"),
                    hash_seed: [number as u64, 2, 3, 4],
                    number: number as u16,
                    workers: 2,
                    link: parts.handle.link,
                    counters: parts.handle.counters,
                })
            })
            .collect();
        let clock = Arc::new(AtomicU64::new(5 * SECOND));
        let port = TestPort::default();
        let ports: Vec<Box<dyn PortSource>> = vec![Box::new(port.clone())];
        let buffers: Vec<Box<dyn BufferSource>> = (0u32..)
            .zip(&workers)
            .map(|(number, _)| Box::new(TestBuffers((1000 + number).into())) as _)
            .collect();
        let now = Arc::clone(&clock);
        let state = AdminState::new(node, ports, buffers, move || now.load(Relaxed));
        let mut lab = Self { state, workers, port, clock };
        lab.poll();
        lab
    }

    /// Lets `nanoseconds` pass.
    pub(crate) fn pass(&self, nanoseconds: u64) {
        self.clock.fetch_add(nanoseconds, Relaxed);
    }

    pub(crate) fn now_ms(&self) -> u64 {
        self.clock.load(Relaxed) / 1_000_000
    }

    /// One round of every worker.
    pub(crate) fn poll(&mut self) {
        let now = self.clock.load(Relaxed);
        for worker in &mut self.workers {
            worker.poll(now);
        }
    }

    /// Has a worker take these frames, and everything that they lead to.
    pub(crate) fn receive(&mut self, worker: usize, frames: impl IntoIterator<Item = Frame>) {
        let now = self.clock.load(Relaxed);
        let worker = &mut self.workers[worker];
        for frame in frames {
            worker.port_mut(0).expect("a port").push(frame);
        }
        while worker.poll(now) > 0 {}
        worker.port_mut(0).expect("a port").take_sent();
    }

    pub(crate) async fn request(&self, request: Request<Body>) -> Reply {
        let response = router(Arc::clone(&self.state)).oneshot(request).await.expect("an answer");
        let (head, body) = response.into_parts();
        let body = to_bytes(body, usize::MAX).await.expect("a body");
        let body = String::from_utf8(body.to_vec()).expect("text");
        Reply { status: head.status, headers: head.headers, body }
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.request(Request::get(path).body(Body::empty()).expect("a request")).await
    }

    /// As [`Lab::get`], while the workers work.
    pub(crate) async fn get_at_work(&mut self, path: &str) -> Reply {
        let state = Arc::clone(&self.state);
        let now = self.clock.load(Relaxed);
        let workers = &mut self.workers;
        let answer = async {
            let request = Request::get(path).body(Body::empty()).expect("a request");
            let response = router(state).oneshot(request).await.expect("an answer");
            let (head, body) = response.into_parts();
            let body = to_bytes(body, usize::MAX).await.expect("a body");
            let body = String::from_utf8(body.to_vec()).expect("text");
            Reply { status: head.status, headers: head.headers, body }
        };
        let work = async {
            loop {
                for worker in workers.iter_mut() {
                    worker.poll(now);
                }
                tokio::time::sleep(Duration::from_micros(100)).await;
            }
        };
        tokio::select! {
            reply = answer => reply,
            () = work => unreachable!("work never ends"),
        }
    }
}

const SYN: u8 = 0x02;

/// A SYN of client 198.51.100.7 from `source_port`.
pub(crate) fn syn(destination: [u8; 4], source_port: u16, destination_port: u16) -> Frame {
    tcp(destination, source_port, destination_port, SYN)
}

pub(crate) fn tcp(destination: [u8; 4], source: u16, port: u16, flags: u8) -> Frame {
    let mut l4 = vec![0; 20];
    l4[0..2].copy_from_slice(&source.to_be_bytes());
    l4[2..4].copy_from_slice(&port.to_be_bytes());
    l4[12] = 5 << 4;
    l4[13] = flags;
    ipv4(destination, IpProtocol::TCP, &l4)
}

/// A datagram with `payload` bytes.
pub(crate) fn udp(destination: [u8; 4], source: u16, port: u16, payload: usize) -> Frame {
    let length = 8 + payload as u16;
    let mut l4 = vec![0; usize::from(length)];
    l4[0..2].copy_from_slice(&source.to_be_bytes());
    l4[2..4].copy_from_slice(&port.to_be_bytes());
    l4[4..6].copy_from_slice(&length.to_be_bytes());
    ipv4(destination, IpProtocol::UDP, &l4)
}

fn ipv4(destination: [u8; 4], protocol: IpProtocol, l4: &[u8]) -> Frame {
    let source = Ipv4Addr::new(198, 51, 100, 7);
    let length = (Ipv4Header::LENGTH + l4.len()) as u16;
    let header = Ipv4Header::build(source, destination.into(), protocol, length);
    let mut frame = NODE_MAC.0.to_vec();
    frame.extend([2, 0, 0, 0, 0, 1, 0x08, 0x00]);
    frame.extend(header.as_bytes());
    frame.extend(l4);
    Frame::new(&frame)
}
