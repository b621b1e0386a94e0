//! How a VIP is written: `203.0.113.1:80/tcp`.
//!
//! Address or prefix, port or range or `any`, protocol; an IPv6 address stands in brackets (RFC
//! 3986's way of telling its colons from the port's): `203.0.113.0/28:8000-8099/any`,
//! `[2001:db8::/64]:any/udp`. One VIP has one notation: what is parsed is printed back the same,
//! host bits and backward ranges are refused.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use proto::v1::{Protocol, Vip};

/// What clients dial: the name of a VIP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct VipName {
    pub(crate) address: IpNet,
    pub(crate) ports: Ports,
    pub(crate) protocol: Transport,
}

/// The ports of a VIP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Ports {
    Any,
    /// First and last, both at least 1.
    Range(u16, u16),
}

/// The protocol of a VIP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Transport {
    Tcp,
    Udp,
    Any,
}

impl VipName {
    /// As the interface writes it.
    pub(crate) fn to_message(self) -> Vip {
        let (first_port, last_port) = match self.ports {
            Ports::Any => (0, 0),
            Ports::Range(first, last) => (u32::from(first), u32::from(last)),
        };
        Vip {
            address: address_text(self.address),
            first_port,
            last_port,
            protocol: match self.protocol {
                Transport::Tcp => Protocol::Tcp,
                Transport::Udp => Protocol::Udp,
                Transport::Any => Protocol::Any,
            }
            .into(),
            ..Vip::default()
        }
    }

    /// Whether some packets belong to both and neither is the more specific, so that controllers
    /// refuse the second: the longest prefix, the exact port and the exact protocol win, so only
    /// ranges of ports can tie.
    pub(crate) fn ties_with(self, other: Self) -> bool {
        let range = |ports| match ports {
            Ports::Range(first, last) if first < last => Some((first, last)),
            _ => None,
        };
        let (Some(one), Some(two)) = (range(self.ports), range(other.ports)) else { return false };
        self != other
            && (self.address, self.protocol) == (other.address, other.protocol)
            && one.0 <= two.1
            && two.0 <= one.1
    }

    /// # Errors
    /// What is wrong with the message.
    pub(crate) fn from_message(vip: &Vip) -> Result<Self, String> {
        let port = |port| u16::try_from(port).map_err(|_| format!("{port} is no port"));
        Ok(Self {
            address: parse_address(&vip.address)?,
            ports: match (port(vip.first_port)?, port(vip.last_port)?) {
                (0, 0) => Ports::Any,
                (first, last) => range(first, last)?,
            },
            protocol: match vip.protocol() {
                Protocol::Tcp => Transport::Tcp,
                Protocol::Udp => Transport::Udp,
                Protocol::Any => Transport::Any,
                Protocol::Unspecified => return Err("no protocol (tcp, udp or any)".to_owned()),
            },
        })
    }
}

/// The VIP of a message in its notation; as good as it can be for one that is not valid.
pub(crate) fn describe(vip: &Vip) -> String {
    match VipName::from_message(vip) {
        Ok(name) => name.to_string(),
        Err(_) => format!("{}:{}-{}", vip.address, vip.first_port, vip.last_port),
    }
}

/// A host's prefix is left out.
pub(crate) fn address_text(address: IpNet) -> String {
    if address.prefix_len() == address.max_prefix_len() {
        address.addr().to_string()
    } else {
        address.to_string()
    }
}

/// # Errors
/// What is wrong, and what was expected.
pub(crate) fn parse_address(text: &str) -> Result<IpNet, String> {
    let net = text.parse::<IpAddr>().map(IpNet::from).or_else(|_| text.parse::<IpNet>());
    let net = net.map_err(|_| {
        format!("{text:?} is no address or prefix (expected 203.0.113.1 or 203.0.113.0/28)")
    })?;
    if net.addr() == net.network() {
        Ok(net)
    } else {
        Err(format!("{text:?} has host bits set (expected {})", net.trunc()))
    }
}

/// # Errors
/// The range is backward, or holds port 0.
pub(crate) fn range(first: u16, last: u16) -> Result<Ports, String> {
    if first == 0 || last < first {
        return Err(format!("{first}-{last} is no range of ports (expected 1 to 65535, upward)"));
    }
    Ok(Ports::Range(first, last))
}

impl FromStr for Ports {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let port = |digits: &str| {
            let plain = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
            digits.parse().ok().filter(|&port: &u16| plain && port > 0).ok_or_else(|| {
                format!("{text:?} is no port (expected 80, 8000-8099 or any; 1 to 65535)")
            })
        };
        match text.split_once('-') {
            _ if text == "any" => Ok(Self::Any),
            Some((first, last)) => range(port(first)?, port(last)?),
            None => port(text).map(|port| Self::Range(port, port)),
        }
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => formatter.write_str("any"),
            Self::Range(first, last) if first == last => first.fmt(formatter),
            Self::Range(first, last) => write!(formatter, "{first}-{last}"),
        }
    }
}

