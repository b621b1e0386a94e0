//! Source addresses that no packet on a network may carry (RFC 1812, section 5.3.7; RFC 6890).
//!
//! Refused as a source, because no host can own the address and an answer would go to a
//! group, to everybody, or to oneself:
//!
//! | IPv4 | | IPv6 | |
//! |---|---|---|---|
//! | 0.0.0.0/8 | this network (RFC 1122, 3.2.1.3) | :: | unspecified (RFC 4291, 2.5.2) |
//! | 127.0.0.0/8 | loopback | ::1 | loopback (RFC 4291, 2.5.3) |
//! | 224.0.0.0/4 | multicast (RFC 1112) | ff00::/8 | multicast (RFC 4291, 2.7) |
//! | 240.0.0.0/4 | reserved, with the broadcast address | ::ffff:0:0/96 | IPv4-mapped: never on the wire (RFC 6890) |
//!
//! **Not** refused: private and shared ranges (RFC 1918, RFC 6598, fc00::/7), which
//! bare-metal networks route; documentation and benchmark ranges, which labs use; link-local
//! ranges, from which routing daemons and neighbour discovery speak. A filter on those is
//! policy, for the router's access list.
//!
//! 0.0.0.0 is legal from a DHCP client and in an ARP probe, `::` in duplicate address
//! detection (RFC 4862, section 5.4.2): none of them is sent to a VIP, so the caller sorts
//! them out before it asks here.

use core::net::{Ipv4Addr, Ipv6Addr};

/// Is `source` an address that no host can send from?
#[inline]
pub const fn is_martian_source_v4(source: Ipv4Addr) -> bool {
    // 224/4 and 240/4 are neighbours: everything from 224 up.
    matches!(source.octets()[0], 0 | 127 | 224..)
}

/// Is `source` an address that no host can send from?
#[inline]
pub const fn is_martian_source_v6(source: Ipv6Addr) -> bool {
    source.is_multicast()
        || source.is_unspecified()
        || source.is_loopback()
        || source.to_ipv4_mapped().is_some()
}

/// A land attack: a packet that claims to come from where it goes, so that the receiver
/// answers itself.
#[inline]
pub fn is_land_attack<A: PartialEq>(source: A, destination: A) -> bool {
    source == destination
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ipv4_ranges_end_where_the_table_says() {
        let refused = [
            [0, 0, 0, 0],
            [0, 255, 255, 255],
            [127, 0, 0, 1],
            [127, 255, 255, 255],
            [224, 0, 0, 0],
            [239, 255, 255, 255],
            [240, 0, 0, 0],
            [255, 255, 255, 255],
        ];
        for address in refused {
            assert!(is_martian_source_v4(Ipv4Addr::from(address)), "{address:?}");
        }
        let accepted = [
            [1, 0, 0, 0],
            [126, 255, 255, 255],
            [128, 0, 0, 0],
            [223, 255, 255, 255],
            [10, 0, 0, 1],
            [172, 16, 0, 1],
            [192, 168, 0, 1],
            [100, 64, 0, 1],
            [169, 254, 0, 1],
            [192, 0, 2, 1],
            [198, 18, 0, 1],
        ];
        for address in accepted {
            assert!(!is_martian_source_v4(Ipv4Addr::from(address)), "{address:?}");
        }
    }

    #[test]
    fn ipv6_ranges_end_where_the_table_says() {
        for address in ["::", "::1", "ff00::", "ff02::1", "ffff::1", "::ffff:192.0.2.1"] {
            assert!(is_martian_source_v6(address.parse().unwrap()), "{address}");
        }
        for address in
            ["::2", "2001:db8::1", "fd00::1", "fe80::1", "feff::1", "64:ff9b::1", "100::1"]
        {
            assert!(!is_martian_source_v6(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn a_land_attack_has_one_address_twice() {
        assert!(is_land_attack([192, 0, 2, 1], [192, 0, 2, 1]));
        assert!(!is_land_attack([192, 0, 2, 1], [192, 0, 2, 2]));
    }
}
