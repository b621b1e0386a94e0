//! Which VIP a packet is for.
//!
//! The common case, a VIP of one address and one port, is one hash lookup however many there
//! are. Prefixes, port ranges, "any port" and "any protocol" live in groups by address, asked
//! only when there are any, from the longest prefix to the shortest. Of all VIPs that match, the
//! longest prefix wins, then the exact port over the range over "any", then the exact protocol
//! over "any" (SPEC section 16). The configuration guarantees that no two VIPs tie.

mod exact_v4;
mod exact_v6;
mod sieve;

use std::net::{IpAddr, Ipv6Addr};
use std::ops::RangeInclusive;

use ahash::RandomState;
use conntrack::{FlowKey, Service};
use hashbrown::HashMap;

use exact_v4::ExactV4;
use exact_v6::ExactV6;
use sieve::Sieve;

/// Which transport a VIP takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum VipProtocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// Every IP protocol; those without ports only with [`VipPorts::Any`].
    Any,
}

/// Which destination ports a VIP takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VipPorts {
    /// One port.
    One(u16),
    /// From the first to the last.
    Range(RangeInclusive<u16>),
    /// All of them.
    Any,
}

/// What a VIP matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VipMatch {
    /// First address of the prefix.
    pub address: IpAddr,
    /// Bits of the address that count: at most 32 or 128.
    pub prefix_length: u8,
    /// Destination ports.
    pub ports: VipPorts,
    /// Transport protocol.
    pub protocol: VipProtocol,
}

const TCP: u8 = 6;
const UDP: u8 = 17;

/// The lookup structure; an immutable value.
#[derive(Debug)]
pub struct VipLookup {
    /// One IPv4 address, one port, one protocol: what nearly every packet is for.
    exact_v4: ExactV4,
    /// The same over IPv6.
    exact_v6: ExactV6,
    /// Everything that is not one address, one port, one protocol; longest prefix first.
    levels: Vec<Level>,
    /// By index, what a VIP of one address, one port, one protocol takes; [`Service::NONE`] for all
    /// others.
    services: Box<[Service]>,
    /// The same, as far as one word says it: all of it over IPv4.
    service_words: Box<[u64]>,
    /// For "is this address a VIP at all": the prefixes by length, longest first.
    addresses: Vec<(u128, HashMap<u128, AtAddress, RandomState>)>,
    /// The same addresses, one sieve for each mask.
    sieves: Vec<(u128, Sieve)>,
}

/// For each protocol, of the VIPs of one address or prefix the one with the lowest port: the port,
/// and the index.
#[derive(Clone, Copy, Debug, Default)]
struct AtAddress {
    tcp: Option<(u16, u32)>,
    udp: Option<(u16, u32)>,
    any: Option<(u16, u32)>,
}

impl AtAddress {
    fn insert(&mut self, index: u32, vip: &VipMatch) {
        let first = match &vip.ports {
            VipPorts::One(port) => *port,
            VipPorts::Range(range) => *range.start(),
            VipPorts::Any => 0,
        };
        let lowest = match vip.protocol {
            VipProtocol::Tcp => &mut self.tcp,
            VipProtocol::Udp => &mut self.udp,
            VipProtocol::Any => &mut self.any,
        };
        *lowest = Some(lowest.map_or((first, index), |known| known.min((first, index))));
    }

    fn find(&self, protocol: u8) -> Option<u32> {
        let exact = match protocol {
            TCP => self.tcp,
            UDP => self.udp,
            _ => None,
        };
        exact.or(self.any).map(|(_, index)| index)
    }
}

/// The VIPs of one prefix length.
#[derive(Debug)]
struct Level {
    mask: u128,
    groups: HashMap<u128, Group, RandomState>,
}

/// The VIPs of one prefix, best match first.
#[derive(Debug, Default)]
struct Group {
    /// Sorted by [`port_protocol`].
    ports: Vec<(u32, u32)>,
    /// Sorted by first port; ranges of one protocol do not overlap.
    tcp_ranges: Vec<(u16, u16, u32)>,
    udp_ranges: Vec<(u16, u16, u32)>,
    any_ranges: Vec<(u16, u16, u32)>,
    tcp_any: Option<u32>,
    udp_any: Option<u32>,
    any_any: Option<u32>,
}

