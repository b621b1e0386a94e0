//! The packet that an ICMP error quotes, and the flow it belongs to.
//!
//! ```text
//!  | IP: router -> VIP | ICMP, 8 bytes | IP: VIP -> client, options or extension headers | 8 bytes |
//!                                      '------------------ the quote -------------------'
//! ```
//!
//! The quote is a packet that **left** the VIP, so the flow it belongs to, as the node knows it, is
//! the quote turned around: from the client to the VIP. RFC 792 promises the IP header and 64 bits
//! behind it, which hold the ports of TCP and UDP; nothing more is asked for.
//!
//! Only what names the flow is judged. Routers quote what they have in hand: its time to live is
//! taken down, its total length may be rewritten, and its header checksum is often left wrong by
//! that, so none of those is looked at: to drop such an error would break path MTU discovery
//! through that router, and who forges an error can also make its checksum right.

use std::net::IpAddr;

use conntrack::{Family, FlowKey};

use crate::wire::ipv6_extensions::{FragmentHeader, walk};
use crate::wire::{IcmpType, Icmpv6Type, IpProtocol, Ipv4Header, Ipv6Header};

/// Bytes of the quoted transport header that must be there: RFC 792's 64 bits.
pub const TRANSPORT_BYTES: usize = 8;

/// A quoted packet, as far as it names a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quote {
    /// Who sent the quoted packet: where the error goes.
    pub sender: IpAddr,
    /// Whom it was sent to.
    pub receiver: IpAddr,
    /// Its transport protocol, behind all extension headers.
    pub protocol: IpProtocol,
    /// A fragment other than the first: it has no ports.
    pub later_fragment: bool,
    /// Source and destination port; 0 for what has none.
    pub ports: (u16, u16),
}

impl Quote {
    /// Reads the quote in an error of this family; `None` when it is cut short or malformed.
    pub fn parse(family: Family, quoted: &[u8]) -> Option<Self> {
        match family {
            Family::V4 => Self::parse_v4(quoted),
            Family::V6 => Self::parse_v6(quoted),
        }
    }

    fn parse_v4(quoted: &[u8]) -> Option<Self> {
        let (header, _) = Ipv4Header::parse(quoted)?;
        if header.version() != 4 || header.header_length() < Ipv4Header::LENGTH {
            return None;
        }
        let behind = quoted.get(header.header_length()..)?;
        let later_fragment = header.fragment_offset() != 0;
        let ports = ports(header.protocol, later_fragment, behind)?;
        Some(Self {
            sender: header.source_address().into(),
            receiver: header.destination_address().into(),
            protocol: header.protocol,
            later_fragment,
            ports,
        })
    }

    fn parse_v6(quoted: &[u8]) -> Option<Self> {
        let (header, chain) = Ipv6Header::parse(quoted)?;
        if header.version() != 6 {
            return None;
        }
        let end = walk(header.next_header, chain).ok()?;
        let later_fragment = match end.fragment {
            Some(at) => FragmentHeader::parse(chain.get(at..)?)?.0.fragment_offset() != 0,
            None => false,
        };
        let ports = ports(end.protocol, later_fragment, chain.get(end.length..)?)?;
        Some(Self {
            sender: header.source_address().into(),
            receiver: header.destination_address().into(),
            protocol: end.protocol,
            later_fragment,
            ports,
        })
    }

    /// The flow as its client's packets name it; `None` for addresses of two families, which no
    /// quote has.
    pub fn flow(&self) -> Option<FlowKey> {
        let (vip_port, client_port) = self.ports;
        let protocol = self.protocol.0;
        match (self.receiver, self.sender) {
            (IpAddr::V4(client), IpAddr::V4(vip)) => {
                Some(FlowKey::v4(client, vip, client_port, vip_port, protocol))
            }
            (IpAddr::V6(client), IpAddr::V6(vip)) => {
                Some(FlowKey::v6(client, vip, client_port, vip_port, protocol))
            }
            _ => None,
        }
    }

    /// Whether the quoted packet was itself ICMP.
    pub fn is_icmp(&self) -> bool {
        let icmp = if self.sender.is_ipv4() { IpProtocol::ICMP } else { IpProtocol::ICMPV6 };
        self.protocol == icmp
    }

    /// Whether the quoted packet can be one that the node encapsulated, GUE at `gue_port`.
    pub fn is_tunnel(&self, gue_port: u16) -> bool {
        match self.protocol {
            IpProtocol::IPV4 | IpProtocol::IPV6 | IpProtocol::GRE => true,
            IpProtocol::UDP => self.ports.1 == gue_port,
            _ => false,
        }
    }
}

