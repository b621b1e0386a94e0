//! Which IP addresses may stand for one machine.

use ipnet::IpNet;
use std::net::IpAddr;

/// Why `address` cannot be the address of one machine on a network, if it cannot.
pub(crate) fn not_unicast(address: IpAddr) -> Option<&'static str> {
    if address.is_unspecified() {
        Some("is the unspecified address")
    } else if address.is_loopback() {
        Some("is a loopback address")
    } else if address.is_multicast() {
        Some("is a multicast address")
    } else if matches!(address, IpAddr::V4(v4) if v4.octets()[0] == 0) {
        Some("is in 0.0.0.0/8, \"this network\"")
    } else if matches!(address, IpAddr::V4(v4) if v4.octets()[0] >= 240) {
        Some("is in 240.0.0.0/4, reserved")
    } else if matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some()) {
        Some("is IPv4-mapped, which is never on the wire")
    } else {
        None
    }
}

/// Why `address` cannot be a machine's on the network `net`, if it cannot: IPv4 networks of
/// more than two addresses keep the first for themselves and the last for broadcast
/// (RFC 1122 3.2.1.3; RFC 3021 lifts it for /31).
pub(crate) fn not_a_host_of(net: &IpNet, address: IpAddr) -> Option<&'static str> {
    match (net, address) {
        (IpNet::V4(net), IpAddr::V4(address)) if net.prefix_len() < 31 => {
            if address == net.network() {
                Some("is the address of its network")
            } else if address == net.broadcast() {
                Some("is the broadcast address of its network")
            } else {
                None
            }
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_one_machine_pass() {
        for address in ["192.0.2.1", "10.0.0.0", "223.255.255.255", "2001:db8::", "fe80::1"] {
            assert_eq!(not_unicast(address.parse().unwrap()), None, "{address}");
        }
        for address in ["0.0.0.0", "0.1.2.3", "127.0.0.1", "224.0.0.1", "240.0.0.1", "::", "::1"] {
            assert!(not_unicast(address.parse().unwrap()).is_some(), "{address}");
        }
        assert!(not_unicast("255.255.255.255".parse().unwrap()).is_some());
        assert!(not_unicast("::ffff:192.0.2.1".parse().unwrap()).is_some());
    }

    #[test]
    fn network_and_broadcast_addresses_are_no_hosts_except_on_point_to_point_links() {
        let refused = |net: &str, address: &str| {
            not_a_host_of(&net.parse().unwrap(), address.parse().unwrap()).is_some()
        };
        assert!(refused("192.0.2.0/24", "192.0.2.0"));
        assert!(refused("192.0.2.0/24", "192.0.2.255"));
        assert!(!refused("192.0.2.0/24", "192.0.2.254"));
        assert!(!refused("192.0.2.0/31", "192.0.2.0"));
        assert!(!refused("192.0.2.1/32", "192.0.2.1"));
        assert!(!refused("2001:db8::/64", "2001:db8::"));
    }
}