/// IPv4 addresses as RFC 4291 section 2.5.5.2 maps them, so that one table holds both families.
pub fn address_bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_ipv6_mapped()),
        IpAddr::V6(v6) => u128::from(v6),
    }
}

/// The IPv4 address in an IPv4-mapped one.
#[inline(always)]
fn mapped_v4(address: u128) -> Option<u32> {
    (address >> 32 == 0xffff).then_some(address as u32)
}

/// The inverse of [`address_bits`].
pub fn address_from_bits(bits: u128) -> IpAddr {
    Ipv6Addr::from(bits).to_canonical()
}

fn mask(prefix: &VipMatch) -> u128 {
    let length = match prefix.address {
        IpAddr::V4(_) => 96 + u32::from(prefix.prefix_length.min(32)),
        IpAddr::V6(_) => u32::from(prefix.prefix_length.min(128)),
    };
    match length {
        0 => 0,
        length => u128::MAX << (128 - length),
    }
}

const fn port_protocol(port: u16, protocol: u8) -> u32 {
    (port as u32) << 8 | protocol as u32
}

/// The protocol byte under which a VIP's exact ports are filed.
const ANY_PROTOCOL: u8 = 255;

impl VipLookup {
    /// A lookup over `vips`; a VIP's index is its place in the slice's `u32`.
    pub fn new<'a>(vips: impl IntoIterator<Item = (u32, &'a VipMatch)>) -> Self {
        // VIP addresses come from the operator, never from a packet's sender: fixed seeds.
        let state = RandomState::with_seeds(1, 2, 3, 4);
        let (mut exact_v4, mut exact_v6) = (Vec::new(), Vec::new());
        let mut services = Vec::new();
        let mut levels: Vec<Level> = Vec::new();
        let mut addresses: Vec<(u128, HashMap<u128, AtAddress, RandomState>)> = Vec::new();
        for (index, vip) in vips {
            let mask = mask(vip);
            let address = address_bits(vip.address) & mask;
            let at = match addresses.iter().position(|(other, _)| *other == mask) {
                Some(at) => at,
                None => {
                    addresses.push((mask, HashMap::with_hasher(state.clone())));
                    addresses.len() - 1
                }
            };
            addresses[at].1.entry(address).or_default().insert(index, vip);
            let protocol = match vip.protocol {
                VipProtocol::Tcp => Some(TCP),
                VipProtocol::Udp => Some(UDP),
                VipProtocol::Any => None,
            };
            if let (u128::MAX, VipPorts::One(port), Some(protocol)) = (mask, &vip.ports, protocol) {
                let at = index as usize;
                if services.len() <= at {
                    services.resize(at + 1, Service::NONE);
                }
                services[at] = match vip.address {
                    IpAddr::V4(address) => Service::v4(address, *port, protocol),
                    IpAddr::V6(address) => Service::v6(address, *port, protocol),
                };
                let port_protocol = port_protocol(*port, protocol);
                match mapped_v4(address) {
                    Some(v4) => exact_v4.push((ExactV4::key(v4, port_protocol), index)),
                    None => exact_v6.push((address.to_be_bytes(), port_protocol, index)),
                }
                continue;
            }
            let at = match levels.iter().position(|level| level.mask == mask) {
                Some(at) => at,
                None => {
                    levels.push(Level { mask, groups: HashMap::with_hasher(state.clone()) });
                    levels.len() - 1
                }
            };
            levels[at].groups.entry(address).or_default().insert(index, vip);
        }
        // A longer prefix has a larger mask, in both families alike.
        levels.sort_by_key(|level| std::cmp::Reverse(level.mask));
        addresses.sort_by_key(|(mask, _)| std::cmp::Reverse(*mask));
        for group in levels.iter_mut().flat_map(|level| level.groups.values_mut()) {
            group.ports.sort_unstable();
            group.tcp_ranges.sort_unstable();
            group.udp_ranges.sort_unstable();
            group.any_ranges.sort_unstable();
        }
        let service_words = services.iter().map(Service::word).collect();
        let (exact_v4, exact_v6) = (ExactV4::new(&exact_v4), ExactV6::new(&exact_v6));
        let sieves = addresses.iter().map(|(mask, set)| (*mask, Sieve::new(set.keys()))).collect();
        let services = services.into();
        Self { exact_v4, exact_v6, levels, services, service_words, addresses, sieves }
    }

    /// Whether the VIP with this index is of one address, one port and one protocol, and these are
    /// the packet's: then it is what [`VipLookup::find_flow`] answers, as nothing matches better.
    /// `false` says nothing.
    #[inline(always)]
    pub fn takes(&self, index: u32, service: &Service) -> bool {
        self.services.get(index as usize) == Some(service)
    }

    /// By index, those that [`VipLookup::takes`] says yes for.
    #[inline(always)]
    pub(crate) fn services(&self) -> &[Service] {
        &self.services
    }

    /// By index, the [`Service::word`] of those that [`VipLookup::takes`] says yes for: over IPv4 that
    /// is all there is to say of them.
    #[inline(always)]
    pub(crate) fn service_words(&self) -> &[u64] {
        &self.service_words
    }

    /// The VIP for a packet of this flow.
    #[inline(always)]
    pub fn find_flow(&self, key: &FlowKey) -> Option<u32> {
        let (port, protocol) = (key.destination_port(), key.protocol());
        let found = match key.destination_v4_bits() {
            Some(v4) => self.exact_v4.find(ExactV4::key(v4, port_protocol(port, protocol))),
            None => self.exact_v6.find(key.destination_octets(), port_protocol(port, protocol)),
        };
        if found.is_some() {
            return found;
        }
        self.find(key.destination_bits(), port, protocol)
    }

    /// The VIP for a packet to `address` (see [`address_bits`]), `port` and IP `protocol`; ports
    /// are 0 for protocols without them.
    #[inline(never)]
    pub fn find(&self, address: u128, port: u16, protocol: u8) -> Option<u32> {
        let port_protocol = port_protocol(port, protocol);
        let exact = match mapped_v4(address) {
            Some(v4) => self.exact_v4.find(ExactV4::key(v4, port_protocol)),
            None => self.exact_v6.find(address.to_be_bytes(), port_protocol),
        };
        if exact.is_some() {
            return exact;
        }
        if self.levels.is_empty() {
            return None;
        }
        self.find_group(address, port, protocol)
    }

    #[inline(never)]
    fn find_group(&self, address: u128, port: u16, protocol: u8) -> Option<u32> {
        self.levels
            .iter()
            .find_map(|level| level.groups.get(&(address & level.mask))?.find(port, protocol))
    }

    /// A VIP of `address` that takes `protocol`, whatever the port: of several, of the longest
    /// prefix that with the lowest.
    #[cold]
    pub fn at_address(&self, address: u128, protocol: u8) -> Option<u32> {
        self.addresses.iter().find_map(|(mask, set)| set.get(&(address & mask))?.find(protocol))
    }

    /// Whether `address` belongs to any VIP, whatever the port and protocol.
    #[inline]
    pub fn contains_address(&self, address: u128) -> bool {
        self.sieves.iter().any(|(mask, sieve)| sieve.may_have(address & mask))
            && self.addresses.iter().any(|(mask, set)| set.contains_key(&(address & mask)))
    }
}

