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

use arrayvec::ArrayVec;
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

/// The tags of a link: what each frame carries that leaves there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkTags {
    /// Identifier of the only tag, or of the inner one, which is an 802.1Q tag.
    pub vlan: u16,
    /// The outer tag: what kind of tag it is, and its identifier.
    pub outer: Option<(EtherType, u16)>,
}

impl LinkTags {
    /// Most bytes of tags, and of the EtherType behind them.
    pub const LONGEST: usize = 2 * VlanTag::LENGTH + size_of::<EtherType>();

    /// One 802.1Q tag.
    pub const fn single(vlan: u16) -> Self {
        Self { vlan, outer: None }
    }

    /// Whether a frame with these identifiers, the outermost first, belongs to the link: its own
    /// ones; none, or none but for the priority (identifier 0, IEEE 802.1Q section 9.6). A link
    /// with one tag looks at the innermost only, which the network may have put others around.
    pub fn take(self, identifiers: &[u16]) -> bool {
        let own = match self.outer {
            Some((_, outer)) => identifiers == [outer, self.vlan],
            None => identifiers.last().is_some_and(|last| *last == 0 || *last == self.vlan),
        };
        own || identifiers.iter().all(|identifier| *identifier == 0)
    }

    /// What stands between a frame's addresses and its payload on a link with these tags, if any.
    pub fn write(tags: Option<Self>, ethertype: EtherType) -> ArrayVec<u8, { Self::LONGEST }> {
        let mut bytes = ArrayVec::new();
        // Always has room.
        let mut put = |part: &[u8]| {
            let _ = bytes.try_extend_from_slice(part);
        };
        let Some(Self { vlan, outer }) = tags else {
            put(ethertype.as_bytes());
            return bytes;
        };
        if let Some((kind, identifier)) = outer {
            put(kind.as_bytes());
            put(VlanTag::new(identifier, EtherType::VLAN).as_bytes());
        } else {
            put(EtherType::VLAN.as_bytes());
        }
        put(VlanTag::new(vlan, ethertype).as_bytes());
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_writes_its_tags_the_outer_one_first() {
        let write = |tags| LinkTags::write(tags, EtherType::IPV6).to_vec();
        assert_eq!(write(None), [0x86, 0xdd]);
        assert_eq!(write(Some(LinkTags::single(100))), [0x81, 0, 0, 100, 0x86, 0xdd]);
        let double = LinkTags { vlan: 100, outer: Some((EtherType::QINQ, 0x200)) };
        assert_eq!(write(Some(double)), [0x88, 0xa8, 2, 0, 0x81, 0, 0, 100, 0x86, 0xdd]);
    }

    #[test]
    fn a_link_takes_its_own_tags_and_frames_without() {
        let single = LinkTags::single(100);
        let double = LinkTags { vlan: 100, outer: Some((EtherType::QINQ, 200)) };
        for (identifiers, by_single, by_double) in [
            (&[][..], true, true),
            (&[0], true, true),
            (&[0, 0], true, true),
            (&[100], true, false),
            (&[200], false, false),
            (&[200, 100], true, true),
            (&[7, 100], true, false),
            (&[0, 100], true, false),
            (&[200, 0], true, false),
            (&[200, 101], false, false),
            (&[100, 200], false, false),
        ] {
            assert_eq!(single.take(identifiers), by_single, "{identifiers:?}");
            assert_eq!(double.take(identifiers), by_double, "{identifiers:?}");
        }
    }

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
