//! What a reload cannot change.
//!
//! `[node]`, `[dpdk]`, `[[port]]` and `[conntrack]` shape the process itself: memory, cores,
//! devices, tables. `[controller]` says who describes the pools; to change that while packets
//! flow would empty them first. The rest is re-read while packets flow. The structs are taken apart
//! field by field, so that a new field cannot be forgotten here.

use crate::model::{
    ClientTls, Config, Conntrack, ControllerClient, ControllerConfig, Dpdk, Node, Port,
};

impl Config {
    /// The keys that differ between the running configuration `self` and `other`, and that
    /// only a restart can change, such as `[dpdk] memory_mib` and `port "uplink": mtu`; in
    /// the order of the documentation. Empty: `other` can be loaded while packets flow.
    pub fn restart_required(&self, other: &Config) -> Vec<String> {
        let Config {
            node,
            dpdk,
            ports,
            conntrack,
            controller,
            encapsulation: _,
            icmp: _,
            fragments: _,
            pools: _,
            vips: _,
        } = self;
        let mut changed = Vec::new();
        compare_node(node, &other.node, &mut changed);
        compare_dpdk(dpdk, &other.dpdk, &mut changed);
        compare_ports(ports, &other.ports, &mut changed);
        let Conntrack { flows } = conntrack;
        note(*flows == other.conntrack.flows, "[conntrack] flows", &mut changed);
        compare_controller(controller.as_ref(), other.controller.as_ref(), &mut changed);
        changed
    }
}

impl ControllerConfig {
    /// The sections that differ between the running configuration `self` and `other`, and that
    /// only a restart can change: all but `[[access]]`.
    pub fn restart_required(&self, other: &ControllerConfig) -> Vec<String> {
        let ControllerConfig { controller, registry, tls, limits, fleet, access: _ } = self;
        let mut changed = Vec::new();
        note(*controller == other.controller, "[controller]", &mut changed);
        note(*registry == other.registry, "[registry]", &mut changed);
        note(*tls == other.tls, "[tls]", &mut changed);
        note(*limits == other.limits, "[limits]", &mut changed);
        note(*fleet == other.fleet, "[fleet]", &mut changed);
        changed
    }
}

fn compare_node(running: &Node, other: &Node, changed: &mut Vec<String>) {
    let Node { name, zone, admin, admin_token_file, state_dir } = running;
    note(*name == other.name, "[node] name", changed);
    note(*zone == other.zone, "[node] zone", changed);
    note(*admin == other.admin, "[node] admin", changed);
    let same = *admin_token_file == other.admin_token_file;
    note(same, "[node] admin_token_file", changed);
    note(*state_dir == other.state_dir, "[node] state_dir", changed);
}

fn compare_dpdk(running: &Dpdk, other: &Dpdk, changed: &mut Vec<String>) {
    let Dpdk {
        memory_mib,
        hugepages,
        main_core,
        worker_cores,
        eal_args,
        idle,
        file_prefix,
        fewer_queues,
    } = running;
    note(*memory_mib == other.memory_mib, "[dpdk] memory_mib", changed);
    note(*hugepages == other.hugepages, "[dpdk] hugepages", changed);
    note(*main_core == other.main_core, "[dpdk] main_core", changed);
    note(*worker_cores == other.worker_cores, "[dpdk] worker_cores", changed);
    note(*idle == other.idle, "[dpdk] idle", changed);
    note(*fewer_queues == other.fewer_queues, "[dpdk] fewer_queues", changed);
    note(*file_prefix == other.file_prefix, "[dpdk] file_prefix", changed);
    note(*eal_args == other.eal_args, "[dpdk] eal_args", changed);
}

/// Ports are known by their names; one that is renamed is gone, and a new one is there.
fn compare_ports(running: &[Port], other: &[Port], changed: &mut Vec<String>) {
    for port in running {
        match other.iter().find(|candidate| candidate.name == port.name) {
            Some(candidate) => compare_port(port, candidate, changed),
            None => changed.push(format!("port \"{}\": removed", port.name)),
        }
    }
    for port in other.iter().filter(|port| !running.iter().any(|old| old.name == port.name)) {
        changed.push(format!("port \"{}\": added", port.name));
    }
    let kept = |ports: &[Port], others: &[Port]| -> Vec<String> {
        let names = ports.iter().map(|port| port.name.clone());
        names.filter(|name| others.iter().any(|other| other.name == *name)).collect()
    };
    note(kept(running, other) == kept(other, running), "[[port]]: order", changed);
}

fn compare_port(running: &Port, other: &Port, changed: &mut Vec<String>) {
    let Port {
        name,
        device,
        mtu,
        mac,
        vlan,
        outer_vlan,
        addresses,
        gateways,
        neighbors,
        rx_descriptors,
        tx_descriptors,
        mbufs,
        checksum_offload,
        exception,
    } = running;
    let mut note = |same, key| note(same, &format!("port \"{name}\": {key}"), changed);
    note(*device == other.device, "device");
    note(*addresses == other.addresses, "addresses");
    note(*gateways == other.gateways, "gateways");
    note(*neighbors == other.neighbors, "neighbors");
    note(*mtu == other.mtu, "mtu");
    note(*mac == other.mac, "mac");
    note(*vlan == other.vlan, "vlan");
    note(*outer_vlan == other.outer_vlan, "outer_vlan");
    note(*rx_descriptors == other.rx_descriptors, "rx_descriptors");
    note(*tx_descriptors == other.tx_descriptors, "tx_descriptors");
    note(*mbufs == other.mbufs, "mbufs");
    note(*checksum_offload == other.checksum_offload, "checksum_offload");
    note(*exception == other.exception, "exception");
}

fn compare_controller(
    running: Option<&ControllerClient>,
    other: Option<&ControllerClient>,
    changed: &mut Vec<String>,
) {
    let (running, other) = match (running, other) {
        (Some(running), Some(other)) => (running, other),
        (None, None) => return,
        (None, Some(_)) => return changed.push("[controller]: added".to_owned()),
        (Some(_), None) => return changed.push("[controller]: removed".to_owned()),
    };
    let ControllerClient { endpoints, tls, token_file } = running;
    note(*endpoints == other.endpoints, "[controller] endpoints", changed);
    if let (Some(tls), Some(other)) = (tls, &other.tls) {
        let ClientTls { ca, identity, server_name } = tls;
        note(*ca == other.ca, "[controller] ca", changed);
        note(*identity == other.identity, "[controller] certificate, key", changed);
        note(*server_name == other.server_name, "[controller] server_name", changed);
    }
    note(*token_file == other.token_file, "[controller] token_file", changed);
}

fn note(same: bool, key: &str, changed: &mut Vec<String>) {
    if !same {
        changed.push(key.to_owned());
    }
}
