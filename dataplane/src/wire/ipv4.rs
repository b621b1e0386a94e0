//! Internet Protocol version 4 header (RFC 791; DSCP RFC 2474; ECN RFC 3168).
//!
//! ```text
//!  0       4       8             14  16                              31
//! +-------+-------+-------------+---+-------------------------------+
//! |version|  IHL  |    DSCP     |ECN|         total length          |
//! +-------+-------+-------------+---+-----+-------------------------+
//! |         identification          |0 D M|     fragment offset     |
//! +---------------+-----------------+-----+-------------------------+
//! |  time to live |    protocol     |        header checksum        |
//! +---------------+-----------------+-------------------------------+
//! |                             source                              |
//! +-----------------------------------------------------------------+
//! |                           destination                           |
//! +-----------------------------------------------------------------+
//! |                     options, 0 to 40 bytes                      |
//! +-----------------------------------------------------------------+
//! ```
//!
//! The view covers the 20 fixed bytes. `header_length()` is what the packet claims (0 to 60)
//! and is compared with the bytes at hand by whoever slices with it. Options are read by
//! `ipv4_options.rs`, whose names are here too.

use core::net::Ipv4Addr;

use zerocopy::byteorder::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::checksum;
pub use super::ipv4_options::{
    Ipv4Option, MAX_OPTIONS_LENGTH, MalformedOption, Options, OptionsVerdict, inspect_options,
};
use super::protocol::IpProtocol;

/// The fixed part of an IPv4 header.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct Ipv4Header {
    /// Version (high four bits) and Internet header length in 32-bit words.
    pub version_and_header_length: u8,
    /// DSCP (high six bits) and ECN.
    pub dscp_and_ecn: u8,
    /// Bytes of header and payload together.
    pub total_length: U16,
    /// Shared by the fragments of one datagram.
    pub identification: U16,
    /// Three flags (high bits) and the fragment offset in units of eight bytes.
    pub flags_and_fragment_offset: U16,
    /// Hops left.
    pub time_to_live: u8,
    /// What the payload is.
    pub protocol: IpProtocol,
    /// Internet checksum over header and options.
    pub header_checksum: U16,
    /// Sender.
    pub source: [u8; 4],
    /// Receiver.
    pub destination: [u8; 4],
}

impl Ipv4Header {
    /// Bytes of the fixed part.
    pub const LENGTH: usize = size_of::<Self>();
    /// Time to live of packets that the node itself sends.
    pub const DEFAULT_TIME_TO_LIVE: u8 = 64;

    const RESERVED: u16 = 0x8000;
    const DONT_FRAGMENT: u16 = 0x4000;
    const MORE_FRAGMENTS: u16 = 0x2000;
    const FRAGMENT_OFFSET: u16 = 0x1fff;

    /// A view of the fixed header and the bytes after it (options first); `None` if fewer
    /// than [`Self::LENGTH`] are there.
    #[inline]
    pub fn parse(bytes: &[u8]) -> Option<(&Self, &[u8])> {
        Self::ref_from_prefix(bytes).ok()
    }

    /// As [`Self::parse`], to write through.
    #[inline]
    pub fn parse_mut(bytes: &mut [u8]) -> Option<(&mut Self, &mut [u8])> {
        Self::mut_from_prefix(bytes).ok()
    }

    /// A header without options, unfragmented: DSCP, ECN and identification 0, DF set, the
    /// default time to live, checksum filled in. `total_length` counts this header. Whoever
    /// changes a field afterwards calls [`Self::fill_checksum`] again.
    pub fn build(
        source: Ipv4Addr,
        destination: Ipv4Addr,
        protocol: IpProtocol,
        total_length: u16,
    ) -> Self {
        let mut header = Self {
            version_and_header_length: 0x45,
            dscp_and_ecn: 0,
            total_length: U16::new(total_length),
            identification: U16::new(0),
            flags_and_fragment_offset: U16::new(Self::DONT_FRAGMENT),
            time_to_live: Self::DEFAULT_TIME_TO_LIVE,
            protocol,
            header_checksum: U16::new(0),
            source: source.octets(),
            destination: destination.octets(),
        };
        header.fill_checksum();
        header
    }

