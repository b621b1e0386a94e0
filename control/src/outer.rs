//! What is put in front of a backend's packets: link header, outer IP header, and what the mode
//! has between that and the packet inside. Written once when tables are built, for an IPv4 packet
//! inside; workers copy it and fill in what differs from packet to packet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use dataplane::neighbour::NextHop;
use dataplane::tables::{Backend, Encapsulation, IcmpOptions, MAX_HEADER, Oversize, PortTable};
use dataplane::wire::{
    EtherType, GreHeader, GueHeader, IpProtocol, Ipv4Header, Ipv6Header, MacAddress,
    SecondChanceData, UdpHeader,
};
use zerocopy::IntoBytes;

/// How outer headers look, and what is done where they make a packet too long.
#[derive(Clone, Copy, Debug)]
pub struct OuterOptions {
    /// Outer IPv4 source; `None`: the port's own address.
    pub source_v4: Option<Ipv4Addr>,
    /// Outer IPv6 source; `None`: the port's own address.
    pub source_v6: Option<Ipv6Addr>,
    /// Prefix and its length from which flows draw the outer IPv4 source. Not for GUE, where the
    /// source port carries the flow.
    pub entropy_v4: Option<(Ipv4Addr, u8)>,
    /// The same for IPv6; flows draw the last 32 bits at most.
    pub entropy_v6: Option<(Ipv6Addr, u8)>,
    /// DF in an outer IPv4 header.
    pub dont_fragment: bool,
    /// Time to live, or hop limit, of the outer header.
    pub time_to_live: u8,
    /// UDP destination port of GUE.
    pub gue_port: u16,
    /// GUE over IPv6 with a UDP checksum; without, it is zero (RFC 6935).
    pub gue_checksum_v6: bool,
    /// What is done with packets whose sender does not find out that they are too long.
    pub oversize: Oversize,
    /// ICMP errors, delivered and sent.
    pub icmp: IcmpOptions,
}

/// What the pool says of its headers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mode {
    /// What is put in front.
    pub(crate) encapsulation: Encapsulation,
    /// GUE headers have private data: the snapshot's version, and room for one hop of so many
    /// bytes. `None`: they have not.
    pub(crate) second_chance: Option<(u32, u8)>,
}

impl From<Encapsulation> for Mode {
    fn from(encapsulation: Encapsulation) -> Self {
        Self { encapsulation, second_chance: None }
    }
}

/// The way to a backend.
pub(crate) struct Way<'a> {
    /// The port that leads there.
    pub(crate) port: &'a PortTable,
    /// Who is next.
    pub(crate) hop: NextHop,
    /// The next hop's link address, if it is known.
    pub(crate) mac: Option<MacAddress>,
    /// The backend's address.
    pub(crate) address: IpAddr,
}

impl Way<'_> {
    /// The port's address to send from: of the next hop's subnet where that says one, as a
    /// link-local address leads nobody back.
    fn source(&self) -> Option<IpAddr> {
        let local =
            |address: &IpAddr| matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
        let family = |address: &IpAddr| address.is_ipv4() == self.address.is_ipv4();
        let by_hop = self.port.source_for(self.hop.address);
        let by_hop = by_hop.filter(|source| family(source) && !local(source));
        by_hop.or_else(|| self.port.source_for(self.address))
    }
}

