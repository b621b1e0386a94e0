//! The node under test: 1,000 VIPs on one pool, of 100 backends that are on-link and known, or of
//! 750 behind a router.
//!
//! It is written as the text of a configuration file and read by the same code as an operator's,
//! so that what is measured is a node that could be run.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use crate::flows::{Ip, VIP_PORT, VIPS, vip_address};
use crate::frame::Kind;

/// Backends of most pools.
const FEW: u16 = 100;
/// Backends of a pool whose table is exchanged: the control plane's full size.
const MANY: u16 = 750;
/// Weight of a backend.
pub const WEIGHT: u16 = 100;
/// The pool's name.
pub const POOL: &str = "bench";
/// The node's MAC address: what frames of the source are addressed to.
pub const NODE_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x01];
/// Where frames of the source come from.
pub const ROUTER_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0xfe];
/// The node's addresses: outer sources.
const NODE_ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const NODE_ADDRESS6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, 1);
/// Who is in front of backends that are not on the link; its MAC address is [`ROUTER_MAC`].
const ROUTER_ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 254);

/// Descriptors of each queue, for Weir and testpmd alike.
pub const DESCRIPTORS: u16 = 1024;
/// The core that forwards; the main thread is on core 0.
pub const WORKER_CORE: u16 = 1;

/// What a Weir case measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Case {
    /// Every packet begins a flow, instead of finding one.
    pub new_flows: bool,
    /// Flows in the capture.
    pub flows: u32,
    /// Flows the conntrack table holds.
    pub table: u32,
    /// The version of IP of clients, VIPs and backends.
    pub ip: Ip,
    /// How packets are sent on.
    pub mode: Mode,
    /// Backends of the pool.
    pub backends: u16,
}

/// What is put around a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// IP in IP.
    Ipip,
    /// Generic UDP Encapsulation, variant 1.
    Gue,
}

impl Case {
    /// The cases there are.
    pub const NAMES: [&str; 7] =
        ["hit_4k", "hit_256k", "hit_1m", "new", "v6_hit_1m", "gue_hit_1m", "swap"];

    /// The case of this name, one of [`Case::NAMES`].
    pub fn named(name: &str) -> Option<Self> {
        // With few flows a table of 16 times as many: the default one, of 2 M, would spread them
        // over 500 times the memory, and the case would measure the TLB. With many the default;
        // and for new flows a quarter of them, so that each is long evicted when its next SYN comes.
        let few = Self {
            new_flows: false,
            flows: 1 << 12,
            table: 1 << 16,
            ip: Ip::V4,
            mode: Mode::Ipip,
            backends: FEW,
        };
        let many = Self { flows: 1 << 20, table: 2_000_000, ..few };
        Some(match name {
            "hit_4k" => few,
            "hit_256k" => Self { flows: 1 << 18, table: 500_000, ..few },
            "hit_1m" => many,
            "new" => Self { new_flows: true, table: 1 << 18, ..many },
            "v6_hit_1m" => Self { ip: Ip::V6, ..many },
            "gue_hit_1m" => Self { mode: Mode::Gue, ..many },
            "swap" => Self { backends: MANY, ..few },
            _ => return None,
        })
    }

    /// What each frame of its source carries.
    pub fn kind(&self) -> Kind {
        if self.new_flows { Kind::Syn } else { Kind::Ack }
    }

    /// The name of its source, which other cases can share.
    pub fn source_name(&self) -> String {
        let kind = if self.new_flows { "syn" } else { "ack" };
        let ip = if self.ip == Ip::V6 { "v6" } else { "v4" };
        format!("{ip}_{kind}_{}.pcap", self.flows)
    }

    /// The node's address: the outer source.
    pub fn node_address(&self) -> IpAddr {
        match self.ip {
            Ip::V4 => NODE_ADDRESS.into(),
            Ip::V6 => NODE_ADDRESS6.into(),
        }
    }

    /// Whether backends are behind the router.
    fn routed(&self) -> bool {
        self.backends > FEW
    }

    /// The address of backend `number`.
    pub fn backend_address(&self, number: u16) -> IpAddr {
        let [high, low] = number.to_be_bytes();
        match self.ip {
            Ip::V4 if self.routed() => Ipv4Addr::new(172, 20, high, low).into(),
            Ip::V4 => Ipv4Addr::new(192, 0, 2, 101 + low).into(),
            Ip::V6 => Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 1, number).into(),
        }
    }

    /// The MAC address that its packets go to.
    pub fn backend_mac(&self, number: u16) -> [u8; 6] {
        let [high, low] = number.to_be_bytes();
        if self.routed() { ROUTER_MAC } else { [0x02, 0, 0, 1, high, low] }
    }
}

/// Buffers in the pool, for Weir and testpmd alike: `net_pcap` keeps one for each frame of its
/// source for good; the rest is for bursts and thread caches.
pub fn mbufs(flows: u32) -> u32 {
    flows + flows / 8 + 16_384
}

/// Memory for these buffers and a table of `table` flows, with some room, in MiB.
pub fn memory_mib(flows: u32, table: u32) -> u32 {
    // A buffer of 2,048 + 128 bytes with its mbuf and pool headers, padded for the memory
    // channels, and 68 bytes a slot at 90 % load.
    let bytes = u64::from(mbufs(flows)) * 2_500 + u64::from(table) * 76;
    (bytes >> 20) as u32 + 128
}

