//! What the node sends to find out who is where: ARP requests (RFC 826) and neighbour
//! solicitations (RFC 4861).

use std::net::IpAddr;

use arrayvec::ArrayVec;
use dataplane::link::CONTROL_FRAME;
use dataplane::neighbour::Probe;
use dataplane::tables::PortTable;
use dataplane::wire::{ArpPacket, EtherType, MacAddress, NeighbourPacket, ndp};
use zerocopy::IntoBytes;

/// The whole frame that asks for a next hop at `port`; `None` when the port has no address of its
/// family.
pub(crate) fn frame(port: &PortTable, probe: Probe) -> Option<ArrayVec<u8, CONTROL_FRAME>> {
    let target = probe.hop.address;
    match (port.source_for(target)?, target) {
        (IpAddr::V4(source), IpAddr::V4(target)) => {
            let body = ArpPacket::build_request(port.mac, source, target);
            let destination = probe.directly.unwrap_or(MacAddress::BROADCAST);
            build(port, destination, EtherType::ARP, body.as_bytes())
        }
        (IpAddr::V6(source), IpAddr::V6(target)) => {
            let direct = probe.directly.is_some();
            let body = NeighbourPacket::solicitation(source, port.mac, target, direct);
            let group = ndp::group_mac(ndp::solicited_node(target));
            let destination = probe.directly.unwrap_or(group);
            build(port, destination, EtherType::IPV6, body.as_bytes())
        }
        _ => None,
    }
}

fn build(
    port: &PortTable,
    destination: MacAddress,
    ethertype: EtherType,
    body: &[u8],
) -> Option<ArrayVec<u8, CONTROL_FRAME>> {
    let mut frame = ArrayVec::new();
    frame.try_extend_from_slice(&port.link_header(destination, ethertype)).ok()?;
    frame.try_extend_from_slice(body).ok()?;
    Some(frame)
}