/// The header of `mode` for a backend, and what goes with it in [`Backend`]; `None` when
/// the port has no address to send from.
pub(crate) fn write(
    options: &OuterOptions,
    mode: impl Into<Mode>,
    way: &Way<'_>,
    place: &mut Backend,
) -> Option<()> {
    let mode = mode.into();
    let encapsulation = mode.encapsulation;
    let mut header = link_header(way, encapsulation);
    let link_length = header.len();
    let (protocol, shim) = shim(options, mode);
    let mut checksum_base = 0;
    let mut source_entropy = 0;
    if encapsulation != Encapsulation::L2dsr {
        // GUE's entropy is in its source port.
        let entropy = protocol != IpProtocol::UDP;
        match way.address {
            IpAddr::V4(address) => {
                let drawn = options.entropy_v4.filter(|_| entropy);
                let (source, flow_bits) = match drawn {
                    Some((prefix, length)) => {
                        let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
                        (Ipv4Addr::from(u32::from(prefix) & mask), !mask)
                    }
                    None => match (options.source_v4, way.source()) {
                        (Some(source), _) | (None, Some(IpAddr::V4(source))) => (source, 0),
                        _ => return None,
                    },
                };
                let mut outer = Ipv4Header::build(source, address, protocol, 0);
                outer.set_dont_fragment(options.dont_fragment);
                outer.time_to_live = options.time_to_live;
                outer.header_checksum = 0.into();
                source_entropy = flow_bits;
                checksum_base = word_sum(outer.as_bytes());
                header.extend_from_slice(outer.as_bytes());
            }
            IpAddr::V6(address) => {
                let drawn = options.entropy_v6.filter(|_| entropy);
                let (source, flow_bits) = match drawn {
                    Some((prefix, length)) => {
                        let bits = 128u32.saturating_sub(u32::from(length)).min(32);
                        let mask = u32::MAX.checked_shr(32 - bits).unwrap_or(0);
                        (Ipv6Addr::from(u128::from(prefix) & !u128::from(mask)), mask)
                    }
                    None => match (options.source_v6, way.source()) {
                        (Some(source), _) | (None, Some(IpAddr::V6(source))) => (source, 0),
                        _ => return None,
                    },
                };
                let mut outer = Ipv6Header::build(source, address, protocol, 0);
                outer.hop_limit = options.time_to_live;
                source_entropy = flow_bits;
                header.extend_from_slice(outer.as_bytes());
            }
        }
        header.extend_from_slice(&shim);
    }
    debug_assert!(header.len() <= MAX_HEADER);
    place.encapsulation = encapsulation;
    place.reachable = way.mac.is_some();
    place.port = way.hop.port;
    // The longest header counts, or what fits would change with every slot.
    let hop = mode.second_chance.map_or(0, |(_, length)| usize::from(length));
    place.inner_mtu = way.port.mtu.saturating_sub((header.len() + hop - link_length) as u16);
    place.source_entropy = source_entropy;
    place.checksum_base = checksum_base;
    place.udp_checksum =
        protocol == IpProtocol::UDP && way.address.is_ipv6() && options.gue_checksum_v6;
    place.link_length = link_length as u8;
    place.header_length = header.len() as u8;
    for (to, from) in place.header.iter_mut().zip(header) {
        *to = from;
    }
    Some(())
}

fn link_header(way: &Way<'_>, encapsulation: Encapsulation) -> Vec<u8> {
    // Without an outer header it is the packet's own version that counts, not the backend's.
    let v6 = way.address.is_ipv6() && encapsulation != Encapsulation::L2dsr;
    let ethertype = if v6 { EtherType::IPV6 } else { EtherType::IPV4 };
    way.port.link_header(way.mac.unwrap_or_default(), ethertype).to_vec()
}

/// The protocol number in the outer header, for IPv4 inside, and what comes behind that header.
fn shim(options: &OuterOptions, mode: Mode) -> (IpProtocol, Vec<u8>) {
    match mode.encapsulation {
        Encapsulation::Ipip4 | Encapsulation::Ipip6 | Encapsulation::L2dsr => {
            (IpProtocol::IPV4, Vec::new())
        }
        Encapsulation::Gre4 | Encapsulation::Gre6 => {
            (IpProtocol::GRE, GreHeader::build(EtherType::IPV4).as_bytes().to_vec())
        }
        Encapsulation::Gue4 | Encapsulation::Gue6 => {
            (IpProtocol::UDP, UdpHeader::build(0, options.gue_port, 0).as_bytes().to_vec())
        }
        Encapsulation::GueWithHeader4 | Encapsulation::GueWithHeader6 => {
            let data = mode.second_chance.map(|(version, _)| SecondChanceData::build(version));
            let data = data.as_ref().map_or(&[][..], IntoBytes::as_bytes);
            let gue = GueHeader::build(IpProtocol::IPV4, (data.len() / 4) as u8);
            let udp = UdpHeader::build(0, options.gue_port, 0);
            (IpProtocol::UDP, [udp.as_bytes(), gue.as_bytes(), data].concat())
        }
    }
}

/// The sum of the 16-bit words of a header of even length.
fn word_sum(header: &[u8]) -> u32 {
    header.chunks_exact(2).map(|word| u32::from(word[0]) << 8 | u32::from(word[1])).sum()
}

#[cfg(test)]
mod tests {
    use dataplane::wire::LinkTags;

    use super::*;

    fn options() -> OuterOptions {
        OuterOptions {
            source_v4: None,
            source_v6: None,
            entropy_v4: None,
            entropy_v6: None,
            dont_fragment: true,
            time_to_live: 64,
            gue_port: 6080,
            gue_checksum_v6: true,
            oversize: Oversize::Fragment,
            icmp: IcmpOptions::default(),
        }
    }

