//! Transmission Control Protocol header (RFC 9293).
//!
//! ```text
//!  0       4       8               16                              31
//! +-------------------------------+--------------------------------+
//! |          source port          |        destination port        |
//! +-------------------------------+--------------------------------+
//! |                        sequence number                         |
//! +----------------------------------------------------------------+
//! |                     acknowledgment number                      |
//! +-------+-------+---------------+--------------------------------+
//! | offset|  rsvd |C E U A P R S F|             window             |
//! +-------+-------+---------------+--------------------------------+
//! |           checksum            |         urgent pointer         |
//! +-------------------------------+--------------------------------+
//! ```
//!
//! The view covers the 20 fixed bytes. An ICMP error may quote only the first eight of them,
//! which hold the ports: there a UDP view, whose ports are in the same place, is enough.

use core::fmt;

use zerocopy::byteorder::network_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The fixed part of a TCP header.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct TcpHeader {
    /// Port of the sender.
    pub source_port: U16,
    /// Port of the receiver.
    pub destination_port: U16,
    /// Number of the first byte of payload, or of the SYN.
    pub sequence_number: U32,
    /// Number of the next byte expected, if ACK is set.
    pub acknowledgment_number: U32,
    /// Data offset in 32-bit words (high four bits), and four reserved bits.
    pub data_offset_and_reserved: u8,
    /// Control bits.
    pub flags: TcpFlags,
    /// Bytes that the sender will take.
    pub window: U16,
    /// Internet checksum over pseudo-header, header and payload.
    pub checksum: U16,
    /// Where urgent data ends, if URG is set.
    pub urgent_pointer: U16,
}

impl TcpHeader {
    /// Bytes of the fixed part.
    pub const LENGTH: usize = size_of::<Self>();

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

    /// Header and options in 32-bit words as claimed: 0 to 15, valid from 5.
    #[inline]
    pub fn data_offset(&self) -> u8 {
        self.data_offset_and_reserved >> 4
    }

    /// Header and options in bytes as claimed: 0 to 60, valid from 20.
    #[inline]
    pub fn header_length(&self) -> usize {
        usize::from(self.data_offset()) * 4
    }

    /// The reset that answers `offending`, from its destination back to its source; `None`
    /// if it is a reset itself. `payload_length` is the segment's payload in bytes, without
    /// header and options. The checksum is left 0: it needs the addresses.
    ///
    /// RFC 9293, section 3.10.7.1: an incoming segment containing a RST is discarded. "If the
    /// ACK bit is off, sequence number zero is used, <SEQ=0><ACK=SEG.SEQ+SEG.LEN><CTL=RST,ACK>.
    /// If the ACK bit is on, <SEQ=SEG.ACK><CTL=RST>."
    ///
    /// In the second case the sequence number is the next one that the segment's sender
    /// expects, so a stack that follows RFC 5961, section 3.2 resets at once and does not
    /// send a challenge ACK.
    pub fn build_reset(offending: &Self, payload_length: u32) -> Option<Self> {
        if offending.flags.rst() {
            return None;
        }
        let (sequence_number, acknowledgment_number, flags) = if offending.flags.ack() {
            (offending.acknowledgment_number, U32::new(0), TcpFlags::RST)
        } else {
            // SEG.LEN counts SYN and FIN (RFC 9293, section 3.3.1).
            let segment_length = payload_length
                .wrapping_add(u32::from(offending.flags.syn()))
                .wrapping_add(u32::from(offending.flags.fin()));
            let acknowledged = offending.sequence_number.get().wrapping_add(segment_length);
            (U32::new(0), U32::new(acknowledged), TcpFlags::RST.union(TcpFlags::ACK))
        };
        Some(Self {
            source_port: offending.destination_port,
            destination_port: offending.source_port,
            sequence_number,
            acknowledgment_number,
            data_offset_and_reserved: 5 << 4,
            flags,
            window: U16::new(0),
            checksum: U16::new(0),
            urgent_pointer: U16::new(0),
        })
    }
}

/// The eight control bits.
#[derive(
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    Hash,
    FromBytes,
    IntoBytes,
    KnownLayout,
    Immutable,
    Unaligned,
)]
#[repr(transparent)]
pub struct TcpFlags(pub u8);

impl TcpFlags {
    /// No more data from the sender.
    pub const FIN: Self = Self(0x01);
    /// Synchronize sequence numbers.
    pub const SYN: Self = Self(0x02);
    /// Reset the connection.
    pub const RST: Self = Self(0x04);
    /// Push function.
    pub const PSH: Self = Self(0x08);
    /// The acknowledgment number is significant.
    pub const ACK: Self = Self(0x10);
    /// The urgent pointer is significant.
    pub const URG: Self = Self(0x20);
    /// ECN echo (RFC 3168).
    pub const ECE: Self = Self(0x40);
    /// Congestion window reduced (RFC 3168).
    pub const CWR: Self = Self(0x80);

    /// Both sets together.
    #[inline]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Are all of `others` set?
    #[inline]
    pub const fn contains(self, others: Self) -> bool {
        self.0 & others.0 == others.0
    }

    /// Is FIN set?
    #[inline]
    pub const fn fin(self) -> bool {
        self.contains(Self::FIN)
    }

    /// Is SYN set?
    #[inline]
    pub const fn syn(self) -> bool {
        self.contains(Self::SYN)
    }

    /// Is RST set?
    #[inline]
    pub const fn rst(self) -> bool {
        self.contains(Self::RST)
    }

    /// Is PSH set?
    #[inline]
    pub const fn psh(self) -> bool {
        self.contains(Self::PSH)
    }

