//! Internet Protocol version 6 header (RFC 8200).
//!
//! ```text
//!  0       4               12                                      31
//! +-------+---------------+-----------------------------------------+
//! |version| traffic class |               flow label                |
//! +-------+---------------+---------+---------------+---------------+
//! |         payload length          |  next header  |   hop limit   |
//! +---------------------------------+---------------+---------------+
//! |                        source, 16 bytes                         |
//! +-----------------------------------------------------------------+
//! |                      destination, 16 bytes                      |
//! +-----------------------------------------------------------------+
//! ```

use core::net::Ipv6Addr;

use zerocopy::byteorder::network_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::protocol::IpProtocol;

/// The fixed IPv6 header.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct Ipv6Header {
    /// Version (4 bits), traffic class (8) and flow label (20).
    pub version_traffic_class_flow_label: U32,
    /// Bytes after this header, extension headers included.
    pub payload_length: U16,
    /// What comes next.
    pub next_header: IpProtocol,
    /// Hops left.
    pub hop_limit: u8,
    /// Sender.
    pub source: [u8; 16],
    /// Receiver.
    pub destination: [u8; 16],
}

impl Ipv6Header {
    /// Bytes of the header.
    pub const LENGTH: usize = size_of::<Self>();
    /// Hop limit of packets that the node itself sends.
    pub const DEFAULT_HOP_LIMIT: u8 = 64;

    /// A view of the header and the bytes after it; `None` if fewer than [`Self::LENGTH`] are there.
    #[inline]
    pub fn parse(bytes: &[u8]) -> Option<(&Self, &[u8])> {
        Self::ref_from_prefix(bytes).ok()
    }

    /// As [`Self::parse`], to write through.
    #[inline]
    pub fn parse_mut(bytes: &mut [u8]) -> Option<(&mut Self, &mut [u8])> {
        Self::mut_from_prefix(bytes).ok()
    }

    /// A header with traffic class and flow label 0 and the default hop limit.
    pub const fn build(
        source: Ipv6Addr,
        destination: Ipv6Addr,
        next_header: IpProtocol,
        payload_length: u16,
    ) -> Self {
        Self {
            version_traffic_class_flow_label: U32::new(6 << 28),
            payload_length: U16::new(payload_length),
            next_header,
            hop_limit: Self::DEFAULT_HOP_LIMIT,
            source: source.octets(),
            destination: destination.octets(),
        }
    }

    /// 6, in a packet that is what its EtherType says.
    #[inline]
    pub fn version(&self) -> u8 {
        (self.version_traffic_class_flow_label.get() >> 28) as u8
    }

    /// DSCP (high six bits) and ECN together.
    #[inline]
    pub fn traffic_class(&self) -> u8 {
        (self.version_traffic_class_flow_label.get() >> 20) as u8
    }

    /// Differentiated services code point, 0 to 63.
    #[inline]
    pub fn dscp(&self) -> u8 {
        self.traffic_class() >> 2
    }

    /// Explicit congestion notification, 0 to 3.
    #[inline]
    pub fn ecn(&self) -> u8 {
        self.traffic_class() & 0x03
    }

    /// 20 bits.
    #[inline]
    pub fn flow_label(&self) -> u32 {
        self.version_traffic_class_flow_label.get() & 0x000f_ffff
    }

    /// The sender's address.
    #[inline]
    pub fn source_address(&self) -> Ipv6Addr {
        Ipv6Addr::from(self.source)
    }

    /// The receiver's address.
    #[inline]
    pub fn destination_address(&self) -> Ipv6Addr {
        Ipv6Addr::from(self.destination)
    }

    /// Takes one hop off; `false`, and nothing is changed, when none would be left.
    #[inline]
    pub fn decrement_hop_limit(&mut self) -> bool {
        if self.hop_limit <= 1 {
            return false;
        }
        self.hop_limit -= 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_where_rfc_8200_puts_them() {
        let mut bytes = [0u8; 41];
        bytes[..8].copy_from_slice(&[0x6b, 0x8a, 0xbc, 0xde, 0x01, 0x02, 58, 64]);
        bytes[8] = 0x20;
        bytes[23] = 0x01;
        bytes[39] = 0x02;
        let (header, rest) = Ipv6Header::parse(&bytes).unwrap();
        assert_eq!(header.version(), 6);
        assert_eq!(header.traffic_class(), 0xb8);
        assert_eq!((header.dscp(), header.ecn()), (46, 0));
        assert_eq!(header.flow_label(), 0xa_bcde);
        assert_eq!(header.payload_length.get(), 0x0102);
        assert_eq!((header.next_header, header.hop_limit), (IpProtocol::ICMPV6, 64));
        assert_eq!(header.source_address(), "2000::1".parse::<Ipv6Addr>().unwrap());
        assert_eq!(header.destination_address(), "::2".parse::<Ipv6Addr>().unwrap());
        assert_eq!(rest.len(), 1);
    }

    #[test]
    fn a_built_header_reads_back() {
        let source = "2001:db8::1".parse().unwrap();
        let destination = "2001:db8::2".parse().unwrap();
        let header = Ipv6Header::build(source, destination, IpProtocol::IPV4, 20);
        assert_eq!((header.version(), header.traffic_class(), header.flow_label()), (6, 0, 0));
        assert_eq!(header.source_address(), source);
        assert_eq!(header.destination_address(), destination);
        assert_eq!(header.payload_length.get(), 20);
    }

    #[test]
    fn the_last_hop_is_not_taken_off() {
        let source = Ipv6Addr::LOCALHOST;
        let mut header = Ipv6Header::build(source, source, IpProtocol::TCP, 0);
        header.hop_limit = 2;
        assert!(header.decrement_hop_limit());
        assert!(!header.decrement_hop_limit());
        assert_eq!(header.hop_limit, 1);
    }
}
