//! Frames as the benchmark makes and expects them, by the simplest code there is.
//!
//! Nothing here shares a line with the data plane: what is compared with its output must not
//! contain its mistakes. Checksums are computed from scratch, a 16-bit word at a time (RFC 1071).

use std::net::Ipv4Addr;

use crate::flows::Flow;

/// A 64-byte Ethernet frame without its checksum.
pub const FRAME_BYTES: usize = 60;
/// An Ethernet header without tags.
pub const LINK_BYTES: usize = 14;
/// An IPv4 header without options.
pub const IP_HEADER_BYTES: usize = 20;
/// IPv4 and TCP headers; the frame is padded beyond.
const PACKET_BYTES: usize = 40;

/// Which segment a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A pure acknowledgment: the flow goes on.
    Ack,
    /// Opens a connection.
    Syn,
}

/// The frame of `flow`'s number `number`, to `to`, from `from`: minimum size, padded, with a DSCP
/// value and an identification that differ from flow to flow.
pub fn frame(
    flow: &Flow,
    number: u32,
    kind: Kind,
    to: [u8; 6],
    from: [u8; 6],
) -> [u8; FRAME_BYTES] {
    let mut packet = Vec::with_capacity(PACKET_BYTES);
    packet.extend([0x45, ((number % 8) as u8) << 5]);
    packet.extend((PACKET_BYTES as u16).to_be_bytes());
    packet.extend((number as u16).to_be_bytes());
    packet.extend([0x40, 0, 64, 6, 0, 0]);
    packet.extend(flow.source.octets());
    packet.extend(flow.destination.octets());
    let header_checksum = checksum(&packet);
    packet[10..12].copy_from_slice(&header_checksum.to_be_bytes());

    packet.extend(flow.source_port.to_be_bytes());
    packet.extend(flow.destination_port.to_be_bytes());
    packet.extend(number.wrapping_mul(2_654_435_761).to_be_bytes());
    match kind {
        Kind::Ack => packet.extend([0x12, 0x34, 0x56, 0x78, 0x50, 0x10]),
        Kind::Syn => packet.extend([0, 0, 0, 0, 0x50, 0x02]),
    }
    packet.extend([0xff, 0xff, 0, 0, 0, 0]);
    let mut pseudo = packet[12..20].to_vec();
    pseudo.extend([0, 6, 0, 20]);
    pseudo.extend(&packet[20..]);
    let tcp_checksum = checksum(&pseudo);
    packet[36..38].copy_from_slice(&tcp_checksum.to_be_bytes());

    let mut frame = [0; FRAME_BYTES];
    frame[..6].copy_from_slice(&to);
    frame[6..12].copy_from_slice(&from);
    frame[12..14].copy_from_slice(&[0x08, 0x00]);
    frame[LINK_BYTES..LINK_BYTES + PACKET_BYTES].copy_from_slice(&packet);
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
    pub source: Ipv4Addr,
    /// Outer destination: the backend.
    pub backend: Ipv4Addr,
}

/// What has to come out for `frame`: IPv4 in IPv4 (RFC 2003), DF set, outer TTL 64, DSCP and ECN
/// copied (RFC 6040), the inner TTL decremented once, the padding gone.
pub fn encapsulated(frame: &[u8], ends: &Ends, identification: u16) -> Vec<u8> {
    let packet = &frame[LINK_BYTES..];
    let length = usize::from(u16::from_be_bytes([packet[2], packet[3]]));
    let mut inner = packet[..length].to_vec();
    inner[8] -= 1;
    inner[10..12].fill(0);
    let inner_checksum = checksum(&inner[..IP_HEADER_BYTES]);
    inner[10..12].copy_from_slice(&inner_checksum.to_be_bytes());

    let mut outer = vec![0x45, inner[1]];
    outer.extend(((length + IP_HEADER_BYTES) as u16).to_be_bytes());
    outer.extend(identification.to_be_bytes());
    outer.extend([0x40, 0, 64, 4, 0, 0]);
    outer.extend(ends.source.octets());
    outer.extend(ends.backend.octets());
    let outer_checksum = checksum(&outer);
    outer[10..12].copy_from_slice(&outer_checksum.to_be_bytes());

    [&ends.next_hop_mac[..], &ends.node_mac, &[0x08, 0x00], &outer, &inner].concat()
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

    const ENDS: Ends = Ends {
        node_mac: [2, 0, 0, 0, 0, 1],
        next_hop_mac: [2, 0, 0, 0, 0, 2],
        source: Ipv4Addr::new(192, 0, 2, 1),
        backend: Ipv4Addr::new(192, 0, 2, 101),
    };

    #[test]
    fn the_checksum_of_the_example_in_rfc_1071() {
        assert_eq!(checksum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), !0xddf2);
    }

    #[test]
    fn headers_with_their_checksums_add_up_to_nothing() {
        let frame = frame(&flow(77), 77, Kind::Syn, [2; 6], [4; 6]);
        assert_eq!(checksum(&frame[14..34]), 0);
        let sent = encapsulated(&frame, &ENDS, 9);
        assert_eq!(sent.len(), 14 + 20 + 40);
        assert_eq!(checksum(&sent[14..34]), 0);
        assert_eq!(checksum(&sent[34..54]), 0);
        assert_eq!(sent[42], 63);
        assert_eq!(sent[54..], frame[34..54]);
        assert_eq!(sent[15], frame[15]);
    }
}
