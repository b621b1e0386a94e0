//! Typed views of packet headers, and the arithmetic that goes with them.
//!
//! One idea: a header is a `#[repr(C)]` struct of bytes and network-order integers, so a
//! reference to it can be laid over received bytes after **one** length check, and nothing
//! is copied. Every file has the same skeleton: the layout as its RFC draws it, the struct
//! with the RFC's field names, `LENGTH`, `parse` and `parse_mut`, accessors for fields that
//! share a byte, constants, and builders where the node writes such a header itself.
//!
//! Invariants:
//! - `parse` checks that the fixed part is there, and nothing else. Whether the values make
//!   sense together (lengths, versions, checksums) is judged by the parse stage, which owns
//!   the drop reasons.
//! - No function in this folder panics, whatever the bytes are.
//! - All structs have alignment 1: a header may start at any address.

#![forbid(unsafe_code)]

pub mod ethernet;
pub mod vlan;

pub mod arp;

pub mod ipv4;
mod ipv4_options;
pub mod ipv6;
pub mod ipv6_extensions;
pub mod martian;
pub mod protocol;

pub mod gre;
pub mod gue;
pub mod icmp;
pub mod icmpv6;
pub mod ndp;
pub mod tcp;
pub mod udp;

pub mod checksum;

pub use arp::ArpPacket;
pub use ethernet::{EtherType, EthernetHeader, MacAddress};
pub use gre::GreHeader;
pub use gue::{GueHeader, SecondChanceData};
pub use icmp::{IcmpHeader, IcmpType};
pub use icmpv6::{Icmpv6Header, Icmpv6Type};
pub use ipv4::Ipv4Header;
pub use ipv6::Ipv6Header;
pub use ndp::{NeighbourMessage, NeighbourPacket};
pub use protocol::IpProtocol;
pub use tcp::{TcpFlags, TcpHeader};
pub use udp::UdpHeader;
pub use vlan::{LinkTags, VlanTag};

#[cfg(test)]
mod differential;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Miri runs some hundred times slower: fewer cases, and no file access.
    pub(super) fn proptest_config() -> ProptestConfig {
        ProptestConfig {
            cases: if cfg!(miri) { 8 } else { 512 },
            failure_persistence: None,
            ..ProptestConfig::default()
        }
    }

    proptest! {
        #![proptest_config(proptest_config())]

        #[test]
        fn no_bytes_make_a_parser_or_an_accessor_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..80),
        ) {
            let mut bytes = bytes;
            if let Some((header, rest)) = EthernetHeader::parse(&bytes) {
                prop_assert_eq!(rest.len(), bytes.len() - EthernetHeader::LENGTH);
                let _ = (header.ethertype.is_vlan(), header.destination.to_string());
            }
            if let Some((tag, _)) = VlanTag::parse(&bytes) {
                let _ = (tag.priority(), tag.drop_eligible(), tag.identifier());
            }
            if let Some((packet, _)) = ArpPacket::parse(&bytes) {
                let _ = packet.validate();
            }
            if let Some((header, rest)) = Ipv4Header::parse(&bytes) {
                let _ = (header.version(), header.header_length(), header.dscp(), header.ecn());
                let _ = (header.is_fragment(), header.source_address(), header.destination_address());
                let _ = martian::is_martian_source_v4(header.source_address());
                let _ = ipv4::inspect_options(rest);
                prop_assert!(ipv4::Options::new(rest).count() <= ipv4::MAX_OPTIONS_LENGTH);
            }
            if let Some((header, _)) = Ipv6Header::parse(&bytes) {
                let _ = (header.version(), header.traffic_class(), header.flow_label());
                let _ = martian::is_martian_source_v6(header.source_address());
                let _ = ndp::validate(header, bytes.get(Ipv6Header::LENGTH..).unwrap_or_default());
            }
            if let Some((header, rest)) = TcpHeader::parse(&bytes) {
                let _ = (header.data_offset(), header.header_length(), header.flags.to_string());
                let _ = TcpHeader::build_reset(header, rest.len() as u32);
            }
            let _ = UdpHeader::parse(&bytes);
            let _ = (checksum::checksum(&bytes), checksum::verify(&bytes));
            if let Some((header, _)) = IcmpHeader::parse_mut(&mut bytes) {
                let _ = header.turn_echo_request_into_reply();
            }
            if let Some((header, _)) = Ipv4Header::parse_mut(&mut bytes) {
                let _ = header.decrement_time_to_live();
            }
        }
    }

    #[test]
    fn every_parser_takes_its_length_and_refuses_one_byte_less() {
        let bytes = [0u8; 64];
        assert!(EthernetHeader::parse(&bytes[..EthernetHeader::LENGTH]).is_some());
        assert!(EthernetHeader::parse(&bytes[..EthernetHeader::LENGTH - 1]).is_none());
        assert!(VlanTag::parse(&bytes[..VlanTag::LENGTH]).is_some());
        assert!(VlanTag::parse(&bytes[..VlanTag::LENGTH - 1]).is_none());
        assert!(ArpPacket::parse(&bytes[..ArpPacket::LENGTH]).is_some());
        assert!(ArpPacket::parse(&bytes[..ArpPacket::LENGTH - 1]).is_none());
        assert!(Ipv4Header::parse(&bytes[..Ipv4Header::LENGTH]).is_some());
        assert!(Ipv4Header::parse(&bytes[..Ipv4Header::LENGTH - 1]).is_none());
        assert!(Ipv6Header::parse(&bytes[..Ipv6Header::LENGTH]).is_some());
        assert!(Ipv6Header::parse(&bytes[..Ipv6Header::LENGTH - 1]).is_none());
        assert!(TcpHeader::parse(&bytes[..TcpHeader::LENGTH]).is_some());
        assert!(TcpHeader::parse(&bytes[..TcpHeader::LENGTH - 1]).is_none());
        assert!(UdpHeader::parse(&bytes[..UdpHeader::LENGTH]).is_some());
        assert!(UdpHeader::parse(&bytes[..UdpHeader::LENGTH - 1]).is_none());
        assert!(IcmpHeader::parse(&bytes[..IcmpHeader::LENGTH]).is_some());
        assert!(IcmpHeader::parse(&bytes[..IcmpHeader::LENGTH - 1]).is_none());
        assert!(Icmpv6Header::parse(&bytes[..Icmpv6Header::LENGTH]).is_some());
        assert!(Icmpv6Header::parse(&bytes[..Icmpv6Header::LENGTH - 1]).is_none());
        assert!(GreHeader::parse(&bytes[..GreHeader::LENGTH]).is_some());
        assert!(GreHeader::parse(&bytes[..GreHeader::LENGTH - 1]).is_none());
    }
}
