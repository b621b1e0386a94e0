//! The node under test: 1,000 VIPs on one pool of 100 backends, all on-link and all known.
//!
//! It is written as the text of a configuration file and read by the same code as an operator's,
//! so that what is measured is a node that could be run.

use std::fmt::Write;
use std::net::Ipv4Addr;
use std::path::Path;

use crate::flows::{VIP_PORT, VIPS, vip_address};

/// Backends of the pool.
pub const BACKENDS: u8 = 100;
/// The pool's name.
pub const POOL: &str = "bench";
/// The node's MAC address: what frames of the source are addressed to.
pub const NODE_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x01];
/// Where frames of the source come from.
pub const ROUTER_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0xfe];
/// The node's address: the outer source.
pub const NODE_ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

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
}

impl Case {
    /// The case called `hit_4k`, `hit_1m` or `new`.
    pub fn named(name: &str) -> Option<Self> {
        // With few flows a table of 16 times as many: the default one, of 2 M, would spread them
        // over 500 times the memory, and the case would measure the TLB. With many the default;
        // and for new flows a quarter of them, so that each is long evicted when its next SYN comes.
        const TABLE: u32 = 2_000_000;
        Some(match name {
            "hit_4k" => Self { new_flows: false, flows: 1 << 12, table: 1 << 16 },
            "hit_1m" => Self { new_flows: false, flows: 1 << 20, table: TABLE },
            "new" => Self { new_flows: true, flows: 1 << 20, table: 1 << 18 },
            _ => return None,
        })
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
    // channels, and 66 bytes a slot at 90 % load.
    let bytes = u64::from(mbufs(flows)) * 2_500 + u64::from(table) * 74;
    (bytes >> 20) as u32 + 128
}

/// The source as a DPDK device string.
pub fn device(source: &Path) -> String {
    format!("net_pcap0,rx_pcap={},infinite_rx=1", source.display())
}

/// The address of backend `number`.
pub fn backend_address(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 0, 2, 101 + number)
}

/// Its MAC address.
pub fn backend_mac(number: u8) -> [u8; 6] {
    [0x02, 0, 0, 0, 1, number]
}

/// Its id.
pub fn backend_id(number: u8) -> String {
    format!("host-{number}")
}

/// The text of the node's configuration.
pub fn configuration(source: &Path, case: Case) -> String {
    let mut text = format!(
        r#"[node]
name = "bench"
zone = "bench"

[dpdk]
memory_mib = {memory}
main_core = 0
worker_cores = [{WORKER_CORE}]
idle = "spin"
file_prefix = "weir-bench-{process}"

[conntrack]
flows = {table}

[[port]]
name = "uplink"
device = "{device}"
mac = "{mac}"
addresses = ["{NODE_ADDRESS}/24"]
rx_descriptors = {DESCRIPTORS}
tx_descriptors = {DESCRIPTORS}
"#,
        memory = memory_mib(case.flows, case.table),
        process = std::process::id(),
        table = case.table,
        device = device(source),
        mac = mac_text(NODE_MAC),
    );
    let mut line = |arguments: std::fmt::Arguments<'_>| {
        text.write_fmt(arguments).expect("writing to a String cannot fail");
        text.push('\n');
    };
    line(format_args!("neighbors = ["));
    for number in 0..BACKENDS {
        let (address, mac) = (backend_address(number), mac_text(backend_mac(number)));
        line(format_args!("  {{ address = \"{address}\", mac = \"{mac}\" }},"));
    }
    line(format_args!("]\n\n[[pool]]\nid = \"{POOL}\"\nforwarding = \"ipip\""));
    line(format_args!("hash_secret = \"000102030405060708090a0b0c0d0e0f\""));
    for number in 0..BACKENDS {
        let (id, address) = (backend_id(number), backend_address(number));
        line(format_args!("  [[pool.backend]]\n  id = \"{id}\"\n  address = \"{address}\""));
    }
    for number in 0..VIPS {
        let address = vip_address(number);
        line(format_args!("\n[[vip]]\naddress = \"{address}\"\nport = {VIP_PORT}"));
        line(format_args!("protocol = \"tcp\"\npool = \"{POOL}\""));
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
        for name in ["hit_4k", "hit_1m", "new"] {
            let case = Case::named(name).unwrap();
            let text = configuration(Path::new("/tmp/source.pcap"), case);
            let loaded = config::Config::parse(&text, "bench").unwrap();
            assert_eq!(loaded.config.vips.len(), VIPS as usize);
            assert_eq!(loaded.config.pools[0].backends.len(), usize::from(BACKENDS));
            control::node::Node::check(&loaded.config).unwrap();
        }
    }

    #[test]
    fn new_flows_meet_a_table_of_at_most_a_quarter_of_them() {
        let case = Case::named("new").unwrap();
        assert!(case.table * 4 <= case.flows && case.table >= 256 * 1024);
    }
}
