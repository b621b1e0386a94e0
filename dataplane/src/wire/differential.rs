//! The views against an independent parser (`etherparse`), on arbitrary bytes: both must agree
//! on what is long enough and well-formed, and on the value of every field.

use etherparse::{
    Ethernet2HeaderSlice, Ipv4HeaderSlice, Ipv6HeaderSlice, SingleVlanHeaderSlice, TcpHeaderSlice,
    UdpHeaderSlice,
};
use proptest::prelude::*;

use super::tests::proptest_config;
use super::*;

/// Bytes of any length that matters, the first one often a plausible version and IHL.
fn header_bytes() -> impl Strategy<Value = Vec<u8>> {
    let first = prop_oneof![Just(0x45u8), 0x40..0x50u8, Just(0x60u8), any::<u8>()];
    (first, proptest::collection::vec(any::<u8>(), 0..70)).prop_map(|(first, mut bytes)| {
        if let Some(byte) = bytes.first_mut() {
            *byte = first;
        }
        bytes
    })
}

proptest! {
    #![proptest_config(proptest_config())]

    #[test]
    fn ethernet_and_vlan_agree(bytes in header_bytes()) {
        let (ours, theirs) =
            (EthernetHeader::parse(&bytes), Ethernet2HeaderSlice::from_slice(&bytes));
        prop_assert_eq!(ours.is_some(), theirs.is_ok());
        if let (Some((ours, _)), Ok(theirs)) = (ours, theirs) {
            prop_assert_eq!(ours.destination.0, theirs.destination());
            prop_assert_eq!(ours.source.0, theirs.source());
            prop_assert_eq!(ours.ethertype.number(), theirs.ether_type().0);
        }
        let (ours, theirs) = (VlanTag::parse(&bytes), SingleVlanHeaderSlice::from_slice(&bytes));
        prop_assert_eq!(ours.is_some(), theirs.is_ok());
        if let (Some((ours, _)), Ok(theirs)) = (ours, theirs) {
            prop_assert_eq!(ours.priority(), theirs.priority_code_point().value());
            prop_assert_eq!(ours.drop_eligible(), theirs.drop_eligible_indicator());
            prop_assert_eq!(ours.identifier(), theirs.vlan_identifier().value());
            prop_assert_eq!(ours.ethertype.number(), theirs.ether_type().0);
        }
    }

    #[test]
    fn ipv4_agrees(bytes in header_bytes()) {
        let theirs = Ipv4HeaderSlice::from_slice(&bytes);
        // Our view leaves version and length to the parse stage: the same rules, here.
        let ours = Ipv4Header::parse(&bytes).map(|(header, _)| header).filter(|header| {
            header.version() == 4
                && (Ipv4Header::LENGTH..=bytes.len()).contains(&header.header_length())
        });
        prop_assert_eq!(ours.is_some(), theirs.is_ok());
        if let (Some(ours), Ok(theirs)) = (ours, theirs) {
            prop_assert_eq!(ours.header_length(), theirs.slice().len());
            prop_assert_eq!(ours.dscp(), theirs.dcp().value());
            prop_assert_eq!(ours.ecn(), theirs.ecn().value());
            prop_assert_eq!(ours.total_length.get(), theirs.total_len());
            prop_assert_eq!(ours.identification.get(), theirs.identification());
            prop_assert_eq!(ours.dont_fragment(), theirs.dont_fragment());
            prop_assert_eq!(ours.more_fragments(), theirs.more_fragments());
            prop_assert_eq!(ours.fragment_offset(), theirs.fragments_offset().value());
            prop_assert_eq!(ours.is_fragment(), theirs.is_fragmenting_payload());
            prop_assert_eq!(ours.time_to_live, theirs.ttl());
            prop_assert_eq!(ours.protocol.0, theirs.protocol().0);
            prop_assert_eq!(ours.header_checksum.get(), theirs.header_checksum());
            prop_assert_eq!(ours.source_address(), theirs.source_addr());
            prop_assert_eq!(ours.destination_address(), theirs.destination_addr());
            let right = theirs.to_header().calc_header_checksum();
            prop_assert_eq!(
                checksum::verify(&bytes[..ours.header_length()]),
                right == theirs.header_checksum()
            );
        }
    }

    #[test]
    fn ipv6_agrees(bytes in header_bytes()) {
        let theirs = Ipv6HeaderSlice::from_slice(&bytes);
        let ours =
            Ipv6Header::parse(&bytes).map(|(header, _)| header).filter(|header| header.version() == 6);
        prop_assert_eq!(ours.is_some(), theirs.is_ok());
        if let (Some(ours), Ok(theirs)) = (ours, theirs) {
            prop_assert_eq!(ours.traffic_class(), theirs.traffic_class());
            prop_assert_eq!(ours.flow_label(), theirs.flow_label().value());
            prop_assert_eq!(ours.payload_length.get(), theirs.payload_length());
            prop_assert_eq!(ours.next_header.0, theirs.next_header().0);
            prop_assert_eq!(ours.hop_limit, theirs.hop_limit());
            prop_assert_eq!(ours.source_address(), theirs.source_addr());
            prop_assert_eq!(ours.destination_address(), theirs.destination_addr());
        }
    }

    #[test]
    fn tcp_agrees(bytes in header_bytes()) {
        let theirs = TcpHeaderSlice::from_slice(&bytes);
        let ours = TcpHeader::parse(&bytes).map(|(header, _)| header).filter(|header| {
            (TcpHeader::LENGTH..=bytes.len()).contains(&header.header_length())
        });
        prop_assert_eq!(ours.is_some(), theirs.is_ok());
        if let (Some(ours), Ok(theirs)) = (ours, theirs) {
            prop_assert_eq!(ours.source_port.get(), theirs.source_port());
            prop_assert_eq!(ours.destination_port.get(), theirs.destination_port());
            prop_assert_eq!(ours.sequence_number.get(), theirs.sequence_number());
            prop_assert_eq!(ours.acknowledgment_number.get(), theirs.acknowledgment_number());
            prop_assert_eq!(ours.data_offset(), theirs.data_offset());
            prop_assert_eq!(ours.flags.fin(), theirs.fin());
            prop_assert_eq!(ours.flags.syn(), theirs.syn());
            prop_assert_eq!(ours.flags.rst(), theirs.rst());
            prop_assert_eq!(ours.flags.psh(), theirs.psh());
            prop_assert_eq!(ours.flags.ack(), theirs.ack());
            prop_assert_eq!(ours.flags.urg(), theirs.urg());
            prop_assert_eq!(ours.window.get(), theirs.window_size());
            prop_assert_eq!(ours.checksum.get(), theirs.checksum());
            prop_assert_eq!(ours.urgent_pointer.get(), theirs.urgent_pointer());
        }
    }

    #[test]
    fn udp_agrees(bytes in header_bytes()) {
        let (ours, theirs) = (UdpHeader::parse(&bytes), UdpHeaderSlice::from_slice(&bytes));
        prop_assert_eq!(ours.is_some(), theirs.is_ok());
        if let (Some((ours, _)), Ok(theirs)) = (ours, theirs) {
            prop_assert_eq!(ours.source_port.get(), theirs.source_port());
            prop_assert_eq!(ours.destination_port.get(), theirs.destination_port());
            prop_assert_eq!(ours.length.get(), theirs.length());
            prop_assert_eq!(ours.checksum.get(), theirs.checksum());
        }
    }

    #[test]
    fn transport_checksums_agree(
        source in any::<u32>(),
        destination in any::<u32>(),
        payload in proptest::collection::vec(any::<u8>(), 0..64),
    ) {
        let (source, destination) = (source.to_be_bytes(), destination.to_be_bytes());
        let theirs = etherparse::UdpHeader::with_ipv4_checksum(
            1,
            2,
            &etherparse::Ipv4Header::new(8, 64, etherparse::IpNumber::UDP, source, destination)
                .unwrap(),
            &payload,
        )
        .unwrap();
        let length = (UdpHeader::LENGTH + payload.len()) as u16;
        let mut ours = UdpHeader::build(1, 2, length);
        let sum = checksum::pseudo_header_v4(source.into(), destination.into(), IpProtocol::UDP, length)
            .add_bytes(zerocopy::IntoBytes::as_bytes(&ours))
            .add_bytes(&payload);
        ours.set_computed_checksum(sum.checksum());
        prop_assert_eq!(ours.checksum.get(), theirs.checksum);
    }
}
