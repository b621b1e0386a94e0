//! IP protocol numbers (IANA "Assigned Internet Protocol Numbers"): the `protocol` field of
//! an IPv4 header and every `next_header` field of IPv6.

use core::fmt;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// What an IP header or an IPv6 extension header says comes next.
#[derive(
    Clone, Copy, PartialEq, Eq, Hash, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(transparent)]
pub struct IpProtocol(pub u8);

impl IpProtocol {
    /// IPv6 hop-by-hop options (RFC 8200)
    pub const HOP_BY_HOP_OPTIONS: Self = Self(0);
    /// Internet Control Message Protocol (RFC 792)
    pub const ICMP: Self = Self(1);
    /// IPv4 encapsulation (RFC 2003)
    pub const IPV4: Self = Self(4);
    /// Transmission Control Protocol (RFC 9293)
    pub const TCP: Self = Self(6);
    /// User Datagram Protocol (RFC 768)
    pub const UDP: Self = Self(17);
    /// IPv6 encapsulation (RFC 2473)
    pub const IPV6: Self = Self(41);
    /// IPv6 routing header (RFC 8200)
    pub const IPV6_ROUTING: Self = Self(43);
    /// IPv6 fragment header (RFC 8200)
    pub const IPV6_FRAGMENT: Self = Self(44);
    /// Generic Routing Encapsulation (RFC 2784)
    pub const GRE: Self = Self(47);
    /// Authentication header (RFC 4302)
    pub const AUTHENTICATION: Self = Self(51);
    /// ICMP for IPv6 (RFC 4443)
    pub const ICMPV6: Self = Self(58);
    /// IPv6 "no next header" (RFC 8200)
    pub const IPV6_NO_NEXT_HEADER: Self = Self(59);
    /// IPv6 destination options (RFC 8200)
    pub const IPV6_DESTINATION_OPTIONS: Self = Self(60);
}

impl fmt::Debug for IpProtocol {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match *self {
            Self::ICMP => "ICMP",
            Self::IPV4 => "IPV4",
            Self::TCP => "TCP",
            Self::UDP => "UDP",
            Self::IPV6 => "IPV6",
            Self::GRE => "GRE",
            Self::ICMPV6 => "ICMPV6",
            Self(number) => return write!(formatter, "IpProtocol({number})"),
        };
        formatter.write_str(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_can_be_matched_on_and_are_named_where_common() {
        assert!(matches!(IpProtocol(6), IpProtocol::TCP));
        assert_eq!(format!("{:?} {:?}", IpProtocol(17), IpProtocol(200)), "UDP IpProtocol(200)");
    }
}