impl Group {
    fn insert(&mut self, index: u32, vip: &VipMatch) {
        match (&vip.ports, vip.protocol) {
            (VipPorts::One(port), protocol) => {
                let protocol = match protocol {
                    VipProtocol::Tcp => TCP,
                    VipProtocol::Udp => UDP,
                    VipProtocol::Any => ANY_PROTOCOL,
                };
                self.ports.push((port_protocol(*port, protocol), index));
            }
            (VipPorts::Range(range), protocol) => {
                let ranges = match protocol {
                    VipProtocol::Tcp => &mut self.tcp_ranges,
                    VipProtocol::Udp => &mut self.udp_ranges,
                    VipProtocol::Any => &mut self.any_ranges,
                };
                ranges.push((*range.start(), *range.end(), index));
            }
            (VipPorts::Any, VipProtocol::Tcp) => self.tcp_any = Some(index),
            (VipPorts::Any, VipProtocol::Udp) => self.udp_any = Some(index),
            (VipPorts::Any, VipProtocol::Any) => self.any_any = Some(index),
        }
    }

    fn find(&self, port: u16, protocol: u8) -> Option<u32> {
        let (ranges, any) = match protocol {
            TCP => (&self.tcp_ranges, self.tcp_any),
            UDP => (&self.udp_ranges, self.udp_any),
            // Without ports only "all of it" can match.
            _ => return self.any_any,
        };
        let exact = |protocol| {
            let wanted = port_protocol(port, protocol);
            let at = self.ports.binary_search_by_key(&wanted, |(key, _)| *key).ok()?;
            self.ports.get(at).map(|(_, index)| *index)
        };
        exact(protocol)
            .or_else(|| exact(ANY_PROTOCOL))
            .or_else(|| in_ranges(ranges, port))
            .or_else(|| in_ranges(&self.any_ranges, port))
            .or(any)
            .or(self.any_any)
    }
}

