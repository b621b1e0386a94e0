//! The receiver against the sender: what the data path writes, this crate reads, and it finds the
//! packet, the version and the hop that went in. The two were written apart from each other.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use dataplane::buffer::{Buffer, Frame};
use dataplane::forward::{OuterHeaders, rewrite_naming};
use dataplane::parse::parse;
use dataplane::tables::{Backend, Encapsulation, PortTable};
use dataplane::wire::{
    GueHeader, IpProtocol, Ipv4Header, Ipv6Header, MacAddress, SecondChanceData, UdpHeader,
};
use etherparse::PacketBuilder;
use proptest::prelude::*;
use weir_gue::{gue, inner};
use zerocopy::IntoBytes;

const NODE: [u8; 6] = [2, 0, 0, 0, 0, 2];

/// A backend behind GUE headers of variant 0, over IPv4 or IPv6.
fn backend(v6: bool, version: Option<u32>) -> Backend {
    let data = version.map(SecondChanceData::build);
    let data = data.as_ref().map_or(&[][..], IntoBytes::as_bytes);
    let outer = match v6 {
        false => {
            let (source, to) = (Ipv4Addr::new(192, 0, 2, 2), Ipv4Addr::new(192, 0, 2, 11));
            Ipv4Header::build(source, to, IpProtocol::UDP, 0).as_bytes().to_vec()
        }
        true => Ipv6Header::build(Ipv6Addr::LOCALHOST, Ipv6Addr::LOCALHOST, IpProtocol::UDP, 0)
            .as_bytes()
            .to_vec(),
    };
    let header = [
        &[0; 14],
        &outer[..],
        UdpHeader::build(0, 6080, 0).as_bytes(),
        GueHeader::build(IpProtocol::IPV4, (data.len() / 4) as u8).as_bytes(),
        data,
    ]
    .concat();
    let mut backend = Backend::gone(0);
    backend.encapsulation =
        if v6 { Encapsulation::GueWithHeader6 } else { Encapsulation::GueWithHeader4 };
    backend.reachable = true;
    backend.inner_mtu = 1400;
    backend.link_length = 14;
    backend.header_length = header.len() as u8;
    backend.udp_checksum = v6;
    backend.header[..header.len()].copy_from_slice(&header);
    backend
}

fn port() -> PortTable {
    let addresses = vec![(IpAddr::from([192, 0, 2, 2]), 24)];
    PortTable { mac: MacAddress(NODE), any_mac: false, vlan: None, mtu: 1500, addresses }
}

/// A client's packet, in its frame.
fn packet(v6: bool, syn: bool, payload: &[u8]) -> Vec<u8> {
    let link = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], NODE);
    let tcp = match v6 {
        false => link.ipv4([198, 51, 100, 7], [203, 0, 113, 1], 64).tcp(40_000, 80, 1, 1000),
        true => link.ipv6([0x20; 16], [0x26; 16], 64).tcp(40_000, 80, 1, 1000),
    };
    let tcp = if syn { tcp.syn() } else { tcp.ack(1) };
    let mut bytes = Vec::new();
    tcp.write(&mut bytes, payload).unwrap();
    bytes
}

fn hop() -> impl Strategy<Value = Option<IpAddr>> {
    prop_oneof![
        Just(None),
        any::<[u8; 4]>().prop_map(|hop| Some(hop.into())),
        any::<[u8; 16]>().prop_map(|hop| Some(hop.into())),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_sent_is_what_is_read(
        outer_v6: bool,
        inner_v6: bool,
        syn: bool,
        version in any::<Option<u32>>(),
        hop in hop(),
        flow_hash: u64,
        payload in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        let backend = backend(outer_v6, version);
        let came = packet(inner_v6, syn, &payload);
        let mut frame = Frame::new(&came);
        let parsed = parse(&frame, &port());
        let mut outer = OuterHeaders::new(0, 1);
        rewrite_naming(&mut frame, &parsed, &backend, flow_hash, &mut outer, || hop).unwrap();

        let ip = if outer_v6 { 40 } else { 20 };
        let mut datagram = frame.data()[14 + ip + 8..].to_vec();
        let read = gue::parse(&datagram).unwrap();
        prop_assert_eq!(read.announced, Some(if inner_v6 { 6 } else { 4 }));
        prop_assert_eq!(read.chance.map(|chance| chance.version), version);
        let expected = hop.filter(|_| version.is_some());
        prop_assert_eq!(read.chance.and_then(|chance| chance.next_hop()), expected);

        let packet = inner::parse(read.inner, read.announced).unwrap();
        prop_assert_eq!(packet.bytes.len(), came.len() - 14);
        prop_assert_eq!(&packet.bytes[40..], &came[14 + 40..], "but for hop and checksum");
        let opening = matches!(packet.about, inner::About::Opening(_));
        prop_assert_eq!(opening, syn);

        // Passed on once, it names nobody any more.
        gue::advance(&mut datagram);
        if expected.is_some() {
            prop_assert_eq!(gue::parse(&datagram).unwrap().chance.unwrap().next_hop(), None);
        }
    }
}
