//! The immutable published state: what a worker looks at while it works on a burst.
//!
//! `Tables` is built whole by the control thread and never edited; a new version replaces it
//! through [`crate::publish`]. A burst sees one version. Backends and VIPs have dense indices
//! that stay theirs across versions, so that conntrack entries and counters keep their meaning;
//! an index whose backend is gone comes back with another generation.

mod backend;

use std::net::IpAddr;
use std::sync::Arc;

use arrayvec::ArrayVec;
use conntrack::Timeouts;
use maglev::{FlowHasher, Selector};

pub use backend::{Backend, MAX_HEADER, NEVER};
pub(crate) use backend::{Form, PLAIN, PLAIN_V6};

use crate::fragment::FragmentOptions;
use crate::quic::Router;
use crate::second_chance::PreviousOwners;
use crate::vip::VipLookup;
use crate::wire::ethernet::MacAddress;
use crate::wire::{EtherType, EthernetHeader, LinkTags, VlanTag};

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
    /// A VIP has [`Affinity::Quic`]: packets are asked what they say themselves.
    pub steered: bool,
    /// No VIP lets any flow be idle for less, in milliseconds: an entry that was idle for less is
    /// live, whatever its VIP; and how often a worker looks for those that are over.
    pub shortest_idle_ms: u32,
    /// A VIP has an [`MssClamp`]: SYNs are asked for their MSS.
    pub clamps: bool,
    /// What is done with packets that may be fragmented and do not fit once encapsulated.
    pub oversize: Oversize,
    /// ICMP errors, delivered and sent.
    pub icmp: IcmpOptions,
    /// How fragments are dealt with.
    pub fragments: FragmentOptions,
}

/// What is done with a packet that does not fit its link once encapsulated, and whose sender does
/// not find out its path's MTU: IPv4 without DF, and IPv6 of no more than 1280 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Oversize {
    /// The outer packet is fragmented.
    #[default]
    Fragment,
    /// It is dropped and counted.
    Drop,
}

/// How a node treats ICMP errors. All rates are for each worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IcmpOptions {
    /// Errors to VIPs that are handed to backends, a second.
    pub delivered_per_second: u32,
    /// Errors of the node's own, a second.
    pub sent_per_second: u32,
    /// Of these, to one source prefix (/24, /56).
    pub sent_per_prefix: u32,
    /// A packet to a VIP's address that no VIP takes, or whose pool is empty, is answered.
    pub port_unreachable: bool,
    /// The UDP port by which the node's own GUE packets are known in errors about them.
    pub gue_port: u16,
}

impl Default for IcmpOptions {
    fn default() -> Self {
        Self {
            delivered_per_second: 10_000,
            sent_per_second: 1_000,
            sent_per_prefix: 10,
            port_unreachable: false,
            gue_port: 6080,
        }
    }
}

/// What the path needs to know of a VIP.
#[derive(Clone, Debug, Default)]
pub struct Vip {
    /// Index of its pool.
    pub pool: u32,
    /// How long its flows may be idle.
    pub timeouts: Timeouts,
    /// What a client is known by.
    pub affinity: Affinity,
    /// The largest MSS that a client's SYN may name.
    pub mss_clamp: MssClamp,
}

/// The largest MSS that a SYN may name on its way to a backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MssClamp {
    /// Any.
    #[default]
    Off,
    /// So many bytes.
    To(u16),
    /// What fits one packet of [`Backend::inner_mtu`] bytes.
    Auto,
}

/// What a client is known by, when a backend is chosen for its packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Affinity {
    /// The 5-tuple: every flow has a choice of its own.
    #[default]
    Flow,
    /// The source address alone: all flows of a client go to one backend.
    Source,
    /// The server id in a QUIC connection id, else the 5-tuple.
    Quic,
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
    /// Reads the server ids of QUIC connection ids; `None`: they have none.
    pub quic: Option<Router>,
    /// Who had slots that have changed hands; `None`: none has, or nobody is to be named.
    pub previous: Option<PreviousOwners>,
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

/// How a pool's backends are reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forwarding {
    /// IP in IP (RFC 2003, RFC 2473, RFC 4213), the default.
    Ipip,
    /// Generic Routing Encapsulation (RFC 2784).
    Gre,
    /// Generic UDP Encapsulation, variant 1: IP directly in UDP.
    Gue,
    /// Generic UDP Encapsulation, variant 0: IP behind a header of its own.
    GueWithHeader,
    /// The destination MAC is rewritten, the IP packet untouched.
    L2dsr,
}

/// What is put in front of a backend's packets: the pool's mode, over the IP version of the
/// backend's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Encapsulation {
    /// IP in IPv4.
    Ipip4,
    /// IP in IPv6.
    Ipip6,
    /// IP in GRE in IPv4.
    Gre4,
    /// IP in GRE in IPv6.
    Gre6,
    /// IP in UDP in IPv4.
    Gue4,
    /// IP in UDP in IPv6.
    Gue6,
    /// IP behind a GUE header in UDP in IPv4.
    GueWithHeader4,
    /// IP behind a GUE header in UDP in IPv6.
    GueWithHeader6,
    /// Nothing but the link header.
    L2dsr,
}