/// The source as a DPDK device string.
pub fn device(source: &Path) -> String {
    device_of_queues(source, 1)
}

/// The same with `queues` queues, each of which plays all of it.
pub fn device_of_queues(source: &Path, queues: usize) -> String {
    let queue = format!(",rx_pcap={}", source.display());
    format!("net_pcap0{},infinite_rx=1", queue.repeat(queues))
}

/// The id of backend `number`.
pub fn backend_id(number: u16) -> String {
    format!("host-{number}")
}

/// The text of the node's configuration.
pub fn configuration(source: &Path, case: Case) -> String {
    configuration_with(source, case, WEIGHT)
}

/// The same with another weight of backend 0: another table.
pub fn configuration_with(source: &Path, case: Case, weight: u16) -> String {
    configuration_at(&device(source), case, weight)
}

/// The same at a device of another kind: a NIC, behind which somebody plays the source.
pub fn configuration_at(device: &str, case: Case, weight: u16) -> String {
    let link = Link { device: device.to_owned(), ..Link::ordinary(case) };
    configuration_over(&link, case, weight)
}

/// Where a node's packets come from, and which ones its VIPs take.
#[derive(Clone, Debug)]
pub struct Link {
    /// DPDK's device string.
    pub device: String,
    /// Bytes of an IP packet.
    pub mtu: u16,
    /// `false`: on ordinary pages.
    pub hugepages: bool,
    /// VIPs of these versions of IP.
    pub vips: Vec<Ip>,
    /// The VIPs' protocol: `tcp`, or `any`.
    pub protocol: &'static str,
    /// Memory of the process.
    pub memory_mib: u32,
}

impl Link {
    /// What most cases have; the device is to be filled in.
    pub fn ordinary(case: Case) -> Self {
        Self {
            device: String::new(),
            mtu: 1500,
            hugepages: true,
            vips: vec![case.ip],
            protocol: "tcp",
            memory_mib: memory_mib(case.flows, case.table),
        }
    }
}

/// The text of the configuration of a node of `case` over `link`, with this weight of backend 0.
pub fn configuration_over(link: &Link, case: Case, weight: u16) -> String {
    let mut text = format!(
        r#"[node]
name = "bench"
zone = "bench"

[dpdk]
memory_mib = {memory}
main_core = 0
worker_cores = [{WORKER_CORE}]
hugepages = {hugepages}
idle = "spin"
file_prefix = "weir-bench-{process}"

[conntrack]
flows = {table}

[[port]]
name = "uplink"
device = "{device}"
mac = "{mac}"
mtu = {mtu}
addresses = ["{NODE_ADDRESS}/24", "{NODE_ADDRESS6}/64"]
gateways = ["{ROUTER_ADDRESS}"]
rx_descriptors = {DESCRIPTORS}
tx_descriptors = {DESCRIPTORS}
"#,
        memory = link.memory_mib,
        hugepages = link.hugepages,
        mtu = link.mtu,
        process = std::process::id(),
        table = case.table,
        device = link.device,
        mac = mac_text(NODE_MAC),
    );
    let mut line = |arguments: std::fmt::Arguments<'_>| {
        text.write_fmt(arguments).expect("writing to a String cannot fail");
        text.push('\n');
    };
    let router = mac_text(ROUTER_MAC);
    line(format_args!(
        "neighbors = [\n  {{ address = \"{ROUTER_ADDRESS}\", mac = \"{router}\" }},"
    ));
    for number in (0..case.backends).filter(|_| !case.routed()) {
        let (address, mac) = (case.backend_address(number), mac_text(case.backend_mac(number)));
        line(format_args!("  {{ address = \"{address}\", mac = \"{mac}\" }},"));
    }
    let mode = match case.mode {
        Mode::Ipip => "ipip",
        Mode::Gue => "gue",
    };
    line(format_args!("]\n\n[[pool]]\nid = \"{POOL}\"\nforwarding = \"{mode}\""));
    line(format_args!("hash_secret = \"000102030405060708090a0b0c0d0e0f\""));
    for number in 0..case.backends {
        let (id, address) = (backend_id(number), case.backend_address(number));
        let weight = if number == 0 { weight } else { WEIGHT };
        line(format_args!("  [[pool.backend]]\n  id = \"{id}\"\n  address = \"{address}\""));
        line(format_args!("  weight = {weight}"));
    }
    let protocol = link.protocol;
    for (number, ip) in link.vips.iter().flat_map(|ip| (0..VIPS).map(move |number| (number, *ip))) {
        let address = vip_address(ip, number);
        line(format_args!("\n[[vip]]\naddress = \"{address}\"\nport = {VIP_PORT}"));
        line(format_args!("protocol = \"{protocol}\"\npool = \"{POOL}\""));
    }
    text
}

fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_is_a_valid_configuration() {
        for name in Case::NAMES {
            let case = Case::named(name).unwrap();
            let text = configuration(Path::new("/tmp/source.pcap"), case);
            let loaded = config::Config::parse(&text, "bench").unwrap();
            assert_eq!(loaded.config.vips.len(), VIPS as usize);
            assert_eq!(loaded.config.pools[0].backends.len(), usize::from(case.backends));
            control::node::Node::check(&loaded.config).unwrap();
        }
    }

    #[test]
    fn new_flows_meet_a_table_of_at_most_a_quarter_of_them() {
        let case = Case::named("new").unwrap();
        assert!(case.table * 4 <= case.flows && case.table >= 256 * 1024);
    }
}
