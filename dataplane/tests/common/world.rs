//! Ports, VIPs, pools and backends as plain values, and the tables that follow from them.
//!
//! The control side builds tables of its own; here the outer headers are written byte by byte,
//! so that what the path sends can be judged without it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use conntrack::Timeouts;
use dataplane::quic::{Configuration, Router, ServerId};
use dataplane::second_chance::PreviousOwners;
use dataplane::tables::{
    Affinity, Backend, BackendState, Encapsulation, Forwarding, IcmpOptions, Oversize, Pool,
    PortTable, Tables, Vip,
};
use dataplane::vip::{VipLookup, VipMatch, VipPorts, VipProtocol};
use dataplane::wire::{LinkTags, MacAddress};
use maglev::{FlowHasher, Maglev, Member, Selector};

/// The node's side of both links.
pub(crate) const NODE_MAC: MacAddress = MacAddress([0x02, 0, 0, 0, 0, 0x02]);
/// The gateway's side.
pub(crate) const GATEWAY_MAC: MacAddress = MacAddress([0x02, 0, 0, 0, 0, 0x01]);
/// The node's address on the untagged link.
pub(crate) const NODE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
/// The node's address on the tagged link.
pub(crate) const NODE_TAGGED: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 2);
/// The node's IPv6 address on the untagged link.
pub(crate) const NODE6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, 2);
/// The tag of port 1.
pub(crate) const VLAN: u16 = 100;
/// Longest IP packet of either link.
pub(crate) const MTU: u16 = 1500;
/// Time to live of outer headers.
pub(crate) const OUTER_TTL: u8 = 64;

/// A pool; its index is its place.
#[derive(Clone, Debug)]
pub(crate) struct PoolSpec {
    pub(crate) forwarding: Forwarding,
    /// Host bits of the outer source that flows choose, below 172.16.0.0 or 100::.
    pub(crate) entropy: u32,
    pub(crate) reselect: bool,
    pub(crate) table_size: u32,
}

/// A backend; its index is its place.
#[derive(Clone, Debug)]
pub(crate) struct BackendSpec {
    pub(crate) pool: u32,
    pub(crate) id: String,
    pub(crate) address: IpAddr,
    pub(crate) weight: u32,
    pub(crate) state: BackendState,
    pub(crate) generation: u16,
    pub(crate) port: u8,
    /// Link address of the next hop; `None`: not known.
    pub(crate) mac: Option<MacAddress>,
}

/// A VIP; its index is its place.
#[derive(Clone, Debug)]
pub(crate) struct VipSpec {
    pub(crate) matches: VipMatch,
    pub(crate) pool: u32,
    pub(crate) timeouts: Timeouts,
}

/// Everything.
#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(crate) pools: Vec<PoolSpec>,
    pub(crate) backends: Vec<BackendSpec>,
    pub(crate) vips: Vec<VipSpec>,
}

/// A VIP of one address.
pub(crate) fn vip(address: [u8; 4], ports: VipPorts, protocol: VipProtocol, pool: u32) -> VipSpec {
    let address = IpAddr::from(address);
    let matches = VipMatch { address, prefix_length: 32, ports, protocol };
    VipSpec { matches, pool, timeouts: Timeouts::default() }
}

/// A VIP of one IPv6 address.
pub(crate) fn vip6(address: &str, ports: VipPorts, protocol: VipProtocol, pool: u32) -> VipSpec {
    let address = address.parse().expect("an address");
    let matches = VipMatch { address, prefix_length: 128, ports, protocol };
    VipSpec { matches, pool, timeouts: Timeouts::default() }
}

/// A backend with an IPv6 address, at the untagged link.
pub(crate) fn backend6(pool: u32, id: &str, address: &str) -> BackendSpec {
    let address = address.parse().expect("an address");
    BackendSpec { address, ..backend(pool, id, [0; 4], 0) }
}

