//! The keys of a checker's file, section by section.

use super::build::*;
use super::{Fallback, Key, Kind, Reload, Section};

/// What stands at the top level.
pub(crate) static TOP: Section = Section {
    title: "",
    keys: &[&top::CHECKER, &top::CONTROLLER, &top::COMMAND],
    reload: Reload::Restart,
};
/// `[checker]`
pub(crate) static CHECKER: Section = Section {
    title: "[checker]",
    keys: &[
        &own::ID,
        &own::ZONE,
        &own::HTTP,
        &own::WORKERS,
        &own::MAX_IN_FLIGHT,
        &own::MAX_COMMANDS,
        &own::PROBE_CA,
    ],
    reload: Reload::Restart,
};
/// `[[command]]`
pub(crate) static COMMAND: Section = Section {
    title: "[[command]]",
    keys: &[&command::NAME, &command::ARGV],
    reload: Reload::Restart,
};

/// Keys of the top level.
pub(crate) mod top {
    use super::*;
    pub(crate) static CHECKER: Key = key("checker", Kind::Table("[checker]"), Fallback::Required);
    pub(crate) static CONTROLLER: Key =
        key("controller", Kind::Table("[controller]"), Fallback::Required);
    pub(crate) static COMMAND: Key = key("command", Kind::Tables("[[command]]"), NONE);
}

/// Keys of `[checker]`.
pub(crate) mod own {
    use super::*;
    pub(crate) static ID: Key = key("id", super::ID, Fallback::Required);
    pub(crate) static ZONE: Key = key("zone", super::NAME, Fallback::Text("default"));
    pub(crate) static HTTP: Key = listener("http", "127.0.0.1:9192").rule("a loopback address");
    pub(crate) static WORKERS: Key =
        integer("workers", 1, 64, Fallback::Integer(2)).unit("threads");
    pub(crate) static MAX_IN_FLIGHT: Key =
        integer("max_in_flight", 1, 65_536, Fallback::Integer(4096)).unit("probes");
    pub(crate) static MAX_COMMANDS: Key =
        integer("max_commands", 1, 4096, Fallback::Integer(64)).unit("probes");
    pub(crate) static PROBE_CA: Key = file("probe_ca", Fallback::Words("the system's own only"));
}

/// Keys of `[[command]]`.
pub(crate) mod command {
    use super::*;
    pub(crate) static NAME: Key = key("name", super::ID, Fallback::Required).rule("unique");
    pub(crate) static ARGV: Key =
        key("argv", Kind::Texts, Fallback::Required).rule("1 to 64, the first an absolute path");
}
