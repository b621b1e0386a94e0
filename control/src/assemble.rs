//! From pool snapshots to tables: the one way in.
//!
//! [`Assembler::assemble`] builds a whole `Tables` from the set of snapshots, the node's links and
//! what is known of the neighbours. It remembers two things between builds: which index belongs
//! to which VIP and backend (an index is what conntrack entries and counters hold), and finished
//! pools ([`crate::build`]), so that a learned neighbour does not cost a table build.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use conntrack::Timeouts;
use dataplane::counters::{MAX_BACKENDS, MAX_VIPS};
use dataplane::fragment::FragmentOptions;
use dataplane::neighbour::{Neighbours, NextHop};
use dataplane::quic::ConfigurationError;
use dataplane::tables::{
    Affinity, Backend, Encapsulation, MssClamp, NO_ROUTE, Pool, PortTable, Tables, Vip,
};
use dataplane::vip::VipLookup;
use thiserror::Error;

use crate::build::{BuiltPools, PoolBuilder};
use crate::indices::Indices;
use crate::outer::{self, Mode, OuterOptions, Way};
use crate::snapshot::{PoolSnapshot, VipBinding};

/// The node's own side, which snapshots do not change.
#[derive(Clone, Debug)]
pub struct NodeLinks {
    /// By port index.
    pub ports: Vec<PortTable>,
    /// By port index: next hops for what is not on-link, in order of preference.
    pub gateways: Vec<Vec<IpAddr>>,
    /// How outer headers look.
    pub outer: OuterOptions,
    /// How fragments are dealt with.
    pub fragments: FragmentOptions,
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
    /// A pool's connection ids cannot be read.
    #[error("pool \"{pool}\": quic: {source}")]
    Quic {
        /// The pool.
        pool: String,
        /// What is wrong with its configurations.
        source: ConfigurationError,
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

    /// Fragments are dealt with otherwise from the next build on.
    pub fn set_fragments(&mut self, fragments: FragmentOptions) {
        self.links.fragments = fragments;
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
        let idle_times = snapshots.iter().flat_map(|snapshot| &snapshot.vips);
        let shortest_idle = idle_times.map(|vip| vip.timeouts.shortest()).min();
        let tables = Tables {
            generation: self.generation,
            shortest_idle_ms: shortest_idle.unwrap_or(u32::MAX),
            fragments: self.links.fragments,
            steered: vips.iter().any(|vip| vip.affinity == Affinity::Quic),
            clamps: vips.iter().any(|vip| vip.mss_clamp != MssClamp::Off),
            oversize: self.links.outer.oversize,
            icmp: self.links.outer.icmp,
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
        let gone =
            |timeouts: &Timeouts| Vip { pool: u32::MAX, timeouts: *timeouts, ..Vip::default() };
        let mut vips: Vec<Vip> = self.timeouts.iter().map(gone).collect();
        let mut matches = Vec::new();
        for (pool, snapshot) in (0u32..).zip(snapshots) {
            for binding in &snapshot.vips {
                let Some(index) = self.vips.index(&binding.name()) else { continue };
                if let Some(vip) = vips.get_mut(index as usize) {
                    let VipBinding { timeouts, affinity, mss_clamp, .. } = *binding;
                    *vip = Vip { pool, timeouts, affinity, mss_clamp };
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
            let second_chance = second_chance(snapshot);
            for backend in &snapshot.backends {
                let key = (snapshot.pool_id.clone(), backend.id.clone());
                let Some(index) = indices.index(&key) else { continue };
                let Some(place) = table.get_mut(index as usize) else { continue };
                place.state = backend.state;
                let address = backend.address;
                let encapsulation = Encapsulation::of(snapshot.settings.forwarding, address);
                place.encapsulation = encapsulation;
                let Some(hop) = self.links.next_hop(address, neighbours) else { continue };
                let Some(port) = self.links.ports.get(usize::from(hop.port)) else { continue };
                let way = Way { port, hop, mac: neighbours.mac(hop), address };
                let mode = Mode { encapsulation, second_chance };
                if outer::write(&self.links.outer, mode, &way, place).is_none() {
                    place.next_hop = NO_ROUTE;
                    continue;
                }
                let numbers = hop_numbers.len() as u32;
                place.next_hop = *hop_numbers.entry(hop).or_insert(numbers);
                next_hops.push(hop);
            }
        }
        table.iter_mut().for_each(Backend::seal);
        table.into_boxed_slice()
    }
}

/// The version that goes into GUE headers, and the bytes of the longest hop they may name.
fn second_chance(snapshot: &PoolSnapshot) -> Option<(u32, u8)> {
    let v6 = snapshot.backends.iter().any(|backend| backend.address.is_ipv6());
    let hop = if v6 { 16 } else { 4 };
    snapshot.settings.second_chance.then_some((snapshot.version as u32, hop))
}

impl NodeLinks {
    /// Where a packet to `address` goes first: itself where it is on-link, else the first
    /// gateway of its family that answers, else the first there is.
    pub fn next_hop(&self, address: IpAddr, neighbours: &Neighbours) -> Option<NextHop> {
        let ports = (0u8..).zip(&self.ports);
        if let Some((port, _)) = ports.clone().find(|(_, port)| port.is_on_link(address)) {
            return Some(NextHop { port, address });
        }
        let family = |gateway: &&IpAddr| gateway.is_ipv4() == address.is_ipv4();
        let mut gateways = (0u8..).zip(&self.gateways).flat_map(|(port, gateways)| {
            gateways.iter().filter(family).map(move |address| NextHop { port, address: *address })
        });
        let first = gateways.clone().next();
        gateways.find(|hop| neighbours.mac(*hop).is_some()).or(first)
    }
}
