//! Generic Routing Encapsulation (RFC 2784; over IPv6 RFC 7676).
//!
//! ```text
//!  0 1             13    16                                        31
//! +-+-------------+-----+------------------------------------------+
//! |C|  reserved   | ver |              protocol type               |
//! +-+-------------+-----+------------------------------------------+
//! ```
//!
//! Weir sends the shortest form: no checksum (the inner packet has its own), no key, no sequence
//! number. The protocol type is an EtherType.

use zerocopy::byteorder::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::ethernet::EtherType;

/// The header without optional fields.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct GreHeader {
    /// "Checksum present", reserved bits and version; all 0 here.
    pub flags_and_version: U16,
    /// What the payload is.
    pub protocol_type: EtherType,
}

impl GreHeader {
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

    /// A header in front of a packet of this type.
    pub const fn build(protocol_type: EtherType) -> Self {
        Self { flags_and_version: U16::new(0), protocol_type }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_where_rfc_2784_puts_them() {
        let (header, rest) = GreHeader::parse(&[0, 0, 0x86, 0xdd, 0x60]).unwrap();
        assert_eq!(*header, GreHeader::build(EtherType::IPV6));
        assert_eq!(rest, [0x60]);
        assert!(GreHeader::parse(&[0; 3]).is_none());
    }
}
