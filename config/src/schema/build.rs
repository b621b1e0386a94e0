//! The words that the tables of keys are written in.

use super::{Fallback, Key, Kind};

pub(super) const IPV4: Kind = Kind::Notation { what: "IPv4 address", example: "192.0.2.2" };
pub(super) const IPV6: Kind = Kind::Notation { what: "IPv6 address", example: "2001:db8::2" };
pub(super) const MAC: Kind = Kind::Notation { what: "MAC address", example: "02:00:00:00:00:01" };
pub(super) const HOST: Kind =
    Kind::Notation { what: "host name or IP address", example: "controller.example.net" };
pub(super) const URLS: Kind = Kind::Notations { what: "URL", example: "https://192.0.2.10:9190" };
/// Names that go into other systems too: metrics, certificates, file names.
pub(super) const NAME: Kind = Kind::Name { punctuation: "_-." };
pub(super) const ID: Kind = Kind::Name { punctuation: "_-.:" };
/// Rule of a key that names a file or folder.
pub(super) const ABSOLUTE: &str = "an absolute path";
/// Rule of a key that names servers.
pub(super) const ENDPOINTS: &str = "1 to 16, all `http` or all `https`, none twice";
pub(super) const ABSENT: Fallback = Fallback::Words("every key at its default");
pub(super) const NONE: Fallback = Fallback::Words("none");

pub(super) const fn key(name: &'static str, kind: Kind, default: Fallback) -> Key {
    Key { name, kind, rule: "", unit: "", default }
}

pub(super) const fn integer(name: &'static str, min: i64, max: i64, default: Fallback) -> Key {
    key(name, Kind::Integer { min, max }, default)
}

pub(super) const fn seconds(name: &'static str, min: i64, default: i64) -> Key {
    integer(name, min, 86_400, Fallback::Integer(default)).unit("seconds")
}

/// An IP address with port to listen at.
pub(super) const fn listener(name: &'static str, default: &'static str) -> Key {
    let kind = Kind::Notation { what: "IP address with port", example: default };
    key(name, kind, Fallback::Text(default))
}

/// The name of a file.
pub(super) const fn file(name: &'static str, default: Fallback) -> Key {
    key(name, Kind::Text, default).rule(ABSOLUTE)
}

impl Key {
    pub(super) const fn rule(self, rule: &'static str) -> Self {
        Self { rule, ..self }
    }

    pub(super) const fn unit(self, unit: &'static str) -> Self {
        Self { unit, ..self }
    }
}