    fn port(addresses: &[&str]) -> PortTable {
        let prefix = |text: &&str| {
            let (address, length) = text.split_once('/').unwrap();
            (address.parse().unwrap(), length.parse().unwrap())
        };
        let addresses = addresses.iter().map(prefix).collect();
        PortTable {
            mac: MacAddress([2; 6]),
            any_mac: false,
            vlan: Some(LinkTags::single(7)),
            mtu: 1500,
            addresses,
        }
    }

    fn built(
        options: &OuterOptions,
        mode: impl Into<Mode>,
        port: &PortTable,
        to: &str,
    ) -> Option<Backend> {
        let hop = NextHop { port: 0, address: "fe80::1".parse().unwrap() };
        let mac = Some(MacAddress([4; 6]));
        let way = Way { port, hop, mac, address: to.parse().unwrap() };
        let mut place = Backend::gone(0);
        write(options, mode, &way, &mut place).map(|()| place)
    }

    #[test]
    fn every_header_fits_and_leaves_the_rest_to_the_packet() {
        let port = port(&["192.0.2.2/24", "2001:db8::2/64"]);
        for (mode, to, overhead) in [
            (Encapsulation::Ipip4, "10.0.0.1", 20),
            (Encapsulation::Ipip6, "2001:db8:1::1", 40),
            (Encapsulation::Gre4, "10.0.0.1", 24),
            (Encapsulation::Gre6, "2001:db8:1::1", 44),
            (Encapsulation::Gue4, "10.0.0.1", 28),
            (Encapsulation::Gue6, "2001:db8:1::1", 48),
            (Encapsulation::GueWithHeader4, "10.0.0.1", 32),
            (Encapsulation::GueWithHeader6, "2001:db8:1::1", 52),
            (Encapsulation::L2dsr, "192.0.2.9", 0),
        ] {
            let backend = built(&options(), mode, &port, to).unwrap();
            assert_eq!(backend.link_length, 18);
            assert_eq!(backend.header().len(), 18 + overhead, "{mode:?}");
            assert_eq!(usize::from(backend.inner_mtu), 1500 - overhead);
        }
    }

    #[test]
    fn a_second_chance_has_its_version_in_the_header_and_its_room_in_the_mtu() {
        let port = port(&["192.0.2.2/24", "2001:db8::2/64"]);
        for (encapsulation, to, overhead) in [
            (Encapsulation::GueWithHeader4, "10.0.0.1", 40),
            (Encapsulation::GueWithHeader6, "2001:db8:1::1", 60),
        ] {
            let mode = Mode { encapsulation, second_chance: Some((0x0102_0304, 16)) };
            let backend = built(&options(), mode, &port, to).unwrap();
            assert_eq!(backend.header().len(), 18 + overhead);
            assert_eq!(usize::from(backend.inner_mtu), 1500 - overhead - 16);
            let data = &backend.header()[18 + overhead - 12..];
            assert_eq!(data, [2, 4, 0, 0, 1, 0, 0, 0, 1, 2, 3, 4]);
            assert_eq!(backend.address(), to.parse().ok());
        }
    }

    #[test]
    fn without_an_address_of_the_family_there_is_no_way() {
        let v4 = port(&["192.0.2.2/24", "fe80::2/10"]);
        assert!(built(&options(), Encapsulation::Ipip6, &v4, "2001:db8:1::1").is_none());
        let configured = OuterOptions { source_v6: "2001:db8::9".parse().ok(), ..options() };
        assert!(built(&configured, Encapsulation::Ipip6, &v4, "2001:db8:1::1").is_some());
        let v6 = port(&["2001:db8::2/64"]);
        assert!(built(&options(), Encapsulation::Gre4, &v6, "10.0.0.1").is_none());
    }

    #[test]
    fn flows_draw_from_the_prefix_and_not_beyond_32_bits() {
        let port = port(&["192.0.2.2/24", "2001:db8::2/64"]);
        let prefix = |length| Some(("100::".parse().unwrap(), length));
        for (length, bits) in [(64, u32::MAX), (96, u32::MAX), (104, 0x00ff_ffff), (112, 0xffff)] {
            let options = OuterOptions { entropy_v6: prefix(length), ..options() };
            let backend = built(&options, Encapsulation::Ipip6, &port, "2001:db8::9").unwrap();
            assert_eq!(backend.source_entropy, bits, "/{length}");
            assert_eq!(backend.header()[18 + 8..][..16], [&[1, 0][..], &[0; 14]].concat());
            let gue = built(&options, Encapsulation::Gue6, &port, "2001:db8::9").unwrap();
            assert_eq!(gue.source_entropy, 0, "the port carries the flow");
        }
    }
}
