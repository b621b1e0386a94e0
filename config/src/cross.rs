//! Checks that need more than one section.
//!
//! They run only on sections that were read without a problem, so that one mistake is not
//! reported twice in two guises. Each check is linear, or takes n log n, in what the file
//! holds: tens of thousands of VIPs are ordinary.

use crate::model::{Dpdk, Forwarding, Port, VipPort};
use crate::overlap::ties;
use crate::report::{Report, quote};
use crate::section::pool::PoolEntry;
use crate::section::port::PortEntry;
use crate::section::vip::VipEntry;
use ipnet::IpNet;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;

/// Ports against each other, and against the number of workers.
pub(crate) fn check_ports(report: &mut Report<'_>, ports: &[PortEntry], dpdk: Option<&Dpdk>) {
    let mut names = HashMap::new();
    let mut devices = HashMap::new();
    let mut addresses = HashMap::new();
    let mut interfaces = HashMap::new();
    for entry in ports {
        let (port, name) = (&entry.port, quote(&entry.port.name));
        if let Some(first) = names.insert(&port.name, entry.line) {
            report.problem(
                entry.line,
                format!(
                    "port {name}: name = {name} is already the name of the port at line {first} \
                     (expected a unique name)"
                ),
            );
        }
        // Arguments follow the first comma: net_tap0,iface=weir0.
        let device = port.device.split(',').next().unwrap_or_default();
        if let Some(first) = devices.insert(device, entry.device_line) {
            report.problem(
                entry.device_line,
                format!(
                    "port {name}: device = {} is already used at line {first} \
                     (expected another device)",
                    quote(device)
                ),
            );
        }
        if let Some(exception) = &port.exception
            && let Some(first) = interfaces.insert(&exception.interface, entry.exception_line)
        {
            report.problem(
                entry.exception_line,
                format!(
                    "port {name}: exception = {} is already used at line {first} (expected another \
                     interface)",
                    quote(&exception.interface)
                ),
            );
        }
        for (net, &line) in port.addresses.iter().zip(&entry.address_lines) {
            if let Some(first) = addresses.insert(net.addr(), line) {
                report.problem(
                    line,
                    format!(
                        "port {name}: addresses: \"{net}\" is already an address at line {first} \
                         (expected each address once)"
                    ),
                );
            }
        }
        let workers = dpdk.map_or(0, |dpdk| dpdk.worker_cores.len());
        let least = workers * usize::from(port.rx_descriptors);
        if let Some(mbufs) = port.mbufs
            && (mbufs as usize) < least
        {
            report.problem(
                entry.mbufs_line,
                format!(
                    "port {name}: mbufs = {mbufs} cannot fill the receive queues (expected at \
                     least {least}: {} rx_descriptors for each of {workers} workers)",
                    port.rx_descriptors
                ),
            );
        }
    }
    warn_of_shared_links(report, ports);
}

fn warn_of_shared_links(report: &mut Report<'_>, ports: &[PortEntry]) {
    for (index, entry) in ports.iter().enumerate() {
        for (net, &line) in entry.port.addresses.iter().zip(&entry.address_lines) {
            let overlaps = |other: &&PortEntry| {
                let others = &other.port.addresses;
                others.iter().any(|other| other.contains(net) || net.contains(other))
            };
            if let Some(other) = ports[..index].iter().find(overlaps) {
                report.warning(
                    line,
                    format!(
                        "port {}: addresses: \"{net}\" overlaps a prefix of port {} at line {}: \
                         which port leads there is ambiguous",
                        quote(&entry.port.name),
                        quote(&other.port.name),
                        other.line
                    ),
                );
            }
        }
    }
}

/// Backends against the ports that lead to them.
pub(crate) fn check_backends(report: &mut Report<'_>, pools: &[PoolEntry], ports: &[PortEntry]) {
    let has_gateway = |is_ipv4: bool| {
        let mut gateways = ports.iter().flat_map(|entry| &entry.port.gateways);
        gateways.any(|gateway| gateway.is_ipv4() == is_ipv4)
    };
    for entry in pools {
        for (backend, &line) in entry.pool.backends.iter().zip(&entry.address_lines) {
            let address = backend.address;
            let label = format!(
                "pool {}: backend {}: address = \"{address}\"",
                quote(&entry.pool.id),
                quote(&backend.id)
            );
            let is_on_link = ports.iter().any(|entry| entry.port.is_on_link(address));
            if let Some(port) = port_with(ports, address) {
                report.problem(
                    line,
                    format!(
                        "{label} is the node's own, of port {} (expected another machine's)",
                        quote(&port.name)
                    ),
                );
            } else if entry.pool.forwarding == Forwarding::L2dsr && !is_on_link {
                report.problem(
                    line,
                    format!(
                        "{label} is not on-link (expected an address in the prefix of a port, as \
                         l2dsr sends frames and does not route)"
                    ),
                );
            } else if !is_on_link && !has_gateway(address.is_ipv4()) {
                let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
                report.warning(
                    line,
                    format!(
                        "{label} cannot be reached: it is not on-link, and no port has an {family} \
                         gateway"
                    ),
                );
            }
        }
    }
}

