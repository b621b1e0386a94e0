//! The node's own side of its links: from the configuration, and what the started devices know, to
//! what tables are built with. Nothing here changes while the node runs, but for
//! `[encapsulation]`, `[icmp]` and `[fragments]`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use config::{Config, EarlyFragments, OuterVlan, VlanProtocol};
use dataplane::fragment::{Early, FragmentOptions};
use dataplane::neighbour::NextHop;
use dataplane::tables::{IcmpOptions, Oversize, PortTable};
use dataplane::wire::{EtherType, LinkTags, MacAddress, ndp};

use crate::assemble::NodeLinks;
use crate::outer::OuterOptions;

/// What only the started device knows of a port.
#[derive(Clone, Copy, Debug)]
pub struct PortFacts {
    /// The address in force.
    pub mac: MacAddress,
    /// Frames to any unicast address are taken.
    pub any_mac: bool,
}

/// Next hops whose link address the file gives.
pub(crate) fn static_neighbours(config: &Config) -> BTreeMap<NextHop, MacAddress> {
    let mut fixed = BTreeMap::new();
    for (port, settings) in (0u8..).zip(&config.ports) {
        for neighbour in &settings.neighbors {
            let hop = NextHop { port, address: neighbour.address };
            fixed.insert(hop, MacAddress(neighbour.mac.octets()));
        }
    }
    fixed
}

/// How outer headers look, as the file says.
pub(crate) fn outer_options(config: &Config) -> OuterOptions {
    let encapsulation = &config.encapsulation;
    OuterOptions {
        source_v4: encapsulation.source_v4,
        source_v6: encapsulation.source_v6,
        entropy_v4: encapsulation.source_entropy_v4.map(|net| (net.addr(), net.prefix_len())),
        entropy_v6: encapsulation.source_entropy_v6.map(|net| (net.addr(), net.prefix_len())),
        dont_fragment: encapsulation.dont_fragment,
        time_to_live: encapsulation.outer_ttl,
        gue_port: encapsulation.gue_port,
        gue_checksum_v6: encapsulation.gue_checksum_v6,
        oversize: match encapsulation.oversize {
            config::Oversize::Fragment => Oversize::Fragment,
            config::Oversize::Drop => Oversize::Drop,
        },
        icmp: IcmpOptions {
            delivered_per_second: config.icmp.delivered_per_second,
            sent_per_second: config.icmp.sent_per_second,
            sent_per_prefix: config.icmp.sent_per_prefix,
            port_unreachable: config.icmp.port_unreachable,
            gue_port: encapsulation.gue_port,
        },
    }
}

/// How fragments are dealt with, as the file says.
pub(crate) fn fragment_options(config: &Config) -> FragmentOptions {
    let fragments = &config.fragments;
    FragmentOptions {
        early: match fragments.early {
            EarlyFragments::Wait => Early::Wait,
            EarlyFragments::Hash => Early::Hash,
        },
        wait_ms: fragments.wait_ms,
        timeout_ms: fragments.timeout_ms,
    }
}

/// The node's links: what the file says, and what the devices know.
pub(crate) fn node_links(config: &Config, facts: &[PortFacts]) -> NodeLinks {
    let ports = config
        .ports
        .iter()
        .zip(facts)
        .map(|(port, facts)| {
            let mac = port.mac.map_or(facts.mac, |mac| MacAddress(mac.octets()));
            PortTable {
                mac,
                any_mac: facts.any_mac && port.mac.is_none(),
                vlan: port.vlan.map(|vlan| link_tags(vlan, port.outer_vlan)),
                mtu: port.mtu,
                addresses: addresses(port, mac),
            }
        })
        .collect();
    let gateways = config.ports.iter().map(|port| port.gateways.clone()).collect();
    let (outer, fragments) = (outer_options(config), fragment_options(config));
    NodeLinks { ports, gateways, outer, fragments }
}

fn link_tags(vlan: u16, outer: Option<OuterVlan>) -> LinkTags {
    let outer = outer.map(|OuterVlan { identifier, protocol }| match protocol {
        VlanProtocol::Ieee8021ad => (EtherType::QINQ, identifier),
        VlanProtocol::Ieee8021q => (EtherType::VLAN, identifier),
    });
    LinkTags { vlan, outer }
}

/// A port's own addresses. One that speaks IPv6 has a link-local address, too (RFC 4291 section
/// 2.1): to speak from to a gateway that has no other.
fn addresses(port: &config::Port, mac: MacAddress) -> Vec<(IpAddr, u8)> {
    let mut addresses: Vec<(IpAddr, u8)> =
        port.addresses.iter().map(|net| (net.addr(), net.prefix_len())).collect();
    let local = |address: IpAddr| matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
    let has_one = port.addresses.iter().any(|net| local(net.addr()));
    if port.speaks_ipv6() && !has_one {
        addresses.push((ndp::link_local(mac).into(), LINK_LOCAL_PREFIX));
    }
    addresses
}

/// fe80::/10 is on every link (RFC 4861 section 2.1).
const LINK_LOCAL_PREFIX: u8 = 10;