    /// Computes the checksum of a header **without options**.
    #[inline]
    pub fn fill_checksum(&mut self) {
        self.header_checksum = U16::new(0);
        self.header_checksum = U16::new(checksum::checksum(self.as_bytes()));
    }

    /// 4, in a packet that is what its EtherType says.
    #[inline]
    pub fn version(&self) -> u8 {
        self.version_and_header_length >> 4
    }

    /// Bytes of header and options as claimed: 0 to 60, valid from 20.
    #[inline]
    pub fn header_length(&self) -> usize {
        usize::from(self.version_and_header_length & 0x0f) * 4
    }

    /// Differentiated services code point, 0 to 63.
    #[inline]
    pub fn dscp(&self) -> u8 {
        self.dscp_and_ecn >> 2
    }

    /// Explicit congestion notification, 0 to 3.
    #[inline]
    pub fn ecn(&self) -> u8 {
        self.dscp_and_ecn & 0x03
    }

    /// The first flag, which must be zero (RFC 3514 has another use for it).
    #[inline]
    pub fn reserved_flag(&self) -> bool {
        self.flags_and_fragment_offset.get() & Self::RESERVED != 0
    }

    /// DF
    #[inline]
    pub fn dont_fragment(&self) -> bool {
        self.flags_and_fragment_offset.get() & Self::DONT_FRAGMENT != 0
    }

    /// Sets or clears DF; the checksum is the caller's.
    #[inline]
    pub fn set_dont_fragment(&mut self, on: bool) {
        let others = self.flags_and_fragment_offset.get() & !Self::DONT_FRAGMENT;
        let flag = if on { Self::DONT_FRAGMENT } else { 0 };
        self.flags_and_fragment_offset = U16::new(others | flag);
    }

    /// MF
    #[inline]
    pub fn more_fragments(&self) -> bool {
        self.flags_and_fragment_offset.get() & Self::MORE_FRAGMENTS != 0
    }

    /// Where this fragment starts in the datagram's payload, in units of eight bytes, 0 to 8191.
    #[inline]
    pub fn fragment_offset(&self) -> u16 {
        self.flags_and_fragment_offset.get() & Self::FRAGMENT_OFFSET
    }

    /// Is it a part of a datagram: first, middle or last fragment?
    #[inline]
    pub fn is_fragment(&self) -> bool {
        self.flags_and_fragment_offset.get() & (Self::MORE_FRAGMENTS | Self::FRAGMENT_OFFSET) != 0
    }

    /// The sender's address.
    #[inline]
    pub fn source_address(&self) -> Ipv4Addr {
        Ipv4Addr::from(self.source)
    }

    /// The receiver's address.
    #[inline]
    pub fn destination_address(&self) -> Ipv4Addr {
        Ipv4Addr::from(self.destination)
    }

    /// Takes one hop off and keeps the checksum right. `false`, and nothing is changed, when
    /// no hop would be left (RFC 1812, section 5.3.1: such a packet must not be forwarded).
    #[inline]
    pub fn decrement_time_to_live(&mut self) -> bool {
        if self.time_to_live <= 1 {
            return false;
        }
        self.take_hop();
        true
    }

    /// Undoes [`Ipv4Header::take_hop`]: the word rises by 0x0100, the checksum falls by it.
    #[cold]
    pub fn give_hop_back(&mut self) {
        self.time_to_live = self.time_to_live.wrapping_add(1);
        let sum = u32::from(u16::from_le_bytes(self.header_checksum.to_bytes()));
        // 0 is what 0xffff would be; one below it is 0xfffe.
        let sum = if sum == 0 { 0xfffe } else { sum - 1 } as u16;
        self.header_checksum = U16::from_bytes(sum.to_le_bytes());
    }