impl Encapsulation {
    /// What `forwarding` puts in front of packets to `backend`.
    pub fn of(forwarding: Forwarding, backend: IpAddr) -> Self {
        match (forwarding, backend.is_ipv4()) {
            (Forwarding::Ipip, true) => Self::Ipip4,
            (Forwarding::Ipip, false) => Self::Ipip6,
            (Forwarding::Gre, true) => Self::Gre4,
            (Forwarding::Gre, false) => Self::Gre6,
            (Forwarding::Gue, true) => Self::Gue4,
            (Forwarding::Gue, false) => Self::Gue6,
            (Forwarding::GueWithHeader, true) => Self::GueWithHeader4,
            (Forwarding::GueWithHeader, false) => Self::GueWithHeader6,
            (Forwarding::L2dsr, _) => Self::L2dsr,
        }
    }

    /// The pool's mode.
    pub fn forwarding(self) -> Forwarding {
        match self {
            Self::Ipip4 | Self::Ipip6 => Forwarding::Ipip,
            Self::Gre4 | Self::Gre6 => Forwarding::Gre,
            Self::Gue4 | Self::Gue6 => Forwarding::Gue,
            Self::GueWithHeader4 | Self::GueWithHeader6 => Forwarding::GueWithHeader,
            Self::L2dsr => Forwarding::L2dsr,
        }
    }
}

/// In place of a next hop: the backend is not on-link, and no gateway is configured.
pub const NO_ROUTE: u32 = u32::MAX;

/// An Ethernet header with up to two tags.
pub type LinkHeader = ArrayVec<u8, { EthernetHeader::LENGTH + 2 * VlanTag::LENGTH }>;

/// The node's own side of a link.
#[derive(Clone, Debug)]
pub struct PortTable {
    /// The address that frames to the node carry.
    pub mac: MacAddress,
    /// Frames to any unicast address are taken (`replay` without a `mac`).
    pub any_mac: bool,
    /// The tags that packets carry here, if any.
    pub vlan: Option<LinkTags>,
    /// Longest IP packet of the link, in bytes.
    pub mtu: u16,
    /// The node's addresses here, with their prefix lengths.
    pub addresses: Vec<(IpAddr, u8)>,
}

/// Whether `address` lies in the prefix of `length` bits around `own`.
fn shares_prefix(own: IpAddr, length: u8, address: IpAddr) -> bool {
    let length = u32::from(length);
    match (own, address) {
        (IpAddr::V4(own), IpAddr::V4(address)) => {
            let mask = u32::MAX.checked_shl(32u32.saturating_sub(length)).unwrap_or(0);
            (u32::from(own) ^ u32::from(address)) & mask == 0
        }
        (IpAddr::V6(own), IpAddr::V6(address)) => {
            let mask = u128::MAX.checked_shl(128u32.saturating_sub(length)).unwrap_or(0);
            (u128::from(own) ^ u128::from(address)) & mask == 0
        }
        _ => false,
    }
}

impl PortTable {
    /// The link header of a frame that leaves here for `destination`, with the port's tags.
    pub fn link_header(&self, destination: MacAddress, ethertype: EtherType) -> LinkHeader {
        let mut header = LinkHeader::new();
        let tail = LinkTags::write(self.vlan, ethertype);
        for part in [&destination.0[..], &self.mac.0, &tail] {
            // Has room for all three.
            let _ = header.try_extend_from_slice(part);
        }
        header
    }

    /// Whether `address` is the node's own on this link.
    pub fn owns(&self, address: IpAddr) -> bool {
        self.addresses.iter().any(|(own, _)| *own == address)
    }

    /// Whether `address` lies in a subnet of this link.
    pub fn is_on_link(&self, address: IpAddr) -> bool {
        self.addresses.iter().any(|(own, length)| shares_prefix(*own, *length, address))
    }

    /// The node's address for talking to `address` from this link: one of the same subnet, else
    /// the first of its family that is valid beyond the link.
    pub fn source_for(&self, address: IpAddr) -> Option<IpAddr> {
        let mut all = self.addresses.iter();
        let on_link = all.clone().find(|(own, length)| shares_prefix(*own, *length, address));
        let routed = |own: &IpAddr| match own {
            IpAddr::V4(_) => address.is_ipv4(),
            IpAddr::V6(own) => address.is_ipv6() && !own.is_unicast_link_local(),
        };
        on_link.or_else(|| all.find(|(own, _)| routed(own))).map(|(own, _)| *own)
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
        self.ports.iter().any(|port| port.owns(address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::MacAddress;

    #[test]
    fn a_port_knows_its_links_and_what_to_speak_from() {
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let own = [("fe80::2", 10), ("2001:db8::2", 64), ("192.0.2.2", 24), ("198.18.0.2", 31)];
        let addresses = own.map(|(own, length)| (address(own), length)).to_vec();
        let port =
            PortTable { mac: MacAddress::ZERO, any_mac: false, vlan: None, mtu: 1500, addresses };
        for on_link in ["2001:db8::ffff", "fe80::1", "192.0.2.99", "198.18.0.3"] {
            assert!(port.is_on_link(address(on_link)), "{on_link}");
        }
        for elsewhere in ["2001:db8:0:1::1", "192.0.3.1", "198.18.0.4", "::192.0.2.99"] {
            assert!(!port.is_on_link(address(elsewhere)), "{elsewhere}");
        }
        assert!(port.owns(address("2001:db8::2")) && !port.owns(address("2001:db8::1")));
        for (to, from) in [
            ("2001:db8::9", "2001:db8::2"),
            ("2001:db8:7::9", "2001:db8::2"),
            ("fe80::9", "fe80::2"),
            ("10.0.0.1", "192.0.2.2"),
            ("198.18.0.3", "198.18.0.2"),
        ] {
            assert_eq!(port.source_for(address(to)), Some(address(from)), "to {to}");
        }
    }
}