/// A backend that is there and reachable.
pub(crate) fn backend(pool: u32, id: &str, address: [u8; 4], port: u8) -> BackendSpec {
    BackendSpec {
        pool,
        id: id.to_owned(),
        address: IpAddr::from(address),
        weight: 100,
        state: BackendState::Active,
        generation: 0,
        port,
        mac: Some(GATEWAY_MAC),
    }
}

/// Gives a VIP an affinity; for [`Affinity::Quic`] its pool reads connection ids, and a server
/// id is a backend's index, in one octet.
pub(crate) fn set_affinity(
    tables: &mut Tables,
    vip: usize,
    affinity: Affinity,
    configurations: &[Configuration],
) {
    let mut vips = tables.vips.to_vec();
    vips[vip].affinity = affinity;
    tables.vips = vips.into();
    if affinity == Affinity::Quic {
        tables.steered = true;
        let servers = (0..tables.backends.len() as u32)
            .map(|index| (ServerId::new(&[index as u8]).expect("an octet"), index));
        let router = Router::new(configurations, servers).expect("a router");
        let pool = tables.vips[vip].pool as usize;
        let pools = Arc::get_mut(&mut tables.pools).expect("tables of nobody else");
        Arc::get_mut(&mut pools[pool]).expect("a pool of nobody else").quic = Some(router);
    }
}

impl World {
    /// The tables of this world.
    pub(crate) fn tables(&self, generation: u64) -> Tables {
        let matches = self.vips.iter().map(|vip| &vip.matches);
        let vip = |vip: &VipSpec| Vip { pool: vip.pool, timeouts: vip.timeouts, ..Vip::default() };
        let vips: Vec<Vip> = self.vips.iter().map(vip).collect();
        let pools: Vec<Arc<Pool>> =
            (0u32..).zip(&self.pools).map(|(i, p)| self.pool(i, p)).collect();
        Tables {
            generation,
            lookup: Arc::new(VipLookup::new((0u32..).zip(matches))),
            vips: vips.into(),
            pools: pools.into(),
            backends: self.backends.iter().map(|backend| self.record(backend)).collect(),
            ports: ports().into(),
            steered: false,
            shortest_idle_ms: self
                .vips
                .iter()
                .map(|vip| vip.timeouts.shortest())
                .min()
                .unwrap_or(u32::MAX),
            fragments: Default::default(),
            clamps: false,
            oversize: Oversize::default(),
            icmp: IcmpOptions::default(),
        }
    }

    fn pool(&self, index: u32, pool: &PoolSpec) -> Arc<Pool> {
        let members: Vec<Member<'_>> = (0u32..)
            .zip(&self.backends)
            .filter(|(_, backend)| backend.pool == index && backend.state == BackendState::Active)
            .map(|(index, backend)| Member { id: &backend.id, index, weight: backend.weight })
            .collect();
        let secret = [index as u8; 16];
        let table = Maglev::build(&members, pool.table_size, secret).expect("a table");
        let hasher = FlowHasher::new(secret);
        // As if the first had been alone before the others came.
        let alone = Maglev::build(members.get(..1).unwrap_or_default(), pool.table_size, secret)
            .expect("a table");
        let previous = match pool.forwarding {
            Forwarding::GueWithHeader => {
                PreviousOwners::after(None, &alone, &table, hasher, |_| true)
            }
            _ => None,
        };
        Arc::new(Pool {
            selector: Selector::Maglev(table),
            hasher,
            reselect: pool.reselect,
            quic: None,
            previous,
        })
    }