/// The range that holds `port`; `ranges` is sorted and free of overlaps.
fn in_ranges(ranges: &[(u16, u16, u32)], port: u16) -> Option<u32> {
    let after = ranges.partition_point(|(first, _, _)| *first <= port);
    let (_, last, index) = ranges.get(after.checked_sub(1)?)?;
    (port <= *last).then_some(*index)
}

#[cfg(test)]
mod tests {
    use conntrack::Family;

    use super::*;

    fn vip(address: &str, prefix_length: u8, ports: VipPorts, protocol: VipProtocol) -> VipMatch {
        VipMatch { address: address.parse().unwrap(), prefix_length, ports, protocol }
    }

    /// By address and port, and by flow, which must come to the same.
    fn find(lookup: &VipLookup, address: &str, port: u16, protocol: u8) -> Option<u32> {
        let address: IpAddr = address.parse().unwrap();
        let found = lookup.find(address_bits(address), port, protocol);
        let key = match address {
            IpAddr::V4(v4) => FlowKey::v4([192, 0, 2, 7].into(), v4, 40000, port, protocol),
            IpAddr::V6(v6) => FlowKey::v6(Ipv6Addr::LOCALHOST, v6, 40000, port, protocol),
        };
        assert_eq!(lookup.find_flow(&key), found, "{key}");
        found
    }

    fn lookup(vips: &[VipMatch]) -> VipLookup {
        VipLookup::new((0u32..).zip(vips))
    }

    #[test]
    fn a_vip_takes_what_the_lookup_gives_to_it_and_nothing_else() {
        let lookup = lookup(&[
            vip("203.0.113.0", 28, VipPorts::One(80), VipProtocol::Tcp),
            vip("203.0.113.1", 32, VipPorts::Any, VipProtocol::Tcp),
            vip("203.0.113.1", 32, VipPorts::One(80), VipProtocol::Tcp),
            vip("203.0.113.1", 32, VipPorts::One(80), VipProtocol::Udp),
            vip("2001:db8::1", 128, VipPorts::One(80), VipProtocol::Tcp),
            vip("203.0.113.1", 32, VipPorts::One(443), VipProtocol::Any),
        ]);
        let mut taken = [0; 8];
        for address in ["203.0.113.1", "203.0.113.2", "2001:db8::1", "::ffff:203.0.113.1"] {
            for (port, protocol) in [(80, TCP), (80, UDP), (443, TCP), (81, TCP), (0, 1)] {
                let key = match address.parse().unwrap() {
                    IpAddr::V4(to) => FlowKey::v4([198, 51, 100, 1].into(), to, 9, port, protocol),
                    IpAddr::V6(to) => FlowKey::v6(Ipv6Addr::LOCALHOST, to, 9, port, protocol),
                };
                for index in 0..8u32 {
                    let v4 = key.family() == Family::V4;
                    let takes = lookup.takes(index, key.service());
                    let word = lookup.service_words().get(index as usize);
                    assert!(!v4 || takes == (word == Some(&key.service().word())), "{key}");
                    if takes {
                        assert_eq!(lookup.find_flow(&key), Some(index), "{key}");
                        taken[index as usize] += 1;
                    }
                }
            }
        }
        assert_eq!(taken, [0, 0, 1, 1, 1, 0, 0, 0], "only those of one address, port, protocol");
    }

