//! From pool snapshots to tables: the one way in.
//!
//! [`Assembler::assemble`] builds a whole `Tables` from the set of snapshots, the node's links and
//! what is known of the neighbours. It remembers two things between builds: which index belongs
//! to which VIP and backend (an index is what conntrack entries and counters hold), and finished
//! pools ([`crate::build`]), so that a learned neighbour does not cost a table build.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use conntrack::Timeouts;
use dataplane::counters::{MAX_BACKENDS, MAX_VIPS};
use dataplane::neighbour::{Neighbours, NextHop};
use dataplane::tables::{Backend, Forwarding, MAX_HEADER, Pool, PortTable, Tables, Vip};
use dataplane::vip::VipLookup;
use dataplane::wire::{EtherType, EthernetHeader, IpProtocol, Ipv4Header, MacAddress, VlanTag};
use thiserror::Error;

use crate::build::{BuiltPools, PoolBuilder};
use crate::indices::Indices;
use crate::snapshot::PoolSnapshot;

/// The node's own side, which snapshots do not change.
#[derive(Clone, Debug)]
pub struct NodeLinks {
    /// By port index.
    pub ports: Vec<PortTable>,
    /// By port index: next hops for what is not on-link, in order of preference.
    pub gateways: Vec<Vec<Ipv4Addr>>,
    /// How outer headers look.
    pub outer: OuterOptions,
}

/// How outer headers look.
#[derive(Clone, Copy, Debug)]
pub struct OuterOptions {
    /// Outer source; `None`: the port's own address.
    pub source: Option<Ipv4Addr>,
    /// Prefix and its length from which flows draw the outer source.
    pub entropy: Option<(Ipv4Addr, u8)>,
    /// DF in the outer header.
    pub dont_fragment: bool,
    /// TTL of the outer header.
    pub time_to_live: u8,
}

/// Why no tables could be built; the old ones stay in force.
#[derive(Debug, Error)]
pub enum AssembleError {
    /// A pool's table cannot be built.
    #[error("pool \"{pool}\": {source}")]
    Pool {
        /// The pool.
        pool: String,
        /// What is wrong with it.
        source: maglev::Error,
    },
    /// More VIPs or backends than there are indices.
    #[error("{found} {what} are more than the {limit} a node can have")]
    TooMany {
        /// `VIPs` or `backends`.
        what: &'static str,
        /// How many there are.
        found: usize,
        /// How many there can be.
        limit: usize,
    },
}

/// Builds tables; see the module.
#[derive(Debug)]
pub struct Assembler {
    links: NodeLinks,
    vips: Indices<String>,
    pools: PoolBuilder,
    /// By VIP index, those that are gone included: their flows idle out as they were promised.
    timeouts: Vec<Timeouts>,
    generation: u64,
}

/// A build: the tables, and the next hops they need.
#[derive(Debug)]
pub struct Assembled {
    /// For the workers.
    pub tables: Tables,
    /// For the neighbour table, without static ones.
    pub next_hops: Vec<NextHop>,
}

impl Assembler {
    /// An assembler that has built nothing yet.
    pub fn new(links: NodeLinks) -> Self {
        Self {
            links,
            vips: Indices::new(MAX_VIPS as u32),
            pools: PoolBuilder::new(MAX_BACKENDS as u32),
            timeouts: Vec::new(),
            generation: 0,
        }
    }

    /// The node's links, as given.
    pub fn links(&self) -> &NodeLinks {
        &self.links
    }

    /// Other outer headers from the next build on.
    pub fn set_outer(&mut self, outer: OuterOptions) {
        self.links.outer = outer;
    }

    /// The name of a VIP by its index.
    pub fn vip_name(&self, index: u32) -> Option<&str> {
        self.vips.key(index).map(String::as_str)
    }

    /// Pool and id of a backend by its index.
    pub fn backend_name(&self, index: u32) -> Option<(&str, &str)> {
        self.pools.backends().key(index).map(|(pool, id)| (pool.as_str(), id.as_str()))
    }

    /// The index of a VIP by its name.
    pub fn vip_index(&self, name: &str) -> Option<u32> {
        self.vips.index(&name.to_owned())
    }

    /// The index of a backend.
    pub fn backend_index(&self, pool: &str, id: &str) -> Option<u32> {
        self.pools.backends().index(&(pool.to_owned(), id.to_owned()))
    }

