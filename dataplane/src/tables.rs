//! The immutable published state: what a worker looks at while it works on a burst.
//!
//! `Tables` is built whole by the control thread and never edited; a new version replaces it
//! through [`crate::publish`]. A burst sees one version. Backends and VIPs have dense indices
//! that stay theirs across versions, so that conntrack entries and counters keep their meaning;
//! an index whose backend is gone comes back with another generation.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use conntrack::Timeouts;
use maglev::{FlowHasher, Selector};

use crate::vip::VipLookup;
use crate::wire::ethernet::MacAddress;

/// One version of everything.
#[derive(Debug)]
pub struct Tables {
    /// Counts the versions, from 1.
    pub generation: u64,
    /// Addresses and ports to VIP indices.
    pub lookup: Arc<VipLookup>,
    /// By VIP index; gaps are VIPs that are gone.
    pub vips: Arc<[Vip]>,
    /// By pool index.
    pub pools: Arc<[Arc<Pool>]>,
    /// By backend index; gaps have state [`BackendState::Gone`].
    pub backends: Box<[Backend]>,
    /// By port index: the node's own side of each link.
    pub ports: Arc<[PortTable]>,
}

/// What the path needs to know of a VIP.
#[derive(Clone, Debug, Default)]
pub struct Vip {
    /// Index of its pool.
    pub pool: u32,
    /// How long its flows may be idle.
    pub timeouts: Timeouts,
}

/// What the path needs to know of a pool.
#[derive(Debug)]
pub struct Pool {
    /// Flow hash to backend index.
    pub selector: Selector,
    /// The pool's keyed flow hash.
    pub hasher: FlowHasher,
    /// TCP flows leave an unhealthy backend, too, instead of staying to the end.
    pub reselect: bool,
}

/// Whether a backend may have flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum BackendState {
    /// New flows and old ones.
    Active,
    /// Old flows only, until its drain ends.
    Draining,
    /// No new flows; TCP flows stay unless the pool reselects, UDP flows move.
    Unhealthy,
    /// Its flows are answered with resets.
    Evicted,
    /// No backend has this index now.
    Gone,
}

/// How a backend is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Forwarding {
    /// IPv4 in IPv4 (RFC 2003), the default.
    Ipip,
    /// The destination MAC is rewritten, the IP packet untouched.
    L2dsr,
}

/// In place of a next hop: the backend is not on-link, and no gateway is configured.
pub const NO_ROUTE: u32 = u32::MAX;

/// Longest header put in front of a packet: Ethernet, two tags, an IPv6 header, eight bytes.
pub const MAX_HEADER: usize = 72;

/// A backend, with the header its packets get, ready to be copied.
#[derive(Clone, Debug)]
#[repr(C, align(64))]
pub struct Backend {
    /// Whether it may have flows.
    pub state: BackendState,
    /// How it is reached.
    pub forwarding: Forwarding,
    /// The MAC address of the next hop is known and in the header.
    pub reachable: bool,
    /// Index of the port it is reached through.
    pub port: u8,
    /// Tells backends apart that had this index one after the other.
    pub generation: u16,
    /// Longest IP packet that fits the link, the outer header not counted.
    pub inner_mtu: u16,
    /// Bits of the outer source address that come from the flow (0: none).
    pub source_entropy: u32,
    /// Of the outer IPv4 header: the sum of its 16-bit words but for those set per packet
    /// (DSCP and ECN, total length, identification, source), not folded.
    pub checksum_base: u32,
    /// Bytes of `header` in use.
    pub header_length: u8,
    /// Bytes of it before the outer IP header.
    pub link_length: u8,
    /// The link header and the outer IP header.
    pub header: [u8; MAX_HEADER],
    /// Tells the next hops of one version of the tables apart; [`NO_ROUTE`]: there is none.
    pub next_hop: u32,
}

const _: () = assert!(size_of::<Backend>() == 128);

impl Backend {
    /// The record for an index nobody has.
    pub const fn gone(generation: u16) -> Self {
        Self {
            state: BackendState::Gone,
            forwarding: Forwarding::Ipip,
            reachable: false,
            port: 0,
            generation,
            inner_mtu: 0,
            source_entropy: 0,
            checksum_base: 0,
            header_length: 0,
            link_length: 0,
            header: [0; MAX_HEADER],
            next_hop: NO_ROUTE,
        }
    }

    /// The header in use.
    #[inline(always)]
    pub fn header(&self) -> &[u8] {
        self.header.get(..usize::from(self.header_length)).unwrap_or_default()
    }
}

/// The node's own side of a link.
#[derive(Clone, Debug)]
pub struct PortTable {
    /// The address that frames to the node carry.
    pub mac: MacAddress,
    /// Frames to any unicast address are taken (`replay` without a `mac`).
    pub any_mac: bool,
    /// The tag that packets carry here, if any.
    pub vlan: Option<u16>,
    /// Longest IP packet of the link, in bytes.
    pub mtu: u16,
    /// The node's IPv4 addresses here, with their prefix lengths.
    pub addresses: Vec<(Ipv4Addr, u8)>,
}

impl PortTable {
    /// Whether `address` is the node's own on this link.
    pub fn owns(&self, address: Ipv4Addr) -> bool {
        self.addresses.iter().any(|(own, _)| *own == address)
    }

    /// Whether `address` lies in a subnet of this link.
    pub fn is_on_link(&self, address: Ipv4Addr) -> bool {
        self.addresses.iter().any(|(own, length)| {
            let mask = u32::MAX.checked_shl(32 - u32::from(*length)).unwrap_or(0);
            (u32::from(*own) ^ u32::from(address)) & mask == 0
        })
    }

    /// The node's address for talking to `address` on this link: one of the same subnet, else
    /// the first.
    pub fn source_for(&self, address: Ipv4Addr) -> Option<Ipv4Addr> {
        let on_link = self.addresses.iter().find(|(own, length)| {
            let mask = u32::MAX.checked_shl(32 - u32::from(*length)).unwrap_or(0);
            (u32::from(*own) ^ u32::from(address)) & mask == 0
        });
        on_link.or(self.addresses.first()).map(|(own, _)| *own)
    }
}

impl Tables {
    /// The VIP at `index`, if it is one.
    #[inline(always)]
    pub fn vip(&self, index: u32) -> Option<&Vip> {
        self.vips.get(index as usize)
    }

    /// The pool at `index`, if it is one.
    #[inline(always)]
    pub fn pool(&self, index: u32) -> Option<&Pool> {
        self.pools.get(index as usize).map(Arc::as_ref)
    }

    /// The backend at `index`, if it is one.
    #[inline(always)]
    pub fn backend(&self, index: u32) -> Option<&Backend> {
        self.backends.get(index as usize)
    }

    /// Whether `address` is the node's own, on any link.
    pub fn owns(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => self.ports.iter().any(|port| port.owns(address)),
            IpAddr::V6(_) => false,
        }
    }
}
