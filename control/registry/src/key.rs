//! What a row is found under: one text form, the same in both stores.
//!
//! ```text
//! pool/web      backend/host-42-nic0      vip/203.0.113.0/28/8000-8099/tcp
//! ```
//!
//! The kind comes first and ids last, so an id may hold any character. Text order keeps the rows
//! of a kind together.

use std::fmt;

use ipnet::IpNet;

use crate::rows::Protocol;

/// Names a row. [`Key`]s order as kind, then id.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key {
    /// A pool, by its id.
    Pool(String),
    /// A backend, by its id, which is unique in the registry, not only in its pool.
    Backend(String),
    /// A VIP binding, by what clients dial.
    Vip(VipKey),
}

/// What clients dial.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VipKey {
    /// An address or a prefix.
    pub address: IpNet,
    /// First and last port; both 0: any port.
    pub ports: (u16, u16),
    /// Of the flows.
    pub protocol: Protocol,
}

impl Key {
    /// The key of which `text` is the text form.
    pub fn parse(text: &str) -> Option<Self> {
        let (kind, rest) = text.split_once('/')?;
        match kind {
            "pool" => Some(Self::Pool(rest.to_owned())),
            "backend" => Some(Self::Backend(rest.to_owned())),
            "vip" => VipKey::parse(rest).map(Self::Vip),
            _ => None,
        }
    }
}

impl VipKey {
    fn parse(text: &str) -> Option<Self> {
        let (rest, protocol) = text.rsplit_once('/')?;
        let (address, ports) = rest.rsplit_once('/')?;
        let (first, last) = ports.split_once('-')?;
        Some(Self {
            address: address.parse().ok()?,
            ports: (first.parse().ok()?, last.parse().ok()?),
            protocol: Protocol::parse(protocol)?,
        })
    }
}

impl fmt::Display for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pool(id) => write!(formatter, "pool/{id}"),
            Self::Backend(id) => write!(formatter, "backend/{id}"),
            Self::Vip(vip) => write!(formatter, "vip/{vip}"),
        }
    }
}

impl fmt::Display for VipKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, last) = self.ports;
        write!(formatter, "{}/{first}-{last}/{}", self.address, self.protocol.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_its_text_and_back() {
        let texts = [
            "pool/web",
            "pool/",
            "pool/with/slash",
            "backend/host-42-nic0",
            "vip/203.0.113.1/32/80-80/tcp",
            "vip/2001:db8::/64/0-0/any",
        ];
        for text in texts {
            assert_eq!(Key::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_key_is_none() {
        for text in ["", "pool", "node/x", "vip/1.2.3.4/32/80/tcp", "vip/1.2.3/8/1-2/tcp"] {
            assert_eq!(Key::parse(text), None, "{text}");
        }
    }
}
