//! VLAN tag (IEEE 802.1Q; a second one inside an 802.1ad tag is called QinQ).
//!
//! ```text
//!  -2          0                               2           4
//! +-----------+-----+---+---------------------+-----------+---------
//! | 8100|88a8 | PCP |DEI|  VLAN identifier    | ethertype | payload ...
//! +-----------+-----+---+---------------------+-----------+---------
//!               3 bit 1       12 bit
//! ```
//!
//! The tag's own type is the EtherType field of whatever comes before it, so the view starts
//! at the tag control information and ends with the EtherType of what comes next: the same
//! shape as an Ethernet header's end, whether the tag is the first or the second.

use zerocopy::byteorder::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::ethernet::EtherType;

/// The four bytes after an EtherType of [`EtherType::VLAN`] or [`EtherType::QINQ`].
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct VlanTag {
    /// Priority, drop eligibility and identifier; see the accessors.
    pub tag_control_information: U16,
    /// What follows the tag.
    pub ethertype: EtherType,
}

impl VlanTag {
    /// Bytes of one tag.
    pub const LENGTH: usize = size_of::<Self>();
    /// The largest identifier a VLAN can have; 0 means "priority only", 4095 is reserved.
    pub const MAX_IDENTIFIER: u16 = 4094;

    /// A view of the tag and the bytes after it; `None` if fewer than [`Self::LENGTH`] are there.
    #[inline]
    pub fn parse(bytes: &[u8]) -> Option<(&Self, &[u8])> {
        Self::ref_from_prefix(bytes).ok()
    }

    /// As [`Self::parse`], to write through.
    #[inline]
    pub fn parse_mut(bytes: &mut [u8]) -> Option<(&mut Self, &mut [u8])> {
        Self::mut_from_prefix(bytes).ok()
    }

    /// A tag with priority 0, not drop eligible. `identifier` is cut to 12 bits.
    #[inline]
    pub const fn new(identifier: u16, ethertype: EtherType) -> Self {
        Self { tag_control_information: U16::new(identifier & 0x0fff), ethertype }
    }

    /// Priority code point, 0 to 7.
    #[inline]
    pub fn priority(&self) -> u8 {
        (self.tag_control_information.get() >> 13) as u8
    }

    /// Drop eligible indicator.
    #[inline]
    pub fn drop_eligible(&self) -> bool {
        self.tag_control_information.get() & 0x1000 != 0
    }

    /// VLAN identifier, 0 to 4095.
    #[inline]
    pub fn identifier(&self) -> u16 {
        self.tag_control_information.get() & 0x0fff
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_fields_of_the_tag_control_information() {
        let bytes = [0b1011_0000 | 0x0a, 0xbc, 0x86, 0xdd];
        let (tag, rest) = VlanTag::parse(&bytes).unwrap();
        assert_eq!(tag.priority(), 5);
        assert!(tag.drop_eligible());
        assert_eq!(tag.identifier(), 0xabc);
        assert_eq!(tag.ethertype, EtherType::IPV6);
        assert!(rest.is_empty());
    }

    #[test]
    fn a_new_tag_has_priority_zero() {
        let tag = VlanTag::new(100, EtherType::IPV4);
        assert_eq!(tag.as_bytes(), [0x00, 0x64, 0x08, 0x00]);
        assert_eq!(VlanTag::new(0xffff, EtherType::IPV4).identifier(), 0x0fff);
    }

    #[test]
    fn a_tag_inside_a_tag_parses_with_the_same_view() {
        let bytes = [0x00, 0x0a, 0x81, 0x00, 0x00, 0x14, 0x08, 0x00, 0x45];
        let (outer, rest) = VlanTag::parse(&bytes).unwrap();
        assert!(outer.ethertype.is_vlan());
        let (inner, rest) = VlanTag::parse(rest).unwrap();
        assert_eq!((outer.identifier(), inner.identifier()), (10, 20));
        assert_eq!(rest, [0x45]);
    }
}