    /// All VIPs with their indices.
    pub fn vip_names(&self) -> impl Iterator<Item = (u32, &str)> {
        self.vips.iter().map(|(index, name)| (index, name.as_str()))
    }

    /// All backends with their indices: pool, id.
    pub fn backend_names(&self) -> impl Iterator<Item = (u32, &str, &str)> {
        let backends = self.pools.backends().iter();
        backends.map(|(index, (pool, id))| (index, pool.as_str(), id.as_str()))
    }

    /// The pool of that name as built last.
    pub fn pool(&self, id: &str) -> Option<&Arc<Pool>> {
        self.pools.pool(id)
    }

    /// What it takes to build pools, apart from this assembler: a copy of names and shared tables,
    /// for a build on another thread.
    pub fn pool_builder(&self) -> PoolBuilder {
        self.pools.clone()
    }

    /// Builds tables from all snapshots.
    ///
    /// # Errors
    /// When a pool cannot be built, or there are too many VIPs or backends; nothing has changed
    /// then.
    pub fn assemble<'a>(
        &mut self,
        snapshots: impl IntoIterator<Item = &'a PoolSnapshot>,
        neighbours: &Neighbours,
    ) -> Result<Assembled, AssembleError> {
        let snapshots: Vec<&PoolSnapshot> = snapshots.into_iter().collect();
        let built = self.pools.clone().build(snapshots.iter().copied())?;
        Ok(self.assemble_built(&snapshots, built, neighbours))
    }

    /// Builds tables from pools that were built before, of the same `snapshots`.
    pub fn assemble_built(
        &mut self,
        snapshots: &[&PoolSnapshot],
        built: BuiltPools,
        neighbours: &Neighbours,
    ) -> Assembled {
        self.pools = built.into_builder();
        let pools: Vec<_> = snapshots
            .iter()
            .filter_map(|snapshot| self.pools.pool(&snapshot.pool_id).map(Arc::clone))
            .collect();
        self.vips.retain_or_insert(
            snapshots.iter().flat_map(|snapshot| snapshot.vips.iter().map(|vip| vip.name())),
        );
        self.generation += 1;

        let (lookup, vips) = self.vip_tables(snapshots);
        let mut next_hops = Vec::new();
        let backends = self.backend_table(snapshots, neighbours, &mut next_hops);
        for (port, gateways) in (0u8..).zip(&self.links.gateways) {
            next_hops.extend(gateways.iter().map(|address| NextHop { port, address: *address }));
        }
        next_hops.sort_unstable();
        next_hops.dedup();
        let tables = Tables {
            generation: self.generation,
            lookup: Arc::new(lookup),
            vips: vips.into(),
            pools: pools.into(),
            backends,
            ports: self.links.ports.clone().into(),
        };
        Assembled { tables, next_hops }
    }

    fn vip_tables(&mut self, snapshots: &[&PoolSnapshot]) -> (VipLookup, Vec<Vip>) {
        self.timeouts.resize(self.vips.end(), Timeouts::default());
        let gone = |timeouts: &Timeouts| Vip { pool: u32::MAX, timeouts: *timeouts };
        let mut vips: Vec<Vip> = self.timeouts.iter().map(gone).collect();
        let mut matches = Vec::new();
        for (pool, snapshot) in (0u32..).zip(snapshots) {
            for binding in &snapshot.vips {
                let Some(index) = self.vips.index(&binding.name()) else { continue };
                if let Some(vip) = vips.get_mut(index as usize) {
                    *vip = Vip { pool, timeouts: binding.timeouts };
                }
                matches.push((index, &binding.matches));
            }
        }
        for (kept, vip) in self.timeouts.iter_mut().zip(&vips) {
            *kept = vip.timeouts;
        }
        (VipLookup::new(matches), vips)
    }

    fn backend_table(
        &self,
        snapshots: &[&PoolSnapshot],
        neighbours: &Neighbours,
        next_hops: &mut Vec<NextHop>,
    ) -> Box<[Backend]> {
        let indices = self.pools.backends();
        let mut table: Vec<Backend> = (0..indices.end() as u32)
            .map(|index| Backend::gone(indices.generation(index)))
            .collect();
        let mut hop_numbers: BTreeMap<NextHop, u32> = BTreeMap::new();
        for snapshot in snapshots {
            for backend in &snapshot.backends {
                let key = (snapshot.pool_id.clone(), backend.id.clone());
                let Some(index) = indices.index(&key) else { continue };
                let Some(place) = table.get_mut(index as usize) else { continue };
                place.state = backend.state;
                place.forwarding = snapshot.settings.forwarding;
                let IpAddr::V4(address) = backend.address else { continue };
                let Some(hop) = self.links.next_hop(address, neighbours) else { continue };
                let numbers = hop_numbers.len() as u32;
                place.next_hop = *hop_numbers.entry(hop).or_insert(numbers);
                next_hops.push(hop);
                self.links.write_header(place, hop, address, neighbours.mac(hop));
            }
        }
        table.into_boxed_slice()
    }
}