/// The ports at the front of `behind`; `None` when there should be some and are not.
fn ports(protocol: IpProtocol, later_fragment: bool, behind: &[u8]) -> Option<(u16, u16)> {
    if later_fragment || !matches!(protocol, IpProtocol::TCP | IpProtocol::UDP) {
        return Some((0, 0));
    }
    let [source0, source1, destination0, destination1, ..] =
        *behind.first_chunk::<TRANSPORT_BYTES>()?;
    let source = u16::from_be_bytes([source0, source1]);
    Some((source, u16::from_be_bytes([destination0, destination1])))
}

/// Whether a message of this type is an error that a host acts on, so that it is worth delivering:
/// destination unreachable (with frag-needed), packet too big, time exceeded, parameter problem.
/// Not redirects, which only routers of the own link may send, nor source quench (RFC 6633), nor
/// error types that nobody has defined.
pub fn is_delivered(family: Family, message_type: u8) -> bool {
    match family {
        Family::V4 => matches!(
            IcmpType(message_type),
            IcmpType::DESTINATION_UNREACHABLE
                | IcmpType::TIME_EXCEEDED
                | IcmpType::PARAMETER_PROBLEM
        ),
        Family::V6 => matches!(
            Icmpv6Type(message_type),
            Icmpv6Type::DESTINATION_UNREACHABLE
                | Icmpv6Type::PACKET_TOO_BIG
                | Icmpv6Type::TIME_EXCEEDED
                | Icmpv6Type::PARAMETER_PROBLEM
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use etherparse::{NetSlice, SlicedPacket, TransportSlice};
    use proptest::prelude::*;
    use zerocopy::IntoBytes;

    use super::*;

    const VIP: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
    const CLIENT: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
    /// From port 80 to 40000, sequence number.
    const PORTS: [u8; 8] = [0, 80, 0x9c, 0x40, 1, 2, 3, 4];

    fn v4(options: &[u8], protocol: IpProtocol, behind: &[u8]) -> Vec<u8> {
        let length = 20 + options.len() + behind.len();
        let mut header = Ipv4Header::build(VIP, CLIENT, protocol, length as u16);
        header.version_and_header_length = 0x45 + (options.len() / 4) as u8;
        [header.as_bytes(), options, behind].concat()
    }

    fn v6(first: IpProtocol, chain: &[u8], behind: &[u8]) -> Vec<u8> {
        let vip: Ipv6Addr = "2001:db8:cafe::1".parse().unwrap();
        let client: Ipv6Addr = "2001:db8:7::7".parse().unwrap();
        let length = (chain.len() + behind.len()) as u16;
        [Ipv6Header::build(vip, client, first, length).as_bytes(), chain, behind].concat()
    }

    #[test]
    fn eight_bytes_name_the_flow_the_other_way_around() {
        for protocol in [IpProtocol::TCP, IpProtocol::UDP] {
            let quote = Quote::parse(Family::V4, &v4(&[], protocol, &PORTS)).unwrap();
            let flow = FlowKey::v4(CLIENT, VIP, 40_000, 80, protocol.0);
            assert_eq!(quote.flow(), Some(flow));
            assert!(Quote::parse(Family::V4, &v4(&[], protocol, &PORTS[..7])).is_none());
            let quote = Quote::parse(Family::V6, &v6(protocol, &[], &PORTS)).unwrap();
            let flow = quote.flow().unwrap();
            assert_eq!((flow.source_port(), flow.destination_port()), (40_000, 80));
            assert_eq!(flow.destination().to_string(), "2001:db8:cafe::1");
        }
    }

    #[test]
    fn options_and_extension_headers_are_passed_over() {
        let quote = Quote::parse(Family::V4, &v4(&[7, 3, 4, 0], IpProtocol::TCP, &PORTS)).unwrap();
        assert_eq!(quote.ports, (80, 40_000));
        let chain = [6, 0, 1, 4, 0, 0, 0, 0];
        let quoted = v6(IpProtocol::IPV6_DESTINATION_OPTIONS, &chain, &PORTS);
        let quote = Quote::parse(Family::V6, &quoted).unwrap();
        assert_eq!((quote.protocol, quote.ports), (IpProtocol::TCP, (80, 40_000)));
    }

    #[test]
    fn a_later_fragment_has_no_ports_and_a_first_one_has() {
        let mut quoted = v4(&[], IpProtocol::UDP, &PORTS);
        quoted[6..8].copy_from_slice(&0x2000u16.to_be_bytes());
        assert_eq!(Quote::parse(Family::V4, &quoted).unwrap().ports, (80, 40_000));
        quoted[6..8].copy_from_slice(&0x2001u16.to_be_bytes());
        let quote = Quote::parse(Family::V4, &quoted).unwrap();
        assert!(quote.later_fragment && quote.ports == (0, 0));
        for (offset, later) in [(1, false), (9, true)] {
            let fragment = [17, 0, 0, offset, 0, 0, 0, 9];
            let quoted = v6(IpProtocol::IPV6_FRAGMENT, &fragment, &PORTS);
            let quote = Quote::parse(Family::V6, &quoted).unwrap();
            assert_eq!((quote.later_fragment, quote.ports.1 == 40_000), (later, !later));
        }
    }

    #[test]
    fn what_the_node_encapsulated_is_told_from_what_it_did_not() {
        let is_tunnel = |protocol, behind: &[u8]| {
            Quote::parse(Family::V4, &v4(&[], protocol, behind)).unwrap().is_tunnel(40_000)
        };
        for protocol in [IpProtocol::IPV4, IpProtocol::IPV6, IpProtocol::GRE] {
            assert!(is_tunnel(protocol, &[]));
        }
        assert!(is_tunnel(IpProtocol::UDP, &PORTS));
        assert!(!is_tunnel(IpProtocol::UDP, &[0, 80, 0, 80, 0, 0, 0, 0]));
        assert!(!is_tunnel(IpProtocol::TCP, &PORTS));
    }

    #[test]
    fn only_errors_that_hosts_act_on_are_delivered() {
        let types = |family| (0..=255).filter(|kind| is_delivered(family, *kind)).collect();
        let (v4, v6): (Vec<u8>, Vec<u8>) = (types(Family::V4), types(Family::V6));
        assert_eq!((v4, v6), (vec![3, 11, 12], vec![1, 2, 3, 4]));
    }

    /// What etherparse, which knows nothing of quotes, says of a whole packet.
    fn oracle(bytes: &[u8]) -> Option<(IpAddr, IpAddr, u16, u16)> {
        let packet = SlicedPacket::from_ip(bytes).ok()?;
        let (sender, receiver): (IpAddr, IpAddr) = match packet.net? {
            NetSlice::Ipv4(ip) => {
                (ip.header().source_addr().into(), ip.header().destination_addr().into())
            }
            NetSlice::Ipv6(ip) => {
                (ip.header().source_addr().into(), ip.header().destination_addr().into())
            }
            _ => return None,
        };
        match packet.transport? {
            TransportSlice::Tcp(tcp) => {
                Some((sender, receiver, tcp.source_port(), tcp.destination_port()))
            }
            TransportSlice::Udp(udp) => {
                Some((sender, receiver, udp.source_port(), udp.destination_port()))
            }
            _ => None,
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 20 } else { 4_000 }))]

        #[test]
        fn no_bytes_make_the_parser_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..120),
            first in prop_oneof![Just(0x45u8), Just(0x46), Just(0x60), any::<u8>()],
        ) {
            let mut bytes = bytes;
            if let Some(byte) = bytes.first_mut() {
                *byte = first;
            }
            for family in [Family::V4, Family::V6] {
                if let Some(quote) = Quote::parse(family, &bytes) {
                    prop_assert!(quote.flow().is_some());
                }
            }
        }

        /// However much of a packet is quoted: either its flow is found, the same at each length,
        /// or the quote is refused; and a whole packet means what another parser says it means.
        #[test]
        fn every_truncation_names_the_same_flow_or_none(
            options in 0usize..=10,
            sixth in any::<bool>(),
            tcp in any::<bool>(),
            payload in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            let protocol = if tcp { IpProtocol::TCP } else { IpProtocol::UDP };
            let mut transport = PORTS.to_vec();
            if tcp {
                transport.extend([0, 0, 0, 0, 0x50, 0x10, 0, 0, 0, 0, 0, 0]);
            } else {
                transport[4..6].copy_from_slice(&(8 + payload.len() as u16).to_be_bytes());
            }
            transport.extend(payload);
            let (family, whole) = if sixth {
                let mut chain = Vec::new();
                for left in (0..options).rev() {
                    let next = if left == 0 { protocol.0 } else { 60 };
                    chain.extend([next, 0, 1, 4, 0, 0, 0, 0]);
                }
                let first =
                    if options == 0 { protocol } else { IpProtocol::IPV6_DESTINATION_OPTIONS };
                (Family::V6, v6(first, &chain, &transport))
            } else {
                (Family::V4, v4(&vec![1; options * 4], protocol, &transport))
            };
            let found = Quote::parse(family, &whole);
            if sixth && options > crate::wire::ipv6_extensions::MAX_HEADERS {
                prop_assert!(found.is_none(), "a chain longer than the parser takes");
                return Ok(());
            }
            let found = found.unwrap();
            let said = (found.sender, found.receiver, found.ports.0, found.ports.1);
            prop_assert_eq!(oracle(&whole), Some(said));
            let header = whole.len() - transport.len();
            for length in 0..=whole.len() {
                let expected = (length >= header + TRANSPORT_BYTES).then_some(found);
                prop_assert_eq!(Quote::parse(family, &whole[..length]), expected);
            }
        }
    }
}
