//! Frames as the benchmark makes and expects them, by the simplest code there is.
//!
//! Nothing here shares a line with the data plane: what is compared with its output must not
//! contain its mistakes. Checksums are computed from scratch, a 16-bit word at a time (RFC 1071).

use std::net::IpAddr;

use crate::flows::{Flow, Ip};
use crate::scenario::Mode;

/// The shortest Ethernet frame, without its checksum.
const SHORTEST_FRAME: usize = 60;
/// An Ethernet header without tags.
pub const LINK_BYTES: usize = 14;
/// A TCP header without options.
const TCP_BYTES: usize = 20;
/// A UDP header.
const UDP_BYTES: usize = 8;
/// The port of GUE.
const GUE_PORT: u16 = 6080;

/// Which segment a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A pure acknowledgment: the flow goes on.
    Ack,
    /// Opens a connection.
    Syn,
}

impl Ip {
    /// Bytes of a header without options or extensions.
    pub const fn header_bytes(self) -> usize {
        match self {
            Self::V4 => 20,
            Self::V6 => 40,
        }
    }

    /// Where the source address lies in it; the destination follows.
    pub const fn addresses_at(self) -> usize {
        match self {
            Self::V4 => 12,
            Self::V6 => 8,
        }
    }

    const fn ethertype(self) -> [u8; 2] {
        match self {
            Self::V4 => [0x08, 0x00],
            Self::V6 => [0x86, 0xdd],
        }
    }

    const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }
}

/// The frame of `flow`'s number `number`, to `to`, from `from`: without payload, padded to the
/// minimum size, with a DSCP value and an identification or flow label that differ from flow to
/// flow.
pub fn frame(flow: &Flow, number: u32, kind: Kind, to: [u8; 6], from: [u8; 6]) -> Vec<u8> {
    let ip = Ip::of(flow.source);
    let traffic_class = ((number % 8) as u8) << 5;
    let mut packet = Vec::new();
    match ip {
        Ip::V4 => {
            packet.extend([0x45, traffic_class, 0, (20 + TCP_BYTES) as u8]);
            packet.extend((number as u16).to_be_bytes());
            packet.extend([0x40, 0, 64, 6, 0, 0]);
        }
        Ip::V6 => {
            let [_, label @ ..] = (number & 0x0f_ffff).to_be_bytes();
            packet.extend([0x60 | traffic_class >> 4, traffic_class << 4 | label[0]]);
            packet.extend(&label[1..]);
            packet.extend([0, TCP_BYTES as u8, 6, 64]);
        }
    }
    packet.extend(octets(flow.source));
    packet.extend(octets(flow.destination));
    if ip == Ip::V4 {
        let header_checksum = checksum(&packet);
        packet[10..12].copy_from_slice(&header_checksum.to_be_bytes());
    }
    let addresses = packet[ip.addresses_at()..].to_vec();

    let mut segment = Vec::new();
    segment.extend(flow.source_port.to_be_bytes());
    segment.extend(flow.destination_port.to_be_bytes());
    segment.extend(number.wrapping_mul(2_654_435_761).to_be_bytes());
    match kind {
        Kind::Ack => segment.extend([0x12, 0x34, 0x56, 0x78, 0x50, 0x10]),
        Kind::Syn => segment.extend([0, 0, 0, 0, 0x50, 0x02]),
    }
    segment.extend([0xff, 0xff, 0, 0, 0, 0]);
    let tcp_checksum = checksum(&[&addresses[..], &[0, 6, 0, TCP_BYTES as u8], &segment].concat());
    segment[16..18].copy_from_slice(&tcp_checksum.to_be_bytes());

    let mut frame = [&to[..], &from, &ip.ethertype(), &packet, &segment].concat();
    frame.resize(frame.len().max(SHORTEST_FRAME), 0);
    frame
}

/// Who speaks to whom on the link and in the outer header.
#[derive(Clone, Copy, Debug)]
pub struct Ends {
    /// The node's MAC address.
    pub node_mac: [u8; 6],
    /// The next hop's MAC address.
    pub next_hop_mac: [u8; 6],
    /// Outer source.
    pub source: IpAddr,
    /// Outer destination: the backend.
    pub backend: IpAddr,
    /// What is between outer and inner packet.
    pub mode: Mode,
}

/// Bytes of the outer headers before a packet to `backend`.
pub fn outer_bytes(backend: IpAddr, mode: Mode) -> usize {
    let shim = if mode == Mode::Gue { UDP_BYTES } else { 0 };
    Ip::of(backend).header_bytes() + shim
}