    fn record(&self, backend: &BackendSpec) -> Backend {
        let pool = &self.pools[backend.pool as usize];
        let mut link = [backend.mac.unwrap_or_default().0, NODE_MAC.0].concat();
        if backend.port == 1 {
            link.extend([0x81, 0x00]);
            link.extend(VLAN.to_be_bytes());
        }
        let tunnel = pool.forwarding != Forwarding::L2dsr;
        let v6 = tunnel && backend.address.is_ipv6();
        link.extend(if v6 { [0x86, 0xdd] } else { [0x08, 0x00] });
        let link_length = link.len() as u8;
        let mut record = Backend {
            state: backend.state,
            encapsulation: Encapsulation::of(pool.forwarding, backend.address),
            reachable: backend.mac.is_some(),
            port: backend.port,
            link_length,
            next_hop: hop_number(backend.address),
            udp_checksum: is_gue(pool.forwarding) && v6,
            ..Backend::gone(backend.generation)
        };
        let (protocol, shim): (u8, &[u8]) = match pool.forwarding {
            Forwarding::Gre => (47, &[0, 0, 0x08, 0x00]),
            Forwarding::Gue => (17, &[0, 0, 0x17, 0xc0, 0, 0, 0, 0]),
            Forwarding::GueWithHeader => (17, &GUE_WITH_HEADER),
            Forwarding::Ipip | Forwarding::L2dsr => (4, &[]),
        };
        let entropy = if is_gue(pool.forwarding) { 0 } else { pool.entropy };
        if tunnel {
            let outer = match backend.address {
                IpAddr::V4(address) => {
                    let source = match entropy {
                        0 => source_at(backend.port),
                        _ => Ipv4Addr::new(172, 16, 0, 0),
                    };
                    let mut outer = vec![0x45, 0, 0, 0, 0, 0, 0x40, 0, OUTER_TTL, protocol, 0, 0];
                    outer.extend(source.octets());
                    outer.extend(address.octets());
                    record.checksum_base = outer
                        .chunks(2)
                        .map(|word| u32::from(word[0]) << 8 | u32::from(word[1]))
                        .sum();
                    outer
                }
                IpAddr::V6(address) => {
                    let mut outer = vec![0x60, 0, 0, 0, 0, 0, protocol, OUTER_TTL];
                    outer.extend(source6(entropy).octets());
                    outer.extend(address.octets());
                    outer
                }
            };
            link.extend(outer);
            link.extend(shim);
            record.source_entropy = entropy;
        }
        let hop = if pool.forwarding == Forwarding::GueWithHeader { 16 } else { 0 };
        record.inner_mtu = MTU - (link.len() + hop - usize::from(link_length)) as u16;
        record.header_length = link.len() as u8;
        record.header[..link.len()].copy_from_slice(&link);
        record.seal();
        record
    }
}

/// UDP, GUE and its private data, of version 0x07070707.
const GUE_WITH_HEADER: [u8; 20] =
    [0, 0, 0x17, 0xc0, 0, 0, 0, 0, 2, 4, 0, 0, 1, 0, 0, 0, 7, 7, 7, 7];

/// Either variant.
pub(crate) fn is_gue(forwarding: Forwarding) -> bool {
    matches!(forwarding, Forwarding::Gue | Forwarding::GueWithHeader)
}

/// Tells next hops apart: each backend is its own.
fn hop_number(address: IpAddr) -> u32 {
    match address {
        IpAddr::V4(address) => u32::from(address),
        IpAddr::V6(address) => u128::from(address) as u32,
    }
}

/// The outer IPv6 source.
pub(crate) fn source6(entropy: u32) -> Ipv6Addr {
    if entropy == 0 { NODE6 } else { Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 0) }
}

/// The node's own address on a link.
pub(crate) fn source_at(port: u8) -> Ipv4Addr {
    if port == 1 { NODE_TAGGED } else { NODE }
}

/// An untagged link and a tagged one.
fn ports() -> Vec<PortTable> {
    let port = |address, vlan| PortTable {
        mac: NODE_MAC,
        any_mac: false,
        vlan,
        mtu: MTU,
        addresses: vec![(IpAddr::V4(address), 24)],
    };
    let mut untagged = port(NODE, None);
    untagged.addresses.push((IpAddr::V6(NODE6), 64));
    vec![untagged, port(NODE_TAGGED, Some(LinkTags::single(VLAN)))]
}
