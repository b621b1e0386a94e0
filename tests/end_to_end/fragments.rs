//! Large datagrams in fragments that arrive in random order, at a node with two workers whose device
//! chooses queues by a hash of its own: the kernels of the backends put them together, and echo them
//! byte for byte.

use std::net::{IpAddr, SocketAddr, SocketAddrV6, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use etherparse::{IpNumber, Ipv4Header, Ipv6FlowLabel, Ipv6Header, UdpHeader};
use socket2::{Domain, Socket};

use crate::lab::{Lab, VIP, VIP6, is_root};

/// The echo service.
const PORT: u16 = 7000;
/// Bytes of a fragment.
const FRAGMENT: usize = 1200;
/// Lengths of datagrams; the longest is in fifty fragments.
const LENGTHS: [usize; 3] = [8_000, 23_456, 60_000];
/// Flows of each family.
const FLOWS: u16 = 8;
/// How often a datagram is sent before it is given up: a machine may stop for seconds at any time.
const TRIES: u32 = 5;

const POOL: &str = r#"
[fragments]
wait_ms = 10000
timeout_ms = 30000

[[pool]]
id = "echo"
table_size = 1021
hash_secret = "0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f"

  [[pool.backend]]
  id = "b1"
  address = "192.0.2.11"

  [[pool.backend]]
  id = "b2"
  address = "192.0.2.12"

[[vip]]
address = "203.0.113.1"
port = 7000
protocol = "udp"
pool = "echo"

[[vip]]
address = "2001:db8:cafe::1"
port = 7000
protocol = "udp"
pool = "echo"
"#;

/// Echoes on one backend, at one VIP, with its own number in the first byte.
struct Echo {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Echo {
    fn start(lab: &Lab, backend: u8, vip: &str) -> Self {
        let address = SocketAddr::new(vip.parse().unwrap(), PORT);
        let socket = lab.udp_socket(&format!("b{backend}"), address);
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut buffer = vec![0; 65_536];
            while !stopped.load(Ordering::Relaxed) {
                let Ok((length, client)) = socket.recv_from(&mut buffer) else { continue };
                buffer[0] = backend;
                let _ = socket.send_to(&buffer[..length], client);
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// A client's flow: its socket, and the raw one that its fragments go out of.
struct Flow {
    socket: UdpSocket,
    raw: Socket,
    from: SocketAddr,
    to: SocketAddr,
}

static IDENTIFICATION: AtomicU32 = AtomicU32::new(1);

impl Flow {
    fn new(lab: &Lab, client: &str, vip: &str, port: u16) -> Self {
        let from = SocketAddr::new(client.parse().unwrap(), port);
        let to = SocketAddr::new(vip.parse().unwrap(), PORT);
        let socket = lab.udp_socket("client", from);
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let domain = if to.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
        Self { socket, raw: lab.raw_ip_socket("client", domain), from, to }
    }

    /// Sends `payload`, whole or in fragments in random order, until it comes back: the backend
    /// that echoed it.
    fn ask(&self, payload: &[u8], in_fragments: bool) -> u8 {
        let mut buffer = vec![0; 65_536];
        for _ in 0..TRIES {
            if in_fragments {
                self.send_fragments(payload);
            } else {
                self.socket.send_to(payload, self.to).unwrap();
            }
            // What comes late is of an earlier try, and the same.
            while let Ok((length, from)) = self.socket.recv_from(&mut buffer) {
                assert_eq!(from, self.to);
                if length == payload.len() {
                    assert_eq!(buffer[1..length], payload[1..], "echoed byte for byte");
                    return buffer[0];
                }
            }
        }
        panic!("{} bytes from {} were never echoed", payload.len(), self.from);
    }

    fn send_fragments(&self, payload: &[u8]) {
        let datagram = self.datagram(payload);
        let id = IDENTIFICATION.fetch_add(1, Ordering::Relaxed);
        let mut fragments: Vec<(usize, &[u8])> =
            datagram.chunks(FRAGMENT).enumerate().map(|(n, part)| (n * FRAGMENT, part)).collect();
        shuffle(&mut fragments, u64::from(id));
        // A raw socket of IPv6 wants no port in the address.
        let to = match self.to {
            SocketAddr::V4(to) => SocketAddr::V4(to),
            SocketAddr::V6(to) => SocketAddrV6::new(*to.ip(), 0, 0, 0).into(),
        };
        for (at, part) in fragments {
            let more = at + part.len() < datagram.len();
            self.raw.send_to(&self.packet(id, at, part, more), &to.into()).unwrap();
        }
    }

    /// The UDP datagram, with its checksum.
    fn datagram(&self, payload: &[u8]) -> Vec<u8> {
        let (from, to) = (self.from.port(), self.to.port());
        let header = match (self.from.ip(), self.to.ip()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let ip =
                    Ipv4Header::new(0, 64, IpNumber::UDP, source.octets(), destination.octets());
                UdpHeader::with_ipv4_checksum(from, to, &ip.unwrap(), payload)
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let ip = ipv6(source.octets(), destination.octets(), 0);
                UdpHeader::with_ipv6_checksum(from, to, &ip, payload)
            }
            _ => unreachable!("one family"),
        };
        [&header.unwrap().to_bytes()[..], payload].concat()
    }

    /// One fragment. Over IPv6 each has another flow label, which the kernel chooses the device's
    /// queue by: so fragments of one datagram arrive at both workers.
    fn packet(&self, id: u32, at: usize, part: &[u8], more: bool) -> Vec<u8> {
        match (self.from.ip(), self.to.ip()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let (source, destination) = (source.octets(), destination.octets());
                let length = part.len() as u16;
                let mut header =
                    Ipv4Header::new(length, 64, IpNumber::UDP, source, destination).unwrap();
                header.identification = id as u16;
                header.dont_fragment = false;
                header.more_fragments = more;
                header.fragment_offset = ((at / 8) as u16).try_into().unwrap();
                header.header_checksum = header.calc_header_checksum();
                [&header.to_bytes()[..], part].concat()
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let mut header = ipv6(source.octets(), destination.octets(), part.len() as u16 + 8);
                header.next_header = IpNumber::IPV6_FRAGMENTATION_HEADER;
                let label = (at / FRAGMENT) as u32 * 977 + 1;
                header.flow_label = Ipv6FlowLabel::try_new(label & 0xf_ffff).unwrap();
                let mut packet = header.to_bytes().to_vec();
                packet.extend([17, 0]);
                packet.extend((at as u16 | u16::from(more)).to_be_bytes());
                packet.extend(id.to_be_bytes());
                packet.extend(part);
                packet
            }
            _ => unreachable!("one family"),
        }
    }
}

fn ipv6(source: [u8; 16], destination: [u8; 16], payload_length: u16) -> Ipv6Header {
    Ipv6Header {
        payload_length,
        next_header: IpNumber::UDP,
        hop_limit: 64,
        source,
        destination,
        ..Ipv6Header::default()
    }
}

/// Fisher and Yates, with a generator that is the same at every run.
fn shuffle<T>(items: &mut [T], seed: u64) {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    for last in (1..items.len()).rev() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        items.swap(last, (state % (last as u64 + 1)) as usize);
    }
}

fn payload(length: usize, seed: u16) -> Vec<u8> {
    (0..length).map(|at| (at as u16).wrapping_mul(31).wrapping_add(seed) as u8).collect()
}

fn fragments_reach_the_backend_of_their_flow(mode: &str) {
    if !is_root() {
        return;
    }
    let mut lab =
        Lab::up(&["--mode", mode, "--families", "46", "--backend-family", "4", "--backends", "2"]);
    let config = lab.config(&["--hugepages", "false"]);
    assert!(config.contains("worker_cores = [1]"), "{config}");
    let config = config.replace("worker_cores = [1]", "worker_cores = [1, 0]") + POOL;
    lab.start_node(&config);
    assert!(lab.log().contains("asked for"), "the device cannot be computed: {}", lab.log());
    let _echoes: Vec<Echo> = [VIP, VIP6]
        .iter()
        .flat_map(|vip| [1, 2].map(|backend| Echo::start(&lab, backend, vip)))
        .collect();
    let families = [("192.0.2.10", VIP), ("2001:db8:0:1::10", VIP6)];
    let mut flows = Vec::new();
    for port in 20_000..20_000 + FLOWS {
        flows.extend(families.map(flow_of(&lab, port)));
    }
    // Half of the flows begin with a whole packet, the others know fragments only.
    let mut backends = Vec::new();
    for (number, flow) in (0u16..).zip(&flows) {
        let small = payload(100, number);
        let first = (number % 4 < 2).then(|| flow.ask(&small, false));
        let in_fragments = LENGTHS.map(|length| flow.ask(&payload(length, number), true));
        let backend = in_fragments[0];
        assert!(in_fragments.iter().all(|other| *other == backend), "{}: one backend", flow.from);
        assert!(first.is_none_or(|first| first == backend), "{}: its flow's", flow.from);
        backends.push(backend);
    }
    for backend in [1, 2] {
        assert!(backends.contains(&backend), "both have flows: {backends:?}");
    }
    // The pool changes: flows stay where they are, with their fragments; new ones go elsewhere.
    let b1 = "  id = \"b1\"\n  address = \"192.0.2.11\"\n";
    let drained = {
        let (before, pool) = config.split_at(config.find("id = \"echo\"").unwrap());
        assert!(pool.contains(b1));
        before.to_owned() + &pool.replacen(b1, &format!("{b1}  state = \"drain\"\n"), 1)
    };
    lab.reload(&drained);
    for ((number, flow), backend) in (0u16..).zip(&flows).zip(&backends) {
        assert_eq!(flow.ask(&payload(30_000, number), true), *backend, "{}", flow.from);
    }
    for port in 30_000..30_000 + FLOWS {
        for flow in families.map(flow_of(&lab, port)) {
            assert_eq!(flow.ask(&payload(30_000, port), true), 2, "{}", flow.from);
        }
    }
    // Both workers had work, and gave some of it to each other.
    for worker in [0, 1] {
        let count = |name: &str| lab.metric(&format!("{name}{{worker=\"{worker}\"}}"));
        for name in [
            "weir_worker_received_packets_total",
            "weir_worker_fragments_total",
            "weir_worker_given_packets_total",
            "weir_worker_taken_packets_total",
        ] {
            assert!(count(name) > 50, "{name} of worker {worker}: {}", count(name));
        }
    }
    for reason in ["fragment_overlap", "fragment_no_room", "handoff_full", "bad_fragment", "no_vip"]
    {
        assert_eq!(lab.metric(&format!("weir_drops_total{{reason=\"{reason}\"}}")), 0, "{reason}");
    }
    assert_eq!(lab.stop_node("-TERM"), Some(0), "{}", lab.log());
    assert!(!lab.log().contains("panicked"), "{}", lab.log());
}

/// A flow from `port` for each pair of client and VIP.
fn flow_of(lab: &Lab, port: u16) -> impl FnMut((&str, &str)) -> Flow {
    move |(client, vip)| Flow::new(lab, client, vip, port)
}

#[test]
fn fragments_reach_the_backend_of_their_flow_by_ipip() {
    fragments_reach_the_backend_of_their_flow("ipip");
}

#[test]
fn fragments_reach_the_backend_of_their_flow_by_gue() {
    fragments_reach_the_backend_of_their_flow("gue");
}