impl FromStr for Transport {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "tcp" => Ok(Self::Tcp),
            "udp" => Ok(Self::Udp),
            "any" => Ok(Self::Any),
            _ => Err(format!("{text:?} is no protocol (expected tcp, udp or any)")),
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Any => "any",
        })
    }
}

impl FromStr for VipName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const EXPECTED: &str = "expected ADDRESS:PORT/PROTOCOL, such as 203.0.113.1:80/tcp, \
                                203.0.113.0/28:8000-8099/any or [2001:db8::1]:any/udp";
        let parts = || {
            let (rest, protocol) = text.rsplit_once('/')?;
            let (address, ports) = rest.rsplit_once(':')?;
            Some((address, ports, protocol))
        };
        let (address, ports, protocol) =
            parts().ok_or_else(|| format!("{text:?} is no VIP ({EXPECTED})"))?;
        let bracketed = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let address = parse_address(bracketed.unwrap_or(address))?;
        if address.addr().is_ipv6() != bracketed.is_some() {
            return Err(format!(
                "{text:?}: an IPv6 address stands in brackets, an IPv4 address does not ({EXPECTED})"
            ));
        }
        Ok(Self { address, ports: ports.parse()?, protocol: protocol.parse()? })
    }
}

impl fmt::Display for VipName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = address_text(self.address);
        let (open, close) = if self.address.addr().is_ipv6() { ("[", "]") } else { ("", "") };
        write!(formatter, "{open}{address}{close}:{}/{}", self.ports, self.protocol)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_vip_has_one_notation_and_survives_the_wire() {
        for text in [
            "203.0.113.1:80/tcp",
            "203.0.113.1:any/udp",
            "203.0.113.0/28:8000-8099/any",
            "[2001:db8::1]:443/tcp",
            "[2001:db8::/64]:any/any",
            "0.0.0.0/0:1/tcp",
        ] {
            let name: VipName = text.parse().unwrap();
            assert_eq!(name.to_string(), text);
            assert_eq!(VipName::from_message(&name.to_message()), Ok(name), "{text}");
            assert_eq!(describe(&name.to_message()), text);
        }
        let same: VipName = "203.0.113.1/32:80-80/tcp".parse().unwrap();
        assert_eq!(same.to_string(), "203.0.113.1:80/tcp");
    }

    #[test]
    fn only_ranges_that_intersect_tie() {
        let ties = |one: &str, other: &str| {
            let (one, other): (VipName, VipName) = (one.parse().unwrap(), other.parse().unwrap());
            assert_eq!(one.ties_with(other), other.ties_with(one));
            one.ties_with(other)
        };
        assert!(ties("192.0.2.1:1-5/tcp", "192.0.2.1:5-9/tcp"));
        assert!(!ties("192.0.2.1:1-5/tcp", "192.0.2.1:1-5/tcp"), "the same");
        assert!(!ties("192.0.2.1:1-5/tcp", "192.0.2.1:6-9/tcp"));
        assert!(!ties("192.0.2.1:1-5/tcp", "192.0.2.1:5/tcp"), "the exact port wins");
        assert!(!ties("192.0.2.1:1-5/tcp", "192.0.2.1:any/tcp"));
        assert!(!ties("192.0.2.1:1-5/tcp", "192.0.2.1:1-9/any"));
        assert!(!ties("192.0.2.1:1-5/tcp", "192.0.2.0/24:1-9/tcp"));
    }

    #[test]
    fn what_is_no_vip_says_what_was_expected() {
        for (text, part) in [
            ("", "expected ADDRESS:PORT/PROTOCOL"),
            ("203.0.113.1", "expected ADDRESS:PORT/PROTOCOL"),
            ("203.0.113.1:80", "expected ADDRESS:PORT/PROTOCOL"),
            ("203.0.113.1:80/sctp", "expected tcp, udp or any"),
            ("203.0.113.1:0/tcp", "1 to 65535"),
            ("203.0.113.1:65536/tcp", "1 to 65535"),
            ("203.0.113.1:+80/tcp", "1 to 65535"),
            ("203.0.113.1:90-80/tcp", "upward"),
            ("203.0.113.1/28:80/tcp", "host bits"),
            ("2001:db8::1:80/tcp", "in brackets"),
            ("[203.0.113.1]:80/tcp", "in brackets"),
            ("host.example:80/tcp", "no address or prefix"),
        ] {
            let error = text.parse::<VipName>().unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