/// VIPs against each other.
pub(crate) fn check_ties(report: &mut Report<'_>, vips: &[VipEntry]) {
    for tie in ties(vips) {
        let (later, earlier) = (&vips[tie.later], &vips[tie.earlier]);
        let port = match later.vip.port {
            VipPort::Exact(port) => port.to_string(),
            port => format!("\"{port}\""),
        };
        let (what, expected) = if later.vip.port == earlier.vip.port {
            ("is also that", "another port, protocol or address")
        } else {
            ("overlaps that", "ranges that do not intersect")
        };
        report.problem(
            later.port_line,
            format!(
                "vip {}: port = {port} {what} of the vip {} at line {} (expected {expected})",
                later.vip, earlier.vip, earlier.port_line
            ),
        );
    }
}

/// VIPs against the node's own addresses and gateways: the node answers ARP for its VIPs, so
/// a VIP that covers a gateway would take the gateway's traffic away from it.
pub(crate) fn check_vip_addresses(report: &mut Report<'_>, vips: &[VipEntry], ports: &[PortEntry]) {
    let ports = || ports.iter().map(|entry| &entry.port);
    let own = ports().flat_map(|port| port.addresses.iter().map(move |net| (net.addr(), port)));
    let gateways = ports().flat_map(|port| port.gateways.iter().map(move |&at| (at, port)));
    let taken: Vec<_> = own
        .map(|(address, port)| (address, port, "the node's own address"))
        .chain(gateways.map(|(address, port)| (address, port, "the gateway")))
        .collect();
    for entry in vips {
        let found = taken.iter().find(|(address, ..)| entry.vip.address.contains(address));
        if let Some((address, port, what)) = found {
            report.problem(
                entry.address_line,
                format!(
                    "vip {}: address covers {what} {address} of port {} (expected addresses \
                     that no machine has)",
                    entry.vip,
                    quote(&port.name)
                ),
            );
        }
    }
}

/// Backends against VIPs: what is sent to a backend inside a VIP would come back here.
pub(crate) fn check_backends_outside_vips(
    report: &mut Report<'_>,
    pools: &[PoolEntry],
    vips: &[VipEntry],
) {
    let mut lines = HashMap::new();
    for entry in vips {
        lines.entry(entry.vip.address).or_insert(entry.address_line);
    }
    let lengths: BTreeSet<u8> = lines.keys().map(IpNet::prefix_len).collect();
    for entry in pools {
        for (backend, &line) in entry.pool.backends.iter().zip(&entry.address_lines) {
            let prefixes = lengths.iter().rev();
            let covering = prefixes
                .filter_map(|&length| IpNet::new(backend.address, length).ok())
                .find_map(|net| lines.get_key_value(&net.trunc()));
            if let Some((net, vip_line)) = covering {
                report.problem(
                    line,
                    format!(
                        "pool {}: backend {}: address = \"{}\" is inside the vip {net} at line \
                         {vip_line} (expected an address that no vip covers)",
                        quote(&entry.pool.id),
                        quote(&backend.id),
                        backend.address
                    ),
                );
            }
        }
    }
}

/// Every VIP names a pool of the file. `pool_ids` holds the ids of all `[[pool]]` tables,
/// those with problems too.
pub(crate) fn check_pool_names(
    report: &mut Report<'_>,
    vips: &[VipEntry],
    pool_ids: &HashSet<String>,
) {
    // One name for each suggestion, and not many: the search takes as long as there are pools.
    const MOST_SUGGESTIONS: usize = 100;
    let mut suggestions: HashMap<&str, String> = HashMap::new();
    for entry in vips.iter().filter(|entry| !pool_ids.contains(&entry.vip.pool)) {
        let name = entry.vip.pool.as_str();
        if suggestions.len() < MOST_SUGGESTIONS && !suggestions.contains_key(name) {
            suggestions.insert(name, nearest_pool(pool_ids, name));
        }
        let nearest = suggestions.get(name).map_or("", String::as_str);
        report.problem(
            entry.pool_line,
            format!(
                "vip {}: pool = {} is not known (expected the id of a [[pool]]{nearest})",
                entry.vip,
                quote(name)
            ),
        );
    }
}

/// `; nearest is "web"`. Ties go to the first in the alphabet, so that the message is always
/// the same.
fn nearest_pool(pool_ids: &HashSet<String>, name: &str) -> String {
    let name: String = name.chars().take(64).collect();
    let distance = |id: &&String| (strsim::damerau_levenshtein(id, &name), (*id).clone());
    match pool_ids.iter().min_by_key(distance) {
        Some(nearest) => format!("; nearest is {}", quote(nearest)),
        None => ", and there is none".to_owned(),
    }
}

/// Pools that serve nobody, and VIPs that nobody serves.
pub(crate) fn warn_of_idle_ends(report: &mut Report<'_>, pools: &[PoolEntry], vips: &[VipEntry]) {
    let used: HashSet<&str> = vips.iter().map(|entry| entry.vip.pool.as_str()).collect();
    for PoolEntry { pool, line, .. } in pools {
        if !used.contains(pool.id.as_str()) {
            report.warning(*line, format!("pool {}: no vip uses it", quote(&pool.id)));
        } else if !pool.backends.iter().any(|backend| backend.takes_new_flows()) {
            report.warning(
                *line,
                format!(
                    "pool {}: has vips, and no backend that takes new flows (one active with a \
                     weight above 0)",
                    quote(&pool.id)
                ),
            );
        }
    }
    if vips.is_empty() {
        report.warning(1, "no [[vip]]: the node forwards nothing".to_owned());
    }
}

fn port_with(ports: &[PortEntry], address: IpAddr) -> Option<&Port> {
    let mut ports = ports.iter().map(|entry| &entry.port);
    ports.find(|port| port.addresses.iter().any(|net| net.addr() == address))
}
