//! Generic UDP Encapsulation, variant 0 (draft-ietf-intarea-gue, section 3.1), with the private data
//! of the second chance.
//!
//! ```text
//!  0   2 3         8               16                              31
//! +---+-+---------+----------------+--------------------------------+
//! |ver|C|  hlen   |   proto/ctype  |             flags              |
//! +---+-+---------+----------------+--------------------------------+
//! |     kind      |   hop count    |    next hop    |       0       |  private data,
//! +---------------+----------------+----------------+---------------+  hlen words
//! |                low bits of the snapshot version                 |
//! +-----------------------------------------------------------------+
//! |        hops: 4 bytes each (kind 1) or 16 (kind 2) ...           |
//! ```
//!
//! No flag is set, and so no field that a flag would announce is there: all that follows the first
//! word is private data, which a receiver that does not know it skips by the header's length.

use zerocopy::byteorder::network_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::protocol::IpProtocol;

/// The header's first word.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct GueHeader {
    /// Version (2 bits), control bit, and the words that follow (5 bits).
    pub version_control_hlen: u8,
    /// What is inside: 4 or 41.
    pub protocol: IpProtocol,
    /// Optional fields; none here.
    pub flags: U16,
}

/// The private data of the second chance, without the hops.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct SecondChanceData {
    /// [`Self::IPV4_HOPS`] or [`Self::IPV6_HOPS`].
    pub kind: u8,
    /// How many hops follow.
    pub hop_count: u8,
    /// Which of them is the next to try, from 0; as many as there are: none is left.
    pub next_hop: u8,
    /// Zero.
    pub reserved: u8,
    /// Low bits of the version of the pool's snapshot that the sender forwards by.
    pub version: U32,
}

impl GueHeader {
    /// Bytes of the first word.
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

    /// A data header in front of an IP packet of this version, and of `words` words (below 32).
    pub const fn build(protocol: IpProtocol, words: u8) -> Self {
        Self { version_control_hlen: words & 0x1f, protocol, flags: U16::new(0) }
    }

    /// The words that follow the first.
    #[inline]
    pub const fn words(&self) -> u8 {
        self.version_control_hlen & 0x1f
    }
}

impl SecondChanceData {
    /// Bytes without the hops.
    pub const LENGTH: usize = size_of::<Self>();
    /// The hops are IPv4 addresses.
    pub const IPV4_HOPS: u8 = 1;
    /// The hops are IPv6 addresses.
    pub const IPV6_HOPS: u8 = 2;

    /// A view of the data and the bytes after it; `None` if fewer than [`Self::LENGTH`] are there.
    #[inline]
    pub fn parse(bytes: &[u8]) -> Option<(&Self, &[u8])> {
        Self::ref_from_prefix(bytes).ok()
    }

    /// As [`Self::parse`], to write through.
    #[inline]
    pub fn parse_mut(bytes: &mut [u8]) -> Option<(&mut Self, &mut [u8])> {
        Self::mut_from_prefix(bytes).ok()
    }

    /// Data that names nobody.
    pub const fn build(version: u32) -> Self {
        Self {
            kind: Self::IPV4_HOPS,
            hop_count: 0,
            next_hop: 0,
            reserved: 0,
            version: U32::new(version),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_where_the_draft_and_the_contract_put_them() {
        let bytes = [3, 41, 0, 0, 2, 1, 0, 0, 0xde, 0xad, 0xbe, 0xef, 10, 0, 0, 1];
        let (gue, behind) = GueHeader::parse(&bytes).unwrap();
        assert_eq!(*gue, GueHeader::build(IpProtocol::IPV6, 3));
        assert_eq!(gue.words(), 3);
        let (data, hops) = SecondChanceData::parse(behind).unwrap();
        let built =
            SecondChanceData { kind: 2, hop_count: 1, ..SecondChanceData::build(0xdead_beef) };
        assert_eq!((*data, hops), (built, &[10, 0, 0, 1][..]));
        assert!(GueHeader::parse(&bytes[..3]).is_none());
        assert!(SecondChanceData::parse(&bytes[..7]).is_none());
    }
}
