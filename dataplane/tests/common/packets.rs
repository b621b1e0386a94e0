//! Packets as clients send them, made by `etherparse`.

use etherparse::{ArpHardwareId, ArpOperation, ArpPacket, EtherType, PacketBuilder};
use etherparse::{PacketBuilderStep, TcpHeader};

use super::world::{GATEWAY_MAC, NODE_MAC};

/// An address and a port.
pub(crate) type Endpoint = ([u8; 4], u16);

/// A TCP packet without flags yet.
pub(crate) fn tcp(
    source: Endpoint,
    destination: Endpoint,
    sequence: u32,
) -> PacketBuilderStep<TcpHeader> {
    PacketBuilder::ethernet2(GATEWAY_MAC.0, NODE_MAC.0).ipv4(source.0, destination.0, 64).tcp(
        source.1,
        destination.1,
        sequence,
        64_240,
    )
}

/// The frame of a TCP packet.
pub(crate) fn finish(builder: PacketBuilderStep<TcpHeader>, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(builder.size(payload.len()));
    builder.write(&mut bytes, payload).unwrap();
    bytes
}

/// SYN.
pub(crate) fn syn(source: Endpoint, destination: Endpoint) -> Vec<u8> {
    finish(tcp(source, destination, 1000).syn(), &[])
}

/// ACK with a byte of data.
pub(crate) fn ack(source: Endpoint, destination: Endpoint) -> Vec<u8> {
    finish(tcp(source, destination, 1001).ack(7000), b"x")
}

/// FIN and ACK.
pub(crate) fn fin(source: Endpoint, destination: Endpoint) -> Vec<u8> {
    finish(tcp(source, destination, 1002).fin().ack(7000), &[])
}

/// RST.
pub(crate) fn rst(source: Endpoint, destination: Endpoint) -> Vec<u8> {
    finish(tcp(source, destination, 1002).rst(), &[])
}

/// UDP.
pub(crate) fn udp(source: Endpoint, destination: Endpoint) -> Vec<u8> {
    datagram(source, destination, &[0x5a; 16])
}

/// UDP with a payload.
pub(crate) fn datagram(source: Endpoint, destination: Endpoint, payload: &[u8]) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(GATEWAY_MAC.0, NODE_MAC.0)
        .ipv4(source.0, destination.0, 64)
        .udp(source.1, destination.1);
    let mut bytes = Vec::with_capacity(builder.size(payload.len()));
    builder.write(&mut bytes, payload).unwrap();
    bytes
}

/// A ping.
pub(crate) fn echo(source: [u8; 4], destination: [u8; 4]) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(GATEWAY_MAC.0, NODE_MAC.0)
        .ipv4(source, destination, 64)
        .icmpv4_echo_request(1, 2);
    let mut bytes = Vec::with_capacity(builder.size(8));
    builder.write(&mut bytes, b"abcdefgh").unwrap();
    bytes
}

/// Who has `target`, asked by everyone's gateway; or, with `reply`, its answer to us.
pub(crate) fn arp(sender: [u8; 4], target: [u8; 4], reply: bool) -> Vec<u8> {
    let (operation, destination, asked) = match reply {
        false => (ArpOperation::REQUEST, [0xff; 6], [0; 6]),
        true => (ArpOperation::REPLY, NODE_MAC.0, NODE_MAC.0),
    };
    let packet = ArpPacket::new(
        ArpHardwareId::ETHERNET,
        EtherType::IPV4,
        operation,
        &GATEWAY_MAC.0,
        &sender,
        &asked,
        &target,
    )
    .unwrap();
    let mut bytes = Vec::new();
    PacketBuilder::ethernet2(GATEWAY_MAC.0, destination).arp(packet).write(&mut bytes).unwrap();
    bytes
}

/// The same frame with an 802.1Q tag.
pub(crate) fn tagged(frame: &[u8], identifier: u16) -> Vec<u8> {
    let [high, low] = identifier.to_be_bytes();
    [&frame[..12], &[0x81, 0x00, high, low], &frame[12..]].concat()
}