    /// Is ACK set?
    #[inline]
    pub const fn ack(self) -> bool {
        self.contains(Self::ACK)
    }

    /// Is URG set?
    #[inline]
    pub const fn urg(self) -> bool {
        self.contains(Self::URG)
    }

    /// Is it the first segment of a connection: SYN, and none of ACK, RST, FIN?
    #[inline]
    pub const fn opens_connection(self) -> bool {
        self.0 & (Self::SYN.0 | Self::ACK.0 | Self::RST.0 | Self::FIN.0) == Self::SYN.0
    }
}

impl core::ops::BitOr for TcpFlags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        self.union(other)
    }
}

/// The names joined by `|`, lowest bit first, or `none`.
impl fmt::Display for TcpFlags {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMES: [&str; 8] = ["FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR"];
        if self.0 == 0 {
            return formatter.write_str("none");
        }
        let mut separator = "";
        for (bit, name) in NAMES.iter().enumerate() {
            if self.0 & (1 << bit) != 0 {
                write!(formatter, "{separator}{name}")?;
                separator = "|";
            }
        }
        Ok(())
    }
}

impl fmt::Debug for TcpFlags {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES: [u8; 20] = [
        0x30, 0x39, 0x00, 0x50, 0x01, 0x02, 0x03, 0x04, 0xff, 0xff, 0xff, 0xfe, 0x6f, 0x12, 0x20,
        0x00, 0xbe, 0xef, 0x00, 0x07,
    ];

    fn segment(flags: TcpFlags) -> TcpHeader {
        TcpHeader { flags, ..*TcpHeader::parse(&BYTES).unwrap().0 }
    }

    #[test]
    fn fields_are_where_rfc_9293_puts_them() {
        let (header, rest) = TcpHeader::parse(&BYTES).unwrap();
        assert_eq!(header.source_port.get(), 12345);
        assert_eq!(header.destination_port.get(), 80);
        assert_eq!(header.sequence_number.get(), 0x0102_0304);
        assert_eq!(header.acknowledgment_number.get(), 0xffff_fffe);
        assert_eq!((header.data_offset(), header.header_length()), (6, 24));
        assert_eq!(header.flags, TcpFlags::SYN | TcpFlags::ACK);
        assert_eq!(header.window.get(), 0x2000);
        assert_eq!(header.checksum.get(), 0xbeef);
        assert_eq!(header.urgent_pointer.get(), 7);
        assert!(rest.is_empty());
    }

    #[test]
    fn each_flag_is_its_own_bit() {
        for (bit, name) in
            ["FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR"].iter().enumerate()
        {
            assert_eq!(TcpFlags(1 << bit).to_string(), *name);
        }
        assert_eq!((TcpFlags::SYN | TcpFlags::ACK).to_string(), "SYN|ACK");
        assert_eq!(TcpFlags::default().to_string(), "none");
        let flags = TcpFlags::PSH | TcpFlags::URG;
        assert!(flags.psh() && flags.urg() && !flags.ack() && !flags.syn());
    }

    #[test]
    fn only_a_plain_syn_opens_a_connection() {
        assert!(TcpFlags::SYN.opens_connection());
        assert!((TcpFlags::SYN | TcpFlags::ECE | TcpFlags::CWR).opens_connection());
        for other in [TcpFlags::ACK, TcpFlags::RST, TcpFlags::FIN] {
            assert!(!other.opens_connection());
            assert!(!(TcpFlags::SYN | other).opens_connection());
        }
    }

    #[test]
    fn a_reset_to_an_acknowledging_segment_has_the_number_its_sender_expects() {
        let reset = TcpHeader::build_reset(&segment(TcpFlags::ACK | TcpFlags::PSH), 100).unwrap();
        assert_eq!(reset.flags, TcpFlags::RST);
        assert_eq!(reset.sequence_number.get(), 0xffff_fffe);
        assert_eq!(reset.acknowledgment_number.get(), 0);
        assert_eq!((reset.source_port.get(), reset.destination_port.get()), (80, 12345));
        assert_eq!((reset.header_length(), reset.window.get()), (20, 0));
    }

    #[test]
    fn a_reset_to_any_other_segment_acknowledges_all_of_it() {
        let cases = [
            (TcpFlags::SYN, 0, 1),
            (TcpFlags::SYN, 12, 13), // TCP Fast Open
            (TcpFlags::FIN, 5, 6),
            (TcpFlags::SYN | TcpFlags::FIN, 0, 2),
            (TcpFlags::default(), 7, 7),
        ];
        for (flags, payload_length, acknowledged) in cases {
            let reset = TcpHeader::build_reset(&segment(flags), payload_length).unwrap();
            assert_eq!(reset.flags, TcpFlags::RST | TcpFlags::ACK);
            assert_eq!(reset.sequence_number.get(), 0);
            assert_eq!(reset.acknowledgment_number.get(), 0x0102_0304 + acknowledged);
        }
    }

    #[test]
    fn sequence_numbers_wrap() {
        let mut last = segment(TcpFlags::SYN);
        last.sequence_number = U32::new(u32::MAX);
        let reset = TcpHeader::build_reset(&last, 0).unwrap();
        assert_eq!(reset.acknowledgment_number.get(), 0);
    }

    #[test]
    fn a_reset_is_never_answered() {
        for flags in [TcpFlags::RST, TcpFlags::RST | TcpFlags::ACK] {
            assert_eq!(TcpHeader::build_reset(&segment(flags), 0), None);
        }
    }
}
