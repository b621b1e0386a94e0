//! Internet Control Message Protocol for IPv6 (RFC 4443).
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
//! The same shape as ICMP's header, with other numbers, and a checksum that covers the IPv6
//! pseudo-header, too (section 2.3). Types below 128 are errors, and quote a packet.

use core::net::Ipv6Addr;

use zerocopy::byteorder::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::checksum;
use super::protocol::IpProtocol;

/// The eight bytes that all ICMPv6 messages start with.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct Icmpv6Header {
    /// What the message is.
    pub message_type: Icmpv6Type,
    /// What kind of it.
    pub code: u8,
    /// Internet checksum over pseudo-header and message.
    pub checksum: U16,
    /// Depends on the type.
    pub rest_of_header: [u8; 4],
}

impl Icmpv6Header {
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

    /// Makes the echo request an echo reply between swapped addresses (whose sum is the same).
    /// `false`, and nothing is changed, if it is not an echo request with code 0. A checksum that
    /// was wrong stays as wrong.
    #[inline]
    pub fn turn_echo_request_into_reply(&mut self) -> bool {
        if self.message_type != Icmpv6Type::ECHO_REQUEST || self.code != 0 {
            return false;
        }
        let old = u16::from_be_bytes([Icmpv6Type::ECHO_REQUEST.0, 0]);
        let new = u16::from_be_bytes([Icmpv6Type::ECHO_REPLY.0, 0]);
        self.message_type = Icmpv6Type::ECHO_REPLY;
        self.checksum = U16::new(checksum::update_u16(self.checksum.get(), old, new));
        true
    }
}

/// The checksum's value for a message in which the field is zero; with the field filled in, a
/// right one sums to zero, see [`is_sound`].
#[inline]
pub fn message_checksum(source: Ipv6Addr, destination: Ipv6Addr, message: &[u8]) -> u16 {
    sum(source, destination, message).checksum()
}

/// Is the checksum within `message` right?
#[inline]
pub fn is_sound(source: Ipv6Addr, destination: Ipv6Addr, message: &[u8]) -> bool {
    sum(source, destination, message).is_valid()
}

fn sum(source: Ipv6Addr, destination: Ipv6Addr, message: &[u8]) -> checksum::Sum {
    let length = message.len() as u32;
    checksum::pseudo_header_v6(source, destination, IpProtocol::ICMPV6, length).add_bytes(message)
}

/// Message types (IANA "ICMPv6 type Numbers").
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(transparent)]
pub struct Icmpv6Type(pub u8);

impl Icmpv6Type {
    /// Destination unreachable
    pub const DESTINATION_UNREACHABLE: Self = Self(1);
    /// Packet too big
    pub const PACKET_TOO_BIG: Self = Self(2);
    /// Time exceeded
    pub const TIME_EXCEEDED: Self = Self(3);
    /// Parameter problem
    pub const PARAMETER_PROBLEM: Self = Self(4);
    /// Echo request, "ping"
    pub const ECHO_REQUEST: Self = Self(128);
    /// Answer to an echo request
    pub const ECHO_REPLY: Self = Self(129);
    /// Neighbour solicitation (RFC 4861)
    pub const NEIGHBOUR_SOLICITATION: Self = Self(135);
    /// Neighbour advertisement (RFC 4861)
    pub const NEIGHBOUR_ADVERTISEMENT: Self = Self(136);

    /// Does the message quote the packet that it is about (RFC 4443, section 2.1)? Never answer
    /// such a one with an error.
    #[inline]
    pub const fn is_error(self) -> bool {
        self.0 < 128
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses() -> (Ipv6Addr, Ipv6Addr) {
        ("2001:db8::1".parse().unwrap(), "2001:db8::2".parse().unwrap())
    }

    fn request() -> Vec<u8> {
        let (source, destination) = addresses();
        let mut message = vec![128, 0, 0, 0, 0x12, 0x34, 0, 7, b'a', b'b', b'c'];
        let sum = message_checksum(source, destination, &message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        message
    }

    #[test]
    fn a_reply_is_the_request_with_another_type_and_a_right_checksum() {
        let (source, destination) = addresses();
        let mut message = request();
        assert!(is_sound(source, destination, &message));
        let (header, _) = Icmpv6Header::parse_mut(&mut message).unwrap();
        assert!(header.turn_echo_request_into_reply());
        assert!(!header.turn_echo_request_into_reply(), "a reply is not answered");
        assert!(is_sound(destination, source, &message));
        assert_eq!(message[0], 129);
        assert_eq!(message[4..], request()[4..]);
    }

    #[test]
    fn the_checksum_covers_the_addresses() {
        let (source, _) = addresses();
        assert!(!is_sound(source, "2001:db8::3".parse().unwrap(), &request()));
    }

    #[test]
    fn errors_are_the_types_below_128() {
        assert!(Icmpv6Type::PACKET_TOO_BIG.is_error() && Icmpv6Type(127).is_error());
        assert!(!Icmpv6Type::ECHO_REQUEST.is_error());
    }
}
