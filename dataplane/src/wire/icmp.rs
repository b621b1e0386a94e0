//! Internet Control Message Protocol header (RFC 792).
//!
//! ```text
//!  0               8               16                              31
//! +---------------+---------------+--------------------------------+
//! |     type      |     code      |            checksum            |
//! +---------------+---------------+--------------------------------+
//! |             rest of header: meaning depends on type            |
//! +----------------------------------------------------------------+
//! ```
//!
//! For echo messages the rest is identifier and sequence number, which a reply repeats with
//! the data: so a reply is the request with another type, and only the checksum's share of
//! that one byte has to change.

use zerocopy::byteorder::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::checksum;

/// The eight bytes that all ICMP messages start with.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct IcmpHeader {
    /// What the message is.
    pub message_type: IcmpType,
    /// What kind of it.
    pub code: u8,
    /// Internet checksum over the whole message.
    pub checksum: U16,
    /// Depends on the type.
    pub rest_of_header: [u8; 4],
}

impl IcmpHeader {
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

    /// Makes the echo request an echo reply. `false`, and nothing is changed, if it is not an
    /// echo request with code 0. A checksum that was wrong stays as wrong, so the asker, who
    /// verifies it, is not deceived about the data.
    ///
    /// RFC 792: "To form an echo reply message, the source and destination addresses are
    /// simply reversed, the type code changed to 0, and the checksum recomputed."
    #[inline]
    pub fn turn_echo_request_into_reply(&mut self) -> bool {
        if self.message_type != IcmpType::ECHO_REQUEST || self.code != 0 {
            return false;
        }
        let old = u16::from_be_bytes([IcmpType::ECHO_REQUEST.0, 0]);
        let new = u16::from_be_bytes([IcmpType::ECHO_REPLY.0, 0]);
        self.message_type = IcmpType::ECHO_REPLY;
        self.checksum = U16::new(checksum::update_u16(self.checksum.get(), old, new));
        true
    }
}

/// Message types (IANA "ICMP Type Numbers").
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(transparent)]
pub struct IcmpType(pub u8);

impl IcmpType {
    /// Answer to an echo request
    pub const ECHO_REPLY: Self = Self(0);
    /// Destination unreachable; code 4 is "fragmentation needed and DF set"
    pub const DESTINATION_UNREACHABLE: Self = Self(3);
    /// Redirect
    pub const REDIRECT: Self = Self(5);
    /// Echo request, "ping"
    pub const ECHO_REQUEST: Self = Self(8);
    /// Time exceeded
    pub const TIME_EXCEEDED: Self = Self(11);
    /// Parameter problem
    pub const PARAMETER_PROBLEM: Self = Self(12);

    /// Does the message quote the packet that it is about? Never answer such a one with an
    /// error (RFC 1122, section 3.2.2).
    #[inline]
    pub const fn is_error(self) -> bool {
        matches!(
            self,
            Self::DESTINATION_UNREACHABLE
                | Self::REDIRECT
                | Self::TIME_EXCEEDED
                | Self::PARAMETER_PROBLEM
                | Self(4) // source quench, deprecated by RFC 6633
        )
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::tests::proptest_config;

    fn echo_request(payload: &[u8]) -> Vec<u8> {
        let mut message = vec![8, 0, 0, 0, 0x12, 0x34, 0x00, 0x01];
        message.extend_from_slice(payload);
        let value = checksum::checksum(&message);
        message[2..4].copy_from_slice(&value.to_be_bytes());
        message
    }

    proptest! {
        #![proptest_config(proptest_config())]

        #[test]
        fn a_reply_verifies_and_repeats_identifier_and_data(
            payload in proptest::collection::vec(any::<u8>(), 0..64),
        ) {
            let mut message = echo_request(&payload);
            let before = message.clone();
            let (header, _) = IcmpHeader::parse_mut(&mut message).unwrap();
            prop_assert!(header.turn_echo_request_into_reply());
            prop_assert_eq!(message[0], 0);
            prop_assert!(checksum::verify(&message));
            prop_assert_eq!(&message[4..], &before[4..]);
        }
    }

    #[test]
    fn only_echo_requests_are_turned() {
        for (message_type, code) in [(0, 0), (3, 0), (8, 1), (13, 0)] {
            let mut message = [message_type, code, 0xab, 0xcd, 0, 0, 0, 0];
            let before = message;
            let (header, _) = IcmpHeader::parse_mut(&mut message).unwrap();
            assert!(!header.turn_echo_request_into_reply());
            assert_eq!(message, before);
        }
    }

    #[test]
    fn a_wrong_checksum_stays_wrong() {
        let mut message = echo_request(b"data");
        message[9] ^= 1;
        let (header, _) = IcmpHeader::parse_mut(&mut message).unwrap();
        assert!(header.turn_echo_request_into_reply());
        assert!(!checksum::verify(&message));
    }

    #[test]
    fn errors_are_the_messages_that_quote_a_packet() {
        let errors: Vec<u8> = (0..=255).filter(|&number| IcmpType(number).is_error()).collect();
        assert_eq!(errors, [3, 4, 5, 11, 12]);
    }
}
