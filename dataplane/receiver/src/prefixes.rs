//! Lists of addresses: whose packets are taken, who may be a next hop, which are VIPs.

use std::net::IpAddr;

use ipnet::IpNet;

/// Prefixes of either family.
#[derive(Clone, Debug, Default)]
pub struct Prefixes(Vec<IpNet>);

impl Prefixes {
    /// Of these prefixes.
    pub fn new(prefixes: Vec<IpNet>) -> Self {
        Self(prefixes)
    }

    /// Whether one of them covers `address`. An IPv4 address in IPv6 is the IPv4 address.
    pub fn contain(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|prefix| prefix.contains(&address))
    }

    /// Whether one of them is of IPv6.
    pub fn has_ipv6(&self) -> bool {
        self.0.iter().any(|prefix| prefix.addr().is_ipv6())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_cover_their_own() {
        let list = ["192.0.2.0/24", "2001:db8::/32"].map(|text| text.parse().unwrap());
        let prefixes = Prefixes::new(list.to_vec());
        for (address, covered) in [
            ("192.0.2.7", true),
            ("::ffff:192.0.2.7", true),
            ("192.0.3.7", false),
            ("2001:db8::1", true),
            ("2001:db9::1", false),
        ] {
            assert_eq!(prefixes.contain(address.parse().unwrap()), covered, "{address}");
        }
        assert!(!Prefixes::default().contain("192.0.2.7".parse().unwrap()));
    }
}
