//! User Datagram Protocol header (RFC 768).
//!
//! ```text
//!  0                               16                              31
//! +--------------------------------+--------------------------------+
//! |          source port           |        destination port        |
//! +--------------------------------+--------------------------------+
//! |             length             |            checksum            |
//! +--------------------------------+--------------------------------+
//! ```
//!
//! A checksum of zero over IPv4 says that the sender computed none; a computed zero is sent
//! as 0xffff, its other representation in one's complement.

use zerocopy::byteorder::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The UDP header.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct UdpHeader {
    /// Port of the sender; 0 if it expects no answer.
    pub source_port: U16,
    /// Port of the receiver.
    pub destination_port: U16,
    /// Bytes of header and payload; at least 8.
    pub length: U16,
    /// Internet checksum over pseudo-header, header and payload; 0: none.
    pub checksum: U16,
}

impl UdpHeader {
    /// Bytes of the header.
    pub const LENGTH: usize = size_of::<Self>();

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

    /// A header without a checksum. `length` counts the header.
    pub const fn build(source_port: u16, destination_port: u16, length: u16) -> Self {
        Self {
            source_port: U16::new(source_port),
            destination_port: U16::new(destination_port),
            length: U16::new(length),
            checksum: U16::new(0),
        }
    }

    /// Stores a computed checksum as RFC 768 wants it: zero becomes 0xffff.
    #[inline]
    pub fn set_computed_checksum(&mut self, computed: u16) {
        self.checksum = U16::new(if computed == 0 { 0xffff } else { computed });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_where_rfc_768_puts_them() {
        let bytes = [0x30, 0x39, 0x00, 0x35, 0x00, 0x09, 0xbe, 0xef, 0x55];
        let (header, rest) = UdpHeader::parse(&bytes).unwrap();
        assert_eq!(header.source_port.get(), 12345);
        assert_eq!(header.destination_port.get(), 53);
        assert_eq!(header.length.get(), 9);
        assert_eq!(header.checksum.get(), 0xbeef);
        assert_eq!(rest, [0x55]);
        let mut built = UdpHeader::build(12345, 53, 9);
        built.set_computed_checksum(0xbeef);
        assert_eq!(built.as_bytes(), &bytes[..8]);
    }

    #[test]
    fn a_computed_zero_is_sent_as_ones() {
        let mut header = UdpHeader::build(1, 2, 8);
        header.set_computed_checksum(0);
        assert_eq!(header.checksum.get(), 0xffff);
    }
}