    /// Takes one hop from a packet that has more than one left.
    #[inline(always)]
    pub fn take_hop(&mut self) {
        self.time_to_live = self.time_to_live.wrapping_sub(1);
        // RFC 1624, equation 3, for a word that falls by 0x0100: the checksum rises by it, with
        // the carry brought around, and is never 0xffff. With its bytes exchanged it rises by 1
        // (RFC 1071 section 2, byte order independence).
        let sum = u32::from(u16::from_le_bytes(self.header_checksum.to_bytes())) + 1;
        let sum = (sum + u32::from(sum >= 0xffff)) as u16;
        self.header_checksum = U16::from_bytes(sum.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
    const DESTINATION: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);

    #[test]
    fn fields_are_where_rfc_791_puts_them() {
        let bytes = [
            0x46,
            0b1011_1010,
            0x05,
            0xdc,
            0x12,
            0x34,
            0b1010_0000,
            0x03,
            63,
            17,
            0xab,
            0xcd,
            192,
            0,
            2,
            1,
            203,
            0,
            113,
            1,
            1,
            1,
            1,
            0,
        ];
        let (header, rest) = Ipv4Header::parse(&bytes).unwrap();
        assert_eq!((header.version(), header.header_length()), (4, 24));
        assert_eq!((header.dscp(), header.ecn()), (0b10_1110, 0b10));
        assert_eq!(header.total_length.get(), 1500);
        assert_eq!(header.identification.get(), 0x1234);
        assert!(header.reserved_flag() && !header.dont_fragment() && header.more_fragments());
        assert_eq!(header.fragment_offset(), 3);
        assert!(header.is_fragment());
        assert_eq!((header.time_to_live, header.protocol), (63, IpProtocol::UDP));
        assert_eq!(header.header_checksum.get(), 0xabcd);
        assert_eq!(header.source_address(), SOURCE);
        assert_eq!(header.destination_address(), DESTINATION);
        assert_eq!(rest.len(), 4);
    }

    #[test]
    fn a_built_header_verifies_and_is_no_fragment() {
        let header = Ipv4Header::build(SOURCE, DESTINATION, IpProtocol::TCP, 40);
        assert!(checksum::verify(header.as_bytes()));
        assert_eq!((header.version(), header.header_length()), (4, 20));
        assert!(header.dont_fragment() && !header.is_fragment());
    }

    #[test]
    fn clearing_df_leaves_the_offset_alone() {
        let mut header = Ipv4Header::build(SOURCE, DESTINATION, IpProtocol::TCP, 40);
        header.flags_and_fragment_offset = U16::new(0x6005);
        header.set_dont_fragment(false);
        assert_eq!(header.flags_and_fragment_offset.get(), 0x2005);
        header.set_dont_fragment(true);
        assert_eq!(header.flags_and_fragment_offset.get(), 0x6005);
    }

    #[test]
    fn taking_a_hop_off_keeps_the_checksum_right_at_every_value() {
        for time_to_live in 2..=255 {
            let mut header = Ipv4Header::build(SOURCE, DESTINATION, IpProtocol::TCP, 40);
            header.time_to_live = time_to_live;
            header.fill_checksum();
            assert!(header.decrement_time_to_live());
            assert_eq!(header.time_to_live, time_to_live - 1);
            let incremental = header.header_checksum;
            header.fill_checksum();
            assert_eq!(incremental, header.header_checksum);
            header.give_hop_back();
            let incremental = (header.time_to_live, header.header_checksum);
            header.fill_checksum();
            assert_eq!(incremental, (time_to_live, header.header_checksum));
        }
    }

    #[test]
    fn the_last_hop_is_not_taken_off() {
        for time_to_live in [0, 1] {
            let mut header = Ipv4Header::build(SOURCE, DESTINATION, IpProtocol::TCP, 40);
            header.time_to_live = time_to_live;
            let before = header;
            assert!(!header.decrement_time_to_live());
            assert_eq!(header, before);
        }
    }
}