    #[test]
    fn the_longest_prefix_wins_over_the_exact_port() {
        let lookup = lookup(&[
            vip("203.0.113.0", 28, VipPorts::One(80), VipProtocol::Tcp),
            vip("203.0.113.1", 32, VipPorts::Any, VipProtocol::Tcp),
        ]);
        assert_eq!(find(&lookup, "203.0.113.1", 80, TCP), Some(1));
        assert_eq!(find(&lookup, "203.0.113.2", 80, TCP), Some(0));
        assert_eq!(find(&lookup, "203.0.113.2", 81, TCP), None);
        assert_eq!(find(&lookup, "203.0.113.16", 80, TCP), None);
    }

    #[test]
    fn the_exact_port_wins_over_the_range_over_any() {
        let lookup = lookup(&[
            vip("203.0.113.1", 32, VipPorts::Any, VipProtocol::Tcp),
            vip("203.0.113.1", 32, VipPorts::Range(8000..=8099), VipProtocol::Tcp),
            vip("203.0.113.1", 32, VipPorts::One(8080), VipProtocol::Tcp),
        ]);
        assert_eq!(find(&lookup, "203.0.113.1", 8080, TCP), Some(2));
        assert_eq!(find(&lookup, "203.0.113.1", 8000, TCP), Some(1));
        assert_eq!(find(&lookup, "203.0.113.1", 8099, TCP), Some(1));
        assert_eq!(find(&lookup, "203.0.113.1", 8100, TCP), Some(0));
        assert_eq!(find(&lookup, "203.0.113.1", 8080, UDP), None);
    }

    #[test]
    fn a_port_of_any_protocol_takes_what_the_exact_protocol_leaves() {
        let lookup = lookup(&[
            vip("203.0.113.1", 32, VipPorts::One(53), VipProtocol::Any),
            vip("203.0.113.1", 32, VipPorts::One(53), VipProtocol::Udp),
        ]);
        assert_eq!(find(&lookup, "203.0.113.1", 53, UDP), Some(1));
        assert_eq!(find(&lookup, "203.0.113.1", 53, TCP), Some(0));
        assert_eq!(find(&lookup, "203.0.113.1", 0, 47), None);
    }

    #[test]
    fn protocols_without_ports_match_only_a_vip_of_everything() {
        let lookup = lookup(&[vip("203.0.113.1", 32, VipPorts::Any, VipProtocol::Any)]);
        assert_eq!(find(&lookup, "203.0.113.1", 0, 47), Some(0));
        assert_eq!(find(&lookup, "203.0.113.1", 7, TCP), Some(0));
    }

    #[test]
    fn families_do_not_meet() {
        let lookup = lookup(&[
            vip("::", 0, VipPorts::Any, VipProtocol::Any),
            vip("2001:db8::1", 128, VipPorts::One(80), VipProtocol::Tcp),
        ]);
        assert_eq!(find(&lookup, "2001:db8::1", 80, TCP), Some(1));
        assert_eq!(find(&lookup, "2001:db8::2", 80, TCP), Some(0));
    }

    #[test]
    fn an_address_is_known_whatever_the_port() {
        let lookup = lookup(&[vip("203.0.113.0", 28, VipPorts::One(80), VipProtocol::Tcp)]);
        assert!(lookup.contains_address(address_bits("203.0.113.15".parse().unwrap())));
        assert!(!lookup.contains_address(address_bits("203.0.113.16".parse().unwrap())));
    }
}