/// What has to come out for `frame`: IP in IP (RFC 2003, RFC 2473) or in UDP, outer TTL 64, IPv4
/// with DF, DSCP and ECN copied (RFC 6040), the inner TTL decremented once, the padding gone.
///
/// What a node is free to choose is taken from `sent`, the packet that came out: the outer
/// identification or flow label, and GUE's source port, if it is a dynamic one. `None` when that
/// is too short to have them.
pub fn encapsulated(frame: &[u8], ends: &Ends, sent: &[u8]) -> Option<Vec<u8>> {
    let sent = sent.get(LINK_BYTES..)?;
    let inner = one_hop_on(&frame[LINK_BYTES..]);
    let traffic_class = match inner[0] >> 4 {
        4 => inner[1],
        _ => inner[0] << 4 | inner[1] >> 4,
    };
    let ip = Ip::of(ends.backend);
    let mut payload = inner.clone();
    if ends.mode == Mode::Gue {
        let port: [u8; 2] = sent.get(ip.header_bytes()..)?.first_chunk().copied()?;
        let length = (UDP_BYTES + inner.len()) as u16;
        let mut udp = vec![port[0] | 0xc0, port[1]];
        udp.extend(GUE_PORT.to_be_bytes());
        udp.extend(length.to_be_bytes());
        udp.extend([0, 0]);
        payload = [udp, inner.clone()].concat();
    }
    let protocol = match (ends.mode, inner[0] >> 4) {
        (Mode::Gue, _) => 17,
        (Mode::Ipip, 4) => 4,
        (Mode::Ipip, _) => 41,
    };
    let mut outer = Vec::new();
    match ip {
        Ip::V4 => {
            outer.extend([0x45, traffic_class]);
            outer.extend(((20 + payload.len()) as u16).to_be_bytes());
            outer.extend(sent.get(4..6)?);
            outer.extend([0x40, 0, 64, protocol, 0, 0]);
        }
        Ip::V6 => {
            let label = sent.get(1..4)?;
            outer.extend([0x60 | traffic_class >> 4, traffic_class << 4 | label[0] & 0x0f]);
            outer.extend(&label[1..]);
            outer.extend((payload.len() as u16).to_be_bytes());
            outer.extend([protocol, 64]);
        }
    }
    outer.extend(octets(ends.source));
    outer.extend(octets(ends.backend));
    if ip == Ip::V4 {
        let outer_checksum = checksum(&outer);
        outer[10..12].copy_from_slice(&outer_checksum.to_be_bytes());
    }
    Some([&ends.next_hop_mac[..], &ends.node_mac, &ip.ethertype(), &outer, &payload].concat())
}

/// An IP packet without what pads it, one hop further on.
fn one_hop_on(packet: &[u8]) -> Vec<u8> {
    if packet[0] >> 4 == 6 {
        let length = 40 + usize::from(u16::from_be_bytes([packet[4], packet[5]]));
        let mut packet = packet[..length].to_vec();
        packet[7] -= 1;
        return packet;
    }
    let length = usize::from(u16::from_be_bytes([packet[2], packet[3]]));
    let mut packet = packet[..length].to_vec();
    packet[8] -= 1;
    packet[10..12].fill(0);
    let header_checksum = checksum(&packet[..20]);
    packet[10..12].copy_from_slice(&header_checksum.to_be_bytes());
    packet
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// RFC 1071, as its section 4.1 writes it: words added one by one, carries folded at the end.
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = 0;
    let mut place = 0;
    while place < bytes.len() {
        let low = if place + 1 < bytes.len() { bytes[place + 1] } else { 0 };
        sum += u32::from(bytes[place]) << 8 | u32::from(low);
        place += 2;
    }
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flows::flow;

    fn ends(source: &str, backend: &str, mode: Mode) -> Ends {
        Ends {
            node_mac: [2, 0, 0, 0, 0, 1],
            next_hop_mac: [2, 0, 0, 0, 0, 2],
            source: source.parse().unwrap(),
            backend: backend.parse().unwrap(),
            mode,
        }
    }

    #[test]
    fn the_checksum_of_the_example_in_rfc_1071() {
        assert_eq!(checksum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), !0xddf2);
    }

    #[test]
    fn headers_with_their_checksums_add_up_to_nothing() {
        let frame = frame(&flow(Ip::V4, 77), 77, Kind::Syn, [2; 6], [4; 6]);
        assert_eq!((frame.len(), checksum(&frame[14..34])), (60, 0));
        let ends = ends("192.0.2.1", "192.0.2.101", Mode::Ipip);
        let sent = encapsulated(&frame, &ends, &[9; 100]).unwrap();
        assert_eq!(sent.len(), 14 + 20 + 40);
        assert_eq!(checksum(&sent[14..34]), 0);
        assert_eq!(checksum(&sent[34..54]), 0);
        assert_eq!(sent[42], 63);
        assert_eq!(sent[54..], frame[34..54]);
        assert_eq!((sent[15], sent[18..20].to_vec()), (frame[15], vec![9, 9]));
        assert_eq!(encapsulated(&frame, &ends, &[9; 19]), None);
    }

    #[test]
    fn ipv6_in_ipv6_and_ipv4_in_udp_lie_where_they_should() {
        let frame6 = frame(&flow(Ip::V6, 7), 7, Kind::Ack, [2; 6], [4; 6]);
        assert_eq!(frame6.len(), 14 + 40 + 20);
        let ends6 = ends("2001:db8:0:1::1", "2001:db8:0:1::1:5", Mode::Ipip);
        let sent = encapsulated(&frame6, &ends6, &[0xff; 100]).unwrap();
        assert_eq!(sent.len(), frame6.len() + 40);
        // Class 7 << 5, a label of ones; 60 bytes; IPv6 inside; one hop less there.
        assert_eq!(sent[14..22], [0x6e, 0x0f, 0xff, 0xff, 0, 60, 41, 64]);
        assert_eq!(sent[54 + 7], 63);
        assert_eq!(sent[62..], frame6[22..]);

        let frame4 = frame(&flow(Ip::V4, 7), 7, Kind::Ack, [2; 6], [4; 6]);
        let gue = ends("192.0.2.1", "192.0.2.101", Mode::Gue);
        let sent = encapsulated(&frame4, &gue, &[0x01; 100]).unwrap();
        assert_eq!(sent[34..42], [0xc1, 0x01, 0x17, 0xc0, 0, 48, 0, 0]);
        assert_eq!((sent[23], sent.len()), (17, 14 + 20 + 8 + 40));
        assert_eq!(outer_bytes(gue.backend, Mode::Gue), 28);
    }
}
