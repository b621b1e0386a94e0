//! The first look at an IPv6 packet (RFC 8200): fixed header, extension headers, transport.
//!
//! The checks come in the order of IPv4's, so that a packet with several faults is counted alike.
//! Neighbour discovery is told apart before addresses are judged: it alone may come from the
//! unspecified address, and go to a group.

use conntrack::FlowKey;

use super::transport::{Transport, transport};
use super::{Kind, Parsed, fragment};
use crate::verdict::DropReason;
use crate::wire::ipv6_extensions::{ChainFault, walk};
use crate::wire::{Icmpv6Header, Icmpv6Type, IpProtocol, Ipv6Header, icmpv6, martian};

/// Parses the packet in `bytes`, which `link_length` bytes came before. `group`: the frame went
/// to a multicast address.
#[inline(never)]
pub(super) fn parse(bytes: &[u8], link_length: u8, group: bool) -> Result<Parsed, DropReason> {
    let (header, _) = Ipv6Header::parse(bytes).ok_or(DropReason::BadIpLength)?;
    if header.version() != 6 {
        return Err(DropReason::BadIpVersion);
    }
    // RFC 8200 section 3: extension headers count, this header does not. What the frame has
    // beyond is padding. Jumbograms (RFC 2675) say 0, and then lack what they announce.
    let length = Ipv6Header::LENGTH + usize::from(header.payload_length.get());
    let packet = bytes.get(..length).ok_or(DropReason::BadIpLength)?;
    let ip_length = u16::try_from(length).map_err(|_| DropReason::BadIpLength)?;
    let chain = packet.get(Ipv6Header::LENGTH..).unwrap_or_default();
    let end = walk(header.next_header, chain).map_err(|fault| match fault {
        ChainFault::Malformed => DropReason::BadExtensionHeader,
        ChainFault::TooLong => DropReason::ExtensionHeaderLimit,
        ChainFault::SourceRoute => DropReason::SourceRoute,
    })?;
    let payload = chain.get(end.length..).ok_or(DropReason::BadExtensionHeader)?;
    let (source, destination) = (header.source_address(), header.destination_address());
    let parsed = |kind, found: Transport| Parsed {
        kind,
        segment: found.segment,
        link_length,
        // Bounded by the walk.
        header_length: (Ipv6Header::LENGTH + end.length) as u16,
        ip_length,
        key: FlowKey::v6(
            source,
            destination,
            found.source_port,
            found.destination_port,
            end.protocol.0,
        ),
    };
    let is_icmp = end.protocol == IpProtocol::ICMPV6 && end.fragment.is_none();
    if is_icmp && is_neighbour_discovery(payload) {
        if !icmpv6::is_sound(source, destination, payload) {
            return Err(DropReason::BadNdp);
        }
        return Ok(parsed(Kind::Ndp, Transport::WITHOUT_PORTS));
    }
    if group {
        return Err(DropReason::LinkBroadcast);
    }
    if martian::is_martian_source_v6(source) {
        return Err(DropReason::MartianSource);
    }
    if martian::is_martian_source_v6(destination) {
        return Err(DropReason::MartianDestination);
    }
    if martian::is_land_attack(source, destination) {
        return Err(DropReason::Land);
    }
    if let Some(at) = end.fragment {
        let found =
            fragment::transport_v6(chain.get(at..).unwrap_or_default(), end.protocol, payload)?;
        return Ok(parsed(Kind::Fragment, found));
    }
    if is_icmp {
        if payload.len() < Icmpv6Header::LENGTH || !icmpv6::is_sound(source, destination, payload) {
            return Err(DropReason::BadIcmp);
        }
        return Ok(parsed(Kind::Icmp, Transport::WITHOUT_PORTS));
    }
    Ok(parsed(Kind::Flow, transport(end.protocol, payload)?))
}

/// Solicitations and advertisements of neighbours; those of routers are not the node's business.
fn is_neighbour_discovery(message: &[u8]) -> bool {
    message.first().is_some_and(|kind| {
        matches!(
            Icmpv6Type(*kind),
            Icmpv6Type::NEIGHBOUR_SOLICITATION | Icmpv6Type::NEIGHBOUR_ADVERTISEMENT
        )
    })
}
