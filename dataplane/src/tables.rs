//! The immutable published state: what a worker looks at while it works on a burst.
//!
//! `Tables` is built whole by the control thread and never edited; a new version replaces it
//! through [`crate::publish`]. A burst sees one version. Backends and VIPs have dense indices
//! that stay theirs across versions, so that conntrack entries and counters keep their meaning;
//! an index whose backend is gone comes back with another generation.

use std::net::IpAddr;
use std::sync::Arc;

use arrayvec::ArrayVec;
use conntrack::Timeouts;
use maglev::{FlowHasher, Selector};

use crate::fragment::FragmentOptions;
use crate::quic::Router;
use crate::second_chance::PreviousOwners;
use crate::vip::VipLookup;
use crate::wire::ethernet::MacAddress;
use crate::wire::{EtherType, EthernetHeader, Ipv4Header, Ipv6Header, LinkTags, VlanTag};

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

/// Bytes of the header that most packets get: Ethernet without tags, and IPv4.
pub(crate) const PLAIN: usize = EthernetHeader::LENGTH + Ipv4Header::LENGTH;

/// Longest header put in front of a packet: Ethernet, two tags, an IPv6 header, a UDP header, a GUE
/// header with private data, and two bytes of room. Hops come on top, packet by packet.
pub const MAX_HEADER: usize = 84;

/// A backend, with the header its packets get, ready to be copied.
#[derive(Clone, Debug)]
#[repr(C, align(64))]
pub struct Backend {
    /// Whether it may have flows.
    pub state: BackendState,
    /// What is put in front of its packets.
    pub encapsulation: Encapsulation,
    /// The MAC address of the next hop is known and in the header.
    pub reachable: bool,
    /// Index of the port it is reached through.
    pub port: u8,
    /// Tells backends apart that had this index one after the other.
    pub generation: u16,
    /// Longest IP packet that fits the link, the outer header not counted.
    pub inner_mtu: u16,
    /// Bits of the outer source address, of its last 32, that come from the flow (0: none).
    pub source_entropy: u32,
    /// Of an outer IPv4 header around IPv4: the sum of its 16-bit words but for those set per
    /// packet (DSCP and ECN, total length, identification, the source's flow bits), not folded.
    pub checksum_base: u32,
    /// Its generation, where flows that are pinned to it go on and all that their packets need is its
    /// header; [`NEVER`] elsewhere. [`OTHERWISE`] is added where that is not [`PLAIN`]. Follows from
    /// all else: see [`Backend::seal`].
    pub ready: u32,
    /// Bytes of `header` in use.
    pub header_length: u8,
    /// Bytes of it before the outer IP header.
    pub link_length: u8,
    /// The link header, the outer IP header, and what stands between it and the inner packet; as
    /// for an IPv4 packet inside, and zero what is set per packet.
    pub header: [u8; MAX_HEADER],
    /// Tells the next hops of one version of the tables apart; [`NO_ROUTE`]: there is none.
    pub next_hop: u32,
    /// GUE over IPv6 with a UDP checksum; without, it is zero (RFC 6935).
    pub udp_checksum: bool,
}

/// [`Backend::ready`] of one that is not; no generation is that.
pub const NEVER: u32 = u32::MAX;
/// Added to [`Backend::ready`] where the header is another than IPv4's behind an untagged link's.
pub(crate) const OTHERWISE: u32 = 1 << 16;

const _: () = assert!(size_of::<Backend>() == 128);

impl Backend {
    /// The record for an index nobody has.
    pub const fn gone(generation: u16) -> Self {
        Self {
            state: BackendState::Gone,
            encapsulation: Encapsulation::Ipip4,
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
            udp_checksum: false,
            ready: NEVER,
        }
    }

    /// To be called when all is known and nothing changes any more. Without, its packets take the
    /// longer way.
    pub fn seal(&mut self) {
        self.ready = self.readiness();
    }

    fn readiness(&self) -> u32 {
        let goes_on = matches!(self.state, BackendState::Active | BackendState::Draining);
        if !goes_on || !self.reachable {
            return NEVER;
        }
        let plain =
            self.encapsulation == Encapsulation::Ipip4 && usize::from(self.header_length) == PLAIN;
        u32::from(self.generation) | if plain { 0 } else { OTHERWISE }
    }

    /// 0: packets of flows pinned to it under this `generation` need nothing but its header, which
    /// for untagged ones over IPv4 is a plain one; [`OTHERWISE`]: as much, with another header;
    /// anything else says nothing.
    #[inline(always)]
    pub(crate) fn ready_for(&self, generation: u16) -> u32 {
        debug_assert!(
            self.ready == NEVER || self.ready == self.readiness(),
            "sealed, then changed"
        );
        self.ready ^ u32::from(generation)
    }

    /// Where its packets are sent, as the outer header says; `None` without one, or without a way.
    pub fn address(&self) -> Option<IpAddr> {
        let outer = self.header().get(usize::from(self.link_length)..)?;
        match self.encapsulation {
            Encapsulation::Ipip4
            | Encapsulation::Gre4
            | Encapsulation::Gue4
            | Encapsulation::GueWithHeader4 => {
                Ipv4Header::parse(outer).map(|(header, _)| header.destination_address().into())
            }
            Encapsulation::Ipip6
            | Encapsulation::Gre6
            | Encapsulation::Gue6
            | Encapsulation::GueWithHeader6 => {
                Ipv6Header::parse(outer).map(|(header, _)| header.destination_address().into())
            }
            Encapsulation::L2dsr => None,
        }
    }

    /// The header in use.
    #[inline(always)]
    pub fn header(&self) -> &[u8] {
        self.header.get(..usize::from(self.header_length)).unwrap_or_default()
    }
}

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
    fn a_backend_is_ready_for_flows_of_its_own_generation_alone() {
        let states = [BackendState::Active, BackendState::Draining, BackendState::Gone];
        for generation in [0, 1, 2, 0x7fff, 0xffff] {
            for (state, reachable) in states.into_iter().flat_map(|s| [(s, true), (s, false)]) {
                let mut backend = Backend { state, reachable, ..Backend::gone(generation) };
                for (header_length, other) in [(PLAIN as u8, 0), (54, OTHERWISE)] {
                    backend.header_length = header_length;
                    backend.seal();
                    for pinned in [0, 1, 2, 3, 0x7fff, 0xfffe, 0xffff] {
                        let ready = backend.ready_for(pinned);
                        let goes_on = state != BackendState::Gone && reachable;
                        assert_eq!(ready == other, goes_on && pinned == generation);
                        assert_eq!(ready & !OTHERWISE == 0, goes_on && pinned == generation);
                    }
                }
            }
        }
    }

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