impl NodeLinks {
    /// Where a packet to `address` goes first: itself where it is on-link, else the first
    /// gateway that answers, else the first there is.
    pub fn next_hop(&self, address: Ipv4Addr, neighbours: &Neighbours) -> Option<NextHop> {
        let ports = (0u8..).zip(&self.ports);
        if let Some((port, _)) = ports.clone().find(|(_, port)| port.is_on_link(address)) {
            return Some(NextHop { port, address });
        }
        let mut gateways = (0u8..).zip(&self.gateways).flat_map(|(port, gateways)| {
            gateways.iter().map(move |address| NextHop { port, address: *address })
        });
        let first = gateways.clone().next();
        gateways.find(|hop| neighbours.mac(*hop).is_some()).or(first)
    }

    /// Fills in everything of `place` that depends on the way to `address`.
    fn write_header(
        &self,
        place: &mut Backend,
        hop: NextHop,
        address: Ipv4Addr,
        mac: Option<MacAddress>,
    ) {
        let Some(port) = self.ports.get(usize::from(hop.port)) else { return };
        place.port = hop.port;
        place.reachable = mac.is_some();
        let mut header = Vec::with_capacity(MAX_HEADER);
        header.extend_from_slice(&mac.unwrap_or_default().0);
        header.extend_from_slice(&port.mac.0);
        if let Some(identifier) = port.vlan {
            header.extend_from_slice(&EtherType::VLAN.number().to_be_bytes());
            let tag = VlanTag::new(identifier, EtherType::IPV4);
            header.extend_from_slice(&tag.tag_control_information.get().to_be_bytes());
        }
        header.extend_from_slice(&EtherType::IPV4.number().to_be_bytes());
        debug_assert!(header.len() >= EthernetHeader::LENGTH);
        place.link_length = header.len() as u8;
        match place.forwarding {
            Forwarding::L2dsr => place.inner_mtu = port.mtu,
            Forwarding::Ipip => {
                place.inner_mtu = port.mtu.saturating_sub(Ipv4Header::LENGTH as u16);
                let (outer, entropy) = self.outer_header(port, hop, address);
                place.source_entropy = entropy;
                place.checksum_base = word_sum(zerocopy::IntoBytes::as_bytes(&outer));
                header.extend_from_slice(zerocopy::IntoBytes::as_bytes(&outer));
            }
        }
        place.header_length = header.len() as u8;
        for (to, from) in place.header.iter_mut().zip(header) {
            *to = from;
        }
    }

    /// The outer header with everything that is set per packet left zero, and the bits of its
    /// source that come from the flow.
    fn outer_header(&self, port: &PortTable, hop: NextHop, address: Ipv4Addr) -> (Ipv4Header, u32) {
        let (source, entropy) = match self.outer.entropy {
            Some((prefix, length)) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
                (Ipv4Addr::from(u32::from(prefix) & mask), !mask)
            }
            None => {
                let own = self.outer.source.or_else(|| port.source_for(hop.address));
                (own.unwrap_or(Ipv4Addr::UNSPECIFIED), 0)
            }
        };
        let mut outer = Ipv4Header::build(source, address, IpProtocol::IPV4, 0);
        outer.set_dont_fragment(self.outer.dont_fragment);
        outer.time_to_live = self.outer.time_to_live;
        outer.header_checksum = 0.into();
        (outer, entropy)
    }
}

/// The sum of the 16-bit words of a header of even length.
fn word_sum(header: &[u8]) -> u32 {
    header.chunks_exact(2).map(|word| u32::from(word[0]) << 8 | u32::from(word[1])).sum()
}
